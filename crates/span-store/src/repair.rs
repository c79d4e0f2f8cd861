//! Making a new database of what can still be read of one whose catalog is gone.
//!
//! What RocksDB knows of its files lies in `MANIFEST`, and which of these counts in `CURRENT`. Without them its files
//! are there and mean nothing to it. Ours say themselves what they are: a file is one segment or one rollup, whose
//! last value is its meta, or one dictionary, and the write-ahead files have the frames. So a new database is made beside the old one,
//! gets the files again (as links, which take no room) and the frames, and takes its place. The old one is kept whole.

mod files;
mod known;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rocksdb::{Cache, WriteOptions};
use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::copies::folder;
use crate::damage::{self, FOLDER as DAMAGED};
use crate::database::{Opening, open_rocks, rocks_dir};
use crate::dictionaries::copies;
use crate::error::StoreError;
use crate::log::Generation;
use crate::open::{NEXT_FRAME_KEY, NEXT_SEGMENT_KEY, SCHEMA, SCHEMA_KEY};
use crate::options::{self, StoreOptions};
use crate::partition::{Db, FamilyName, Partition};
use crate::partitions::slice;
use crate::retention;
use crate::rollup;
use crate::wal;
use files::{DictionaryFile, SegmentFile};
use known::{Known, LostSegment};

/// Folder of the new database, in the data folder, until it takes the place of the old one.
const FOLDER: &str = "repair";
/// There once the new database is whole.
const WHOLE: &str = "whole";
const CACHE_BYTES: usize = 16 << 20;

/// What a repair brought back.
#[derive(Debug, Clone, Default)]
pub struct Repaired {
    /// Segments that the new database has.
    pub segments: u64,
    /// Spans in them.
    pub spans: u64,
    /// Rollups that it has.
    pub rollups: u64,
    /// Dictionaries of small segments that it has.
    pub dictionaries: u64,
    /// Log frames that no segment has.
    pub frames: u64,
    /// Files that are left out because others hold what they held.
    pub replaced: Vec<String>,
    /// Files that RocksDB wrote itself: the catalog, which is made anew.
    pub catalog_files: u64,
    /// Files that could not be used, and why.
    pub unusable: Vec<String>,
    /// Files that the old catalog has and that are not there, as far as it could be read.
    pub missing: Vec<String>,
    /// Whether an earlier repair was interrupted before its last step and this one took only that: what it brought back
    /// is not counted again.
    pub is_rest: bool,
    /// Where the old database is now.
    pub old: PathBuf,
}

/// Makes a new database of what can be read of the old one, and puts it in its place. The old one is moved to
/// `damaged/rocksdb-N` and nothing of it is changed.
///
/// # Errors
/// If a server has the store open, there is nothing to repair or nothing to bring back, or RocksDB or the system fails.
/// Then the old database is where it was, or, after its move, the next call goes on.
pub fn repair(dir: &Path, options: &StoreOptions) -> Result<Repaired, StoreError> {
    let (old, new) = (rocks_dir(dir), dir.join(FOLDER));
    if !old.is_dir() && new.join(WHOLE).is_file() {
        return put_in_place(dir, Repaired { old: newest_aside(dir), is_rest: true, ..Repaired::default() });
    }
    if !old.is_dir() {
        return Err(StoreError::NoStore(dir.to_owned()));
    }
    let _lock = lock(dir)?;
    // What an earlier try left; the old database is still in its place.
    remove(&new)?;
    let ingest = new.join("ingest");
    fs::create_dir_all(&ingest).map_err(folder(&new))?;
    let cache = Cache::new_lru_cache(CACHE_BYTES);
    let db = open_rocks(&new, &cache, Opening::of(options))?;
    let known = known::read(dir, &cache)?;
    let mut repaired = Repaired { missing: known.missing(&old), ..Repaired::default() };
    let kept = files::keep(files::read(&db, &cache, &old, &ingest)?, &mut repaired);
    let mut work = Work { db: &db, cache: &cache, ingest: &ingest, repaired: &mut repaired };
    work.segments(&kept.segments, options)?;
    work.rollups(&kept.rollups)?;
    work.dictionaries(&kept.dictionaries)?;
    work.frames(&old, &kept, &known)?;
    let lost = known.lost(&kept, &work.repaired.unusable, &old);
    work.lost(&lost, options)?;
    db.flush_wal(true)?;
    drop(db);
    if repaired.segments + repaired.rollups + repaired.frames == 0 {
        remove(&new)?;
        return Err(StoreError::NothingFound(old));
    }
    let _ = fs::remove_dir(&ingest);
    let whole = new.join(WHOLE);
    fs::File::create(&whole).and_then(|file| file.sync_all()).map_err(folder(&whole))?;
    sync(&new)?;
    repaired.old = free_aside(dir)?;
    fs::rename(&old, &repaired.old).map_err(folder(&repaired.old))?;
    put_in_place(dir, repaired)
}

