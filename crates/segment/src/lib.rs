//! The sealed segment: an immutable, sorted list of keys and values that holds a stretch of the log by trace,
//! with everything derived from its spans beside them.
//!
//! The crate knows keys and values, not where they lie: [`build`] hands them out in key order, and the readers
//! fetch them through [`Blocks`]. Names of services and operations are numbered within the segment, so that a
//! segment needs nothing but itself to be read.
//!
//! | first byte | then | value |
//! | --- | --- | --- |
//! | `02` | | hashes of the trace ids, sorted, 4 bytes each |
//! | `10` | block u32 | chunk block: the spans of traces, in columns |
//! | `11` | | what the spans of all chunk blocks share |
//! | `20` | block u32 | span rows of one service, by falling duration |
//! | `21` | block u32 | analysed traces, by falling duration |
//! | `22` | block u32 | critical-path shares of the same traces |
//! | `30` | block u32 | contexts (resource and scope) |
//! | `50` | minute u32 | latency histograms of that minute |
//! | `61` | | which of the traces were open at the cut, one bit each |
//! | `ff` | | [`SegmentMeta`], which commits the segment |

mod ahead;
mod bits;
mod build;
mod chunks;
mod codec;
mod columns;
mod contexts;
mod counting;
mod dictionary;
mod follow;
mod hashes;
mod histograms;
mod keys;
mod live;
mod meta;
mod minutes;
mod names;
mod order;
mod rollup;
mod rows;
mod shape;
mod template;
mod texts;
mod traces;
mod v1;
mod values;

pub use build::{BuildError, SegmentInput, build};
pub use chunks::{ChunkBlock, ChunkSpan};
pub use codec::{Blocks, ReadError};
pub use contexts::ContextBlock;
pub use dictionary::{DICTIONARY_BYTES, Dictionary, Retrained, Samples, dictionary_samples, retrain};
pub use hashes::{open_numbers, trace_hash, trace_hashes};
pub use histograms::{HistogramRow, HistogramTable, decode_minute};
pub use keys::Key;
pub use live::{LiveBatch, SpanRow};
pub use longpole_proto::segment::SegmentMeta;
pub use meta::{abridge_segment_meta, decode_segment_meta};
pub use names::{Names, OperationEntry};
pub use rollup::{
    HistogramRows, ItemKey, ItemSums, Part, PathExemplar, PathGrouping, PathRows, PathSumming, PathSums,
    ROLLUP_FORMAT, RolledHistogram, RolledPaths, RollupBlock, RollupInput, RollupMeta, RollupSource, Tier,
    build_rollup, decode_meta, rolled_histograms, rolled_paths,
};
pub use rows::{ROOT_FLAG, RowBlock};
pub use traces::{TraceHeads, TracePaths, TraceRow, TraceServiceCount};
pub use values::ChunkTables;

/// The format written now. Readers take it and those before it.
pub const FORMAT: u32 = 4;
