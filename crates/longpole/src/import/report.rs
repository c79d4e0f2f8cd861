//! What an import came to.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Result, bail};

use super::send::Outcome;

/// Bad lines that are kept with their reasons; the rest is counted.
const KEPT: usize = 100;
/// Bad lines that are printed.
const PRINTED: usize = 20;

/// A line (or a message of a protobuf file) that could not be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// The file as it was named.
    pub file: PathBuf,
    /// Line, or message of a protobuf file, from 1.
    pub line: u64,
    /// What was wrong.
    pub reason: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.reason)
    }
}

/// What an import came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Requests that the server took.
    pub requests: u64,
    /// Spans in them that the server kept.
    pub spans: u64,
    /// Spans in them that the server rejected.
    pub rejected_spans: u64,
    /// The server's words on rejected spans, with the first place they were said about.
    pub rejections: Vec<BadLine>,
    /// The first bad lines, in the order they were met.
    pub bad_lines: Vec<BadLine>,
    /// How many bad lines there were.
    pub bad_line_count: u64,
}

impl ImportReport {
    /// Whether everything was imported.
    pub const fn is_clean(&self) -> bool {
        self.bad_line_count == 0 && self.rejected_spans == 0
    }

    /// Writes the report for people.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for bad in self.bad_lines.iter().take(PRINTED) {
            writeln!(out, "{bad}")?;
        }
        let unprinted = self.bad_line_count.saturating_sub(PRINTED as u64);
        if unprinted > 0 {
            writeln!(out, "… and {unprinted} more")?;
        }
        for rejection in self.rejections.iter().take(PRINTED) {
            writeln!(out, "{rejection}")?;
        }
        write!(out, "imported {} spans in {} requests", self.spans, self.requests)?;
        if self.rejected_spans > 0 {
            write!(out, ", {} spans rejected by the server", self.rejected_spans)?;
        }
        if self.bad_line_count > 0 {
            write!(out, ", {} bad lines skipped", self.bad_line_count)?;
        }
        writeln!(out)
    }
}

/// The report while it grows.
#[derive(Debug, Default)]
pub(super) struct Collected {
    report: ImportReport,
    lost: Option<String>,
}

impl Collected {
    /// Adds what became of some requests.
    pub(super) fn add_all(&mut self, outcomes: Vec<Outcome>) {
        for outcome in outcomes {
            self.add(outcome);
        }
    }

    fn add(&mut self, outcome: Outcome) {
        let report = &mut self.report;
        match outcome {
            Outcome::Sent { spans, rejected, place, message } => {
                report.requests += 1;
                report.spans += spans.saturating_sub(rejected);
                report.rejected_spans += rejected;
                if rejected > 0 && report.rejections.len() < KEPT {
                    let reason = format!("{rejected} spans rejected: {message}");
                    report.rejections.push(BadLine { file: place.file, line: place.number, reason });
                }
            }
            Outcome::Bad { place, reason } => {
                report.bad_line_count += 1;
                if report.bad_lines.len() < KEPT {
                    report.bad_lines.push(BadLine { file: place.file, line: place.number, reason });
                }
            }
            Outcome::Lost(reason) => self.lost = Some(reason),
        }
    }

    /// Why to give up, if it is time to.
    pub(super) fn lost_server(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// A few words for the progress bar.
    pub(super) fn progress(&self) -> String {
        format!("{} spans", self.report.spans)
    }

    /// The report, its bad lines by place.
    pub(super) fn finish(mut self, endpoint: &str) -> Result<ImportReport> {
        if let Some(reason) = self.lost {
            let (spans, requests) = (self.report.spans, self.report.requests);
            bail!("lost the server at {endpoint} after {spans} spans in {requests} requests: {reason}");
        }
        self.report.bad_lines.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        self.report.rejections.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        Ok(self.report)
    }
}
