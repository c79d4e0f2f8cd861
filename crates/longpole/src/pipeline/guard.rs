//! The guard: looks at the disk all the time, makes room, and gets the database over errors.
//!
//! All of it heals alone: what refuses here is taken back here.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use query::{DiskStatus, Refusal, RetireError, Retired, State, drop_partition, retire_partition};
use span_store::{Ballast, DiskSpace, Expired, Failure, SpanStore, StoreError, disk_space};

use super::now;
use super::watch::DiskWatch;
use crate::copies;

/// How often the disk is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often while there is little room or writing fails.
const QUICK_TICK: Duration = Duration::from_millis(100);
/// Room, in times of what must stay, below which the disk is looked at more often.
const TIGHT: u64 = 4;
/// The steps in which a wait notices that the process stops.
const STEP: Duration = Duration::from_millis(50);
/// An error that is not about room may pass by itself for so long.
const REOPEN_AFTER: Duration = Duration::from_secs(30);
/// The longest wait between two tries to open the database again.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Room in which a database opens, and seals what lets its log go. The ballast is there to make it.
const REOPEN_ROOM: u64 = 3 << 20;
/// Files of a dropped partition go in the background; so long after one, no other is dropped for room.
const BETWEEN_DROPS: Duration = Duration::from_secs(2);
/// For so long at most a full disk is left to sealing, which gives back what the log has taken.
const SEALING_FIRST: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Guard {
    state: Arc<State>,
    store: Arc<SpanStore>,
    watch: Arc<DiskWatch>,
    dir: PathBuf,
    ballast: Option<Ballast>,
    ballast_bytes: u64,
    stopping: Arc<AtomicBool>,
    dropped: Option<Instant>,
    full_since: Option<Instant>,
    backoff: Duration,
    next_try: Option<Instant>,
}

impl Guard {
    pub(super) fn new(
        state: Arc<State>,
        store: Arc<SpanStore>,
        watch: Arc<DiskWatch>,
        ballast_bytes: u64,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        let dir = store.dir().to_owned();
        Self {
            state,
            store,
            watch,
            dir,
            ballast: None,
            ballast_bytes,
            stopping,
            dropped: None,
            full_since: None,
            backoff: QUICK_TICK,
            next_try: None,
        }
    }

    pub(super) fn run(mut self) {
        while !self.stopping.load(Ordering::Acquire) {
            let quick = match disk_space(&self.dir) {
                Ok(space) => self.look(space),
                Err(error) => {
                    tracing::error!(%error, "cannot tell how much room the disk has");
                    false
                }
            };
            self.wait(if quick { QUICK_TICK } else { TICK });
        }
    }

    fn wait(&self, length: Duration) {
        let until = Instant::now() + length;
        while Instant::now() < until && !self.stopping.load(Ordering::Acquire) {
            std::thread::sleep(STEP.min(length));
        }
    }

    /// Acts on what there is; whether to look again soon.
    pub(super) fn look(&mut self, space: DiskSpace) -> bool {
        let (dir, bytes) = (&self.dir, self.ballast_bytes);
        self.ballast.get_or_insert_with(|| Ballast::new(dir, bytes, space.total));
        let least = self.watch.free_min(space.total);
        let full = self.watch.observe(space);
        self.full_since = if full { self.full_since.or_else(|| Some(Instant::now())) } else { None };
        let comfortable = self.watch.comfortable(space.total);
        self.sweep_checkpoints(space.free < comfortable);
        if space.free >= comfortable {
            self.watch.forget_wanted();
        }
        let must = full && !self.sealing_may_help();
        // What was open at the last stop is reopened first: it should find its segments.
        let should = space.free < comfortable && self.state.not_ready.lock().is_none();
        match self.store.failure() {
            Some(failure) => self.heal(&failure, full, space.free),
            // Whoever's write failed says so afterwards, which may be after this had healed it.
            None => self.state.set_refusing(Refusal::Log, None),
        }
        // A store that fails can neither take a rollup nor note what goes.
        if (must || should) && self.store.failure().is_none() {
            self.make_room(space, comfortable.max(self.watch.resume_at(space.total)), full);
        }
        let failing = self.store.failure().is_some();
        self.keep_ballast(space, full || failing);
        *self.state.disk.lock() = DiskStatus {
            free: space.free,
            total: space.total,
            free_min: least,
            ballast: self.ballast.as_ref().map_or(0, Ballast::held),
            state: match (failing, full) {
                (true, _) => "failing",
                (false, true) => "full",
                (false, false) => "ok",
            },
        };
        full || failing || space.free < least.saturating_mul(TIGHT)
    }

