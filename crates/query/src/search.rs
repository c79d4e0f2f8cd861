//! Search: by span where a span-level filter is given, else by trace.

use std::cmp::Reverse;

use segment::TraceRow;
use trace_model::{NanoDuration, TraceId, UnixNanos};

use crate::answer::*;
use crate::damage::Reader;
use crate::engine::{QueryError, operation_name};
use crate::reach::Asked;
use crate::request::*;
use crate::sealed::{Detail, SealedSegment};
use crate::state::State;
use crate::{span_search, trace_search};

pub(crate) fn run(state: &Reader<'_>, search: &TraceSearch) -> Result<TraceSearchAnswer, QueryError> {
    if search.has_span_filter() { span_search::run(state, search) } else { trace_search::run(state, search) }
}

/// What the answer is about: spans and all of their traces, or traces as they were analysed.
pub(crate) fn asked(search: &TraceSearch) -> Asked {
    if search.has_span_filter() { Asked::Spans(search.window) } else { Asked::Traces(search.window) }
}

/// A place in the order of an answer: greater ranks come first, then earlier starts, then smaller ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) rank: u64,
    pub(crate) start: UnixNanos,
    pub(crate) trace_id: TraceId,
}

impl Place {
    pub(crate) fn sort_key(&self) -> (Reverse<u64>, UnixNanos, TraceId) {
        (Reverse(self.rank), self.start, self.trace_id)
    }

    /// Whether it comes after everything that was given out.
    pub(crate) fn is_after(&self, cursor: Option<&Cursor>) -> bool {
        cursor.is_none_or(|last| self.sort_key() > (Reverse(last.rank), last.start, last.trace_id))
    }

    pub(crate) fn cursor(&self) -> Cursor {
        Cursor { rank: self.rank, start: self.start, trace_id: self.trace_id }
    }
}

/// The best place that something unread can hold: of no greater rank, and with that rank no earlier. Greater is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bound {
    rank: u64,
    start: Reverse<UnixNanos>,
}

impl Bound {
    /// Of what takes `longest` nanoseconds at most and starts within these two.
    pub(crate) fn new(order: Order, longest: u64, start_min: u64, start_max: u64) -> Self {
        Self { rank: rank_of(order, longest, UnixNanos(start_max)), start: Reverse(UnixNanos(start_min)) }
    }

    /// Of what is at this place.
    pub(crate) fn at(rank: u64, start: UnixNanos) -> Self {
        Self { rank, start: Reverse(start) }
    }

    /// Whether nothing within the bound comes before this place, or beside it.
    pub(crate) fn is_after(self, rank: u64, start: UnixNanos) -> bool {
        (rank, Reverse(start)) > (self.rank, self.start)
    }
}

pub(crate) fn rank_of(order: Order, duration: u64, start: UnixNanos) -> u64 {
    match order {
        Order::Slowest => duration,
        Order::Newest => start.0,
    }
}

/// Whether the trace itself is what was asked for.
pub(crate) fn trace_fits(search: &TraceSearch, duration: NanoDuration) -> bool {
    search.min_trace_duration.is_none_or(|min| duration >= min)
        && search.max_trace_duration.is_none_or(|max| duration <= max)
}

/// What a search shows of a trace. Ids in `row` are process-wide.
pub(crate) fn hit(
    state: &State,
    row: &TraceRow,
    trace_state: TraceState,
    matched: Option<MatchedSpan>,
) -> TraceHit {
    use segment::Names;
    let mut services: Vec<TraceService> = row
        .services
        .iter()
        .map(|count| TraceService {
            name: state.names.service(count.service),
            spans: u64::from(count.spans),
            errors: u64::from(count.errors),
        })
        .collect();
    services.sort_by(|a, b| b.spans.cmp(&a.spans).then_with(|| a.name.cmp(&b.name)));
    TraceHit {
        trace_id: row.trace_id,
        root: row.root.map(|root| operation_name(state, root)),
        start: row.start,
        duration: row.duration,
        spans: u64::from(row.spans),
        errors: u64::from(row.errors),
        services,
        matched,
        state: trace_state,
        missing_parents: u64::from(row.missing_parents),
    }
}

/// Rewrites a segment's own numbers into process-wide ones.
pub(crate) fn globalize(row: &mut TraceRow, segment: &SealedSegment, detail: &Detail) {
    row.root = row.root.map(|root| detail.operation(root.0));
    for count in &mut row.services {
        count.service = segment.service(count.service.0);
    }
}

/// Process-wide numbers for a stored share.
pub(crate) fn globalize_share(
    share: &mut trace_analyze::PathShare,
    segment: &SealedSegment,
    detail: &Detail,
) {
    let local = share.operation.0;
    share.operation = detail.operation(local);
    // As the segment has it: the table of names would be asked once a share, under its lock.
    share.service = segment.service(detail.service_of(local));
    share.edge = share.edge.map(|(client, server)| (segment.service(client.0), segment.service(server.0)));
}
