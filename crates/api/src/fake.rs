//! A backend for tests: canned answers.

use std::time::Duration;

use latency::{Exemplar, ExemplarSet, LatencyHistogram};
use query::{
    BottleneckAnswer, BottleneckExemplar, BottleneckGroup, BottleneckItem, BottleneckQuery, CallTotals,
    CriticalPathAnswer, CriticalPathQuery, Cursor, Dictionaries, Freed, GroupBy, Housekeeping, Incomplete,
    LatencyAnswer, LatencyPoint, LatencyQuery, LatencySeries, MatchedSpan, Merged, OperationMetrics,
    OperationName, OperationRow, Order, QueryError, RollupTotals, RootPath, Scanned, ServiceRow,
    StatusAnswer, TraceAnswer, TraceHit, TracePage, TraceSearch, TraceSearchAnswer, TraceService, TraceState,
    Window,
};
use trace_analyze::{CriticalPath, Flags, PathSegment, UNLIMITED_SLACK};
use trace_model::{
    Anomaly, AnomalyKind, NanoDuration, OperationId, ServiceId, SpanId, SpanKind, SpanNode, StatusCode,
    Trace, TraceId, UnixNanos,
};

use crate::Backend;
use crate::backend::Rows;

const NOON: u64 = 1_700_000_000_000_000_000;
const WINDOW: Window = Window { start: UnixNanos(NOON), end: UnixNanos(NOON + UnixNanos::PER_MINUTE) };
const SCANNED: Scanned = Scanned { segments: 4, rows: 1_310, blocks: 11 };

pub(crate) fn trace_id() -> TraceId {
    "4bf92f3577b34da6a3ce929d0e0e4736".parse().unwrap()
}

pub(crate) fn span_id() -> SpanId {
    "00f067aa0ba902b7".parse().unwrap()
}

fn name(service: &str, operation: &str) -> OperationName {
    OperationName { service: service.into(), operation: operation.into(), kind: SpanKind::Server }
}

pub(crate) fn service(name: &str) -> ServiceRow {
    let (first_seen, last_seen) = (UnixNanos(NOON), UnixNanos(NOON + 900));
    ServiceRow { name: name.into(), spans: 9, errors: 1, first_seen, last_seen }
}

pub(crate) fn search() -> TraceSearch {
    TraceSearch {
        service: Some("checkout".into()),
        operation: None,
        kind: None,
        status: None,
        min_duration: None,
        max_duration: None,
        min_trace_duration: None,
        max_trace_duration: None,
        window: WINDOW,
        order: Order::Slowest,
        limit: 20,
        cursor: None,
    }
}

pub(crate) fn found() -> TraceSearchAnswer {
    let matched = MatchedSpan {
        span_id: span_id(),
        operation: name("checkout", "PlaceOrder"),
        status: StatusCode::Error,
        start: UnixNanos(NOON + 100),
        duration: NanoDuration::from_millis(981),
    };
    let hit = TraceHit {
        trace_id: trace_id(),
        root: Some(name("frontend", "GET /checkout")),
        start: UnixNanos(NOON),
        duration: NanoDuration::from_millis(1_204),
        spans: 48,
        errors: 1,
        services: vec![TraceService { name: "frontend".into(), spans: 9, errors: 0 }],
        matched: Some(matched),
        state: TraceState::Final,
        missing_parents: 0,
    };
    let next = Some(Cursor { rank: 981_000_000, start: UnixNanos(NOON), trace_id: trace_id() });
    TraceSearchAnswer { traces: vec![hit], next, incomplete: Vec::new(), scanned: SCANNED }
}

pub(crate) fn trace() -> TraceAnswer {
    TraceAnswer {
        traces_data: Vec::new(),
        next: None,
        state: TraceState::Open,
        anomalies: vec![Anomaly { kind: AnomalyKind::MissingParent, span_id: span_id() }],
        anomaly_counts: [1, 0, 0, 0, 0, 0, 0, 0, 0],
        incomplete: vec![Incomplete { reason: "trace_open", detail: "spans may still come".into() }],
        pass: None,
    }
}

fn node(id: u8, parent: Option<u8>, start: u64, end: u64) -> SpanNode {
    let span_id = |id| SpanId::new([0, 0, 0, 0, 0, 0, 0, id]).unwrap();
    SpanNode {
        span_id: span_id(id),
        parent: parent.map(span_id),
        start: UnixNanos(start),
        end: UnixNanos(end),
        content: u64::from(id),
        service: ServiceId(u32::from(id)),
        operation: OperationId(u32::from(id)),
        kind: SpanKind::Server,
        status: StatusCode::Unset,
    }
}

