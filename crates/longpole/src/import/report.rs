//! What an import came to.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Result, bail};

use super::send::Outcome;
use crate::client::Exit;

/// Bad lines that are kept with their reasons; the rest is counted.
const KEPT: usize = 100;
/// Bad lines that are printed.
const PRINTED: usize = 20;

/// A line (or a message of a protobuf file) that could not be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadLine {
    /// The file as it was named.
    pub(crate) file: PathBuf,
    /// Line, or message of a protobuf file, from 1.
    pub(crate) line: u64,
    /// What was wrong.
    pub(crate) reason: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.reason)
    }
}

/// What an import came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ImportReport {
    /// Requests that the server took.
    pub(crate) requests: u64,
    /// Spans in them that the server kept.
    pub(crate) spans: u64,
    /// Spans in them that the server rejected.
    pub(crate) rejected_spans: u64,
    /// The server's words on rejected spans, with the first place they were said about.
    pub(crate) rejections: Vec<BadLine>,
    /// The first bad lines, in the order they were met.
    pub(crate) bad_lines: Vec<BadLine>,
    /// How many bad lines there were.
    pub(crate) bad_line_count: u64,
    /// Files that could not be opened, and why.
    pub(crate) unopened: Vec<String>,
    /// How many of them are not there.
    pub(crate) absent_files: usize,
}

impl ImportReport {
    /// How the command ends: well if everything was imported, with [`Exit::NotFound`] if all that is wrong is that files
    /// are not there.
    pub(crate) fn exit(&self) -> Exit {
        let is_read = self.bad_line_count == 0 && self.rejected_spans == 0;
        match (is_read, self.unopened.len()) {
            (true, 0) => Exit::Ok,
            (true, unopened) if unopened == self.absent_files => Exit::NotFound,
            _ => Exit::Failure,
        }
    }

    /// Writes the report for people.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for bad in self.bad_lines.iter().take(PRINTED) {
            writeln!(out, "{bad}")?;
        }
        let unprinted = self.bad_line_count.saturating_sub(PRINTED as u64);
        if unprinted > 0 {
            writeln!(out, "… and {unprinted} more")?;
        }
        for file in &self.unopened {
            writeln!(out, "{file}")?;
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
        if !self.unopened.is_empty() {
            write!(out, ", {} files could not be opened", self.unopened.len())?;
        }
        writeln!(out)
    }
}

/// The report while it grows.
#[derive(Debug, Default)]
pub(super) struct Collected {
    report: ImportReport,
    given_up: Option<GivenUp>,
}

/// Why an import ends before the files do.
#[derive(Debug)]
enum GivenUp {
    /// The server stayed away.
    Lost(String),
    /// It was there and took nothing.
    Refused(String),
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
            Outcome::Unopened { file, error } => {
                report.absent_files += usize::from(error.kind() == io::ErrorKind::NotFound);
                report.unopened.push(format!("{}: {error}", file.display()));
            }
            Outcome::Lost(reason) => self.given_up = Some(GivenUp::Lost(reason)),
            Outcome::Refused(reason) => self.given_up = Some(GivenUp::Refused(reason)),
        }
    }

    /// Whether there is no use in going on.
    pub(super) fn has_given_up(&self) -> bool {
        self.given_up.is_some()
    }

    /// A few words for the progress bar.
    pub(super) fn progress(&self) -> String {
        format!("{} spans", self.report.spans)
    }

    /// The report, its bad lines by place.
    pub(super) fn finish(mut self, endpoint: &str) -> Result<ImportReport> {
        let sent = format!("after {} spans in {} requests", self.report.spans, self.report.requests);
        match self.given_up {
            Some(GivenUp::Lost(reason)) => bail!("lost the server at {endpoint} {sent}: {reason}"),
            Some(GivenUp::Refused(reason)) => {
                bail!("refused by the server at {endpoint} {sent}, for as long as it was asked: {reason}")
            }
            None => {}
        }
        self.report.bad_lines.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        self.report.rejections.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        Ok(self.report)
    }
}
