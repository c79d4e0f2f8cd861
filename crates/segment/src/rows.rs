//! Row blocks: one row a span, sorted by service and falling duration, so that reading on is reading "next
//! slowest".

use trace_model::{NanoDuration, StatusCode, UnixNanos};

use crate::codec::{Blocks, ReadError, after_mark, fetch, put};
use crate::columns::{ColumnReader, Streams, Unpacked, put_falling, put_packed};
use crate::keys::Key;
use crate::v1;

/// Rows of a block. A service begins a new block, so its slowest spans are one read away.
pub(crate) const ROWS_MAX: usize = 1024;

/// In the place of the number of rows, which is never 0: the number of bits that the starts are without comes next, and
/// then that number. Up to format 3 they had all bits.
const COARSE: u64 = 0;

/// Set in `flags` for a span without a parent.
pub const ROOT_FLAG: u8 = 1 << 2;

/// Of the starts of a block so many bits are kept, or one more. A start takes half of what a row takes otherwise, though it
/// is in the chunks, and here only says whether a row may be in a window and which of equally slow ones comes first.
const START_BITS: u32 = 12;

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
    let dropped = dropped_bits(rows.iter().map(|row| row.start));
    put(&mut streams.heads, COARSE);
    put(&mut streams.heads, u64::from(dropped));
    put(&mut streams.heads, rows.len() as u64);
    put(&mut streams.heads, rows.first().map_or(0, |row| row.duration));
    put_falling(streams, rows.iter().map(|row| row.duration));
    put_packed(streams, rows.iter().map(|row| row.start >> dropped));
    put_packed(streams, rows.iter().map(|row| row.trace.into()));
    put_packed(streams, rows.iter().map(|row| row.span.into()));
    put_packed(streams, rows.iter().map(|row| row.operation.into()));
    put_packed(streams, rows.iter().map(|row| row.flags.into()));
}

/// How many of the lowest bits of these starts are not kept.
fn dropped_bits(starts: impl Iterator<Item = u64> + Clone) -> u32 {
    let (first, last) = (starts.clone().min().unwrap_or(0), starts.max().unwrap_or(0));
    (u64::BITS - (last - first).leading_zeros()).saturating_sub(START_BITS)
}

/// A decoded block of span rows, by falling duration.
#[derive(Debug)]
pub struct RowBlock {
    /// Durations, falling.
    pub durations: Vec<NanoDuration>,
    /// Starts, without their lowest bits.
    pub(crate) starts: Vec<u64>,
    /// How many bits these are.
    pub(crate) dropped: u32,
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
        let (mut count, mut dropped) = (columns.count(ROWS_MAX)?, 0);
        if count as u64 == COARSE {
            dropped = columns.number()?;
            count = columns.count(ROWS_MAX)?;
        }
        let longest = columns.number()?;
        let durations = columns.falling(longest, count)?.into_iter().map(NanoDuration).collect();
        let starts = columns.packed(count)?;
        let dropped = u32::try_from(dropped).unwrap_or(u64::BITS);
        if starts.iter().any(|start| u64::MAX.checked_shr(dropped).is_none_or(|most| *start > most)) {
            return Err(ReadError::Damaged("row block"));
        }
        let (traces, spans) = (columns.packed_u32(count)?, columns.packed_u32(count)?);
        let operations = columns.packed_u32(count)?;
        let flags = columns.packed(count)?.into_iter().map(|flags| flags as u8).collect();
        columns.finish()?;
        Ok(Self { durations, starts, dropped, traces, spans, operations, flags })
    }

    /// Rows in this block.
    pub fn len(&self) -> usize {
        self.durations.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.durations.is_empty()
    }

    /// The earliest and the latest at which the span of a row may have started; it did between them. They are the same up
    /// to format 3, and where all starts of the block are within 4 microseconds.
    pub fn start_between(&self, row: usize) -> (UnixNanos, UnixNanos) {
        let earliest = self.starts[row] << self.dropped;
        (UnixNanos(earliest), UnixNanos(earliest | !(u64::MAX << self.dropped)))
    }

    /// The status of a row.
    pub fn status(&self, row: usize) -> StatusCode {
        StatusCode::from_wire(u64::from(self.flags[row] & 3))
    }
}
