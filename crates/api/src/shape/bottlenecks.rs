//! What critical paths are made of.

use latency::LatencyHistogram;
use query::{BottleneckAnswer, BottleneckExemplar, BottleneckItem, BottleneckQuery};
use serde::Serialize;
use trace_model::TraceId;

use super::{Completeness, Edge, ScannedShape, Text, nanos_or_zero};

/// `GET /bottlenecks`.
#[derive(Debug, Serialize)]
pub(crate) struct Bottlenecks<'a> {
    start_unix_nano: Text<u64>,
    end_unix_nano: Text<u64>,
    resolution_nanos: Option<u64>,
    traces: u64,
    excluded: u64,
    latency: Entry,
    items: Vec<Item<'a>>,
    other_share: f64,
    confidence: Confidence,
    #[serde(flatten)]
    completeness: Completeness<'a>,
    scanned: ScannedShape,
}

/// Duration of the entry.
#[derive(Debug, Serialize)]
struct Entry {
    count: u64,
    errors: u64,
    min_nanos: u64,
    max_nanos: u64,
    mean_nanos: u64,
    p50_nanos: u64,
    p90_nanos: u64,
    p95_nanos: u64,
    p99_nanos: u64,
}

#[derive(Debug, Serialize)]
struct Item<'a> {
    service: &'a str,
    operation: Option<&'a str>,
    kind: Option<&'static str>,
    edge: Option<Edge<'a>>,
    cp_share: f64,
    cp_share_baseline: Option<f64>,
    cp_nanos: CpNanos,
    presence: f64,
    amplification_nanos: i64,
    calls_per_trace: f64,
    error_share: f64,
    what_if: WhatIf,
    call_path: Option<&'a [&'a str]>,
    flags: &'a [&'a str],
    exemplars: Vec<ExemplarShape>,
}

#[derive(Debug, Serialize)]
struct CpNanos {
    mean: u64,
    p50: u64,
    p99: u64,
}

#[derive(Debug, Serialize)]
struct WhatIf {
    faster: f64,
    /// Null: only the upper bound is known.
    saving_mean_nanos: Option<u64>,
    upper_bound_mean_nanos: u64,
    p99_before_nanos: u64,
    p99_after_nanos: Option<u64>,
}

#[derive(Debug, Serialize)]
struct ExemplarShape {
    trace_id: Text<TraceId>,
    root_duration_nanos: u64,
    cp_nanos: u64,
}

#[derive(Debug, Serialize)]
struct Confidence {
    flagged_share: f64,
}

impl<'a> Bottlenecks<'a> {
    pub(crate) fn new(query: &BottleneckQuery, answer: &'a BottleneckAnswer) -> Self {
        let faster = f64::from(query.faster_permille) / 1_000.0;
        let p99 = nanos_or_zero(answer.latency.quantile(0.99));
        Self {
            start_unix_nano: Text(answer.window.start.0),
            end_unix_nano: Text(answer.window.end.0),
            resolution_nanos: answer.resolution.map(|width| width.0),
            traces: answer.traces,
            excluded: answer.excluded,
            latency: (&answer.latency).into(),
            items: answer.items.iter().map(|item| Item::new(item, faster, p99)).collect(),
            other_share: answer.other_share,
            confidence: Confidence { flagged_share: answer.flagged_share },
            completeness: Completeness::of(&answer.incomplete),
            scanned: answer.scanned.into(),
        }
    }
}

impl From<&LatencyHistogram> for Entry {
    fn from(histogram: &LatencyHistogram) -> Self {
        let quantile = |q| nanos_or_zero(histogram.quantile(q));
        Self {
            count: histogram.count(),
            errors: histogram.errors(),
            min_nanos: nanos_or_zero(histogram.min()),
            max_nanos: nanos_or_zero(histogram.max()),
            mean_nanos: nanos_or_zero(histogram.mean()),
            p50_nanos: quantile(0.5),
            p90_nanos: quantile(0.9),
            p95_nanos: quantile(0.95),
            p99_nanos: quantile(0.99),
        }
    }
}

impl<'a> Item<'a> {
    fn new(item: &'a BottleneckItem, faster: f64, p99_before_nanos: u64) -> Self {
        Self {
            service: &item.service,
            operation: item.operation.as_deref(),
            kind: item.kind.map(|kind| kind.as_str()),
            edge: item.edge.as_ref().map(|(client, server)| Edge { client, server }),
            cp_share: item.cp_share,
            cp_share_baseline: None,
            cp_nanos: CpNanos { mean: item.cp_mean.0, p50: item.cp_p50.0, p99: item.cp_p99.0 },
            presence: item.presence,
            amplification_nanos: item.amplification_nanos,
            calls_per_trace: item.calls_per_trace,
            error_share: item.error_share,
            what_if: WhatIf {
                faster,
                saving_mean_nanos: None,
                upper_bound_mean_nanos: item.saving_upper_bound_mean.0,
                p99_before_nanos,
                p99_after_nanos: None,
            },
            call_path: None,
            flags: &[],
            exemplars: item.exemplars.iter().map(ExemplarShape::from).collect(),
        }
    }
}

impl From<&BottleneckExemplar> for ExemplarShape {
    fn from(exemplar: &BottleneckExemplar) -> Self {
        Self {
            trace_id: Text(exemplar.trace_id),
            root_duration_nanos: exemplar.root_duration.0,
            cp_nanos: exemplar.cp.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};

    use super::*;
    use crate::fake;

    #[test]
    fn bottlenecks_have_this_shape() {
        let (query, answer) = fake::bottlenecks();
        let wanted = json!({
            "start_unix_nano": "1700000000000000000", "end_unix_nano": "1700000060000000000",
            "resolution_nanos": 3_600_000_000_000_u64, "traces": 3, "excluded": 1,
            "latency": {"count": 3, "errors": 1, "min_nanos": 10_000_000, "max_nanos": 30_000_000,
                "mean_nanos": 20_000_000, "p50_nanos": 20_095_000, "p90_nanos": 30_000_000,
                "p95_nanos": 30_000_000, "p99_nanos": 30_000_000},
            "items": [{
                "service": "checkout", "operation": null, "kind": null,
                "edge": {"client": "checkout", "server": "payment"},
                "cp_share": 0.75, "cp_share_baseline": null, "cp_nanos": {"mean": 15, "p50": 14, "p99": 29},
                "presence": 1.0, "amplification_nanos": -3, "calls_per_trace": 2.0, "error_share": 0.5,
                "what_if": {"faster": 0.5, "saving_mean_nanos": null, "upper_bound_mean_nanos": 7,
                    "p99_before_nanos": 30_000_000, "p99_after_nanos": null},
                "call_path": null, "flags": [],
                "exemplars": [{"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "root_duration_nanos": 30_000_000,
                    "cp_nanos": 29}]
            }],
            "other_share": 0.25, "confidence": {"flagged_share": 0.125}, "complete": true,
            "scanned": {"segments": 4, "rows": 1310, "blocks": 11}
        });
        assert_eq!(to_value(Bottlenecks::new(&query, &answer)).unwrap(), wanted);
    }
}
