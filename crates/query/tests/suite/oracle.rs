//! Brute force over every span that was delivered.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use query::{Order, TraceSearch, Window};
use trace_model::{SpanId, StatusCode, TraceId, UnixNanos};

use super::spans::Span;

/// Every distinct span by its trace, and what was known of those that are not stored any more.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) traces: BTreeMap<TraceId, Vec<Span>>,
    /// Spans that are gone and that the stored analysis of their trace was made with.
    pub(crate) outlived: BTreeMap<TraceId, Vec<Span>>,
    /// Spans that are gone and in percentiles.
    pub(crate) gone: Vec<Span>,
    /// Traces whose analysis is gone and in bottlenecks: the spans that it was made with.
    pub(crate) rolled: Vec<(TraceId, Vec<Span>)>,
}

pub(crate) type Place = (Reverse<u64>, UnixNanos, TraceId);

/// Start and duration of a trace.
pub(crate) fn extent(spans: &[Span]) -> (UnixNanos, u64) {
    let start = spans.iter().map(|span| span.start).min().unwrap();
    let end = spans.iter().map(|span| span.end.max(span.start)).max().unwrap();
    (start, end.0 - start.0)
}

fn within(value: u64, min: Option<u64>, max: Option<u64>) -> bool {
    min.is_none_or(|min| value >= min) && max.is_none_or(|max| value <= max)
}

fn rank(order: Order, duration: u64, start: UnixNanos) -> Reverse<u64> {
    Reverse(if order == Order::Slowest { duration } else { start.0 })
}

pub(crate) fn span_fits(search: &TraceSearch, span: &Span) -> bool {
    search.service.as_deref().is_none_or(|service| service == span.service)
        && search.operation.as_deref().is_none_or(|name| name == span.name)
        && search.kind.is_none_or(|kind| kind == span.kind)
        && search.status.is_none_or(|status| status == span.status)
        && within(span.duration(), search.min_duration.map(|d| d.0), search.max_duration.map(|d| d.0))
        && search.window.contains(span.start)
}

impl Oracle {
    /// Takes a span in, unless it had come before.
    pub(crate) fn add(&mut self, span: &Span) {
        let spans = self.traces.entry(span.trace_id).or_default();
        if spans.iter().all(|other| other.content() != span.content()) {
            spans.push(span.clone());
        }
    }

    pub(crate) fn spans(&self) -> impl Iterator<Item = &Span> {
        self.traces.values().flatten()
    }

    /// The spans that are stored, and those that are gone and in percentiles.
    pub(crate) fn ever(&self) -> impl Iterator<Item = &Span> {
        self.spans().chain(&self.gone)
    }

    /// What the analysis of each trace is of that is stored or in memory.
    pub(crate) fn analysed(&self) -> BTreeMap<TraceId, Vec<Span>> {
        let mut whole = self.outlived.clone();
        for (id, spans) in &self.traces {
            whole.entry(*id).or_default().extend(spans.iter().cloned());
        }
        whole
    }

    /// All traces that match, in order, each with the span by which it was found.
    pub(crate) fn search(&self, search: &TraceSearch) -> Vec<(Place, Option<SpanId>)> {
        let analysed = self.analysed();
        let found = analysed.iter().filter_map(|(id, whole)| {
            let spans = self.traces.get(id).map_or(&[][..], Vec::as_slice);
            // A search by span reads the spans of what it finds.
            let read = if search.has_span_filter() { spans } else { whole };
            if read.is_empty() {
                return None;
            }
            let (start, duration) = extent(read);
            let (min, max) = (search.min_trace_duration, search.max_trace_duration);
            if !within(duration, min.map(|d| d.0), max.map(|d| d.0)) {
                return None;
            }
            if search.has_span_filter() {
                let matching = spans.iter().filter(|span| span_fits(search, span));
                let best = matching.min_by_key(|span| {
                    (
                        rank(search.order, span.duration(), span.start),
                        span.start,
                        span.span_id,
                        span.content(),
                    )
                })?;
                let rank = rank(search.order, best.duration(), best.start);
                return Some(((rank, best.start, *id), Some(best.span_id)));
            }
            let fits = within(duration, search.min_duration.map(|d| d.0), search.max_duration.map(|d| d.0))
                && search.window.contains(start);
            fits.then(|| ((rank(search.order, duration, start), start, *id), None))
        });
        let mut found: Vec<_> = found.collect();
        found.sort_unstable();
        found
    }

    /// Name, spans, errors, first and last start of every service in the window.
    pub(crate) fn services(&self, window: Window) -> Vec<(String, u64, u64, UnixNanos, UnixNanos)> {
        let mut by_name: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
        for span in self.spans().filter(|span| window.contains(span.start)) {
            by_name.entry(span.service).or_default().push(span);
        }
        let rows = by_name.into_iter().map(|(name, spans)| {
            let starts = || spans.iter().map(|span| span.start);
            let errors = spans.iter().filter(|span| span.status == StatusCode::Error).count();
            (
                name.to_owned(),
                spans.len() as u64,
                errors as u64,
                starts().min().unwrap(),
                starts().max().unwrap(),
            )
        });
        rows.collect()
    }
}
