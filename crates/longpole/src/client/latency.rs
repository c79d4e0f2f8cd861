//! `longpole latency`: count, rate, errors and percentiles of every series.

use std::io::Write;

use clap::Args;
use trace_model::NanoDuration;

use super::http::Server;
use super::model::{LatencyAnswer, Series};
use super::screen::{Ink, Screen};
use super::table::{Cell, Column, Side, Table};
use super::traces::write_completeness;
use super::{Exit, Output, Params, Target, text};

/// Columns of the drawn spread, and the width of screen from which it is drawn.
const SPREAD_CELLS: usize = 22;
const SPREAD_FROM_WIDTH: usize = 130;

/// Which operations, over which window.
#[derive(Debug, Clone, Args)]
pub(crate) struct LatencyArgs {
    /// Only this service
    #[arg(short, long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Only this operation
    #[arg(long, value_name = "NAME")]
    pub(crate) operation: Option<String>,
    /// Only this kind: server, client, producer, consumer, internal, unspecified
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<String>,
    /// Only spans with this status: ok, error, unset
    #[arg(long, value_name = "STATUS")]
    pub(crate) status: Option<String>,
    /// Start of the window [default: an hour ago]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) start: Option<String>,
    /// End of the window [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) end: Option<String>,
    /// Width of the points in time that `-o json` carries, such as 1m
    #[arg(long, value_name = "DURATION")]
    pub(crate) step: Option<String>,
    /// Quantiles, apart by commas [default: 0.5,0.9,0.95,0.99]
    #[arg(long, value_name = "LIST")]
    pub(crate) quantiles: Option<String>,
    /// Any of service,operation,kind,status; what is left out is merged
    #[arg(long, value_name = "LIST")]
    pub(crate) group_by: Option<String>,
    /// Server and format.
    #[command(flatten)]
    pub(crate) target: Target,
}

impl LatencyArgs {
    fn params(&self) -> Params {
        Params::default()
            .with("service", self.service.as_ref())
            .with("operation", self.operation.as_ref())
            .with("kind", self.kind.as_ref())
            .with("status", self.status.as_ref())
            .with("start", self.start.as_ref())
            .with("end", self.end.as_ref())
            .with("step", self.step.as_ref())
            .with("quantiles", self.quantiles.as_ref())
            .with("group_by", self.group_by.as_ref())
    }
}

/// Asks and prints.
pub(super) fn run(args: &LatencyArgs, screen: &Screen, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let server = Server::new(&args.target.server)?;
    if args.target.output == Output::Json {
        server.copy("/latency", args.params(), out)?;
        return Ok(Exit::Ok);
    }
    let body = server.get("/latency", &args.params())?;
    let mut answer: LatencyAnswer = server.read(body)?;
    answer.series.sort_by_key(|s| std::cmp::Reverse(s.values_nanos.last().copied()));
    render(&answer, screen, out)?;
    Ok(Exit::Ok)
}

fn render(answer: &LatencyAnswer, screen: &Screen, out: &mut dyn Write) -> anyhow::Result<()> {
    if answer.series.is_empty() {
        writeln!(out, "  No spans match in this window.")?;
        write_completeness(&answer.completeness, screen, out)?;
        return Ok(());
    }
    let window =
        format!("{} to {} UTC", text::instant(answer.start_unix_nano), text::instant(answer.end_unix_nano));
    writeln!(out, "\n  {}  {}\n", screen.ink(Ink::Title, "Latency"), screen.ink(Ink::Faint, &window))?;
    latency_table(answer, screen).write(screen, out)?;
    let error = text::percent(answer.relative_error_max);
    let mut legend = format!("percentiles are within {error} of the truth");
    if answer.series.iter().any(|s| s.low_confidence.contains(&true)) {
        legend.push_str(" · ~ too few spans to be sure of this percentile");
    }
    writeln!(out, "\n  {}", screen.ink(Ink::Faint, &legend))?;
    write_completeness(&answer.completeness, screen, out)?;
    Ok(())
}

