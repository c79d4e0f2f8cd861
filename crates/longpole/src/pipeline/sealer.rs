//! The sealing stage: builds segments and publishes them.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use query::{Refusal, State};
use segment::{Names, SegmentInput, build};
use span_store::{SpanStore, StoreError, StoredSegment};

use super::Clock;
use super::assembling::Cut;
use super::house::Sealed;

/// The wait before a failed seal is tried again.
const RETRY: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Sealer {
    state: Arc<State>,
    store: Arc<SpanStore>,
    clock: Clock,
    stopping: Arc<AtomicBool>,
}

impl Sealer {
    pub(super) fn new(
        state: Arc<State>,
        store: Arc<SpanStore>,
        clock: Clock,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        Self { state, store, clock, stopping }
    }

    pub(super) fn run(self, cuts: &Receiver<Cut>, sealed: &Sealed) {
        while let Ok(cut) = cuts.recv() {
            self.state.scans.set_sealing(true);
            self.seal(&cut);
            self.state.scans.set_sealing(false);
            sealed.tell();
        }
        if let Err(error) = self.store.retire_log() {
            tracing::error!(%error, "cannot let go of the log");
        }
    }

    /// Seals a cut, however long it takes: a later segment would make the log forget this one's frames, so
    /// there is no going on without it. Meanwhile the stages before this one fill up and ingest refuses. Only a
    /// process that stops gives up, and then the log still has the frames.
    pub(super) fn seal(&self, cut: &Cut) {
        let started = Instant::now();
        let Some(stored) = self.until_done("cannot seal a segment", || self.publish(cut)) else { return };
        let (spans, bytes) = (stored.meta.spans, stored.meta.bytes);
        let swap = || self.state.replace_live(stored.clone(), cut.last_batch, &cut.analysed);
        if self.until_done("cannot read a segment back", swap).is_none() {
            return;
        }
        self.state.count(&self.state.counters.seals, 1);
        let ms = started.elapsed().as_millis() as u64;
        tracing::debug!(
            spans,
            bytes,
            traces = cut.analysed.len(),
            open = cut.open.touched.len(),
            ms,
            "sealed"
        );
    }

    pub(super) fn publish(&self, cut: &Cut) -> Result<StoredSegment, StoreError> {
        let at = self.clock.now();
        let names: &dyn Names = &*self.state.names;
        let dictionary = self.store.dictionary();
        let input = SegmentInput {
            batches: &cut.batches,
            frames: cut.frames,
            analysed: &cut.analysed,
            open: &cut.open.touched,
            open_since: cut.open.since,
            names,
            dictionary: dictionary.as_deref(),
            now: cut.arrival,
        };
        self.store.publish(at, &mut |sink| build(&input, sink))
    }

    /// Tries until it works; `None` if the process stops before that.
    fn until_done<T, E: Display>(&self, what: &str, mut attempt: impl FnMut() -> Result<T, E>) -> Option<T> {
        loop {
            match attempt() {
                Ok(done) => {
                    self.state.set_refusing(Refusal::Sealing, None);
                    return Some(done);
                }
                Err(error) => {
                    tracing::error!(%error, "{what}");
                    self.state.set_refusing(Refusal::Sealing, Some(format!("{what}: {error}")));
                }
            }
            if self.stopping.load(Ordering::Acquire) {
                return None;
            }
            std::thread::sleep(RETRY);
        }
    }
}
