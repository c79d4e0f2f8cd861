//! The OTLP servers, gRPC and HTTP: take requests as raw bytes, walk each once, admit or refuse it, and answer when
//! the log has it.
//!
//! Whoever owns the log takes [`Admitted`] requests from a bounded channel and acknowledges them. This crate
//! knows no store and no analysis. The way of a request:
//!
//! `listen`, `connection`, `places`, `activity`, `request_body`, `answer` and `refused_streams` accept and watch connections; `grpc` and `http` route requests; `gate` and
//! `budget` say whether one may come; `body` and `received` take it in; `encoding`, `inflate`, `digest` and `admit` make rows of
//! it, `heavy` on other threads where that takes long; `health` says what is taken; `server` joins these; `commit` waits for the log and counts; `respond`, `refusal` and `rpc_status` are the answers.

mod activity;
mod admit;
mod answer;
mod body;
mod budget;
mod codec;
mod commit;
mod connection;
mod cors;
mod counters;
mod digest;
mod drain;
mod encoding;
mod ending;
mod gate;
mod grpc;
mod health;
mod heavy;
mod http;
mod inflate;
mod limits;
mod listen;
mod places;
mod received;
mod refusal;
mod refused_streams;
mod request_body;
mod respond;
mod rpc_status;
mod server;

pub use admit::{AdmitError, Admitted, Prepared, prepare};
pub use budget::Charge;
pub use codec::RawCodec;
pub use connection::serve as serve_connections;
pub use cors::AllowedOrigins;
pub use counters::{IngestCounter, IngestCounters};
pub use limits::IngestLimits;
pub use listen::{Address, Listener};
pub use places::{ConnectionLimits, OverLimit, spare_connections};
pub use request_body::RequestBody;
pub use respond::CommitError;
pub use server::{IngestParts, IngestServer};
