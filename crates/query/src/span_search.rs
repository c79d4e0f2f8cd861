//! Search with a span-level filter: durations and order speak of the matching span, and each trace appears
//! once, by its best one.
//!
//! Row blocks are read in the order of the best row that they can hold; rows are sorted within them, so
//! reading stops as soon as no unread block can change the answer. Every candidate's trace is fetched whole
//! before it is returned: that verifies the row and tells whether another span of the trace ranks before it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use segment::{LiveBatch, RowBlock};
use trace_model::{NanoDuration, OperationId, ServiceId, SpanNode, StatusCode, TraceId, UnixNanos};

use crate::analysis::{analyse, summary};
use crate::answer::*;
use crate::damage::Reader;
use crate::engine::{QueryError, operation_name};
use crate::fetch;
use crate::gather::{Gathering, Nodes};
use crate::request::*;
use crate::sealed::Detail;
use crate::search::{Bound, Place, hit, rank_of, trace_fits};
use crate::state::State;
use crate::view::View;

/// Candidates that one search fetches at most; beyond it the answer says that it is not complete.
const FETCHES_MAX: usize = 20_000;

/// Matching rows of a block that are looked at together where the slowest come first; the rest wait for their turn, which
/// seldom comes.
const ROWS_AT_ONCE: usize = 64;

/// The span-level filter, names resolved.
struct SpanFilter<'a> {
    search: &'a TraceSearch,
    service: Option<ServiceId>,
    operations: HashMap<OperationId, bool>,
}

impl SpanFilter<'_> {
    fn fits(&self, kind_fits: bool, status: StatusCode, duration: NanoDuration) -> bool {
        let search = self.search;
        kind_fits
            && search.status.is_none_or(|wanted| wanted == status)
            && search.min_duration.is_none_or(|min| duration >= min)
            && search.max_duration.is_none_or(|max| duration <= max)
    }

    /// Whether service, span name and kind of an operation are what was asked for.
    fn operation_fits(&mut self, state: &State, id: OperationId) -> bool {
        if let Some(&fits) = self.operations.get(&id) {
            return fits;
        }
        let name = segment::Names::operation(&*state.names, id);
        let fits = self.service.is_none_or(|wanted| wanted == name.service)
            && self.search.kind.is_none_or(|wanted| wanted == name.kind)
            && self.search.operation.as_deref().is_none_or(|wanted| wanted == &*name.name);
        self.operations.insert(id, fits);
        fits
    }

    fn node_fits(&mut self, state: &State, node: &SpanNode) -> bool {
        let kind_fits = self.operation_fits(state, node.operation);
        self.search.window.contains(node.start) && self.fits(kind_fits, node.status, node.duration())
    }
}

/// Where a candidate's trace id is to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Source {
    Live(TraceId),
    Sealed { segment: usize, trace: u32 },
}

/// What to read next: the best that it can hold, the segment, and which block of it, from which row on; no block
/// stands for the segment itself, whose blocks have not been looked at.
type Next = (Bound, usize, Option<(u32, usize)>);

/// A trace that may be in the answer, no earlier than at this place: a row does not tell exactly when its span started.
/// Greater comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u64,
    start: Reverse<UnixNanos>,
    source: Source,
}

/// The best candidate of each source trace, the best of all first.
#[derive(Default)]
struct Candidates {
    best: HashMap<Source, Candidate>,
    /// Also those that a better one of their source has replaced.
    queue: BinaryHeap<Candidate>,
}

impl Candidates {
    fn add(&mut self, candidate: Candidate) {
        let best = self.best.get(&candidate.source);
        if best.is_none_or(|best| candidate > *best) {
            self.best.insert(candidate.source, candidate);
            self.queue.push(candidate);
        }
    }