    /// What is left of backups that were broken off holds on to room, which spans should not go for.
    fn sweep_checkpoints(&self, without_room: bool) {
        let abandoned = if without_room { copies::ABANDONED_WITHOUT_ROOM } else { copies::ABANDONED };
        let swept = copies::sweep(&self.dir, abandoned);
        if swept > 0 {
            tracing::warn!(swept, "removed what broken-off backups left behind");
        }
    }

    /// Whether the disk may be full only because of a log that is being sealed and then goes.
    fn sealing_may_help(&self) -> bool {
        let failed = self.store.failure().is_some_and(|failure| failure.full);
        let in_time = self.full_since.is_none_or(|since| since.elapsed() < SEALING_FIRST);
        !failed && in_time && self.store.size().log_bytes > 0
    }

    /// Drops the oldest partitions, one at least, until so much will be free, if it is this store that fills the disk:
    /// at least half of what is used are its segments and its log. What others filled is not made good with spans. With
    /// `insist` nothing is waited for.
    fn make_room(&mut self, space: DiskSpace, wanted: u64, insist: bool) {
        if self.dropped.is_some_and(|at| at.elapsed() < BETWEEN_DROPS) {
            return;
        }
        let size = self.store.size();
        if size.segment_bytes + size.log_bytes < (space.total - space.free.min(space.total)) / 2 {
            return;
        }
        let mut free = space.free;
        while let Some(oldest) = self.store.oldest_partition() {
            self.dropped = Some(Instant::now());
            match self.drop_for_room(&oldest, insist) {
                Ok(Some(segments)) => {
                    self.state.count(&self.state.counters.dropped_for_room, segments);
                    tracing::warn!(segments, "dropped the oldest partition to make room on the disk");
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "cannot drop the oldest partition");
                    return;
                }
            }
            free = free.saturating_add(oldest.bytes);
            if free >= wanted || self.stopping.load(Ordering::Acquire) {
                return;
            }
        }
    }

    /// Leaves a rollup of it. The room for that is kept free for as long as others let it be; then the ballast is
    /// there for it, and without any the spans go all the same. `None` if a late span keeps it for now.
    pub(super) fn drop_for_room(&self, oldest: &Expired, insist: bool) -> Result<Option<u64>, StoreError> {
        let retire = |insist| retire_partition(&self.state, &self.store, oldest, insist, now());
        let mut retired = retire(insist);
        if retired.as_ref().is_err_and(RetireError::is_unreadable) {
            // It is left out.
            retired = retire(true);
        }
        let has_no_room = matches!(&retired, Err(RetireError::Store(error)) if error.is_full());
        if has_no_room && self.ballast.as_ref().is_some_and(Ballast::release) {
            tracing::warn!("gave up the ballast: there is no room for a rollup");
            retired = retire(true);
        }
        match retired {
            Ok(Retired::Gone { segments, .. }) => Ok(Some(segments)),
            Ok(Retired::Postponed) if !insist => Ok(None),
            // All of it can be read when the store is open again.
            Err(error) if error.is_passing() => Err(StoreError::Closed),
            other => {
                let (segments, spans) = drop_partition(&self.state, &self.store, oldest, now())?;
                self.state.count(&self.state.counters.not_rolled_up, spans);
                tracing::error!(?other, spans, "no rollup is left of the oldest partition");
                Ok(Some(segments))
            }
        }
    }

    /// Tries whether writing works again, and if not, opens the database again when that is likely to help.
    fn heal(&mut self, failure: &Failure, full: bool, free: u64) {
        if failure.full && self.ballast.as_ref().is_some_and(Ballast::release) {
            tracing::warn!("gave up the ballast: the disk is full");
        }
        let Err(error) = self.store.probe() else {
            self.healed();
            return;
        };
        self.state.set_refusing(Refusal::Log, Some(format!("the log cannot be written: {error}")));
        let due = self.next_try.is_none_or(|at| Instant::now() >= at);
        // Without any room the database can be read as it is, and would not open.
        let room = !full || free >= REOPEN_ROOM;
        let likely = failure.full || failure.lasted >= REOPEN_AFTER || self.next_try.is_some();
        if !(due && room && likely) {
            return;
        }
        let started = Instant::now();
        match self.store.reopen() {
            Ok(()) => {
                tracing::warn!(ms = started.elapsed().as_millis() as u64, "opened the database again");
                self.healed();
            }
            Err(error) => {
                self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
                self.next_try = Some(Instant::now() + self.backoff);
                tracing::error!(%error, "cannot open the database again");
            }
        }
    }

    fn healed(&mut self) {
        self.backoff = QUICK_TICK;
        self.next_try = None;
        self.state.set_refusing(Refusal::Log, None);
    }

    fn keep_ballast(&self, space: DiskSpace, trouble: bool) {
        if let Some(ballast) = self.ballast.as_ref().filter(|_| !trouble) {
            ballast.take(space, self.watch.resume_at(space.total));
        }
    }
}
