//! One number for memory, divided among everything that grows with load or with what is stored.
//!
//! The parts are what full load was seen to need of each; what is left over is for what does not grow (code,
//! threads, RocksDB's own, the allocator's slack) and for answers under way.

use crate::config::Config;

/// The least that works, bytes.
pub(crate) const MEMORY_MIN: usize = 128 << 20;

/// What one span that waits for its trace to be finished takes, with its part of the trace's own, bytes.
const HELD_SPAN_BYTES: usize = 84;

/// What a span takes while its trace is analysed, bytes. Large traces are analysed one at a time, and of those no more
/// than a part is held as well.
const ANALYSED_SPAN_BYTES: usize = 120;

/// Of the spans that may be held, one trace may have this part once they are sealed.
const TRACE_HELD: usize = 8;

/// Parts of the whole, in thousandths.
const QUEUED: usize = 70;
const SEAL: usize = 55;
const HELD_SPANS: usize = 250;
const GENERATION: usize = 32;
const ROCKSDB_CACHE: usize = 50;
const BLOCKS: usize = 50;
const DIRECTORY: usize = 70;

/// What the caches of queries may take.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct QueryMemory {
    /// Inflated blocks and directories of segments, bytes.
    pub(crate) blocks: usize,
    /// Hashes of stored traces, bytes.
    pub(crate) directory: usize,
}

/// Gives every bound that was not set on its own (0) its part of `config.memory`.
pub(crate) fn divide(config: &mut Config) {
    let memory = config.memory;
    let part = |thousandths: usize| memory / 1000 * thousandths;
    let whole_mib = |bytes: usize| (bytes >> 20).max(1) << 20;
    let fill = |value: &mut usize, bytes: usize| {
        if *value == 0 {
            *value = bytes;
        }
    };
    fill(&mut config.ingest.queued_bytes, whole_mib(part(QUEUED)));
    fill(&mut config.seal.bytes, whole_mib(part(SEAL)));
    fill(&mut config.assemble.spans_max, part(HELD_SPANS) / HELD_SPAN_BYTES);
    config.assemble.trace_held_max = (config.assemble.spans_max / TRACE_HELD).max(1);
    fill(&mut config.trace_spans_max, part(HELD_SPANS) / ANALYSED_SPAN_BYTES);
    fill(&mut config.store.cache_bytes, whole_mib(part(ROCKSDB_CACHE)));
    config.store.generation_bytes = whole_mib(part(GENERATION)) as u64;
    config.query = QueryMemory { blocks: part(BLOCKS), directory: part(DIRECTORY) };
}

/// Keeps freed memory for half a second before it is given back to the system. At full load requests of megabytes
/// are freed and wanted again all the time; having their pages zeroed by the system each time took a tenth of
/// all time.
pub(crate) fn keep_freed_pages() {
    /// `mi_option_purge_delay` of mimalloc 3; arenas wait ten times as long. Milliseconds.
    const PURGE_DELAY: i32 = 15;
    #[allow(unsafe_code, reason = "mimalloc has no safe call for its options")]
    // SAFETY: sets an integer in a table of options, unless the environment has set it; any index and value is checked
    // there.
    unsafe {
        libmimalloc_sys::mi_option_set_default(PURGE_DELAY, 50);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_leave_room_for_what_does_not_grow() {
        // What is live is there twice, while it gathers and while it is sealed, and rows lie beside it.
        let live = SEAL * 5 / 2;
        let memtables = GENERATION * 3;
        let sum = QUEUED + live + HELD_SPANS + memtables + ROCKSDB_CACHE + BLOCKS + DIRECTORY;
        assert!(sum < 850, "{sum}");
    }
}
