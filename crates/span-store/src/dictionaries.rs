//! Dictionaries of small segments, in the catalog. A dictionary is stored and synced before a segment names it, and
//! goes when no segment does any more; what is held of it in memory is shared by all that read with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rocksdb::{Direction, IteratorMode, WriteOptions};
use segment::Dictionary;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::StoreError;
use crate::partition::Db;
use crate::store::SpanStore;

/// In the catalog, before the number of a dictionary, u32 big-endian. The value is the xxh3-64 of the bytes, u64
/// little-endian, and the bytes.
const PREFIX: u8 = 2;
/// With as many as this, no further one is taken.
const DICTIONARIES_MAX: usize = 16;

/// The dictionaries that can be read with.
#[derive(Debug, Default)]
pub(crate) struct Dictionaries {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_id: BTreeMap<u32, Arc<Dictionary>>,
    /// The greatest number that anything stored has or names.
    last: u32,
}

impl Dictionaries {
    /// What the catalog has. One that cannot be read is missing: who needs it says so.
    pub(crate) fn load(db: &Db) -> Self {
        let mut known = Known::default();
        for item in db.iterator(IteratorMode::From(&[PREFIX], Direction::Forward)) {
            let Ok((key, value)) = item else { break };
            let Some(id) = key.strip_prefix(&[PREFIX]).and_then(|id| <[u8; 4]>::try_from(id).ok()) else {
                break;
            };
            let id = u32::from_be_bytes(id);
            known.last = known.last.max(id);
            if let Some(dictionary) = sound(id, &value) {
                known.by_id.insert(id, Arc::new(dictionary));
            }
        }
        Self { known: Mutex::new(known) }
    }

    /// The dictionary that a meta names by this number.
    ///
    /// # Errors
    /// If it is not there; the text says so.
    pub(crate) fn named(&self, id: u32) -> Result<Option<Arc<Dictionary>>, String> {
        if id == 0 {
            return Ok(None);
        }
        let mut known = self.known.lock();
        known.last = known.last.max(id);
        let found = known.by_id.get(&id).cloned();
        found.map(Some).ok_or_else(|| format!("its dictionary {id} is missing or damaged"))
    }

    fn newest(&self) -> Option<Arc<Dictionary>> {
        self.known.lock().by_id.values().next_back().cloned()
    }
}

fn sound(id: u32, value: &[u8]) -> Option<Dictionary> {
    let (hash, bytes) = value.split_first_chunk::<8>()?;
    let is_whole = xxh3_64(bytes) == u64::from_le_bytes(*hash);
    if is_whole { Dictionary::new(id, bytes.to_vec()).ok() } else { None }
}

fn key(id: u32) -> Vec<u8> {
    let mut key = vec![PREFIX];
    key.extend_from_slice(&id.to_be_bytes());
    key
}

fn synced() -> WriteOptions {
    let mut write = WriteOptions::default();
    write.set_sync(true);
    write
}

impl SpanStore {
    /// What new segments are to be compressed with. Hold it until the segment is published.
    pub fn dictionary(&self) -> Option<Arc<Dictionary>> {
        self.db.dictionaries().newest()
    }

    /// How many dictionaries there are.
    pub fn dictionaries(&self) -> usize {
        self.db.dictionaries().known.lock().by_id.len()
    }

    /// Stores a dictionary for the segments to come. `None` if there are too many whose segments are still there.
    ///
    /// # Errors
    /// If the bytes are not a dictionary, or RocksDB fails; then nothing has changed.
    pub fn add_dictionary(&self, bytes: &[u8]) -> Result<Option<Arc<Dictionary>>, StoreError> {
        let mut known = self.db.dictionaries().known.lock();
        if known.by_id.len() >= DICTIONARIES_MAX {
            return Ok(None);
        }
        let id = known.last + 1;
        let dictionary = Dictionary::new(id, bytes.to_vec()).map_err(segment::BuildError::from)?;
        let dictionary = Arc::new(dictionary);
        let mut value = xxh3_64(bytes).to_le_bytes().to_vec();
        value.extend_from_slice(bytes);
        self.db.get()?.put_opt(key(id), value, &synced())?;
        known.last = id;
        known.by_id.insert(id, Arc::clone(&dictionary));
        drop(known);
        // Until its memtable is flushed it lies in the WAL alone.
        self.log.lock().switch_wal = true;
        Ok(Some(dictionary))
    }

    /// Drops dictionaries, but for the newest, that no segment names any more. How many.
    ///
    /// Not to be called while somebody takes partitions out of the store: what is taken out must be gone before its
    /// dictionary goes.
    ///
    /// # Errors
    /// If RocksDB fails; what is then left is dropped after the next start.
    pub fn drop_dictionaries(&self) -> Result<usize, StoreError> {
        // After a crash, what was taken out and not dropped is there again.
        let retired = self.retired.lock();
        if !retired.is_empty() {
            return Ok(0);
        }
        let mut known = self.db.dictionaries().known.lock();
        let newest = known.by_id.keys().next_back().copied();
        let unused = |(id, dictionary): (&u32, &Arc<Dictionary>)| {
            (Some(*id) != newest && Arc::strong_count(dictionary) == 1).then_some(*id)
        };
        let unused: Vec<u32> = known.by_id.iter().filter_map(unused).collect();
        let db = self.db.get()?;
        for id in &unused {
            known.by_id.remove(id);
            db.delete_opt(key(*id), &synced())?;
        }
        Ok(unused.len())
    }
}
