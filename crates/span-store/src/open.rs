//! Opening a store: which families there are, which segments, and where the log ends.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use rocksdb::{Cache, Direction, IteratorMode};
use segment::{Key, SegmentMeta};

use crate::damage;
use crate::database::{Database, Opening, rocks_dir};
use crate::error::StoreError;
use crate::frame;
use crate::log::{Generation, LogState, generation_of};
use crate::options::StoreOptions;
use crate::partition::{Db, Partition, SegmentHandle, SegmentId, full_key};
use crate::parts::in_parts;
use crate::repair;
use crate::store::StoredSegment;

/// Written under `00 "schema"` in the catalog.
pub(crate) const SCHEMA: u32 = 1;
pub(crate) const SCHEMA_KEY: &[u8] = b"\0schema";
/// The number of the next frame when a generation was begun: frames below it had been written.
pub(crate) const NEXT_FRAME_KEY: &[u8] = b"\x04frame";

/// The number of the next segment, written when a partition goes and by a repair: rollups may name greater ones than there
/// are.
pub(crate) const NEXT_SEGMENT_KEY: &[u8] = b"\x04segment";

/// Segments for whose metas a thread is started: each takes a quarter of a millisecond.
const METAS_WORTH: usize = 64;

/// An open database, and what had to be set aside for it.
pub(crate) struct Opened {
    pub(crate) db: Db,
    /// How it was opened. While a hole is in its log, there is no opening it in another way.
    pub(crate) opening: Opening,
    pub(crate) damaged: Vec<String>,
    /// Where the log ends torn, if it does.
    pub(crate) torn_end: Option<String>,
    /// The greatest frame number that anything on disk names.
    pub(crate) last_frame: u64,
    /// Segments below this were set aside; their numbers are not used again.
    pub(crate) next_segment: u32,
}

pub(crate) fn database(dir: &Path, cache: &Cache, options: &StoreOptions) -> Result<Opened, StoreError> {
    std::fs::create_dir_all(dir.join("ingest"))
        .map_err(|source| StoreError::Folder { dir: dir.to_path_buf(), source })?;
    has_catalog(dir)?;
    let mut opened = damage::open(dir, cache, options)?;
    // Not before the lock is held: these files may be another process's, at work on them.
    clear_unfinished(dir);
    check_schema(&opened.db)?;
    for (id, text) in damage::recorded(&opened.db)? {
        opened.next_segment = opened.next_segment.max(id.saturating_add(1));
        if !opened.damaged.contains(&text) {
            opened.damaged.push(text);
        }
    }
    let noted = opened.db.get(NEXT_SEGMENT_KEY)?.and_then(|bytes| <[u8; 4]>::try_from(&bytes[..]).ok());
    opened.next_segment = opened.next_segment.max(noted.map_or(0, u32::from_be_bytes));
    opened.last_frame = opened.last_frame.max(known(&opened.db)?);
    Ok(opened)
}

/// The greatest frame number that the catalog knows to have been written.
///
/// # Errors
/// If RocksDB fails, or the store was written by a newer version.
pub(crate) fn known(db: &Db) -> Result<u64, StoreError> {
    if let Some(found) = db.get(SCHEMA_KEY)? {
        known_schema(&found)?;
    }
    let noted = db.get(NEXT_FRAME_KEY)?.and_then(|bytes| <[u8; 8]>::try_from(&bytes[..]).ok());
    Ok(noted.map_or(0, u64::from_be_bytes).saturating_sub(1))
}

/// Looks whether there is a store in a folder.
///
/// # Errors
/// [`StoreError::NoStore`] if there is none, and [`StoreError::Catalog`] if there is one that cannot be opened for what
/// is gone of it.
pub fn find(dir: &Path) -> Result<(), StoreError> {
    has_catalog(dir)?;
    let found = rocks_dir(dir).join("CURRENT").is_file();
    if found { Ok(()) } else { Err(StoreError::NoStore(dir.to_owned())) }
}

