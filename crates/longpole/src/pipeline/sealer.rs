//! The sealing stage: builds segments, two at a time, and publishes them in the order of their cuts.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::{Builder, Scope};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use query::{Refusal, State};
use segment::{BuildError, Names, SegmentInput, SegmentMeta, build};
use span_store::{Draft, SegmentId, Sink, SpanStore, StoreError, StoredSegment};

use super::Clock;
use super::assembling::Cut;
use super::house::Sealed;
use super::stage::vital;

/// The wait before a failed seal is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Cuts that are built at a time. A build is single-threaded for a part of its time, and waits for the disk; with one
/// alone a tenth of two processors is idle while load waits.
pub(super) const BUILDS: usize = 2;

/// Builds a segment into a sink.
type Build<'a> = &'a mut dyn FnMut(Sink<'_>) -> Result<SegmentMeta, BuildError>;

#[derive(Debug)]
pub(super) struct Sealer {
    state: Arc<State>,
    store: Arc<SpanStore>,
    clock: Clock,
    stopping: Arc<AtomicBool>,
    turns: Turns,
}

/// A cut, and when it may be published.
#[derive(Debug)]
struct Job {
    cut: Cut,
    turn: u64,
    id: SegmentId,
}

impl Sealer {
    pub(super) fn new(
        state: Arc<State>,
        store: Arc<SpanStore>,
        clock: Clock,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        Self { state, store, clock, stopping, turns: Turns::default() }
    }

    pub(super) fn run(self, cuts: Receiver<Cut>, sealed: &Sealed) {
        let jobs = Jobs { cuts: Mutex::new((cuts, 0)) };
        std::thread::scope(|scope| {
            (1..BUILDS).for_each(|_| self.start(scope, &jobs, sealed));
            // At once: the other thread may wait for this one's turn to end.
            vital("sealer", || self.work(&jobs, sealed));
        });
        if self.turns.is_given_up() {
            tracing::warn!(
                "not all is sealed; the log keeps the rest, and the next start takes it from there"
            );
        } else if let Err(error) = self.store.retire_log() {
            tracing::error!(%error, "cannot let go of the log");
        }
    }

    fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        jobs: &'scope Jobs,
        sealed: &'scope Sealed,
    ) {
        let named = Builder::new().name("sealer".to_owned());
        if let Err(error) = named.spawn_scoped(scope, || vital("sealer", || self.work(jobs, sealed))) {
            tracing::warn!(%error, "segments are built one at a time: there is no thread for a second one");
        }
    }

    fn work(&self, jobs: &Jobs, sealed: &Sealed) {
        while let Some(job) = jobs.next(&self.store) {
            let sealing = self.state.scans.sealing();
            let draft = self.draft(&job.cut, job.id);
            if self.turns.wait_for(job.turn) {
                self.seal_with(&job.cut, draft);
            }
            drop(job.cut);
            self.turns.end();
            drop(sealing);
            sealed.tell();
        }
    }

    /// A first try at building the segment, while the one before it may still be built or published. What fails is
    /// tried again when it is this one's turn, and reported then.
    pub(super) fn draft(&self, cut: &Cut, id: SegmentId) -> Option<Draft> {
        let draft = self.build(cut, |build| self.store.draft(id, build));
        draft
            .inspect_err(|error| tracing::warn!(%error, "building a segment failed, and will be tried again"))
            .ok()
    }

    /// Seals a cut with nothing built ahead.
    #[cfg(test)]
    pub(super) fn seal(&self, cut: &Cut) {
        self.seal_with(cut, None);
    }

    /// Seals a cut, however long it takes: a later segment would make the log forget this one's frames, so
    /// there is no going on without it. Meanwhile the stages before this one fill up and ingest refuses. Only a
    /// process that stops gives up, and then the log still has the frames: nothing is sealed after that.
    pub(super) fn seal_with(&self, cut: &Cut, draft: Option<Draft>) {
        if self.try_seal(cut, draft).is_none() {
            self.turns.give_up();
        }
    }

    fn try_seal(&self, cut: &Cut, draft: Option<Draft>) -> Option<()> {
        let started = Instant::now();
        // One that was built again has a higher number than those that were begun after it, and numbers rise.
        let mut draft = draft.filter(|draft| self.turns.is_next(draft.id()));
        let stored = self.until_done("cannot seal a segment", || match draft.take() {
            Some(draft) => self.store.publish_draft(self.clock.now(), draft),
            None => self.publish(cut),
        })?;
        self.turns.note(stored.handle.id());
        let (spans, bytes) = (stored.meta.spans, stored.meta.bytes);
        let swap = || self.state.replace_live(stored.clone(), cut.last_batch, &cut.analysed);
        self.until_done("cannot read a segment back", swap)?;
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
        Some(())
    }

    pub(super) fn publish(&self, cut: &Cut) -> Result<StoredSegment, StoreError> {
        let at = self.clock.now();
        self.build(cut, |build| self.store.publish(at, build))
    }

    fn build<T>(&self, cut: &Cut, store: impl FnOnce(Build<'_>) -> T) -> T {
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
        store(&mut |sink| build(&input, sink))
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

/// The cuts, and how many were taken.
#[derive(Debug)]
struct Jobs {
    cuts: Mutex<(Receiver<Cut>, u64)>,
}

impl Jobs {
    /// Waits for the next one; `None` if there will be none.
    fn next(&self, store: &SpanStore) -> Option<Job> {
        let mut cuts = self.cuts.lock();
        let cut = cuts.0.recv().ok()?;
        let turn = cuts.1;
        cuts.1 += 1;
        Some(Job { cut, turn, id: store.number_segment() })
    }
}

/// Whose turn it is to publish.
#[derive(Debug, Default)]
struct Turns {
    ended: Mutex<Ended>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Ended {
    turns: u64,
    /// The highest number that was published.
    last: Option<SegmentId>,
    /// A cut was not sealed.
    given_up: bool,
}

impl Turns {
    /// Whether there is anything to do in that turn.
    fn wait_for(&self, turn: u64) -> bool {
        let mut ended = self.ended.lock();
        while ended.turns < turn {
            self.changed.wait(&mut ended);
        }
        !ended.given_up
    }

    fn end(&self) {
        self.ended.lock().turns += 1;
        self.changed.notify_all();
    }

    fn is_next(&self, id: SegmentId) -> bool {
        self.ended.lock().last.is_none_or(|last| last < id)
    }

    fn note(&self, published: SegmentId) {
        let mut ended = self.ended.lock();
        ended.last = ended.last.max(Some(published));
    }

    fn give_up(&self) {
        self.ended.lock().given_up = true;
    }

    fn is_given_up(&self) -> bool {
        self.ended.lock().given_up
    }
}
