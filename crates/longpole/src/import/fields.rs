//! OTLP protobuf seen only as far as an import needs: how many spans there are, and where one
//! request can be cut into several.

use bytes::Bytes;

/// Requests are cut at about this size, well under what servers take.
const REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// Field of `ResourceSpans` in a request, of `ScopeSpans` in it, and of `Span` in that.
const RESOURCE_SPANS: u64 = 1;
const SCOPE_SPANS: u64 = 2;
const SPAN: u64 = 2;

/// One request: its bytes as they will be on the wire, and how many spans are in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) bytes: Bytes,
    pub(super) spans: u64,
}

/// Cuts a request (or `TracesData`, which is the same on the wire) between its resources so that
/// none is larger than needed.
pub(super) fn split(message: &[u8]) -> Result<Vec<Request>, String> {
    let mut requests = Vec::new();
    let (mut from, mut at, mut spans) = (0, 0, 0);
    while at < message.len() {
        let field = field(message, at)?;
        if at > from && field.end - from > REQUEST_BYTES {
            requests.push(Request { bytes: Bytes::copy_from_slice(&message[from..at]), spans });
            (from, spans) = (at, 0);
        }
        if let (RESOURCE_SPANS, Some(body)) = (field.number, field.body) {
            spans += count(body, SCOPE_SPANS, |scope| count(scope, SPAN, |_| Ok(1)))?;
        }
        at = field.end;
    }
    requests.push(Request { bytes: Bytes::copy_from_slice(&message[from..]), spans });
    Ok(requests)
}

/// Sums `of` over the bodies of one field.
fn count(message: &[u8], number: u64, of: impl Fn(&[u8]) -> Result<u64, String>) -> Result<u64, String> {
    let (mut at, mut sum) = (0, 0);
    while at < message.len() {
        let field = field(message, at)?;
        if let (true, Some(body)) = (field.number == number, field.body) {
            sum += of(body)?;
        }
        at = field.end;
    }
    Ok(sum)
}

struct Field<'a> {
    number: u64,
    /// The bytes of a length-delimited field.
    body: Option<&'a [u8]>,
    end: usize,
}

fn field(message: &[u8], at: usize) -> Result<Field<'_>, String> {
    let cut = || format!("not OTLP protobuf: it ends inside a field at byte {at}");
    let (tag, body) = varint(message, at).ok_or_else(cut)?;
    let (body_bytes, end) = match tag & 7 {
        0 => (None, varint(message, body).ok_or_else(cut)?.1),
        1 => (None, body + 8),
        5 => (None, body + 4),
        2 => {
            let (length, from) = varint(message, body).ok_or_else(cut)?;
            let length = usize::try_from(length).map_err(|_| cut())?;
            let end = from.checked_add(length).ok_or_else(cut)?;
            (Some(message.get(from..end).ok_or_else(cut)?), end)
        }
        other => return Err(format!("not OTLP protobuf: wire type {other} at byte {at}")),
    };
    if end > message.len() {
        return Err(cut());
    }
    if tag >> 3 == 0 {
        return Err(format!("not OTLP protobuf: field number 0 at byte {at}"));
    }
    Ok(Field { number: tag >> 3, body: body_bytes, end })
}

/// A varint and the place after it.
fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for (i, byte) in bytes.get(at..)?.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, at + i + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use prost::Message;

    use super::*;

    fn resource(spans: usize, name_bytes: usize) -> ResourceSpans {
        let span = Span { name: "x".repeat(name_bytes), ..Span::default() };
        let scope_spans = vec![ScopeSpans { spans: vec![span; spans], ..ScopeSpans::default() }];
        ResourceSpans { scope_spans, ..ResourceSpans::default() }
    }

    #[test]
    fn spans_are_counted_and_large_requests_cut() {
        let small = ExportTraceServiceRequest { resource_spans: vec![resource(3, 1), resource(2, 9)] };
        let requests = split(&small.encode_to_vec()).unwrap();
        assert_eq!(requests.iter().map(|r| r.spans).collect::<Vec<_>>(), [5]);

        let large = ExportTraceServiceRequest { resource_spans: vec![resource(1, 3 << 20); 4] };
        let requests = split(&large.encode_to_vec()).unwrap();
        assert_eq!(requests.len(), 4);
        let read = |r: &Request| ExportTraceServiceRequest::decode(r.bytes.clone()).unwrap().resource_spans;
        assert_eq!(requests.iter().flat_map(read).collect::<Vec<_>>(), large.resource_spans);
    }

    #[test]
    fn what_is_not_protobuf_is_said_so() {
        assert!(split(b"hello").is_err());
        assert!(split(&[0x0a, 0x7f, 1]).unwrap_err().contains("ends inside"));
        assert!(split(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).is_err());
        assert_eq!(split(b"").unwrap(), [Request { bytes: Bytes::new(), spans: 0 }]);
    }
}
