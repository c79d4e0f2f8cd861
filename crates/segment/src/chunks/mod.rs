//! Chunk blocks: traces in the order of their ids.
//!
//! Since format 2 a block is columns of some thousand spans: what varies in them lies together by kind of call
//! (`shape.rs`), in as few bits as it takes (`columns`, `texts.rs`), and what many share lies once in the
//! segment (`values.rs`). A trace of more spans than a block takes goes on in the next one. Format 1 had whole
//! messages (`v1.rs`); a block says itself which it is.

mod block;
mod writer;

use std::sync::Arc;

use trace_model::{TraceId, UnixNanos};

use crate::codec::{Blocks, ReadError, after_mark, fetch};
use crate::keys::Key;
use crate::v1;
use crate::values::ChunkTables;

pub(crate) use writer::ChunkWriter;

/// A block with this many spans ends at the next trace.
const BLOCK_SPANS: usize = 2_048;
/// A block ends within a trace when it has this many spans.
const SPANS_MAX: usize = 4_096;
/// Or this many bytes of messages; half of it ends it at the next trace.
const BLOCK_BYTES: usize = 2 << 20;

/// Codes of the column of parents: none; one that is not in the block; above, how many spans back it is.
const NO_PARENT: u64 = 0;
const EXTERNAL: u64 = 1;
/// The number of the shape of spans that are kept as they are.
const RAW_SHAPE: u32 = 0;

/// A span out of a chunk block.
#[derive(Debug, Clone)]
pub struct ChunkSpan {
    /// Number of its context within the segment, unless it has its own.
    pub context: u32,
    /// The bytes of its context, where the segment had more contexts than it numbers, or this one was too long. Spans of a
    /// trace that follow each other share them.
    pub own_context: Option<Arc<[u8]>>,
    /// The message, as the client sent it.
    pub message: Vec<u8>,
}

/// A chunk block, ready to give out traces.
#[derive(Debug)]
pub struct ChunkBlock(Inner);

#[derive(Debug)]
enum Inner {
    Messages(v1::MessageBlock),
    Columns(Box<block::ColumnBlock>),
}

impl ChunkBlock {
    /// Reads a block and the tables it points to.
    ///
    /// # Errors
    /// If the store fails or the block is damaged.
    pub fn read(blocks: &dyn Blocks, number: u32) -> Result<Self, ReadError> {
        Self::read_with(blocks, number, || ChunkTables::read(blocks))
    }

    /// Reads a block; `tables` gives those of its segment, if it needs them.
    ///
    /// # Errors
    /// If the store fails, the block is damaged, or `tables` fails.
    pub fn read_with(
        blocks: &dyn Blocks,
        number: u32,
        tables: impl FnOnce() -> Result<Arc<ChunkTables>, ReadError>,
    ) -> Result<Self, ReadError> {
        let stored = fetch(blocks, Key::Chunk(number))?;
        if after_mark(&stored).is_none() {
            return Ok(Self(Inner::Messages(v1::MessageBlock::read(&stored)?)));
        }
        let block = block::ColumnBlock::read(stored, blocks.dictionary(), tables()?)?;
        Ok(Self(Inner::Columns(Box::new(block))))
    }

    /// The spans of a trace in this block, in start order; empty if it is not here.
    ///
    /// # Errors
    /// If the block is damaged.
    pub fn spans(&self, wanted: &TraceId) -> Result<Vec<ChunkSpan>, ReadError> {
        match &self.0 {
            Inner::Messages(block) => block.spans(wanted),
            Inner::Columns(block) => block.spans(wanted),
        }
    }

    /// The earliest and the latest start of a trace's spans in this block, or more than that; `None` if it is not here.
    pub fn starts(&self, wanted: &TraceId) -> Option<(UnixNanos, UnixNanos)> {
        match &self.0 {
            Inner::Messages(_) => Some((UnixNanos(0), UnixNanos(u64::MAX))),
            Inner::Columns(block) => block.starts(wanted),
        }
    }

    /// The spans of a trace whose start and id are `among` those wanted, and maybe others of it.
    ///
    /// # Errors
    /// If the block is damaged.
    pub fn spans_among(
        &self,
        wanted: &TraceId,
        among: &dyn Fn(UnixNanos, &[u8]) -> bool,
    ) -> Result<Vec<ChunkSpan>, ReadError> {
        match &self.0 {
            Inner::Messages(block) => block.spans(wanted),
            Inner::Columns(block) => block.spans_among(wanted, among),
        }
    }

    /// The ids of its traces, in order.
    ///
    /// # Errors
    /// If the block is damaged.
    pub fn trace_ids(&self) -> Result<Vec<TraceId>, ReadError> {
        match &self.0 {
            Inner::Messages(block) => block.trace_ids(),
            Inner::Columns(block) => Ok(block.trace_ids()),
        }
    }

    /// Bytes of memory, without the tables.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Inner::Messages(block) => block.bytes(),
            Inner::Columns(block) => block.bytes(),
        }
    }

    /// The id of the `nth` trace of this block.
    ///
    /// # Errors
    /// If the block is damaged or has fewer traces.
    pub fn trace_at(&self, nth: u32) -> Result<TraceId, ReadError> {
        match &self.0 {
            Inner::Messages(block) => block.trace_at(nth),
            Inner::Columns(block) => block.trace_at(nth),
        }
    }
}
