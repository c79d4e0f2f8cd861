//! A trace drawn as a tree of bars on one axis of time. Nothing here recurses, so that a chain of
//! a hundred thousand spans is drawn like any other.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

use trace_model::NanoDuration;

use super::model::{CriticalPath, PathService, Segment};
use super::rows::Row;
use super::screen::{Ink, Screen};
use super::text;

const DURATION_COLUMNS: usize = 8;
const MIN_BAR_CELLS: usize = 16;

/// A span, as it is drawn.
#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub(super) span_id: String,
    pub(super) parent: Option<String>,
    pub(super) service: String,
    pub(super) operation: String,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) error: bool,
    pub(super) message: String,
}

/// All there is to draw.
#[derive(Debug)]
pub(super) struct Waterfall {
    pub(super) trace_id: String,
    pub(super) open: bool,
    pub(super) incomplete: bool,
    pub(super) missing_parents: usize,
    pub(super) bars: Vec<Bar>,
    pub(super) critical_path: Option<CriticalPath>,
    pub(super) max_spans: usize,
}

/// The axis of time and the widths of the columns.
struct Layout {
    start: u64,
    length: u64,
    name: usize,
    cells: usize,
}

impl Layout {
    /// The cells that an interval covers: at least one, and never outside.
    fn cells(&self, start: u64, end: u64) -> (usize, usize) {
        let place = |at: u64| {
            let offset = u128::from(at.saturating_sub(self.start)) * self.cells as u128;
            (offset / u128::from(self.length)) as usize
        };
        let first = place(start).min(self.cells - 1);
        (first, place(end).clamp(first + 1, self.cells))
    }
}

/// The critical path by span: the time that is its own, and where that lies.
#[derive(Default)]
pub(super) struct Path<'a> {
    pub(super) exclusive: HashMap<&'a str, u64>,
    segments: HashMap<&'a str, Vec<&'a Segment>>,
}

impl<'a> Path<'a> {
    fn of(path: Option<&'a CriticalPath>) -> Self {
        let mut index = Self::default();
        let Some(path) = path else { return index };
        for span in path.spans.iter().filter(|span| span.exclusive_nanos > 0) {
            index.exclusive.insert(&span.span_id, span.exclusive_nanos);
        }
        for segment in &path.segments {
            index.segments.entry(&segment.span_id).or_default().push(segment);
        }
        index
    }
}

impl Waterfall {
    /// Draws the trace.
    pub(super) fn write(&self, screen: &Screen, out: &mut dyn Write) -> io::Result<()> {
        if self.bars.is_empty() {
            return writeln!(out, "  Trace {} has no spans.", text::harmless(&self.trace_id));
        }
        let path = Path::of(self.critical_path.as_ref());
        let rows = self.rows(&path);
        let layout = self.layout(&rows, screen);
        self.write_header(screen, out)?;
        self.write_axis(&layout, screen, out)?;
        for row in &rows {
            self.write_row(row, &layout, &path, screen, out)?;
        }
        self.write_hidden(&rows, screen, out)?;
        self.write_by_service(screen, out)
    }

    fn bounds(&self) -> (u64, u64) {
        let start = self.bars.iter().map(|bar| bar.start).min().unwrap_or(0);
        let end = self.bars.iter().map(|bar| bar.end).max().unwrap_or(start);
        (start, end)
    }

    fn layout(&self, rows: &[Row], screen: &Screen) -> Layout {
        let (start, end) = self.bounds();
        let fixed = 2 + 2 + DURATION_COLUMNS + 2 + 2 + DURATION_COLUMNS + 1;
        let widest = rows.iter().map(|row| self.name_columns(row)).max().unwrap_or(0);
        let room = screen.width.saturating_sub(fixed + MIN_BAR_CELLS).max(20);
        let name = widest.min(room).min((screen.width / 2).max(20));
        let cells = screen.width.saturating_sub(fixed + name).max(MIN_BAR_CELLS);
        Layout { start, length: (end - start).max(1), name, cells }
    }

    fn name_columns(&self, row: &Row) -> usize {
        let bar = &self.bars[row.bar];
        text::columns(&row.prefix) + text::columns(&bar.service) + 1 + text::columns(&bar.operation)
    }

