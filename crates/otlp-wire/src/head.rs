//! What a span says about itself outside its attributes.

use trace_model::{SpanId, SpanKind, StatusCode, TraceId, UnixNanos};
use xxhash_rust::xxh3::xxh3_64;

use crate::cursor::{Cursor, Value};
use crate::error::{SpanFault, WireError, WireFault};
use crate::nested::{self, Depth};

/// The facts of a stored span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanHead<'a> {
    /// The trace it belongs to.
    pub trace_id: TraceId,
    /// Its own id.
    pub span_id: SpanId,
    /// The parent's id; `None` if absent, empty or all zeros.
    pub parent: Option<SpanId>,
    /// When it began.
    pub start: UnixNanos,
    /// When it ended; may lie before `start`.
    pub end: UnixNanos,
    /// Its kind; numbers outside the enum are `Unspecified`.
    pub kind: SpanKind,
    /// Its status; numbers outside the enum are `Unset`.
    pub status: StatusCode,
    /// xxh3-64 of the span message's bytes.
    pub content: u64,
    /// Its name as it came, which need not be UTF-8.
    pub name: &'a [u8],
}

/// The fields of a span before anything is demanded of its ids.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawSpan<'a> {
    trace_id: &'a [u8],
    span_id: &'a [u8],
    parent: &'a [u8],
    pub(crate) name: Option<Cursor<'a>>,
    pub(crate) start: u64,
    pub(crate) end: u64,
    kind: u64,
    status: u64,
    /// Its own attributes; counted only when they are validated.
    pub(crate) attributes: u32,
}

/// The ids of a span that is not rejected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ids {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) parent: Option<SpanId>,
}

impl<'a> RawSpan<'a> {
    /// Reads a span message. `DEEP` also validates attributes, events and links.
    #[inline]
    pub(crate) fn read<const DEEP: bool>(mut span: Cursor<'a>, depth: Depth) -> Result<Self, WireError> {
        let mut raw = Self {
            trace_id: &[],
            span_id: &[],
            parent: &[],
            name: None,
            start: 0,
            end: 0,
            kind: 0,
            status: 0,
            attributes: 0,
        };
        while let Some(field) = span.next()? {
            match (field.number, field.value) {
                (9, Value::Bytes(pair)) if DEEP => {
                    raw.attributes += 1;
                    nested::key_value(pair, depth)?;
                }
                (1, Value::Bytes(id)) => raw.trace_id = id.rest(),
                (2, Value::Bytes(id)) => raw.span_id = id.rest(),
                (4, Value::Bytes(id)) => raw.parent = id.rest(),
                (5, Value::Bytes(name)) => raw.name = Some(name),
                (6, Value::Varint(kind)) => raw.kind = kind,
                (7, Value::Fixed64(start)) => raw.start = start,
                (8, Value::Fixed64(end)) => raw.end = end,
                (11, Value::Bytes(event)) if DEEP => nested::event(event, depth)?,
                (13, Value::Bytes(link)) if DEEP => nested::link(link, depth)?,
                (15, Value::Bytes(status)) => raw.merge_status(status)?,
                _ => {}
            }
        }
        Ok(raw)
    }

    /// A status without a code leaves the code of an earlier one standing: sub-messages merge.
    fn merge_status(&mut self, mut status: Cursor<'a>) -> Result<(), WireError> {
        while let Some(field) = status.next()? {
            if let (3, Value::Varint(code)) = (field.number, field.value) {
                self.status = code;
            }
        }
        Ok(())
    }

    /// Protobuf keeps the low 32 bits of an enum's varint, and so do we.
    #[inline]
    pub(crate) fn kind(&self) -> SpanKind {
        SpanKind::from_wire(u64::from(self.kind as u32))
    }

    #[inline]
    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_wire(u64::from(self.status as u32))
    }

    /// The ids, or why the span cannot be kept.
    #[inline]
    pub(crate) fn ids(&self) -> Result<Ids, SpanFault> {
        let trace_id: [u8; 16] =
            self.trace_id.try_into().map_err(|_| SpanFault::TraceIdLength(length(self.trace_id)))?;
        let span_id: [u8; 8] =
            self.span_id.try_into().map_err(|_| SpanFault::SpanIdLength(length(self.span_id)))?;
        Ok(Ids {
            trace_id: TraceId::new(trace_id).map_err(|_| SpanFault::TraceIdZero)?,
            span_id: SpanId::new(span_id).map_err(|_| SpanFault::SpanIdZero)?,
            parent: self.parent()?,
        })
    }

    #[inline]
    fn parent(&self) -> Result<Option<SpanId>, SpanFault> {
        if self.parent.is_empty() {
            return Ok(None);
        }
        let id: [u8; 8] = self.parent.try_into().map_err(|_| SpanFault::ParentLength(length(self.parent)))?;
        // Some clients write eight zeros for "no parent".
        Ok(SpanId::new(id).ok())
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// Reads the facts of a span from its message body, as stored. Attributes, events and links are
/// stepped over: [`walk`](crate::walk) has validated them.
///
/// # Errors
/// If the bytes are not a span message, or its ids are ones that `walk` would have rejected.
pub fn read_span(span: &[u8]) -> Result<SpanHead<'_>, WireError> {
    let raw = RawSpan::read::<false>(Cursor::new(span), Depth::new(0))?;
    let ids = raw.ids().map_err(|fault| WireError::at(0, WireFault::Span(fault)))?;
    Ok(SpanHead {
        trace_id: ids.trace_id,
        span_id: ids.span_id,
        parent: ids.parent,
        start: UnixNanos(raw.start),
        end: UnixNanos(raw.end),
        kind: raw.kind(),
        status: raw.status(),
        content: xxh3_64(span),
        name: raw.name.map_or(&[], |name| name.rest()),
    })
}
