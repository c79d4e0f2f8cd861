//! What is answered: plain values, for the API to write as JSON and for tests to compare.

use std::sync::Arc;

use latency::Exemplar;
use trace_model::{Anomaly, NanoDuration, SpanId, SpanKind, StatusCode, TraceId, UnixNanos};

use crate::metrics::CallTotals;
use crate::names::OVERFLOW;

/// Why an answer is not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incomplete {
    /// A word for programs, e.g. `trace_open`, `missing_parent`, `damaged_segment`, `recovering`.
    pub reason: &'static str,
    /// A sentence for people.
    pub detail: String,
}

/// The reason of answers that were given before the log had been replayed.
pub const RECOVERING: &str = "recovering";

/// What a search had to look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Sealed segments that were opened.
    pub segments: u64,
    /// Rows looked at, sealed and live.
    pub rows: u64,
    /// Blocks read from the store.
    pub blocks: u64,
}

impl Scanned {
    pub(crate) fn add(&mut self, other: Self) {
        self.segments += other.segments;
        self.rows += other.rows;
        self.blocks += other.blocks;
    }
}

/// A service and what is stored of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRow {
    /// `service.name`.
    pub name: Arc<str>,
    /// Distinct spans.
    pub spans: u64,
    /// Of these, with status error.
    pub errors: u64,
    /// Earliest start of a span that says when it began; 0 if none does.
    pub first_seen: UnixNanos,
    /// Latest start of a span.
    pub last_seen: UnixNanos,
}

/// An operation of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationRow {
    /// The span name.
    pub name: Arc<str>,
    /// The span kind.
    pub kind: SpanKind,
    /// Distinct spans.
    pub spans: u64,
    /// Of these, with status error.
    pub errors: u64,
}

/// A span's service, name and kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationName {
    /// `service.name`.
    pub service: Arc<str>,
    /// The span name.
    pub operation: Arc<str>,
    /// The span kind.
    pub kind: SpanKind,
}

impl OperationName {
    /// What stands for operations that are not told apart.
    pub(crate) fn overflow() -> Self {
        Self { service: OVERFLOW.into(), operation: OVERFLOW.into(), kind: SpanKind::Unspecified }
    }
}

/// Whether analysis considers a trace finished. It may be reopened by a late span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceState {
    /// Spans may still be on their way.
    Open,
    /// Quiet for long enough.
    Final,
}

impl TraceState {
    /// The API's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Final => "final",
        }
    }
}

/// Spans and errors of one service in one trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceService {
    /// `service.name`.
    pub name: Arc<str>,
    /// Spans of the trace.
    pub spans: u64,
    /// Of these, with status error.
    pub errors: u64,
}

/// The span by which a trace was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchedSpan {
    /// Its id.
    pub span_id: SpanId,
    /// Its service, name and kind.
    pub operation: OperationName,
    /// Its status.
    pub status: StatusCode,
    /// Its start.
    pub start: UnixNanos,
    /// Its duration.
    pub duration: NanoDuration,
}

/// A found trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceHit {
    /// The trace.
    pub trace_id: TraceId,
    /// Its root, while known.
    pub root: Option<OperationName>,
    /// Earliest start of its spans.
    pub start: UnixNanos,
    /// From the earliest start to the latest end.
    pub duration: NanoDuration,
    /// Distinct spans.
    pub spans: u64,
    /// Of these, with status error.
    pub errors: u64,
    /// By service, most spans first, then by name.
    pub services: Vec<TraceService>,
    /// The slowest (or newest) matching span, where a span-level filter was given.
    pub matched: Option<MatchedSpan>,
    /// Open or final.
    pub state: TraceState,
    /// Spans whose parent is not there; 0 where the trace is too large to be analysed, or open and too large to be held.
    pub missing_parents: u64,
}

/// The answer to a search.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceSearchAnswer {
    /// In the order asked for.
    pub traces: Vec<TraceHit>,
    /// Where to go on, if there is more.
    pub next: Option<crate::Cursor>,
    /// Empty if the answer is complete.
    pub incomplete: Vec<Incomplete>,
    /// What was looked at.
    pub scanned: Scanned,
}

