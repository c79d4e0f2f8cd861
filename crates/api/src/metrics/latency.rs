//! Calls and latency of every operation, under the names that dashboards for span metrics expect.

use std::fmt::Write as _;

use latency::Exemplar;
use query::OperationMetrics;
use trace_model::{NanoDuration, SpanKind};

use super::families::{Type, header_into};
use super::{Format, labels_into};

const CALLS: &str = "traces_spanmetrics_calls";
const LATENCY: &str = "traces_spanmetrics_latency";
const BILLION: u128 = 1_000_000_000;

/// A bound in seconds, as labels have it.
fn le(bound: NanoDuration) -> String {
    let millis = bound.0 / 1_000_000;
    let le = format!("{}.{:03}", millis / 1_000, millis % 1_000);
    le.trim_end_matches('0').to_owned()
}

/// Writes both families; nothing if there are no operations.
pub(super) fn write(format: Format, operations: &[OperationMetrics], out: &mut String) {
    if operations.is_empty() {
        return;
    }
    header_into(format, CALLS, Type::Counter, "Spans by service, name, kind and status.", out);
    for operation in operations {
        calls(operation, out);
    }
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(out, "# HELP {LATENCY} Duration of spans in seconds.\n# TYPE {LATENCY} histogram");
    for operation in operations {
        histogram(format, operation, out);
    }
}

fn labels(metrics: &OperationMetrics) -> [(&str, &str); 3] {
    let name = &metrics.operation;
    [("service", &name.service), ("span_name", &name.operation), ("span_kind", kind_word(name.kind))]
}

const fn kind_word(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "SPAN_KIND_UNSPECIFIED",
        SpanKind::Internal => "SPAN_KIND_INTERNAL",
        SpanKind::Server => "SPAN_KIND_SERVER",
        SpanKind::Client => "SPAN_KIND_CLIENT",
        SpanKind::Producer => "SPAN_KIND_PRODUCER",
        SpanKind::Consumer => "SPAN_KIND_CONSUMER",
    }
}

/// Failed calls, and all others: `ok` and `unset` are not told apart.
fn calls(metrics: &OperationMetrics, out: &mut String) {
    let [service, name, kind] = labels(metrics);
    let failed = metrics.totals.errors();
    let others = metrics.totals.count().saturating_sub(failed);
    for (status, count) in [("STATUS_CODE_UNSET", others), ("STATUS_CODE_ERROR", failed)] {
        let _ = write!(out, "{CALLS}_total");
        labels_into(&[service, name, kind, ("status_code", status)], out);
        let _ = writeln!(out, " {count}");
    }
}

fn histogram(format: Format, metrics: &OperationMetrics, out: &mut String) {
    let count = metrics.totals.count();
    let mut above = None;
    for (bound, up_to) in metrics.totals.cumulative() {
        bucket(format, metrics, &le(bound), up_to, exemplar_in(metrics, above, Some(bound)), out);
        above = Some(bound);
    }
    bucket(format, metrics, "+Inf", count, exemplar_in(metrics, above, None), out);
    let nanos = metrics.totals.sum_nanos();
    for (part, value) in [("count", count.to_string()), ("sum", seconds(nanos))] {
        let _ = write!(out, "{LATENCY}_{part}");
        labels_into(&labels(metrics), out);
        let _ = writeln!(out, " {value}");
    }
}

fn bucket(
    format: Format,
    metrics: &OperationMetrics,
    le: &str,
    count: u64,
    exemplar: Option<&Exemplar>,
    out: &mut String,
) {
    let [service, name, kind] = labels(metrics);
    let _ = write!(out, "{LATENCY}_bucket");
    labels_into(&[service, name, kind, ("le", le)], out);
    let _ = write!(out, " {count}");
    if let Some(Exemplar { trace_id, span_id, duration, time }) =
        exemplar.filter(|_| format == Format::OpenMetrics)
    {
        let (value, at) = (seconds(duration.0.into()), seconds(time.0.into()));
        let _ = write!(out, " # {{trace_id=\"{trace_id}\",span_id=\"{span_id}\"}} {value} {at}");
    }
    out.push('\n');
}

/// The longest exemplar above one bound and up to the other.
fn exemplar_in(
    metrics: &OperationMetrics,
    above: Option<NanoDuration>,
    up_to: Option<NanoDuration>,
) -> Option<&Exemplar> {
    let inside = |exemplar: &&Exemplar| {
        above.is_none_or(|bound| exemplar.duration > bound)
            && up_to.is_none_or(|bound| exemplar.duration <= bound)
    };
    metrics.totals.exemplars().iter().filter(inside).max_by_key(|exemplar| exemplar.duration)
}

/// Nanoseconds as seconds, exactly.
fn seconds(nanos: u128) -> String {
    format!("{}.{:09}", nanos / BILLION, nanos % BILLION)
}
