//! The store itself: append, replay, publish, retain.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use rocksdb::{Cache, IngestExternalFileOptions, SstFileWriter, WriteOptions};
use segment::{BuildError, Dictionary, Key, ReadError, SegmentMeta};
use trace_model::{TraceId, UnixNanos};

use crate::database::{self, Database};
use crate::disk;
use crate::error::StoreError;
use crate::frame::{FrameWriter, inflated_length};
use crate::heal::Health;
use crate::log::{self, Generation, LogState, Replayed};
use crate::open;
use crate::options::{self, Durability, StoreOptions};
use crate::owed;
use crate::partition::{Partition, PartitionId, SegmentHandle, SegmentId, full_key};
use crate::partitions;
use crate::retention;
use crate::rollup::Rollups;

/// A sealed segment: how to read it, and what it says about itself.
#[derive(Debug, Clone)]
pub struct StoredSegment {
    /// Reads its values.
    pub handle: SegmentHandle,
    /// What it says about itself; of a segment that was there when the store was opened, abridged
    /// ([`segment::abridge_segment_meta`]).
    pub meta: SegmentMeta,
}

impl StoredSegment {
    /// Traces whose analysis here replaces one in an earlier segment; the first of them where the meta is abridged.
    pub fn revisions(&self) -> impl Iterator<Item = TraceId> + '_ {
        self.meta.revised_traces.chunks_exact(16).filter_map(|id| TraceId::try_from(id).ok())
    }
}

/// A segment that is built but not part of the store. Dropping it gives it up.
#[derive(Debug)]
pub struct Draft {
    id: SegmentId,
    file: DraftFile,
    meta: SegmentMeta,
    /// The one that its meta names, which stays as long as somebody holds it.
    dictionary: Option<Arc<Dictionary>>,
}

impl Draft {
    /// The number that it is to have.
    pub fn id(&self) -> SegmentId {
        self.id
    }
}

/// A file that is removed unless it was moved into the store.
#[derive(Debug)]
struct DraftFile(PathBuf);

impl Drop for DraftFile {
    fn drop(&mut self) {
        // Not there: it was moved, or never made.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Reads what a segment says about itself.
///
/// # Errors
/// If the bytes are not a segment's meta.
pub fn decode_meta(bytes: &[u8]) -> Result<SegmentMeta, ReadError> {
    segment::decode_segment_meta(bytes)
}

/// Takes the values of a segment in rising key order.
pub type Sink<'a> = &'a mut dyn FnMut(Key, &[u8]) -> Result<(), String>;

/// How much is stored.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoreSize {
    /// Bytes of frames in the log.
    pub log_bytes: u64,
    /// Partitions.
    pub partitions: u64,
    /// Bytes of the files of segments.
    pub segment_bytes: u64,
    /// How often the database was closed and opened again to get over an error.
    pub reopened: u64,
}

/// The embedded store. One thread appends; any number read; one seals and keeps house.
pub struct SpanStore {
    pub(crate) db: Arc<Database>,
    pub(crate) dir: PathBuf,
    pub(crate) options: StoreOptions,
    /// Taken after `frames` and before the database.
    pub(crate) log: Mutex<LogState>,
    /// Held by who makes and drops generations: there is one spare. Taken before all others.
    log_keeping: Mutex<()>,
    pub(crate) frames: Mutex<FrameWriter>,
    pub(crate) health: Health,
    /// Oldest first.
    pub(crate) partitions: RwLock<Vec<Arc<Partition>>>,
    /// Taken out of the store, and kept for as long as somebody reads from them.
    pub(crate) retired: Mutex<Vec<Arc<Partition>>>,
    /// Held while a segment enters a partition, and while a merge switches one.
    pub(crate) switch: Mutex<()>,
    pub(crate) rollups: Rollups,
    completed_dictionaries: Vec<u32>,
    torn_log_end: Option<String>,
    next_segment: AtomicU32,
    sealed_seq: AtomicU64,
    /// Frames from here on were written by this process.
    first_seq: u64,
}

impl std::fmt::Debug for SpanStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SpanStore({})", self.dir.display())
    }
}