/// A whole trace, or a page of a large one.
#[derive(Debug, Clone)]
pub struct TraceAnswer {
    /// OTLP `TracesData`, spans once each, in start order. Of a large one in pieces of neighbouring spans.
    pub traces_data: Vec<u8>,
    /// Where the next page goes on, if there is one.
    pub next: Option<crate::SpanPlace>,
    /// Open or final.
    pub state: TraceState,
    /// What was odd about it, the first of it where there is much. Told on the first page.
    pub anomalies: Vec<Anomaly>,
    /// How many spans each kind of anomaly concerns.
    pub anomaly_counts: crate::AnomalyCounts,
    /// Empty if the answer is complete.
    pub incomplete: Vec<Incomplete>,
    /// Held until the answer is written, if it is a large one.
    pub pass: Option<Arc<crate::Pass>>,
}

/// A critical path with the trace it belongs to and names for the interned numbers.
#[derive(Debug, Clone)]
pub struct CriticalPathAnswer {
    /// The trace.
    pub trace_id: TraceId,
    /// Open or final.
    pub state: TraceState,
    /// The forest that the indices below point into.
    pub trace: trace_model::Trace,
    /// Name of each span of `trace`, by its index.
    pub names: Vec<OperationName>,
    /// The path of the primary root.
    pub primary: RootPath,
    /// The paths of the other roots, by start.
    pub other_roots: Vec<trace_analyze::CriticalPath>,
    /// Self time of each span of `trace`.
    pub self_times: Vec<NanoDuration>,
    /// Empty if the answer is complete.
    pub incomplete: Vec<Incomplete>,
    /// Held until the answer is written, if it is a large one.
    pub pass: Option<Arc<crate::Pass>>,
}

/// The critical path below one root.
#[derive(Debug, Clone)]
pub struct RootPath {
    /// The path; `root` and segments index `CriticalPathAnswer::trace`.
    pub path: trace_analyze::CriticalPath,
    /// Exclusive time of each span of the trace on this path.
    pub exclusive: Vec<NanoDuration>,
    /// Inclusive time, likewise.
    pub inclusive: Vec<NanoDuration>,
    /// Slack, likewise.
    pub slack: Vec<NanoDuration>,
}

/// One point of a latency series.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyPoint {
    /// The point's first instant.
    pub start: UnixNanos,
    /// Spans that ended in it.
    pub count: u64,
    /// Of these, with status error.
    pub errors: u64,
    /// One value a quantile.
    pub values: Vec<NanoDuration>,
}

/// One latency series. Labels that were merged are `None`.
#[derive(Debug, Clone)]
pub struct LatencySeries {
    /// `service.name`.
    pub service: Option<Arc<str>>,
    /// The span name.
    pub operation: Option<Arc<str>>,
    /// The kind.
    pub kind: Option<SpanKind>,
    /// The status.
    pub status: Option<StatusCode>,
    /// All that was recorded.
    pub histogram: latency::LatencyHistogram,
    /// One value a quantile.
    pub values: Vec<NanoDuration>,
    /// One flag a quantile: too few samples for it.
    pub low_confidence: Vec<bool>,
    /// One exemplar a quantile, where there is one.
    pub exemplars: Vec<(f64, Exemplar)>,
    /// By time, only points with spans; empty without a step.
    pub points: Vec<LatencyPoint>,
}

/// The answer to a question for percentiles.
#[derive(Debug, Clone)]
pub struct LatencyAnswer {
    /// The window in whole minutes, or whole buckets of rollups, that was answered.
    pub window: crate::Window,
    /// The widest bucket of a rollup that went into the answer; `None` if it is all of spans that are kept.
    pub resolution: Option<NanoDuration>,
    /// Most spans first, then by labels.
    pub series: Vec<LatencySeries>,
    /// Whether there are more than were asked for.
    pub truncated: bool,
    /// Empty if the answer is complete.
    pub incomplete: Vec<Incomplete>,
}

/// A share of the critical paths.
#[derive(Debug, Clone, PartialEq)]
pub struct BottleneckItem {
    /// The service that the time belongs to (for an edge, the client).
    pub service: Arc<str>,
    /// The span name, where grouped by operation.
    pub operation: Option<Arc<str>>,
    /// The kind, where grouped by operation.
    pub kind: Option<SpanKind>,
    /// Client and server service, where the time belongs to the way between them.
    pub edge: Option<(Arc<str>, Arc<str>)>,
    /// Time on the critical paths, summed, nanoseconds.
    pub cp_nanos_sum: u128,
    /// Its share of all critical-path time, 0 to 1.
    pub cp_share: f64,
    /// Mean over all counted traces.
    pub cp_mean: NanoDuration,
    /// Median over all counted traces (zero where absent).
    pub cp_p50: NanoDuration,
    /// 99th percentile over all counted traces.
    pub cp_p99: NanoDuration,
    /// Share of traces where it is on the path, 0 to 1.
    pub presence: f64,
    /// Mean time on the path in traces above the 99th percentile less that in traces up to the median,
    /// nanoseconds; may be negative.
    pub amplification_nanos: i64,
    /// Spans a trace, on the path or not.
    pub calls_per_trace: f64,
    /// Share of these spans with status error.
    pub error_share: f64,
    /// Mean saving if it were faster by the asked-for part: an upper bound, `part × mean`.
    pub saving_upper_bound_mean: NanoDuration,
    /// Traces in which it cost most.
    pub exemplars: Vec<BottleneckExemplar>,
}

