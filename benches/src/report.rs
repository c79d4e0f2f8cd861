//! What was measured, side by side.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::probe::Visibility;
use crate::process::Target;
use crate::quantiles;
use crate::queries::Timings;

/// One run of one target.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Run {
    pub target: Target,
    pub spans: f64,
    pub spans_per_second: f64,
    pub megabytes_per_second: f64,
    pub cpu_load: f64,
    pub cpu_idle: f64,
    pub cpu_drained: Option<f64>,
    pub client_cpu: f64,
    pub ack_p50_ms: f64,
    pub ack_p99_ms: f64,
    pub retries: f64,
    pub rejected: f64,
    /// Over the whole run, queries included.
    pub peak_rss_mib: f64,
    /// Medians of the first and the last minute of the load.
    pub rss_minutes: Option<(f64, f64)>,
    pub visibility: Option<Visibility>,
    /// Segments that were merged, and spans that went with age or bytes.
    pub merged_segments: Option<f64>,
    pub written_per_span: Option<f64>,
    pub kept_per_span: Option<f64>,
    /// What zstd 1 makes of the raw requests in blocks of 1 MiB.
    pub zstd_per_span: Option<f64>,
    /// Seconds from the start of the process to its ready line, over what was stored.
    pub start_again: Option<f64>,
    /// Resident memory after that, before any load.
    pub rest_rss_mib: Option<f64>,
    pub queries: Option<Timings>,
}

type Field = fn(&Run) -> Option<f64>;

/// A line of the table: title, digits behind the point, value.
const LINES: &[(&str, usize, Field)] = &[
    ("spans/s", 0, |r| Some(r.spans_per_second)),
    ("MB/s", 0, |r| Some(r.megabytes_per_second)),
    ("CPU s/M spans, during load", 2, |r| Some(r.cpu_load)),
    ("CPU s/M spans, until idle", 2, |r| Some(r.cpu_idle)),
    ("CPU s/M spans, until drained", 2, |r| r.cpu_drained),
    ("client CPU s/M spans", 2, |r| Some(r.client_cpu)),
    ("acknowledged p50 ms", 1, |r| Some(r.ack_p50_ms)),
    ("acknowledged p99 ms", 1, |r| Some(r.ack_p99_ms)),
    ("retries", 0, |r| Some(r.retries)),
    ("rejected spans", 0, |r| Some(r.rejected)),
    ("whole after ack p50 ms", 1, |r| r.visibility.map(|v| v.p50)),
    ("whole after ack p99 ms", 1, |r| r.visibility.map(|v| v.p99)),
    ("whole after ack max ms", 1, |r| r.visibility.map(|v| v.max)),
    ("of it the question p50 ms", 1, |r| r.visibility.map(|v| v.question_p50)),
    ("of it the question p99 ms", 1, |r| r.visibility.map(|v| v.question_p99)),
    ("acknowledged, never whole", 0, |r| r.visibility.map(|v| v.never as f64)),
    ("peak RSS MiB", 0, |r| Some(r.peak_rss_mib)),
    ("RSS, first minute MiB", 0, |r| r.rss_minutes.map(|(first, _)| first)),
    ("RSS, last minute MiB", 0, |r| r.rss_minutes.map(|(_, last)| last)),
    ("segments merged", 0, |r| r.merged_segments),
    ("bytes written a span", 1, |r| r.written_per_span),
    ("bytes kept a span", 1, |r| r.kept_per_span),
    ("zstd 1 of the requests, bytes a span", 1, |r| r.zstd_per_span),
    ("start again s", 2, |r| r.start_again),
    ("RSS after start again MiB", 0, |r| r.rest_rss_mib),
    ("trace by id p50 ms", 2, |r| r.queries.map(|q| q.trace_by_id.p50)),
    ("trace by id p90 ms", 2, |r| r.queries.map(|q| q.trace_by_id.p90)),
    ("trace by id p99 ms", 2, |r| r.queries.map(|q| q.trace_by_id.p99)),
    ("slowest 20 p50 ms", 2, |r| r.queries.map(|q| q.slowest.p50)),
    ("slowest 20 p90 ms", 2, |r| r.queries.map(|q| q.slowest.p90)),
    ("slowest 20 p99 ms", 2, |r| r.queries.map(|q| q.slowest.p99)),
    ("percentiles p50 ms", 2, |r| r.queries.map(|q| q.latency.p50)),
    ("percentiles p90 ms", 2, |r| r.queries.map(|q| q.latency.p90)),
    ("percentiles p99 ms", 2, |r| r.queries.map(|q| q.latency.p99)),
    ("sampled traces not whole", 0, |r| r.queries.map(|q| (q.whole.1 - q.whole.0) as f64)),
];

/// Median, least and greatest.
fn spread(runs: &[Run], target: Target, field: Field) -> Option<(f64, f64, f64)> {
    let mut values: Vec<f64> = runs.iter().filter(|r| r.target == target).filter_map(field).collect();
    values.sort_by(f64::total_cmp);
    Some((quantiles::median(&values)?, *values.first()?, *values.last()?))
}

fn median(runs: &[Run], target: Target, field: Field) -> Option<f64> {
    spread(runs, target, field).map(|(median, _, _)| median)
}

