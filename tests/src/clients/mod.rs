//! Unmodified OpenTelemetry clients in other languages, told where to send by `OTEL_*` variables only.
//!
//! The programs are in `tests/clients/`, one folder a language; `scripts/clients.sh` makes the environment of each, and
//! [`Environment`] finds it. [`Otlp`] is what the variables say. [`App`] is a running program, [`Relay`] sees what it
//! sends. [`shop`] runs the three services that every SDK has, and compares what arrived with their own account;
//! [`stored`] has the expectations that all share. [`Collector`] stands between a client and the server.

mod app;
mod collector;
mod environment;
mod otlp;
mod relay;
pub mod shop;
pub mod stored;

pub use app::App;
pub use collector::Collector;
pub use environment::Environment;
pub use otlp::{Otlp, Protocol};
pub use relay::Relay;
