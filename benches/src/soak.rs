//! What a soak is judged by: its series, out of samples, acknowledgements, probes and questions.

use serde_json::Value;

use crate::asking::{Answers, Question, Stored};
use crate::probe::Probes;
use crate::sampler::Sample;
use crate::verdict::{Series, Span, Statistic, Tolerance};

/// Memory that a sealed segment or a rollup keeps, in MiB: its meta, its part of the directory.
const KEPT_OF_A_FILE_MIB: f64 = 4.0 / 1024.0;
/// Questions about the last minute cost more and more until there was one.
const MINUTE: u64 = 60_000;
/// After a lull, windows count again from this many milliseconds on.
const AFTER_LULL: u64 = 5_000;

/// All that was seen in a soak.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Soak {
    pub samples: Vec<Sample>,
    pub answers: Answers,
    pub probes: Probes,
    /// Windows of acknowledgements, as `loadgen` gives them.
    pub windows: Vec<Value>,
    /// Times of little load, unix milliseconds, in which nothing is judged.
    pub lulls: Vec<(u64, u64)>,
}

type Points = Vec<(u64, f64)>;

impl Soak {
    /// The time that is judged: from when retention first took a partition, because until then the store fills, and
    /// when a minute is over. A fifth of a short run stands for the minute; a fifth is also left out if retention took
    /// nothing.
    pub fn judged(&self) -> Option<Span> {
        let (from, to) = (self.samples.first()?.unix_ms, self.samples.last()?.unix_ms);
        let fifth = (to - from) / 5;
        let freed = self.answers.stored.iter().find(|stored| stored.freed_partitions > 0);
        let full = freed.map_or(from + fifth, |stored| stored.unix_ms);
        Some(Span { from: full.max(from + fifth.min(MINUTE)), to })
    }

    /// Every series that must not grow.
    pub fn series(&self, span: Span) -> Vec<Series> {
        let mut all = self.of_the_process(span);
        all.extend(self.of_the_folder(span));
        all.extend(self.of_acknowledgements());
        all.extend(self.of_questions(span));
        all
    }

    fn of_the_process(&self, span: Span) -> Vec<Series> {
        let files = self.files(span);
        let memory = Some((files * KEPT_OF_A_FILE_MIB, "segments and rollups"));
        let of = |get: fn(&Sample) -> f64| -> Points {
            self.under_load(self.samples.iter().map(|s| (s.unix_ms, get(s))))
        };
        vec![
            Series { explained: memory, ..series("resident memory", "MiB", of(|s| s.rss_mib), 0.05, 8.0) },
            Series {
                explained: memory,
                ..series("of it anonymous", "MiB", of(|s| s.anonymous_mib), 0.05, 8.0)
            },
            Series {
                explained: Some((files, "segments and rollups")),
                ..series("open files", "", of(|s| s.open_files as f64), 0.1, 16.0)
            },
            series("threads", "", of(|s| s.threads), 0.0, 2.0),
            series("CPU", "s/M spans", self.cpu(), 0.15, 0.1),
        ]
    }

    fn of_the_folder(&self, span: Span) -> Vec<Series> {
        let of = |get: fn(&Sample) -> f64| -> Points {
            self.under_load(self.samples.iter().map(|s| (s.unix_ms, get(s))))
        };
        let files = Some((self.files(span), "segments and rollups"));
        let rollups = Some((self.rise(span, |s| s.rollup_bytes) / 1e6, "rollups"));
        vec![
            Series { explained: files, ..series("files", "", of(|s| s.folder.files as f64), 0.1, 8.0) },
            Series {
                explained: rollups,
                ..series("folder", "MB", of(|s| s.folder.bytes as f64 / 1e6), 0.1, 64.0)
            },
            series("WAL files", "", of(|s| s.folder.wal_files as f64), 0.25, 2.0),
            series("WAL", "MB", of(|s| s.folder.wal_bytes as f64 / 1e6), 0.25, 32.0),
            series("open spans", "thousand", self.stored(|s| s.open_spans as f64 / 1e3), 0.15, 10.0),
        ]
    }

