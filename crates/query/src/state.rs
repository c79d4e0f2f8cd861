//! What is known at this moment: sealed segments, live batches, open traces. Written by the pipeline, read by
//! queries.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hashbrown::{HashMap, HashSet};
use parking_lot::{Mutex, RwLock};
use segment::{LiveBatch, ReadError, TraceRow};
use span_store::{SegmentId, StoredSegment};
use trace_assemble::Assembler;
use trace_model::TraceId;

use crate::answer::DiskStatus;
use crate::cache::BlockCache;
use crate::counters::Counters;
use crate::damage::Damage;
use crate::directory::TraceDirectory;
use crate::gate::Gate;
use crate::housekeeping::Housekeeping;
use crate::metrics::Metrics;
use crate::names::NameTable;
use crate::revisions::Revisions;
use crate::rollups::Rollup;
use crate::scans::Scans;
use crate::sealed::{Detail, SEGMENTS_WORTH, SealedSegment};
use crate::sums_room::SumsRoom;
use crate::view::{View, find_segment};

/// Spans of one trace that are analysed together at most, unless said otherwise.
const TRACE_SPANS_MAX: usize = 2_000_000;

/// Open traces, and the analyses that are not sealed yet.
#[derive(Debug)]
pub struct Assembly {
    /// Open traces, and finished ones until they are sealed.
    pub assembler: Assembler,
    /// The analysis of each finished trace that the assembler holds.
    pub analysed: HashMap<TraceId, Arc<TraceRow>>,
}

/// Everything that is known at this moment.
#[derive(Debug)]
pub struct State {
    /// Names by number.
    pub names: Arc<NameTable>,
    /// Lock this before the view and not after: a trace leaves the assembly only after its segment has entered
    /// the view, so who looks in this order misses nothing.
    pub assembly: Mutex<Assembly>,
    /// Sealed and live.
    pub view: RwLock<View>,
    /// Held by who changes what is sealed, from reading the view to writing it.
    writing: Mutex<()>,
    /// Of sealed spans that came since the process began, by operation. Lock it before the view.
    pub metrics: Mutex<Metrics>,
    /// Batches up to this one were replayed from the log of an earlier process, which has counted them;
    /// `u64::MAX` until it is known which.
    pub replayed_batches: AtomicU64,
    /// Counted outcomes.
    pub counters: Counters,
    /// What was set aside as damaged, or found damaged since.
    pub(crate) damaged: Mutex<Vec<Damage>>,
    /// Held by who merges or retires, from beginning to end: there is the keeper, and who makes room.
    pub(crate) keeping: Mutex<()>,
    /// What merging and retention did.
    pub housekeeping: Mutex<Housekeeping>,
    /// Spans of one trace that are analysed together at most.
    pub trace_spans_max: usize,
    /// Who works on a large trace is through it.
    pub large: Arc<Gate>,
    /// Who sums over many segments takes turns.
    pub scans: Scans,
    /// Room for what they gather.
    pub sums: SumsRoom,
    /// Inflated blocks.
    pub blocks: BlockCache,
    /// Why answers do not have everything yet: how far the log has been replayed.
    pub not_ready: Mutex<Option<String>>,
    /// Why spans are refused, by what refuses them.
    refusing: Mutex<[Option<String>; 3]>,
    short_of_room: AtomicBool,
    /// Room on the disk.
    pub disk: Mutex<DiskStatus>,
}

/// What may refuse spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Refusal {
    /// The log cannot be written.
    Log = 0,
    /// Segments cannot be sealed.
    Sealing = 1,
    /// The disk is too full.
    Disk = 2,
}

impl State {
    /// A state of nothing.
    pub fn new(names: Arc<NameTable>, assembler: Assembler) -> Self {
        Self::with_memory(names, assembler, BlockCache::default(), TraceDirectory::default())
    }

    /// A state of nothing, with bounds on what is cached.
    pub fn with_memory(
        names: Arc<NameTable>,
        assembler: Assembler,
        blocks: BlockCache,
        directory: TraceDirectory,
    ) -> Self {
        Self {
            names,
            assembly: Mutex::new(Assembly { assembler, analysed: HashMap::new() }),
            view: RwLock::new(View { directory: Arc::new(directory), ..View::default() }),
            writing: Mutex::default(),
            metrics: Mutex::default(),
            replayed_batches: AtomicU64::new(0),
            counters: Counters::default(),
            damaged: Mutex::default(),
            keeping: Mutex::default(),
            housekeeping: Mutex::default(),
            trace_spans_max: TRACE_SPANS_MAX,
            large: Arc::default(),
            scans: Scans::default(),
            sums: SumsRoom::default(),
            blocks,
            not_ready: Mutex::new(Some("starting".to_owned())),
            refusing: Mutex::default(),
            short_of_room: AtomicBool::new(false),
            disk: Mutex::default(),
        }
    }

    /// The same with another bound on the spans of one trace that are analysed together.
    #[must_use]
    pub fn with_trace_spans_max(mut self, most: usize) -> Self {
        self.trace_spans_max = most;
        self
    }