impl SpanStore {
    /// Opens or makes the store in a folder: the store, its segments oldest first, and what is damaged.
    ///
    /// # Errors
    /// If the folder cannot be used, is in use, was written by a newer version, or RocksDB fails.
    pub fn open(
        dir: &Path,
        options: StoreOptions,
    ) -> Result<(Self, Vec<StoredSegment>, Vec<String>), StoreError> {
        match Self::try_open(dir, options) {
            // Each step needs some room, and after a write that failed RocksDB takes no other until it is opened anew.
            Err(error) if error.is_full() && disk::give_up_ballast(dir) => Self::try_open(dir, options),
            other => other,
        }
    }

    fn try_open(
        dir: &Path,
        options: StoreOptions,
    ) -> Result<(Self, Vec<StoredSegment>, Vec<String>), StoreError> {
        let cache = Cache::new_lru_cache(options.cache_bytes);
        let opened = open::database(dir, &cache, &options)?;
        let db = Arc::new(Database::new(dir, cache, opened.db, opened.opening));
        let families = database::families(dir)?;
        let loaded = partitions::load(&db, &families, &options)?;
        let of_segments = loaded.segments.iter().map(|segment| segment.meta.seq_high).max().unwrap_or(0);
        let sealed = retention::noted_sealed(&*db.get()?)?.max(of_segments);
        // Before anything is dropped: it may refuse.
        let log = open::log_state(&*db.get()?, &families, sealed, opened.last_frame)?;
        for family in &loaded.left_behind {
            db.get()?.drop_cf(family)?;
        }
        let rollups = Rollups::load(&db)?;
        let mut damaged = opened.damaged;
        damaged.extend(loaded.damaged);
        let segments = loaded.segments;
        let first_seq = log.next_seq;
        let mut store = Self {
            db,
            dir: dir.to_path_buf(),
            options,
            log: Mutex::new(log),
            log_keeping: Mutex::default(),
            frames: Mutex::default(),
            health: Health::default(),
            partitions: RwLock::new(loaded.partitions),
            retired: Mutex::default(),
            switch: Mutex::default(),
            rollups,
            completed_dictionaries: Vec::new(),
            torn_log_end: opened.torn_end,
            next_segment: AtomicU32::new(loaded.next_segment.max(opened.next_segment)),
            sealed_seq: AtomicU64::new(sealed),
            first_seq,
        };
        store.begin_generation()?;
        store.completed_dictionaries = store.complete_dictionaries();
        Ok((store, segments, damaged))
    }

    /// Where the log ended torn when the store was opened: which byte of which file, and after which frame. That is no
    /// damage: a crash leaves it of a write that was not acknowledged.
    pub fn torn_log_end(&self) -> Option<&str> {
        self.torn_log_end.as_deref()
    }

    /// Writes requests as one frame. They are acknowledged-durable when this returns.
    ///
    /// # Errors
    /// If the write fails; then nothing was written and the caller may try again.
    pub fn append(&self, requests: &[Bytes], arrival: UnixNanos) -> Result<u64, StoreError> {
        let mut writer = self.frames.lock();
        let frame = writer
            .write(requests, arrival)
            .ok_or_else(|| StoreError::FrameTooLarge(requests.iter().map(Bytes::len).sum()))?;
        let mut log = self.log.lock();
        let seq = log.next_seq;
        self.health.note(self.put_frame(&log, seq, frame))?;
        log.next_seq += 1;
        if let Some(generation) = log.generations.back_mut() {
            generation.first_seq.get_or_insert(seq);
            generation.last_seq = Some(seq);
            generation.bytes += frame.len() as u64;
            generation.owed.add(seq, owed::of_frame(frame.len(), inflated_length(frame)));
        }
        self.rotate_if_full(&mut log);
        Ok(seq)
    }

