//! Which traces were open when an earlier process ended, and what is stored of them.
//!
//! Every cut names the open traces of which it has new spans, and says since when. A trace is still open if it
//! is named by a segment and no later segment has its analysis.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use segment::{ChunkBlock, ReadError, TraceHeads, open_numbers};
use span_store::SegmentId;
use trace_model::{TraceId, UnixNanos};

use crate::engine::QueryError;
use crate::fetch;
use crate::gather::{Gathering, Nodes};
use crate::sealed::SealedSegment;
use crate::state::State;
use crate::view::View;

/// Takes a trace, when the segment that names it began to take arrivals, and the trace's stored spans or sums over
/// them.
type Each<'a> = &'a mut dyn FnMut(TraceId, UnixNanos, Nodes);

/// Spans that may be taken back.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Of all traces.
    pub spans: usize,
    /// Of one.
    pub of_trace: usize,
}

/// Tells `each` the traces that were open at the last cut. Returns how many there were.
///
/// # Errors
/// If the store fails. Traces told until then are right.
pub fn open_at_end(state: &State, room: Room, each: Each<'_>) -> Result<usize, QueryError> {
    let view = state.snapshot();
    let open = named(state, &view)?;
    let mut left = room.spans;
    let mut spans: HashMap<TraceId, Gathering> = HashMap::with_capacity(open.len());
    for (segment, mut ids) in by_segment(&view, &open)? {
        let Some(segment) = view.sealed.iter().find(|sealed| sealed.id == segment) else { continue };
        // In the order of the blocks, so that each is inflated once.
        ids.sort_unstable();
        for id in ids {
            let of_trace = spans.entry(id).or_insert_with(|| Gathering::new(room.of_trace, None));
            left += of_trace.kept();
            fetch::sealed_spans(state, segment, id, &mut |span| {
                of_trace.add(&span.node);
                if of_trace.kept() > left {
                    of_trace.sum_up();
                }
            })?;
            left -= of_trace.kept();
        }
    }
    let count = open.len();
    // The oldest last: the assembler looks there for how far back the next start must look.
    let mut open: Vec<_> = open.into_iter().collect();
    open.sort_unstable_by_key(|&(id, listed)| std::cmp::Reverse((listed, id)));
    for (id, listed) in open {
        let nodes = spans.remove(&id).map_or(Nodes::All(Vec::new()), |gathered| gathered.done().0);
        each(id, listed, nodes);
    }
    Ok(count)
}

/// Open traces, and when the segment that names them began to take arrivals.
fn named(state: &State, view: &View) -> Result<HashMap<TraceId, UnixNanos>, ReadError> {
    let mut open = HashMap::new();
    let order = |segment: &Arc<SealedSegment>| (segment.meta.arrival_max, segment.id);
    let Some(last) = view.sealed.iter().max_by_key(|segment| order(segment)) else { return Ok(open) };
    let since = last.meta.open_since;
    if since == 0 {
        return Ok(open);
    }
    let mut segments: Vec<_> =
        view.sealed.iter().filter(|segment| segment.meta.arrival_max >= since).collect();
    segments.sort_unstable_by_key(|segment| std::cmp::Reverse(order(segment)));
    let mut analysed: HashSet<TraceId> = HashSet::new();
    for segment in segments {
        for id in state.readable(segment, open_ids(segment))?.into_iter().flatten() {
            if !analysed.contains(&id) {
                open.entry(id).or_insert(UnixNanos(segment.meta.arrival_min));
            }
        }
        let detail = state.blocks.detail(segment, &state.names);
        let Some(detail) = state.readable(segment, detail)? else { continue };
        for number in 0..detail.meta.trace_blocks.len() as u32 {
            let heads = TraceHeads::read_without_services(&segment.handle, number);
            let heads = state.readable(segment, heads)?;
            analysed.extend(heads.iter().flat_map(|heads| &heads.rows).map(|row| row.trace_id));
        }
    }
    Ok(open)
}

/// The traces that a segment names as open at its cut.
pub(crate) fn open_ids(segment: &SealedSegment) -> Result<Vec<TraceId>, ReadError> {
    let numbers = open_numbers(&segment.handle)?;
    let firsts = &segment.chunks.numbers;
    let mut ids = Vec::with_capacity(numbers.len());
    let mut wanted = numbers.into_iter().peekable();
    for (block, &first) in firsts.iter().enumerate() {
        let end = firsts.get(block + 1).copied().unwrap_or(u32::MAX);
        if wanted.peek().is_none_or(|&number| number >= end) {
            continue;
        }
        let here = ChunkBlock::read(&segment.handle, block as u32)?.trace_ids()?;
        while let Some(number) = wanted.next_if(|&number| number < end) {
            ids.extend(number.checked_sub(first).and_then(|nth| here.get(nth as usize)));
        }
    }
    Ok(ids)
}

fn by_segment(
    view: &View,
    open: &HashMap<TraceId, UnixNanos>,
) -> Result<HashMap<SegmentId, Vec<TraceId>>, ReadError> {
    let mut ids: HashMap<SegmentId, Vec<TraceId>> = HashMap::new();
    for id in open.keys() {
        for segment in view.segments_of(id)? {
            ids.entry(segment.id).or_default().push(*id);
        }
    }
    Ok(ids)
}
