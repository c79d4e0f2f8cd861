//! Room on the disk: how much there is, how much must stay, and a reserve to give up.

use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, Mode, OFlags};

/// Room on the disk of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskSpace {
    /// Bytes that this user may still write.
    pub free: u64,
    /// Bytes of the whole disk.
    pub total: u64,
}

/// Free bytes below which nothing new is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FreeMin {
    /// 2 % of the disk, and at least what four log generations and two segments need, but for that at most 10 % of
    /// the disk, so that a small disk is of use.
    #[default]
    Auto,
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of the disk.
    Percent(u8),
}

/// Looks how much room there is on the disk of a folder.
///
/// # Errors
/// If the system does not say.
pub fn disk_space(dir: &Path) -> std::io::Result<DiskSpace> {
    let says = rustix::fs::statvfs(dir)?;
    Ok(DiskSpace {
        free: says.f_bavail.saturating_mul(says.f_frsize),
        total: says.f_blocks.saturating_mul(says.f_frsize),
    })
}

/// Says when the disk is too full to take spans, and when there is room again.
#[derive(Debug)]
pub struct DiskGuard {
    rule: FreeMin,
    /// What is written beyond the log before a refusal shows: four generations and two segments.
    under_way: u64,
    full: bool,
}

impl DiskGuard {
    /// A guard for a store with such generations and segments, in bytes.
    pub fn new(rule: FreeMin, generation_bytes: u64, segment_bytes: u64) -> Self {
        let under_way = generation_bytes.saturating_mul(4).saturating_add(segment_bytes.saturating_mul(2));
        Self { rule, under_way, full: false }
    }

    /// Free bytes that must stay on such a disk.
    pub fn free_min(&self, total: u64) -> u64 {
        match self.rule {
            FreeMin::Auto => (total / 50).max(self.under_way.min(total / 10)),
            FreeMin::Bytes(bytes) => bytes,
            FreeMin::Percent(percent) => total / 100 * u64::from(percent),
        }
    }

    /// Free bytes at which spans are taken again: a quarter more than must stay.
    pub fn resume_at(&self, total: u64, needed: u64) -> u64 {
        with_quarter(self.least(total, needed))
    }

    /// Free bytes below which nothing is taken while sealing what there is needs so much: whatever the rule says,
    /// what was taken can be sealed.
    pub fn least(&self, total: u64, needed: u64) -> u64 {
        self.free_min(total).max(needed)
    }

    /// Whether the disk is too full, given what there is now and what sealing needs. Once it is, it stays so until
    /// there is a quarter more room than must be.
    pub fn observe(&mut self, space: DiskSpace, needed: u64) -> bool {
        let limit =
            if self.full { self.resume_at(space.total, needed) } else { self.least(space.total, needed) };
        self.full = space.free < limit;
        self.full
    }
}

fn with_quarter(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 4)
}

const BALLAST: &str = "ballast";
/// On a small disk a share of it would be less than opening and one switch of the log take.
const BALLAST_MIN: u64 = 4 << 20;

/// Gives up the ballast of a folder. Whether there was any.
pub(crate) fn give_up_ballast(dir: &Path) -> bool {
    std::fs::remove_file(dir.join(BALLAST)).is_ok()
}

/// A file that holds room on the disk, to be given up when there is none left.
#[derive(Debug)]
pub struct Ballast {
    path: PathBuf,
    bytes: u64,
}

impl Ballast {
    /// Of so many bytes in a folder, but at most a fiftieth of the disk or 4 MiB. Nothing is written yet.
    pub fn new(dir: &Path, bytes: u64, total: u64) -> Self {
        Self { path: dir.join(BALLAST), bytes: bytes.min(BALLAST_MIN.max(total / 50)) }
    }

    /// Bytes that it holds at the moment.
    pub fn held(&self) -> u64 {
        self.path.metadata().map_or(0, |file| file.len())
    }

    /// Gives its room up. Whether there was any.
    pub fn release(&self) -> bool {
        std::fs::remove_file(&self.path).is_ok()
    }

    /// Takes its room, if the disk has it and `stays` bytes besides. True if it holds what it should.
    pub fn take(&self, space: DiskSpace, stays: u64) -> bool {
        let held = self.held();
        if held == self.bytes {
            return true;
        }
        if self.bytes == 0 || space.free.saturating_add(held) < self.bytes.saturating_add(stays) {
            self.release();
            return self.bytes == 0;
        }
        self.release();
        let taken = self.allocate();
        if taken.is_err() {
            self.release();
        }
        taken.is_ok()
    }

    fn allocate(&self) -> rustix::io::Result<()> {
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::open(&self.path, OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, mode)?;
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    fn guard(rule: FreeMin) -> DiskGuard {
        DiskGuard::new(rule, 24 * MIB, 48 * MIB)
    }

    #[test]
    fn a_large_disk_keeps_two_percent_and_a_small_one_is_of_use() {
        let auto = guard(FreeMin::Auto);
        assert_eq!(auto.free_min(100 * GIB), 2 * GIB);
        assert_eq!(auto.free_min(4 * GIB), 192 * MIB);
        assert_eq!(auto.free_min(500 * MIB), 50 * MIB);
        assert_eq!(guard(FreeMin::Bytes(7)).free_min(GIB), 7);
        assert_eq!(guard(FreeMin::Percent(5)).free_min(100 * MIB), 5 * MIB);
    }

    #[test]
    fn it_refuses_below_the_mark_and_takes_again_only_above_a_higher_one() {
        let mut guard = guard(FreeMin::Bytes(100));
        let mut at = |free| guard.observe(DiskSpace { free, total: 10_000 }, 50);
        assert!(!at(100));
        assert!(at(99));
        assert!(at(100) && at(124), "not for every byte to and fro");
        assert!(!at(125) && !at(100));
        assert!(at(99));
    }

    #[test]
    fn what_sealing_needs_stays_free_however_little_was_asked_for() {
        let mut guard = guard(FreeMin::Bytes(1));
        let mut at = |free, needed| guard.observe(DiskSpace { free, total: 10_000 }, needed);
        assert!(!at(500, 500) && at(499, 500));
        assert!(at(624, 500) && !at(124, 99), "once it is sealed, less is needed");
        assert_eq!(guard.least(10_000, 0), 1);
    }

    #[test]
    fn the_ballast_holds_its_room_and_gives_it_up() {
        let dir = tempfile::tempdir().unwrap();
        let space = disk_space(dir.path()).unwrap();
        assert!(space.free > 0 && space.free <= space.total);
        let ballast = Ballast::new(dir.path(), MIB, 100 * MIB);
        assert!(
            !ballast.take(DiskSpace { free: 2 * MIB, total: 100 * MIB }, 2 * MIB),
            "there is no room for it"
        );
        assert!(ballast.take(DiskSpace { free: 4 * MIB, total: 100 * MIB }, 2 * MIB));
        assert_eq!(ballast.held(), MIB);
        assert!(ballast.release() && !ballast.release());
        assert_eq!(ballast.held(), 0);
        assert_eq!(Ballast::new(dir.path(), GIB, 1000 * MIB).bytes, 20 * MIB, "a share of a small disk");
        assert_eq!(Ballast::new(dir.path(), GIB, 100 * MIB).bytes, 4 * MIB, "of use on a smaller one");
        assert!(Ballast::new(dir.path(), 0, GIB).take(space, 0), "none was asked for");
    }
}
