//! Analysed traces: what a search by trace shows (heads), and what their critical paths are made of (paths).
//! Both are sorted by falling duration and cut into blocks of the same rows.

use trace_analyze::{Flags, PathShare};
use trace_model::{NanoDuration, OperationId, ServiceId, TraceId, UnixNanos};

use crate::codec::{Blocks, Cursor, ReadError, fetch, put, unpack};
use crate::keys::Key;
use crate::names::LocalNames;

/// Traces of a block.
pub(crate) const ROWS_MAX: usize = 512;

/// Spans and errors of one service in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceServiceCount {
    /// The service.
    pub service: ServiceId,
    /// Spans of the trace.
    pub spans: u32,
    /// Of these, with status error.
    pub errors: u32,
}

/// A trace as it was analysed. In a sealed segment, ids of services and operations are the segment's own
/// numbers.
#[derive(Debug, Clone)]
pub struct TraceRow {
    /// The trace.
    pub trace_id: TraceId,
    /// Earliest start of its spans.
    pub start: UnixNanos,
    /// From the earliest start to the latest end.
    pub duration: NanoDuration,
    /// The operation of its primary root, if a span without a parent has come.
    pub root: Option<OperationId>,
    /// The duration of the root whose critical path `shares` tells.
    pub root_duration: NanoDuration,
    /// Distinct spans.
    pub spans: u32,
    /// Of these, with status error.
    pub errors: u32,
    /// Spans whose parent is not there.
    pub missing_parents: u32,
    /// What was odd on the way.
    pub flags: Flags,
    /// Whether it takes the place of an analysis in an earlier segment.
    pub revised: bool,
    /// By service.
    pub services: Vec<TraceServiceCount>,
    /// The critical path by operation; sums to `root_duration`.
    pub shares: Vec<PathShare>,
}

pub(crate) fn write_heads(rows: &[&TraceRow], names: &mut LocalNames<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, rows.len() as u64);
    for row in rows {
        out.extend_from_slice(row.trace_id.as_bytes());
        put(&mut out, row.start.0);
        put(&mut out, row.duration.0);
        put(&mut out, row.root.map_or(0, |root| u64::from(names.operation(root)) + 1));
        put(&mut out, row.root_duration.0);
        for number in [row.spans, row.errors, row.missing_parents, row.flags.bits(), u32::from(row.revised)] {
            put(&mut out, u64::from(number));
        }
        put(&mut out, row.services.len() as u64);
        for count in &row.services {
            put(&mut out, u64::from(names.service(count.service)));
            put(&mut out, u64::from(count.spans));
            put(&mut out, u64::from(count.errors));
        }
    }
    out
}

pub(crate) fn write_paths(rows: &[&TraceRow], names: &mut LocalNames<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, rows.len() as u64);
    for row in rows {
        put(&mut out, row.shares.len() as u64);
        for share in &row.shares {
            put(&mut out, u64::from(names.operation(share.operation)));
            match share.edge {
                None => put(&mut out, 0),
                Some((client, server)) => {
                    put(&mut out, u64::from(names.service(client)) + 1);
                    put(&mut out, u64::from(names.service(server)));
                }
            }
            put(&mut out, share.exclusive.0);
            put(&mut out, u64::from(share.spans) << 1 | u64::from(share.on_path));
            put(&mut out, u64::from(share.errors));
        }
    }
    out
}

/// A decoded block of heads; their `shares` are empty.
#[derive(Debug)]
pub struct TraceHeads {
    /// By falling duration.
    pub rows: Vec<TraceRow>,
}

impl TraceHeads {
    /// Reads a block.
    ///
    /// # Errors
    /// If the store fails or the block is damaged.
    pub fn read(blocks: &dyn Blocks, number: u32) -> Result<Self, ReadError> {
        let raw = unpack(&fetch(blocks, Key::Traces(number))?, "trace block")?;
        let mut cursor = Cursor::new(&raw, "trace block");
        let count = cursor.count()?;
        let rows = (0..count).map(|_| read_head(&mut cursor)).collect::<Result<_, _>>()?;
        cursor.end()?;
        Ok(Self { rows })
    }
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

/// A decoded block of critical-path shares.
#[derive(Debug)]
pub struct TracePaths {
    /// One list a trace, in the order of the heads. The `service` of a share is not stored; it is that of its
    /// operation, and reads as `ServiceId(u32::MAX)` here.
    pub rows: Vec<Vec<PathShare>>,
}

impl TracePaths {
    /// Reads a block.
    ///
    /// # Errors
    /// If the store fails or the block is damaged.
    pub fn read(blocks: &dyn Blocks, number: u32) -> Result<Self, ReadError> {
        let raw = unpack(&fetch(blocks, Key::Paths(number))?, "path block")?;
        let mut cursor = Cursor::new(&raw, "path block");
        let count = cursor.count()?;
        let rows = (0..count)
            .map(|_| (0..cursor.count()?).map(|_| read_share(&mut cursor)).collect())
            .collect::<Result<_, ReadError>>()?;
        cursor.end()?;
        Ok(Self { rows })
    }
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