    fn put_frame(&self, log: &LogState, seq: u64, frame: &[u8]) -> Result<(), StoreError> {
        let family_name = &log.generations.back().ok_or(StoreError::Closed)?.family;
        let db = self.db.get()?;
        let family = db.cf_handle(family_name).ok_or(StoreError::Closed)?;
        let mut write = WriteOptions::default();
        write.set_sync(self.options.durability == Durability::Sync);
        Ok(db.put_cf_opt(&family, seq.to_be_bytes(), frame, &write)?)
    }

    /// Only swaps in the spare generation; making one and switching the WAL is left to [`Self::keep_house`].
    fn rotate_if_full(&self, log: &mut LogState) {
        let full = log.generations.back().is_some_and(|g| g.bytes >= self.options.generation_bytes);
        if full && let Some(spare) = log.spare.take() {
            log.generations.push_back(spare);
            log.switch_wal = true;
        }
    }

    /// Tells `each` the frames of earlier processes that no segment holds yet, in order, those before `from` left out; it
    /// says whether to go on.
    ///
    /// # Errors
    /// If the database is closed. All frames that were told are right, and this may be called again from the next one on.
    pub fn replay(&self, from: u64, each: &mut dyn FnMut(Replayed) -> bool) -> Result<(), StoreError> {
        let generations: Vec<Generation> = self.log.lock().generations.iter().cloned().collect();
        let unsealed = self.unsealed_frames();
        log::replay(&self.db, &generations, unsealed.start.max(from)..unsealed.end, each)
    }

    /// How many frames [`replay`](Self::replay) would tell now.
    pub fn frames_to_replay(&self) -> u64 {
        let frames = self.unsealed_frames();
        frames.end.saturating_sub(frames.start)
    }

    fn unsealed_frames(&self) -> std::ops::Range<u64> {
        self.sealed_seq.load(Ordering::Acquire) + 1..self.first_seq
    }