pub(crate) fn critical_path() -> CriticalPathAnswer {
    let (trace, _) =
        Trace::from_spans(vec![node(1, None, 1_000, 1_100), node(2, Some(1), 1_010, 1_070)]).unwrap();
    let segment =
        |span, edge, start, end| PathSegment { span, edge, start: UnixNanos(start), end: UnixNanos(end) };
    let segments = vec![
        segment(0, Some((0, 1)), 1_000, 1_010),
        segment(1, None, 1_010, 1_070),
        segment(0, None, 1_070, 1_100),
    ];
    let nanos = |values: [u64; 2]| values.map(NanoDuration).to_vec();
    let path = CriticalPath {
        root: 0,
        start: UnixNanos(1_000),
        end: UnixNanos(1_100),
        segments,
        flags: Flags::default(),
    };
    CriticalPathAnswer {
        trace_id: trace_id(),
        state: TraceState::Final,
        trace,
        names: vec![name("frontend", "GET /checkout"), name("checkout", "PlaceOrder")],
        primary: RootPath {
            path,
            exclusive: nanos([30, 60]),
            inclusive: nanos([100, 60]),
            slack: nanos([0, UNLIMITED_SLACK.0]),
        },
        other_roots: Vec::new(),
        self_times: nanos([40, 60]),
        incomplete: Vec::new(),
        pass: None,
    }
}

fn histogram() -> LatencyHistogram {
    let mut histogram = LatencyHistogram::new();
    for (millis, failed) in [(10, false), (20, false), (30, true)] {
        histogram.record(NanoDuration::from_millis(millis), failed);
    }
    histogram
}

fn exemplar() -> Exemplar {
    Exemplar {
        trace_id: trace_id(),
        span_id: span_id(),
        duration: NanoDuration::from_millis(30),
        time: UnixNanos(NOON + 500_000_000),
    }
}

pub(crate) fn latency() -> (LatencyQuery, LatencyAnswer) {
    let query = LatencyQuery {
        service: None,
        operation: None,
        kind: None,
        status: None,
        window: WINDOW,
        step: Some(NanoDuration::from_secs(60)),
        quantiles: vec![0.5, 0.99],
        group_by: GroupBy { service: true, operation: false, kind: true, status: false },
        limit: 10,
    };
    let values = vec![NanoDuration::from_millis(20), NanoDuration::from_millis(30)];
    let series = LatencySeries {
        service: Some("checkout".into()),
        operation: None,
        kind: Some(SpanKind::Server),
        status: None,
        histogram: histogram(),
        values: values.clone(),
        low_confidence: vec![false, true],
        exemplars: vec![(0.99, exemplar())],
        points: vec![LatencyPoint { start: WINDOW.start, count: 3, errors: 1, values }],
    };
    let (series, incomplete) = (vec![series], Vec::new());
    (query, LatencyAnswer { window: WINDOW, resolution: None, series, truncated: false, incomplete })
}

pub(crate) fn bottlenecks() -> (BottleneckQuery, BottleneckAnswer) {
    let query = BottleneckQuery {
        service: None,
        operation: None,
        window: WINDOW,
        group_by: BottleneckGroup::Service,
        faster_permille: 500,
        limit: 20,
    };
    let root_duration = NanoDuration::from_millis(30);
    let item = BottleneckItem {
        service: "checkout".into(),
        operation: None,
        kind: None,
        edge: Some(("checkout".into(), "payment".into())),
        cp_nanos_sum: 45,
        cp_share: 0.75,
        cp_mean: NanoDuration(15),
        cp_p50: NanoDuration(14),
        cp_p99: NanoDuration(29),
        presence: 1.0,
        amplification_nanos: -3,
        calls_per_trace: 2.0,
        error_share: 0.5,
        saving_upper_bound_mean: NanoDuration(7),
        exemplars: vec![BottleneckExemplar { trace_id: trace_id(), root_duration, cp: NanoDuration(29) }],
    };
    let answer = BottleneckAnswer {
        window: WINDOW,
        resolution: Some(NanoDuration::from_secs(3_600)),
        traces: 3,
        excluded: 1,
        latency: histogram(),
        items: vec![item],
        other_share: 0.25,
        flagged_share: 0.125,
        incomplete: Vec::new(),
        scanned: SCANNED,
    };
    (query, answer)
}

pub(crate) fn status() -> StatusAnswer {
    StatusAnswer {
        segments: 2,
        sealed_spans: 10,
        live_spans: 3,
        stored_bytes: 4_096,
        log_bytes: 512,
        bytes_last_day: 4_096,
        partitions: 1,
        oldest: Some(UnixNanos(NOON)),
        open_traces: 1,
        open_spans: 3,
        reopened: 1,
        torn_log_end: Some("the log ends torn".into()),
        disk: query::DiskStatus { free: 900, total: 1_000, free_min: 50, ballast: 20, state: "ok" },
        counters: vec![("late_spans", 7)],
        housekeeping: housekeeping(),
        rollups: [
            RollupTotals { rollups: 2, bytes: 700, spans: 40, traces: 9, oldest: Some(UnixNanos(NOON)) },
            RollupTotals::default(),
            RollupTotals::default(),
        ],
        damaged: Vec::new(),
        recovering: None,
        refusing: vec!["the disk is full".into()],
    }
}

