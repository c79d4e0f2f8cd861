//! `longpole bottlenecks`: what requests wait for, ranked.

use std::io::Write;

use clap::Args;
use serde_json::Value;
use trace_model::NanoDuration;

use super::http::Server;
use super::model::{BottlenecksAnswer, Item, number};
use super::screen::{Ink, Screen};
use super::table::{Cell, Column, Side, Table};
use super::traces::write_completeness;
use super::{Exit, Output, Params, Target, text};

const BAR_CELLS: usize = 24;
const NARROW_BAR_CELLS: usize = 8;
const WIDE_FROM: usize = 110;

/// Whose requests, over which window, ranked by what.
#[derive(Debug, Clone, Args)]
pub(crate) struct BottlenecksArgs {
    /// Service that the requests enter by
    #[arg(short, long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Operation that the requests enter by
    #[arg(long, value_name = "NAME")]
    pub(crate) operation: Option<String>,
    /// Start of the window [default: an hour ago]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) start: Option<String>,
    /// End of the window [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) end: Option<String>,
    /// service or operation [default: service]
    #[arg(long, value_name = "WHAT")]
    pub(crate) group_by: Option<String>,
    /// What it would save to make it this much faster, from 0 to 1 [default: 0.5]
    #[arg(long, value_name = "FACTOR")]
    pub(crate) what_if: Option<f64>,
    /// Server and format.
    #[command(flatten)]
    pub(crate) target: Target,
}

impl BottlenecksArgs {
    fn params(&self) -> Params {
        Params::default()
            .with("service", self.service.as_ref())
            .with("operation", self.operation.as_ref())
            .with("start", self.start.as_ref())
            .with("end", self.end.as_ref())
            .with("group_by", self.group_by.as_ref())
            .with("what_if", self.what_if.as_ref())
    }

    fn entry(&self) -> String {
        let parts: Vec<&str> =
            [&self.service, &self.operation].into_iter().flatten().map(String::as_str).collect();
        if parts.is_empty() { "all requests".to_owned() } else { parts.join(" ") }
    }
}

/// Asks and prints.
pub(super) fn run(args: &BottlenecksArgs, screen: &Screen, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let server = Server::new(&args.target.server)?;
    if args.target.output == Output::Json {
        server.copy("/bottlenecks", args.params(), out)?;
        return Ok(Exit::Ok);
    }
    let body = server.get("/bottlenecks", &args.params())?;
    let answer: BottlenecksAnswer = server.read(body)?;
    render(&answer, &args.entry(), screen, out)?;
    Ok(Exit::Ok)
}

fn render(
    answer: &BottlenecksAnswer,
    entry: &str,
    screen: &Screen,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    if answer.items.is_empty() {
        writeln!(out, "  No finished traces enter by {} in this window.", text::harmless(entry))?;
        write_completeness(&answer.completeness, screen, out)?;
        return Ok(());
    }
    writeln!(
        out,
        "\n  {}",
        screen.ink(Ink::Title, &format!("Where the time of {} goes", text::harmless(entry)))
    )?;
    writeln!(out, "  {}\n", screen.ink(Ink::Faint, &headline(answer)))?;
    ranking_table(answer, usize::MAX, screen).write(screen, out)?;
    if answer.other_share > 0.0 {
        let rest =
            format!("{} of the critical path is spread over the rest", text::percent(answer.other_share));
        writeln!(out, "  {}", screen.ink(Ink::Faint, &rest))?;
    }
    writeln!(out)?;
    for line in legend(answer) {
        writeln!(out, "  {}", screen.ink(Ink::Faint, &line))?;
    }
    write_completeness(&answer.completeness, screen, out)?;
    Ok(())
}

/// How many traces, how long they took, and what was left out.
pub(super) fn headline(answer: &BottlenecksAnswer) -> String {
    let mut parts = vec![text::counted(answer.traces, "trace")];
    for (name, keys) in
        [("mean", ["mean_nanos", "mean"]), ("p50", ["p50_nanos", "p50"]), ("p99", ["p99_nanos", "p99"])]
    {
        if let Some(nanos) = number(&answer.latency, &keys) {
            parts.push(format!("{name} {}", nanos_text(nanos)));
        }
    }
    if let Some(excluded) = excluded(&answer.excluded) {
        parts.push(format!("{excluded} left out"));
    }
    if let Some(confidence) = answer.confidence.as_str() {
        parts.push(format!("confidence {}", text::harmless(confidence)));
    }
    parts.join(" · ")
}

fn excluded(value: &Value) -> Option<String> {
    let total = match value {
        Value::Object(reasons) => reasons.values().filter_map(Value::as_u64).sum(),
        other => other.as_u64()?,
    };
    (total > 0).then(|| text::grouped(total))
}

