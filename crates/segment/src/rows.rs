//! Row blocks: one row a span, sorted by service and falling duration, so that reading on is reading "next
//! slowest". Columns one after the other, then compressed.

use trace_model::{NanoDuration, StatusCode, UnixNanos};

use crate::codec::{Blocks, Cursor, ReadError, fetch, put, unpack};
use crate::keys::Key;

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
}

pub(crate) fn write_block(rows: &[Row]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len() * 20);
    let start_min = rows.iter().map(|row| row.start).min().unwrap_or(0);
    put(&mut out, rows.len() as u64);
    put(&mut out, start_min);
    let mut previous = rows.first().map_or(0, |row| row.duration);
    put(&mut out, previous);
    for row in rows {
        put(&mut out, previous - row.duration);
        previous = row.duration;
    }
    rows.iter().for_each(|row| put(&mut out, row.start - start_min));
    rows.iter().for_each(|row| put(&mut out, u64::from(row.trace)));
    rows.iter().for_each(|row| put(&mut out, u64::from(row.span)));
    rows.iter().for_each(|row| put(&mut out, u64::from(row.operation)));
    out.extend(rows.iter().map(|row| row.flags));
    out
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
        let raw = unpack(&fetch(blocks, Key::Rows(number))?, "row block")?;
        let mut cursor = Cursor::new(&raw, "row block");
        let count = cursor.count()?;
        let start_min = cursor.u64()?;
        let mut duration = cursor.u64()?;
        let mut durations = Vec::with_capacity(count);
        for _ in 0..count {
            duration = duration.checked_sub(cursor.u64()?).ok_or(cursor.damaged())?;
            durations.push(NanoDuration(duration));
        }
        let mut starts = Vec::with_capacity(count);
        for _ in 0..count {
            starts.push(UnixNanos(start_min.saturating_add(cursor.u64()?)));
        }
        let mut numbers = || (0..count).map(|_| cursor.u32()).collect::<Result<Vec<_>, _>>();
        let (traces, spans, operations) = (numbers()?, numbers()?, numbers()?);
        let flags = cursor.bytes(count)?.to_vec();
        cursor.end()?;
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
