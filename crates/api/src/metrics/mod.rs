//! `/metrics`: OpenMetrics 1.0 and the older Prometheus text.

mod counter;
mod families;
mod latency;
mod outcomes;

use query::{OperationMetrics, StatusAnswer};

use crate::BuildInfo;
use crate::shape::TIERS;
use families::{Families, Type};

pub use counter::{Counter, CounterKind};

/// The media type of OpenMetrics, without its parameters.
pub(crate) const OPEN_TYPE: &str = "application/openmetrics-text";
/// The media type of the older text.
pub(crate) const TEXT_TYPE: &str = "text/plain";

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// OpenMetrics 1.0, with exemplars.
    OpenMetrics,
    /// Prometheus text 0.0.4.
    Text,
}

impl Format {
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Writes all metrics.
pub(crate) fn render(
    format: Format,
    build: &BuildInfo,
    counters: &[Counter],
    status: &StatusAnswer,
    operations: &[OperationMetrics],
) -> String {
    let mut families = Families::new(format);
    let commit = build.commit.as_deref().unwrap_or("unknown");
    let labels = [("version", build.version.as_str()), ("commit", commit)];
    families.add("longpole_build", Type::Info, "What was built.", &labels, 1);
    for counter in counters {
        counter.add_to(&mut families);
    }
    for counter in of_status(status) {
        counter.add_to(&mut families);
    }
    let mut out = families.write();
    latency::write(format, operations, &mut out);
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

fn of_status(status: &StatusAnswer) -> Vec<Counter> {
    let gauge = |name, help, value| Counter::new(name, help, value).gauge();
    let mut counters = vec![
        gauge("longpole_segments", "Sealed segments.", status.segments),
        gauge("longpole_partitions", "Partitions.", status.partitions),
        gauge("longpole_sealed_spans", "Spans in sealed segments.", status.sealed_spans),
        gauge("longpole_live_spans", "Spans not yet sealed.", status.live_spans),
        gauge("longpole_stored_bytes", "Bytes of sealed segments.", status.stored_bytes),
        gauge("longpole_log_bytes", "Bytes in the log.", status.log_bytes),
        gauge("longpole_stored_bytes_last_day", "Bytes added in 24 hours.", status.bytes_last_day),
        gauge("longpole_open_traces", "Traces that are not finished.", status.open_traces),
        gauge("longpole_open_spans", "Spans of traces that are not finished.", status.open_spans),
        gauge("longpole_disk_free_bytes", "Bytes that may still be written.", status.disk.free),
        gauge("longpole_disk_total_bytes", "Bytes of the disk.", status.disk.total),
        gauge("longpole_disk_free_min_bytes", "Bytes that must stay free.", status.disk.free_min),
        gauge("longpole_ballast_bytes", "Bytes held to be given up on a full disk.", status.disk.ballast),
        gauge(
            "longpole_disk_not_ok",
            "1 while the disk is too full or fails.",
            u64::from(status.disk.state != "ok"),
        ),
        Counter::new("longpole_store_reopened", "Openings after an error.", status.reopened),
        gauge("longpole_damaged_segments", "Segments that are damaged.", damaged_segments(status)),
        gauge(
            "longpole_refusing",
            "Reasons for which spans are being refused.",
            status.refusing.len() as u64,
        ),
    ];
    counters.extend(of_housekeeping(status));
    if let Some(oldest) = status.oldest {
        let help = "Start of the oldest span stored, in unix seconds.";
        counters.push(gauge("longpole_oldest_span_timestamp_seconds", help, oldest.0 / 1_000_000_000));
    }
    counters.extend(status.counters.iter().map(|(name, value)| outcomes::counter(name, *value)));
    counters
}

/// The list names damaged and lost parts of the log as well.
fn damaged_segments(status: &StatusAnswer) -> u64 {
    status.damaged.iter().filter(|text| text.starts_with("segment ")).count() as u64
}

fn of_housekeeping(status: &StatusAnswer) -> Vec<Counter> {
    let done = &status.housekeeping;
    let merged = "Segments of merged partitions, before and after.";
    let mut counters = vec![
        Counter::new(
            "longpole_merged_partitions",
            "Partitions whose small segments were merged.",
            done.merged.partitions,
        ),
        Counter::new("longpole_merged_segments", merged, done.merged.segments_before)
            .with_label("when", "before"),
        Counter::new("longpole_merged_segments", merged, done.merged.segments_after)
            .with_label("when", "after"),
        Counter::new("longpole_merge_failures", "Partitions that could not be merged.", done.merged.failed),
        Counter::new(
            "longpole_retention_postponed",
            "Partitions that a late span kept for a while.",
            done.postponed,
        ),
    ];
    let dictionaries = &done.dictionaries;
    for (name, help, value) in [
        (
            "longpole_dictionaries_trained",
            "Trainings of a dictionary for small segments.",
            dictionaries.trained,
        ),
        ("longpole_dictionaries_adopted", "Dictionaries that were better.", dictionaries.adopted),
        ("longpole_dictionaries_dropped", "Dictionaries that no segment needed.", dictionaries.dropped),
        ("longpole_dictionary_failures", "Trainings that failed.", dictionaries.failed),
    ] {
        counters.push(Counter::new(name, help, value));
    }
    let stored =
        Counter::new("longpole_dictionaries", "Dictionaries that are stored.", dictionaries.stored).gauge();
    counters.push(stored);
    let kinds = [("spans", &done.spans)].into_iter().chain(TIERS.into_iter().zip(&done.rollups));
    for (kind, freed) in kinds {
        for (name, help, value) in [
            ("longpole_freed_partitions", "Partitions or rollups that retention took.", freed.partitions),
            ("longpole_freed_segments", "Segments that retention took.", freed.segments),
            ("longpole_freed_spans", "Spans in what retention took.", freed.spans),
            ("longpole_freed_bytes", "Bytes of files that retention took.", freed.bytes),
        ] {
            counters.push(Counter::new(name, help, value).with_label("of", kind));
        }
    }
    for (tier, totals) in TIERS.into_iter().zip(&status.rollups) {
        for (name, help, value) in [
            ("longpole_rollups", "Rollups.", totals.rollups),
            ("longpole_rollup_bytes", "Bytes of the files of rollups.", totals.bytes),
            ("longpole_rollup_spans", "Spans in the histograms of rollups.", totals.spans),
            ("longpole_rollup_traces", "Traces in the critical paths of rollups.", totals.traces),
        ] {
            counters.push(Counter::new(name, help, value).with_label("by", tier).gauge());
        }
    }
    counters
}

/// Writes a label's or a help text's value with what must be escaped escaped.
fn escape_into(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            _ => out.push(c),
        }
    }
}

