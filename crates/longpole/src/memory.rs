//! One number for memory, divided among everything that grows with load or with what is stored.
//!
//! The parts are what full load was seen to need of each; what is left over is for what does not grow (code,
//! threads, RocksDB's own, the allocator's slack) and for answers under way.

use crate::config::{Config, SEAL_BYTES_MAX};

/// The least that works, bytes.
pub(crate) const MEMORY_MIN: usize = 128 << 20;

/// What one span that waits for its trace to be finished takes, with its part of the trace's own, bytes.
const HELD_SPAN_BYTES: usize = 84;

/// What a span takes while its trace is analysed, bytes. Large traces are analysed one at a time, and of those no more
/// than a part is held as well.
const ANALYSED_SPAN_BYTES: usize = 120;

/// Of the spans that may be held, one trace may have this part once they are sealed.
const TRACE_HELD: usize = 8;

/// What a server takes whatever is configured: code, threads, RocksDB's own, what connections and the runtime need, bytes.
const FIXED: usize = 48 << 20;

/// The configuration that the parts below add up for; of another, each is what its share above `FIXED` is.
const USUAL: usize = 512 << 20;

/// Parts of the usual whole, in thousandths. With fewer held spans, full load has traces finished while they still run and every
/// late span of theirs looked up; with smaller generations, sealing waits for new ones.
const QUEUED: usize = 70;
const SEAL: usize = 44;
const HELD_SPANS: usize = 290;
/// The one large trace that is being analysed.
const ANALYSED: usize = 250;
const GENERATION: usize = 24;
const ROCKSDB_CACHE: usize = 50;
const BLOCKS: usize = 40;
const DIRECTORY: usize = 45;
/// A week of ten late spans a second, nearly all of it as filters of files.
const REVISIONS: usize = 16;
const METRICS: usize = 20;
/// What questions under way have gathered together. It gives way: when memory is short one goes on at a time.
const SUMS: usize = 30;
/// The points of one answer.
const POINTS: usize = 125;

/// The store holds a log generation in a memtable of 64 MiB, and the last group of requests may go beyond. What does not fit
/// it would be written twice, and a repair without a catalog would not find it.
const GENERATION_BYTES_MAX: usize = 48 << 20;

/// How many segments' worth of requests lie in the log and in no segment: one gathering, two being sealed, and what is
/// committed while those wait.
const UNSEALED: u64 = 4;

/// What an operation takes in the metrics, bytes.
const OPERATION_BYTES: usize = 1 << 10;

/// What the caches of queries may take.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct QueryMemory {
    /// Inflated blocks and directories of segments, bytes.
    pub(crate) blocks: usize,
    /// Hashes of stored traces, bytes.
    pub(crate) directory: usize,
    /// Traces that were analysed again, bytes.
    pub(crate) revisions: usize,
    /// Operations that `/metrics` tells apart.
    pub(crate) operations: usize,
    /// What questions over many segments gather together, bytes.
    pub(crate) sums: usize,
    /// The points of one answer, bytes.
    pub(crate) points: usize,
}

/// Gives every bound that was not set on its own (0) its part of `config.memory`.
pub(crate) fn divide(config: &mut Config) {
    let memory = config.memory;
    let part = |thousandths: usize| part_of(memory, thousandths);
    let whole_mib = |bytes: usize| (bytes >> 20).max(1) << 20;
    let fill = |value: &mut usize, bytes: usize| {
        if *value == 0 {
            *value = bytes;
        }
    };
    fill(&mut config.ingest.queued_bytes, whole_mib(part(QUEUED)));
    fill(&mut config.seal.bytes, whole_mib(part(SEAL)).min(SEAL_BYTES_MAX));
    fill(&mut config.assemble.spans_max, part(HELD_SPANS) / HELD_SPAN_BYTES);
    config.assemble.trace_held_max = (config.assemble.spans_max / TRACE_HELD).max(1);
    fill(&mut config.trace_spans_max, part(ANALYSED) / ANALYSED_SPAN_BYTES);
    fill(&mut config.store.cache_bytes, whole_mib(part(ROCKSDB_CACHE)));
    config.store.generation_bytes = whole_mib(part(GENERATION)).min(GENERATION_BYTES_MAX) as u64;
    // A segment is cut behind the request with which it is full.
    config.store.unsealed_bytes_max = UNSEALED * (config.seal.bytes + config.ingest.request_bytes) as u64;
    let operations = part(METRICS) / OPERATION_BYTES;
    config.query = QueryMemory {
        blocks: part(BLOCKS),
        directory: part(DIRECTORY),
        revisions: part(REVISIONS),
        operations,
        sums: part(SUMS),
        points: part(POINTS),
    };
}

