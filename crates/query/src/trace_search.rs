//! Search without a span-level filter: durations and order speak of the trace.

use std::collections::BinaryHeap;
use std::sync::Arc;

use hashbrown::HashSet;
use segment::{TraceHeads, TraceRow};
use trace_assemble::{OpenTrace, Phase, Totals};
use trace_model::{NanoDuration, SpanNode, TraceId, UnixNanos};

use crate::analysis::{analyse, summary};
use crate::answer::*;
use crate::damage::Reader;
use crate::engine::QueryError;
use crate::fetch::nodes_of;
use crate::gather::Nodes;
use crate::request::*;
use crate::search::{Bound, Place, globalize, hit, rank_of, trace_fits};
use crate::state::State;
use crate::view::View;

/// A trace that may be in the answer.
#[derive(Debug)]
struct Found {
    place: Place,
    state: TraceState,
    row: Row,
}

#[derive(Debug)]
enum Row {
    /// Out of a segment.
    Sealed(Box<TraceRow>),
    /// Finished and not sealed.
    Finished(Arc<TraceRow>),
    /// Open: it is analysed only if it is in the answer.
    Open,
}

pub(crate) fn run(state: &Reader<'_>, search: &TraceSearch) -> Result<TraceSearchAnswer, QueryError> {
    let mut scanned = Scanned::default();
    let mut found: Vec<Found> = Vec::new();
    let (view, replaced) = held_traces(state, search, &mut found, &mut scanned);
    sealed_traces(state, search, (&view, &replaced), &mut found, &mut scanned)?;
    found.sort_unstable_by_key(|found| found.place.sort_key());
    let more = found.len() > search.limit;
    found.truncate(search.limit);
    let next = if more { found.last().map(|found| found.place.cursor()) } else { None };
    let mut traces = Vec::with_capacity(found.len());
    for Found { place, state: phase, row } in found {
        match row {
            Row::Sealed(row) => traces.push(hit(state, &row, phase, None)),
            Row::Finished(row) => traces.push(hit(state, &row, phase, None)),
            Row::Open => traces.extend(open_trace(state, place.trace_id)?),
        }
    }
    Ok(TraceSearchAnswer { traces, next, incomplete: Vec::new(), scanned })
}

/// An open trace as it is now: its spans are copied out, and looked at without the assembly's lock.
fn open_trace(state: &Reader<'_>, id: TraceId) -> Result<Option<TraceHit>, QueryError> {
    let (now, phase) = {
        let assembly = state.assembly.lock();
        let trace = assembly.assembler.get(&id);
        let finished = assembly.analysed.get(&id).filter(|_| trace.is_some_and(is_finished));
        let is_open = trace.is_some_and(|trace| !is_finished(trace));
        let now = match (finished, trace) {
            (Some(row), _) => Now::Row(Arc::clone(row)),
            (None, Some(trace)) if trace.is_partly_held() => Now::Totals(trace.totals()),
            (None, Some(trace)) => Now::Nodes(trace.nodes()),
            (None, None) => Now::Gone,
        };
        (now, if is_open { TraceState::Open } else { TraceState::Final })
    };
    let nodes = match now {
        Now::Row(row) => return Ok(Some(hit(state, &row, phase, None))),
        Now::Totals(totals) => return Ok(Some(hit(state, &summary(id, &totals, false), phase, None))),
        Now::Nodes(nodes) => nodes,
        // It was sealed in between.
        Now::Gone => match nodes_of(state, id, state.trace_spans_max)?.nodes {
            Nodes::All(nodes) => nodes,
            Nodes::Sums(totals) => return Ok(Some(hit(state, &summary(id, &totals, false), phase, None))),
        },
    };
    Ok(analyse(id, nodes, false).map(|row| hit(state, &row, phase, None)))
}

/// What is known of an open trace at a moment.
enum Now {
    Row(Arc<TraceRow>),
    Totals(Totals),
    Nodes(Vec<SpanNode>),
    Gone,
}

fn is_finished(trace: &OpenTrace) -> bool {
    trace.phase() == Phase::Finished
}

fn accept(search: &TraceSearch, row: &TraceRow) -> Option<Place> {
    accept_extent(search, row.trace_id, row.start, row.duration)
}

/// All that is asked of a trace is its extent.
fn accept_extent(
    search: &TraceSearch,
    trace_id: TraceId,
    start: UnixNanos,
    duration: NanoDuration,
) -> Option<Place> {
    let fits = search.window.contains(start)
        && search.min_duration.is_none_or(|min| duration >= min)
        && search.max_duration.is_none_or(|max| duration <= max)
        && trace_fits(search, duration);
    let place = Place { rank: rank_of(search.order, duration.0, start), start, trace_id };
    (fits && place.is_after(search.cursor.as_ref())).then_some(place)
}

/// Traces in the assembly are known best there; whatever segments say of them is older. Under the lock only their
/// extents are looked at.
///
/// Also what is stored at this moment, and the traces of which that may have an older analysis. Open traces that were never
/// analysed, as far as memory knows, are not among these, and most are of that kind: so the view is taken before the lock is
/// let go, because afterwards they may be analysed and sealed as well.
fn held_traces(
    state: &State,
    search: &TraceSearch,
    found: &mut Vec<Found>,
    scanned: &mut Scanned,
) -> (View, HashSet<TraceId>) {
    let mut replaced = Vec::new();
    let assembly = state.assembly.lock();
    for (id, trace) in assembly.assembler.iter() {
        scanned.rows += 1;
        if is_finished(trace) || trace.is_revised() {
            replaced.push(*id);
        }
        let analysed = assembly.analysed.get(id).filter(|_| is_finished(trace));
        let (start, duration) = match analysed {
            Some(row) => (row.start, row.duration),
            None => {
                let (start, end) = trace.extent();
                (start, end.since(start))
            }
        };
        let Some(place) = accept_extent(search, *id, start, duration) else { continue };
        let row = analysed.map_or(Row::Open, |row| Row::Finished(Arc::clone(row)));
        let state = if is_finished(trace) { TraceState::Final } else { TraceState::Open };
        found.push(Found { place, state, row });
        prune(found, search.limit);
    }
    let view = state.snapshot_of_stored();
    drop(assembly);
    (view, replaced.into_iter().collect())
}