    fn write_header(&self, screen: &Screen, out: &mut dyn Write) -> io::Result<()> {
        let (start, end) = self.bounds();
        let errors = self.bars.iter().filter(|bar| bar.error).count() as u64;
        let services: HashSet<&str> = self.bars.iter().map(|bar| bar.service.as_str()).collect();
        let title = format!("Trace {}", text::harmless(&self.trace_id));
        let mut facts = vec![
            NanoDuration(end - start).to_string(),
            text::counted(self.bars.len() as u64, "span"),
            text::counted(services.len() as u64, "service"),
        ];
        if errors > 0 {
            facts.push(text::counted(errors, "error"));
        }
        facts.push(format!("{} UTC", text::instant(start)));
        facts.push(text::ago(start, screen.now_unix_nanos));
        writeln!(out, "\n  {}", screen.ink(Ink::Title, &title))?;
        writeln!(out, "  {}", screen.ink(Ink::Faint, &facts.join(" · ")))?;
        for note in self.notes() {
            writeln!(out, "  {}", screen.ink(Ink::Warn, &format!("! {note}")))?;
        }
        writeln!(out)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.open {
            notes.push("still open: more spans may come".to_owned());
        }
        if self.incomplete {
            notes.push("the server could not give all of it".to_owned());
        }
        if self.missing_parents > 0 {
            let missing = text::counted(self.missing_parents as u64, "span");
            notes.push(format!("the parent of {missing} has not arrived"));
        }
        match &self.critical_path {
            None => notes.push("no critical path: the root has not arrived".to_owned()),
            Some(path) if path.truncated => {
                notes.push("the path has more segments than are drawn; the sums are exact".to_owned());
            }
            Some(_) => {}
        }
        notes
    }

    /// A line of ticks: the start, the quarters and the end.
    fn write_axis(&self, layout: &Layout, screen: &Screen, out: &mut dyn Write) -> io::Result<()> {
        let ticks = if layout.cells >= 48 { 4 } else { 2 };
        let mut line = String::new();
        for tick in 0..ticks {
            let label = NanoDuration(layout.length / ticks as u64 * tick as u64);
            let from = layout.cells * tick / ticks;
            let to = layout.cells * (tick + 1) / ticks;
            let label = if tick == 0 { "0".to_owned() } else { label.to_string() };
            line.push_str(&text::left(&label, to - from));
        }
        let before = " ".repeat(2 + 2 + layout.name + 2 + DURATION_COLUMNS + 2);
        let end = text::right("CRITICAL", DURATION_COLUMNS);
        writeln!(out, "{before}{}  {}", screen.ink(Ink::Faint, &line), screen.ink(Ink::Path, &end))
    }

    fn write_row(
        &self,
        row: &Row,
        layout: &Layout,
        path: &Path<'_>,
        screen: &Screen,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let bar = &self.bars[row.bar];
        let exclusive = path.exclusive.get(bar.span_id.as_str()).copied();
        let mark = if bar.error { "✗ " } else { "  " };
        let duration = text::right(&NanoDuration(bar.end - bar.start).to_string(), DURATION_COLUMNS);
        let duration_ink = if exclusive.is_some() { Ink::Strong } else { Ink::Plain };
        let own = exclusive.map(|ns| text::right(&NanoDuration(ns).to_string(), DURATION_COLUMNS));
        let line = format!(
            "  {}{}  {}  {}  {}",
            screen.ink(Ink::Error, mark),
            name(row, bar, layout.name, screen),
            screen.ink(duration_ink, &duration),
            draw(bar, layout, path, screen),
            screen.ink(Ink::Path, &own.unwrap_or_default()),
        );
        writeln!(out, "{}", line.trim_end())?;
        if bar.error && !bar.message.is_empty() {
            let room = screen.width.saturating_sub(6 + text::columns(&row.prefix));
            let indent = " ".repeat(4 + text::columns(&row.prefix));
            let message = text::cut(&text::harmless(&bar.message), room);
            writeln!(out, "{indent}{}", screen.ink(Ink::Error, &message))?;
        }
        Ok(())
    }

