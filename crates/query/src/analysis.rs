//! Analyses one trace: its summary and what its critical path is made of.

use hashbrown::HashMap;
use segment::{TraceRow, TraceServiceCount};
use trace_analyze::{Flags, PathOptions, critical_path, path_shares};
use trace_assemble::Totals;
use trace_model::{Anomaly, AnomalyKind, NanoDuration, ServiceId, SpanNode, StatusCode, Trace, TraceId};

/// Spans by the kind of their anomaly, in the order of [`AnomalyKind::ALL`].
pub type AnomalyCounts = [u64; AnomalyKind::ALL.len()];

/// The analysis of a trace from its spans; `None` if there are none. It depends on nothing but the set of
/// spans.
pub fn analyse(trace_id: TraceId, nodes: Vec<SpanNode>, revised: bool) -> Option<TraceRow> {
    analyse_counting(trace_id, nodes, revised).map(|(row, _)| row)
}

/// The same, with what was odd about the trace.
pub fn analyse_counting(
    trace_id: TraceId,
    nodes: Vec<SpanNode>,
    revised: bool,
) -> Option<(TraceRow, AnomalyCounts)> {
    let (trace, anomalies) = Trace::from_spans(nodes)?;
    Some((row_of(trace_id, &trace, &anomalies, revised), count_anomalies(&anomalies)))
}

/// The analysis of a trace of which stored spans cannot be read, from those that can. If there are none: what was known
/// of all before, with no critical path.
pub fn analyse_in_part(
    trace_id: TraceId,
    nodes: Vec<SpanNode>,
    totals: &Totals,
    revised: bool,
) -> (TraceRow, AnomalyCounts) {
    let known = || TraceRow { flags: Flags::default(), ..summary(trace_id, totals, revised) };
    let found = analyse_counting(trace_id, nodes, revised);
    let (mut row, anomalies) = found.unwrap_or_else(|| (known(), AnomalyCounts::default()));
    row.flags.insert(Flags::UNREAD_SPANS);
    (row, anomalies)
}

pub(crate) fn count_anomalies(anomalies: &[Anomaly]) -> AnomalyCounts {
    let mut counts = AnomalyCounts::default();
    anomalies.iter().for_each(|anomaly| counts[anomaly.kind as usize] += 1);
    counts
}

/// What can be said of a trace with too many spans to be analysed together: everything but its critical path and what
/// is odd about it.
pub fn summary(trace_id: TraceId, totals: &Totals, revised: bool) -> TraceRow {
    let mut services: Vec<_> = totals
        .services
        .iter()
        .map(|(service, &(spans, errors))| TraceServiceCount { service: *service, spans, errors })
        .collect();
    services.sort_unstable_by_key(|count| count.service);
    let mut flags = Flags::default();
    flags.insert(Flags::TOO_LARGE);
    TraceRow {
        trace_id,
        start: totals.start,
        duration: totals.end.since(totals.start),
        root: totals.root(),
        root_duration: NanoDuration(0),
        spans: u32::try_from(totals.spans).unwrap_or(u32::MAX),
        errors: u32::try_from(totals.errors).unwrap_or(u32::MAX),
        missing_parents: 0,
        flags,
        revised,
        services,
        shares: Vec::new(),
    }
}

fn row_of(trace_id: TraceId, trace: &Trace, anomalies: &[Anomaly], revised: bool) -> TraceRow {
    let root = trace.primary_root();
    let path = critical_path(trace, root, &PathOptions::default());
    let missing = anomalies.iter().filter(|anomaly| anomaly.kind == AnomalyKind::MissingParent).count();
    let spans = trace.spans();
    TraceRow {
        trace_id,
        start: trace.start(),
        duration: trace.duration(),
        root: trace.has_true_root().then(|| spans[root].operation),
        root_duration: path.end.since(path.start),
        spans: count(spans.len()),
        errors: count(spans.iter().filter(|span| span.status == StatusCode::Error).count()),
        missing_parents: count(missing),
        flags: path.flags,
        revised,
        services: by_service(spans),
        shares: path_shares(trace, &path),
    }
}

fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

/// Services of a trace that room is made for at once.
const SERVICES: usize = 28;

fn by_service(spans: &[SpanNode]) -> Vec<TraceServiceCount> {
    let mut at: HashMap<ServiceId, usize> = HashMap::with_capacity(spans.len().min(SERVICES));
    let mut counts: Vec<TraceServiceCount> = Vec::new();
    for span in spans {
        let index = *at.entry(span.service).or_insert_with(|| {
            counts.push(TraceServiceCount { service: span.service, spans: 0, errors: 0 });
            counts.len() - 1
        });
        counts[index].spans += 1;
        counts[index].errors += u32::from(span.status == StatusCode::Error);
    }
    counts
}