    /// The same with another bound on what questions over many segments gather.
    #[must_use]
    pub fn with_sums(mut self, room: SumsRoom) -> Self {
        self.sums = room;
        self
    }

    /// How many segments are worth a thread of their own: none, when memory is short, since each thread has sums of its own.
    pub(crate) fn segments_worth(&self) -> usize {
        if self.sums.is_short() { usize::MAX } else { SEGMENTS_WORTH }
    }

    /// The same with a bound on what is kept of traces that were analysed again.
    #[must_use]
    pub fn with_revisions(mut self, none: Revisions) -> Self {
        self.view.get_mut().revisions = none;
        self
    }

    /// The same with another bound on the operations that `/metrics` tells apart.
    #[must_use]
    pub fn with_metrics_of(mut self, operations: usize) -> Self {
        self.metrics = Mutex::new(Metrics::with_operations(operations));
        self
    }

    /// Says why spans are refused, or that they are not any more.
    pub fn set_refusing(&self, by: Refusal, why: Option<String>) {
        let mut refusing = self.refusing.lock();
        if refusing[by as usize] != why {
            refusing[by as usize] = why;
        }
    }

    /// Why this refuses spans, if it does.
    pub fn refuses(&self, by: Refusal) -> Option<String> {
        self.refusing.lock()[by as usize].clone()
    }

    /// Says whether the log should go as soon as it can, because spans were refused for the room that it takes.
    pub fn set_short_of_room(&self, is_short: bool) {
        self.short_of_room.store(is_short, Ordering::Release);
    }

    /// Whether the log should go as soon as it can.
    pub fn is_short_of_room(&self) -> bool {
        self.short_of_room.load(Ordering::Acquire)
    }

    /// Why spans are refused; empty when all is well.
    pub fn refusing(&self) -> Vec<String> {
        self.refusing.lock().iter().flatten().cloned().collect()
    }

    /// The view of this moment.
    pub fn snapshot(&self) -> View {
        self.view.read().clone()
    }

    /// The view of this moment without what is live, and without the directory of traces.
    pub fn snapshot_of_stored(&self) -> View {
        self.view.read().stored_alone()
    }

    /// Makes live batches visible.
    pub fn add_live(&self, batch: Arc<LiveBatch>) {
        self.view.write().live.push(batch);
    }

    /// Takes sealed segments in that were there at start.
    pub fn add_stored(&self, mut segments: Vec<StoredSegment>) {
        segments.sort_unstable_by_key(|stored| stored.handle.id());
        let sealed = segments.into_iter().map(|stored| Arc::new(SealedSegment::new(stored, &self.names)));
        let sealed: Vec<_> = sealed.collect();
        let none = self.view.read().revisions.clone();
        let revisions = self.list_revisions(&sealed, none);
        let directory = self.list_traces(&sealed);
        let mut view = self.view.write();
        view.revisions = revisions;
        view.sealed = Arc::new(sealed);
        view.directory = Arc::new(directory);
    }

    /// Hashes come from the directory's files where there are any, else from the segments.
    fn list_traces(&self, sealed: &[Arc<SealedSegment>]) -> TraceDirectory {
        let mut directory = (*self.view.read().directory).clone();
        // Files name segments by number, and one that took the place of others has the number of one of them: what
        // they say of it is not all.
        let unmerged = sealed.iter().filter(|segment| segment.handle.partition().generation == 0);
        let held = directory.keep_files_of(&unmerged.map(|segment| segment.id).collect());
        let is_held = |segment: &Arc<SealedSegment>| {
            segment.handle.partition().generation == 0 && held.contains(&segment.id)
        };
        for segment in sealed.iter().filter(|segment| !is_held(segment)) {
            match segment.hashes() {
                Ok(hashes) => directory.add(segment.id, hashes, segment.meta.arrival_max),
                Err(error) => {
                    directory.add_unlisted(segment.id);
                    if self.note_segment(segment, &error).is_none() {
                        // It may be readable when it is asked.
                        tracing::error!(segment = segment.id.0, %error, "cannot list the traces of a segment");
                    }
                }
            }
        }
        directory
    }