fn legend(answer: &BottlenecksAnswer) -> Vec<String> {
    let mut lines = vec![
        "share: part of the critical path, the time waited for this and nothing else".to_owned(),
        "mean, p99, calls: per trace".to_owned(),
    ];
    if let Some(what_if) = answer.items.iter().find_map(|item| item.what_if.as_ref()) {
        let faster = text::percent(what_if.faster);
        lines.push(format!("could save: at most so much on average, if it took {faster} less"));
    }
    lines
}

/// The ranking, as the overview shows it too.
pub(super) fn ranking_table(answer: &BottlenecksAnswer, limit: usize, screen: &Screen) -> Table {
    let cells = if screen.width >= WIDE_FROM { BAR_CELLS } else { NARROW_BAR_CELLS };
    let columns = [
        ("", Side::Left),
        ("BOTTLENECK", Side::Flexible),
        ("SHARE", Side::Right),
        ("", Side::Left),
        ("MEAN", Side::Right),
        ("P99", Side::Right),
        ("CALLS", Side::Right),
        ("ERRORS", Side::Right),
        ("COULD SAVE", Side::Right),
    ];
    let mut table = Table::new(columns.map(|(title, side)| Column(title.to_owned(), side)).to_vec());
    let largest = answer.items.iter().map(|i| i.cp_share).fold(0.0, f64::max);
    for (rank, item) in answer.items.iter().take(limit).enumerate() {
        table.row(ranking_row(rank, item, largest, cells));
    }
    table
}

fn ranking_row(rank: usize, item: &Item, largest: f64, cells: usize) -> Vec<Cell> {
    let ink = if rank == 0 { Ink::Path } else { Screen::service(item.service.as_deref().unwrap_or("")) };
    let scaled = if largest > 0.0 { item.cp_share / largest } else { 0.0 };
    let saving = item.what_if.as_ref().filter(|w| w.upper_bound_mean_nanos > 0.0);
    let errors = if item.error_share > 0.0 {
        Cell::new(Ink::Error, text::percent(item.error_share))
    } else {
        Cell::new(Ink::Faint, "·")
    };
    vec![
        Cell::new(Ink::Faint, (rank + 1).to_string()),
        item_cell(item),
        Cell::new(if rank == 0 { Ink::Strong } else { Ink::Plain }, text::percent(item.cp_share)),
        Cell::new(ink, Screen::bar(scaled, cells)),
        Cell::new(Ink::Plain, nanos_text(item.cp_nanos.mean)),
        Cell::new(Ink::Plain, nanos_text(item.cp_nanos.p99)),
        Cell::new(Ink::Faint, format!("{:.1}", item.calls_per_trace)),
        errors,
        saving.map_or_else(
            || Cell::new(Ink::Faint, "–"),
            |w| Cell::new(Ink::Good, format!("≤ {}", nanos_text(w.upper_bound_mean_nanos))),
        ),
    ]
}

fn item_cell(item: &Item) -> Cell {
    if let Some(edge) = &item.edge {
        return Cell::new(Screen::service(&edge.client), &edge.client)
            .and(Ink::Faint, " → ")
            .and(Screen::service(&edge.server), &edge.server)
            .and(Ink::Faint, " (on the way)");
    }
    let service = item.service.as_deref().unwrap_or("?");
    let cell = Cell::new(Screen::service(service), service);
    match &item.operation {
        Some(operation) => cell.and(Ink::Plain, format!(" {operation}")),
        None => cell,
    }
}

fn nanos_text(nanos: f64) -> String {
    NanoDuration(nanos.max(0.0).round() as u64).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_the_longest_bar() {
        let answer: BottlenecksAnswer = serde_json::from_str(
            r#"{"traces":412,"excluded":3,"latency":{"mean_nanos":120000000},"other_share":0.1,"complete":true,"items":[
            {"service":"inventory","operation":null,"cp_share":0.6,"cp_nanos":{"mean":812000000,"p50":1,"p99":2000000000},
             "calls_per_trace":2.5,"error_share":0.01,"what_if":{"faster":0.5,"upper_bound_mean_nanos":406000000}},
            {"service":"cart","edge":{"client":"frontend","server":"cart"},"cp_share":0.3,"cp_nanos":{"mean":1000,"p50":1,"p99":1}}]}"#,
        )
        .unwrap();
        let mut out = Vec::new();
        render(&answer, "frontend", &Screen::plain(140, 0), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("412 traces · mean 120ms · 3 left out"), "{text}");
        assert!(
            text.contains("60.0 %  ████████████████████████   812ms  2.00s    2.5   1.0 %     ≤ 406ms"),
            "{text}"
        );
        assert!(text.contains("frontend → cart (on the way)  30.0 %  ████████████  "), "{text}");
        assert!(text.contains("10.0 % of the critical path"));
    }
}
