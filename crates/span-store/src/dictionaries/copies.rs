//! The two copies of a dictionary. One is a value in the catalog. The other is the one value of a file of its own,
//! which says what it is, so that a repair finds it without a catalog; it comes by ingestion and goes as a whole, and
//! checkpoints take it along like the files of segments.

use std::collections::{BTreeMap, BTreeSet};

use rocksdb::{Direction, IteratorMode, SstFileWriter, WriteOptions};
use segment::Dictionary;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::StoreError;
use crate::options;
use crate::partition::Db;
use crate::store::SpanStore;

/// The column family of the files.
pub(crate) const FAMILY: &str = "dictionary";
/// In the catalog, before the number of a dictionary, u32 big-endian.
const IN_CATALOG: &[u8] = &[2];
/// Likewise in the family of the files. So no key has the length of a segment's or a rollup's.
const IN_FILE: &[u8] = b"dictionary";

/// What is read of one dictionary.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// From the catalog, or else from the file; `None` if neither can be read.
    pub(crate) dictionary: Option<Dictionary>,
    /// The copy that is missing, damaged or not as the other one.
    pub(crate) lacks: Option<Place>,
}

/// Where a copy lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Catalog,
    File,
}

/// Every dictionary of which there is a copy, whether it can be read or not.
pub(crate) fn read(db: &Db) -> BTreeMap<u32, Found> {
    let mut catalog = in_catalog(db);
    let mut files = in_files(db);
    let ids: BTreeSet<u32> = catalog.keys().chain(files.keys()).copied().collect();
    let mut of = |id: u32| united(catalog.remove(&id).flatten(), files.remove(&id).flatten());
    ids.into_iter().map(|id| (id, of(id))).collect()
}

fn united(catalog: Option<Dictionary>, file: Option<Dictionary>) -> Found {
    let lacks = match (&catalog, &file) {
        (None, None) => None,
        (None, Some(_)) => Some(Place::Catalog),
        (Some(catalog), Some(file)) if catalog.bytes() == file.bytes() => None,
        (Some(_), _) => Some(Place::File),
    };
    Found { dictionary: catalog.or(file), lacks }
}

fn in_catalog(db: &Db) -> BTreeMap<u32, Option<Dictionary>> {
    let items = db.iterator(IteratorMode::From(IN_CATALOG, Direction::Forward)).map_while(Result::ok);
    let copies = items.map_while(|(key, value)| {
        let id = number(IN_CATALOG, &key)?;
        Some((id, sound(id, &value)))
    });
    copies.collect()
}

/// One file after the other, so that a damaged one costs itself alone.
fn in_files(db: &Db) -> BTreeMap<u32, Option<Dictionary>> {
    let Some(family) = db.cf_handle(FAMILY) else { return BTreeMap::new() };
    let files = db.live_files().unwrap_or_default().into_iter();
    let copies = files.filter(|file| file.column_family_name == FAMILY).filter_map(|file| {
        let id = number(IN_FILE, file.start_key.as_ref()?)?;
        let value = db.get_pinned_cf(&family, key(IN_FILE, id)).ok().flatten();
        Some((id, value.and_then(|value| sound(id, &value))))
    });
    copies.collect()
}

/// Whether the store is one that has dictionaries twice. It is from its first opening to write on.
pub(crate) fn has_files(db: &Db) -> bool {
    db.cf_handle(FAMILY).is_some()
}

/// The number of the dictionary that a file is, if its last value is that of a dictionary; `Err` if it is damaged.
pub(crate) fn of_file(last_key: &[u8], value: &[u8]) -> Option<Result<u32, String>> {
    let id = number(IN_FILE, last_key)?;
    let damaged = || format!("its dictionary {id} is damaged");
    Some(sound(id, value).map(|_| id).ok_or_else(damaged))
}

/// What both copies have as their value: the xxh3-64 of the bytes, u64 little-endian, and the bytes.
pub(crate) fn value(bytes: &[u8]) -> Vec<u8> {
    let mut value = xxh3_64(bytes).to_le_bytes().to_vec();
    value.extend_from_slice(bytes);
    value
}

fn sound(id: u32, value: &[u8]) -> Option<Dictionary> {
    let (hash, bytes) = value.split_first_chunk::<8>()?;
    let is_whole = xxh3_64(bytes) == u64::from_le_bytes(*hash);
    if is_whole { Dictionary::new(id, bytes.to_vec()).ok() } else { None }
}

fn key(prefix: &[u8], id: u32) -> Vec<u8> {
    [prefix, &id.to_be_bytes()].concat()
}

fn number(prefix: &[u8], key: &[u8]) -> Option<u32> {
    key.strip_prefix(prefix).and_then(|id| <[u8; 4]>::try_from(id).ok()).map(u32::from_be_bytes)
}

/// Stores the copy in the catalog, synced.
pub(crate) fn put_in_catalog(db: &Db, id: u32, value: &[u8]) -> Result<(), StoreError> {
    Ok(db.put_opt(key(IN_CATALOG, id), value, &synced())?)
}

pub(crate) fn delete_from_catalog(db: &Db, id: u32) -> Result<(), StoreError> {
    Ok(db.delete_opt(key(IN_CATALOG, id), &synced())?)
}

/// Drops the file of a dictionary, if there is one. Nothing overlaps it, so it goes as a whole, without a tombstone.
pub(crate) fn drop_file(db: &Db, id: u32) -> Result<(), StoreError> {
    let key = key(IN_FILE, id);
    let Some(family) = db.cf_handle(FAMILY) else { return Ok(()) };
    Ok(db.delete_file_in_range_cf(&family, &key, &key)?)
}

fn synced() -> WriteOptions {
    let mut write = WriteOptions::default();
    write.set_sync(true);
    write
}

impl SpanStore {
    /// Stores the file of a dictionary. Ingestion syncs it.
    pub(super) fn put_in_file(&self, id: u32, value: &[u8]) -> Result<(), StoreError> {
        let path = self.ingest_path(&format!("dictionary-{id:08}"));
        let write = || {
            let options = options::partition(self.db.cache());
            let mut writer = SstFileWriter::create(&options);
            writer.open(&path)?;
            writer.put(key(IN_FILE, id), value)?;
            writer.finish()?;
            self.ingest(FAMILY, vec![path.clone()])
        };
        write().inspect_err(|_| {
            let _ = std::fs::remove_file(&path);
        })
    }
}
