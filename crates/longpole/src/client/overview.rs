//! The live summary of `longpole demo`: how much comes in, what is slow, and what to try next.

use std::collections::VecDeque;
use std::io::Write;
use std::time::Instant;

use super::bottlenecks::{headline, ranking_table};
use super::http::{ClientError, Server};
use super::model::{BottlenecksAnswer, ServicesAnswer, TraceSummary, TracesAnswer};
use super::screen::{Ink, Screen};
use super::traces::summary_table;
use super::{Params, terminal, text};

const WINDOW: &str = "now-15m";
const SLOWEST: usize = 6;
const BOTTLENECKS: usize = 5;
const HISTORY: usize = 32;
const LABEL_COLUMNS: usize = 11;

/// Where the server listens, as it is shown.
#[derive(Debug, Clone)]
pub(crate) struct OverviewUrls {
    /// OTLP/gRPC, such as `127.0.0.1:4317`.
    pub(crate) otlp_grpc: String,
    /// OTLP/HTTP, such as `127.0.0.1:4318`.
    pub(crate) otlp_http: String,
    /// The API's base URL, such as `http://127.0.0.1:16686`.
    pub(crate) http: String,
}

/// What the summary shows, at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Overview {
    traces: Vec<TraceSummary>,
    services: ServicesAnswer,
    bottlenecks: Option<BottlenecksAnswer>,
    rates: Vec<f64>,
}

impl Overview {
    /// Spans stored.
    pub(crate) fn spans(&self) -> u64 {
        self.services.services.iter().map(|s| s.spans).sum()
    }

    fn errors(&self) -> u64 {
        self.services.services.iter().map(|s| s.errors).sum()
    }
}

/// Asks a server for what the summary shows.
///
/// # Errors
/// If the server cannot be reached or refuses.
pub(crate) fn fetch_overview(server: &Server) -> Result<Overview, ClientError> {
    let window = || Params(vec![("start", WINDOW.to_owned())]);
    let mut slowest = window();
    slowest.0.push(("limit", SLOWEST.to_string()));
    let traces: TracesAnswer = server.read(server.get("/traces", &slowest)?)?;
    let services: ServicesAnswer = server.read(server.get("/services", &Params::default())?)?;
    let bottlenecks = match server.get("/bottlenecks", &window()) {
        Ok(body) => Some(server.read(body)?),
        Err(ClientError::Refused { .. }) => None,
        Err(error) => return Err(error),
    };
    Ok(Overview { traces: traces.traces, services, bottlenecks, rates: Vec::new() })
}

/// Draws the summary.
///
/// # Errors
/// If `out` cannot be written.
pub(crate) fn render_overview(
    overview: &Overview,
    urls: &OverviewUrls,
    screen: &Screen,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    write_banner(urls, screen, out)?;
    write_throughput(overview, screen, out)?;
    write_slowest(overview, screen, out)?;
    write_bottlenecks(overview, screen, out)?;
    write_next_steps(overview, urls, screen, out)
}

fn label(screen: &Screen, label: &str, value: &str) -> String {
    format!("  {}{value}", screen.ink(Ink::Faint, &text::left(label, LABEL_COLUMNS)))
}

fn write_banner(urls: &OverviewUrls, screen: &Screen, out: &mut dyn Write) -> std::io::Result<()> {
    let name = screen.ink(Ink::Path, "▂▄▆█ ") + &screen.ink(Ink::Title, "longpole");
    let claim = screen.ink(Ink::Faint, "the one span that everything else waits for");
    writeln!(out, "\n  {name}  {claim}\n")?;
    let receivers = format!("gRPC {} · HTTP {}", urls.otlp_grpc, urls.otlp_http);
    writeln!(out, "{}", label(screen, "OTLP", &screen.ink(Ink::Strong, &receivers)))?;
    writeln!(out, "{}", label(screen, "API", &screen.ink(Ink::Strong, &format!("{}/api/v1", urls.http))))
}

fn write_throughput(overview: &Overview, screen: &Screen, out: &mut dyn Write) -> std::io::Result<()> {
    let (spans, errors) = (overview.spans(), overview.errors());
    let mut parts = Vec::new();
    if let Some(rate) = overview.rates.last() {
        let spark = Screen::sparkline(&overview.rates);
        let now = format!("{} spans/s", text::grouped(rate.round() as u64));
        parts.push(format!("{} {}", screen.ink(Ink::Good, &spark), screen.ink(Ink::Strong, &now)));
    }
    parts.push(format!("{} stored", text::counted(spans, "span")));
    parts.push(text::counted(overview.services.services.len() as u64, "service"));
    if spans > 0 {
        let share = format!("{} errors", text::percent(errors as f64 / spans as f64));
        parts.push(if errors > 0 { screen.ink(Ink::Error, &share) } else { share });
    }
    writeln!(out, "{}", label(screen, "Coming in", &parts.join(" · ")))
}

fn title(screen: &Screen, title: &str, note: &str) -> String {
    format!("\n  {}  {}", screen.ink(Ink::Title, title), screen.ink(Ink::Faint, note))
}

