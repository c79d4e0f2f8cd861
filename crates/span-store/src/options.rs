//! How the store is set up, and RocksDB's options with their reasons.

use rocksdb::{BlockBasedOptions, Cache, InfoLogger, LogLevel, Options};
use trace_model::NanoDuration;

use crate::disk::FreeMin;

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When the operating system has it: survives `kill -9` of the process.
    #[default]
    Process,
    /// When the disk has it: survives loss of power.
    Sync,
}

/// How the store is set up.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// When a write counts as done.
    pub durability: Durability,
    /// Segments older than this go, exact to a partition. Default 7 days.
    pub retention: NanoDuration,
    /// The oldest partitions go while more than this is stored, bytes. Default 50 GiB.
    pub bytes_max: u64,
    /// Cache for blocks that were read, bytes. Default 64 MiB.
    pub cache_bytes: usize,
    /// Bytes of frames after which a new log generation begins. Default 24 MiB.
    pub generation_bytes: u64,
    /// Bytes of requests that are in the log and in no segment, those that are being sealed counted in, at most.
    /// Default 192 MiB.
    pub unsealed_bytes_max: u64,
    /// Free bytes of the disk below which spans are refused. Default by size of the disk.
    pub free_min: FreeMin,
    /// Bytes of the file that is given up when the disk is full, so that what is under way can end. At most a
    /// fiftieth of the disk; 0 is none. Default 256 MiB.
    pub ballast: u64,
    /// A partition does not end early with less than this in it, however little may be stored, bytes. Default 64 MiB.
    pub partition_bytes_min: u64,
    /// Width of a partition; by default a twenty-fourth of the retention, from ten minutes to a day.
    pub slice: Option<NanoDuration>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Process,
            retention: NanoDuration::from_secs(7 * 86_400),
            bytes_max: 50 << 30,
            cache_bytes: 64 << 20,
            generation_bytes: 24 << 20,
            unsealed_bytes_max: 192 << 20,
            free_min: FreeMin::default(),
            ballast: 256 << 20,
            partition_bytes_min: 64 << 20,
            slice: None,
        }
    }
}

impl StoreOptions {
    /// Width of a partition, nanoseconds.
    pub(crate) fn slice(&self) -> u64 {
        const MINUTE: u64 = 60_000_000_000;
        let usual = (self.retention.0 / 24).clamp(10 * MINUTE, 24 * 60 * MINUTE);
        self.slice.map_or(usual, |slice| slice.0.max(1))
    }

    /// Width of a partition.
    pub fn width(&self) -> NanoDuration {
        NanoDuration(self.slice())
    }

    /// Bytes after which a partition ends early, so that bytes can be retained as exactly as age.
    pub fn partition_bytes(&self) -> u64 {
        (self.bytes_max / 24).max(self.partition_bytes_min)
    }

    /// Bytes of WAL that RocksDB must leave alone: beyond so many it writes the oldest log families to tables. A quarter
    /// above what the log may hold, all of which may be incompressible: what is not sealed, and what is and lies in
    /// generations that are not gone yet (the one that is written to, the one before it, and one that is just being dropped).
    pub(crate) fn wal_bytes_max(&self) -> u64 {
        let log = self.unsealed_bytes_max.saturating_add(self.generation_bytes.saturating_mul(3));
        log.saturating_add(log / 4)
    }
}

/// Above a generation's bytes, so that a generation is dropped before its memtable is ever flushed.
const LOG_MEMTABLE_BYTES: usize = 64 << 20;

/// Without a bound on its WAL, for who writes nothing to the log.
pub(crate) fn database() -> Options {
    // Log families live in the WAL until they are dropped. Flushing them at every opening would write them twice,
    // and needs room that a full disk has not. A log file that reserves 70 MiB ahead
    // of what is written would look like a full disk on a small one. The crate has no setters for these.
    let mut options = Options::default()
        .get_options_from_string("avoid_flush_during_recovery=true;allow_fallocate=false")
        .unwrap_or_default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_background_jobs(2);
    options.set_bytes_per_sync(1 << 20);
    options.set_wal_bytes_per_sync(1 << 20);
    // A table reader costs memory for as long as it is open.
    options.set_max_open_files(512);
    // Without a bound it grows for as long as the process lives: each family that is made or dropped is written to it, by
    // the thousand an hour under load.
    options.set_max_manifest_file_size(16 << 20);
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, tell));
    options
}

/// What RocksDB has to say goes where everything else is said. Not to a file of its own: that would begin with the options
/// of every family that was ever made, keep them all in memory, and once they are more than a file may have, write them
/// anew for every line (under load that took half of the machine after half a minute).
fn tell(level: LogLevel, text: &str) {
    let text = text.trim_end();
    match level {
        // Much of it is of no concern, such as how much of a table's end was read at once.
        LogLevel::Warn => tracing::debug!("rocksdb: {text}"),
        LogLevel::Error | LogLevel::Fatal => tracing::error!("rocksdb: {text}"),
        // Headers come whatever the level is.
        LogLevel::Debug | LogLevel::Info | LogLevel::Header => {}
    }
}

pub(crate) fn catalog() -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(4 << 20);
    options
}

pub(crate) fn log() -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(LOG_MEMTABLE_BYTES);
    options.set_max_write_buffer_number(4);
    options.set_disable_auto_compactions(true);
    options
}

pub(crate) fn partition(cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(16 << 10);
    table.set_cache_index_and_filter_blocks(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    // Values are compressed by `segment`; doing it twice only costs.
    options.set_compression_type(rocksdb::DBCompressionType::None);
    // Segments have disjoint key ranges and are never overwritten: there is nothing to compact.
    options.set_disable_auto_compactions(true);
    options.set_write_buffer_size(1 << 20);
    options
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use trace_model::UnixNanos;

    use super::*;
    use crate::log::generation_of;
    use crate::store::SpanStore;

    const FRAME: usize = 256 << 10;
    const FRAMES: u64 = 64;

    /// Bytes that do not compress.
    fn noise(seed: u64) -> Bytes {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        (0..FRAME / 8).flat_map(|_| next()).collect()
    }

    /// Memtables and tables of log families that RocksDB was made to flush while nothing was sealed.
    fn flushed(options: StoreOptions) -> u64 {
        let dir = tempfile::tempdir().unwrap();
        let (store, ..) = SpanStore::open(dir.path(), options).unwrap();
        for seq in 1..=FRAMES {
            store.append(&[noise(seq)], UnixNanos(seq)).unwrap();
            store.keep_house().unwrap();
        }
        let db = store.db.get().unwrap();
        let generations = store.log.lock().generations.clone();
        // In this order: one may become the other meanwhile.
        let flushing = generations.iter().map(|generation| {
            let family = db.cf_handle(&generation.family).unwrap();
            db.property_int_value_cf(&family, "rocksdb.num-immutable-mem-table").unwrap().unwrap()
        });
        let flushing: u64 = flushing.sum();
        let tables = db.live_files().unwrap();
        flushing
            + tables.iter().filter(|file| generation_of(&file.column_family_name).is_some()).count() as u64
    }

    #[test]
    fn the_log_is_not_written_to_tables_for_as_long_as_it_holds_no_more_than_it_may() {
        let log = FRAME as u64 * FRAMES;
        let with = |unsealed_bytes_max| StoreOptions {
            generation_bytes: 1 << 20,
            unsealed_bytes_max,
            ..StoreOptions::default()
        };
        assert_eq!(flushed(with(log)), 0);
        assert!(flushed(with(log / 8)) > 0, "the backstop");
    }
}
