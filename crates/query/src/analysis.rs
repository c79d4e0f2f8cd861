//! Analyses one trace: its summary and what its critical path is made of.

use hashbrown::HashMap;
use segment::{TraceRow, TraceServiceCount};
use trace_analyze::{PathOptions, critical_path, path_shares};
use trace_model::{AnomalyKind, ServiceId, SpanNode, StatusCode, Trace, TraceId};

/// The analysis of a trace from its spans; `None` if there are none. It depends on nothing but the set of
/// spans.
pub fn analyse(trace_id: TraceId, nodes: Vec<SpanNode>, revised: bool) -> Option<TraceRow> {
    let (trace, anomalies) = Trace::from_spans(nodes)?;
    let root = trace.primary_root();
    let path = critical_path(&trace, root, &PathOptions::default());
    let missing = anomalies.iter().filter(|anomaly| anomaly.kind == AnomalyKind::MissingParent).count();
    let spans = trace.spans();
    Some(TraceRow {
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
        shares: path_shares(&trace, &path),
    })
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
