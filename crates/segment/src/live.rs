//! Spans that were acknowledged and are not sealed yet: the clients' bytes, and one row a span beside them.

use bytes::Bytes;
use trace_model::{SpanNode, TraceId, UnixNanos};

/// One live span.
#[derive(Debug, Clone, Copy)]
pub struct SpanRow {
    /// Its trace.
    pub trace_id: TraceId,
    /// What analysis knows of it.
    pub node: SpanNode,
    /// Where its message begins in the batch's request, in bytes.
    pub offset: u32,
    /// How long its message is, in bytes.
    pub len: u32,
    /// Which of the batch's contexts it belongs to.
    pub context: u32,
}

/// The spans of one request, repeated ones left out.
#[derive(Debug, Clone)]
pub struct LiveBatch {
    /// Rising in order of arrival, without gaps.
    pub number: u64,
    /// The log frame that it is part of.
    pub seq: u64,
    /// When it arrived, by the server's clock.
    pub arrival: UnixNanos,
    /// The request, as the client sent it.
    pub request: Bytes,
    /// Resource and scope bytes, one after the other.
    pub context_bytes: Vec<u8>,
    /// Offset and length of each context in `context_bytes`.
    pub contexts: Vec<(u32, u32)>,
    /// Its spans.
    pub rows: Vec<SpanRow>,
}

impl LiveBatch {
    /// The bytes of a row's span message.
    pub fn span_bytes(&self, row: &SpanRow) -> &[u8] {
        slice(&self.request, row.offset, row.len)
    }

    /// The bytes of a context.
    pub fn context(&self, index: u32) -> &[u8] {
        match self.contexts.get(index as usize) {
            Some(&(offset, len)) => slice(&self.context_bytes, offset, len),
            None => &[],
        }
    }
}

fn slice(bytes: &[u8], offset: u32, len: u32) -> &[u8] {
    bytes.get(offset as usize..offset as usize + len as usize).unwrap_or(&[])
}
