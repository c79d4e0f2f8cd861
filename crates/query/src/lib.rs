//! Questions and answers: sealed segments and live spans, united as one.
//!
//! [`State`] is what the pipeline writes and queries read; [`Engine`] answers.

mod analysis;
mod answer;
mod blocks;
mod bottlenecks;
mod cache;
mod chunk_directory;
mod counters;
mod damage;
mod dictionaries;
mod directory;
mod engine;
mod fetch;
mod gate;
mod gather;
mod housekeeping;
mod latencies;
mod latency_series;
mod look_up;
mod merge;
mod metrics;
mod names;
mod page;
mod path;
mod reach;
mod request;
mod resume;
mod revisions;
mod rollups;
mod scans;
mod sealed;
mod search;
mod span_search;
mod state;
mod sums_room;
mod totals;
mod trace_search;
mod view;

pub use analysis::{AnomalyCounts, analyse, analyse_counting, analyse_in_part, summary};
pub use answer::*;
pub use cache::BlockCache;
pub use counters::Counters;
pub use dictionaries::{DictionaryError, DictionaryTrainer, Trained};
pub use directory::TraceDirectory;
pub use engine::{Engine, QueryError};
pub use fetch::{TraceNodes, stored_nodes, trace_nodes};
pub use gate::{Gate, Pass};
pub use gather::{Nodes, SpanPlace};
pub use housekeeping::{Dictionaries, Freed, Housekeeping, Merged, RollupTotals};
pub use look_up::{SpanIdentity, identity_of, stored_among};
pub use merge::{MergeError, MergeOutcome, merge, mergeable};
pub use metrics::{CallTotals, Metrics};
pub use names::{NameTable, NameTotals};
pub use request::*;
pub use resume::{Room, open_at_end};
pub use revisions::Revisions;
pub use rollups::{
    RetireError, Retired, Rollup, RollupOptions, drop_partition, keep_rollups, retire_partition,
};
pub use sealed::{Detail, SealedSegment};
pub use state::{Assembly, Refusal, State};
pub use sums_room::SumsRoom;
pub use view::{Stored, View};
