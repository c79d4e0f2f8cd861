//! The embedded store: the log of acknowledged requests, and partitions of sealed segments.
//!
//! This is the only crate that names `rocksdb`. It knows frames, segments and partitions; what is in them is
//! the business of `otlp-wire` and `segment`.
//!
//! Column families: `default` (the catalog), `log-<generation>` (frames that may not be sealed yet) and
//! `p-<slice>` (sealed segments by time of arrival). Retention drops whole `p-` families, sealing drops whole
//! `log-` families: nothing is ever deleted key by key.

mod copies;
mod damage;
mod database;
mod disk;
mod error;
mod frame;
#[cfg(test)]
mod frame_fuzz;
mod heal;
mod inspect;
mod log;
mod open;
mod options;
mod partition;
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
pub use options::{Durability, StoreOptions};
pub use partition::{SegmentHandle, SegmentId};
pub use store::{Sink, SpanStore, StoreSize, StoredSegment, decode_meta};
