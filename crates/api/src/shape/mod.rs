//! Answers as JSON: borrowed views of what [`query`] answers, in the shapes of the API's description.

mod bottlenecks;
mod critical_path;
mod housekeeping;
mod latency;
mod names;
mod status;
mod trace;
mod traces;

use std::fmt::Display;

use query::{Incomplete, OperationName, Scanned};
use serde::{Serialize, Serializer};
use trace_model::NanoDuration;

pub(crate) use bottlenecks::Bottlenecks;
pub(crate) use critical_path::CriticalPath;
pub(crate) use housekeeping::TIERS;
pub(crate) use latency::Latency;
pub(crate) use names::{Operations, Services};
pub(crate) use status::Status;
pub(crate) use trace::Trace;
pub(crate) use traces::Traces;

/// Writes a value as a string: ids, and instants, which are too large for the numbers of JavaScript.
#[derive(Debug, Clone, Copy)]
struct Text<T>(T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A duration out of a histogram; zero if that is empty, which its count says as well.
fn nanos_or_zero(duration: Option<NanoDuration>) -> u64 {
    duration.unwrap_or_default().0
}

/// `complete`, and where false why.
#[derive(Debug, Serialize)]
struct Completeness<'a> {
    complete: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    incomplete: Vec<Reason<'a>>,
}

#[derive(Debug, Serialize)]
struct Reason<'a> {
    reason: &'static str,
    detail: &'a str,
}

impl<'a> Completeness<'a> {
    fn of(reasons: &'a [Incomplete]) -> Self {
        let incomplete =
            reasons.iter().map(|why| Reason { reason: why.reason, detail: &why.detail }).collect();
        Self { complete: reasons.is_empty(), incomplete }
    }
}

/// A span's service, name and kind.
#[derive(Debug, Serialize)]
struct OperationShape<'a> {
    service: &'a str,
    operation: &'a str,
    kind: &'static str,
}

impl<'a> From<&'a OperationName> for OperationShape<'a> {
    fn from(name: &'a OperationName) -> Self {
        Self { service: &name.service, operation: &name.operation, kind: name.kind.as_str() }
    }
}

/// The two services that a time between them belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
struct Edge<'a> {
    client: &'a str,
    server: &'a str,
}

#[derive(Debug, Serialize)]
struct ScannedShape {
    segments: u64,
    rows: u64,
    blocks: u64,
}

impl From<Scanned> for ScannedShape {
    fn from(Scanned { segments, rows, blocks }: Scanned) -> Self {
        Self { segments, rows, blocks }
    }
}