/// Without `CURRENT`, RocksDB takes the folder for an empty one, begins anew, and deletes files that it does not know.
pub(crate) fn has_catalog(dir: &Path) -> Result<(), StoreError> {
    if repair::is_interrupted(dir) {
        let reason = "a repair was interrupted before its last step".to_owned();
        return Err(StoreError::Catalog { file: "rocksdb".to_owned(), reason });
    }
    let db_dir = rocks_dir(dir);
    let is_data = |path: &Path| path.extension().is_some_and(|ending| ending == "sst" || ending == "log");
    let mut entries = std::fs::read_dir(&db_dir).into_iter().flatten().flatten();
    if !db_dir.join("CURRENT").exists() && entries.any(|entry| is_data(&entry.path())) {
        return Err(StoreError::Catalog { file: "CURRENT".to_owned(), reason: "it is gone".to_owned() });
    }
    Ok(())
}

fn known_schema(bytes: &[u8]) -> Result<(), StoreError> {
    let found = <[u8; 4]>::try_from(bytes).map_or(u32::MAX, u32::from_le_bytes);
    if found > SCHEMA { Err(StoreError::Schema { found, known: SCHEMA }) } else { Ok(()) }
}

/// Files that a crash left between being written and being ingested; the log still has their spans.
fn clear_unfinished(dir: &Path) {
    for entry in std::fs::read_dir(dir.join("ingest")).into_iter().flatten().flatten() {
        let _ = std::fs::remove_file(entry.path());
    }
}

fn check_schema(db: &Db) -> Result<(), StoreError> {
    match db.get(SCHEMA_KEY)? {
        None => Ok(db.put(SCHEMA_KEY, SCHEMA.to_le_bytes())?),
        Some(bytes) => known_schema(&bytes),
    }
}

/// The segments of a partition with abridged metas, oldest first, read in several threads if they are many. A meta that
/// cannot be read is reported and its segment left out. Also the number after the last segment, which a damaged one counts
/// for: its keys are still there.
pub(crate) fn segments(
    database: &Arc<Database>,
    partition: &Arc<Partition>,
    damaged: &mut Vec<String>,
) -> Result<(Vec<StoredSegment>, u32), StoreError> {
    // Held for this alone: each part asks for the database itself.
    let files = damage::segments_of_files(&*database.get()?, &partition.family)?;
    let reading = Reading { database, partition, files: &files };
    let parts = in_parts(&files, METAS_WORTH, |part| reading.range(part));
    let (mut found, mut after) = (Vec::with_capacity(files.len()), 0);
    for part in parts {
        let part = part?;
        found.extend(part.found.into_iter().rev());
        damaged.extend(part.damaged);
        after = after.max(part.after);
    }
    Ok((found, after))
}

/// Reads the metas of a partition.
struct Reading<'a> {
    database: &'a Arc<Database>,
    partition: &'a Arc<Partition>,
    /// The segments that the catalog of files names, rising.
    files: &'a [u32],
}

/// What was found of some of them, newest first.
#[derive(Default)]
struct Metas {
    found: Vec<StoredSegment>,
    damaged: Vec<String>,
    after: u32,
}

