//! Harness of the whole-process tests: the real binary on real ports with a real store.
//!
//! [`Server`] starts `longpole serve` in a folder of its own and ends it, kindly or not. [`Exporter`] is an OTLP/gRPC
//! client that can also send bytes which are not OTLP. [`Api`] asks over HTTP. [`traffic`] makes spans. [`clients`] are
//! the SDKs and the Collector of OpenTelemetry.

mod api;
mod child;
pub mod clients;
mod disk;
mod export;
mod files;
mod load;
mod metrics;
mod server;
pub mod shop;
mod skip;
pub mod traffic;
mod wait;

pub use api::{Answer, Api, spans_of};
pub use child::own_address;
pub use disk::SmallDisk;
pub use export::{Exporter, raw_call};
pub use files::{package_dir, program, recorded};
pub use load::{Acknowledged, Load};
pub use metrics::metric;
pub use server::{Server, ServerOptions};
pub use skip::skip;
pub use wait::{eventually, seed};
