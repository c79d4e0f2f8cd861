//! Opening a store: which families there are, which segments, and where the log ends.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use prost::Message;
use rocksdb::{Cache, ColumnFamilyDescriptor, DB, Direction, ErrorKind, IteratorMode};
use segment::{Key, SegmentMeta};

use crate::error::StoreError;
use crate::log::{Generation, LogState, generation_of};
use crate::options;
use crate::partition::{Db, Partition, SegmentHandle, SegmentId, full_key, slice_of};
use crate::store::StoredSegment;

/// Written under `00 "schema"` in the catalog.
const SCHEMA: u32 = 1;
const SCHEMA_KEY: &[u8] = b"\0schema";

pub(crate) fn database(dir: &Path, cache: &Cache) -> Result<Db, StoreError> {
    std::fs::create_dir_all(dir.join("ingest"))
        .map_err(|source| StoreError::Folder { dir: dir.to_path_buf(), source })?;
    let db_dir = dir.join("rocksdb");
    let families = match DB::list_cf(&options::database(), &db_dir) {
        Ok(families) => families,
        Err(_) if !db_dir.join("CURRENT").exists() => vec!["default".to_owned()],
        Err(error) => return Err(error.into()),
    };
    let descriptors = families.into_iter().map(|name| {
        let options = if slice_of(&name).is_some() {
            options::partition(cache)
        } else if generation_of(&name).is_some() {
            options::log()
        } else {
            options::catalog()
        };
        ColumnFamilyDescriptor::new(name, options)
    });
    let db = Db::open_cf_descriptors(&options::database(), &db_dir, descriptors).map_err(|error| {
        if is_locked(&error) { StoreError::Locked(dir.to_path_buf()) } else { error.into() }
    })?;
    // Not before the lock is held: these files may be another process's, at work on them.
    clear_unfinished(dir);
    check_schema(&db)?;
    Ok(db)
}

/// RocksDB names its lock file; "lock" alone would also take a damaged block for a lock.
fn is_locked(error: &rocksdb::Error) -> bool {
    error.kind() == ErrorKind::IOError && error.as_ref().contains("rocksdb/LOCK: ")
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
        Some(bytes) => {
            let found = <[u8; 4]>::try_from(&bytes[..]).map_or(u32::MAX, u32::from_le_bytes);
            if found > SCHEMA { Err(StoreError::Schema { found, known: SCHEMA }) } else { Ok(()) }
        }
    }
}

pub(crate) fn family_names(dir: &Path) -> Result<Vec<String>, StoreError> {
    Ok(DB::list_cf(&options::database(), dir.join("rocksdb"))?)
}

/// The segments of a partition, oldest first: one seek each, from the end, because a segment's meta is its
/// last key. A meta that cannot be read is reported and its segment left out. Also the number after the last
/// segment, which a damaged one counts for: its keys are still there.
pub(crate) fn segments(
    db: &Arc<Db>,
    partition: &Arc<Partition>,
    damaged: &mut Vec<String>,
) -> Result<(Vec<StoredSegment>, u32), StoreError> {
    let Some(family) = db.cf_handle(&partition.family) else { return Ok((Vec::new(), 0)) };
    let mut found = Vec::new();
    let mut after = 0;
    let mut below = u32::MAX;
    loop {
        let from = full_key(SegmentId(below), Key::Meta);
        let mut iterator = db.iterator_cf(&family, IteratorMode::From(&from, Direction::Reverse));
        let Some(item) = iterator.next() else { break };
        let (key, value) = item?;
        let Some(Ok(id)) = key.get(..4).map(|id| <[u8; 4]>::try_from(id).map(u32::from_be_bytes)) else {
            break;
        };
        after = after.max(id.saturating_add(1));
        if *key == full_key(SegmentId(id), Key::Meta)[..]
            && let Ok(meta) = SegmentMeta::decode(&*value)
            && meta.format <= segment::FORMAT
        {
            let handle =
                SegmentHandle { db: Arc::clone(db), partition: Arc::clone(partition), id: SegmentId(id) };
            found.push(StoredSegment { handle, meta });
        } else {
            damaged.push(format!("segment {id} in {}: its meta cannot be read", partition.family));
        }
        match id.checked_sub(1) {
            Some(next) => below = next,
            None => break,
        }
    }
    found.reverse();
    Ok((found, after))
}

pub(crate) fn log_state(db: &Db, families: &[String], sealed: u64) -> Result<LogState, StoreError> {
    let mut numbers: Vec<u64> = families.iter().filter_map(|name| generation_of(name)).collect();
    numbers.sort_unstable();
    let mut generations = VecDeque::new();
    for number in &numbers {
        let mut generation = Generation::new(*number);
        if let Some(family) = db.cf_handle(&generation.family)
            && let Some(item) = db.iterator_cf(&family, IteratorMode::End).next()
        {
            generation.last_seq = <[u8; 8]>::try_from(&*item?.0).ok().map(u64::from_be_bytes);
        }
        generations.push_back(generation);
    }
    let last = generations.iter().filter_map(|generation| generation.last_seq).max().unwrap_or(0);
    Ok(LogState {
        generations,
        spare: None,
        next_seq: last.max(sealed) + 1,
        next_number: numbers.last().map_or(0, |last| last + 1),
        switch_wal: false,
    })
}
