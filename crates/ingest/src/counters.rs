//! What came in and what was refused, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

/// What all names begin with.
const PREFIX: &str = "longpole_ingest_";

macro_rules! counters {
    ($($variant:ident = $name:literal: $help:literal,)*) => {
        /// A counted outcome of ingest.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub enum IngestCounter {
            $(#[doc = $help] $variant,)*
        }

        /// Name and help of each, in the order of the enum.
        const NAMES: &[(&str, &str)] = &[$((concat!("longpole_ingest_", $name), $help),)*];
    };
}

counters! {
    Requests = "requests": "OTLP requests acknowledged, or stored although the client had gone",
    Bytes = "bytes": "bytes of these, inflated",
    WireBytes = "wire_bytes": "bytes of these as they came",
    Spans = "spans": "spans stored of these, repeated ones included",
    RejectedSpans = "rejected_spans": "spans left out of these, for whatever reason",
    SpansOverAttributes = "spans_over_attributes": "spans left out for more attributes than ingest.span_attributes",
    SpansOverBytes = "spans_over_bytes": "spans left out for more bytes than ingest.span_bytes",
    SpansOverContext = "spans_over_context": "spans left out for a resource and scope of more bytes than ingest.context_bytes",
    UnreadableRequests = "unreadable_requests": "requests refused as unreadable",
    OverloadedRequests = "overloaded_requests": "requests refused because too much was on the way",
    FailedRequests = "failed_requests": "requests that the log could not take",
    RefusedRequests = "refused_requests": "requests refused unread because nothing could be stored",
    DrainingRequests = "draining_requests": "requests refused because the server was stopping",
    WireBytesRequests = "wire_bytes_requests": "requests refused for more bytes on the wire than ingest.wire_bytes",
    RequestBytesRequests = "request_bytes_requests": "requests refused for more inflated bytes than ingest.request_bytes",
    JsonBytesRequests = "json_bytes_requests": "OTLP/JSON requests refused for more bytes than ingest.json_bytes",
    SpansRequests = "request_spans_requests": "requests refused for more spans, or more ScopeSpans, than ingest.request_spans",
    DepthRequests = "value_depth_requests": "requests refused for values nested deeper than ingest.value_depth",
    EncodingRequests = "unknown_encoding_requests": "requests refused for a compression that is not known",
    InflateRequests = "broken_encoding_requests": "requests refused because they could not be inflated",
    ContentTypeRequests = "content_type_requests": "requests refused for their content type",
    MisdirectedRequests = "misdirected_requests": "requests to a path or with a method that OTLP does not have",
    SlowRequests = "slow_requests": "requests given up because their body took longer than ingest.body_timeout",
    AbandonedRequests = "abandoned_requests": "requests that ended before their body was there",
    MetricsRequests = "dropped_metrics_requests": "requests of the metrics signal, answered and dropped",
    LogsRequests = "dropped_logs_requests": "requests of the logs signal, answered and dropped",
    Connections = "connections": "connections accepted",
    AcceptFailures = "accept_failures": "times that no connection could be accepted, for instance for want of open files",
    ConnectionsOverLimit = "connections_over_limit": "connections over the limit, whose requests were refused",
    OverConnectionsRequests = "connections_over_limit_requests": "requests refused because they came on a connection over ingest.connections",
    RefusedStreams = "refused_streams": "HTTP/2 streams refused unread: over ingest.streams, or their headers too long",
    BrokenConnections = "broken_connections": "HTTP/1.1 connections closed for what is no HTTP, or for a head that is too long",
    SlowConnections = "slow_connections": "connections closed because headers took too long",
    StalledConnections = "stalled_connections": "connections closed because the client read nothing of its answers for long",
    IdleConnections = "idle_connections": "connections closed after long without a request",
}

/// What is counted of connections, for a server that is not of the intake's.
const OF_CONNECTIONS: &[IngestCounter] = &[
    IngestCounter::Connections,
    IngestCounter::AcceptFailures,
    IngestCounter::ConnectionsOverLimit,
    IngestCounter::RefusedStreams,
    IngestCounter::BrokenConnections,
    IngestCounter::SlowConnections,
    IngestCounter::StalledConnections,
    IngestCounter::IdleConnections,
];

/// All counted outcomes of ingest.
#[derive(Debug)]
pub struct IngestCounters([AtomicU64; NAMES.len()]);

impl Default for IngestCounters {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; NAMES.len()])
    }
}

impl IngestCounters {
    pub(crate) fn add(&self, counter: IngestCounter, by: u64) {
        if let Some(cell) = self.0.get(counter as usize) {
            cell.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// The value of one.
    pub fn get(&self, counter: IngestCounter) -> u64 {
        self.0.get(counter as usize).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// Metric name, help text and value of each.
    pub fn read(&self) -> Vec<(&'static str, &'static str, u64)> {
        let value = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        NAMES.iter().zip(&self.0).map(|(&(name, help), cell)| (name, help, value(cell))).collect()
    }

    /// The same of those that are about connections alone, with another prefix than `longpole_ingest_`.
    pub fn read_connections(&self, prefix: &str) -> Vec<(String, &'static str, u64)> {
        let of = |&counter: &IngestCounter| {
            let (name, help) = NAMES.get(counter as usize)?;
            Some((name.replacen(PREFIX, prefix, 1), *help, self.get(counter)))
        };
        OF_CONNECTIONS.iter().filter_map(of).collect()
    }
}
