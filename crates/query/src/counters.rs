//! Outcomes that are counted.

use std::sync::atomic::AtomicU64;

use trace_model::AnomalyKind;

/// Outcomes that are counted, for `status` and `/metrics`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Spans acknowledged and not known before.
    pub spans: AtomicU64,
    /// Spans that had come before.
    pub duplicates: AtomicU64,
    /// Spans for traces that had been finished.
    pub late: AtomicU64,
    /// Spans that start more than a minute after they came.
    pub ahead_of_clock: AtomicU64,
    /// Spans that ended more than a minute before they came.
    pub behind_clock: AtomicU64,
    /// Segments sealed.
    pub seals: AtomicU64,
    /// Log frames found damaged at start.
    pub damaged_frames: AtomicU64,
    /// Log frames that had been written and were gone at start.
    pub lost_frames: AtomicU64,
    /// Requests that the log did not take.
    pub refused_requests: AtomicU64,
    /// Times that the disk became too full to take spans.
    pub disk_full: AtomicU64,
    /// Segments dropped before their time to make room on a full disk.
    pub dropped_for_room: AtomicU64,
    /// Spans in them of which not even a rollup is left.
    pub not_rolled_up: AtomicU64,
    /// Look-ups of a trace in sealed segments on arrival of a span.
    pub reopen_lookups: AtomicU64,
    /// Look-ups of what is stored of a trace, on arrival of a span, that could not read all of it: a repeated span may
    /// have counted again.
    pub lookups_failed: AtomicU64,
    /// Analyses of traces.
    pub analysed: AtomicU64,
    /// Of these, again, after a late span.
    pub analysed_again: AtomicU64,
    /// Of these, of traces with too many spans, which have no critical path.
    pub too_large: AtomicU64,
    /// Times that a sealed trace was taken back without its spans, for want of room or because of
    /// damage.
    pub held_in_part: AtomicU64,
    /// Late spans whose trace was found in files only when they were to be analysed.
    pub joined_from_files: AtomicU64,
    /// Times that memory had no room for all traces that were analysed again, and the rest could not be written.
    pub revisions_not_written: AtomicU64,
    /// Spans with an anomaly, by its kind, counted at every analysis of their trace.
    pub anomalies: [AtomicU64; AnomalyKind::ALL.len()],
}