/// The table, median and range of each target.
pub fn table(runs: &[Run], targets: &[Target]) -> String {
    let mut text = format!("{:<30}", "median (range)");
    for target in targets {
        let _ = write!(text, "{:>32}", target.name());
    }
    text.push('\n');
    text.push_str(&"-".repeat(30 + 32 * targets.len()));
    text.push('\n');
    for (title, digits, field) in LINES {
        if targets.iter().all(|t| spread(runs, *t, *field).is_none()) {
            continue;
        }
        let _ = write!(text, "{title:<30}");
        for target in targets {
            let cell = spread(runs, *target, *field).map_or_else(|| "-".to_owned(), |s| cell(s, *digits));
            let _ = write!(text, "{cell:>32}");
        }
        text.push('\n');
    }
    text
}

fn cell((median, low, high): (f64, f64, f64), digits: usize) -> String {
    let show = |v: f64| grouped(v, digits);
    if low == high { show(median) } else { format!("{} ({}-{})", show(median), show(low), show(high)) }
}

/// A number with its thousands apart.
fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), None), |(w, r)| (w, Some(r)));
    let mut out = String::new();
    for (at, c) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) && out != "-" {
            out.push(' ');
        }
        out.push(c);
    }
    match rest {
        Some(rest) => format!("{out}.{rest}"),
        None => out,
    }
}

/// What Longpole is to reach, and what it did.
pub fn marks(runs: &[Run]) -> String {
    let longpole = |field: Field| median(runs, Target::Longpole, field);
    let throughput = longpole(|r| Some(r.spans_per_second));
    let null = median(runs, Target::NullProst, |r| Some(r.spans_per_second));
    let ratio = throughput.zip(null).map(|(ours, theirs)| 100.0 * ours / theirs);
    let of_zstd =
        |value: Option<f64>| value.zip(longpole(|r| r.zstd_per_span)).map(|(ours, zstd)| ours / zstd);
    let kept = of_zstd(longpole(|r| r.kept_per_span)).map(|ratio| 100.0 * ratio);
    let written = of_zstd(longpole(|r| r.written_per_span));
    let lines = [
        ("throughput, % of null-prost", ratio, 100.0, true),
        ("CPU s/M spans, until drained", longpole(|r| r.cpu_drained), 3.0, false),
        ("acknowledged p99 ms", longpole(|r| Some(r.ack_p99_ms)), 200.0, false),
        ("whole after ack max ms", longpole(|r| r.visibility.map(|v| v.max)), 100.0, false),
        ("acknowledged, never whole", longpole(|r| r.visibility.map(|v| v.never as f64)), 1.0, false),
        ("peak RSS MiB", longpole(|r| Some(r.peak_rss_mib)), 512.0, false),
        ("bytes kept, % of zstd 1 of raw", kept, 100.0, false),
        ("bytes written, x of zstd 1", written, 5.0, false),
        ("trace by id p99 ms", longpole(|r| r.queries.map(|q| q.trace_by_id.p99)), 2.0, false),
        ("slowest 20 p99 ms", longpole(|r| r.queries.map(|q| q.slowest.p99)), 20.0, false),
        ("start again s", longpole(|r| r.start_again), 2.0, false),
    ];
    let mut text = String::new();
    for (title, value, mark, at_least) in lines {
        let Some(value) = value else { continue };
        let reached = if at_least { value >= mark } else { value < mark };
        let sign = if at_least { ">=" } else { "<" };
        let verdict = if reached { "reached" } else { "MISSED" };
        let _ = writeln!(text, "{title:<32}{value:>12.2}   mark {sign} {mark:<8} {verdict}");
    }
    text
}

/// The same for programs: every line of the table, every run's value.
pub fn json(runs: &[Run], targets: &[Target]) -> Value {
    let one = |target: &Target| {
        let of_target = || runs.iter().filter(|r| r.target == *target);
        let lines = LINES.iter().map(|(title, _, field)| {
            let values: Vec<Option<f64>> = of_target().map(field).collect();
            ((*title).to_owned(), json!(values))
        });
        (target.name().to_owned(), Value::Object(lines.collect()))
    };
    Value::Object(targets.iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(target: Target, spans_per_second: f64) -> Run {
        Run {
            target,
            spans: 1e6,
            spans_per_second,
            megabytes_per_second: 1.0,
            cpu_load: 1.0,
            cpu_idle: 9.0,
            cpu_drained: None,
            client_cpu: 0.5,
            ack_p50_ms: 1.0,
            ack_p99_ms: 2.0,
            retries: 0.0,
            rejected: 0.0,
            peak_rss_mib: 100.0,
            rss_minutes: None,
            visibility: None,
            merged_segments: None,
            written_per_span: None,
            kept_per_span: None,
            zstd_per_span: None,
            start_again: None,
            rest_rss_mib: None,
            queries: None,
        }
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(grouped(1_234_567.0, 0), "1 234 567");
        assert_eq!(grouped(999.5, 1), "999.5");
        assert_eq!(grouped(1_000.25, 2), "1 000.25");
    }

    #[test]
    fn medians_and_marks() {
        let mut runs: Vec<Run> = [3e5, 1e5, 2e5].map(|s| run(Target::Longpole, s)).to_vec();
        runs.extend([5e5, 4e5].map(|s| run(Target::NullProst, s)));
        let table = table(&runs, &[Target::NullProst, Target::Longpole]);
        assert!(table.contains("450 000 (400 000-500 000)"), "{table}");
        assert!(table.contains("200 000 (100 000-300 000)"), "{table}");
        let marks = marks(&runs);
        assert!(marks.contains("44.44   mark >= 100      MISSED"), "{marks}");
        assert!(marks.contains("100.00   mark < 512      reached"), "{marks}");
    }
}