    /// Builds a segment and makes it part of the store in one atomic step.
    ///
    /// # Errors
    /// If it cannot be built or ingested; then nothing of it is stored.
    pub fn publish(
        &self,
        now: UnixNanos,
        build: &mut dyn FnMut(Sink<'_>) -> Result<SegmentMeta, BuildError>,
    ) -> Result<StoredSegment, StoreError> {
        // On a full disk a segment that is in doubt is room for the one that is built in its place.
        self.forget_doubtful()?;
        self.publish_draft(now, self.draft(self.number_segment(), build)?)
    }

    /// The number of the next segment. Every try has its own: on a full disk, files of failed ones would keep it full.
    pub fn number_segment(&self) -> SegmentId {
        SegmentId(self.next_segment.fetch_add(1, Ordering::AcqRel))
    }

    pub(crate) fn next_segment(&self) -> SegmentId {
        SegmentId(self.next_segment.load(Ordering::Acquire))
    }

    /// Builds a segment beside the store. Any number may be built at a time.
    ///
    /// # Errors
    /// If it cannot be built, or names a dictionary that is not there; then nothing of it is left.
    pub fn draft(
        &self,
        id: SegmentId,
        build: &mut dyn FnMut(Sink<'_>) -> Result<SegmentMeta, BuildError>,
    ) -> Result<Draft, StoreError> {
        let file = DraftFile(self.ingest_path(&format!("segment-{:08}", id.0)));
        let written = self.write_file(&file.0, &|key| full_key(id, key), build);
        let meta = self.health.note(written)?;
        // While whoever builds holds it.
        let dictionary = self.db.dictionaries().named(meta.dictionary).map_err(BuildError::Sink)?;
        Ok(Draft { id, file, meta, dictionary })
    }

    /// Makes a draft part of the store in one atomic step. Drafts are published in the order of their numbers.
    ///
    /// # Errors
    /// If it cannot be ingested; then nothing of it is stored.
    pub fn publish_draft(&self, now: UnixNanos, draft: Draft) -> Result<StoredSegment, StoreError> {
        self.forget_doubtful()?;
        let published = self.health.note(self.ingest_draft(now, draft))?;
        if published.meta.seq_high > 0 {
            self.sealed_seq.fetch_max(published.meta.seq_high, Ordering::AcqRel);
        }
        Ok(published)
    }

    pub(crate) fn ingest_path(&self, name: &str) -> PathBuf {
        self.dir.join("ingest").join(format!("{name}.sst"))
    }

    fn ingest_draft(&self, now: UnixNanos, draft: Draft) -> Result<StoredSegment, StoreError> {
        let Draft { id, file, meta, dictionary } = draft;
        let bytes = file_bytes(&file.0);
        // From here on no merge may switch the partition.
        let _switch = self.switch.lock();
        let partition = self.partition_at(now)?;
        let ingested = self.ingest(&partition.family, vec![file.0.clone()]);
        // After an error it may be in or not: which, is seen before the next one is published.
        ingested.inspect_err(|_| self.health.doubt(id, &partition.family))?;
        partition.bytes.fetch_add(bytes, Ordering::AcqRel);
        let handle = SegmentHandle { db: Arc::clone(&self.db), partition, id, bytes, dictionary };
        Ok(StoredSegment { handle, meta })
    }

    /// Writes the values that `build` hands out into a file, ready for ingestion.
    pub(crate) fn write_file<M>(
        &self,
        path: &Path,
        full_key: &dyn Fn(Key) -> Vec<u8>,
        build: &mut dyn FnMut(Sink<'_>) -> Result<M, BuildError>,
    ) -> Result<M, StoreError> {
        let options = options::partition(self.db.cache());
        let mut writer = SstFileWriter::create(&options);
        writer.open(path)?;
        let meta =
            build(&mut |key, value| writer.put(full_key(key), value).map_err(|error| error.to_string()))?;
        writer.finish()?;
        Ok(meta)
    }

    /// Makes files part of a family, all of them in one atomic step. Their key ranges are disjoint.
    pub(crate) fn ingest(&self, family: &str, files: Vec<PathBuf>) -> Result<(), StoreError> {
        let db = self.db.get()?;
        let handle =
            db.cf_handle(family).ok_or_else(|| BuildError::Sink(format!("the family {family} is gone")))?;
        let mut ingest = IngestExternalFileOptions::default();
        ingest.set_move_files(true);
        Ok(db.ingest_external_file_cf_opts(&handle, &ingest, files)?)
    }

    /// The partition that takes what is sealed now. One that is full ends early: the next one begins now.
    fn partition_at(&self, now: UnixNanos) -> Result<Arc<Partition>, StoreError> {
        let slice = self.options.slice();
        let mut id = partitions::slice(now.0 / slice, slice);
        let newest = self.partitions.read().iter().rev().find(|partition| partition.contains(now)).cloned();
        if let Some(found) = newest {
            let full = found.bytes.load(Ordering::Acquire) >= self.options.partition_bytes();
            if !full || found.id.begin == now {
                return Ok(found);
            }
            id = PartitionId { begin: now, end: found.id.end, generation: 0 };
        }
        id.generation = self.free_generation(id);
        let partition = Arc::new(Partition::new(id));
        self.make_family(&partition.family)?;
        let mut partitions = self.partitions.write();
        partitions.push(Arc::clone(&partition));
        partitions.sort_unstable_by_key(|partition| partition.id);
        Ok(partition)
    }

    /// Makes a partition's family, unless it is there: it may have been made although making it failed.
    pub(crate) fn make_family(&self, family: &str) -> Result<(), StoreError> {
        let db = self.db.get()?;
        if db.cf_handle(family).is_none() {
            db.create_cf(family, &options::partition(self.db.cache()))?;
        }
        Ok(())
    }

    /// What is slow and must not be done while somebody waits for an acknowledgement: keeps a spare log
    /// generation, drops generations that are sealed, and lets go of their WAL.
    ///
    /// # Errors
    /// If RocksDB fails.
    pub fn keep_house(&self) -> Result<(), StoreError> {
        let dropped = self.health.note(self.drop_retired());
        // Whatever stays for now, the log goes on.
        self.health.note(self.keep_log()).and(dropped)
    }

    fn keep_log(&self) -> Result<(), StoreError> {
        let _keeping = self.log_keeping.lock();
        if self.log.lock().spare.is_none() {
            let generation = self.new_generation()?;
            self.log.lock().spare = Some(generation);
        }
        let sealed = self.sealed_seq.load(Ordering::Acquire);
        let done = self.log.lock().sealed(sealed);
        for family in &done {
            // Until it is gone it keeps its WAL, and counts.
            if self.db.drop_family(family)? {
                self.log.lock().forget(family);
            }
        }
        let switch_wal = std::mem::take(&mut self.log.lock().switch_wal);
        if switch_wal {
            self.switch_wal().inspect_err(|_| self.log.lock().switch_wal = true)?;
        }
        Ok(())
    }

    /// RocksDB begins a new WAL file only when some memtable is switched, and log families are never flushed:
    /// without this the WAL would grow for as long as the process lives.
    fn switch_wal(&self) -> Result<(), StoreError> {
        let (newest, next) = {
            let log = self.log.lock();
            (log.generations.back().map_or(0, |generation| generation.number), log.next_seq)
        };
        let db = self.db.get()?;
        db.put(b"\x03generation", newest.to_be_bytes())?;
        // So that frames which are missing later are missed.
        db.put(open::NEXT_FRAME_KEY, next.to_be_bytes())?;
        Ok(db.flush()?)
    }

    /// Lets go of a log that is wholly sealed, so that a store at rest holds every span once. For stopping
    /// time, when nobody appends any more.
    ///
    /// # Errors
    /// If RocksDB fails.
    pub fn retire_log(&self) -> Result<(), StoreError> {
        let sealed = self.sealed_seq.load(Ordering::Acquire);
        if self.log.lock().next_seq == sealed + 1 {
            self.begin_generation()?;
        }
        self.keep_house()?;
        Ok(self.db.get()?.flush_wal(true)?)
    }

    pub(crate) fn new_generation(&self) -> Result<Generation, StoreError> {
        let number = {
            let mut log = self.log.lock();
            log.next_number += 1;
            log.next_number - 1
        };
        let generation = Generation::new(number);
        self.db.get()?.create_cf(&generation.family, &options::log())?;
        Ok(generation)
    }

    pub(crate) fn begin_generation(&self) -> Result<(), StoreError> {
        let generation = self.new_generation()?;
        let mut log = self.log.lock();
        log.generations.push_back(generation);
        log.switch_wal = true;
        Ok(())
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The dictionaries of which a copy was missing or damaged when the store was opened, and was written again.
    pub fn completed_dictionaries(&self) -> &[u32] {
        &self.completed_dictionaries
    }

    /// The last frame that a segment holds; 0 if none does.
    pub fn sealed_seq(&self) -> u64 {
        self.sealed_seq.load(Ordering::Acquire)
    }

    /// How much is stored.
    pub fn size(&self) -> StoreSize {
        let partitions = self.partitions.read();
        let bytes = partitions.iter().map(|partition| partition.bytes.load(Ordering::Acquire));
        StoreSize {
            log_bytes: self.log.lock().bytes(),
            partitions: partitions.len() as u64,
            segment_bytes: bytes.sum(),
            reopened: self.db.reopened(),
        }
    }
}

/// The length of a file that was just written.
pub(crate) fn file_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}
