//! Dictionaries of small segments. A dictionary is stored twice, and synced, before a segment names it, and goes when
//! no segment does any more; what is held of it in memory is shared by all that read with it.

pub(crate) mod copies;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use segment::Dictionary;

use crate::error::StoreError;
use crate::partition::Db;
use crate::store::{SpanStore, StoredSegment};
use copies::Place;

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
    /// Those of which one copy is there, and which is not.
    lacking: BTreeMap<u32, Place>,
}

impl Dictionaries {
    /// What is stored. One of which no copy can be read is missing: who needs it says so.
    pub(crate) fn load(db: &Db) -> Self {
        let mut known = Known::default();
        for (id, found) in copies::read(db) {
            known.last = known.last.max(id);
            known.by_id.extend(found.dictionary.map(|dictionary| (id, Arc::new(dictionary))));
            known.lacking.extend(found.lacks.map(|copy| (id, copy)));
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

/// What is wrong with the dictionaries that these segments name, though they can be read with. Beside a server, both
/// copies of such a one are seen by who sees the segment.
pub(crate) fn problems(db: &Db, dictionaries: &Dictionaries, segments: &[StoredSegment]) -> Vec<String> {
    if !copies::has_files(db) {
        return Vec::new();
    }
    let known = dictionaries.known.lock();
    let named = |id: u32| segments.iter().any(|stored| stored.meta.dictionary == id);
    let lacking = known.lacking.iter().filter(|(id, _)| named(**id));
    let text = |(id, copy): (&u32, &Place)| {
        let which = match copy {
            Place::Catalog => "its copy in the catalog is missing or damaged and its file is whole",
            Place::File => "its file is missing or not as its copy in the catalog",
        };
        format!("dictionary {id}: {which}; the next start of the server writes it again")
    };
    lacking.map(text).collect()
}

impl SpanStore {
    /// What new segments are to be compressed with. Hold it until the segment is built; from then on its draft does.
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
    /// If the bytes are not a dictionary, or RocksDB fails; then no segment is to name it.
    pub fn add_dictionary(&self, bytes: &[u8]) -> Result<Option<Arc<Dictionary>>, StoreError> {
        let mut known = self.db.dictionaries().known.lock();
        if known.by_id.len() >= DICTIONARIES_MAX {
            return Ok(None);
        }
        let id = known.last + 1;
        let dictionary = Dictionary::new(id, bytes.to_vec()).map_err(segment::BuildError::from)?;
        let dictionary = Arc::new(dictionary);
        let value = copies::value(bytes);
        // Whatever fails from here on may have happened all the same: the number is not used again.
        known.last = id;
        self.put_in_file(id, &value)?;
        copies::put_in_catalog(&*self.db.get()?, id, &value)?;
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
            copies::drop_file(&db, *id)?;
            copies::delete_from_catalog(&db, *id)?;
        }
        Ok(unused.len())
    }

    /// Stores the copies that are missing: a file was damaged, a crash came between the two, or the store is of a time
    /// when there was one. The numbers of these dictionaries. What cannot be written is left to the next start.
    pub(crate) fn complete_dictionaries(&self) -> Vec<u32> {
        let mut known = self.db.dictionaries().known.lock();
        let Known { by_id, lacking, .. } = &mut *known;
        let mut completed = Vec::new();
        lacking.retain(|id, copy| {
            let Some(dictionary) = by_id.get(id) else { return true };
            let is_stored = self.store_copy(dictionary, *copy).is_ok();
            completed.extend(is_stored.then_some(*id));
            !is_stored
        });
        drop(known);
        self.log.lock().switch_wal |= !completed.is_empty();
        completed
    }

    fn store_copy(&self, dictionary: &Dictionary, copy: Place) -> Result<(), StoreError> {
        let (id, value) = (dictionary.id(), copies::value(dictionary.bytes()));
        match copy {
            Place::Catalog => copies::put_in_catalog(&*self.db.get()?, id, &value),
            Place::File => {
                // One that is damaged makes room.
                copies::drop_file(&*self.db.get()?, id)?;
                self.put_in_file(id, &value)
            }
        }
    }
}
