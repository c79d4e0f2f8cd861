//! Which spans of a trace are stored, without reading the trace: spans lie in the order of their starts, so of every
//! segment only the blocks are looked into that have spans of these starts, and only spans with these ids are put
//! together.

use hashbrown::HashSet;
use otlp_wire::read_span;
use segment::ReadError;
use trace_model::{SpanId, SpanNode, TraceId, UnixNanos};

use crate::damage::Reader;
use crate::engine::QueryError;
use crate::sealed::SealedSegment;
use crate::state::State;

/// A span's start, id, and the hash of its message.
pub type SpanIdentity = (UnixNanos, SpanId, u64);

/// What tells a span from others of its trace.
pub fn identity_of(node: &SpanNode) -> SpanIdentity {
    (node.start, node.span_id, node.content)
}

/// Those of these spans of a trace that are in sealed segments. What cannot be read for damage counts as not stored, and the
/// look-up as one that failed.
///
/// # Errors
/// If the store fails.
pub fn stored_among(
    state: &State,
    id: TraceId,
    mut wanted: Vec<SpanIdentity>,
) -> Result<HashSet<SpanIdentity>, QueryError> {
    wanted.sort_unstable();
    wanted.dedup();
    let (reader, mut found, mut whole) = (Reader::new(state), HashSet::new(), true);
    for segment in state.snapshot().segments_of(&id)? {
        let (first, last) = (segment.meta.start_min, segment.meta.start_max);
        let low = wanted.partition_point(|(start, ..)| start.0 < first);
        let high = wanted.partition_point(|(start, ..)| start.0 <= last);
        let read = in_segment(state, &segment, id, &wanted[low..high.max(low)], &mut found);
        whole &= reader.readable(&segment, read)?.is_some() || segment.handle.is_dropped();
    }
    state.count(&state.counters.lookups_failed, u64::from(!whole));
    Ok(found)
}

fn in_segment(
    state: &State,
    segment: &SealedSegment,
    id: TraceId,
    mut wanted: &[SpanIdentity],
    found: &mut HashSet<SpanIdentity>,
) -> Result<(), ReadError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let mut blocks = segment.chunks.blocks_of(&id);
    while let Some(next) = wanted.first() {
        blocks.start = first_reaching(state, segment, id, blocks.clone(), next.0)?;
        if blocks.is_empty() {
            break;
        }
        let block = state.blocks.chunk(segment, blocks.start)?;
        blocks.start += 1;
        let Some((first, last)) = block.starts(&id) else { continue };
        let low = wanted.partition_point(|(start, ..)| *start < first);
        let high = wanted.partition_point(|(start, ..)| *start <= last);
        let here: HashSet<_> =
            wanted[low..high].iter().map(|(start, id, _)| (*start, *id.as_bytes())).collect();
        let among = |start, id: &[u8]| id.try_into().is_ok_and(|id| here.contains(&(start, id)));
        let spans = if here.is_empty() { Vec::new() } else { block.spans_among(&id, &among)? };
        for span in spans {
            let head = read_span(&span.message).map_err(|_| ReadError::Damaged("span"))?;
            let key = (head.start, head.span_id, head.content);
            if wanted.binary_search(&key).is_ok() {
                found.insert(key);
            }
        }
        // Spans of the last start may go on in the next block. What the block does not say of its end may be anywhere.
        if last < UnixNanos(u64::MAX) {
            wanted = &wanted[wanted.partition_point(|(start, ..)| *start < last)..];
        }
    }
    Ok(())
}

/// The first block of these, in order, that has a start from `start` on.
fn first_reaching(
    state: &State,
    segment: &SealedSegment,
    id: TraceId,
    blocks: std::ops::Range<u32>,
    start: UnixNanos,
) -> Result<u32, ReadError> {
    let (mut low, mut high) = (blocks.start, blocks.end);
    while low < high {
        let middle = low + (high - low) / 2;
        let last = state.blocks.chunk(segment, middle)?.starts(&id).map(|(_, last)| last);
        if last.is_some_and(|last| last < start) { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}
