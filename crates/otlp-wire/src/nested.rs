//! Validation of the sub-messages that the walker takes nothing from, but readers rely on.
//!
//! Fields that are strings, bytes or numbers need no check beyond their framing. Strings need not
//! be UTF-8: a bad byte in one attribute is no reason to lose a request of good spans.

use crate::cursor::{Cursor, Value};
use crate::error::{WireError, WireFault};

/// How deep `AnyValue` may still nest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Depth {
    left: u32,
    limit: u32,
}

impl Depth {
    pub(crate) fn new(limit: u32) -> Self {
        Self { left: limit, limit }
    }

    /// One level down, at the offset given.
    #[inline]
    pub(crate) fn enter(self, at: usize) -> Result<Self, WireError> {
        match self.left.checked_sub(1) {
            Some(left) => Ok(Self { left, limit: self.limit }),
            None => Err(WireError::at(at, WireFault::TooDeep { limit: self.limit })),
        }
    }
}

/// A message without sub-messages: `EntityRef`.
fn leaf(mut message: Cursor<'_>) -> Result<(), WireError> {
    while message.next()?.is_some() {}
    Ok(())
}

/// `Resource`, calling `attribute` with every attribute that it has checked.
pub(crate) fn resource<'a>(
    mut message: Cursor<'a>,
    depth: Depth,
    mut attribute: impl FnMut(Cursor<'a>),
) -> Result<(), WireError> {
    while let Some(field) = message.next()? {
        match (field.number, field.value) {
            (1, Value::Bytes(pair)) => {
                key_value(pair, depth)?;
                attribute(pair);
            }
            (3, Value::Bytes(entity)) => leaf(entity)?,
            _ => {}
        }
    }
    Ok(())
}

/// `InstrumentationScope`.
pub(crate) fn scope(message: Cursor<'_>, depth: Depth) -> Result<(), WireError> {
    with_attributes(message, 3, depth)
}

/// `Span.Event`.
pub(crate) fn event(message: Cursor<'_>, depth: Depth) -> Result<(), WireError> {
    with_attributes(message, 3, depth)
}

/// `Span.Link`.
pub(crate) fn link(message: Cursor<'_>, depth: Depth) -> Result<(), WireError> {
    with_attributes(message, 4, depth)
}

/// A message whose only sub-messages are the key-value pairs of one field.
fn with_attributes(mut message: Cursor<'_>, attributes: u32, depth: Depth) -> Result<(), WireError> {
    while let Some(field) = message.next()? {
        if let Value::Bytes(pair) = field.value
            && field.number == attributes
        {
            key_value(pair, depth)?;
        }
    }
    Ok(())
}

/// `KeyValue`.
#[inline]
pub(crate) fn key_value(mut message: Cursor<'_>, depth: Depth) -> Result<(), WireError> {
    while let Some(field) = message.next()? {
        if let (2, Value::Bytes(value)) = (field.number, field.value) {
            any_value(value, depth)?;
        }
    }
    Ok(())
}

/// `AnyValue`. Calls itself through arrays and lists, at most as often as `depth` allows.
fn any_value(mut message: Cursor<'_>, depth: Depth) -> Result<(), WireError> {
    let depth = depth.enter(message.pos())?;
    while let Some(field) = message.next()? {
        match (field.number, field.value) {
            (5, Value::Bytes(array)) => array_value(array, depth)?,
            (6, Value::Bytes(list)) => with_attributes(list, 1, depth)?,
            _ => {}
        }
    }
    Ok(())
}

/// `ArrayValue`.
fn array_value(mut message: Cursor<'_>, depth: Depth) -> Result<(), WireError> {
    while let Some(field) = message.next()? {
        if let (1, Value::Bytes(value)) = (field.number, field.value) {
            any_value(value, depth)?;
        }
    }
    Ok(())
}
