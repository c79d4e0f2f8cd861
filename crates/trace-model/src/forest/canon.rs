//! The canonical order of spans, and dropping the ones that came twice.

use std::cmp::Reverse;

use hashbrown::{HashMap, HashSet};

use super::{Anomaly, AnomalyKind};
use crate::{ServiceId, SpanId, SpanKind, SpanNode, StatusCode, UnixNanos};

type Key = (UnixNanos, Reverse<UnixNanos>, SpanId, u64, SpanKind, Option<SpanId>, StatusCode);

/// Everything that orders two spans. Service and operation are left out: their numbers depend on what
/// the process happened to see first.
fn key(span: &SpanNode) -> Key {
    (span.start, Reverse(span.end), span.span_id, span.content, span.kind, span.parent, span.status)
}

/// What two copies of one span agree in, beside the service.
fn identity(span: &SpanNode) -> (SpanId, u64, UnixNanos, UnixNanos) {
    (span.span_id, span.content, span.start, span.end)
}

/// Puts spans into canonical order.
pub(super) fn sort(spans: &[SpanNode]) -> Vec<SpanNode> {
    // The times nearly always decide, and are less to compare and to move about than spans.
    let times = |(at, span): (usize, &SpanNode)| (span.start, Reverse(span.end), at);
    let mut order: Vec<_> = spans.iter().enumerate().map(times).collect();
    order.sort_unstable();
    for ties in order.chunk_by_mut(|a, b| (a.0, a.1) == (b.0, b.1)).filter(|ties| ties.len() > 1) {
        ties.sort_unstable_by_key(|(_, _, at)| (key(&spans[*at]), *at));
    }
    let mut spans: Vec<SpanNode> = order.into_iter().map(|(_, _, at)| spans[at]).collect();
    if spans.windows(2).any(|pair| key(&pair[0]) == key(&pair[1]) && pair[0].service != pair[1].service) {
        sort_by_weight(&mut spans);
    }
    spans
}

/// Spans that differ in nothing but the service: the service with more spans goes first.
fn sort_by_weight(spans: &mut [SpanNode]) {
    let mut distinct = HashSet::new();
    let mut weight: HashMap<ServiceId, usize> = HashMap::new();
    for span in spans.iter() {
        if distinct.insert((identity(span), span.service)) {
            *weight.entry(span.service).or_default() += 1;
        }
    }
    let weight = |span: &SpanNode| Reverse(weight.get(&span.service).copied().unwrap_or(0));
    spans.sort_by_cached_key(|span| (key(span), weight(span)));
}

/// Drops the repeats of spans that are in canonical order: same id, content, service and times.
pub(super) fn drop_duplicates(spans: &mut Vec<SpanNode>, found: &mut Vec<Anomaly>) {
    if spans.windows(2).all(|pair| identity(&pair[0]) != identity(&pair[1])) {
        return;
    }
    // Copies are next to each other, but for copies under other services between them.
    let mut run = None;
    let mut services = HashSet::new();
    spans.retain(|span| {
        if run != Some(identity(span)) {
            run = Some(identity(span));
            services.clear();
        }
        let first = services.insert(span.service);
        if !first {
            found.push(Anomaly { kind: AnomalyKind::Duplicate, span_id: span.span_id });
        }
        first
    });
}
