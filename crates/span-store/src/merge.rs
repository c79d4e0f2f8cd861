//! Puts rewritten segments in the place of a partition's old ones.
//!
//! The new segments are files first. Then a family of the next generation is made and gets all of them by one
//! ingestion, which is the one moment at which they begin to count and the old family ceases to: at start, of two
//! families with a segment in common the later generation counts, and one without segments is dropped. The old
//! family goes when nobody reads from it any more. Nothing is deleted key by key.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rocksdb::{Direction, IteratorMode};
use segment::{BuildError, Dictionary, SegmentMeta};

use crate::damage;
use crate::error::StoreError;
use crate::open;
use crate::options;
use crate::partition::{Partition, PartitionId, SegmentHandle, SegmentId, full_key};
use crate::store::{Sink, SpanStore, StoredSegment, file_bytes};

/// Files that are to take the place of a partition's segments. Dropping it gives up.
#[derive(Debug)]
pub struct Rewrite {
    partition: Arc<Partition>,
    replaced: Vec<SegmentId>,
    files: Vec<RewrittenFile>,
}

#[derive(Debug)]
struct RewrittenFile {
    id: SegmentId,
    path: PathBuf,
    bytes: u64,
    meta: SegmentMeta,
    dictionary: Option<Arc<Dictionary>>,
}

impl Drop for Rewrite {
    fn drop(&mut self) {
        for file in &self.files {
            // What was ingested has moved, and what was not goes at the next start at the latest.
            let _ = std::fs::remove_file(&file.path);
        }
    }
}

impl SpanStore {
    /// Begins to rewrite the partition that these segments are all of.
    ///
    /// `None` if there are none, if they are not all of one partition's, or if something in it is damaged.
    ///
    /// # Errors
    /// If RocksDB fails, or is being opened again: then it is not known what is in the partition.
    pub fn begin_rewrite(&self, segments: &[SegmentHandle]) -> Result<Option<Rewrite>, StoreError> {
        let Some(first) = segments.first() else { return Ok(None) };
        let partition = Arc::clone(&first.partition);
        let replaced: Vec<SegmentId> = segments.iter().map(SegmentHandle::id).collect();
        let whole = segments.iter().all(|handle| Arc::ptr_eq(&handle.partition, &partition))
            && self.holds_just(&partition, &replaced)?;
        Ok(whole.then(|| Rewrite { partition, replaced, files: Vec::new() }))
    }

    /// Whether the partition's segments are these, in this order, and nothing in it is damaged.
    fn holds_just(&self, partition: &Arc<Partition>, segments: &[SegmentId]) -> Result<bool, StoreError> {
        let mut damaged = Vec::new();
        let (found, _) = open::segments(&self.db, partition, &mut damaged)?;
        let aside = damage::recorded_texts(&*self.db.get()?)?;
        let whole = damaged.is_empty() && aside.iter().all(|text| !text.contains(&partition.family));
        Ok(whole && found.iter().map(|stored| stored.handle.id).eq(segments.iter().copied()))
    }

