//! Latency percentiles.

use latency::{Exemplar, RELATIVE_ERROR_MAX};
use query::{LatencyAnswer, LatencyPoint, LatencyQuery, LatencySeries};
use serde::Serialize;
use trace_model::{NanoDuration, SpanId, TraceId};

use super::{Completeness, Text, nanos_or_zero};

/// `GET /latency`.
#[derive(Debug, Serialize)]
pub(crate) struct Latency<'a> {
    quantiles: &'a [f64],
    relative_error_max: f64,
    start_unix_nano: Text<u64>,
    end_unix_nano: Text<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step_nanos: Option<u64>,
    resolution_nanos: Option<u64>,
    #[serde(flatten)]
    completeness: Completeness<'a>,
    series: Vec<Series<'a>>,
    truncated: bool,
}

#[derive(Debug, Serialize)]
struct Series<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    count: u64,
    errors: u64,
    rate_per_second: f64,
    min_nanos: u64,
    max_nanos: u64,
    mean_nanos: u64,
    values_nanos: Vec<u64>,
    low_confidence: &'a [bool],
    exemplars: Vec<ExemplarShape>,
    #[serde(skip_serializing_if = "Option::is_none")]
    points: Option<Vec<Point>>,
}

#[derive(Debug, Serialize)]
struct ExemplarShape {
    quantile: f64,
    trace_id: Text<TraceId>,
    span_id: Text<SpanId>,
    duration_nanos: u64,
    time_unix_nano: Text<u64>,
}

#[derive(Debug, Serialize)]
struct Point {
    start_unix_nano: Text<u64>,
    count: u64,
    errors: u64,
    values_nanos: Vec<u64>,
}

impl<'a> Latency<'a> {
    pub(crate) fn new(query: &'a LatencyQuery, answer: &'a LatencyAnswer) -> Self {
        let window = answer.window.end.since(answer.window.start);
        let series = answer.series.iter().map(|series| Series::new(series, query, window));
        Self {
            quantiles: &query.quantiles,
            relative_error_max: RELATIVE_ERROR_MAX,
            start_unix_nano: Text(answer.window.start.0),
            end_unix_nano: Text(answer.window.end.0),
            step_nanos: query.step.map(|step| step.0),
            resolution_nanos: answer.resolution.map(|width| width.0),
            completeness: Completeness::of(&answer.incomplete),
            series: series.collect(),
            truncated: answer.truncated,
        }
    }
}

impl<'a> Series<'a> {
    fn new(series: &'a LatencySeries, query: &LatencyQuery, window: NanoDuration) -> Self {
        let histogram = &series.histogram;
        let seconds = window.0 as f64 / 1e9;
        let points = || series.points.iter().map(Point::from).collect();
        Self {
            service: series.service.as_deref(),
            operation: series.operation.as_deref(),
            kind: series.kind.map(|kind| kind.as_str()),
            status: series.status.map(|status| status.as_str()),
            count: histogram.count(),
            errors: histogram.errors(),
            rate_per_second: if seconds > 0.0 { histogram.count() as f64 / seconds } else { 0.0 },
            min_nanos: nanos_or_zero(histogram.min()),
            max_nanos: nanos_or_zero(histogram.max()),
            mean_nanos: nanos_or_zero(histogram.mean()),
            values_nanos: nanos(&series.values),
            low_confidence: &series.low_confidence,
            exemplars: series.exemplars.iter().map(ExemplarShape::from).collect(),
            points: query.step.map(|_| points()),
        }
    }
}

fn nanos(values: &[NanoDuration]) -> Vec<u64> {
    values.iter().map(|value| value.0).collect()
}

impl From<&(f64, Exemplar)> for ExemplarShape {
    fn from((quantile, exemplar): &(f64, Exemplar)) -> Self {
        Self {
            quantile: *quantile,
            trace_id: Text(exemplar.trace_id),
            span_id: Text(exemplar.span_id),
            duration_nanos: exemplar.duration.0,
            time_unix_nano: Text(exemplar.time.0),
        }
    }
}

impl From<&LatencyPoint> for Point {
    fn from(point: &LatencyPoint) -> Self {
        Self {
            start_unix_nano: Text(point.start.0),
            count: point.count,
            errors: point.errors,
            values_nanos: nanos(&point.values),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};

    use super::*;
    use crate::fake;

    #[test]
    fn percentiles_have_this_shape() {
        let (query, answer) = fake::latency();
        let written = to_value(Latency::new(&query, &answer)).unwrap();
        let wanted = json!({
            "quantiles": [0.5, 0.99], "relative_error_max": RELATIVE_ERROR_MAX,
            "start_unix_nano": "1700000000000000000", "end_unix_nano": "1700000060000000000",
            "step_nanos": 60_000_000_000_u64, "resolution_nanos": null, "complete": true, "truncated": false,
            "series": [{
                "service": "checkout", "kind": "server", "count": 3, "errors": 1, "rate_per_second": 0.05,
                "min_nanos": 10_000_000, "max_nanos": 30_000_000, "mean_nanos": 20_000_000,
                "values_nanos": [20_000_000, 30_000_000], "low_confidence": [false, true],
                "exemplars": [{"quantile": 0.99, "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
                    "span_id": "00f067aa0ba902b7", "duration_nanos": 30_000_000,
                    "time_unix_nano": "1700000000500000000"}],
                "points": [{"start_unix_nano": "1700000000000000000", "count": 3, "errors": 1,
                    "values_nanos": [20_000_000, 30_000_000]}]
            }]
        });
        assert_eq!(written, wanted);
    }

    #[test]
    fn without_a_step_there_are_no_points_and_a_cut_shows() {
        let (query, answer) = fake::latency();
        let query = LatencyQuery { step: None, ..query };
        let written = to_value(Latency::new(&query, &answer)).unwrap();
        assert_eq!(written["series"][0].get("points"), None);
        let cut = LatencyAnswer { truncated: true, ..answer };
        assert_eq!(to_value(Latency::new(&query, &cut)).unwrap()["truncated"], json!(true));
    }
}