fn sealed_traces(
    state: &Reader<'_>,
    search: &TraceSearch,
    (view, replaced): (&View, &HashSet<TraceId>),
    found: &mut Vec<Found>,
    scanned: &mut Scanned,
) -> Result<(), QueryError> {
    let min = search.min_duration.max(search.min_trace_duration).map_or(0, |min| min.0);
    // Best bound first, so that reading can stop; a segment's blocks are looked at when its turn comes.
    let mut next: BinaryHeap<(Bound, usize, Option<u32>)> = BinaryHeap::new();
    for (at, segment) in view.sealed.iter().enumerate() {
        let traces = &segment.traces;
        if traces.overlaps(search.window) && traces.longest >= min {
            let bound = Bound::new(search.order, traces.longest, traces.start_min, traces.start_max);
            next.push((bound, at, None));
        }
    }
    let mut opened = HashSet::new();
    while let Some((bound, at, number)) = next.pop() {
        if enough(found, search.limit, bound) {
            break;
        }
        let segment = &view.sealed[at];
        let detail = state.blocks.detail(segment, &state.names);
        let Some(detail) = state.readable(segment, detail)? else { continue };
        let Some(number) = number else {
            let blocks = detail.meta.trace_blocks.iter().enumerate().filter(|(_, block)| {
                let in_window =
                    block.start_min < search.window.end.0 && block.start_max >= search.window.start.0;
                in_window && block.duration_max >= min
            });
            next.extend(blocks.map(|(number, block)| {
                let (start_min, start_max) = (block.start_min, block.start_max);
                let bound = Bound::new(search.order, block.duration_max, start_min, start_max);
                (bound, at, Some(number as u32))
            }));
            continue;
        };
        opened.insert(at);
        scanned.blocks += 1;
        let heads = TraceHeads::read(&segment.handle, number);
        let Some(heads) = state.readable(segment, heads)? else { continue };
        for mut row in heads.rows {
            scanned.rows += 1;
            if replaced.contains(&row.trace_id) || view.is_replaced(&row.trace_id, segment.id)? {
                continue;
            }
            if let Some(place) = accept(search, &row) {
                globalize(&mut row, segment, &detail);
                found.push(Found { place, state: TraceState::Final, row: Row::Sealed(Box::new(row)) });
            }
        }
        prune(found, search.limit);
    }
    scanned.segments = opened.len() as u64;
    Ok(())
}

/// Whether no block with this bound can change the first `limit + 1` places.
fn enough(found: &[Found], limit: usize, bound: Bound) -> bool {
    found.iter().filter(|found| bound.is_after(found.place.rank, found.place.start)).count() > limit
}

/// Keeps memory to what the answer can need.
fn prune(found: &mut Vec<Found>, limit: usize) {
    if found.len() > 4 * (limit + 1) {
        found.sort_unstable_by_key(|found| found.place.sort_key());
        found.truncate(limit + 1);
    }
}

#[cfg(test)]
mod tests {
    use trace_assemble::{Assembler, Location, Options};
    use trace_model::{OperationId, ServiceId, SpanId, SpanKind, StatusCode};

    use super::*;
    use crate::names::NameTable;

    const SEARCH: TraceSearch = TraceSearch {
        service: None,
        operation: None,
        kind: None,
        status: None,
        min_duration: None,
        max_duration: None,
        min_trace_duration: None,
        max_trace_duration: None,
        window: Window::ALL,
        order: Order::Slowest,
        limit: 10,
        cursor: None,
    };

    fn node(content: u64) -> SpanNode {
        SpanNode {
            span_id: SpanId::new([1; 8]).unwrap(),
            parent: None,
            start: UnixNanos(1),
            end: UnixNanos(2),
            content,
            service: ServiceId(0),
            operation: OperationId(0),
            kind: SpanKind::Server,
            status: StatusCode::Unset,
        }
    }

    #[test]
    fn open_traces_that_were_never_analysed_are_not_copied() {
        let state = State::new(Arc::new(NameTable::default()), Assembler::new(Options::default()));
        let id = |n: u8| TraceId::new([n; 16]).unwrap();
        let observe = |n: u8, content, now| {
            let at = Location::Live { batch: 1, row: u32::from(n) };
            state.assembly.lock().assembler.observe(id(n), &node(content), at, UnixNanos(now));
        };
        let later = 1 << 50;
        (1..=2).for_each(|n| observe(n, 1, 1));
        assert_eq!(state.assembly.lock().assembler.poll(UnixNanos(later)).len(), 2);
        observe(2, 2, later);
        (3..=200).for_each(|n| observe(n, 1, later));
        let (mut found, mut scanned) = (Vec::new(), Scanned::default());
        let (_, replaced) = held_traces(&state, &SEARCH, &mut found, &mut scanned);
        assert_eq!(replaced, HashSet::from_iter([id(1), id(2)]), "finished, and open again");
        assert_eq!(scanned.rows, 200);
    }
}
