//! Search without a span-level filter: durations and order speak of the trace.

use hashbrown::HashSet;
use segment::{TraceHeads, TraceRow};
use trace_assemble::Phase;
use trace_model::TraceId;

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
    let mut blocks: Vec<(u64, usize, u32)> = Vec::new();
    for (at, segment) in view.sealed.iter().enumerate() {
        for (number, block) in segment.meta.trace_blocks.iter().enumerate() {
            let in_window = block.start_min < search.window.end.0 && block.start_max >= search.window.start.0;
            let min = search.min_duration.max(search.min_trace_duration).map_or(0, |min| min.0);
            if in_window && block.duration_max >= min {
                let bound =
                    rank_of(search.order, block.duration_max, trace_model::UnixNanos(block.start_max));
                blocks.push((bound, at, number as u32));
            }
        }
    }
    // Best bound first, so that reading can stop.
    blocks.sort_unstable_by_key(|&(bound, at, number)| (std::cmp::Reverse(bound), at, number));
    let mut opened = HashSet::new();
    for (bound, at, number) in blocks {
        if enough(found, search.limit, bound) {
            break;
        }
        let segment = &view.sealed[at];
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
                globalize(&mut row, segment);
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