    /// Adds a segment that takes the place of the ones up to number `id`, which is the last of them.
    ///
    /// # Errors
    /// If it cannot be built.
    pub fn rewrite_merged(
        &self,
        rewrite: &mut Rewrite,
        id: SegmentId,
        build: &mut dyn FnMut(Sink<'_>) -> Result<SegmentMeta, BuildError>,
    ) -> Result<(), StoreError> {
        let path = self.rewrite_path(rewrite, id);
        let written = self.write_file(&path, &|key| full_key(id, key), build);
        let meta = written.inspect_err(|_| {
            let _ = std::fs::remove_file(&path);
        })?;
        let dictionary = self.db.dictionaries().named(meta.dictionary).map_err(BuildError::Sink)?;
        rewrite.files.push(RewrittenFile { id, bytes: file_bytes(&path), path, meta, dictionary });
        Ok(())
    }

    /// Adds a segment as it is.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn rewrite_copied(&self, rewrite: &mut Rewrite, segment: &StoredSegment) -> Result<(), StoreError> {
        let id = segment.handle.id;
        let path = self.rewrite_path(rewrite, id);
        let db = self.db.get()?;
        let family = db
            .cf_handle(&segment.handle.partition.family)
            .ok_or_else(|| BuildError::Sink("the partition is gone".to_owned()))?;
        let options = options::partition(self.db.cache());
        let mut writer = rocksdb::SstFileWriter::create(&options);
        let mut copy = || -> Result<(), StoreError> {
            writer.open(&path)?;
            let first = id.0.to_be_bytes();
            for item in db.iterator_cf(&family, IteratorMode::From(&first, Direction::Forward)) {
                let (key, value) = item?;
                if !key.starts_with(&first) {
                    break;
                }
                writer.put(&key, &value)?;
            }
            Ok(writer.finish()?)
        };
        copy().inspect_err(|_| {
            let _ = std::fs::remove_file(&path);
        })?;
        let (meta, dictionary) = (segment.meta.clone(), segment.handle.dictionary.clone());
        rewrite.files.push(RewrittenFile { id, bytes: file_bytes(&path), path, meta, dictionary });
        Ok(())
    }

    fn rewrite_path(&self, rewrite: &Rewrite, id: SegmentId) -> PathBuf {
        let next = rewrite.partition.id.generation + 1;
        self.ingest_path(&format!("merged-{:08}-{next}", id.0))
    }

    /// Makes the new segments count in the place of the old ones. `None` if the partition is not as it was when
    /// the rewrite began; then nothing has changed.
    ///
    /// # Errors
    /// If RocksDB fails; then nothing has changed.
    pub fn commit_rewrite(&self, rewrite: Rewrite) -> Result<Option<Vec<StoredSegment>>, StoreError> {
        let _switch = self.switch.lock();
        let known = self.partitions.read().iter().any(|known| Arc::ptr_eq(known, &rewrite.partition));
        if !known || !self.holds_just(&rewrite.partition, &rewrite.replaced)? {
            return Ok(None);
        }
        let partition = self.make_generation(&rewrite)?;
        if let Err(error) = self.fill_generation(&partition, &rewrite) {
            self.db.get()?.drop_cf(&partition.family)?;
            return Err(error);
        }
        Ok(Some(self.switch_generation(&partition, &rewrite)))
    }

    fn make_generation(&self, rewrite: &Rewrite) -> Result<Arc<Partition>, StoreError> {
        let old = rewrite.partition.id;
        let partition = Partition::new(PartitionId { generation: old.generation + 1, ..old });
        self.make_family(&partition.family)?;
        Ok(Arc::new(partition))
    }

    fn fill_generation(&self, partition: &Partition, rewrite: &Rewrite) -> Result<(), StoreError> {
        let files = rewrite.files.iter().map(|file| file.path.clone()).collect();
        self.ingest(&partition.family, files)?;
        partition.bytes.store(rewrite.files.iter().map(|file| file.bytes).sum(), Ordering::Release);
        Ok(())
    }

