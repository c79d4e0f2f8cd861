//! Whether something grew: the last third of a soak against the first.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::quantiles::quantile;

/// What stands for a third.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Statistic {
    Median,
    P99,
}

/// How much more the last third may have: noise, of the first third and in the series' own unit.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Tolerance {
    pub relative: f64,
    pub absolute: f64,
}

/// Values over time.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Series {
    pub name: String,
    pub unit: &'static str,
    /// Unix milliseconds and value.
    pub points: Vec<(u64, f64)>,
    pub statistic: Statistic,
    pub tolerance: Tolerance,
    /// Growth that stored data account for, in the series' unit, and what they are.
    pub explained: Option<(f64, &'static str)>,
}

/// What became of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// It did not grow beyond the tolerance.
    Steady,
    /// It grew, but not beyond the tolerance and what stored data account for.
    Explained,
    /// It grew.
    Grew,
    /// Too few values to say.
    TooFew,
}

impl Finding {
    fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Explained => "explained",
            Self::Grew => "GREW",
            Self::TooFew => "TOO FEW VALUES",
        }
    }
}

/// A series and what became of it.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Judged {
    pub series: Series,
    pub first: f64,
    pub last: f64,
    pub finding: Finding,
}

/// Values a third needs.
const VALUES_MIN: usize = 3;

/// The time that is judged: from when the store was full to the end, in unix milliseconds.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Span {
    pub from: u64,
    pub to: u64,
}

impl Span {
    /// The first third of it, or the last.
    fn third(self, last: bool) -> Self {
        let third = self.to.saturating_sub(self.from) / 3;
        if last { Self { from: self.to - third, ..self } } else { Self { to: self.from + third, ..self } }
    }

    fn has(self, at: u64) -> bool {
        (self.from..=self.to).contains(&at)
    }

    /// How much something that only rises rose from the middle of the first third to that of the last.
    pub fn rise(self, points: &[(u64, f64)]) -> f64 {
        let of = |last| value(points, self.third(last), Statistic::Median);
        of(true).zip(of(false)).map_or(0.0, |(last, first)| (last - first).max(0.0))
    }

    /// The median of the first third.
    pub fn first(self, points: &[(u64, f64)]) -> Option<f64> {
        value(points, self.third(false), Statistic::Median)
    }
}

fn value(points: &[(u64, f64)], third: Span, statistic: Statistic) -> Option<f64> {
    // Thousandths, so that they can be ordered.
    let of_third = points.iter().filter(|(at, _)| third.has(*at));
    let mut values: Vec<i64> = of_third.map(|(_, value)| (value * 1e3) as i64).collect();
    if values.len() < VALUES_MIN {
        return None;
    }
    let q = if statistic == Statistic::Median { 0.5 } else { 0.99 };
    quantile(&mut values, q).map(|value| value as f64 / 1e3)
}

/// Compares the thirds of a span.
pub fn judge(series: Series, span: Span) -> Judged {
    let of = |last| value(&series.points, span.third(last), series.statistic);
    let (Some(first), Some(last)) = (of(false), of(true)) else {
        return Judged { series, first: 0.0, last: 0.0, finding: Finding::TooFew };
    };
    let tolerated = first * (1.0 + series.tolerance.relative) + series.tolerance.absolute;
    let explained = series.explained.map_or(0.0, |(growth, _)| growth);
    let finding = if last <= tolerated {
        Finding::Steady
    } else if last <= tolerated + explained {
        Finding::Explained
    } else {
        Finding::Grew
    };
    Judged { series, first, last, finding }
}