    /// Takes those out that come before everything unread, in order.
    fn settled(&mut self, bound: Option<Bound>) -> Vec<Candidate> {
        let mut settled = Vec::new();
        while let Some(&first) = self.queue.peek() {
            if bound.is_some_and(|bound| !bound.is_after(first.rank, first.start.0)) {
                break;
            }
            self.queue.pop();
            if self.best.get(&first.source) == Some(&first) {
                self.best.remove(&first.source);
                settled.push(first);
            }
        }
        settled
    }
}

pub(crate) fn run(state: &Reader<'_>, search: &TraceSearch) -> Result<TraceSearchAnswer, QueryError> {
    let empty = TraceSearchAnswer {
        traces: Vec::new(),
        next: None,
        incomplete: Vec::new(),
        scanned: Scanned::default(),
    };
    let service = match &search.service {
        None => None,
        Some(name) => match state.names.find_service(name) {
            Some(id) => Some(id),
            None => return Ok(empty),
        },
    };
    let filter = SpanFilter { search, service, operations: HashMap::new() };
    Run { state, view: state.snapshot(), filter, candidates: Candidates::default(), answer: empty }.run()
}

struct Run<'a> {
    state: &'a Reader<'a>,
    view: View,
    filter: SpanFilter<'a>,
    candidates: Candidates,
    answer: TraceSearchAnswer,
}

