//! The guard: watches the disk, refuses spans before it is full, and gets the database over errors.
//!
//! All of it heals alone: what refuses here is taken back here.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use query::{DiskStatus, Refusal, Retired, State, drop_partition, retire_partition};
use span_store::{
    Ballast, DiskGuard, DiskSpace, Expired, Failure, SpanStore, StoreError, StoreOptions, disk_space,
};

use super::now;

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

/// Looks at the disk and refuses spans when it is too full. Asking costs a microsecond, so the committer asks before
/// every write: however fast spans come, it is not they who fill the disk to its end.
#[derive(Debug)]
pub(super) struct DiskWatch {
    state: Arc<State>,
    dir: PathBuf,
    disk: Mutex<DiskGuard>,
}

impl DiskWatch {
    pub(super) fn new(state: Arc<State>, dir: PathBuf, options: &StoreOptions, segment_bytes: usize) -> Self {
        let disk = DiskGuard::new(options.free_min, options.generation_bytes, segment_bytes as u64);
        Self { state, dir, disk: Mutex::new(disk) }
    }

    /// Why nothing may be written now.
    pub(super) fn refuses(&self) -> Option<String> {
        // What cannot be asked is not a reason to refuse; the guard says so in the log.
        let space = disk_space(&self.dir).ok()?;
        self.observe(space);
        self.state.refuses(Refusal::Disk)
    }

    fn observe(&self, space: DiskSpace) -> bool {
        let mut disk = self.disk.lock();
        let full = disk.observe(space);
        self.refuse_if(full, &disk, space);
        full
    }

    fn refuse_if(&self, full: bool, disk: &DiskGuard, space: DiskSpace) {
        let was = self.state.refuses(Refusal::Disk).is_some();
        if !full {
            self.state.set_refusing(Refusal::Disk, None);
            if was {
                tracing::info!(free = space.free, "there is room on the disk again");
            }
            return;
        }
        let mib = |bytes: u64| bytes >> 20;
        let (least, resume) = (disk.free_min(space.total), disk.resume_at(space.total));
        let why = format!(
            "the disk is too full: {} MiB are free and {} MiB must stay (store.free_min); spans are taken again \
             from {} MiB on",
            mib(space.free),
            mib(least),
            mib(resume)
        );
        if !was {
            self.state.count(&self.state.counters.disk_full, 1);
            tracing::error!("{why}");
        }
        self.state.set_refusing(Refusal::Disk, Some(why));
    }
}

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
    fn look(&mut self, space: DiskSpace) -> bool {
        let least = self.watch.disk.lock().free_min(space.total);
        let full = self.watch.observe(space);
        if full {
            self.make_room(space);
        }
        if let Some(failure) = self.store.failure() {
            self.heal(&failure, full, space.free);
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

    /// Drops the oldest partition if it is this store that fills the disk: at least half of what is used are its
    /// segments. What others filled is not made good with spans.
    fn make_room(&mut self, space: DiskSpace) {
        if self.dropped.is_some_and(|at| at.elapsed() < BETWEEN_DROPS) {
            return;
        }
        let view = self.state.snapshot();
        let stored: u64 = view.sealed.iter().map(|segment| segment.handle.disk_bytes()).sum();
        if stored < (space.total - space.free.min(space.total)) / 2 {
            return;
        }
        drop(view);
        let Some(oldest) = self.store.oldest_partition() else { return };
        self.dropped = Some(Instant::now());
        match self.drop_for_room(&oldest) {
            Ok(segments) => {
                self.state.count(&self.state.counters.dropped_for_room, segments);
                tracing::warn!(segments, "dropped the oldest partition: the disk is full");
            }
            Err(error) => tracing::error!(%error, "cannot drop the oldest partition"),
        }
    }

    /// Leaves a rollup of it if there is room for that.
    fn drop_for_room(&self, oldest: &Expired) -> Result<u64, StoreError> {
        match retire_partition(&self.state, &self.store, oldest, true, now()) {
            Ok(Retired::Gone { segments, .. }) => Ok(segments),
            other => {
                tracing::warn!(?other, "no rollup is left of the oldest partition");
                drop_partition(&self.state, &self.store, oldest, now())
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

    fn keep_ballast(&mut self, space: DiskSpace, trouble: bool) {
        let (dir, bytes) = (&self.dir, self.ballast_bytes);
        let ballast = self.ballast.get_or_insert_with(|| Ballast::new(dir, bytes, space.total));
        if !trouble {
            ballast.take(space, self.watch.disk.lock().resume_at(space.total));
        }
    }
}
