//! The context of a span: everything its request says about resource and scope, as bytes.
//!
//! Canonical form: `varint(resource length)`, the fields of `ResourceSpans` except `scope_spans`,
//! then the fields of `ScopeSpans` except `spans`, all with their keys. Protobuf merges repeated
//! sub-messages by concatenation, so fields from several places can just be appended.

use crate::cursor::{Cursor, Value};
use crate::error::WireError;

const SERVICE_NAME: &[u8] = b"service.name";

/// The two halves of a context. A broken context, which only damaged storage can produce, has two
/// empty halves.
pub(crate) fn split(context: &[u8]) -> (&[u8], &[u8]) {
    let mut cursor = Cursor::new(context);
    let length = cursor.varint().ok().and_then(|length| usize::try_from(length).ok());
    length.and_then(|length| cursor.rest().split_at_checked(length)).unwrap_or_default()
}

/// The `service.name` of a canonical context, as it came.
///
/// `None` if it is absent, empty or not a string. The last attribute of that name wins.
pub fn service_name(context: &[u8]) -> Option<&[u8]> {
    let (resource_spans, _) = split(context);
    let (start, length) = last_service(Cursor::new(resource_spans)).ok()??;
    let start = start as usize;
    resource_spans.get(start..start + length as usize)
}

fn last_service(mut resource_spans: Cursor<'_>) -> Result<Option<(u32, u32)>, WireError> {
    let mut service = None;
    while let Some(field) = resource_spans.next()? {
        let (1, Value::Bytes(mut resource)) = (field.number, field.value) else { continue };
        while let Some(field) = resource.next()? {
            if let (1, Value::Bytes(pair)) = (field.number, field.value) {
                service = service_attribute(pair).unwrap_or(service);
            }
        }
    }
    Ok(service)
}

/// `None` if the pair has another key than `service.name`; otherwise the range of its value in the
/// outermost message, which is `None` again if empty or not a string.
pub(crate) fn service_attribute(mut pair: Cursor<'_>) -> Option<Option<(u32, u32)>> {
    let mut key: &[u8] = &[];
    let mut service = None;
    while let Ok(Some(field)) = pair.next() {
        match (field.number, field.value) {
            (1, Value::Bytes(name)) => key = name.rest(),
            (2, Value::Bytes(value)) => merge_string(value, &mut service),
            _ => {}
        }
    }
    (key == SERVICE_NAME).then_some(service)
}

/// The last member of the `AnyValue` oneof wins, whatever its type.
fn merge_string(mut value: Cursor<'_>, string: &mut Option<(u32, u32)>) {
    while let Ok(Some(field)) = value.next() {
        match (field.number, field.value) {
            (1, Value::Bytes(text)) => *string = Some(text.range()).filter(|&(_, length)| length > 0),
            (2 | 3 | 8, Value::Varint(_)) | (4, Value::Fixed64(_)) | (5..=7, Value::Bytes(_)) => {
                *string = None
            }
            _ => {}
        }
    }
}
