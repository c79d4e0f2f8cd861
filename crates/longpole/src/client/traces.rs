//! `longpole traces`: the slowest traces of a window, or the newest.

use std::io::Write;

use clap::Args;
use trace_model::NanoDuration;

use super::http::Server;
use super::model::{Completeness, Matched, ServiceCount, SpanName, TraceSummary, TracesAnswer};
use super::screen::{Ink, Screen};
use super::table::{Cell, Column, Side, Table};
use super::{Exit, Output, Params, Target, text};

const BAR_CELLS: usize = 12;
const SERVICES_NAMED: usize = 2;
/// Narrower screens go without the bars, and narrower still without the services.
const BARS_FROM: usize = 104;
const SERVICES_FROM: usize = 118;

/// What to look for. Durations as `250ms` or `1m30s`; times as RFC 3339, unix or `now-15m`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TracesArgs {
    /// Only traces with a span of this service
    #[arg(short, long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Only traces with a span of this operation
    #[arg(long, value_name = "NAME")]
    pub(crate) operation: Option<String>,
    /// Kind of the span: server, client, producer, consumer, internal, unspecified
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<String>,
    /// Status of the span: ok, error, unset
    #[arg(long, value_name = "STATUS")]
    pub(crate) status: Option<String>,
    /// The span (or, with no other span filter, the trace) took at least this long
    #[arg(long, value_name = "DURATION")]
    pub(crate) min_duration: Option<String>,
    /// The span (or, with no other span filter, the trace) took at most this long
    #[arg(long, value_name = "DURATION")]
    pub(crate) max_duration: Option<String>,
    /// The whole trace took at least this long
    #[arg(long, value_name = "DURATION")]
    pub(crate) min_trace_duration: Option<String>,
    /// The whole trace took at most this long
    #[arg(long, value_name = "DURATION")]
    pub(crate) max_trace_duration: Option<String>,
    /// Start of the window [default: an hour ago]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) start: Option<String>,
    /// End of the window [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) end: Option<String>,
    /// slowest or newest [default: slowest]
    #[arg(long, value_name = "ORDER")]
    pub(crate) order: Option<String>,
    /// How many traces, at most 1000 [default: 20]
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) limit: Option<u32>,
    /// Where the page before ended, as it said
    #[arg(long, value_name = "CURSOR", allow_hyphen_values = true)]
    pub(crate) cursor: Option<String>,
    /// Server and format.
    #[command(flatten)]
    pub(crate) target: Target,
}

impl TracesArgs {
    fn params(&self) -> Params {
        Params::default()
            .with("service", self.service.as_ref())
            .with("operation", self.operation.as_ref())
            .with("kind", self.kind.as_ref())
            .with("status", self.status.as_ref())
            .with("min_duration", self.min_duration.as_ref())
            .with("max_duration", self.max_duration.as_ref())
            .with("min_trace_duration", self.min_trace_duration.as_ref())
            .with("max_trace_duration", self.max_trace_duration.as_ref())
            .with("start", self.start.as_ref())
            .with("end", self.end.as_ref())
            .with("order", self.order.as_ref())
            .with("limit", self.limit.as_ref())
            .with("cursor", self.cursor.as_ref())
    }

    /// Whether the question is about spans, so that the matching span is what to show.
    const fn is_about_spans(&self) -> bool {
        self.service.is_some() || self.operation.is_some() || self.kind.is_some() || self.status.is_some()
    }
}

/// Asks and prints.
pub(super) fn run(args: &TracesArgs, screen: &Screen, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let server = Server::new(&args.target.server)?;
    if args.target.output == Output::Json {
        server.copy("/traces", args.params(), out)?;
        return Ok(Exit::Ok);
    }
    let body = server.get("/traces", &args.params())?;
    let answer: TracesAnswer = server.read(body)?;
    render(&answer, args.is_about_spans(), screen, out)?;
    Ok(Exit::Ok)
}

fn render(
    answer: &TracesAnswer,
    about_spans: bool,
    screen: &Screen,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    if answer.traces.is_empty() {
        writeln!(out, "  No traces match in this window.")?;
        write_completeness(&answer.completeness, screen, out)?;
        return Ok(());
    }
    let order = if answer.order == "newest" { "Newest" } else { "Slowest" };
    writeln!(out, "\n  {}\n", screen.ink(Ink::Title, &format!("{order} traces")))?;
    summary_table(&answer.traces, about_spans, screen).write(screen, out)?;
    writeln!(out)?;
    if let Some(cursor) = &answer.next_cursor {
        let next = format!("next page: the same command with --cursor {}", text::harmless(cursor));
        writeln!(out, "  {}", screen.ink(Ink::Faint, &next))?;
    }
    write_completeness(&answer.completeness, screen, out)?;
    Ok(())
}

/// The table of traces, as the overview shows it too.
pub(super) fn summary_table(traces: &[TraceSummary], about_spans: bool, screen: &Screen) -> Table {
    let column = |title: &str, side| Column(title.to_owned(), side);
    let mut columns = vec![column("DURATION", Side::Right)];
    if screen.width >= BARS_FROM {
        columns.push(column("", Side::Left));
    }
    if about_spans {
        columns.push(column("SLOWEST MATCHING SPAN", Side::Flexible));
    }
    columns.push(column("ROOT", Side::Flexible));
    columns.extend([column("SPANS", Side::Right), column("ERRORS", Side::Right)]);
    if screen.width >= SERVICES_FROM {
        columns.push(column("SERVICES", Side::Flexible));
    }
    columns.extend([column("STARTED", Side::Right), column("TRACE", Side::Left)]);
    let mut table = Table::new(columns);
    let longest = traces.iter().map(|t| shown_nanos(t, about_spans)).max().unwrap_or(1).max(1);
    for trace in traces {
        table.row(summary_row(trace, about_spans, longest, screen));
    }
    table
}