/// Writes `{name="value",…}`, nothing if there are no labels.
fn labels_into(labels: &[(&str, &str)], out: &mut String) {
    for (index, (name, value)) in labels.iter().enumerate() {
        out.push(if index == 0 { '{' } else { ',' });
        out.push_str(name);
        out.push_str("=\"");
        escape_into(value, out);
        out.push('"');
    }
    if !labels.is_empty() {
        out.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    fn rendered(format: Format, counters: &[Counter]) -> String {
        let build = BuildInfo { version: "0.1.0".into(), commit: None };
        render(format, &build, counters, &fake::status(), &[fake::operation_metrics()])
    }

    #[test]
    fn openmetrics_has_families_exemplars_and_an_end() {
        let text = rendered(Format::OpenMetrics, &[]);
        let labels = r#"service="che\"ck\\out",span_name="Place\nOrder",span_kind="SPAN_KIND_SERVER""#;
        let exemplar = r#"# {trace_id="4bf92f3577b34da6a3ce929d0e0e4736",span_id="00f067aa0ba902b7"}"#;
        for line in [
            "# TYPE longpole_build info".to_owned(),
            r#"longpole_build_info{version="0.1.0",commit="unknown"} 1"#.to_owned(),
            "# HELP longpole_late_spans Spans of traces that had been finished.".to_owned(),
            "# TYPE longpole_late_spans counter".to_owned(),
            "longpole_late_spans_total 7".to_owned(),
            "longpole_stored_bytes 4096".to_owned(),
            r#"longpole_merged_segments_total{when="before"} 288"#.to_owned(),
            r#"longpole_freed_spans_total{of="spans"} 40"#.to_owned(),
            r#"longpole_freed_spans_total{of="minute"} 0"#.to_owned(),
            r#"longpole_rollup_bytes{by="minute"} 700"#.to_owned(),
            "# TYPE traces_spanmetrics_calls counter".to_owned(),
            format!(r#"traces_spanmetrics_calls_total{{{labels},status_code="STATUS_CODE_UNSET"}} 2"#),
            format!(r#"traces_spanmetrics_calls_total{{{labels},status_code="STATUS_CODE_ERROR"}} 1"#),
            "# TYPE traces_spanmetrics_latency histogram".to_owned(),
            format!(r#"traces_spanmetrics_latency_bucket{{{labels},le="0.008"}} 0"#),
            format!(
                r#"traces_spanmetrics_latency_bucket{{{labels},le="0.032"}} 3 {exemplar} 0.030000000 1700000000.500000000"#
            ),
            format!(r#"traces_spanmetrics_latency_bucket{{{labels},le="65.536"}} 3"#),
            format!(r#"traces_spanmetrics_latency_bucket{{{labels},le="+Inf"}} 3"#),
            format!("traces_spanmetrics_latency_count{{{labels}}} 3"),
            format!("traces_spanmetrics_latency_sum{{{labels}}} 0.060000000"),
        ] {
            assert!(text.lines().any(|found| found == line), "no line `{line}` in\n{text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
    }

    #[test]
    fn the_older_text_has_no_exemplars_and_no_end() {
        let text = rendered(Format::Text, &[]);
        for line in [
            "# TYPE longpole_build_info gauge",
            "# TYPE longpole_late_spans_total counter",
            "# TYPE traces_spanmetrics_calls_total counter",
            "# TYPE traces_spanmetrics_latency histogram",
        ] {
            assert!(text.lines().any(|found| found == line), "no line `{line}` in\n{text}");
        }
        assert!(!text.contains("trace_id") && !text.contains("EOF"));
    }

    #[test]
    fn no_outcome_of_the_status_has_the_name_of_a_gauge() {
        // Within a family the first sample wins: the other would be missing without a word.
        let mut status = fake::status();
        status.counters = vec![("disk_full", 3)];
        let build = BuildInfo { version: "0.1.0".into(), commit: None };
        let text = render(Format::Text, &build, &[], &status, &[]);
        for line in ["longpole_disk_full_total 3", "longpole_disk_not_ok 0"] {
            assert!(text.lines().any(|found| found == line), "no line `{line}` in\n{text}");
        }
    }

    #[test]
    fn samples_of_a_family_stand_together_and_once() {
        let rejected =
            |reason, value| Counter::new("spans_rejected", "No.", value).with_label("reason", reason);
        let accepted = Counter::new("longpole_spans_accepted_total", "Yes.", 5);
        let text = rendered(Format::Text, &[rejected("a", 1), accepted, rejected("b", 2), rejected("a", 9)]);
        let found: Vec<&str> = text.lines().filter(|line| line.contains("longpole_spans_rejected")).collect();
        let wanted = [
            "# HELP longpole_spans_rejected_total No.",
            "# TYPE longpole_spans_rejected_total counter",
            r#"longpole_spans_rejected_total{reason="a"} 1"#,
            r#"longpole_spans_rejected_total{reason="b"} 2"#,
        ];
        assert_eq!(found, wanted);
        assert!(text.contains("\nlongpole_spans_accepted_total 5\n"));
    }
}
