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
        self.refuses_group(space, self.store.group_needs(request_bytes))
    }

    /// A group that takes more than there is is refused alone: the disk is not full for smaller ones. For its sake too the log
    /// goes as soon as it can.
    fn refuses_group(&self, space: DiskSpace, group: u64) -> Option<String> {
        let is_full = self.look(space);
        let needed = self.store.sealing_needs().saturating_add(group);
        if space.free < needed {
            self.wanted.fetch_max(needed, Ordering::AcqRel);
            self.state.set_short_of_room(true);
            let why = too_full(space, needed, "these requests and what is in the log take");
            return self.state.refuses(Refusal::Disk).or(Some(why));
        }
        is_full.then(|| self.state.refuses(Refusal::Disk)).flatten()
    }

    /// Looks whether the disk is too full, and says so to whoever asks. Until this is done again, the log goes as soon as
    /// it can also for groups that were refused alone.
    pub(super) fn observe(&self, space: DiskSpace) -> bool {
        let full = self.look(space);
        self.state.set_short_of_room(full);
        full
    }

    fn look(&self, space: DiskSpace) -> bool {
        let needed = self.store.sealing_needs();
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
        let least = disk.free_min(space.total);
        let why = if needed > least {
            too_full(space, needed, "what is in the log takes")
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
        self.state.set_short_of_room(true);
        self.state.set_refusing(Refusal::Disk, Some(why));
    }
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

fn too_full(space: DiskSpace, needed: u64, what_takes: &str) -> String {
    let (free, needed) = (mib(space.free), needed.div_ceil(1 << 20));
    format!("the disk is too full: {free} MiB are free, and {what_takes} {needed} MiB until it is sealed")
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
    fn a_group_that_does_not_fit_is_refused_alone() {
        let dir = tempfile::tempdir().unwrap();
        let watch = watch(dir.path());
        let (idle, group) = (watch.store.sealing_needs(), 8 << 20);
        let space = |free| DiskSpace { free, total: 1 << 40 };
        // Room for what is in the log, and not for the group.
        let between = space((idle + idle / 4).max(idle + group / 2));
        assert!(between.free < idle + group);
        for _ in 0..10 {
            let why = watch.refuses_group(between, group).unwrap();
            assert!(why.contains("these requests and what is in the log take"), "{why}");
            assert!(watch.state.is_short_of_room(), "the log goes for it");
            assert!(watch.refuses_group(between, 1).is_none() && watch.state.is_short_of_room());
            assert!(!watch.observe(between));
            assert!(watch.state.refuses(Refusal::Disk).is_none() && !watch.state.is_short_of_room());
        }
        assert_eq!(watch.state.counters.disk_full.load(Ordering::Relaxed), 0);
        assert!(watch.comfortable(between.total) > between.free, "room is made for it");
        let full = space(idle / 2);
        assert!(watch.refuses_group(full, 1).is_some() && watch.refuses_group(full, group).is_some());
        assert!(watch.state.refuses(Refusal::Disk).is_some() && watch.state.is_short_of_room());
        assert_eq!(watch.state.counters.disk_full.load(Ordering::Relaxed), 1);
        assert!(watch.refuses_group(space((idle + group) * 2), group).is_none());
    }
}
