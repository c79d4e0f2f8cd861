//! Load generator, null servers, the side-by-side benchmark of the whole process, and the soak.
//!
//! `loadgen` makes its requests before the clock starts ([`model`], [`encode`], [`pool`]; [`recorded`] for real
//! ones), patches them where they lie ([`recycle`]) and sends them as raw bytes ([`schedule`], [`load`], [`wire`]). The null
//! servers ([`null`]) say what transport and decoding alone cost. `bench` starts each target as a process of its own
//! ([`process`]), loads it, watches it ([`sampler`], [`probe`]), asks it ([`queries`]) and compares ([`report`]).
//!
//! `soak` loads Longpole at a rate with questions beside it ([`asking`]) and judges what must not grow ([`soak`],
//! [`verdict`]). `segment-size` builds segments alone, out of the same pool or of recorded requests ([`stretch`]);
//! `assembling` assembles and analyses alone. `recovery` kills Longpole and measures the replay of its log.

pub mod asking;
pub mod codec;
pub mod encode;
pub mod http_client;
pub mod load;
pub mod model;
pub mod null;
pub mod pool;
pub mod probe;
pub mod process;
pub mod quantiles;
pub mod queries;
pub mod recorded;
pub mod recycle;
pub mod report;
pub mod resource;
pub mod sampler;
pub mod schedule;
pub mod soak;
pub mod stretch;
pub mod verdict;
pub mod windows;
pub mod wire;