/// One line a series.
pub fn table(judged: &[Judged]) -> String {
    let mut text = format!(
        "{:<38}{:>12}{:>12}{:>10}{:>13}  verdict\n{}\n",
        "",
        "first third",
        "last third",
        "growth",
        "may grow by",
        "-".repeat(96)
    );
    for Judged { series, first, last, finding } in judged {
        let statistic = if series.statistic == Statistic::P99 { "p99 " } else { "" };
        let title = format!("{} {statistic}{}", series.name, series.unit);
        let may = first * series.tolerance.relative + series.tolerance.absolute;
        let _ = write!(text, "{title:<38}{first:>12.1}{last:>12.1}{:>10.1}{may:>13.1}", last - first);
        let _ = write!(text, "  {}", finding.name());
        match series.explained {
            Some((growth, why)) if *finding != Finding::Steady && growth > 0.0 => {
                let _ = writeln!(text, " ({growth:.1} by {why})");
            }
            _ => text.push('\n'),
        }
    }
    text
}

/// The same for programs, with all values.
pub fn json(judged: &[Judged]) -> Value {
    let one = |judged: &Judged| {
        let series = &judged.series;
        json!({
            "series": series.name,
            "unit": series.unit,
            "of_a_third": if series.statistic == Statistic::P99 { "p99" } else { "median" },
            "first_third": judged.first,
            "last_third": judged.last,
            "may_grow_by": judged.first * series.tolerance.relative + series.tolerance.absolute,
            "explained": series.explained.map(|(growth, why)| json!({"growth": growth, "by": why})),
            "verdict": judged.finding.name(),
            "points": series.points,
        })
    };
    Value::Array(judged.iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Span = Span { from: 100, to: 400 };

    fn series(value: impl Fn(u64) -> f64) -> Series {
        Series {
            name: "memory".to_owned(),
            unit: "MiB",
            points: (0..=40).map(|n| (n * 10, value(n * 10))).collect(),
            statistic: Statistic::Median,
            tolerance: Tolerance { relative: 0.1, absolute: 1.0 },
            explained: None,
        }
    }

    #[test]
    fn what_rises_beyond_the_tolerance_grew() {
        assert_eq!(judge(series(|_| 100.0), SPAN).finding, Finding::Steady);
        assert_eq!(judge(series(|at| 100.0 + at as f64 / 20.0), SPAN).finding, Finding::Steady);
        let judged = judge(series(|at| 100.0 + at as f64 / 10.0), SPAN);
        assert_eq!((judged.first, judged.last, judged.finding), (115.0, 135.0, Finding::Grew));
        assert_eq!(judge(series(|at| 100.0 - at as f64 / 10.0), SPAN).finding, Finding::Steady);
    }

    #[test]
    fn what_comes_before_the_store_was_full_does_not_count() {
        assert_eq!(judge(series(|at| if at < 100 { 10.0 } else { 100.0 }), SPAN).finding, Finding::Steady);
    }

    #[test]
    fn growth_is_explained_up_to_what_stored_data_account_for() {
        let grown = |growth| {
            let explained = Some((growth, "segments"));
            judge(Series { explained, ..series(|at| 100.0 + at as f64 / 10.0) }, SPAN)
        };
        assert_eq!(grown(5.0).finding, Finding::Grew);
        assert_eq!(grown(10.0).finding, Finding::Explained);
        assert!(table(&[grown(10.0)]).contains("explained (10.0 by segments)"), "{}", table(&[grown(10.0)]));
    }

    #[test]
    fn the_tail_can_grow_where_the_median_does_not() {
        let tail = |at: u64| if at > 300 && at.is_multiple_of(50) { 500.0 } else { 100.0 };
        assert_eq!(judge(series(tail), SPAN).finding, Finding::Steady);
        let p99 = Series { statistic: Statistic::P99, ..series(tail) };
        assert_eq!(judge(p99, SPAN).finding, Finding::Grew);
    }

    #[test]
    fn few_values_are_no_verdict() {
        let mut short = series(|_| 1.0);
        short.points.truncate(12);
        assert_eq!(judge(short, SPAN).finding, Finding::TooFew);
    }

    #[test]
    fn a_rise_is_from_third_to_third() {
        let rising = series(|at| at as f64).points;
        assert!((SPAN.rise(&rising) - 200.0).abs() < 1e-9);
        assert_eq!(SPAN.first(&rising), Some(150.0));
        assert!(SPAN.rise(&series(|at| 1_000.0 - at as f64).points) < 1e-9);
    }
}
