//! Search without a span-level filter: durations and order speak of the trace.

use std::collections::BinaryHeap;

use hashbrown::HashSet;
use segment::{TraceHeads, TraceRow};
use trace_assemble::Phase;
use trace_model::{TraceId, UnixNanos};

use crate::analysis::analyse;
use crate::answer::*;
use crate::engine::QueryError;
use crate::request::*;
use crate::search::{Place, globalize, hit, rank_of, trace_fits};
use crate::state::State;

pub(crate) fn run(state: &State, search: &TraceSearch) -> Result<TraceSearchAnswer, QueryError> {
    let mut scanned = Scanned::default();
    let mut found: Vec<(Place, TraceRow, TraceState)> = Vec::new();
    let held = held_traces(state, search, &mut found, &mut scanned);
    sealed_traces(state, search, &held, &mut found, &mut scanned)?;
    found.sort_unstable_by_key(|(place, ..)| place.sort_key());
    let more = found.len() > search.limit;
    found.truncate(search.limit);
    let next = if more { found.last().map(|(place, ..)| place.cursor()) } else { None };
    Ok(TraceSearchAnswer {
        traces: found.iter().map(|(_, row, phase)| hit(state, row, *phase, None)).collect(),
        next,
        incomplete: Vec::new(),
        scanned,
    })
}

fn accept(search: &TraceSearch, row: &TraceRow) -> Option<Place> {
    let fits = search.window.contains(row.start)
        && search.min_duration.is_none_or(|min| row.duration >= min)
        && search.max_duration.is_none_or(|max| row.duration <= max)
        && trace_fits(search, row);
    let place = Place {
        rank: rank_of(search.order, row.duration.0, row.start),
        start: row.start,
        trace_id: row.trace_id,
    };
    (fits && place.is_after(search.cursor.as_ref())).then_some(place)
}

/// Traces in the assembly are known best there; whatever segments say of them is older.
fn held_traces(
    state: &State,
    search: &TraceSearch,
    found: &mut Vec<(Place, TraceRow, TraceState)>,
    scanned: &mut Scanned,
) -> HashSet<TraceId> {
    let assembly = state.assembly.lock();
    let mut held = HashSet::new();
    for (id, trace) in assembly.assembler.iter() {
        held.insert(*id);
        scanned.rows += 1;
        let row = match assembly.analysed.get(id) {
            Some(row) if trace.phase() == Phase::Finished => (**row).clone(),
            _ => {
                if !could_fit(search, trace) {
                    continue;
                }
                let Some(row) = analyse(*id, trace.nodes(), false) else { continue };
                row
            }
        };
        if let Some(place) = accept(search, &row) {
            let phase = if trace.phase() == Phase::Open { TraceState::Open } else { TraceState::Final };
            found.push((place, row, phase));
        }
    }
    held
}

/// A cheap look at the extent before the analysis of an open trace is made.
fn could_fit(search: &TraceSearch, trace: &trace_assemble::OpenTrace) -> bool {
    let (start, end) = trace.extent();
    let duration = end.since(start);
    search.window.contains(start)
        && search.min_duration.is_none_or(|min| duration >= min)
        && search.max_duration.is_none_or(|max| duration <= max)
}

fn sealed_traces(
    state: &State,
    search: &TraceSearch,
    held: &HashSet<TraceId>,
    found: &mut Vec<(Place, TraceRow, TraceState)>,
    scanned: &mut Scanned,
) -> Result<(), QueryError> {
    let view = state.snapshot();
    let min = search.min_duration.max(search.min_trace_duration).map_or(0, |min| min.0);
    // Best bound first, so that reading can stop; a segment's blocks are looked at when its turn comes.
    let mut next: BinaryHeap<(u64, usize, Option<u32>)> = BinaryHeap::new();
    for (at, segment) in view.sealed.iter().enumerate() {
        let traces = &segment.traces;
        if traces.overlaps(search.window) && traces.longest >= min {
            next.push((rank_of(search.order, traces.longest, UnixNanos(traces.start_max)), at, None));
        }
    }
    let mut opened = HashSet::new();
    while let Some((bound, at, number)) = next.pop() {
        if enough(found, search.limit, bound) {
            break;
        }
        let segment = &view.sealed[at];
        let detail = match state.blocks.detail(segment, &state.names) {
            Ok(detail) => detail,
            Err(_) if segment.handle.is_dropped() => continue,
            Err(error) => return Err(error.into()),
        };
        let Some(number) = number else {
            let blocks = detail.meta.trace_blocks.iter().enumerate().filter(|(_, block)| {
                let in_window =
                    block.start_min < search.window.end.0 && block.start_max >= search.window.start.0;
                in_window && block.duration_max >= min
            });
            next.extend(blocks.map(|(number, block)| {
                (
                    rank_of(search.order, block.duration_max, UnixNanos(block.start_max)),
                    at,
                    Some(number as u32),
                )
            }));
            continue;
        };
        opened.insert(at);
        scanned.blocks += 1;
        let heads = match TraceHeads::read(&segment.handle, number) {
            Ok(heads) => heads,
            Err(_) if segment.handle.is_dropped() => continue,
            Err(error) => return Err(error.into()),
        };
        for mut row in heads.rows {
            scanned.rows += 1;
            if held.contains(&row.trace_id) || view.is_replaced(&row.trace_id, segment.id) {
                continue;
            }
            if let Some(place) = accept(search, &row) {
                globalize(&mut row, segment, &detail);
                found.push((place, row, TraceState::Final));
            }
        }
        prune(found, search.limit);
    }
    scanned.segments = opened.len() as u64;
    Ok(())
}

/// Whether no block with this bound can change the first `limit + 1` places.
fn enough(found: &[(Place, TraceRow, TraceState)], limit: usize, bound: u64) -> bool {
    found.iter().filter(|(place, ..)| place.rank > bound).count() > limit
}

/// Keeps memory to what the answer can need.
fn prune(found: &mut Vec<(Place, TraceRow, TraceState)>, limit: usize) {
    if found.len() > 4 * (limit + 1) {
        found.sort_unstable_by_key(|(place, ..)| place.sort_key());
        found.truncate(limit + 1);
    }
}
