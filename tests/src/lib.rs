//! Harness of the whole-process tests: the real binary on real ports with a real store.
//!
//! [`Server`] starts `longpole serve` in a folder of its own and ends it, kindly or not. [`Exporter`] is an OTLP/gRPC
//! client that can also send bytes which are not OTLP. [`Api`] asks over HTTP. [`traffic`] makes spans.

mod api;
mod export;
mod files;
mod server;
pub mod shop;
pub mod traffic;
mod wait;

pub use api::{Answer, Api, spans_of};
pub use export::{Exporter, raw_call};
pub use files::{package_dir, program, shared_data};
pub use server::{Server, ServerOptions};
pub use wait::{eventually, seed};
