//! Reads the blocks of format 1, each of them one zstd frame.
//!
//! A chunk block was whole messages of whole traces, about 64 KiB, repeated to its end: trace id 16 bytes, varint
//! number of spans, then per span varint context, varint `len << 1 | id_kept`, and the span's message. If the
//! message began with `0A 10 <trace id>`, as encoders usually write it, these 18 bytes were left out and `id_kept`
//! is 0. Rows were columns of varints, heads and paths one varint after the other.

use trace_analyze::{Flags, PathShare};
use trace_model::{NanoDuration, OperationId, ServiceId, TraceId, UnixNanos};

use crate::chunks::ChunkSpan;
use crate::codec::{Cursor, ReadError, unpack};
use crate::rows::RowBlock;
use crate::traces::{TraceRow, TraceServiceCount};

/// `0A 10`: field 1, length-delimited, 16 bytes.
const ID_PREFIX: [u8; 2] = [0x0a, 0x10];

/// An inflated chunk block.
#[derive(Debug)]
pub(crate) struct MessageBlock {
    raw: Vec<u8>,
}

impl MessageBlock {
    pub(crate) fn read(stored: &[u8]) -> Result<Self, ReadError> {
        Ok(Self { raw: unpack(stored, None, "chunk block")? })
    }

    pub(crate) fn spans(&self, wanted: &TraceId) -> Result<Vec<ChunkSpan>, ReadError> {
        let mut cursor = Cursor::new(&self.raw, "chunk block");
        while !cursor.is_empty() {
            let (id, count) = trace_head(&mut cursor)?;
            if id == *wanted {
                return (0..count).map(|_| read_span(&mut cursor, &id)).collect();
            }
            skip_spans(&mut cursor, count)?;
        }
        Ok(Vec::new())
    }

    pub(crate) fn trace_ids(&self) -> Result<Vec<TraceId>, ReadError> {
        let mut cursor = Cursor::new(&self.raw, "chunk block");
        let mut ids = Vec::new();
        while !cursor.is_empty() {
            let (id, count) = trace_head(&mut cursor)?;
            skip_spans(&mut cursor, count)?;
            ids.push(id);
        }
        Ok(ids)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.raw.len()
    }

    pub(crate) fn trace_at(&self, nth: u32) -> Result<TraceId, ReadError> {
        let mut cursor = Cursor::new(&self.raw, "chunk block");
        for _ in 0..nth {
            let (_, count) = trace_head(&mut cursor)?;
            skip_spans(&mut cursor, count)?;
        }
        Ok(trace_head(&mut cursor)?.0)
    }
}

fn trace_head(cursor: &mut Cursor<'_>) -> Result<(TraceId, usize), ReadError> {
    let id = TraceId::new(cursor.array()?).map_err(|_| cursor.damaged())?;
    Ok((id, cursor.count()?))
}

fn skip_spans(cursor: &mut Cursor<'_>, count: usize) -> Result<(), ReadError> {
    for _ in 0..count {
        cursor.u64()?;
        let len = (cursor.u64()? >> 1) as usize;
        cursor.bytes(len)?;
    }
    Ok(())
}

fn read_span(cursor: &mut Cursor<'_>, id: &TraceId) -> Result<ChunkSpan, ReadError> {
    let context = cursor.u32()?;
    let head = cursor.u64()?;
    let bytes = cursor.bytes((head >> 1) as usize)?;
    let mut message = Vec::with_capacity(bytes.len() + 18);
    if head & 1 == 0 {
        message.extend_from_slice(&ID_PREFIX);
        message.extend_from_slice(id.as_bytes());
    }
    message.extend_from_slice(bytes);
    Ok(ChunkSpan { context, own_context: None, message })
}

pub(crate) fn read_rows(stored: &[u8]) -> Result<RowBlock, ReadError> {
    let raw = unpack(stored, None, "row block")?;
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
        starts.push(start_min.saturating_add(cursor.u64()?));
    }
    let mut numbers = || (0..count).map(|_| cursor.u32()).collect::<Result<Vec<_>, _>>();
    let (traces, spans, operations) = (numbers()?, numbers()?, numbers()?);
    let flags = cursor.bytes(count)?.to_vec();
    cursor.end()?;
    Ok(RowBlock { durations, starts, dropped: 0, traces, spans, operations, flags })
}

pub(crate) fn read_heads(stored: &[u8]) -> Result<Vec<TraceRow>, ReadError> {
    let raw = unpack(stored, None, "trace block")?;
    let mut cursor = Cursor::new(&raw, "trace block");
    let rows = (0..cursor.count()?).map(|_| read_head(&mut cursor)).collect::<Result<_, _>>()?;
    cursor.end()?;
    Ok(rows)
}

fn read_head(cursor: &mut Cursor<'_>) -> Result<TraceRow, ReadError> {
    let trace_id = TraceId::new(cursor.array()?).map_err(|_| cursor.damaged())?;
    let start = UnixNanos(cursor.u64()?);
    let duration = NanoDuration(cursor.u64()?);
    let root = cursor.u32()?.checked_sub(1).map(OperationId);
    let root_duration = NanoDuration(cursor.u64()?);
    let (spans, errors, missing_parents) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
    let flags = Flags::from_bits(cursor.u32()?);
    let revised = cursor.u32()? != 0;
    let services = (0..cursor.count()?)
        .map(|_| {
            Ok(TraceServiceCount {
                service: ServiceId(cursor.u32()?),
                spans: cursor.u32()?,
                errors: cursor.u32()?,
            })
        })
        .collect::<Result<_, ReadError>>()?;
    Ok(TraceRow {
        trace_id,
        start,
        duration,
        root,
        root_duration,
        spans,
        errors,
        missing_parents,
        flags,
        revised,
        services,
        shares: Vec::new(),
    })
}

pub(crate) fn read_paths(stored: &[u8]) -> Result<Vec<Vec<PathShare>>, ReadError> {
    let raw = unpack(stored, None, "path block")?;
    let mut cursor = Cursor::new(&raw, "path block");
    let rows = (0..cursor.count()?)
        .map(|_| (0..cursor.count()?).map(|_| read_share(&mut cursor)).collect())
        .collect::<Result<_, ReadError>>()?;
    cursor.end()?;
    Ok(rows)
}

fn read_share(cursor: &mut Cursor<'_>) -> Result<PathShare, ReadError> {
    let operation = OperationId(cursor.u32()?);
    let edge = match cursor.u32()?.checked_sub(1) {
        None => None,
        Some(client) => Some((ServiceId(client), ServiceId(cursor.u32()?))),
    };
    let exclusive = NanoDuration(cursor.u64()?);
    let spans = cursor.u64()?;
    Ok(PathShare {
        service: ServiceId(u32::MAX),
        operation,
        edge,
        exclusive,
        spans: (spans >> 1) as u32,
        errors: cursor.u32()?,
        on_path: spans & 1 == 1,
    })
}
