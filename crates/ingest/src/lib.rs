//! The OTLP servers, gRPC and HTTP: take requests as raw bytes, walk each once, admit or refuse it, and answer when
//! the log has it.
//!
//! Whoever owns the log takes [`Admitted`] requests from a bounded channel and acknowledges them. This crate
//! knows no store and no analysis.

mod admit;
mod codec;
mod counters;
mod http;
mod respond;
mod server;

pub use admit::{AdmitError, Admitted, Prepared, prepare};
pub use codec::RawCodec;
pub use counters::{IngestCounter, IngestCounters};
pub use respond::CommitError;
pub use server::{IngestLimits, IngestServer};