/// A trace in which an item cost much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BottleneckExemplar {
    /// The trace.
    pub trace_id: TraceId,
    /// Duration of its root.
    pub root_duration: NanoDuration,
    /// The item's time on its critical path.
    pub cp: NanoDuration,
}

/// The answer to a question for bottlenecks.
#[derive(Debug, Clone)]
pub struct BottleneckAnswer {
    /// The window that was answered: the one asked for, unless that cut a bucket of a rollup.
    pub window: crate::Window,
    /// The widest bucket of a rollup that went into the answer; `None` if it is all of traces that are kept.
    pub resolution: Option<NanoDuration>,
    /// Traces counted.
    pub traces: u64,
    /// Traces left out (no root, or cut by a limit).
    pub excluded: u64,
    /// Duration of the roots.
    pub latency: latency::LatencyHistogram,
    /// Greatest share first.
    pub items: Vec<BottleneckItem>,
    /// Share of what `items` leaves out, 0 to 1.
    pub other_share: f64,
    /// Share of counted traces with a missing parent, a clipped overrun or a second root, 0 to 1.
    pub flagged_share: f64,
    /// Empty if the answer is complete.
    pub incomplete: Vec<Incomplete>,
    /// What was looked at.
    pub scanned: Scanned,
}

/// The state of the store and of assembly.
#[derive(Debug, Clone, Default)]
pub struct StatusAnswer {
    /// Sealed segments.
    pub segments: u64,
    /// Spans in sealed segments.
    pub sealed_spans: u64,
    /// Spans not yet sealed.
    pub live_spans: u64,
    /// Bytes of the files of sealed segments.
    pub stored_bytes: u64,
    /// Bytes in the log.
    pub log_bytes: u64,
    /// Bytes added to segments in the last 24 hours.
    pub bytes_last_day: u64,
    /// Partitions.
    pub partitions: u64,
    /// Earliest span start stored, of spans that say when they began.
    pub oldest: Option<UnixNanos>,
    /// Traces that are not finished.
    pub open_traces: u64,
    /// Skeletons held for them.
    pub open_spans: u64,
    /// How often the database was closed and opened again to get over an error.
    pub reopened: u64,
    /// Where the log ended torn when the store was opened, in words; `None` if it did not.
    pub torn_log_end: Option<String>,
    /// Room on the disk.
    pub disk: DiskStatus,
    /// Counters by name: outcomes that are worth knowing.
    pub counters: Vec<(&'static str, u64)>,
    /// What merging and retention did since the process began.
    pub housekeeping: crate::Housekeeping,
    /// Rollups by minute, by hour and by day.
    pub rollups: [crate::RollupTotals; 3],
    /// Segments that were set aside as damaged or of which damaged blocks are left out, with the reason; and parts of the log.
    pub damaged: Vec<String>,
    /// How far the log has been replayed; `None` once it is.
    pub recovering: Option<String>,
    /// What is being refused and why; empty when all is well.
    pub refusing: Vec<String>,
}

/// Room on the disk, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskStatus {
    /// What may still be written.
    pub free: u64,
    /// The whole disk.
    pub total: u64,
    /// What must stay free; below it spans are refused.
    pub free_min: u64,
    /// Held in reserve, to be given up when the disk is full.
    pub ballast: u64,
    /// `ok`, `full` (spans are refused) or `failing` (the database cannot be written).
    pub state: &'static str,
}

impl Default for DiskStatus {
    fn default() -> Self {
        Self { free: 0, total: 0, free_min: 0, ballast: 0, state: "ok" }
    }
}

/// Cumulative calls, errors and latency of one operation since the process began, for `/metrics`.
#[derive(Debug, Clone)]
pub struct OperationMetrics {
    /// Service, name and kind.
    pub operation: OperationName,
    /// All that was recorded.
    pub totals: CallTotals,
}