fn part_of(memory: usize, thousandths: usize) -> usize {
    let spare = memory.saturating_sub(FIXED);
    // At most a tenth more than `memory`, and no configuration is so large that this overflows.
    let scaled = spare / ((USUAL - FIXED) >> 20) * (USUAL >> 20);
    scaled / 1000 * thousandths
}

/// The smallest disk that is of use, bytes: what RocksDB writes besides spans, a log, and two partitions.
const DISK_MIN: u64 = 64 << 20;
/// Parts of a small disk: a segment, a partition, a log generation, a request. Each is there several times.
const DISK_SEGMENTS: u64 = 16;
const DISK_GENERATIONS: u64 = 32;
const DISK_REQUESTS: u64 = 8;
/// A request in JSON, whose protobuf is what is written.
const DISK_JSON: u64 = 16;

/// Makes what is written at a time small enough for the disk, so that a part of it can be sealed, merged or dropped
/// while the rest stays. The keys that had to be lowered.
///
/// # Errors
/// If the disk is too small for any of it, in words.
pub(crate) fn fit_to_disk(config: &mut Config, total: u64) -> Result<Vec<String>, String> {
    if total < DISK_MIN {
        return Err(format!(
            "the disk of {} has {} MiB in all, and {} MiB is the least that a store works on",
            config.data_dir.display(),
            total >> 20,
            DISK_MIN >> 20
        ));
    }
    let mut lowered = Vec::new();
    let mut lower = |key: &str, value: &mut usize, part: u64| {
        let most = usize::try_from(total / part).unwrap_or(usize::MAX);
        if *value > most {
            *value = most;
            lowered.push(format!("{key} to {} MiB", most >> 20));
        }
    };
    lower("seal.bytes", &mut config.seal.bytes, DISK_SEGMENTS);
    lower("ingest.request_bytes", &mut config.ingest.request_bytes, DISK_REQUESTS);
    // What is not compressed is as long inflated as it is on the wire.
    lower("ingest.wire_bytes", &mut config.ingest.wire_bytes, DISK_REQUESTS);
    lower("ingest.json_bytes", &mut config.ingest.json_bytes, DISK_JSON);
    let store = &mut config.store;
    store.generation_bytes = store.generation_bytes.min(total / DISK_GENERATIONS);
    store.partition_bytes_min = store.partition_bytes_min.min(total / DISK_SEGMENTS);
    // More than the disk has is never stored; what matters is that partitions are a part of what is.
    store.bytes_max = store.bytes_max.min(total);
    Ok(lowered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_leave_room_for_what_does_not_grow() {
        // What is live is there thrice, one gathering and two being sealed, and rows lie beside it.
        let live = SEAL * 7 / 2;
        let memtables = GENERATION * 3;
        let queries = BLOCKS + DIRECTORY + REVISIONS + METRICS;
        let sum = QUEUED + live + HELD_SPANS + memtables + ROCKSDB_CACHE + queries;
        assert!(sum < 760, "{sum}");
    }

    #[test]
    fn what_does_not_grow_is_left_out_of_what_is_divided() {
        assert!(part_of(USUAL, 1000).abs_diff(USUAL) < 1 << 10);
        let least = part_of(MEMORY_MIN, 750) + FIXED;
        assert!(least < MEMORY_MIN, "{least}");
        let large = part_of(64 << 30, 750) + FIXED;
        assert!(large < 64 << 30, "{large}");
        assert_eq!(part_of(FIXED, 1000), 0);
    }

    #[test]
    fn a_small_disk_lowers_what_is_written_at_a_time_and_a_large_one_nothing() {
        let mut config = Config::default();
        config.seal.bytes = 22 << 20;
        config.store.generation_bytes = 16 << 20;
        let usual = (config.seal.bytes, config.ingest.request_bytes, config.store.partition_bytes());
        assert_eq!(fit_to_disk(&mut config, 100 << 30), Ok(Vec::new()));
        assert_eq!((config.seal.bytes, config.ingest.request_bytes, config.store.partition_bytes()), usual);
        let lowered = fit_to_disk(&mut config, 128 << 20).unwrap();
        let json = "ingest.json_bytes to 8 MiB";
        assert_eq!(lowered, ["seal.bytes to 8 MiB", "ingest.request_bytes to 16 MiB", json]);
        let lowered = fit_to_disk(&mut Config::default(), 64 << 20).unwrap();
        assert!(lowered.contains(&"ingest.wire_bytes to 8 MiB".to_owned()), "{lowered:?}");
        assert_eq!((config.store.generation_bytes, config.store.partition_bytes()), (4 << 20, 8 << 20));
        let refused = fit_to_disk(&mut config, DISK_MIN - 1).unwrap_err();
        assert!(refused.contains("63 MiB in all, and 64 MiB is the least"), "{refused}");
    }
}
