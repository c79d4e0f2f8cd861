//! Retention of a partition: its spans go, and a rollup by minute takes their place.

use std::sync::Arc;

use hashbrown::HashSet;
use segment::{BuildError, ReadError, RollupInput, RollupMeta, Tier, TraceHeads, build_rollup};
use span_store::{Expired, Retirement, SegmentId, SpanStore, StoreError};
use trace_model::{TraceId, UnixNanos};

use crate::rollups::Rollup;
use crate::rollups::sources::PartitionSource;
use crate::sealed::SealedSegment;
use crate::state::{Assembly, State};
use crate::view::View;

/// How often traces that a late span may just change are looked at again before the partition stays for now.
const LOOKS: usize = 8;

/// Why a partition could not be retired; it stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum RetireError {
    /// A segment cannot be read.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl RetireError {
    /// Whether something cannot be read, before the rollup was begun or while it was written, and this is not sure to pass:
    /// who insists leaves it out.
    pub fn is_unreadable(&self) -> bool {
        match self {
            Self::Read(read) | Self::Store(StoreError::Build(BuildError::Source(read))) => !read.is_passing(),
            Self::Store(_) => false,
        }
    }

    /// Whether the store cannot be read for the moment.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Read(read) | Self::Store(StoreError::Build(BuildError::Source(read))) => read.is_passing(),
            Self::Store(error) => matches!(error, StoreError::Closed),
        }
    }
}

/// What became of a partition that retention takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retired {
    /// It is gone, this many segments and spans.
    Gone {
        /// Segments in it.
        segments: u64,
        /// Spans in them.
        spans: u64,
    },
    /// It stays for now: a late span is changing the analysis of one of its traces.
    Postponed,
}

/// Puts a rollup in the place of a partition.
///
/// The rollup is stored before the partition goes. Until the view is exchanged the segments are what counts, and from
/// then on the rollup; after a crash in between, the segments are still there and the rollup is made anew. All that can
/// fail comes before the exchange, so that the view and the store never differ.
///
/// With `insist`, what cannot be read is left out and reported, and nothing is waited for.
///
/// # Errors
/// If a segment cannot be read or the store fails. Then all is as it was.
pub fn retire_partition(
    state: &State,
    store: &SpanStore,
    expired: &Expired,
    insist: bool,
    now: UnixNanos,
) -> Result<Retired, RetireError> {
    let _keeping = state.keeping.lock();
    // Their analysis is made again, of all that is known of them. Before the view is looked at: one that is sealed in between
    // is in the view then.
    let left_out = if insist { being_revised(&state.assembly.lock()) } else { HashSet::new() };
    let view = state.snapshot_of_stored();
    let segments = segments_of(&view, expired);
    let rollup = build(state, store, &view, &segments, Leaving { left_out, insist })?.map(Arc::new);
    let give_up = || rollup.iter().for_each(|rollup| store.retire_rollup(&rollup.handle));
    let retirement = store.begin_retirement(expired.partition).inspect_err(|_| give_up())?;
    if !exchange(state, &view, &segments, rollup.as_ref(), insist) {
        give_up();
        state.housekeeping.lock().postponed += 1;
        return Ok(Retired::Postponed);
    }
    drop(view);
    let (segments, spans) = finish(retirement, segments);
    note(state, expired, segments, spans, now);
    Ok(Retired::Gone { segments, spans })
}

/// Drops a partition and leaves nothing of it: for a disk that is too full to write a rollup. Segments and spans in it.
///
/// # Errors
/// If the store fails. Then all is as it was.
pub fn drop_partition(
    state: &State,
    store: &SpanStore,
    expired: &Expired,
    now: UnixNanos,
) -> Result<(u64, u64), StoreError> {
    let _keeping = state.keeping.lock();
    let segments = segments_of(&state.snapshot_of_stored(), expired);
    let gone: Vec<SegmentId> = segments.iter().map(|segment| segment.id).collect();
    let retirement = store.begin_retirement(expired.partition)?;
    state.exchange_for_rollup(&gone, None);
    let (segments, spans) = finish(retirement, segments);
    note(state, expired, segments, spans, now);
    Ok((segments, spans))
}

/// Has the store follow the view, in which these segments are not any more. How many there are, and spans in them.
fn finish(retirement: Retirement<'_>, segments: Vec<Arc<SealedSegment>>) -> (u64, u64) {
    let gone = (segments.len() as u64, segments.iter().map(|segment| segment.meta.spans).sum());
    // The files go at once if nobody else reads them.
    drop(segments);
    retirement.finish();
    gone
}

fn segments_of(view: &View, expired: &Expired) -> Vec<Arc<SealedSegment>> {
    let of_partition = |segment: &&Arc<SealedSegment>| {
        let id = segment.handle.partition();
        (id.begin, id.end) == (expired.partition.begin, expired.partition.end)
    };
    view.sealed.iter().filter(of_partition).cloned().collect()
}

fn note(state: &State, expired: &Expired, segments: u64, spans: u64, now: UnixNanos) {
    let mut housekeeping = state.housekeeping.lock();
    let freed = &mut housekeeping.spans;
    freed.partitions += 1;
    freed.segments += segments;
    freed.spans += spans;
    freed.bytes += expired.bytes;
    freed.last = Some(now);
}

