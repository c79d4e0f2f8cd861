//! Looking at a store without changing it, also while another process serves it.

use std::path::Path;
use std::sync::Arc;

use rocksdb::{Cache, IteratorMode};

use crate::damage;
use crate::database::{self, Database, Opening};
use crate::dictionaries;
use crate::error::StoreError;
use crate::log::{self, Generation, Replayed};
use crate::open;
use crate::options::StoreOptions;
use crate::partition::SegmentHandle;
use crate::partitions;
use crate::retention;
use crate::rollup::{self, RollupHandle, Rollups, StoredRollup};
use crate::store::StoredSegment;
use crate::wal;

const CACHE_BYTES: usize = 32 << 20;

/// A store, opened to look at it.
#[derive(Debug)]
pub struct Inspection {
    db: Arc<Database>,
    generations: Vec<Generation>,
    sealed: u64,
    next: u64,
    rollups: Rollups,
}

impl Inspection {
    /// Opens the store in a folder without writing to it or locking it: its segments oldest first, and what is
    /// damaged.
    ///
    /// # Errors
    /// If there is no store, it was written by a newer version, or RocksDB cannot open it even to read, for instance
    /// because its catalog is gone.
    pub fn open(dir: &Path) -> Result<(Self, Vec<StoredSegment>, Vec<String>), StoreError> {
        open::find(dir)?;
        let scan = wal::scan(&database::rocks_dir(dir))?;
        let mut damaged = damage::places(&scan);
        let cache = Cache::new_lru_cache(CACHE_BYTES);
        let of_catalog = |error| damage::about_catalog(dir, error);
        let families = database::families(dir).map_err(of_catalog)?;
        let db = database::open_to_read(dir, &cache, scan.hole).map_err(of_catalog)?;
        let noted = open::known(&db).map_err(damage::about_table)?;
        damaged.extend(damage::recorded_texts(&db).map_err(damage::about_table)?);
        let db = Arc::new(Database::new(dir, cache, db, Opening::of(&StoreOptions::default())));
        // The width of slices says only when a partition of the first kind ended, which nobody asks here.
        let loaded = partitions::load(&db, &families, &StoreOptions::default())?;
        damaged.extend(loaded.damaged);
        let segments = loaded.segments;
        damaged.extend(dictionaries::problems(&*db.get()?, db.dictionaries(), &segments));
        let of_segments = segments.iter().map(|segment| segment.meta.seq_high).max().unwrap_or(0);
        let sealed = retention::noted_sealed(&*db.get()?).map_err(damage::about_table)?.max(of_segments);
        let last = noted.max(scan.last_frame.unwrap_or(0));
        let log = open::log_state(&*db.get()?, &families, sealed, last)?;
        let generations = log.generations.into_iter().collect();
        let rollups = Rollups::load(&db).unwrap_or_else(|error| {
            damaged.push(format!("rollups: {error}"));
            Rollups::default()
        });
        Ok((Self { db, generations, sealed, next: log.next_seq, rollups }, segments, damaged))
    }

    /// The rollups, oldest number first; empty when asked again.
    pub fn take_rollups(&self) -> Vec<StoredRollup> {
        self.rollups.take_found()
    }

    /// Tells `each` the frames that no segment holds, in order, also those that are gone or damaged.
    ///
    /// # Errors
    /// If the database fails.
    pub fn frames(&self, each: &mut dyn FnMut(Replayed) -> bool) -> Result<(), StoreError> {
        log::replay(&self.db, &self.generations, self.sealed + 1..self.next, each)
    }

    /// Reads every block of a segment's file, so that its checksums are compared. The number of its values.
    ///
    /// # Errors
    /// What RocksDB says of the first block that is not as it was written.
    pub fn read_all(&self, segment: &SegmentHandle) -> Result<u64, StoreError> {
        self.read_from(segment.partition_name(), &segment.id().0.to_be_bytes())
    }

    /// The same of a rollup's file.
    ///
    /// # Errors
    /// Likewise.
    pub fn read_all_of_rollup(&self, rollup: &RollupHandle) -> Result<u64, StoreError> {
        self.read_from(rollup::FAMILY, &rollup.number().to_be_bytes())
    }

    fn read_from(&self, family: &str, first: &[u8]) -> Result<u64, StoreError> {
        let db = self.db.get()?;
        let Some(family) = db.cf_handle(family) else { return Ok(0) };
        let mut values = 0;
        for item in db.iterator_cf(&family, IteratorMode::From(first, rocksdb::Direction::Forward)) {
            if !item?.0.starts_with(first) {
                break;
            }
            values += 1;
        }
        Ok(values)
    }
}
