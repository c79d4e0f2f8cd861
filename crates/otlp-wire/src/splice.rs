//! Stored bytes back to OTLP, without decoding a span.

use crate::context::split;
use crate::encode::{field_len, put_bytes, put_length};

/// A span as it lies in storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredSpan<'a> {
    /// Canonical context bytes, from [`Walked::context`](crate::Walked::context).
    pub context: &'a [u8],
    /// The body of the span message.
    pub span: &'a [u8],
}

/// Puts stored spans together into the bytes of a `TracesData`.
///
/// Neighbours of equal context share a `ResourceSpans` with one `ScopeSpans`; spans sorted by
/// context make the smallest answer. A context that is not canonical counts as an empty one.
pub fn splice_traces<'a>(spans: impl IntoIterator<Item = StoredSpan<'a>>) -> Vec<u8> {
    let spans: Vec<_> = spans.into_iter().collect();
    let blocks = || spans.chunk_by(|a, b| a.context == b.context).filter_map(Block::new);
    let mut out = Vec::with_capacity(blocks().map(|block| field_len(block.length())).sum());
    for block in blocks() {
        block.put(&mut out);
    }
    out
}

/// Neighbouring spans of one context.
struct Block<'a> {
    resource: &'a [u8],
    scope: &'a [u8],
    spans: &'a [StoredSpan<'a>],
    /// Length of the `ScopeSpans` payload in bytes.
    scope_spans: usize,
}

impl<'a> Block<'a> {
    fn new(spans: &'a [StoredSpan<'a>]) -> Option<Self> {
        let (resource, scope) = split(spans.first()?.context);
        let scope_spans = scope.len() + spans.iter().map(|span| field_len(span.span.len())).sum::<usize>();
        Some(Self { resource, scope, spans, scope_spans })
    }

    /// Length of the `ResourceSpans` payload in bytes.
    fn length(&self) -> usize {
        self.resource.len() + field_len(self.scope_spans)
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_length(out, 1, self.length());
        out.extend_from_slice(self.resource);
        put_length(out, 2, self.scope_spans);
        out.extend_from_slice(self.scope);
        for span in self.spans {
            put_bytes(out, 2, span.span);
        }
    }
}