fn housekeeping() -> Housekeeping {
    let last = Some(UnixNanos(NOON));
    Housekeeping {
        merged: Merged { partitions: 1, segments_before: 288, segments_after: 2, failed: 0 },
        spans: Freed { partitions: 2, segments: 3, spans: 40, bytes: 5_000, last },
        rollups: [Freed::default(); 3],
        postponed: 1,
        dictionaries: Dictionaries { stored: 2, trained: 9, adopted: 3, dropped: 1, failed: 0 },
    }
}

pub(crate) fn operation_metrics() -> OperationMetrics {
    let mut exemplars = ExemplarSet::new();
    exemplars.observe(exemplar(), false);
    let mut totals = CallTotals::default();
    totals.add(&histogram(), &exemplars);
    OperationMetrics { operation: name("che\"ck\\out", "Place\nOrder"), totals }
}

/// How the fake behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fake {
    /// It answers.
    Well,
    /// It is starting up, and answers from what is there already.
    Recovering,
    /// Its store cannot be read.
    Broken,
    /// It panics.
    Panicking,
    /// It takes three seconds.
    Slow,
}

const REPLAYING: &str = "replaying the log: 3 of 40 frames are in";

impl Fake {
    fn mood(self) -> Result<(), QueryError> {
        match self {
            Self::Well | Self::Recovering => Ok(()),
            Self::Broken => Err(QueryError::Store("secret/path: no such file".into())),
            Self::Panicking => panic!("as told"),
            Self::Slow => {
                std::thread::sleep(Duration::from_secs(3));
                Ok(())
            }
        }
    }

    fn lacking(self) -> Vec<Incomplete> {
        let recovering = Incomplete { reason: query::RECOVERING, detail: REPLAYING.into() };
        if self == Self::Recovering { vec![recovering] } else { Vec::new() }
    }

    /// What a single trace's answer is, if it is there.
    fn single<T>(self, there: bool, answer: impl FnOnce() -> T) -> Result<Option<T>, QueryError> {
        self.mood()?;
        match self {
            Self::Recovering if !there => Err(QueryError::Recovering(REPLAYING.into())),
            _ => Ok(there.then(answer)),
        }
    }
}

impl Backend for Fake {
    fn services(&self, _: Option<Window>) -> Result<Rows<ServiceRow>, QueryError> {
        self.mood().map(|()| (vec![service("checkout"), service("frontend")], self.lacking()))
    }

    fn operations(&self, service: &str, kind: Option<SpanKind>) -> Result<Rows<OperationRow>, QueryError> {
        let kind = kind.unwrap_or_default();
        let rows = vec![OperationRow { name: "PlaceOrder".into(), kind, spans: 4, errors: 1 }];
        self.mood().map(|()| (if service == "check out/ä" { rows } else { Vec::new() }, self.lacking()))
    }

    fn search(&self, _: &TraceSearch) -> Result<TraceSearchAnswer, QueryError> {
        self.mood().map(|()| TraceSearchAnswer { incomplete: self.lacking(), ..found() })
    }

    fn trace(&self, page: &TracePage) -> Result<Option<TraceAnswer>, QueryError> {
        self.single(page.trace_id == trace_id(), || {
            let mut answer = trace();
            answer.incomplete.extend(self.lacking());
            answer
        })
    }

    fn critical_path(&self, query: &CriticalPathQuery) -> Result<Option<CriticalPathAnswer>, QueryError> {
        self.single(query.trace_id == trace_id(), || {
            let mut answer = critical_path();
            answer.incomplete.extend(self.lacking());
            answer
        })
    }

    fn latency(&self, _: &LatencyQuery) -> Result<LatencyAnswer, QueryError> {
        self.mood().map(|()| LatencyAnswer { incomplete: self.lacking(), ..latency().1 })
    }

    fn bottlenecks(&self, _: &BottleneckQuery) -> Result<BottleneckAnswer, QueryError> {
        self.mood().map(|()| BottleneckAnswer { incomplete: self.lacking(), ..bottlenecks().1 })
    }

    fn status(&self) -> StatusAnswer {
        status()
    }

    fn operation_metrics(&self) -> Vec<OperationMetrics> {
        vec![operation_metrics()]
    }

    fn ready(&self) -> Result<(), String> {
        self.mood().map_err(|error| error.to_string())?;
        self.lacking().into_iter().next().map_or(Ok(()), |why| Err(why.detail))
    }
}
