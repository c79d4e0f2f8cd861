//! What came in and what was refused, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counted outcome of ingest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum IngestCounter {
    /// Requests acknowledged.
    Requests,
    /// Bytes of acknowledged requests, inflated.
    Bytes,
    /// Spans in acknowledged requests, repeated ones included.
    Spans,
    /// Spans left out of acknowledged requests.
    RejectedSpans,
    /// Requests that could not be read.
    UnreadableRequests,
    /// Requests refused because too much was on the way.
    OverloadedRequests,
    /// Requests that the log could not take.
    FailedRequests,
}

const COUNT: usize = 7;

/// All counted outcomes of ingest.
#[derive(Debug, Default)]
pub struct IngestCounters([AtomicU64; COUNT]);

impl IngestCounters {
    pub(crate) fn add(&self, counter: IngestCounter, by: u64) {
        if let Some(cell) = self.0.get(counter as usize) {
            cell.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// Metric name, help text and value of each.
    pub fn read(&self) -> Vec<(&'static str, &'static str, u64)> {
        const NAMES: [(&str, &str); COUNT] = [
            ("longpole_ingest_requests", "OTLP requests acknowledged"),
            ("longpole_ingest_bytes", "bytes of acknowledged OTLP requests, inflated"),
            ("longpole_ingest_spans", "spans in acknowledged requests, repeated ones included"),
            ("longpole_ingest_rejected_spans", "spans left out of acknowledged requests as invalid"),
            ("longpole_ingest_unreadable_requests", "requests refused as unreadable"),
            ("longpole_ingest_overloaded_requests", "requests refused because too much was on the way"),
            ("longpole_ingest_failed_requests", "requests that the log could not take"),
        ];
        NAMES
            .iter()
            .zip(&self.0)
            .map(|(&(name, help), cell)| (name, help, cell.load(Ordering::Relaxed)))
            .collect()
    }
}
