//! Merges the small segments of a partition that is over, so that a quiet instance has few segments.
//!
//! A merged segment has the spans of its sources, byte for byte, and is built as any other: what is derived from
//! spans comes out the same. Of analyses it has those that no later source replaces. It has the number of its last
//! source, so that "later segment" means the same as before.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use segment::{
    Blocks, BuildError, ChunkSpan, ContextBlock, Key, LiveBatch, ReadError, SegmentInput, SpanRow,
    TraceHeads, TracePaths, TraceRow, build,
};
use span_store::{Rewrite, SegmentId, SpanStore, StoreError, StoredSegment, decode_meta};
use trace_model::{TraceId, UnixNanos};

use crate::fetch::node_of;
use crate::resume::open_ids;
use crate::sealed::SealedSegment;
use crate::search::{globalize, globalize_share};
use crate::state::State;
use crate::view::View;

/// A merged segment's file has at most this part of the raw bytes that a segment is sealed at.
const STORED_PART: u64 = 8;

/// Why a partition was not merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A segment cannot be read.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// The store failed.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The process stops.
    #[error("stopped")]
    Stopped,
}

impl MergeError {
    /// Whether the store cannot be read for the moment, or the disk is full: nothing of that speaks against the partition.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Read(read) => read.is_passing(),
            Self::Store(StoreError::Build(BuildError::Source(read))) => read.is_passing(),
            Self::Store(error) => matches!(error, StoreError::Closed) || error.is_full(),
            Self::Stopped => true,
        }
    }
}

/// What a merge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergeOutcome {
    /// Segments before.
    pub before: usize,
    /// Segments after.
    pub after: usize,
}

/// The partitions that are over at `now` and worth merging: the segments of each, oldest first.
///
/// `raw_bytes_max` is what a segment is sealed at. A partition is merged once, and only if few bytes are copied for
/// what is saved.
pub fn mergeable(view: &View, now: UnixNanos, raw_bytes_max: usize) -> Vec<Vec<Arc<SealedSegment>>> {
    let mut partitions: Vec<Vec<Arc<SealedSegment>>> = Vec::new();
    for segment in view.sealed.iter() {
        let id = segment.handle.partition();
        if id.end > now || id.generation > 0 {
            continue;
        }
        match partitions.iter_mut().find(|of| of.first().is_some_and(|s| s.handle.partition() == id)) {
            Some(of) => of.push(Arc::clone(segment)),
            None => partitions.push(vec![Arc::clone(segment)]),
        }
    }
    let stored_max = raw_bytes_max as u64 / STORED_PART;
    partitions.retain(|segments| is_worth_it(view, segments, stored_max));
    partitions
}

fn is_worth_it(view: &View, segments: &[Arc<SealedSegment>], stored_max: u64) -> bool {
    let (mut after, mut copied) = (0, 0);
    for group in runs(view, segments, stored_max) {
        after += 1;
        copied += if let [alone] = group { alone.handle.disk_bytes() } else { 0 };
    }
    let saved = (segments.len() - after) as u64;
    saved > 0 && copied <= saved.saturating_mul(stored_max / 2)
}

/// Groups of segments that fit one by the bytes of their files.
fn runs<'a>(
    view: &View,
    segments: &'a [Arc<SealedSegment>],
    stored_max: u64,
) -> Vec<&'a [Arc<SealedSegment>]> {
    let mut groups = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (at, segment) in segments.iter().enumerate() {
        let own = segment.handle.disk_bytes();
        let joins =
            at > from && bytes + own <= stored_max && are_neighbours(view, segments[at - 1].id, segment.id);
        if at > from && !joins {
            groups.push(&segments[from..at]);
            (from, bytes) = (at, 0);
        }
        bytes += own;
    }
    if from < segments.len() {
        groups.push(&segments[from..]);
    }
    groups
}

/// Whether no segment of another partition was sealed between the two: the merged one's number stands for all of its
/// sources, and a clock that went back may have mixed partitions.
fn are_neighbours(view: &View, one: SegmentId, next: SegmentId) -> bool {
    let at = view.sealed.partition_point(|segment| segment.id <= one);
    view.sealed.get(at).is_some_and(|segment| segment.id == next)
}

