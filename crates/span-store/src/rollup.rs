//! Rollups: what is kept of spans that retention took. One column family holds all of them, each as one file with
//! a key range of its own, so that a rollup comes by one ingestion and goes with its file.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rocksdb::{AsColumnFamilyRef, Direction, IteratorMode, LiveFile};
use segment::{Blocks, BuildError, Key, ReadError};

use crate::database::Database;
use crate::error::StoreError;
use crate::partition::{Db, closed, read};
use crate::store::{Sink, SpanStore, file_bytes};

pub(crate) const FAMILY: &str = "rollup";

/// The rollups of a store.
#[derive(Debug, Default)]
pub(crate) struct Rollups {
    /// Found at start, until they are asked for.
    found: Mutex<Vec<StoredRollup>>,
    next: AtomicU64,
    /// Taken out of the store, and kept for as long as somebody reads from them.
    retired: Mutex<Vec<Arc<RollupFile>>>,
}

/// The file of a rollup.
#[derive(Debug)]
struct RollupFile {
    number: u64,
    bytes: u64,
}

/// A rollup: how to read it, and what it says about itself.
#[derive(Debug, Clone)]
pub struct StoredRollup {
    /// Reads its values.
    pub handle: RollupHandle,
    /// The value under its greatest key.
    pub meta: Vec<u8>,
}

/// Reads the values of one rollup. While a handle lives, what it reads stays.
#[derive(Clone)]
pub struct RollupHandle {
    db: Arc<Database>,
    file: Arc<RollupFile>,
}

impl std::fmt::Debug for RollupHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RollupHandle({})", self.file.number)
    }
}

impl RollupHandle {
    /// The rollup's number; rises, never used twice.
    pub fn number(&self) -> u64 {
        self.file.number
    }

    /// Bytes of its file.
    pub fn disk_bytes(&self) -> u64 {
        self.file.bytes
    }
}

impl Blocks for RollupHandle {
    fn get(&self, key: Key) -> Result<Option<Vec<u8>>, ReadError> {
        let db = self.db.get().map_err(closed)?;
        let family =
            db.cf_handle(FAMILY).ok_or_else(|| ReadError::Store("there are no rollups".to_owned()))?;
        read(&db, &family, key, &full_key(self.file.number, key))
    }
}

fn full_key(number: u64, key: Key) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend_from_slice(&key.to_bytes());
    bytes
}

/// The rollup that a file is.
fn number_of(file: &LiveFile) -> Option<u64> {
    file.start_key.as_ref()?.first_chunk::<8>().copied().map(u64::from_be_bytes)
}

/// The greatest number of a rollup up to this one, and its meta; empty if that cannot be read, which is reported as damage
/// when it is decoded. Its block is damaged then, and the catalog of files says whose it is.
fn greatest(
    db: &Db,
    family: &impl AsColumnFamilyRef,
    files: &[LiveFile],
    upto: u64,
) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
    let from = full_key(upto, Key::Meta);
    let mut iterator = db.iterator_cf(family, IteratorMode::From(&from, Direction::Reverse));
    match iterator.next() {
        None => Ok(None),
        Some(Ok((key, value))) => {
            let number = key.first_chunk::<8>().copied().map(u64::from_be_bytes);
            let meta =
                |number| if *key == full_key(number, Key::Meta)[..] { value.to_vec() } else { Vec::new() };
            Ok(number.map(|number| (number, meta(number))))
        }
        Some(Err(error)) => {
            let number = files.iter().filter_map(number_of).filter(|number| *number <= upto).max();
            number.map(|number| Some((number, Vec::new()))).ok_or_else(|| error.into())
        }
    }
}

impl Rollups {
    /// One seek a rollup, from the end: its meta is its greatest key.
    pub(crate) fn load(database: &Arc<Database>) -> Result<Self, StoreError> {
        let db = database.get()?;
        let mut found = Vec::new();
        let mut next = 0;
        let mut below = u64::MAX;
        if let Some(family) = db.cf_handle(FAMILY) {
            let sizes: Vec<_> =
                db.live_files()?.into_iter().filter(|f| f.column_family_name == FAMILY).collect();
            while let Some((number, meta)) = greatest(&db, &family, &sizes, below)? {
                next = next.max(number.saturating_add(1));
                let of = sizes.iter().filter(|file| number_of(file) == Some(number));
                let bytes = of.map(|file| file.size as u64).sum();
                let file = Arc::new(RollupFile { number, bytes });
                found.push(StoredRollup { handle: RollupHandle { db: Arc::clone(database), file }, meta });
                let Some(next) = number.checked_sub(1) else { break };
                below = next;
            }
        }
        found.reverse();
        Ok(Self { found: Mutex::new(found), next: AtomicU64::new(next), retired: Mutex::default() })
    }

    /// Those that were there; empty when asked again.
    pub(crate) fn take_found(&self) -> Vec<StoredRollup> {
        std::mem::take(&mut self.found.lock())
    }

    #[cfg(test)]
    pub(crate) fn is_all_dropped(&self) -> bool {
        self.retired.lock().is_empty()
    }
}

impl SpanStore {
    /// The rollups that were there at start, oldest number first; empty when asked again.
    pub fn take_stored_rollups(&self) -> Vec<StoredRollup> {
        self.rollups.take_found()
    }

    /// Builds a rollup and makes it part of the store in one atomic step.
    ///
    /// # Errors
    /// If it cannot be built or ingested; then nothing of it is stored.
    pub fn publish_rollup(
        &self,
        build: &mut dyn FnMut(Sink<'_>) -> Result<(), BuildError>,
    ) -> Result<RollupHandle, StoreError> {
        let number = self.rollups.next.fetch_add(1, Ordering::AcqRel);
        let path = self.ingest_path(&format!("rollup-{number:016}"));
        self.write_rollup(number, &path, build).inspect_err(|_| {
            let _ = std::fs::remove_file(&path);
        })
    }

    fn write_rollup(
        &self,
        number: u64,
        path: &Path,
        build: &mut dyn FnMut(Sink<'_>) -> Result<(), BuildError>,
    ) -> Result<RollupHandle, StoreError> {
        self.write_file(path, &|key| full_key(number, key), build)?;
        let file = Arc::new(RollupFile { number, bytes: file_bytes(path) });
        // After an error it may be in or not; it is not to count.
        self.ingest(FAMILY, vec![path.to_path_buf()])
            .inspect_err(|_| self.rollups.retired.lock().push(Arc::clone(&file)))?;
        Ok(RollupHandle { db: Arc::clone(&self.db), file })
    }

    /// Takes a rollup out of the store. Its file goes when the last handle to it has gone, at the next keeping of
    /// the house at the earliest.
    pub fn retire_rollup(&self, handle: &RollupHandle) {
        self.rollups.retired.lock().push(Arc::clone(&handle.file));
    }

    pub(crate) fn drop_retired_rollups(&self) -> Result<(), StoreError> {
        let mut retired = self.rollups.retired.lock();
        let mut at = 0;
        while let Some(file) = retired.get(at) {
            if Arc::strong_count(file) > 1 {
                at += 1;
                continue;
            }
            let db = self.db.get()?;
            if let Some(family) = db.cf_handle(FAMILY) {
                // The file holds this rollup and nothing else, and lies at the bottom level, where nothing overlaps:
                // it goes as a whole, without a tombstone.
                let (from, to) = (file.number.to_be_bytes(), full_key(file.number, Key::Meta));
                db.delete_file_in_range_cf(&family, &from[..], &to[..])?;
            }
            // In their order: what became a coarser rollup goes before that does.
            retired.remove(at);
        }
        Ok(())
    }
}
