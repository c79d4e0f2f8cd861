//! Verifies everything that is stored, and says what is wrong by segment and by frame.

use std::io::Write;
use std::path::Path;

use otlp_wire::WireLimits;
use query::NameTable;
use span_store::{FrameError, Inspection};

use super::{rollup, segment};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    segments: u64,
    sealed_spans: u64,
    rollups: u64,
    rolled_spans: u64,
    frames: u64,
    log_spans: u64,
    problems: Vec<String>,
}

impl Report {
    /// Whether nothing is wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// A line a problem, then what was read.
    pub(crate) fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        for problem in &self.problems {
            writeln!(out, "{problem}")?;
        }
        writeln!(
            out,
            "{} segments with {} spans, {} rollups of {} spans and {} log frames with {} spans read, {} problems",
            self.segments,
            self.sealed_spans,
            self.rollups,
            self.rolled_spans,
            self.frames,
            self.log_spans,
            self.problems.len()
        )
    }
}

/// Reads a whole store, also beside a server. What such a server drops meanwhile is not a problem.
pub(crate) fn check(dir: &Path) -> anyhow::Result<Report> {
    let (store, segments, damaged) = Inspection::open(dir)?;
    let mut report = Report { problems: damaged, ..Report::default() };
    for stored in &segments {
        let of = format!("segment {} in {}", stored.handle.id().0, stored.handle.partition_name());
        report.segments += 1;
        report.sealed_spans += stored.meta.spans;
        if let Err(error) = store.read_all(&stored.handle) {
            report.problems.push(format!("{of}: {error}"));
        }
        let found = segment::problems(&stored.handle);
        report.problems.extend(found.into_iter().map(|problem| format!("{of}: {problem}")));
    }
    for stored in store.take_rollups() {
        let of = format!("rollup {}", stored.handle.number());
        report.rollups += 1;
        if let Err(error) = store.read_all_of_rollup(&stored.handle) {
            report.problems.push(format!("{of}: {error}"));
        }
        let checked = rollup::check(&stored);
        report.rolled_spans += checked.spans;
        report.problems.extend(checked.problems.into_iter().map(|problem| format!("{of}: {problem}")));
    }
    read_log(&store, &mut report)?;
    Ok(report)
}

fn read_log(store: &Inspection, report: &mut Report) -> anyhow::Result<()> {
    let names = NameTable::default();
    let mut missing: Option<(u64, u64)> = None;
    store.frames(&mut |read| {
        let frame = match read.frame {
            Ok(frame) => frame,
            Err(FrameError::Lost) => {
                let first = missing.map_or(read.seq, |(first, _)| first);
                missing = Some((first, read.seq));
                return true;
            }
            Err(error) => {
                report.problems.push(format!("log frame {}: {error}", read.seq));
                return true;
            }
        };
        tell_missing(&mut missing, report);
        report.frames += 1;
        for request in frame.requests {
            match ingest::prepare(request, &names, &WireLimits::STORED) {
                Ok(prepared) => report.log_spans += prepared.batch.rows.len() as u64,
                Err(error) => report.problems.push(format!("log frame {}: {error}", read.seq)),
            }
        }
        true
    })?;
    tell_missing(&mut missing, report);
    Ok(())
}

fn tell_missing(missing: &mut Option<(u64, u64)>, report: &mut Report) {
    let Some((first, last)) = missing.take() else { return };
    report.problems.push(if first == last {
        format!("log frame {first}: it had been written and is lost")
    } else {
        format!("log frames {first} to {last}: they had been written and are lost")
    });
}