/// One way to name a series: its title, and how to read it.
type Label = (&'static str, Side, fn(&Series) -> Option<&String>);

const LABELS: [Label; 4] = [
    ("SERVICE", Side::Left, |s| s.service.as_ref()),
    ("OPERATION", Side::Flexible, |s| s.operation.as_ref()),
    ("KIND", Side::Left, |s| s.kind.as_ref()),
    ("STATUS", Side::Left, |s| s.status.as_ref()),
];

fn latency_table(answer: &LatencyAnswer, screen: &Screen) -> Table {
    let labels: Vec<&Label> =
        LABELS.iter().filter(|(_, _, read)| answer.series.iter().any(|s| read(s).is_some())).collect();
    let spread = (screen.width >= SPREAD_FROM_WIDTH).then(|| Spread::over(&answer.series)).flatten();
    let mut columns: Vec<Column> =
        labels.iter().map(|(title, side, _)| Column((*title).into(), *side)).collect();
    let mut numbers = vec!["COUNT".to_owned(), "RATE".to_owned(), "ERRORS".to_owned()];
    numbers.extend(answer.quantiles.iter().map(|q| quantile_name(*q)));
    numbers.push("MAX".to_owned());
    columns.extend(numbers.into_iter().map(|title| Column(title, Side::Right)));
    if spread.is_some() {
        columns.push(Column("SPREAD (LOG)".to_owned(), Side::Left));
    }
    let mut table = Table::new(columns);
    for series in &answer.series {
        let mut cells: Vec<Cell> =
            labels.iter().map(|(title, _, read)| label_cell(title, read(series))).collect();
        cells.extend(number_cells(series, answer.quantiles.len()));
        if let Some(spread) = &spread {
            cells.push(spread.cell(series));
        }
        table.row(cells);
    }
    table
}

fn label_cell(title: &str, value: Option<&String>) -> Cell {
    let value = value.map_or("", String::as_str);
    match title {
        "SERVICE" => Cell::new(Screen::service(value), value),
        "OPERATION" => Cell::new(Ink::Plain, value),
        _ => Cell::new(Ink::Faint, value),
    }
}

fn number_cells(series: &Series, quantiles: usize) -> Vec<Cell> {
    let mut cells = vec![
        Cell::new(Ink::Plain, text::grouped(series.count)),
        Cell::new(Ink::Faint, text::rate(series.rate_per_second)),
        errors_cell(series),
    ];
    for i in 0..quantiles {
        let value = series.values_nanos.get(i).map_or_else(|| "–".into(), |ns| NanoDuration(*ns).to_string());
        let unsure = series.low_confidence.get(i).copied().unwrap_or(false);
        let ink = if i + 1 == quantiles { Ink::Strong } else { Ink::Plain };
        cells.push(if unsure { Cell::new(Ink::Faint, format!("~{value}")) } else { Cell::new(ink, value) });
    }
    cells.push(Cell::new(Ink::Faint, NanoDuration(series.max_nanos).to_string()));
    cells
}

fn errors_cell(series: &Series) -> Cell {
    if series.errors == 0 {
        return Cell::new(Ink::Faint, "·");
    }
    let share = series.errors as f64 / series.count.max(1) as f64;
    Cell::new(Ink::Error, text::percent(share))
}

/// `0.5` as `P50`, `0.999` as `P99.9`.
fn quantile_name(q: f64) -> String {
    let percent = (q * 100_000.0).round() / 1_000.0;
    format!("P{percent}")
}

/// A strip per series on one logarithmic axis: thin from least to most, thick between the
/// lowest and the highest of the quantiles asked for.
struct Spread {
    low: f64,
    high: f64,
}

impl Spread {
    fn over(series: &[Series]) -> Option<Self> {
        let low = series.iter().map(|s| s.min_nanos.max(1)).min()? as f64;
        let high = series.iter().map(|s| s.max_nanos.max(1)).max()? as f64;
        (high > low).then(|| Self { low: low.ln(), high: high.ln() })
    }

    fn cell_of(&self, nanos: u64) -> usize {
        let share = ((nanos.max(1) as f64).ln() - self.low) / (self.high - self.low);
        ((share.clamp(0.0, 1.0) * SPREAD_CELLS as f64) as usize).min(SPREAD_CELLS - 1)
    }

    fn cell(&self, series: &Series) -> Cell {
        let at = |nanos: u64| self.cell_of(nanos);
        let (least, most) = (at(series.min_nanos), at(series.max_nanos));
        let quantile = |value: Option<&u64>| at(value.copied().unwrap_or(series.max_nanos));
        let (low, high) = (quantile(series.values_nanos.first()), quantile(series.values_nanos.last()));
        let run = |from: usize, to: usize, c: &str| c.repeat(to.saturating_sub(from));
        Cell::new(Ink::Plain, " ".repeat(least))
            .and(Ink::Faint, run(least, low, "─"))
            .and(Ink::Path, run(low, high + 1, "━"))
            .and(Ink::Faint, run(high + 1, most + 1, "─"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> LatencyAnswer {
        serde_json::from_str(
            r#"{"quantiles":[0.5,0.999],"relative_error_max":0.0078,"start_unix_nano":"0","end_unix_nano":"60000000000","complete":true,
            "series":[{"service":"checkout","operation":"PlaceOrder","kind":"server","count":18230,"errors":31,"rate_per_second":5.06,
            "min_nanos":1000000,"max_nanos":2000000000,"values_nanos":[41200000,902000000],"low_confidence":[false,true]}]}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_series_is_one_line_and_doubt_is_marked() {
        let mut out = Vec::new();
        render(&answer(), &Screen::plain(100, 0), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("SERVICE   OPERATION   KIND     COUNT    RATE  ERRORS     P50   P99.9    MAX"),
            "{text}"
        );
        assert!(
            text.contains("checkout  PlaceOrder  server  18,230  5.06/s  0.17 %  41.2ms  ~902ms  2.00s"),
            "{text}"
        );
        assert!(text.contains("within 0.78 %") && text.contains("~ too few"));
    }

    #[test]
    fn a_wide_screen_draws_the_spread() {
        let mut out = Vec::new();
        render(&answer(), &Screen::plain(140, 0), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("  ──────────━━━━━━━━━━──\n"), "{text}");
    }
}