    fn switch_generation(&self, partition: &Arc<Partition>, rewrite: &Rewrite) -> Vec<StoredSegment> {
        let mut partitions = self.partitions.write();
        partitions.retain(|known| !Arc::ptr_eq(known, &rewrite.partition));
        partitions.push(Arc::clone(partition));
        partitions.sort_unstable_by_key(|partition| partition.id);
        self.retired.lock().push(Arc::clone(&rewrite.partition));
        let stored = rewrite.files.iter().map(|file| {
            let (db, partition) = (Arc::clone(&self.db), Arc::clone(partition));
            let dictionary = file.dictionary.clone();
            let handle = SegmentHandle { db, partition, id: file.id, bytes: file.bytes, dictionary };
            StoredSegment { handle, meta: file.meta.clone() }
        });
        stored.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use prost::Message;
    use segment::{Blocks, Key};
    use trace_model::UnixNanos;

    use super::*;
    use crate::options::StoreOptions;

    /// In the middle of a partition.
    const AT: UnixNanos = UnixNanos(1 << 60);

    fn put(sink: Sink<'_>, text: &[u8]) -> Result<SegmentMeta, BuildError> {
        let meta =
            SegmentMeta { format: segment::FORMAT, spans: text.len() as u64, ..SegmentMeta::default() };
        sink(Key::Hashes, text).map_err(BuildError::Sink)?;
        sink(Key::Meta, &meta.encode_to_vec()).map_err(BuildError::Sink)?;
        Ok(meta)
    }

    fn publish(store: &SpanStore, text: &'static [u8]) -> StoredSegment {
        store.publish(AT, &mut |sink| put(sink, text)).unwrap()
    }

    fn open(dir: &Path) -> (SpanStore, Vec<StoredSegment>) {
        let (store, segments, damaged) = SpanStore::open(dir, StoreOptions::default()).unwrap();
        assert_eq!(damaged, Vec::<String>::new());
        (store, segments)
    }

    /// The folder as it is at this moment, as a crash would leave it.
    fn copy(from: &Path) -> tempfile::TempDir {
        let to = tempfile::tempdir().unwrap();
        for folder in ["rocksdb", "ingest"] {
            std::fs::create_dir(to.path().join(folder)).unwrap();
            for entry in std::fs::read_dir(from.join(folder)).unwrap().map(Result::unwrap) {
                if entry.file_name() != "LOCK" && entry.file_type().unwrap().is_file() {
                    std::fs::copy(entry.path(), to.path().join(folder).join(entry.file_name())).unwrap();
                }
            }
        }
        to
    }

    /// Numbers and contents after a crash that left this folder, and again after another start.
    fn found(dir: &Path) -> Vec<(u32, Vec<u8>)> {
        let read = || {
            let (_store, segments) = open(dir);
            let text = |stored: &StoredSegment| stored.handle.get(Key::Hashes).unwrap().unwrap();
            segments.iter().map(|stored| (stored.handle.id.0, text(stored))).collect::<Vec<_>>()
        };
        let first = read();
        assert_eq!(read(), first);
        let families = rocksdb::DB::list_cf(&rocksdb::Options::default(), dir.join("rocksdb")).unwrap();
        let of_partition = families.iter().filter(|family| family.starts_with("p-"));
        assert_eq!(of_partition.count(), 1, "what does not count is gone");
        first
    }

    /// A store with three segments, and a rewrite that merges the first two and copies the third.
    fn world() -> (tempfile::TempDir, SpanStore, Rewrite) {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let segments = [publish(&store, b"a"), publish(&store, b"b"), publish(&store, b"c")];
        let handles: Vec<SegmentHandle> = segments.iter().map(|stored| stored.handle.clone()).collect();
        assert!(store.begin_rewrite(&handles[..2]).unwrap().is_none(), "not all of the partition");
        let mut rewrite = store.begin_rewrite(&handles).unwrap().unwrap();
        store.rewrite_merged(&mut rewrite, SegmentId(1), &mut |sink| put(sink, b"ab")).unwrap();
        store.rewrite_copied(&mut rewrite, &segments[2]).unwrap();
        (dir, store, rewrite)
    }

    fn old() -> Vec<(u32, Vec<u8>)> {
        vec![(0, b"a".to_vec()), (1, b"b".to_vec()), (2, b"c".to_vec())]
    }

    fn new() -> Vec<(u32, Vec<u8>)> {
        vec![(1, b"ab".to_vec()), (2, b"c".to_vec())]
    }

    #[test]
    fn a_crash_at_any_step_leaves_the_old_segments_or_the_new_ones() {
        let (dir, store, rewrite) = world();
        assert_eq!(found(copy(dir.path()).path()), old(), "files were written");
        let partition = store.make_generation(&rewrite).unwrap();
        assert_eq!(found(copy(dir.path()).path()), old(), "the new family is empty");
        store.fill_generation(&partition, &rewrite).unwrap();
        assert_eq!(found(copy(dir.path()).path()), new(), "the new family is filled, the old one there");
        let stored = store.switch_generation(&partition, &rewrite);
        assert_eq!(stored.len(), 2);
        drop(rewrite);
        store.drop_retired().unwrap();
        assert_eq!(found(copy(dir.path()).path()), new(), "the old family is dropped");
        drop((stored, partition, store));
        assert_eq!(found(dir.path()), new());
    }

    #[test]
    fn whoever_reads_an_old_segment_can_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let reader = publish(&store, b"a").handle;
        let mut rewrite = store.begin_rewrite(std::slice::from_ref(&reader)).unwrap().unwrap();
        store.rewrite_merged(&mut rewrite, SegmentId(0), &mut |sink| put(sink, b"new")).unwrap();
        let stored = store.commit_rewrite(rewrite).unwrap().unwrap();
        store.drop_retired().unwrap();
        assert_eq!(reader.get(Key::Hashes).unwrap().unwrap(), b"a");
        assert_eq!(stored[0].handle.get(Key::Hashes).unwrap().unwrap(), b"new");
        drop(reader);
        store.drop_retired().unwrap();
        assert!(store.retired.lock().is_empty());
    }

