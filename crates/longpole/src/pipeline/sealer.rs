//! The sealing stage: builds segments, publishes them, and keeps the store's house.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use query::{SealedSegment, State};
use segment::{Names, SegmentInput, build};
use span_store::{SpanStore, StoreError};

use super::assembling::Cut;
use super::now;

/// How often the store's house is kept while nothing is sealed.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// Retention is looked at this often.
const RETENTION: Duration = Duration::from_secs(60);
/// The wait before a failed seal is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Tries at stopping time; the log keeps what could not be sealed.
const TRIES_MAX: u32 = 5;

#[derive(Debug)]
pub(super) struct Sealer {
    state: Arc<State>,
    store: Arc<SpanStore>,
    retention_checked: Instant,
}

impl Sealer {
    pub(super) fn new(state: Arc<State>, store: Arc<SpanStore>) -> Self {
        Self { state, store, retention_checked: Instant::now() }
    }

    pub(super) fn run(mut self, cuts: &Receiver<Cut>) {
        loop {
            match cuts.recv_timeout(HOUSEKEEPING) {
                Ok(cut) => self.seal(&cut),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.keep_house();
        }
        if let Err(error) = self.store.retire_log() {
            tracing::error!(%error, "cannot let go of the log");
        }
    }

    fn seal(&self, cut: &Cut) {
        for attempt in 1..=TRIES_MAX {
            match self.try_seal(cut) {
                Ok(()) => return,
                Err(error) => tracing::error!(%error, attempt, "cannot seal a segment"),
            }
            std::thread::sleep(RETRY);
        }
        let detail = "segments cannot be sealed; spans stay in the log and in memory".to_owned();
        self.state.damaged.lock().push(detail);
    }

    fn try_seal(&self, cut: &Cut) -> Result<(), StoreError> {
        let started = Instant::now();
        let at = now();
        let names: &dyn Names = &*self.state.names;
        let input = SegmentInput {
            batches: &cut.batches,
            frames: cut.frames,
            analysed: &cut.analysed,
            open: &cut.open,
            names,
            now: at,
        };
        let stored = self.store.publish(at, &mut |sink| build(&input, sink))?;
        let (spans, bytes) = (stored.meta.spans, stored.meta.bytes);
        let segment = SealedSegment::load(stored, &self.state.names)
            .map_err(|error| StoreError::Build(segment::BuildError::Sink(error.to_string())))?;
        self.state.replace_live(Arc::new(segment), cut.last_batch, &cut.analysed);
        self.state.count(&self.state.counters.seals, 1);
        let ms = started.elapsed().as_millis() as u64;
        tracing::debug!(spans, bytes, traces = cut.analysed.len(), open = cut.open.len(), ms, "sealed");
        Ok(())
    }

    fn keep_house(&mut self) {
        if let Err(error) = self.store.keep_house() {
            tracing::error!(%error, "cannot keep the log's house");
        }
        if self.retention_checked.elapsed() >= RETENTION {
            self.retention_checked = Instant::now();
            self.retain();
        }
    }

    fn retain(&self) {
        let view = self.state.snapshot();
        let segments: Vec<_> =
            view.sealed.iter().map(|segment| (segment.handle.clone(), segment.meta.bytes)).collect();
        let gone = self.store.expired(&segments, now());
        if gone.is_empty() {
            return;
        }
        let handles: Vec<_> = segments
            .into_iter()
            .filter(|(handle, _)| gone.contains(&handle.id()))
            .map(|(handle, _)| handle)
            .collect();
        self.state.remove_sealed(&gone);
        match self.store.drop_partitions_of(&handles) {
            Ok(()) => tracing::info!(segments = handles.len(), "retention dropped segments"),
            Err(error) => tracing::error!(%error, "retention cannot drop a partition"),
        }
    }
}
