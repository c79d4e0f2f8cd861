//! What can be asked: plain values, already parsed and checked by whoever asks.

use trace_model::{NanoDuration, SpanKind, StatusCode, TraceId, UnixNanos};

/// A half-open window of time: `start` inclusive, `end` exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first instant inside.
    pub start: UnixNanos,
    /// The first instant after it.
    pub end: UnixNanos,
}

impl Window {
    /// All of time.
    pub const ALL: Self = Self { start: UnixNanos(0), end: UnixNanos(u64::MAX) };

    /// Whether `at` lies inside.
    #[inline]
    pub fn contains(&self, at: UnixNanos) -> bool {
        self.start <= at && at < self.end
    }
}

/// The order of found traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Longest first; ties by start, then by ids.
    #[default]
    Slowest,
    /// Latest start first; ties by ids.
    Newest,
}

impl Order {
    /// The API's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slowest => "slowest",
            Self::Newest => "newest",
        }
    }
}

/// A place in the order of found traces: everything up to and including it was given out.
///
/// `rank` is the duration (slowest) or the start (newest) of the last item, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Duration or start of the last item given out, by the order.
    pub rank: u64,
    /// The start of that item, which breaks ties.
    pub start: UnixNanos,
    /// The trace of that item, which breaks the ties that are left.
    pub trace_id: TraceId,
}

/// A search for traces. Every `None` means "any".
#[derive(Debug, Clone, PartialEq)]
pub struct TraceSearch {
    /// The service of the matching span.
    pub service: Option<String>,
    /// The span name of the matching span.
    pub operation: Option<String>,
    /// The kind of the matching span.
    pub kind: Option<SpanKind>,
    /// The status of the matching span.
    pub status: Option<StatusCode>,
    /// Least duration: of the matching span if there is a span-level filter, else of the trace. Inclusive.
    pub min_duration: Option<NanoDuration>,
    /// Greatest duration, likewise. Inclusive.
    pub max_duration: Option<NanoDuration>,
    /// Least duration of the trace. Inclusive.
    pub min_trace_duration: Option<NanoDuration>,
    /// Greatest duration of the trace. Inclusive.
    pub max_trace_duration: Option<NanoDuration>,
    /// Where the span's start (or with no span-level filter the trace's) must lie.
    pub window: Window,
    /// The order of the answer.
    pub order: Order,
    /// At most this many traces; 1 to 1,000.
    pub limit: usize,
    /// Go on after this place.
    pub cursor: Option<Cursor>,
}

impl TraceSearch {
    /// Whether a filter speaks of single spans (service, operation, kind, status).
    pub fn has_span_filter(&self) -> bool {
        self.service.is_some() || self.operation.is_some() || self.kind.is_some() || self.status.is_some()
    }
}

/// By which labels latency series are told apart; what is false is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupBy {
    /// One series a service.
    pub service: bool,
    /// One series a span name.
    pub operation: bool,
    /// One series a kind.
    pub kind: bool,
    /// One series a status.
    pub status: bool,
}

impl Default for GroupBy {
    fn default() -> Self {
        Self { service: true, operation: true, kind: true, status: false }
    }
}

/// A question for latency percentiles. The window is by the span's end, in whole minutes.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyQuery {
    /// Only this service.
    pub service: Option<String>,
    /// Only this span name.
    pub operation: Option<String>,
    /// Only this kind.
    pub kind: Option<SpanKind>,
    /// Only this status.
    pub status: Option<StatusCode>,
    /// Rounded outwards to whole minutes by the engine.
    pub window: Window,
    /// Width of a point, a whole number of minutes; `None` for no points.
    pub step: Option<NanoDuration>,
    /// Each in 0..=1.
    pub quantiles: Vec<f64>,
    /// Labels of a series.
    pub group_by: GroupBy,
    /// At most this many series, those with most spans.
    pub limit: usize,
}

/// By what bottleneck items are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BottleneckGroup {
    /// One item a service (or edge between two).
    #[default]
    Service,
    /// One item an operation (or edge).
    Operation,
}

/// A question for what the critical paths of some traces are made of.
#[derive(Debug, Clone, PartialEq)]
pub struct BottleneckQuery {
    /// Only traces whose root belongs to this service.
    pub service: Option<String>,
    /// Only traces whose root has this span name.
    pub operation: Option<String>,
    /// Where the trace's start must lie.
    pub window: Window,
    /// How items are merged.
    pub group_by: BottleneckGroup,
    /// How much faster an item is assumed to become in the what-if answer, in thousandths: 0 to 1,000.
    pub faster_permille: u32,
    /// At most this many items; the rest is `other_share`.
    pub limit: usize,
}

/// Which critical path of a trace.
#[derive(Debug, Clone, Copy)]
pub struct CriticalPathQuery {
    /// The trace.
    pub trace_id: TraceId,
    /// Extent, overrun rule and tolerance.
    pub options: trace_analyze::PathOptions,
}

impl CriticalPathQuery {
    /// That up to the root's response, by the usual rules.
    pub fn of(trace_id: TraceId) -> Self {
        Self { trace_id, options: trace_analyze::PathOptions::default() }
    }
}

/// A trace, or a page of a large one.
#[derive(Debug, Clone, Copy)]
pub struct TracePage {
    /// The trace.
    pub trace_id: TraceId,
    /// Spans at most.
    pub limit: usize,
    /// The place of the last span of the page before.
    pub after: Option<crate::SpanPlace>,
}

impl TracePage {
    /// Spans of a page at most.
    pub const LIMIT_MAX: usize = 100_000;
    /// Bytes of a page at most, as OTLP; only a single span can take more.
    pub const BYTES_MAX: usize = 32 << 20;

    /// The first page.
    pub fn first(trace_id: TraceId) -> Self {
        Self { trace_id, limit: Self::LIMIT_MAX, after: None }
    }
}