fn write_slowest(overview: &Overview, screen: &Screen, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "{}", title(screen, "Slowest traces", "of the last 15 minutes"))?;
    if overview.traces.is_empty() {
        return writeln!(out, "  {}", screen.ink(Ink::Faint, "none yet"));
    }
    summary_table(&overview.traces, false, screen).write(screen, out)
}

fn write_bottlenecks(overview: &Overview, screen: &Screen, out: &mut dyn Write) -> std::io::Result<()> {
    let Some(answer) = overview.bottlenecks.as_ref().filter(|answer| !answer.items.is_empty()) else {
        return Ok(());
    };
    let of = format!("of all requests · {}", headline(answer));
    writeln!(out, "{}", title(screen, "Bottlenecks", &of))?;
    ranking_table(answer, BOTTLENECKS, screen).write(screen, out)
}

fn write_next_steps(
    overview: &Overview,
    urls: &OverviewUrls,
    screen: &Screen,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let at = if urls.http == "http://127.0.0.1:16686" {
        String::new()
    } else {
        format!(" --server {}", urls.http)
    };
    writeln!(out, "{}", title(screen, "Try", "in another terminal"))?;
    if let Some(slowest) = overview.traces.first() {
        writeln!(out, "    longpole trace {}{at}", text::harmless(&slowest.trace_id))?;
    }
    if let Some(root) = overview.traces.iter().find_map(|trace| trace.root.as_ref()) {
        writeln!(out, "    longpole bottlenecks --service {}{at}", text::harmless(&root.service))?;
    }
    writeln!(out, "    longpole latency{at}")?;
    writeln!(out, "    curl '{}/api/v1/traces?limit=5&pretty=true'\n", urls.http)
}

/// The summary as it changes: drawn over itself on a terminal, one after the other elsewhere.
#[derive(Debug)]
pub(crate) struct LiveOverview {
    server: Server,
    urls: OverviewUrls,
    live: bool,
    rates: VecDeque<f64>,
    last: Option<(Instant, u64)>,
    drawn_lines: usize,
}

impl LiveOverview {
    /// A summary of a server, not drawn yet.
    pub(crate) fn new(server: Server, urls: OverviewUrls) -> Self {
        Self { server, urls, live: terminal::is_live(), rates: VecDeque::new(), last: None, drawn_lines: 0 }
    }

    /// Asks the server and draws. To be called every second or so on a terminal.
    ///
    /// # Errors
    /// If the server does not answer or `out` cannot be written.
    pub(crate) fn tick(&mut self, screen: &Screen, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut overview = fetch_overview(&self.server)?;
        self.note_rate(Instant::now(), overview.spans());
        overview.rates = self.rates.iter().copied().collect();
        let mut drawn = Vec::new();
        render_overview(&overview, &self.urls, screen, &mut drawn)?;
        if self.live {
            out.write_all(self.rewind().as_bytes())?;
        }
        self.drawn_lines = drawn.iter().filter(|byte| **byte == b'\n').count();
        out.write_all(&drawn)?;
        out.flush()?;
        Ok(())
    }

    fn note_rate(&mut self, now: Instant, spans: u64) {
        if let Some((then, before)) = self.last {
            let seconds = now.duration_since(then).as_secs_f64().max(0.001);
            self.rates.push_back(spans.saturating_sub(before) as f64 / seconds);
        }
        self.last = Some((now, spans));
        while self.rates.len() > HISTORY {
            self.rates.pop_front();
        }
    }

    /// Moves the cursor back over what was drawn before, and clears it.
    fn rewind(&self) -> String {
        match (self.drawn_lines, terminal::rows()) {
            (0, _) => String::new(),
            (lines, Some(rows)) if lines >= rows => "\x1b[H\x1b[J".to_owned(),
            (lines, _) => format!("\x1b[{lines}A\x1b[J"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overview() -> Overview {
        Overview {
            traces: serde_json::from_str(
                r#"[{"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","root":{"service":"frontend","operation":"GET /"},"spans":9,"duration_nanos":5000000}]"#,
            )
            .unwrap(),
            services: serde_json::from_str(r#"{"services":[{"name":"frontend","spans":2000,"errors":20}]}"#).unwrap(),
            bottlenecks: serde_json::from_str(
                r#"{"traces":2,"items":[{"service":"inventory","cp_share":0.5,"cp_nanos":{"mean":1000,"p99":1000}}]}"#,
            )
            .unwrap(),
            rates: vec![10.0, 20.0],
        }
    }

    #[test]
    fn everything_is_on_one_page() {
        let urls = OverviewUrls {
            otlp_grpc: "127.0.0.1:4317".to_owned(),
            otlp_http: "127.0.0.1:4318".to_owned(),
            http: "http://127.0.0.1:9".to_owned(),
        };
        let mut out = Vec::new();
        render_overview(&overview(), &urls, &Screen::plain(120, 0), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for part in [
            "gRPC 127.0.0.1:4317 · HTTP 127.0.0.1:4318",
            "▅█ 20 spans/s · 2,000 spans stored · 1 service · 1.0 % errors",
            "Slowest traces",
            "Bottlenecks  of all requests · 2 traces",
            "longpole trace 4bf92f3577b34da6a3ce929d0e0e4736 --server http://127.0.0.1:9",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(text.lines().all(|line| text::columns(line) <= 120));
    }
}