impl Run<'_> {
    fn run(mut self) -> Result<TraceSearchAnswer, QueryError> {
        self.live_candidates();
        let mut next = self.segments();
        let mut opened = HashSet::new();
        let mut given: HashSet<TraceId> = HashSet::new();
        let mut fetches = 0;
        loop {
            // Everything above the bound is known: these are next, in order.
            let unread = next.peek().map(|&(bound, ..)| bound);
            let settled = self.candidates.settled(unread);
            if self.settle(&settled, unread, &mut given, &mut fetches)? {
                break;
            }
            match next.pop() {
                Some((_, segment, Some((number, row)))) => {
                    opened.insert(segment);
                    next.extend(self.read_block(segment, number, row)?);
                }
                Some((_, segment, None)) => self.add_blocks(segment, &mut next)?,
                None => break,
            }
        }
        self.answer.scanned.segments = opened.len() as u64;
        self.answer.traces.sort_by_key(|hit| place_of(self.filter.search, hit).sort_key());
        if self.answer.traces.len() > self.filter.search.limit {
            self.answer.traces.truncate(self.filter.search.limit);
            self.answer.next =
                self.answer.traces.last().map(|hit| place_of(self.filter.search, hit).cursor());
        }
        Ok(self.answer)
    }

    /// Fetches settled candidates in order; true when there is one more than was asked for, and nothing is left that could
    /// come before the last of those that were.
    fn settle(
        &mut self,
        settled: &[Candidate],
        unread: Option<Bound>,
        given: &mut HashSet<TraceId>,
        fetches: &mut usize,
    ) -> Result<bool, QueryError> {
        for candidate in settled {
            if self.is_complete(Bound::at(candidate.rank, candidate.start.0)) {
                return Ok(true);
            }
            if *fetches >= FETCHES_MAX {
                self.answer.incomplete.push(Incomplete {
                    reason: "candidates_limit",
                    detail: format!("stopped after {FETCHES_MAX} candidate traces; narrow the search"),
                });
                return Ok(true);
            }
            let Some(id) = self.trace_id(candidate.source)? else { continue };
            if given.insert(id) {
                *fetches += 1;
                let found = self.fetch(id)?;
                self.answer.traces.extend(found);
            }
        }
        Ok(unread.is_some_and(|unread| self.is_complete(unread)))
    }

    /// Whether nothing within the bound, which is all that is to come, belongs among those that were asked for.
    fn is_complete(&self, to_come: Bound) -> bool {
        let search = self.filter.search;
        if self.answer.traces.len() <= search.limit {
            return false;
        }
        let mut places: Vec<Place> = self.answer.traces.iter().map(|hit| place_of(search, hit)).collect();
        let last = search.limit.saturating_sub(1);
        let (_, last, _) = places.select_nth_unstable_by_key(last, Place::sort_key);
        to_come.is_after(last.rank, last.start)
    }

    fn trace_id(&mut self, source: Source) -> Result<Option<TraceId>, QueryError> {
        match source {
            Source::Live(id) => Ok(Some(id)),
            Source::Sealed { segment, trace } => {
                let segment = &self.view.sealed[segment];
                self.answer.scanned.blocks += 1;
                let id = fetch::trace_id(self.state, segment, trace);
                Ok(self.state.readable(segment, id)?)
            }
        }
    }

    /// The trace with its best matching span, if that comes after the cursor.
    fn fetch(&mut self, id: TraceId) -> Result<Option<TraceHit>, QueryError> {
        let search = self.filter.search;
        let mut best: Option<(SpanNode, Place)> = None;
        let (state, filter) = (self.state, &mut self.filter);
        let mut nodes = Gathering::new(state.trace_spans_max, Some(&state.large));
        let found = fetch::each_span(state, id, &mut |span| {
            let node = span.node;
            let place = Place {
                rank: rank_of(search.order, node.duration().0, node.start),
                start: node.start,
                trace_id: id,
            };
            let better = best.is_none_or(|(other, at)| {
                (place.sort_key(), node.span_id, node.content) < (at.sort_key(), other.span_id, other.content)
            });
            if better && filter.node_fits(state, &node) {
                best = Some((node, place));
            }
            nodes.add(&node);
        })?;
        let (Some(trace_state), Some((node, place))) = (found.state, best) else { return Ok(None) };
        if !place.is_after(search.cursor.as_ref()) {
            return Ok(None);
        }
        let (nodes, _pass) = nodes.done();
        let row = match nodes {
            Nodes::All(nodes) => analyse(id, nodes, false),
            Nodes::Sums(totals) => Some(summary(id, &totals, false)),
        };
        let Some(row) = row else { return Ok(None) };
        let matched = MatchedSpan {
            span_id: node.span_id,
            operation: operation_name(self.state, node.operation),
            status: node.status,
            start: node.start,
            duration: node.duration(),
        };
        Ok(trace_fits(search, row.duration).then(|| hit(self.state, &row, trace_state, Some(matched))))
    }

    /// Takes in a match that started between these two.
    fn consider(
        &mut self,
        source: Source,
        duration: NanoDuration,
        (earliest, latest): (UnixNanos, UnixNanos),
    ) {
        let search = self.filter.search;
        let (best, worst) = match search.order {
            Order::Slowest => (earliest, latest),
            Order::Newest => (latest, earliest),
        };
        let place = |start| (rank_of(search.order, duration.0, start), Reverse(start));
        // What comes before the cursor was given out, or is the lesser span of a trace that was.
        if search.cursor.is_none_or(|last| place(worst) <= (last.rank, Reverse(last.start))) {
            let (rank, start) = place(best);
            self.candidates.add(Candidate { rank, start, source });
        }
    }

    fn live_candidates(&mut self) {
        let live: Vec<Arc<LiveBatch>> = std::mem::take(&mut self.view.live);
        self.view.let_go_of_live();
        for batch in &live {
            self.answer.scanned.rows += batch.rows.len() as u64;
            for row in &batch.rows {
                if self.filter.node_fits(self.state, &row.node) {
                    let start = row.node.start;
                    self.consider(Source::Live(row.trace_id), row.node.duration(), (start, start));
                }
            }
        }
    }

    /// The segments that may hold a match, by the best row that they can hold.
    fn segments(&self) -> BinaryHeap<Next> {
        let search = self.filter.search;
        let min = search.min_duration.map_or(0, |min| min.0);
        let mut next = BinaryHeap::new();
        for (at, segment) in self.view.sealed.iter().enumerate() {
            let Some(longest) = segment.longest_of(self.filter.service) else { continue };
            if segment.has_spans_in(search.window) && longest >= min {
                let (start_min, start_max) = (segment.meta.start_min, segment.meta.start_max);
                next.push((Bound::new(search.order, longest, start_min, start_max), at, None));
            }
        }
        next
    }

    /// Adds the blocks of a segment that may hold a match.
    fn add_blocks(&mut self, at: usize, next: &mut BinaryHeap<Next>) -> Result<(), QueryError> {
        let Some(detail) = self.detail(at)? else { return Ok(()) };
        let search = self.filter.search;
        let min = search.min_duration.map_or(0, |min| min.0);
        let longest = self.longest_by_service(&detail);
        for (number, block) in detail.meta.row_blocks.iter().enumerate() {
            let Some(Some(longest)) = longest.get(block.service as usize) else { continue };
            let in_window = block.start_min < search.window.end.0 && block.start_max >= search.window.start.0;
            let best = block.duration_max.min(*longest);
            let past_max = search.max_duration.is_some_and(|max| block.duration_min > max.0);
            if in_window && best >= min && !past_max {
                let bound = Bound::new(search.order, best, block.start_min, block.start_max);
                next.push((bound, at, Some((number as u32, 0))));
            }
        }
        Ok(())
    }

    /// `None` if the segment was dropped meanwhile or is damaged.
    fn detail(&self, at: usize) -> Result<Option<Arc<Detail>>, QueryError> {
        let segment = &self.view.sealed[at];
        let detail = self.state.blocks.detail(segment, &self.state.names);
        Ok(self.state.readable(segment, detail)?)
    }

    /// The longest span that can match, by the segment's services; `None` where no operation can.
    fn longest_by_service(&mut self, detail: &Detail) -> Vec<Option<u64>> {
        let mut longest = vec![None; detail.meta.service_totals.len()];
        for (at, operation) in detail.meta.operations.iter().enumerate() {
            if operation.spans > 0
                && self.filter.operation_fits(self.state, detail.operation(at as u32))
                && let Some(most) = longest.get_mut(operation.service as usize)
            {
                *most = (*most).max(Some(operation.duration_max));
            }
        }
        longest
    }

    /// Considers the rows of a block from one on; what is left of it, if its turn is yet to come.
    fn read_block(&mut self, at: usize, number: u32, from: usize) -> Result<Option<Next>, QueryError> {
        let Some(detail) = self.detail(at)? else { return Ok(None) };
        let segment = Arc::clone(&self.view.sealed[at]);
        let block = RowBlock::read(&segment.handle, number);
        let Some(block) = self.state.readable(&segment, block)? else { return Ok(None) };
        self.answer.scanned.blocks += 1;
        let fits: Vec<bool> =
            detail.operations.iter().map(|id| self.filter.operation_fits(self.state, *id)).collect();
        let (order, window) = (self.filter.search.order, self.filter.search.window);
        let mut matches = 0;
        for row in from..block.len() {
            let (duration, starts) = (block.durations[row], block.start_between(row));
            if order == Order::Slowest && matches >= ROWS_AT_ONCE {
                let as_slow = (row..block.len()).take_while(|at| block.durations[*at] == duration);
                let earliest = as_slow.map(|at| block.start_between(at).0.0).min().unwrap_or(0);
                let bound = Bound::new(order, duration.0, earliest, starts.1.0);
                return Ok(Some((bound, at, Some((number, row)))));
            }
            self.answer.scanned.rows += 1;
            let kind_fits = fits.get(block.operations[row] as usize).copied().unwrap_or(false);
            let may_be_in = window.start <= starts.1 && starts.0 < window.end;
            if may_be_in && self.filter.fits(kind_fits, block.status(row), duration) {
                matches += 1;
                self.consider(Source::Sealed { segment: at, trace: block.traces[row] }, duration, starts);
            }
        }
        Ok(None)
    }
}

fn place_of(search: &TraceSearch, hit: &TraceHit) -> Place {
    let (duration, start) =
        hit.matched.as_ref().map_or((hit.duration, hit.start), |matched| (matched.duration, matched.start));
    Place { rank: rank_of(search.order, duration.0, start), start, trace_id: hit.trace_id }
}
