//! Chunk blocks: whole traces in the order of their ids, about 64 KiB before compression.
//!
//! One block holds many traces, because compressing each trace alone costs twice the bytes without a trained
//! dictionary. Layout, repeated to the end of the block:
//! trace id 16 bytes, varint number of spans, then per span varint context,
//! varint `len << 1 | id_kept`, and the span's message. If the message begins with `0A 10 <trace id>`, as
//! encoders usually write it, these 18 bytes are left out and `id_kept` is 0.

use trace_model::TraceId;

use crate::codec::{Blocks, Cursor, ReadError, fetch, put, unpack};
use crate::keys::Key;

/// A block is closed once it is this large.
pub(crate) const BLOCK_BYTES: usize = 64 << 10;

/// `0A 10`: field 1, length-delimited, 16 bytes.
const ID_PREFIX: [u8; 2] = [0x0a, 0x10];

pub(crate) fn write_trace_head(out: &mut Vec<u8>, id: &TraceId, spans: usize) {
    out.extend_from_slice(id.as_bytes());
    put(out, spans as u64);
}

pub(crate) fn write_span(out: &mut Vec<u8>, id: &TraceId, context: u32, message: &[u8]) {
    put(out, u64::from(context));
    let stripped = message.strip_prefix(&ID_PREFIX).and_then(|rest| rest.strip_prefix(id.as_bytes()));
    let (bytes, id_kept) = match stripped {
        Some(rest) => (rest, 0),
        None => (message, 1),
    };
    put(out, (bytes.len() as u64) << 1 | id_kept);
    out.extend_from_slice(bytes);
}

/// A span out of a chunk block.
#[derive(Debug, Clone)]
pub struct ChunkSpan {
    /// Number of its context within the segment.
    pub context: u32,
    /// The message, trace id restored.
    pub message: Vec<u8>,
}

/// An inflated chunk block.
#[derive(Debug)]
pub struct ChunkBlock {
    raw: Vec<u8>,
}

impl ChunkBlock {
    /// Reads a block.
    ///
    /// # Errors
    /// If the store fails or the block is damaged.
    pub fn read(blocks: &dyn Blocks, number: u32) -> Result<Self, ReadError> {
        Ok(Self { raw: unpack(&fetch(blocks, Key::Chunk(number))?, "chunk block")? })
    }

    /// The spans of a trace in this block, in start order; empty if it is not here.
    ///
    /// # Errors
    /// If the block is damaged.
    pub fn spans(&self, wanted: &TraceId) -> Result<Vec<ChunkSpan>, ReadError> {
        let mut cursor = Cursor::new(&self.raw, "chunk block");
        while !cursor.is_empty() {
            let (id, count) = read_head(&mut cursor)?;
            if id == *wanted {
                return (0..count).map(|_| read_span(&mut cursor, &id)).collect();
            }
            skip_spans(&mut cursor, count)?;
        }
        Ok(Vec::new())
    }

    /// The ids of its traces, in order.
    ///
    /// # Errors
    /// If the block is damaged.
    pub fn trace_ids(&self) -> Result<Vec<TraceId>, ReadError> {
        let mut cursor = Cursor::new(&self.raw, "chunk block");
        let mut ids = Vec::new();
        while !cursor.is_empty() {
            let (id, count) = read_head(&mut cursor)?;
            skip_spans(&mut cursor, count)?;
            ids.push(id);
        }
        Ok(ids)
    }

    /// Inflated bytes.
    pub fn bytes(&self) -> usize {
        self.raw.len()
    }

    /// The id of the `nth` trace of this block.
    ///
    /// # Errors
    /// If the block is damaged or has fewer traces.
    pub fn trace_at(&self, nth: u32) -> Result<TraceId, ReadError> {
        let mut cursor = Cursor::new(&self.raw, "chunk block");
        for _ in 0..nth {
            let (_, count) = read_head(&mut cursor)?;
            skip_spans(&mut cursor, count)?;
        }
        Ok(read_head(&mut cursor)?.0)
    }
}

fn read_head(cursor: &mut Cursor<'_>) -> Result<(TraceId, usize), ReadError> {
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
    Ok(ChunkSpan { context, message })
}
