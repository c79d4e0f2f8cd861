//! OTLP/JSON, both ways, driven by the tables of the schema.

mod read;
mod write;

pub use read::{JsonError, json_to_traces};
pub use write::traces_to_json;
