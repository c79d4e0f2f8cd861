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
}

/// Above a generation's bytes, so that a generation is dropped before its memtable is ever flushed.
const LOG_MEMTABLE_BYTES: usize = 64 << 20;

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
    // A backstop: rotation switches the WAL long before.
    options.set_max_total_wal_size(6 * LOG_MEMTABLE_BYTES as u64);
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
