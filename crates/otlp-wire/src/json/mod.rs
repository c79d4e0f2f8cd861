//! OTLP/JSON, both ways, driven by the tables of the schema.

mod error;
mod quoted;
mod read;
mod scalar;
mod tokens;
mod value;
mod word;
mod write;

pub use error::{JsonError, JsonPlace};
pub use read::{json_to_traces, protobuf_len_max};
pub use write::TracesJson;

#[cfg(test)]
mod drawn;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
