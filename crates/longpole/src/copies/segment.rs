//! Verifies one segment: every value decodes, and what they say of each other agrees.

use hashbrown::HashMap;
use segment::{
    Blocks, ChunkBlock, ContextBlock, Key, ReadError, RowBlock, SegmentMeta, TraceHeads, TracePaths,
    decode_minute, open_numbers, trace_hash, trace_hashes,
};
use span_store::{SegmentHandle, decode_meta};

/// Problems told of one segment at most; a damaged one may have one a block.
const PROBLEMS_MAX: usize = 20;

/// What is wrong with a segment; empty if nothing is.
pub(super) fn problems(handle: &SegmentHandle) -> Vec<String> {
    let meta = match meta(handle) {
        Ok(meta) => meta,
        Err(error) => return vec![error.to_string()],
    };
    let mut check = Check { blocks: handle, meta: &meta, problems: Vec::new(), contexts: HashMap::new() };
    check.chunks();
    check.rows();
    check.analyses();
    check.histograms();
    if let Err(error) = open_numbers(check.blocks) {
        check.problem(error.to_string());
    }
    check.problems
}

fn meta(handle: &SegmentHandle) -> Result<SegmentMeta, ReadError> {
    decode_meta(&handle.get(Key::Meta)?.ok_or(ReadError::Missing(Key::Meta))?)
}

struct Check<'a> {
    blocks: &'a dyn Blocks,
    meta: &'a SegmentMeta,
    problems: Vec<String>,
    contexts: HashMap<u32, Result<ContextBlock, String>>,
}

impl Check<'_> {
    fn problem(&mut self, text: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(text);
        }
    }

    /// Keeps what was read, and tells what could not be.
    fn kept<T>(&mut self, what: &str, read: Result<T, ReadError>) -> Option<T> {
        read.map_err(|error| self.problem(format!("{what}: {error}"))).ok()
    }

    fn agree(&mut self, what: &str, found: u64, said: u64) {
        if found != said {
            self.problem(format!("{what} {found}, its meta says {said}"));
        }
    }

    fn chunks(&mut self) {
        let hashes = trace_hashes(self.blocks, self.meta.chunk_first_trace.len() as u32);
        let hashes = self.kept("trace hashes", hashes);
        if let Some(hashes) = &hashes {
            self.agree("trace hashes:", hashes.len() as u64, self.meta.traces);
        }
        let (mut spans, mut whole) = (0, true);
        let firsts = self.meta.chunk_first_trace.clone();
        for (number, &first) in firsts.iter().enumerate() {
            let what = format!("chunk block {number}");
            let block = ChunkBlock::read(self.blocks, number as u32);
            let Some(block) = self.kept(&what, block) else {
                whole = false;
                continue;
            };
            let next = firsts.get(number + 1).map_or(self.meta.traces, |&next| u64::from(next));
            for nth in 0..next.saturating_sub(u64::from(first)) {
                match self.trace(&block, nth as u32, hashes.as_deref()) {
                    Ok(count) => spans += count,
                    Err(problem) => {
                        self.problem(format!("{what}: {problem}"));
                        whole = false;
                        break;
                    }
                }
            }
        }
        if whole {
            self.agree("spans in chunk blocks:", spans, self.meta.spans);
        }
    }

    /// The spans of one trace of a block.
    fn trace(&mut self, block: &ChunkBlock, nth: u32, hashes: Option<&[u32]>) -> Result<u64, String> {
        let id = block.trace_at(nth).map_err(|error| error.to_string())?;
        if hashes.is_some_and(|hashes| hashes.binary_search(&trace_hash(&id)).is_err()) {
            return Err(format!("the trace hashes do not list trace {id}"));
        }
        let spans = block.spans(&id).map_err(|error| error.to_string())?;
        for span in &spans {
            let number = ContextBlock::number_of(span.context);
            let blocks = self.blocks;
            let context = self
                .contexts
                .entry(number)
                .or_insert_with(|| ContextBlock::read(blocks, number).map_err(|error| error.to_string()));
            let context = context.as_ref().map_err(|error| format!("context block {number}: {error}"))?;
            context.get(span.context).map_err(|error| format!("context {}: {error}", span.context))?;
        }
        Ok(spans.len() as u64)
    }

    fn rows(&mut self) {
        let (mut rows, mut whole) = (0, true);
        for (number, said) in self.meta.row_blocks.iter().enumerate() {
            let what = format!("row block {number}");
            let block = RowBlock::read(self.blocks, number as u32);
            let Some(block) = self.kept(&what, block) else {
                whole = false;
                continue;
            };
            self.agree(&format!("rows in {what}:"), block.len() as u64, u64::from(said.rows));
            rows += block.len() as u64;
        }
        if whole {
            self.agree("rows:", rows, self.meta.spans);
        }
    }

    fn analyses(&mut self) {
        for (number, said) in self.meta.trace_blocks.iter().enumerate() {
            let heads = TraceHeads::read(self.blocks, number as u32);
            if let Some(heads) = self.kept(&format!("head block {number}"), heads) {
                self.agree(
                    &format!("rows in head block {number}:"),
                    heads.rows.len() as u64,
                    said.rows.into(),
                );
            }
            let paths = TracePaths::read(self.blocks, number as u32);
            if let Some(paths) = self.kept(&format!("path block {number}"), paths) {
                self.agree(&format!("rows in path block {number}:"), paths.traces() as u64, said.rows.into());
            }
        }
    }

    fn histograms(&mut self) {
        let (mut counted, mut whole) = (0, true);
        for &minute in &self.meta.minutes {
            let rows = decode_minute(self.blocks, minute, &|_, _| true);
            match self.kept(&format!("histograms of minute {minute}"), rows) {
                Some(rows) => counted += rows.iter().map(|row| row.histogram.count()).sum::<u64>(),
                None => whole = false,
            }
        }
        if whole {
            self.agree("spans in histograms:", counted, self.meta.spans);
        }
    }
}