/// Whether a repair was interrupted between its last two steps: the old database is aside and the new one not in its
/// place yet.
pub(crate) fn is_interrupted(dir: &Path) -> bool {
    !rocks_dir(dir).exists() && dir.join(FOLDER).join(WHOLE).exists()
}

fn put_in_place(dir: &Path, repaired: Repaired) -> Result<Repaired, StoreError> {
    let (place, new) = (rocks_dir(dir), dir.join(FOLDER));
    fs::rename(rocks_dir(&new), &place).map_err(folder(&place))?;
    sync(dir)?;
    remove(&new)?;
    Ok(repaired)
}

struct Work<'a> {
    db: &'a Db,
    cache: &'a Cache,
    ingest: &'a Path,
    repaired: &'a mut Repaired,
}

impl Work<'_> {
    /// Partitions by the arrival that the segments tell.
    fn segments(&mut self, segments: &[SegmentFile], options: &StoreOptions) -> Result<(), StoreError> {
        let width = options.slice();
        let mut partitions: BTreeMap<u64, Vec<&SegmentFile>> = BTreeMap::new();
        for segment in segments {
            partitions.entry(segment.arrival / width).or_default().push(segment);
        }
        for (number, members) in partitions {
            let family = Partition::new(slice(number, width)).family;
            self.db.create_cf(&family, &options::partition(self.cache))?;
            let paths: Vec<&Path> = members.iter().map(|member| member.path.as_path()).collect();
            files::ingest(self.db, &family, &paths, self.ingest)?;
            self.repaired.segments += members.len() as u64;
            self.repaired.spans += members.iter().map(|member| member.spans).sum::<u64>();
        }
        Ok(())
    }

    fn rollups(&mut self, rollups: &[PathBuf]) -> Result<(), StoreError> {
        let paths: Vec<&Path> = rollups.iter().map(PathBuf::as_path).collect();
        if !paths.is_empty() {
            files::ingest(self.db, rollup::FAMILY, &paths, self.ingest)?;
        }
        self.repaired.rollups = rollups.len() as u64;
        Ok(())
    }

    /// The files, and out of them the copies in the catalog.
    fn dictionaries(&mut self, dictionaries: &BTreeMap<u32, DictionaryFile>) -> Result<(), StoreError> {
        let paths: Vec<&Path> = dictionaries.values().map(|file| file.path.as_path()).collect();
        if !paths.is_empty() {
            files::ingest(self.db, copies::FAMILY, &paths, self.ingest)?;
        }
        for (id, file) in dictionaries {
            copies::put_in_catalog(self.db, *id, &file.value)?;
        }
        self.repaired.dictionaries = dictionaries.len() as u64;
        Ok(())
    }

    /// Writes down which segments the old catalog had and the new database has not, in the partitions that they would be in.
    fn lost(&mut self, lost: &[LostSegment], options: &StoreOptions) -> Result<(), StoreError> {
        let width = options.slice();
        for segment in lost {
            let begin = match segment.family {
                FamilyName::Whole(id) => id.begin.0,
                FamilyName::Slice(number) => number.saturating_mul(width),
            };
            let family = Partition::new(slice(begin / width, width)).family;
            if self.db.cf_handle(&family).is_none() {
                self.db.create_cf(&family, &options::partition(self.cache))?;
            }
            damage::record(
                self.db,
                segment.id,
                &format!("segment {} in {family}: {}", segment.id, segment.why),
            )?;
        }
        Ok(())
    }

    /// The frames above what segments hold, and what the catalog knows besides families.
    fn frames(&mut self, old: &Path, kept: &Kept, known: &Known) -> Result<(), StoreError> {
        let log = Generation::new(0).family;
        self.db.create_cf(&log, &options::log())?;
        let sealed = kept.sealed().max(known.sealed);
        let mut last = sealed.max(known.last_frame);
        let mut outcome = Ok(());
        let mut frames = 0;
        wal::read_frames(old, &mut |seq, frame| {
            last = last.max(seq);
            if seq <= sealed || outcome.is_err() {
                return;
            }
            // One that is there twice was written again under its number, and the later counts.
            outcome = match self.db.cf_handle(&log) {
                Some(family) => self.db.put_cf(&family, seq.to_be_bytes(), frame).map_err(StoreError::from),
                None => Err(StoreError::Closed),
            };
            frames += 1;
        })?;
        outcome?;
        self.repaired.frames = frames;
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        self.db.put(SCHEMA_KEY, SCHEMA.to_le_bytes())?;
        self.db.put(NEXT_SEGMENT_KEY, kept.next_segment().to_be_bytes())?;
        retention::note_sealed(self.db, known.sealed)?;
        Ok(self.db.put_opt(NEXT_FRAME_KEY, (last + 1).to_be_bytes(), &synced)?)
    }
}

