//! Load generator, null servers and the side-by-side benchmark of the whole process.
//!
//! `loadgen` makes its requests before the clock starts ([`model`], [`encode`], [`pool`]) and sends them as raw
//! bytes ([`codec`], [`load`]). The null servers ([`null`]) say what transport and decoding alone cost. `bench`
//! starts each target as a process of its own ([`process`]), loads it, asks it ([`queries`]) and compares
//! ([`report`]).
//!
//! `segment-size` builds segments alone, out of the same pool or of recorded requests ([`stretch`]); `assembling`
//! assembles and analyses alone. `recovery` kills Longpole and measures the replay of its log.

pub mod codec;
pub mod encode;
pub mod load;
pub mod model;
pub mod null;
pub mod pool;
pub mod process;
pub mod queries;
pub mod recorded;
pub mod report;
pub mod resource;
pub mod stretch;
