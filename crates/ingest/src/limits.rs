//! Bounds on what clients may send.

use std::time::Duration;

use otlp_wire::WireLimits;

/// Bounds on what clients may send. Each is a key of the `ingest` section under the same name.
#[derive(Debug, Clone, Copy)]
pub struct IngestLimits {
    /// Bytes of one request as it comes, compressed or not. Default 16 MiB.
    pub wire_bytes: usize,
    /// Bytes of one request once inflated. Default 64 MiB.
    pub request_bytes: usize,
    /// Bytes of one OTLP/JSON request once inflated. Default 32 MiB: text and protobuf are there at once, and together
    /// take no more than another request may.
    pub json_bytes: usize,
    /// Bytes of all requests that are being received or on their way to the log. The server divides it from `memory`.
    pub queued_bytes: usize,
    /// Spans of one request, and its `ScopeSpans`. Default 1,000,000.
    pub request_spans: usize,
    /// Attributes of one span. Default 1,000.
    pub span_attributes: usize,
    /// Bytes of one span's message. Default 4 MiB.
    pub span_bytes: usize,
    /// Bytes of one span's resource and scope together. Default 64 KiB.
    pub context_bytes: usize,
    /// How deep an attribute's value may nest; no more than 32. Default 32.
    pub value_depth: usize,
    /// Connections of one server at a time. Default 1,024.
    pub connections: usize,
    /// HTTP/2 streams of one connection at a time. Default 256.
    pub streams: usize,
    /// From the first byte of an HTTP/1.1 request, or of a connection, until the headers are there. Default 10 s.
    pub header_timeout: Duration,
    /// From the headers of a request until its body is there; and how long a client may read nothing of its answers.
    /// Default 30 s.
    pub body_timeout: Duration,
    /// How long a connection may be without a request. Default 5 min.
    pub idle_timeout: Duration,
}

impl Default for IngestLimits {
    fn default() -> Self {
        Self {
            wire_bytes: 16 << 20,
            request_bytes: 64 << 20,
            json_bytes: 32 << 20,
            queued_bytes: 64 << 20,
            request_spans: 1_000_000,
            span_attributes: 1_000,
            span_bytes: 4 << 20,
            context_bytes: 64 << 10,
            value_depth: 32,
            connections: 1_024,
            streams: 256,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(300),
        }
    }
}

impl IngestLimits {
    /// Those of the walk.
    pub(crate) fn wire(&self) -> WireLimits {
        let narrow = |limit: usize| u32::try_from(limit).unwrap_or(u32::MAX);
        WireLimits {
            depth: narrow(self.value_depth),
            spans: narrow(self.request_spans),
            span_attributes: narrow(self.span_attributes),
            span_bytes: narrow(self.span_bytes),
            context_bytes: narrow(self.context_bytes),
            contexts_bytes: narrow(self.request_bytes),
        }
    }
}