fn shown_nanos(trace: &TraceSummary, about_spans: bool) -> u64 {
    match &trace.matched {
        Some(matched) if about_spans => matched.duration_nanos,
        _ => trace.duration_nanos,
    }
}

fn summary_row(trace: &TraceSummary, about_spans: bool, longest: u64, screen: &Screen) -> Vec<Cell> {
    let nanos = shown_nanos(trace, about_spans);
    let bar_ink = if trace.errors > 0 { Ink::Error } else { Ink::Path };
    let mut cells = vec![Cell::new(Ink::Strong, NanoDuration(nanos).to_string())];
    if screen.width >= BARS_FROM {
        cells.push(Cell::new(bar_ink, Screen::bar(nanos as f64 / longest as f64, BAR_CELLS)));
    }
    if about_spans {
        cells.push(trace.matched.as_ref().map_or_else(Cell::default, matched_cell));
    }
    cells.extend([
        root_cell(trace),
        Cell::new(Ink::Plain, text::grouped(trace.spans)),
        errors_cell(trace.errors),
    ]);
    if screen.width >= SERVICES_FROM {
        cells.push(services_cell(&trace.services, trace.root.as_ref()));
    }
    let ago = text::ago(trace.start_unix_nano, screen.now_unix_nanos);
    cells.extend([Cell::new(Ink::Faint, ago), Cell::new(Ink::Faint, &trace.trace_id)]);
    cells
}

fn matched_cell(matched: &Matched) -> Cell {
    let cell = name_cell(&matched.name);
    if matched.status == "error" { cell.and(Ink::Error, " ✗") } else { cell }
}

/// `service operation`, the service in its colour.
pub(super) fn name_cell(name: &SpanName) -> Cell {
    Cell::new(Screen::service(&name.service), &name.service).and(Ink::Plain, format!(" {}", name.operation))
}

fn root_cell(trace: &TraceSummary) -> Cell {
    let cell = match &trace.root {
        Some(root) => name_cell(root),
        None => Cell::new(Ink::Warn, "root not arrived"),
    };
    match (trace.state.as_str(), trace.missing_parents) {
        ("open", _) => cell.and(Ink::Faint, " (open)"),
        (_, 0) => cell,
        (_, missing) => cell.and(Ink::Warn, format!(" ({} missing)", text::counted(missing, "parent"))),
    }
}

fn errors_cell(errors: u64) -> Cell {
    match errors {
        0 => Cell::new(Ink::Faint, "·"),
        some => Cell::new(Ink::Error, format!("✗ {}", text::grouped(some))),
    }
}

/// Of the other services than the root's, those with most spans by name and the rest by number.
fn services_cell(services: &[ServiceCount], root: Option<&SpanName>) -> Cell {
    let mut others: Vec<_> = services.iter().filter(|s| root.is_none_or(|r| r.service != s.name)).collect();
    others.sort_by(|a, b| b.spans.cmp(&a.spans).then_with(|| a.name.cmp(&b.name)));
    let mut cell = Cell::default();
    for (i, service) in others.iter().take(SERVICES_NAMED).enumerate() {
        let gap = if i == 0 { "" } else { " " };
        cell = cell.and(Screen::service(&service.name), format!("{gap}{}", service.name));
    }
    match others.len().saturating_sub(SERVICES_NAMED) {
        0 => cell,
        more => cell.and(Ink::Faint, format!(" +{more}")),
    }
}

/// Says so where an answer is not complete, and why.
pub(super) fn write_completeness(
    completeness: &Completeness,
    screen: &Screen,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    if completeness.complete {
        return Ok(());
    }
    writeln!(out, "  {}", screen.ink(Ink::Warn, "! This answer is not complete."))?;
    for reason in &completeness.incomplete {
        let line = text::harmless(&format!("{}: {}", reason.reason, reason.detail));
        writeln!(out, "    {}", screen.ink(Ink::Faint, &line))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> TracesAnswer {
        serde_json::from_str(
            r#"{"traces":[{"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","root":{"service":"frontend","operation":"GET /checkout"},
            "start_unix_nano":"1000000000","duration_nanos":1204000000,"spans":48,"errors":1,
            "services":[{"name":"frontend","spans":9},{"name":"cart","spans":3},{"name":"db","spans":2},{"name":"x","spans":1}],
            "matched":{"service":"cart","operation":"Get","status":"error","duration_nanos":602000000},"state":"final"}],
            "next_cursor":"abc","order":"slowest","complete":false,"incomplete":[{"reason":"limit","detail":"cut"}]}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_trace_is_one_line_and_gaps_are_named() {
        let mut out = Vec::new();
        render(&answer(), false, &Screen::plain(150, 61_000_000_000), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let row = text.lines().find(|line| line.contains("4bf92f35")).unwrap();
        assert_eq!(
            row,
            "     1.20s  ████████████  frontend GET /checkout     48     ✗ 1  cart db +1   1m ago  4bf92f3577b34da6a3ce929d0e0e4736"
        );
        assert!(
            text.contains("--cursor abc") && text.contains("not complete") && text.contains("limit: cut")
        );
    }

    #[test]
    fn with_a_span_filter_the_matching_span_leads() {
        let mut out = Vec::new();
        render(&answer(), true, &Screen::plain(200, 0), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("602ms") && text.contains("cart Get ✗"), "{text}");
    }
}
