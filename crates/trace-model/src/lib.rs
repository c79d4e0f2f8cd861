//! The vocabulary of Longpole: ids, instants, durations, span kinds and statuses, and the
//! trace as a forest of spans.
//!
//! This crate is pure: it has no clock, opens no files and knows no wire format.

mod forest;
mod id;
mod span;
mod time;

pub use forest::{Anomaly, AnomalyKind, Trace};
pub use id::{InvalidId, SpanId, TraceId};
pub use span::{OperationId, ServiceId, SpanKind, SpanNode, StatusCode};
pub use time::{NanoDuration, UnixNanos};
