//! The keeping stage: what happens to sealed segments over time. Merges the small ones of partitions that are over,
//! puts rollups in the place of partitions that retention takes, makes rollups coarser as they age, and trains dictionaries.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use query::{
    DictionaryTrainer, MergeError, Retired, RollupOptions, SealedSegment, State, keep_rollups, merge,
    mergeable, retire_partition,
};
use span_store::{Expired, PartitionId, SpanStore};
use trace_model::NanoDuration;

use super::clock::Clock;
use super::watch::DiskWatch;

/// Whether to stop is looked at this often.
const TICK: Duration = Duration::from_millis(50);
/// The house is kept at most and at least this often.
const INTERVAL: std::ops::RangeInclusive<Duration> = Duration::from_millis(250)..=Duration::from_secs(60);
/// After this many tries a partition goes, whatever late spans or unreadable blocks are in the way.
const TRIES_MAX: u32 = 10;
/// Rollups that are made coarser in one round at most.
const FOLDS_MAX: usize = 64;

/// What the keeper goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeepOptions {
    /// Raw bytes of a merged segment, which a merge holds while others are sealed.
    pub(super) merge_bytes: usize,
    /// How long rollups are kept.
    pub(super) rollup: RollupOptions,
    /// The width of a partition.
    pub(super) slice: NanoDuration,
}

#[derive(Debug)]
pub(super) struct Keeper {
    state: Arc<State>,
    store: Arc<SpanStore>,
    watch: Arc<DiskWatch>,
    clock: Clock,
    stopping: Arc<AtomicBool>,
    options: KeepOptions,
    /// Partitions that could not be merged; they stay as they are until the next start.
    unmergeable: Vec<PartitionId>,
    /// How often late spans, or something that could not be read, kept each partition. While the store is being opened
    /// again nothing is counted: all of it may be readable then.
    tries: HashMap<PartitionId, u32>,
    dictionaries: DictionaryTrainer,
}

impl Keeper {
    pub(super) fn new(
        state: Arc<State>,
        store: Arc<SpanStore>,
        watch: Arc<DiskWatch>,
        clock: Clock,
        stopping: Arc<AtomicBool>,
        options: KeepOptions,
    ) -> Self {
        Self {
            state,
            store,
            watch,
            clock,
            stopping,
            options,
            unmergeable: Vec::new(),
            tries: HashMap::new(),
            dictionaries: DictionaryTrainer::default(),
        }
    }

    pub(super) fn run(mut self) {
        let interval =
            Duration::from_nanos(self.options.slice.0 / 20).clamp(*INTERVAL.start(), *INTERVAL.end());
        let mut due = Instant::now();
        while !self.stops() {
            std::thread::sleep(TICK);
            // What was open at the last stop is reopened first: it must find its segments.
            let recovered = self.state.not_ready.lock().is_none();
            if recovered && Instant::now() >= due {
                self.keep();
                due = Instant::now() + interval;
            }
        }
    }

    fn stops(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn keep(&mut self) {
        self.retain();
        self.roll_up();
        self.merge();
        // What went is not reported any more.
        self.state.forget_damaged(|text| self.store.names_gone_partition(text));
        self.drop_replaced();
        if !self.stops() {
            self.tend_dictionaries();
        }
    }

    pub(super) fn drop_replaced(&self) {
        if let Err(error) = self.store.drop_retired() {
            tracing::error!(%error, "cannot drop what was replaced");
        }
    }

    fn tend_dictionaries(&mut self) {
        match self.dictionaries.tend(&self.state, &self.store, self.clock.now()) {
            Ok(Some(trained)) => {
                let query::Trained { adopted, before, after } = trained;
                tracing::info!(adopted, before, after, "trained a dictionary for small segments");
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "cannot look after dictionaries"),
        }
    }

    fn retain(&mut self) {
        for expired in self.store.expired(self.clock.now()) {
            // The oldest goes first: a later partition may hold what replaces an analysis of an earlier one.
            if self.stops() || !self.retire(&expired) {
                return;
            }
        }
    }

    /// Whether the partition is gone.
    pub(super) fn retire(&mut self, expired: &Expired) -> bool {
        let insist = self.tries.get(&expired.partition).is_some_and(|tries| *tries >= TRIES_MAX);
        match retire_partition(&self.state, &self.store, expired, insist, self.clock.now()) {
            Ok(Retired::Gone { segments, spans }) => {
                tracing::info!(segments, spans, bytes = expired.bytes, "retention dropped a partition");
                self.tries.remove(&expired.partition);
                true
            }
            Ok(Retired::Postponed) => {
                tracing::debug!("a late span changes a trace of the oldest partition; it stays for now");
                self.count_try(expired.partition);
                false
            }
            Err(error) => {
                if error.is_unreadable() {
                    self.count_try(expired.partition);
                }
                tracing::error!(%error, "retention cannot drop a partition");
                false
            }
        }
    }

    fn count_try(&mut self, partition: PartitionId) {
        *self.tries.entry(partition).or_default() += 1;
    }

    pub(super) fn roll_up(&self) {
        for _ in 0..FOLDS_MAX {
            if self.stops() {
                return;
            }
            match keep_rollups(&self.state, &self.store, &self.options.rollup, self.clock.now()) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::error!(%error, "cannot make a rollup coarser");
                    return;
                }
            }
        }
    }

    pub(super) fn merge(&mut self) {
        let partitions =
            mergeable(&self.state.snapshot_of_stored(), self.clock.now(), self.options.merge_bytes);
        for segments in partitions {
            let Some(id) = segments.first().map(|segment| segment.handle.partition()) else { continue };
            if self.stops() {
                return;
            }
            // The merged segments are there beside the old ones until all of them are.
            let takes = segments.iter().map(|segment| segment.handle.disk_bytes()).sum();
            if !self.unmergeable.contains(&id) && self.watch.has_room_for(takes) {
                self.merge_one(id, &segments);
            }
        }
    }

    fn merge_one(&mut self, id: PartitionId, segments: &[Arc<SealedSegment>]) {
        let started = Instant::now();
        let merged = merge(&self.state, &self.store, segments, self.options.merge_bytes, &|| self.stops());
        let mut housekeeping = self.state.housekeeping.lock();
        match merged {
            Ok(Some(outcome)) => {
                housekeeping.merged.partitions += 1;
                housekeeping.merged.segments_before += outcome.before as u64;
                housekeeping.merged.segments_after += outcome.after as u64;
                let ms = started.elapsed().as_millis() as u64;
                tracing::info!(before = outcome.before, after = outcome.after, ms, "merged small segments");
            }
            // It changed meanwhile, or has a damaged segment.
            Ok(None) => self.unmergeable.push(id),
            Err(MergeError::Stopped) => {}
            // A store that fails says nothing of the partition.
            Err(error) if error.is_passing() || self.store.failure().is_some() => {
                tracing::warn!(%error, "cannot merge the segments of a partition now; it is tried again");
                housekeeping.merged.failed += 1;
            }
            Err(error) => {
                tracing::error!(%error, "cannot merge the segments of a partition");
                housekeeping.merged.failed += 1;
                self.unmergeable.push(id);
            }
        }
    }
}
