//! The watch over room on the disk: whether there is enough to take spans, and for what else writes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use query::{Refusal, State};
use span_store::{DiskGuard, DiskSpace, SpanStore, StoreOptions, disk_space};

/// When no group was taken for so long, the disk is too full and not the groups too large.
const NONE_TAKEN: Duration = Duration::from_secs(1);
/// For so long after a group was refused alone the log goes as soon as it can: in less it could not be cut, sealed and let go of.
const FOR_ITS_SAKE: Duration = Duration::from_secs(2);
/// After so long without another, a group that was refused says nothing any more.
const FORGOTTEN: Duration = Duration::from_secs(10);

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
    refused: Mutex<Option<RefusedGroups>>,
    /// When a group was last refused alone, whatever was taken since.
    last_refused: Mutex<Option<Instant>>,
}

/// Groups that were refused alone, with none taken in between.
#[derive(Debug, Clone, Copy)]
struct RefusedGroups {
    since: Instant,
    last: Instant,
    /// What the smallest takes.
    least: u64,
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
        Self {
            state,
            store,
            dir,
            disk: Mutex::new(disk),
            wanted: AtomicU64::new(0),
            refused: Mutex::default(),
            last_refused: Mutex::default(),
        }
    }

    /// Why requests of so many bytes may not be written now.
    pub(super) fn refuses(&self, request_bytes: usize) -> Option<String> {
        // What cannot be asked is not a reason to refuse; the guard says so in the log.
        let space = disk_space(&self.dir).ok()?;
        self.refuses_group(space, self.store.group_needs(request_bytes), Instant::now())
    }

    /// A group that takes more than there is is refused alone: the disk is not full for smaller ones. For its sake too the log
    /// goes as soon as it can.
    fn refuses_group(&self, space: DiskSpace, group: u64, now: Instant) -> Option<String> {
        let is_full = self.look(space, now);
        let needed = self.store.sealing_needs().saturating_add(group);
        if space.free < needed {
            self.wanted.fetch_max(needed, Ordering::AcqRel);
            self.state.set_short_of_room(true);
            self.note_refused(group, now);
            let why = too_full(space, needed, "these requests and what is in the log take");
            return self.state.refuses(Refusal::Disk).or(Some(why));
        }
        if is_full {
            return self.state.refuses(Refusal::Disk);
        }
        *self.refused.lock() = None;
        None
    }

    fn note_refused(&self, group: u64, now: Instant) {
        *self.last_refused.lock() = Some(now);
        let mut refused = self.refused.lock();
        let before = refused.filter(|before| now.saturating_duration_since(before.last) < FORGOTTEN);
        *refused = Some(match before {
            Some(before) => RefusedGroups { last: now, least: before.least.min(group), ..before },
            None => RefusedGroups { since: now, last: now, least: group },
        });
    }

    /// What a group takes at least, as none was taken of late; 0 if one was.
    fn least_group(&self, now: Instant) -> u64 {
        let refused = self.refused.lock();
        let is_so = |refused: &&RefusedGroups| {
            let since = |then| now.saturating_duration_since(then);
            since(refused.since) >= NONE_TAKEN && since(refused.last) < FORGOTTEN
        };
        refused.as_ref().filter(is_so).map_or(0, |refused| refused.least)
    }

    /// Looks whether the disk is too full, and says so to whoever asks. The log goes as soon as it can then, and for a while
    /// also for groups that were refused alone.
    pub(super) fn observe(&self, space: DiskSpace) -> bool {
        self.observe_at(space, Instant::now())
    }

    fn observe_at(&self, space: DiskSpace, now: Instant) -> bool {
        let full = self.look(space, now);
        let lately = |at| now.saturating_duration_since(at) < FOR_ITS_SAKE;
        self.state.set_short_of_room(full || self.last_refused.lock().is_some_and(lately));
        full
    }

    fn look(&self, space: DiskSpace, now: Instant) -> bool {
        let needed = self.store.sealing_needs().saturating_add(self.least_group(now));
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
            too_full(space, needed, "what is in the log and the next requests take")
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
        let (between, group) = room_for_smaller_groups(&watch);
        let mut now = Instant::now();
        for _ in 0..10 {
            now += NONE_TAKEN;
            let why = watch.refuses_group(between, group, now).unwrap();
            assert!(why.contains("these requests and what is in the log take"), "{why}");
            assert!(watch.state.is_short_of_room(), "the log goes for it");
            assert!(watch.refuses_group(between, 1, now).is_none() && watch.state.is_short_of_room());
            assert!(!watch.observe_at(between, now));
            assert!(watch.state.refuses(Refusal::Disk).is_none() && watch.state.is_short_of_room());
        }
        assert!(!watch.observe_at(between, now + FOR_ITS_SAKE) && !watch.state.is_short_of_room());
        assert_eq!(watch.state.counters.disk_full.load(Ordering::Relaxed), 0);
        assert!(watch.comfortable(between.total) > between.free, "room is made for it");
        let full = DiskSpace { free: watch.store.sealing_needs() / 2, ..between };
        assert!(
            watch.refuses_group(full, 1, now).is_some() && watch.refuses_group(full, group, now).is_some()
        );
        assert!(watch.state.refuses(Refusal::Disk).is_some() && watch.state.is_short_of_room());
        assert_eq!(watch.state.counters.disk_full.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_disk_is_full_when_no_group_is_taken_and_says_so_steadily() {
        let dir = tempfile::tempdir().unwrap();
        let watch = watch(dir.path());
        let (between, group) = room_for_smaller_groups(&watch);
        let start = Instant::now();
        assert!(watch.refuses_group(between, 2 * group, start).is_some());
        assert!(watch.refuses_group(between, group, start).is_some());
        assert!(!watch.observe_at(between, start));
        for tick in 0..50 {
            let now = start + NONE_TAKEN + Duration::from_millis(100) * tick;
            assert!(watch.observe_at(between, now) && watch.refuses_group(between, 1, now).is_some());
        }
        assert_eq!(watch.state.counters.disk_full.load(Ordering::Relaxed), 1);
        // Nobody asked for as much since: smaller ones may try.
        let later = start + FORGOTTEN;
        assert!(!watch.observe_at(between, later) && watch.refuses_group(between, 1, later).is_none());
        assert!(!watch.observe_at(between, later + NONE_TAKEN));
    }

    /// Room for what is in the log, and not for the group.
    fn room_for_smaller_groups(watch: &DiskWatch) -> (DiskSpace, u64) {
        let (idle, group) = (watch.store.sealing_needs(), 8 << 20);
        let free = (idle + idle / 4).max(idle + group / 2);
        assert!(free < idle + group);
        (DiskSpace { free, total: 1 << 40 }, group)
    }
}