/// Keeps servers out, as RocksDB does.
fn lock(dir: &Path) -> Result<OwnedFd, StoreError> {
    let path = rocks_dir(dir).join("LOCK");
    let failed = |error: rustix::io::Errno| folder(&path)(error.into());
    let mode = Mode::RUSR | Mode::WUSR;
    let file =
        rustix::fs::open(&path, OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC, mode).map_err(failed)?;
    rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| StoreError::Locked(dir.to_owned()))?;
    Ok(file)
}

/// Where the next old database goes.
fn free_aside(dir: &Path) -> Result<PathBuf, StoreError> {
    let damaged = dir.join(DAMAGED);
    fs::create_dir_all(&damaged).map_err(folder(&damaged))?;
    let mut n = 0_u32;
    loop {
        let at = aside(dir, n);
        if !at.exists() {
            return Ok(at);
        }
        n += 1;
    }
}

fn newest_aside(dir: &Path) -> PathBuf {
    let mut n = 0;
    while aside(dir, n + 1).exists() {
        n += 1;
    }
    aside(dir, n)
}

fn aside(dir: &Path, n: u32) -> PathBuf {
    dir.join(DAMAGED).join(format!("rocksdb-{n}"))
}

fn remove(new: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(folder(new)(error)),
        _ => Ok(()),
    }
}

fn sync(dir: &Path) -> Result<(), StoreError> {
    fs::File::open(dir).and_then(|file| file.sync_all()).map_err(folder(dir))
}

/// What is used of the files.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    segments: Vec<SegmentFile>,
    rollups: Vec<PathBuf>,
    dictionaries: BTreeMap<u32, DictionaryFile>,
    /// The greatest segment number that a rollup names.
    rolled_up: Option<u32>,
}

impl Kept {
    fn sealed(&self) -> u64 {
        self.segments.iter().map(|segment| segment.frames.1).max().unwrap_or(0)
    }

    fn next_segment(&self) -> u32 {
        let stored = self.segments.iter().map(|segment| segment.id).max();
        stored.max(self.rolled_up).map_or(0, |last| last.saturating_add(1))
    }
}
