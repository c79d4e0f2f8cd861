//! The watch over room on the disk: whether there is enough to take spans, and for what else writes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use query::{Refusal, State};
use span_store::{DiskGuard, DiskSpace, SpanStore, StoreOptions, disk_space};

/// Looks at the disk and refuses spans when it is too full. Asking costs a microsecond, so the committer asks before
/// every write: however fast spans come, it is not they who fill the disk to its end, and what was taken can be
/// sealed.
#[derive(Debug)]
pub(super) struct DiskWatch {
    state: Arc<State>,
    store: Arc<SpanStore>,
    dir: PathBuf,
    disk: Mutex<DiskGuard>,
    /// What the largest group takes that was refused for want of room, with all that is in the log.
    wanted: AtomicU64,
}

impl DiskWatch {
    pub(super) fn new(
        state: Arc<State>,
        store: Arc<SpanStore>,
        options: &StoreOptions,
        segment_bytes: usize,
    ) -> Self {
        let disk = DiskGuard::new(options.free_min, options.generation_bytes, segment_bytes as u64);
        let dir = store.dir().to_owned();
        Self { state, store, dir, disk: Mutex::new(disk), wanted: AtomicU64::new(0) }
    }

    /// Why requests of so many bytes may not be written now.
    pub(super) fn refuses(&self, request_bytes: usize) -> Option<String> {
        // What cannot be asked is not a reason to refuse; the guard says so in the log.
        let space = disk_space(&self.dir).ok()?;
        let needed = self.store.sealing_needs().saturating_add(self.store.group_needs(request_bytes));
        if space.free < needed {
            self.wanted.fetch_max(needed, Ordering::AcqRel);
        }
        self.look(space, needed);
        self.state.refuses(Refusal::Disk)
    }

    /// Looks whether the disk is too full, and says so to whoever asks.
    pub(super) fn observe(&self, space: DiskSpace) -> bool {
        self.look(space, self.store.sealing_needs())
    }

    fn look(&self, space: DiskSpace, needed: u64) -> bool {
        let mut disk = self.disk.lock();
        let full = disk.observe(space, needed);
        self.refuse_if(full, &disk, space, needed);
        full
    }

    /// Free bytes that must stay with an empty log.
    pub(super) fn free_min(&self, total: u64) -> u64 {
        self.disk.lock().free_min(total)
    }

    /// Free bytes below which the oldest spans go, if it is they who fill the disk: a quarter above the mark at which
    /// spans would be refused, and what was asked for of late and refused.
    pub(super) fn comfortable(&self, total: u64) -> u64 {
        self.disk.lock().resume_at(total, 0).max(self.wanted.load(Ordering::Acquire))
    }

    /// Free bytes at which spans are taken again.
    pub(super) fn resume_at(&self, total: u64) -> u64 {
        self.disk.lock().resume_at(total, self.store.sealing_needs())
    }

    /// There is room for what was refused.
    pub(super) fn forget_wanted(&self) {
        self.wanted.store(0, Ordering::Release);
    }

    /// Whether so many bytes may be written that nobody waits for.
    pub(super) fn has_room_for(&self, bytes: u64) -> bool {
        let Ok(space) = disk_space(&self.dir) else { return true };
        let stays = self.disk.lock().least(space.total, self.store.sealing_needs());
        space.free >= stays.saturating_add(bytes)
    }

    fn refuse_if(&self, full: bool, disk: &DiskGuard, space: DiskSpace, needed: u64) {
        let was = self.state.refuses(Refusal::Disk).is_some();
        if !full {
            self.state.set_refusing(Refusal::Disk, None);
            if was {
                tracing::info!(free = space.free, "there is room on the disk again");
            }
            return;
        }
        let mib = |bytes: u64| bytes >> 20;
        let least = disk.free_min(space.total);
        let why = if needed > least {
            format!(
                "the disk is too full: {} MiB are free, and what is in the log takes {} MiB until it is sealed",
                mib(space.free),
                needed.div_ceil(1 << 20)
            )
        } else {
            format!(
                "the disk is too full: {} MiB are free and {} MiB must stay (store.free_min); spans are taken again \
                 from {} MiB on",
                mib(space.free),
                mib(least),
                mib(disk.resume_at(space.total, needed))
            )
        };
        if !was {
            self.state.count(&self.state.counters.disk_full, 1);
            tracing::error!("{why}");
        }
        self.state.set_refusing(Refusal::Disk, Some(why));
    }
}
