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
    /// What that group takes by itself. Until there is room for it, the guard and whoever asks judge by it alike: else the
    /// one would take back what the other says.
    wanted_by_group: AtomicU64,
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
        let (wanted, wanted_by_group) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { state, store, dir, disk: Mutex::new(disk), wanted, wanted_by_group }
    }

    /// Why requests of so many bytes may not be written now.
    pub(super) fn refuses(&self, request_bytes: usize) -> Option<String> {
        // What cannot be asked is not a reason to refuse; the guard says so in the log.
        let space = disk_space(&self.dir).ok()?;
        self.look_for_group(space, self.store.group_needs(request_bytes));
        self.state.refuses(Refusal::Disk)
    }

    fn look_for_group(&self, space: DiskSpace, group: u64) -> bool {
        let needed = self.store.sealing_needs().saturating_add(group);
        if space.free < needed {
            self.wanted.fetch_max(needed, Ordering::AcqRel);
            self.wanted_by_group.fetch_max(group, Ordering::AcqRel);
        }
        self.look(space, group)
    }

    /// Looks whether the disk is too full, and says so to whoever asks.
    pub(super) fn observe(&self, space: DiskSpace) -> bool {
        self.look(space, 0)
    }

    /// Looks whether the disk is too full for a group, or for one that was refused and takes more.
    fn look(&self, space: DiskSpace, group: u64) -> bool {
        let group = group.max(self.wanted_by_group.load(Ordering::Acquire));
        let needed = self.store.sealing_needs().saturating_add(group);
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
        self.wanted_by_group.store(0, Ordering::Release);
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

#[cfg(test)]
mod tests {
    use query::NameTable;
    use span_store::FreeMin;
    use trace_assemble::{Assembler, Options};

    use super::*;

    fn watch(dir: &std::path::Path) -> DiskWatch {
        let options = StoreOptions { free_min: FreeMin::Bytes(1), ..StoreOptions::default() };
        let store = Arc::new(SpanStore::open(dir, options).unwrap().0);
        let state = State::new(Arc::new(NameTable::default()), Assembler::new(Options::default()));
        DiskWatch::new(Arc::new(state), store, &options, 1)
    }

    #[test]
    fn the_guard_does_not_take_back_what_a_group_was_refused_for() {
        let dir = tempfile::tempdir().unwrap();
        let watch = watch(dir.path());
        let (idle, group) = (watch.store.sealing_needs(), 8 << 20);
        let space = |free| DiskSpace { free, total: 1 << 40 };
        // Room for what is in the log, and not for the group.
        let between = space((idle + idle / 4).max(idle + group / 2));
        assert!(between.free < idle + group);
        assert!(!watch.observe(between));
        for _ in 0..10 {
            assert!(watch.look_for_group(between, group) && watch.observe(between));
            assert!(watch.look_for_group(between, 1), "nor does a smaller one");
        }
        assert_eq!(watch.state.counters.disk_full.load(Ordering::Relaxed), 1);
        assert!(watch.comfortable(between.total) > between.free);
        assert!(!watch.observe(space((idle + group) * 2)));
        watch.forget_wanted();
        assert!(!watch.observe(between) && !watch.look_for_group(between, 1));
    }
}