    fn of_acknowledgements(&self) -> Vec<Series> {
        let of = |key: &'static str| -> Points {
            let windows = self.windows.iter();
            self.under_load(windows.filter_map(|w| Some((w["unix_ms"].as_u64()?, w[key].as_f64()?))))
        };
        let ms = |micros: u64| micros as f64 / 1e3;
        let delays = self.probes.seen.iter().filter_map(|s| Some((s.unix_ms, ms(s.whole?))));
        let delays = self.under_load(delays);
        let tail =
            Series { statistic: Statistic::Tail, ..series("visible after", "ms", delays.clone(), 0.5, 20.0) };
        vec![
            series("acknowledged, p50 of windows,", "ms", of("ack_p50_ms"), 0.25, 3.0),
            series("acknowledged, p99 of windows,", "ms", of("ack_p99_ms"), 0.5, 20.0),
            series("visible after", "ms", delays, 0.25, 3.0),
            tail,
        ]
    }

    fn of_questions(&self, span: Span) -> Vec<Series> {
        // What looks at all that is kept may grow as that does.
        let kept = self.stored(|stored| (stored.segment_bytes + stored.rollup_bytes) as f64);
        let grown = span.first(&kept).map_or(0.0, |first| span.rise(&kept) / first.max(1.0));
        let mut all = Vec::new();
        for question in Question::QUICK.into_iter().chain(Question::LONG) {
            let asked = self.answers.asked.iter().filter(|asked| asked.question == question);
            let points = self.under_load(asked.map(|a| (a.unix_ms, a.took.as_secs_f64() * 1e3)));
            let of_all = matches!(question, Question::LatencyOfAll | Question::BottlenecksOfAll);
            let growth = span.first(&points).filter(|_| of_all).map(|first| first * grown);
            let explained = growth.map(|growth| (growth, "stored bytes"));
            let median = Series { explained, ..series(question.name(), "ms", points, 0.25, 3.0) };
            let tolerance = Tolerance { relative: 0.5, absolute: 20.0 };
            all.extend([median.clone(), Series { statistic: Statistic::Tail, tolerance, ..median }]);
        }
        all
    }

    /// CPU seconds a million spans, from sample to sample, by what was acknowledged in between.
    fn cpu(&self) -> Points {
        let number = |window: &Value, key: &str| window[key].as_u64().unwrap_or_default();
        let mut points = Vec::new();
        let mut pairs = self.windows.windows(2);
        while let Some([window, next]) = pairs.next() {
            let (from, to) = (number(window, "unix_ms"), number(next, "unix_ms"));
            let cpu = self.cpu_at(to).zip(self.cpu_at(from)).map(|(to, from)| to - from);
            if let Some(cpu) = cpu.filter(|_| number(window, "spans") > 0) {
                points.push((from, cpu / (number(window, "spans") as f64 / 1e6)));
            }
        }
        self.under_load(points.into_iter())
    }

    /// CPU seconds used at a moment, between the samples around it.
    fn cpu_at(&self, unix_ms: u64) -> Option<f64> {
        let after = self.samples.iter().position(|s| s.unix_ms >= unix_ms)?;
        let (before, after) = (self.samples.get(after.checked_sub(1)?)?, self.samples.get(after)?);
        let part = (unix_ms - before.unix_ms) as f64 / (after.unix_ms - before.unix_ms).max(1) as f64;
        Some(before.cpu_seconds + part * (after.cpu_seconds - before.cpu_seconds))
    }

    /// How many segments and rollups, each a file, there are more.
    fn files(&self, span: Span) -> f64 {
        self.rise(span, |s| s.segments + s.rollups)
    }

    fn rise(&self, span: Span, get: impl Fn(&Stored) -> u64) -> f64 {
        span.rise(&self.stored(|stored| get(stored) as f64))
    }

    fn stored(&self, get: impl Fn(&Stored) -> f64) -> Points {
        self.under_load(self.answers.stored.iter().map(|stored| (stored.unix_ms, get(stored))))
    }

    fn under_load(&self, points: impl Iterator<Item = (u64, f64)>) -> Points {
        let in_lull = |at: u64| self.lulls.iter().any(|(from, to)| (*from..=*to + AFTER_LULL).contains(&at));
        points.filter(|(at, _)| !in_lull(*at)).collect()
    }
}

fn series(name: &str, unit: &'static str, points: Points, relative: f64, absolute: f64) -> Series {
    let tolerance = Tolerance { relative, absolute };
    let statistic = Statistic::Median;
    Series { name: name.to_owned(), unit, points, statistic, tolerance, explained: None }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::asking::Asked;
    use crate::resource::Folder;
    use crate::verdict::{Finding, judge};

    /// Two minutes of a sample, a status, a window and a question every second. `more` is what grows.
    fn soak(more: impl Fn(u64) -> u64) -> Soak {
        let mut soak = Soak::default();
        for second in 0..120 {
            let (unix_ms, more) = (second * 1_000, more(second));
            let folder = Folder { files: 50 + more, ..Folder::default() };
            soak.samples.push(Sample {
                unix_ms,
                rss_mib: 300.0,
                anonymous_mib: 290.0,
                cpu_seconds: second as f64 * 1.5,
                open_files: 60,
                threads: 12.0,
                folder,
            });
            let stored = Stored { unix_ms, freed_partitions: u64::from(second > 30), ..Stored::default() };
            soak.answers.stored.push(Stored { rollups: more, ..stored });
            soak.windows
                .push(json!({"unix_ms": unix_ms, "spans": 500_000, "ack_p50_ms": 5, "ack_p99_ms": 20}));
            let took = Duration::from_millis(7);
            let question = Question::Slowest;
            soak.answers.asked.push(Asked { unix_ms, question, took, status: 200 });
        }
        soak
    }

    fn found(soak: &Soak, name: &str) -> (f64, Finding) {
        let span = soak.judged().unwrap();
        let series = soak.series(span).into_iter().find(|series| series.name == name).unwrap();
        let judged = judge(series, span);
        (judged.first, judged.finding)
    }

    #[test]
    fn a_steady_soak_is_steady() {
        let soak = soak(|_| 0);
        assert_eq!(soak.judged().unwrap().from, 31_000);
        for (name, first) in
            [("resident memory", 300.0), ("CPU", 3.0), ("files", 50.0), ("slowest 20, last minute", 7.0)]
        {
            assert_eq!(found(&soak, name), (first, Finding::Steady), "{name}");
        }
        assert_eq!(found(&soak, "metrics").1, Finding::TooFew);
    }

    #[test]
    fn files_of_rollups_are_explained_and_others_are_not() {
        let mut soak = soak(|second| second);
        assert_eq!(found(&soak, "files").1, Finding::Explained);
        for stored in &mut soak.answers.stored {
            stored.rollups = 0;
        }
        assert_eq!(found(&soak, "files").1, Finding::Grew);
    }

    #[test]
    fn lulls_are_left_out() {
        let mut soak = soak(|second| if second > 90 { 100 } else { 0 });
        soak.answers.stored.clear();
        assert_eq!(found(&soak, "files").1, Finding::Grew);
        soak.lulls.push((91_000, 114_000));
        assert_eq!(found(&soak, "files").1, Finding::Steady);
    }
}