/// What a rollup is made without.
struct Leaving {
    /// Traces whose analyses are counted elsewhere.
    left_out: HashSet<TraceId>,
    /// What cannot be read is left out and reported.
    insist: bool,
}

/// The rollup of these segments, stored; `None` if there is nothing in them.
fn build(
    state: &State,
    store: &SpanStore,
    view: &View,
    segments: &[Arc<SealedSegment>],
    Leaving { left_out, insist }: Leaving,
) -> Result<Option<Rollup>, RetireError> {
    let Some(first) = segments.first() else { return Ok(None) };
    let mut source = PartitionSource::new(state, view, segments, left_out, insist)?;
    let partition = first.handle.partition();
    let input = RollupInput {
        tier: Tier::Minute,
        begin: partition.begin,
        end: partition.end,
        segments: segments.iter().map(|segment| segment.id.0).collect(),
        sources: Vec::new(),
        histogram_buckets: source.histogram_buckets(),
        path_buckets: source.path_buckets(),
        names: &*state.names,
    };
    if input.histogram_buckets.is_empty() && input.path_buckets.is_empty() {
        return Ok(None);
    }
    let mut meta = RollupMeta::default();
    let handle = store.publish_rollup(&mut |sink| {
        meta = build_rollup(&input, &mut source, sink)?;
        Ok::<(), BuildError>(())
    })?;
    Ok(Some(Rollup::of_meta(handle, Tier::Minute, meta, &state.names)))
}

/// Exchanges the segments for the rollup in one step, unless a trace of theirs is being changed: its new analysis
/// would take the place of one that the rollup has counted. `view` is what the rollup was made from.
fn exchange(
    state: &State,
    view: &View,
    segments: &[Arc<SealedSegment>],
    rollup: Option<&Arc<Rollup>>,
    insist: bool,
) -> bool {
    let gone: Vec<SegmentId> = segments.iter().map(|segment| segment.id).collect();
    let newest = |view: &View| view.sealed.last().map(|segment| segment.id);
    // What was analysed again up to this segment is known.
    let mut known = newest(view);
    let mut cleared: HashSet<TraceId> = HashSet::new();
    for _ in 0..LOOKS {
        let assembly = state.assembly.lock();
        let now = state.snapshot_of_stored();
        let changing = held_again(&assembly).chain(now.revisions.since(known));
        let mut suspects: HashSet<TraceId> = changing.filter(|id| !cleared.contains(id)).collect();
        let are_all = !now.revisions.has_files_since(known);
        if suspects.is_empty() && are_all || insist {
            state.exchange_for_rollup(&gone, rollup);
            return true;
        }
        // Reading takes time, and nobody else may wait for it.
        drop(assembly);
        let Ok(in_files) = now.revisions.since_in_files(known) else { return false };
        suspects.extend(in_files);
        if have_analyses(state, view, segments, &suspects) {
            return false;
        }
        cleared.extend(suspects);
        known = newest(&now);
    }
    false
}

/// Traces in memory whose new analysis takes the place of one that the rollup would count.
fn being_revised(assembly: &Assembly) -> HashSet<TraceId> {
    assembly.assembler.iter().filter(|(_, trace)| trace.is_being_revised()).map(|(id, _)| *id).collect()
}

/// Traces in memory that were analysed before and may be again.
fn held_again(assembly: &Assembly) -> impl Iterator<Item = TraceId> + '_ {
    assembly.assembler.iter().filter(|(_, trace)| trace.is_revised()).map(|(id, _)| *id)
}

/// Whether the rollup counted one of these traces; also if that cannot be told.
fn have_analyses(
    state: &State,
    view: &View,
    segments: &[Arc<SealedSegment>],
    suspects: &HashSet<TraceId>,
) -> bool {
    segments.iter().any(|segment| {
        let counted =
            |id: &TraceId| suspects.contains(id) && !view.is_replaced(id, segment.id).unwrap_or(false);
        let Ok(detail) = state.blocks.detail(segment, &state.names) else { return true };
        (0..detail.meta.trace_blocks.len() as u32).any(|number| {
            match TraceHeads::read_without_services(&segment.handle, number) {
                Ok(heads) => heads.rows.iter().any(|row| counted(&row.trace_id)),
                Err(_) => true,
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use segment::ReadError;

    use super::*;

    #[test]
    fn what_passes_is_told_from_what_may_not_wherever_it_is_met() {
        let both = |read: fn() -> ReadError| {
            let while_written = StoreError::Build(BuildError::Source(read()));
            [RetireError::Read(read()), RetireError::Store(while_written)]
                .map(|error| (error.is_unreadable(), error.is_passing()))
        };
        assert_eq!(both(|| ReadError::Damaged("row block")), [(true, false); 2]);
        assert_eq!(both(|| ReadError::Store("IO error: a bad sector".to_owned())), [(true, false); 2]);
        assert_eq!(both(|| ReadError::Closed), [(false, true); 2]);
        let closed = RetireError::Store(StoreError::Closed);
        assert_eq!((closed.is_unreadable(), closed.is_passing()), (false, true));
    }
}
