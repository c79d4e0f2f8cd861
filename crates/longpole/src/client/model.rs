//! The API's answers, as much of them as is printed. Lenient: what is missing is empty, what is
//! unknown is passed over, so that this program and a newer server get along.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// What an answer says about its own completeness.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Completeness {
    #[serde(default = "yes")]
    pub(crate) complete: bool,
    #[serde(default)]
    pub(crate) incomplete: Vec<Reason>,
}

/// Why an answer is not complete.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Reason {
    #[serde(default)]
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) detail: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct TracesAnswer {
    #[serde(default)]
    pub(crate) traces: Vec<TraceSummary>,
    #[serde(default)]
    pub(crate) next_cursor: Option<String>,
    #[serde(default)]
    pub(crate) order: String,
    #[serde(flatten)]
    pub(crate) completeness: Completeness,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct TraceSummary {
    pub(crate) trace_id: String,
    #[serde(default)]
    pub(crate) root: Option<SpanName>,
    #[serde(default, deserialize_with = "nanos")]
    pub(crate) start_unix_nano: u64,
    #[serde(default)]
    pub(crate) duration_nanos: u64,
    #[serde(default)]
    pub(crate) spans: u64,
    #[serde(default)]
    pub(crate) errors: u64,
    #[serde(default)]
    pub(crate) services: Vec<ServiceCount>,
    #[serde(default)]
    pub(crate) matched: Option<Matched>,
    #[serde(default)]
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) missing_parents: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct SpanName {
    #[serde(default)]
    pub(crate) service: String,
    #[serde(default)]
    pub(crate) operation: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Matched {
    #[serde(flatten)]
    pub(crate) name: SpanName,
    #[serde(default)]
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) duration_nanos: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct ServicesAnswer {
    #[serde(default)]
    pub(crate) services: Vec<ServiceCount>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ServiceCount {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) spans: u64,
    #[serde(default)]
    pub(crate) errors: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct CriticalPath {
    #[serde(default)]
    pub(crate) root: Option<SpanName>,
    #[serde(default)]
    pub(crate) duration_nanos: u64,
    #[serde(default)]
    pub(crate) segments: Vec<Segment>,
    #[serde(default)]
    pub(crate) spans: Vec<PathSpan>,
    #[serde(default)]
    pub(crate) by_service: Vec<PathService>,
    #[serde(default)]
    pub(crate) flags: Vec<String>,
    #[serde(default)]
    pub(crate) truncated: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Segment {
    #[serde(default)]
    pub(crate) span_id: String,
    #[serde(default, deserialize_with = "nanos")]
    pub(crate) start_unix_nano: u64,
    #[serde(default, deserialize_with = "nanos")]
    pub(crate) end_unix_nano: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PathSpan {
    pub(crate) span_id: String,
    #[serde(default)]
    pub(crate) exclusive_nanos: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PathService {
    #[serde(default)]
    pub(crate) service: String,
    #[serde(default)]
    pub(crate) edge: Option<Edge>,
    #[serde(default)]
    pub(crate) exclusive_nanos: u64,
    #[serde(default)]
    pub(crate) share: f64,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LatencyAnswer {
    #[serde(default)]
    pub(crate) quantiles: Vec<f64>,
    #[serde(default)]
    pub(crate) relative_error_max: f64,
    #[serde(default, deserialize_with = "nanos")]
    pub(crate) start_unix_nano: u64,
    #[serde(default, deserialize_with = "nanos")]
    pub(crate) end_unix_nano: u64,
    #[serde(default)]
    pub(crate) series: Vec<Series>,
    #[serde(flatten)]
    pub(crate) completeness: Completeness,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Series {
    #[serde(default)]
    pub(crate) service: Option<String>,
    #[serde(default)]
    pub(crate) operation: Option<String>,
    #[serde(default)]
    pub(crate) kind: Option<String>,
    #[serde(default)]
    pub(crate) status: Option<String>,
    #[serde(default)]
    pub(crate) count: u64,
    #[serde(default)]
    pub(crate) errors: u64,
    #[serde(default)]
    pub(crate) rate_per_second: f64,
    #[serde(default)]
    pub(crate) min_nanos: u64,
    #[serde(default)]
    pub(crate) max_nanos: u64,
    #[serde(default)]
    pub(crate) values_nanos: Vec<u64>,
    #[serde(default)]
    pub(crate) low_confidence: Vec<bool>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct BottlenecksAnswer {
    #[serde(default)]
    pub(crate) traces: u64,
    #[serde(default)]
    pub(crate) excluded: Value,
    /// Latency of the entry, in whatever detail the server gives it.
    #[serde(default)]
    pub(crate) latency: Value,
    #[serde(default)]
    pub(crate) items: Vec<Item>,
    #[serde(default)]
    pub(crate) other_share: f64,
    #[serde(default)]
    pub(crate) confidence: Value,
    #[serde(flatten)]
    pub(crate) completeness: Completeness,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Item {
    #[serde(default)]
    pub(crate) service: Option<String>,
    #[serde(default)]
    pub(crate) operation: Option<String>,
    #[serde(default)]
    pub(crate) edge: Option<Edge>,
    #[serde(default)]
    pub(crate) cp_share: f64,
    #[serde(default)]
    pub(crate) cp_nanos: PathNanos,
    #[serde(default)]
    pub(crate) calls_per_trace: f64,
    #[serde(default)]
    pub(crate) error_share: f64,
    #[serde(default)]
    pub(crate) what_if: Option<WhatIf>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Edge {
    #[serde(default)]
    pub(crate) client: String,
    #[serde(default)]
    pub(crate) server: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct PathNanos {
    #[serde(default)]
    pub(crate) mean: f64,
    #[serde(default)]
    pub(crate) p99: f64,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct WhatIf {
    #[serde(default)]
    pub(crate) faster: f64,
    #[serde(default)]
    pub(crate) upper_bound_mean_nanos: f64,
}

/// A number by the first of some names that an object has it under.
pub(crate) fn number(object: &Value, names: &[&str]) -> Option<f64> {
    names.iter().find_map(|name| object.get(name)?.as_f64())
}

fn yes() -> bool {
    true
}

/// Nanoseconds as a decimal string, or as a number.
fn nanos<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    Ok(as_nanos(&Value::deserialize(from)?))
}

/// Nanoseconds as a decimal string, or as a number; 0 for anything else.
pub(crate) fn as_nanos(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.parse().unwrap_or(0),
        other => other.as_u64().unwrap_or(0),
    }
}
