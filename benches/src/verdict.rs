//! Whether something grew: the last third of a soak against the first.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::quantiles::quantile;

/// What stands for a third.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Statistic {
    Median,
    /// The 99th percentile, or the 90th of fewer than a hundred values, of which the 99th would be the longest alone.
    Tail,
}

impl Statistic {
    /// The quantile that stands for so many values; `None` if they are too few for any.
    fn quantile(self, values: usize) -> Option<f64> {
        match self {
            Self::Median => (values >= VALUES_MIN).then_some(0.5),
            Self::Tail if values >= 100 => Some(0.99),
            Self::Tail => (values >= 10).then_some(0.9),
        }
    }
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
    /// What stands for either third.
    pub quantile: f64,
    pub finding: Finding,
}

impl Judged {
    /// "median", "p90" or "p99"; "tail" if there are too few values for one.
    fn statistic(&self) -> String {
        match self.series.statistic {
            Statistic::Median => "median".to_owned(),
            Statistic::Tail if self.finding == Finding::TooFew => "tail".to_owned(),
            Statistic::Tail => format!("p{:.0}", self.quantile * 100.0),
        }
    }
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
        let of = |last| value(points, self.third(last), 0.5);
        of(true).zip(of(false)).map_or(0.0, |(last, first)| (last - first).max(0.0))
    }

    /// The median of the first third.
    pub fn first(self, points: &[(u64, f64)]) -> Option<f64> {
        value(points, self.third(false), 0.5)
    }
}

fn values(points: &[(u64, f64)], third: Span) -> impl Iterator<Item = f64> {
    points.iter().filter(move |(at, _)| third.has(*at)).map(|(_, value)| *value)
}

fn value(points: &[(u64, f64)], third: Span, q: f64) -> Option<f64> {
    // Thousandths, so that they can be ordered.
    let mut values: Vec<i64> = values(points, third).map(|value| (value * 1e3) as i64).collect();
    if values.len() < VALUES_MIN {
        return None;
    }
    quantile(&mut values, q).map(|value| value as f64 / 1e3)
}

/// Compares the thirds of a span.
pub fn judge(series: Series, span: Span) -> Judged {
    let fewer = [false, true].map(|last| values(&series.points, span.third(last)).count()).into_iter().min();
    let quantile = fewer.and_then(|fewer| series.statistic.quantile(fewer));
    let of = |last| value(&series.points, span.third(last), quantile?);
    let (Some(quantile), Some(first), Some(last)) = (quantile, of(false), of(true)) else {
        return Judged { series, first: 0.0, last: 0.0, quantile: 0.0, finding: Finding::TooFew };
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
    Judged { series, first, last, quantile, finding }
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
    for one in judged {
        let Judged { series, first, last, finding, .. } = one;
        let statistic =
            if series.statistic == Statistic::Tail { one.statistic() + " " } else { String::new() };
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
            "of_a_third": judged.statistic(),
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
        let tailed = judge(Series { statistic: Statistic::Tail, ..series(tail) }, SPAN);
        assert_eq!((tailed.finding, tailed.quantile), (Finding::Grew, 0.9));
    }

    #[test]
    fn the_longest_of_few_values_is_no_tail() {
        let once = |at: u64| if at == 380 { 500.0 } else { 100.0 };
        let judged = judge(Series { statistic: Statistic::Tail, ..series(once) }, SPAN);
        assert_eq!((judged.finding, judged.quantile), (Finding::Steady, 0.9));
        assert_eq!(judged.statistic(), "p90");
        assert_eq!(Statistic::Tail.quantile(100), Some(0.99));
        assert_eq!(Statistic::Tail.quantile(9), None);
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