    fn write_hidden(&self, rows: &[Row], screen: &Screen, out: &mut dyn Write) -> io::Result<()> {
        let hidden = self.bars.len() - rows.len();
        if hidden == 0 {
            return Ok(());
        }
        let shown: HashSet<usize> = rows.iter().map(|row| row.bar).collect();
        let errors = self.bars.iter().enumerate().filter(|(i, bar)| bar.error && !shown.contains(i)).count();
        let mut note = format!("… {} not shown", text::counted(hidden as u64, "span"));
        if errors > 0 {
            note.push_str(&format!(", {} of them with errors", text::grouped(errors as u64)));
        }
        note.push_str("; the longest on the critical path come first (--max-spans N for more)");
        writeln!(out, "    {}", screen.ink(Ink::Warn, &note))
    }

    fn write_by_service(&self, screen: &Screen, out: &mut dyn Write) -> io::Result<()> {
        let Some(path) = self.critical_path.as_ref().filter(|path| !path.by_service.is_empty()) else {
            return Ok(());
        };
        let root = path.root.clone().unwrap_or_default();
        let of = text::harmless(&format!("{} {}", root.service, root.operation));
        let total = NanoDuration(path.duration_nanos);
        writeln!(out, "\n  {}", screen.ink(Ink::Title, &format!("Critical path of {of}, {total}")))?;
        let names: Vec<String> = path.by_service.iter().map(owner).collect();
        let width = names.iter().map(|name| text::columns(name)).max().unwrap_or(0).min(48);
        for (service, name) in path.by_service.iter().zip(&names) {
            let name = text::left(&text::harmless(name), width);
            writeln!(
                out,
                "  {}  {}  {}  {}",
                screen.ink(Screen::service(&service.service), &name),
                text::right(&NanoDuration(service.exclusive_nanos).to_string(), DURATION_COLUMNS),
                text::right(&text::percent(service.share), 7),
                screen.ink(Ink::Path, Screen::bar(service.share, 30).trim_end()),
            )?;
        }
        if !path.flags.is_empty() {
            let flags = text::harmless(&path.flags.join(", "));
            writeln!(out, "  {}", screen.ink(Ink::Faint, &format!("flags: {flags}")))?;
        }
        let (path, running) = (screen.ink(Ink::Path, "█"), screen.ink(Ink::Faint, "░"));
        writeln!(out, "\n  {path} on the critical path   {running} running, not waited for alone   ✗ error")
    }
}

/// Tree, service and operation in exactly `width` columns.
fn name(row: &Row, bar: &Bar, width: usize, screen: &Screen) -> String {
    let service = text::harmless(&bar.service);
    let operation = format!(" {}", text::harmless(&bar.operation));
    let tree = text::cut(&row.prefix, width);
    let room = width - text::columns(&tree);
    let service = text::cut(&service, room);
    let operation = text::left(&operation, room - text::columns(&service));
    let service_ink = Screen::service(&bar.service);
    screen.ink(Ink::Faint, &tree) + &screen.ink(service_ink, &service) + &screen.ink(Ink::Plain, &operation)
}

/// The bar: `░` where the span ran, `█` where the trace waited for it alone.
fn draw(bar: &Bar, layout: &Layout, path: &Path<'_>, screen: &Screen) -> String {
    let mut cells = vec![' '; layout.cells];
    let (first, end) = layout.cells(bar.start, bar.end);
    cells[first..end].fill('░');
    for segment in path.segments.get(bar.span_id.as_str()).into_iter().flatten() {
        let (from, to) = layout.cells(segment.start_unix_nano, segment.end_unix_nano);
        cells[from..to].fill('█');
    }
    let light = if bar.error { Ink::Error } else { Screen::service(&bar.service) };
    let mut drawn = String::new();
    for run in cells.chunk_by(|a, b| a == b) {
        let ink = if run[0] == '█' { Ink::Path } else { light };
        drawn.push_str(&screen.ink(ink, &run.iter().collect::<String>()));
    }
    drawn
}

#[cfg(test)]
#[path = "waterfall_tests.rs"]
mod tests;

/// Whose time it is: a service's, or that of the way between two.
fn owner(share: &PathService) -> String {
    match &share.edge {
        Some(edge) => format!("{} → {} (on the way)", edge.client, edge.server),
        None => share.service.clone(),
    }
}