/// Merges the segments of a partition and puts the result in their place. `None` if the partition changed meanwhile.
///
/// Memory: `raw_bytes_max` of spans with their rows and analyses, and one source besides.
///
/// # Errors
/// If a segment cannot be read, the store fails, or `stop` says so. Then all is as it was.
pub fn merge(
    state: &State,
    store: &SpanStore,
    segments: &[Arc<SealedSegment>],
    raw_bytes_max: usize,
    stop: &dyn Fn() -> bool,
) -> Result<Option<MergeOutcome>, MergeError> {
    let _keeping = state.keeping.lock();
    let handles: Vec<_> = segments.iter().map(|segment| segment.handle.clone()).collect();
    let Some(mut rewrite) = store.begin_rewrite(&handles)? else { return Ok(None) };
    let view = state.snapshot_of_stored();
    for run in runs(&view, segments, raw_bytes_max as u64 / STORED_PART) {
        let mut group = Group::default();
        for segment in run {
            if stop() {
                return Err(MergeError::Stopped);
            }
            match Source::read(state, segment, raw_bytes_max).map_err(|error| noted(state, segment, error))? {
                Some(source) if group.raw_bytes + source.batch.request.len() <= raw_bytes_max => {
                    group.push(source)
                }
                Some(source) => {
                    std::mem::take(&mut group).write(state, store, &mut rewrite)?;
                    group.push(source);
                }
                None => {
                    std::mem::take(&mut group).write(state, store, &mut rewrite)?;
                    store.rewrite_copied(&mut rewrite, &stored(segment)?)?;
                }
            }
        }
        group.write(state, store, &mut rewrite)?;
    }
    drop(handles);
    let Some(stored) = store.commit_rewrite(rewrite)? else { return Ok(None) };
    let merged = stored.into_iter().map(|stored| Arc::new(SealedSegment::new(stored, &state.names)));
    let merged: Vec<_> = merged.collect();
    let outcome = MergeOutcome { before: segments.len(), after: merged.len() };
    let gone: Vec<SegmentId> = segments.iter().map(|segment| segment.id).collect();
    state.replace_sealed(&gone, merged);
    Ok(Some(outcome))
}

/// Nothing of a damaged segment is left out where another takes its place: it is reported, and stays as it is.
fn noted(state: &State, segment: &SealedSegment, error: ReadError) -> MergeError {
    state.note_segment(segment, &error);
    error.into()
}

/// The segment with its names, which memory holds apart.
fn stored(segment: &SealedSegment) -> Result<StoredSegment, ReadError> {
    let bytes = segment.handle.get(Key::Meta)?.ok_or(ReadError::Missing(Key::Meta))?;
    let meta = decode_meta(&bytes)?;
    Ok(StoredSegment { handle: segment.handle.clone(), meta })
}

/// What a source has, with process-wide numbers.
struct Source {
    segment: Arc<SealedSegment>,
    batch: LiveBatch,
    analysed: Vec<TraceRow>,
    revised: HashSet<TraceId>,
    open: Vec<TraceId>,
}

impl Source {
    /// `None` if there is more in it than may be held.
    fn read(
        state: &State,
        segment: &Arc<SealedSegment>,
        raw_bytes_max: usize,
    ) -> Result<Option<Self>, ReadError> {
        let Some(batch) = read_spans(state, segment, raw_bytes_max)? else { return Ok(None) };
        Ok(Some(Self {
            batch,
            analysed: read_analyses(state, segment)?,
            revised: stored(segment)?.revisions().collect(),
            open: open_ids(segment)?,
            segment: Arc::clone(segment),
        }))
    }
}

fn read_spans(
    state: &State,
    segment: &SealedSegment,
    raw_bytes_max: usize,
) -> Result<Option<LiveBatch>, ReadError> {
    let mut gathered = Gathered {
        segment,
        contexts: HashMap::new(),
        blocks: HashMap::new(),
        own_context: None,
        batch: empty(segment),
    };
    let mut request = Vec::new();
    for number in 0..segment.chunks.blocks() {
        // A large trace goes on in the next block; each part is given out by the block that it lies in.
        let block = state.blocks.chunk(segment, number)?;
        for id in block.trace_ids()? {
            for span in block.spans(&id)? {
                gathered.add(state, id, &span, &mut request)?;
                if request.len() + gathered.batch.context_bytes.len() > raw_bytes_max {
                    return Ok(None);
                }
            }
        }
    }
    gathered.batch.request = Bytes::from(request);
    Ok(Some(gathered.batch))
}

fn empty(segment: &SealedSegment) -> LiveBatch {
    LiveBatch {
        number: 0,
        seq: segment.meta.seq_high,
        arrival: UnixNanos(segment.meta.arrival_min),
        request: Bytes::new(),
        context_bytes: Vec::new(),
        contexts: Vec::new(),
        rows: Vec::new(),
    }
}

/// The spans of a source as a batch, each context once.
struct Gathered<'a> {
    segment: &'a SealedSegment,
    contexts: HashMap<u32, u32>,
    blocks: HashMap<u32, ContextBlock>,
    /// The last of those that are not numbered, and its number in the batch.
    own_context: Option<(Arc<[u8]>, u32)>,
    batch: LiveBatch,
}

