//! What an application sent, as it saw it itself, against what the API says.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::api::{Api, spans_of};
use crate::wait::eventually;

/// One span, by the application's own account.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Expected {
    pub service: String,
    pub name: String,
    pub kind: String,
    pub trace_id: String,
    pub span_id: String,
    /// Empty for a root.
    pub parent_id: String,
    pub start_nanos: u64,
    pub end_nanos: u64,
    pub error: bool,
}

impl Expected {
    fn duration(&self) -> u64 {
        self.end_nanos - self.start_nanos
    }
}

/// Checks spans, parents, critical paths and percentiles of all that was sent.
pub fn check(api: &Api, expected: &[Expected]) -> Result<()> {
    let mut traces: BTreeMap<&str, Vec<&Expected>> = BTreeMap::new();
    for span in expected {
        traces.entry(&span.trace_id).or_default().push(span);
    }
    for (trace_id, spans) in &traces {
        let what = format!("trace {trace_id} with {} spans", spans.len());
        eventually(&what, Duration::from_secs(20), || check_trace(api, trace_id, spans))?;
        let root = spans.iter().find(|s| s.parent_id.is_empty()).context("a trace without a root")?;
        let path = critical_path(api, trace_id)?;
        ensure!(path.duration_nanos == root.duration(), "{trace_id}: {path:?}, root {root:?}");
    }
    check_percentiles(api, expected)
}

fn check_trace(api: &Api, trace_id: &str, expected: &[&Expected]) -> Result<()> {
    let answer = api.json(&format!("/api/v1/traces/{trace_id}"))?;
    let mut found: Vec<Expected> =
        spans_of(&answer).iter().map(|(service, span)| as_expected(service, span)).collect::<Result<_>>()?;
    found.sort_by(|a, b| a.span_id.cmp(&b.span_id));
    let mut wanted: Vec<Expected> = expected.iter().map(|e| (*e).clone()).collect();
    wanted.sort_by(|a, b| a.span_id.cmp(&b.span_id));
    ensure!(found == wanted, "found {found:#?}\nwanted {wanted:#?}");
    Ok(())
}

fn as_expected(service: &str, span: &Value) -> Result<Expected> {
    let text = |key: &str| span[key].as_str().unwrap_or_default().to_owned();
    let kind = match number(&span["kind"])? {
        2 => "server",
        3 => "client",
        4 => "producer",
        5 => "consumer",
        1 => "internal",
        _ => "unspecified",
    };
    Ok(Expected {
        service: service.to_owned(),
        name: text("name"),
        kind: kind.to_owned(),
        trace_id: text("traceId"),
        span_id: text("spanId"),
        parent_id: text("parentSpanId"),
        start_nanos: number(&span["startTimeUnixNano"])?,
        end_nanos: number(&span["endTimeUnixNano"])?,
        error: number(&span["status"]["code"]).unwrap_or(0) == 2,
    })
}

/// A whole number, also one that is written as text, as JSON has those of 64 bits.
pub fn number(value: &Value) -> Result<u64> {
    value
        .as_u64()
        .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
        .with_context(|| format!("not a number: {value}"))
}

/// A critical path that was found to add up.
#[derive(Debug, Clone)]
pub struct Path {
    /// The root's duration.
    pub duration_nanos: u64,
    /// Time on the path by service, longest first. Time on the way between two services is not in it.
    pub by_service: Vec<(String, u64)>,
}

/// Asks for a critical path and checks that its segments run from start to end without gap or overlap.
pub fn critical_path(api: &Api, trace_id: &str) -> Result<Path> {
    let answer = api.json(&format!("/api/v1/traces/{trace_id}/critical-path?max_segments=100000"))?;
    ensure!(answer["truncated"] == false, "{trace_id}: truncated");
    let (start, end) = (number(&answer["start_unix_nano"])?, number(&answer["end_unix_nano"])?);
    let duration_nanos = number(&answer["duration_nanos"])?;
    ensure!(end - start == duration_nanos, "{trace_id}: {start} to {end} is not {duration_nanos}");
    let mut at = start;
    let mut by_service: BTreeMap<String, u64> = BTreeMap::new();
    for segment in answer["segments"].as_array().context("no segments")? {
        let from = number(&segment["start_unix_nano"])?;
        let to = number(&segment["end_unix_nano"])?;
        ensure!(from == at, "{trace_id}: a segment begins at {from}, the one before ended at {at}");
        ensure!(to >= from, "{trace_id}: a segment ends before it begins");
        at = to;
        if segment["edge"].is_null() {
            let service = segment["service"].as_str().unwrap_or_default();
            *by_service.entry(service.to_owned()).or_default() += to - from;
        }
    }
    ensure!(at == end, "{trace_id}: the segments end at {at}, the root at {end}");
    let mut by_service: Vec<(String, u64)> = by_service.into_iter().collect();
    by_service.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Ok(Path { duration_nanos, by_service })
}

/// Percentiles of each service, operation and kind lie within the bound that the answer states.
fn check_percentiles(api: &Api, expected: &[Expected]) -> Result<()> {
    let mut groups: BTreeMap<(&str, &str, &str), Vec<u64>> = BTreeMap::new();
    for span in expected {
        groups.entry((&span.service, &span.name, &span.kind)).or_default().push(span.duration());
    }
    for ((service, operation, kind), mut durations) in groups {
        durations.sort_unstable();
        let query = Api::query(&[
            ("service", service),
            ("operation", operation),
            ("kind", kind),
            ("quantiles", "0.5,0.9,0.99"),
            ("start", "now-2h"),
            ("end", "now"),
        ]);
        // The window ends with a whole minute, which `now` lies in.
        let answer = api.json(&format!("/api/v1/latency?{query}"))?;
        let series = answer["series"].as_array().context("no series")?;
        ensure!(series.len() == 1, "{service} {operation} {kind}: {} series", series.len());
        let series = &series[0];
        let error = answer["relative_error_max"].as_f64().context("no relative_error_max")?;
        ensure!(error <= 0.0079, "a relative error of {error}");
        let count = number(&series["count"])?;
        ensure!(count == durations.len() as u64, "{service} {operation}: {count} of {}", durations.len());
        for (at, quantile) in [0.5, 0.9, 0.99].into_iter().enumerate() {
            let rank = (quantile * durations.len() as f64).ceil() as usize;
            let exact = durations[rank.clamp(1, durations.len()) - 1] as f64;
            let told = number(&series["values_nanos"][at])? as f64;
            // A microsecond is the histogram's own unit.
            let within = told >= exact - 1_000.0 && told <= exact * (1.0 + error) + 1_000.0;
            ensure!(within, "{service} {operation} p{quantile}: told {told}, exact {exact}");
        }
    }
    Ok(())
}
