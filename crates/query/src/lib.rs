//! Questions and answers: sealed segments and live spans, united as one.
//!
//! [`State`] is what the pipeline writes and queries read; [`Engine`] answers.

mod analysis;
mod answer;
mod bottlenecks;
mod cache;
mod engine;
mod fetch;
mod latencies;
mod names;
mod path;
mod request;
mod search;
mod span_search;
mod state;
mod totals;
mod trace_search;

pub use analysis::analyse;
pub use answer::*;
pub use cache::BlockCache;
pub use engine::{Engine, QueryError};
pub use fetch::stored_nodes;
pub use names::NameTable;
pub use request::*;
pub use state::{Assembly, Counters, Refusal, SealedSegment, State, View};