impl Reading<'_> {
    /// Reads the segments from the first of `part` up to before the first after it; the parts of all files are all that
    /// there is. One seek each, from the end, because a segment's meta is its last key.
    fn range(&self, part: &[u32]) -> Result<Metas, StoreError> {
        let mut metas = Metas::default();
        let first = part.first().copied().filter(|first| self.files.first() != Some(first)).unwrap_or(0);
        let behind = part.last().map_or(0, |last| self.files.partition_point(|id| id <= last));
        let mut below = self.files.get(behind).map_or(u32::MAX, |next| next - 1);
        let db = self.database.get()?;
        let Some(family) = db.cf_handle(&self.partition.family) else { return Ok(metas) };
        loop {
            let from = full_key(SegmentId(below), Key::Meta);
            let mut iterator = db.iterator_cf(&family, IteratorMode::From(&from, Direction::Reverse));
            let id = match iterator.next() {
                None => break,
                Some(Ok((key, value))) => {
                    let Some(id) = key.first_chunk().copied().map(u32::from_be_bytes) else { break };
                    if id >= first {
                        self.add(&mut metas, id, meta(id, &key, &value))?;
                    }
                    id
                }
                Some(Err(error)) => {
                    // A block of the greatest segment at or below is damaged; the catalog of files says which.
                    let id = self.files.iter().rev().find(|&&id| id <= below).copied();
                    let Some(id) = id else { return Err(error.into()) };
                    if id >= first {
                        // The way there reads the block before, too, which may be all that is damaged.
                        let key = full_key(SegmentId(id), Key::Meta);
                        let found = match db.get_cf(&family, &key) {
                            Ok(Some(value)) => meta(id, &key, &value),
                            _ => Err(error.to_string()),
                        };
                        self.add(&mut metas, id, found)?;
                    }
                    id
                }
            };
            if id <= first {
                break;
            }
            below = id - 1;
        }
        Ok(metas)
    }

    fn add(&self, metas: &mut Metas, id: u32, meta: Result<SegmentMeta, String>) -> Result<(), StoreError> {
        metas.after = metas.after.max(id.saturating_add(1));
        let meta = match meta {
            Ok(meta) if meta.format > segment::FORMAT => {
                return Err(StoreError::Format { segment: id, found: meta.format, known: segment::FORMAT });
            }
            other => other,
        };
        let dictionary = |meta: &SegmentMeta| self.database.dictionaries().named(meta.dictionary);
        match meta.and_then(|meta| Ok((dictionary(&meta)?, meta))) {
            Ok((dictionary, meta)) => {
                let (db, partition) = (Arc::clone(self.database), Arc::clone(self.partition));
                let handle = SegmentHandle { db, partition, id: SegmentId(id), bytes: 0, dictionary };
                metas.found.push(StoredSegment { handle, meta });
            }
            Err(why) => metas.damaged.push(format!("segment {id} in {}: {why}", self.partition.family)),
        }
        Ok(())
    }
}

/// The abridged meta of a segment, or why it cannot be used.
fn meta(id: u32, key: &[u8], value: &[u8]) -> Result<SegmentMeta, String> {
    if *key != full_key(SegmentId(id), Key::Meta)[..] {
        return Err("its meta is missing".to_owned());
    }
    let mut meta = segment::decode_segment_meta(value).map_err(|_| "its meta cannot be read".to_owned())?;
    segment::abridge_segment_meta(&mut meta);
    Ok(meta)
}

/// The log that is there.
///
/// # Errors
/// If frames that no segment holds were written by a newer version.
pub(crate) fn log_state(
    db: &Db,
    families: &[String],
    sealed: u64,
    last_frame: u64,
) -> Result<LogState, StoreError> {
    let numbers: Vec<u64> = families.iter().filter_map(|name| generation_of(name)).collect();
    let mut found = Vec::new();
    for number in &numbers {
        let mut generation = Generation::new(*number);
        generation.measure(db);
        found.push(generation);
    }
    let newer = found.iter().filter_map(|generation| generation.newer).find(|(frame, _)| *frame > sealed);
    if let Some((frame, found)) = newer {
        return Err(StoreError::FrameVersion { frame, found, known: frame::VERSION });
    }
    // By their frames: what was rescued from a damaged generation is in one with a later number.
    found.sort_unstable_by_key(|generation| (generation.first_seq.unwrap_or(u64::MAX), generation.number));
    let generations = VecDeque::from(found);
    let last = generations.iter().filter_map(|generation| generation.last_seq).max().unwrap_or(0);
    Ok(LogState {
        generations,
        spare: None,
        next_seq: last.max(sealed).max(last_frame) + 1,
        next_number: numbers.iter().max().map_or(0, |last| last + 1),
        switch_wal: false,
    })
}