    #[test]
    fn a_partition_that_changed_meanwhile_stays_as_it_is() {
        let (dir, store, rewrite) = world();
        publish(&store, b"d");
        assert!(store.commit_rewrite(rewrite).unwrap().is_none());
        assert_eq!(std::fs::read_dir(dir.path().join("ingest")).unwrap().count(), 0, "its files are gone");
        drop(store);
        assert_eq!(found(dir.path()).len(), 4);
    }

    #[test]
    fn a_store_that_is_closed_does_not_say_that_a_partition_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let handle = publish(&store, b"a").handle;
        let current = dir.path().join("rocksdb/CURRENT");
        let whole = std::fs::read(&current).unwrap();
        std::fs::write(&current, b"MANIFEST-none\n").unwrap();
        store.reopen().unwrap_err();
        let closed = store.begin_rewrite(std::slice::from_ref(&handle));
        assert!(matches!(closed, Err(StoreError::Closed)), "{closed:?}");
        std::fs::write(&current, whole).unwrap();
        store.reopen().unwrap();
        assert!(store.begin_rewrite(&[handle]).unwrap().is_some());
    }

    #[test]
    fn what_is_sealed_next_goes_into_the_new_family_and_stays() {
        let (dir, store, rewrite) = world();
        store.commit_rewrite(rewrite).unwrap().unwrap();
        assert_eq!(publish(&store, b"d").handle.id, SegmentId(3));
        drop(store);
        assert_eq!(found(dir.path()), [new(), vec![(3, b"d".to_vec())]].concat());
    }

    #[test]
    fn a_store_of_the_first_family_names_is_read_and_merged() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let slice = AT.0 / StoreOptions::default().slice();
        let legacy = Partition::of_family(
            crate::partitions::slice(slice, StoreOptions::default().slice()),
            format!("p-{slice:016x}"),
        );
        store.make_family(&legacy.family).unwrap();
        store.partitions.write().push(Arc::new(legacy));
        let segments = [publish(&store, b"a"), publish(&store, b"b")];
        assert!(segments[0].handle.partition.family.len() < 20);
        drop((store, segments));
        let (store, segments) = open(dir.path());
        let handles: Vec<SegmentHandle> = segments.iter().map(|stored| stored.handle.clone()).collect();
        let mut rewrite = store.begin_rewrite(&handles).unwrap().unwrap();
        store.rewrite_merged(&mut rewrite, SegmentId(1), &mut |sink| put(sink, b"ab")).unwrap();
        store.commit_rewrite(rewrite).unwrap().unwrap();
        assert_eq!(found(copy(dir.path()).path()), [(1, b"ab".to_vec())]);
    }
}
