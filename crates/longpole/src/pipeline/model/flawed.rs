//! Spans that are rejected while the rest of their request is kept.

use bytes::Bytes;
use otlp_wire::WireLimits;

use super::spans::{Span, request as request_of};

/// Room for every span of a life but those that are made too long.
pub(super) const LIMITS: WireLimits = WireLimits { span_bytes: 300, ..WireLimits::STORED };

/// What is wrong with a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// The trace id is all zeros.
    TraceId,
    /// The span id is all zeros.
    SpanId,
    /// It is over a limit of today. A replay would take it in, as it does what was accepted under another limit.
    Length,
}

impl Flaw {
    pub(super) const ALL: [Self; 3] = [Self::TraceId, Self::SpanId, Self::Length];
}

/// An export request with these spans.
pub(super) fn request(spans: &[(Span, Option<Flaw>)]) -> Bytes {
    spans.iter().flat_map(|(span, flaw)| one(span, *flaw)).collect::<Vec<u8>>().into()
}

fn one(span: &Span, flaw: Option<Flaw>) -> Vec<u8> {
    let sound = |span: &Span| request_of(std::slice::from_ref(span)).to_vec();
    match flaw {
        None => sound(span),
        Some(Flaw::TraceId) => without_id(sound(span), 0x0a, span.trace_id.as_bytes()),
        Some(Flaw::SpanId) => without_id(sound(span), 0x12, span.span_id.as_bytes()),
        Some(Flaw::Length) => sound(&Span { name: LONG, ..span.clone() }),
    }
}

const LONG: &str = match std::str::from_utf8(&[b'x'; 400]) {
    Ok(name) => name,
    Err(_) => "",
};

/// The request with zeros in the place of an id, which lies behind this tag and its length.
fn without_id(mut request: Vec<u8>, tag: u8, id: &[u8]) -> Vec<u8> {
    let field = [&[tag, id.len() as u8], id].concat();
    let at = request.windows(field.len()).position(|bytes| bytes == field).unwrap() + 2;
    request[at..at + id.len()].fill(0);
    request
}
