//! Row blocks: one row a span, sorted by service and falling duration, so that reading on is reading "next
//! slowest".

use trace_model::{NanoDuration, StatusCode, UnixNanos};

use crate::codec::{Blocks, ReadError, after_mark, fetch, put};
use crate::columns::{ColumnReader, Streams, Unpacked, put_falling, put_packed};
use crate::keys::Key;
use crate::v1;

/// Rows of a block. A service begins a new block, so its slowest spans are one read away.
pub(crate) const ROWS_MAX: usize = 1024;

/// Set in `flags` for a span without a parent.
pub const ROOT_FLAG: u8 = 1 << 2;

/// A row as it is written; numbers are the segment's own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) service: u32,
    pub(crate) duration: u64,
    pub(crate) start: u64,
    pub(crate) trace: u32,
    pub(crate) span: u32,
    pub(crate) operation: u32,
    /// Status in the two lowest bits, then [`ROOT_FLAG`].
    pub(crate) flags: u8,
    /// Its place in the order of traces; not stored.
    pub(crate) place: u32,
}

/// Writes the columns of rows that are sorted by falling duration.
pub(crate) fn write_block(rows: &[Row], streams: &mut Streams) {
    streams.clear();
    put(&mut streams.heads, rows.len() as u64);
    put(&mut streams.heads, rows.first().map_or(0, |row| row.duration));
    put_falling(streams, rows.iter().map(|row| row.duration));
    put_packed(streams, rows.iter().map(|row| row.start));
    put_packed(streams, rows.iter().map(|row| row.trace.into()));
    put_packed(streams, rows.iter().map(|row| row.span.into()));
    put_packed(streams, rows.iter().map(|row| row.operation.into()));
    put_packed(streams, rows.iter().map(|row| row.flags.into()));
}

/// A decoded block of span rows, by falling duration.
#[derive(Debug)]
pub struct RowBlock {
    /// Durations, falling.
    pub durations: Vec<NanoDuration>,
    /// Starts.
    pub starts: Vec<UnixNanos>,
    /// Number of the trace within the segment.
    pub traces: Vec<u32>,
    /// Number of the span within its trace, in start order.
    pub spans: Vec<u32>,
    /// Number of the operation within the segment.
    pub operations: Vec<u32>,
    /// Status and [`ROOT_FLAG`].
    pub flags: Vec<u8>,
}

impl RowBlock {
    /// Reads a block.
    ///
    /// # Errors
    /// If the store fails or the block is damaged.
    pub fn read(blocks: &dyn Blocks, number: u32) -> Result<Self, ReadError> {
        let stored = fetch(blocks, Key::Rows(number))?;
        let Some(marked) = after_mark(&stored) else { return v1::read_rows(&stored) };
        let unpacked = Unpacked::read(marked, "row block")?;
        let mut columns = ColumnReader::new(&unpacked, "row block");
        let count = columns.count(ROWS_MAX)?;
        let longest = columns.number()?;
        let durations = columns.falling(longest, count)?.into_iter().map(NanoDuration).collect();
        let starts = columns.packed(count)?.into_iter().map(UnixNanos).collect();
        let (traces, spans) = (columns.packed_u32(count)?, columns.packed_u32(count)?);
        let operations = columns.packed_u32(count)?;
        let flags = columns.packed(count)?.into_iter().map(|flags| flags as u8).collect();
        columns.finish()?;
        Ok(Self { durations, starts, traces, spans, operations, flags })
    }

    /// Rows in this block.
    pub fn len(&self) -> usize {
        self.durations.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.durations.is_empty()
    }

    /// The status of a row.
    pub fn status(&self, row: usize) -> StatusCode {
        StatusCode::from_wire(u64::from(self.flags[row] & 3))
    }
}
