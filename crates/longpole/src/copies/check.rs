//! Verifies everything that is stored, and says what is wrong by segment and by frame.

use std::io::Write;
use std::path::Path;

use otlp_wire::WireLimits;
use query::NameTable;
use span_store::{FrameError, Inspection, StoreError};

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

    /// Adds what is wrong with one file: what its values say, and the first block that is not as it was written. Values
    /// tell such a block in the store's words, and one block is one problem, however many values lie in it.
    fn add(&mut self, of: &str, found: Vec<String>, block: Option<StoreError>) {
        let block = block.map(|error| error.to_string());
        let words = block.as_deref().map(|text| text.trim_start_matches("rocksdb: "));
        let is_of_block = |problem: &String| words.is_some_and(|words| problem.contains(words));
        let named = found.iter().position(is_of_block);
        let counts = |(at, problem): &(usize, String)| !is_of_block(problem) || named == Some(*at);
        let told = found.into_iter().enumerate().filter(counts).map(|(_, problem)| problem);
        let unnamed = block.clone().filter(|_| named.is_none());
        self.problems.extend(told.chain(unnamed).map(|problem| format!("{of}: {problem}")));
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
        let found = segment::problems(&stored.handle);
        report.add(&of, found, store.read_all(&stored.handle).err());
    }
    for stored in store.take_rollups() {
        let of = format!("rollup {}", stored.handle.number());
        report.rollups += 1;
        let checked = rollup::check(&stored);
        report.rolled_spans += checked.spans;
        report.add(&of, checked.problems, store.read_all_of_rollup(&stored.handle).err());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(found: &[&str], block: Option<StoreError>) -> Vec<String> {
        let mut report = Report::default();
        report.add("segment 3", found.iter().map(|&text| text.to_owned()).collect(), block);
        report.problems
    }

    #[test]
    fn one_damaged_block_is_one_problem() {
        let words = "Corruption: block checksum mismatch in 000012.sst offset 16384";
        // Any error of the store with such words; only RocksDB makes its own.
        let block = || Some(StoreError::Catalog { file: words.to_owned(), reason: String::new() });
        let said = block().unwrap().to_string();
        let (first, second) = (format!("chunk block 2: {said}"), format!("row block 0: {said}"));
        assert_eq!(
            problems(&[&first, "rows: 7", &second], block()),
            [format!("segment 3: {first}"), "segment 3: rows: 7".to_owned()]
        );
        assert_eq!(problems(&["rows: 7"], block()), ["segment 3: rows: 7", &format!("segment 3: {said}")]);
        assert_eq!(problems(&["rows: 7"], None), ["segment 3: rows: 7"]);
        assert_eq!(problems(&[], None), Vec::<String>::new());
    }
}
