//! A request without some of its spans.

use crate::cursor::{Cursor, Field, Value};
use crate::encode::{close_message, open_message};
use crate::error::WireError;

/// The field numbers on the way to a span: `resource_spans`, `scope_spans`, `spans`.
const WAY: [u32; 3] = [1, 2, 2];

/// Copies a request and leaves out every span but those whose payloads begin at these offsets, which must rise.
///
/// Everything else stays byte for byte and in its order, but for the lengths of the messages around the spans. The copy
/// is not longer than the request.
///
/// # Errors
/// If the request is malformed, which one that was [walked](crate::walk) is not.
pub fn keep_spans(request: &[u8], kept: impl IntoIterator<Item = u32>) -> Result<Vec<u8>, WireError> {
    let mut keep = Keep { kept: kept.into_iter(), next: None, out: Vec::with_capacity(request.len()) };
    keep.next = keep.kept.next();
    keep.message(Cursor::new(request), 0)?;
    Ok(keep.out)
}

struct Keep<I> {
    kept: I,
    /// The next span that stays.
    next: Option<u32>,
    out: Vec<u8>,
}

impl<I: Iterator<Item = u32>> Keep<I> {
    /// A message so many steps down the way.
    fn message(&mut self, mut message: Cursor<'_>, depth: usize) -> Result<(), WireError> {
        loop {
            let from = message;
            let Some(field) = message.next()? else { return Ok(()) };
            match on_the_way(field, depth) {
                Some(span) if depth + 1 == WAY.len() => {
                    if self.next == Some(span.range().0) {
                        self.next = self.kept.next();
                        self.copy(from, message);
                    }
                }
                Some(inner) => {
                    let start = open_message(&mut self.out, field.number);
                    self.message(inner, depth + 1)?;
                    close_message(&mut self.out, start);
                }
                None => self.copy(from, message),
            }
        }
    }

    /// The bytes between two places of a message.
    fn copy(&mut self, from: Cursor<'_>, to: Cursor<'_>) {
        self.out.extend_from_slice(from.rest().get(..to.pos() - from.pos()).unwrap_or_default());
    }
}

fn on_the_way(field: Field<'_>, depth: usize) -> Option<Cursor<'_>> {
    match field.value {
        Value::Bytes(inner) if WAY.get(depth) == Some(&field.number) => Some(inner),
        _ => None,
    }
}
