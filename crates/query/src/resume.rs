//! Which traces were open when an earlier process ended, and what is stored of them.
//!
//! Every cut names the open traces of which it has new spans, and says since when. A trace is still open if it
//! is named by a segment and no later segment has its analysis.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use segment::{ChunkBlock, ReadError, TraceHeads, open_numbers};
use span_store::SegmentId;
use trace_model::{TraceId, UnixNanos};

use crate::damage::Reader;
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

/// What was read of an open trace.
#[derive(Debug)]
struct Read {
    gathered: Gathering,
    /// Whether nothing was left out for damage.
    whole: bool,
}

impl Read {
    /// The spans; sums over those that can be read if others cannot: then its analysis looks again, and says so.
    /// `None` if nothing can be read.
    fn nodes(mut self) -> Option<Nodes> {
        if !self.whole {
            self.gathered.sum_up();
        }
        let (nodes, _) = self.gathered.done();
        (nodes.count() > 0).then_some(nodes)
    }
}

/// Tells `each` the traces that were open at the last cut, and of which something can be read. Returns how many there
/// were. Damage costs no more than the traces in the block that has it.
///
/// # Errors
/// If the store fails. Then none was told, and this may be tried again.
pub fn open_at_end(state: &State, room: Room, each: Each<'_>) -> Result<usize, QueryError> {
    let state = &Reader::new(state);
    let view = state.snapshot();
    let open = named(state, &view)?;
    let mut left = room.spans;
    let mut spans: HashMap<TraceId, Read> = HashMap::with_capacity(open.len());
    for (segment, mut ids) in by_segment(&view, &open)? {
        let Some(segment) = view.sealed.iter().find(|sealed| sealed.id == segment) else { continue };
        // In the order of the blocks, so that each is inflated once.
        ids.sort_unstable();
        for id in ids {
            let nothing = || Read { gathered: Gathering::new(room.of_trace, None), whole: true };
            let Read { gathered, whole } = spans.entry(id).or_insert_with(nothing);
            left += gathered.kept();
            *whole &= fetch::sealed_spans(state, segment, id, &mut |span| {
                gathered.add(&span.node);
                if gathered.kept() > left {
                    gathered.sum_up();
                }
            })?;
            left -= gathered.kept();
        }
    }
    state.note_analysed_without();
    // The oldest last: the assembler looks there for how far back the next start must look.
    let mut open: Vec<_> = open.into_iter().collect();
    open.sort_unstable_by_key(|&(id, listed)| std::cmp::Reverse((listed, id)));
    let mut count = 0;
    for (id, listed) in open {
        if let Some(nodes) = spans.remove(&id).and_then(Read::nodes) {
            each(id, listed, nodes);
            count += 1;
        }
    }
    Ok(count)
}

/// Open traces, and when the segment that names them began to take arrivals.
fn named(state: &Reader<'_>, view: &View) -> Result<HashMap<TraceId, UnixNanos>, ReadError> {
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
        let here = analysed_in(state, segment)?;
        for id in named_by(state, segment, &here)? {
            if !analysed.contains(&id) {
                open.entry(id).or_insert(UnixNanos(segment.meta.arrival_min));
            }
        }
        analysed.extend(here);
    }
    Ok(open)
}

/// The traces of which a segment has analyses that can be read.
fn analysed_in(state: &Reader<'_>, segment: &SealedSegment) -> Result<HashSet<TraceId>, ReadError> {
    let mut analysed = HashSet::new();
    let detail = state.blocks.detail(segment, &state.names);
    let Some(detail) = state.readable(segment, detail)? else { return Ok(analysed) };
    for number in 0..detail.meta.trace_blocks.len() as u32 {
        let heads = TraceHeads::read_without_services(&segment.handle, number);
        let heads = state.readable(segment, heads)?;
        analysed.extend(heads.iter().flat_map(|heads| &heads.rows).map(|row| row.trace_id));
    }
    Ok(analysed)
}

/// The traces that a segment names as open at its cut, as far as can be read. If the list itself is damaged, those that it
/// has no analysis of.
fn named_by(
    state: &Reader<'_>,
    segment: &SealedSegment,
    analysed: &HashSet<TraceId>,
) -> Result<Vec<TraceId>, ReadError> {
    // Which trace a block begins with is known without it, and spans of that may lie elsewhere.
    let ids_in = |block| {
        let ids = state.readable(segment, block_ids(segment, block))?;
        Ok(ids.unwrap_or_else(|| segment.chunks.first_of(block).into_iter().collect()))
    };
    if let Some(numbers) = state.readable(segment, open_numbers(&segment.handle))? {
        return ids_of(segment, numbers, ids_in);
    }
    let mut ids = Vec::new();
    for block in 0..segment.chunks.blocks() {
        ids.extend(ids_in(block)?.into_iter().filter(|id| !analysed.contains(id)));
    }
    Ok(ids)
}

/// The traces that a segment names as open at its cut.
pub(crate) fn open_ids(segment: &SealedSegment) -> Result<Vec<TraceId>, ReadError> {
    ids_of(segment, open_numbers(&segment.handle)?, |block| block_ids(segment, block))
}

/// The traces of these numbers within a segment, which rise. `ids_in` is asked for those of a block.
fn ids_of(
    segment: &SealedSegment,
    numbers: Vec<u32>,
    ids_in: impl Fn(u32) -> Result<Vec<TraceId>, ReadError>,
) -> Result<Vec<TraceId>, ReadError> {
    let firsts = &segment.chunks.numbers;
    let mut ids = Vec::with_capacity(numbers.len());
    let mut wanted = numbers.into_iter().peekable();
    for (block, &first) in firsts.iter().enumerate() {
        let end = firsts.get(block + 1).copied().unwrap_or(u32::MAX);
        if wanted.peek().is_none_or(|&number| number >= end) {
            continue;
        }
        let here = ids_in(block as u32)?;
        while let Some(number) = wanted.next_if(|&number| number < end) {
            ids.extend(number.checked_sub(first).and_then(|nth| here.get(nth as usize)));
        }
    }
    Ok(ids)
}

fn block_ids(segment: &SealedSegment, block: u32) -> Result<Vec<TraceId>, ReadError> {
    ChunkBlock::read(&segment.handle, block)?.trace_ids()
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
