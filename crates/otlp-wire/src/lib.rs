//! One-pass OTLP walker, splicing of stored bytes back into OTLP, OTLP/JSON to protobuf and back.
//!
//! Longpole never decodes a request into objects. [`walk`] validates the bytes completely and
//! notes where every span lies; the bytes themselves are stored, and [`splice_traces`] puts them
//! back together into OTLP without re-encoding a span. JSON exists only at the edges:
//! [`json_to_traces`] on the way in, [`TracesJson`] on the way out.
//!
//! This crate is pure: it has no clock, opens no files and starts no threads. No input makes it
//! panic or recurse deeper than [`WireLimits::MAX_DEPTH`].

mod context;
mod cursor;
mod encode;
mod error;
mod head;
mod json;
mod keep;
mod nested;
mod schema;
mod splice;
mod walk;

pub use context::service_name;
pub use error::{SpanFault, WireError, WireFault, WireLimits};
pub use head::{SpanHead, read_span};
pub use json::{JsonError, JsonPlace, TracesJson, json_to_traces, protobuf_len_max};
pub use keep::keep_spans;
pub use splice::{StoredSpan, splice_traces};
pub use walk::{Group, Rejected, Walked, WalkedSpan, walk};