impl Gathered<'_> {
    fn add(
        &mut self,
        state: &State,
        trace_id: TraceId,
        span: &ChunkSpan,
        request: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        let context = match &span.own_context {
            Some(own) => self.own_context(own),
            None => self.context(span.context)?,
        };
        let message = &span.message;
        let node = node_of(message, self.batch.context(context), &state.names)?;
        self.batch.rows.push(SpanRow {
            trace_id,
            node,
            offset: request.len() as u32,
            len: message.len() as u32,
            context,
        });
        request.extend_from_slice(message);
        Ok(())
    }

    fn context(&mut self, number: u32) -> Result<u32, ReadError> {
        if let Some(&known) = self.contexts.get(&number) {
            return Ok(known);
        }
        let block = ContextBlock::number_of(number);
        if !self.blocks.contains_key(&block) {
            self.blocks.insert(block, ContextBlock::read(&self.segment.handle, block)?);
        }
        let block = self.blocks.get(&block).ok_or(ReadError::Damaged("context block"))?;
        let bytes = block.get(number)?.to_vec();
        let own = self.add_context(&bytes);
        self.contexts.insert(number, own);
        Ok(own)
    }

    fn own_context(&mut self, own: &Arc<[u8]>) -> u32 {
        match &self.own_context {
            Some((last, number)) if last == own => *number,
            _ => {
                let number = self.add_context(own);
                self.own_context = Some((Arc::clone(own), number));
                number
            }
        }
    }

    fn add_context(&mut self, bytes: &[u8]) -> u32 {
        let number = self.batch.contexts.len() as u32;
        self.batch.contexts.push((self.batch.context_bytes.len() as u32, bytes.len() as u32));
        self.batch.context_bytes.extend_from_slice(bytes);
        number
    }
}

fn read_analyses(state: &State, segment: &SealedSegment) -> Result<Vec<TraceRow>, ReadError> {
    let mut rows = Vec::new();
    let detail = state.blocks.detail(segment, &state.names)?;
    for number in 0..detail.meta.trace_blocks.len() as u32 {
        let heads = TraceHeads::read(&segment.handle, number)?.rows;
        let mut paths = TracePaths::read(&segment.handle, number)?;
        if heads.len() != paths.traces() {
            return Err(ReadError::Damaged("path block"));
        }
        for (at, mut row) in heads.into_iter().enumerate() {
            globalize(&mut row, segment, &detail);
            row.shares = paths.of(at).to_vec();
            row.shares.iter_mut().for_each(|share| globalize_share(share, segment, &detail));
            rows.push(row);
        }
    }
    Ok(rows)
}

/// Sources that become one segment.
#[derive(Default)]
struct Group {
    sources: Vec<Source>,
    raw_bytes: usize,
}

impl Group {
    fn push(&mut self, source: Source) {
        self.raw_bytes += source.batch.request.len();
        self.sources.push(source);
    }

    fn write(self, state: &State, store: &SpanStore, rewrite: &mut Rewrite) -> Result<(), MergeError> {
        let Some(last) = self.sources.last().map(|source| Arc::clone(&source.segment)) else { return Ok(()) };
        if self.sources.len() == 1 {
            return Ok(store.rewrite_copied(rewrite, &stored(&last)?)?);
        }
        let open = self.still_open();
        let frames = self.frames();
        let (batches, analysed) = self.into_parts();
        let dictionary = store.dictionary();
        let input = SegmentInput {
            batches: &batches,
            frames,
            analysed: &analysed,
            open: &open,
            open_since: Some(UnixNanos(last.meta.open_since)).filter(|since| since.0 > 0),
            names: &*state.names,
            dictionary: dictionary.as_deref(),
            now: UnixNanos(last.meta.arrival_max),
        };
        Ok(store.rewrite_merged(rewrite, last.id, &mut |sink| build(&input, sink))?)
    }

    /// The log frames of all sources.
    fn frames(&self) -> Option<(u64, u64)> {
        let metas =
            || self.sources.iter().map(|source| &source.segment.meta).filter(|meta| meta.seq_high > 0);
        let low = metas().map(|meta| meta.seq_low).min()?;
        Some((low, metas().map(|meta| meta.seq_high).max()?))
    }

    /// Traces that a source names as open and no later one has analysed.
    fn still_open(&self) -> Vec<TraceId> {
        let mut open: HashSet<TraceId> = HashSet::new();
        for source in &self.sources {
            source.analysed.iter().for_each(|row| {
                open.remove(&row.trace_id);
            });
            open.extend(&source.open);
        }
        open.into_iter().collect()
    }

    /// The spans, and the analyses that no later source replaces.
    fn into_parts(self) -> (Vec<Arc<LiveBatch>>, Vec<Arc<TraceRow>>) {
        let mut last_revision: HashMap<TraceId, usize> = HashMap::new();
        for (at, source) in self.sources.iter().enumerate() {
            source.revised.iter().for_each(|id| {
                last_revision.insert(*id, at);
            });
        }
        let (mut batches, mut analysed) = (Vec::new(), Vec::new());
        for (at, source) in self.sources.into_iter().enumerate() {
            // A batch has one time of arrival; this one holds nothing but the latest of the source.
            let arrival = UnixNanos(source.segment.meta.arrival_max);
            batches.push(Arc::new(LiveBatch { arrival, ..empty(&source.segment) }));
            batches.push(Arc::new(source.batch));
            let rows = source.analysed.into_iter();
            let kept = rows.filter(|row| last_revision.get(&row.trace_id).is_none_or(|&last| last <= at));
            analysed.extend(kept.map(Arc::new));
        }
        (batches, analysed)
    }
}