    /// A segment was published: it takes the place of the live batches up to `last_batch` and of the analyses in
    /// `analysed`, in one step for whoever looks.
    ///
    /// # Errors
    /// If what was just stored cannot be read back; then nothing has changed.
    pub fn replace_live(
        &self,
        stored: StoredSegment,
        last_batch: u64,
        analysed: &[Arc<TraceRow>],
    ) -> Result<(), ReadError> {
        let revised: Vec<TraceId> = stored.revisions().collect();
        let segment = Arc::new(SealedSegment::new(stored, &self.names));
        let hashes = segment.hashes()?;
        let detail = self.blocks.detail(&segment, &self.names)?;
        let writing = self.writing.lock();
        // Merging runs takes milliseconds now and then, and files of them longer: not under the view's lock.
        let mut directory = (*self.view.read().directory).clone();
        directory.add(segment.id, hashes, segment.meta.arrival_max);
        let mut revisions = self.whole_revisions();
        self.add_revisions(&mut revisions, segment.id, revised);
        // The last user of a file removes it: not under the view's lock.
        let _before = {
            let mut metrics = self.metrics.lock();
            let mut view = self.view.write();
            let first_live = view.live.partition_point(|batch| batch.number <= last_batch);
            let sealed: Vec<_> = view.live.drain(..first_live).collect();
            let before = std::mem::replace(&mut view.revisions, revisions);
            view.directory = Arc::new(directory);
            view.sealed_batch = view.sealed_batch.max(last_batch);
            Arc::make_mut(&mut view.sealed).push(Arc::clone(&segment));
            drop(view);
            self.count_sealed(&mut metrics, &segment, &detail, &sealed);
            before
        };
        drop(writing);
        let mut assembly = self.assembly.lock();
        let Assembly { assembler, analysed: kept } = &mut *assembly;
        assembler.sealed(last_batch);
        for row in analysed {
            if kept.get(&row.trace_id).is_some_and(|current| Arc::ptr_eq(current, row)) {
                kept.remove(&row.trace_id);
                assembler.release(&row.trace_id);
            }
        }
        Ok(())
    }

    /// Counts what was sealed, through the histograms that the segment has anyway.
    fn count_sealed(
        &self,
        metrics: &mut Metrics,
        segment: &SealedSegment,
        detail: &Detail,
        batches: &[Arc<LiveBatch>],
    ) {
        let replayed = self.replayed_batches.load(Ordering::Relaxed);
        let by_segment = batches.iter().all(|batch| batch.number > replayed)
            && batches.iter().map(|batch| batch.rows.len() as u64).sum::<u64>() == segment.meta.spans
            && metrics.add_segment(segment, detail).is_ok();
        if !by_segment {
            metrics.add_batches(batches.iter().map(|batch| &**batch), replayed);
        }
    }

    /// Merged segments take the place of others, in one step for whoever looks. Each has the number of the last
    /// segment that it replaces.
    pub fn replace_sealed(&self, gone: &[SegmentId], merged: Vec<Arc<SealedSegment>>) {
        let gone: HashSet<SegmentId> = gone.iter().copied().collect();
        let mut numbers: Vec<SegmentId> = merged.iter().map(|segment| segment.id).collect();
        numbers.sort_unstable();
        let mut into: HashMap<SegmentId, SegmentId> = HashMap::new();
        for id in &gone {
            let number = numbers.get(numbers.partition_point(|number| number < id)).copied();
            into.extend(number.filter(|number| number != id).map(|number| (*id, number)));
        }
        let renamed: Vec<_> = into.iter().map(|(id, number)| (*id, *number)).collect();
        let _writing = self.writing.lock();
        let mut revisions = self.view.read().revisions.clone();
        revisions.rename(&into);
        let mut view = self.view.write();
        let kept = view.sealed.iter().filter(|segment| !gone.contains(&segment.id)).cloned();
        let mut sealed: Vec<_> = kept.chain(merged).collect();
        sealed.sort_unstable_by_key(|segment| segment.id);
        view.sealed = Arc::new(sealed);
        Arc::make_mut(&mut view.directory).rename(&renamed);
        view.revisions = revisions;
    }

    /// Retention takes segments away, and a rollup of them takes their place, in one step for whoever looks.
    pub fn exchange_for_rollup(&self, gone: &[SegmentId], rollup: Option<&Arc<Rollup>>) {
        let gone: HashSet<SegmentId> = gone.iter().copied().collect();
        let _writing = self.writing.lock();
        let View { sealed, mut revisions, .. } = self.snapshot_of_stored();
        let kept = sealed.iter().filter(|segment| !gone.contains(&segment.id)).cloned().collect();
        let sealed: Arc<Vec<Arc<SealedSegment>>> = Arc::new(kept);
        revisions.forget_before(sealed.first().map(|segment| segment.id));
        let mut view = self.view.write();
        view.sealed = Arc::clone(&sealed);
        // The last user of a file removes it: not under the view's lock.
        let before = std::mem::replace(&mut view.revisions, revisions);
        let is_gone = |id| find_segment(&sealed, id).is_none();
        Arc::make_mut(&mut view.directory).remove(&is_gone);
        if let Some(rollup) = rollup {
            Arc::make_mut(&mut view.rollups).push(Arc::clone(rollup));
        }
        drop(view);
        drop(before);
    }

    /// A rollup takes the place of others, in one step for whoever looks.
    pub fn exchange_rollups(&self, gone: &[u64], rollup: Option<&Arc<Rollup>>) {
        {
            let mut view = self.view.write();
            let rollups = Arc::make_mut(&mut view.rollups);
            rollups.retain(|rollup| !gone.contains(&rollup.handle.number()));
            rollups.extend(rollup.cloned());
        }
        self.forget_rollups(gone);
    }

    /// Adds one to a counter.
    pub fn count(&self, counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}
