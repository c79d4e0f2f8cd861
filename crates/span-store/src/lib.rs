//! The embedded store: the log of acknowledged requests, and partitions of sealed segments.
//!
//! This is the only crate that names `rocksdb`. It knows frames, segments and partitions; what is in them is
//! the business of `otlp-wire` and `segment`.
//!
//! Column families: `default` (the catalog), `log-<generation>` (frames that may not be sealed yet),
//! `p-<begin>-<end>-<generation>` (sealed segments by time of arrival), `dictionary` (what small ones are compressed
//! with) and `rollup` (what is kept of segments when they go). Retention and merges drop whole `p-` families, sealing drops whole `log-` families, a rollup or a dictionary goes
//! with its file: nothing is ever deleted key by key.

mod copies;
mod damage;
mod database;
mod dictionaries;
mod disk;
mod error;
mod frame;
#[cfg(test)]
mod frame_fuzz;
mod heal;
mod inspect;
mod log;
mod merge;
mod open;
mod options;
mod owed;
mod partition;
mod partitions;
mod parts;
mod repair;
mod retention;
mod rollup;
mod room;
mod store;
mod wal;

pub use copies::restore;
pub use disk::{Ballast, DiskGuard, DiskSpace, FreeMin, disk_space};
pub use error::StoreError;
pub use frame::{Frame, FrameError};
pub use heal::Failure;
pub use inspect::Inspection;
pub use log::Replayed;
pub use merge::Rewrite;
pub use open::find;
pub use options::{Durability, StoreOptions};
pub use partition::{PartitionId, SegmentHandle, SegmentId};
pub use parts::in_parts;
pub use repair::{Repaired, repair};
pub use retention::{Expired, Retirement};
pub use rollup::{RollupHandle, StoredRollup};
pub use store::{Draft, Sink, SpanStore, StoreSize, StoredSegment, decode_meta};
