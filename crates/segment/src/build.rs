//! Builds a segment: sorts a stretch of the log by trace, derives everything, and hands the values out in key
//! order. The meta comes last and commits the rest.

use std::sync::Arc;

use hashbrown::HashSet;
use longpole_proto::segment as proto;
use trace_model::{StatusCode, TraceId, UnixNanos};

use crate::ahead::Ahead;
use crate::chunks::ChunkWriter;
use crate::codec::{Packer, SMALL_BYTES};
use crate::columns::Streams;
use crate::contexts::ContextTable;
use crate::counting::{Counted, Minutes};
use crate::dictionary::Dictionary;
use crate::hashes::{self, OpenBits, trace_hash};
use crate::keys::Key;
use crate::live::{LiveBatch, SpanRow};
use crate::meta;
use crate::minutes;
use crate::names::{LocalNames, Names};
use crate::order::{Placed, by_service, halves, in_trace_order};
use crate::rows::{self, ROOT_FLAG, Row};
use crate::traces::{self, TraceRow, write_heads, write_paths};

/// What a segment is made of.
#[derive(Clone, Copy)]
pub struct SegmentInput<'a> {
    /// The live batches, in order of arrival, repeated spans left out.
    pub batches: &'a [Arc<LiveBatch>],
    /// The log frames that become superfluous, both inclusive; `None` for a segment of analyses alone.
    pub frames: Option<(u64, u64)>,
    /// Traces that were analysed since the last cut.
    pub analysed: &'a [Arc<TraceRow>],
    /// Traces with spans in this segment whose analysis is still to come.
    pub open: &'a [TraceId],
    /// Segments that took arrivals from here on name every trace that was open at this cut; `None` if none was.
    pub open_since: Option<UnixNanos>,
    /// The names behind the numbers.
    pub names: &'a dyn Names,
    /// What a small segment's texts are compressed with.
    pub dictionary: Option<&'a Dictionary>,
    /// Stands for the arrival of a segment without spans.
    pub now: UnixNanos,
}

impl std::fmt::Debug for SegmentInput<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SegmentInput({} batches, {} traces)", self.batches.len(), self.analysed.len())
    }
}

/// Why a segment could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The compressor failed.
    #[error("cannot compress a block: {0}")]
    Compress(#[from] std::io::Error),
    /// Whoever takes the values failed.
    #[error("{0}")]
    Sink(String),
    /// What it is made of cannot be read.
    #[error(transparent)]
    Source(#[from] crate::ReadError),
}

/// Takes values in rising key order.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(Key, &[u8]) -> Result<(), String>;

/// Builds a segment, handing each value to `sink` in rising key order.
///
/// # Errors
/// If the compressor or the sink fails. What the sink took so far is not a segment.
pub fn build(input: &SegmentInput<'_>, sink: Sink<'_>) -> Result<proto::SegmentMeta, BuildError> {
    let raw_bytes: usize = input.batches.iter().map(|batch| batch.request.len()).sum();
    let is_small = raw_bytes < SMALL_BYTES;
    let dictionary = input.dictionary.filter(|_| is_small);
    let new_packer = || if is_small { Packer::of_small(None) } else { Packer::new() };
    let text_packer = match dictionary {
        Some(dictionary) => Packer::of_small(Some(dictionary.bytes()))?,
        None => new_packer()?,
    };
    let (packer, streams) = (new_packer()?, Streams::default());
    let mut writer = Writer { sink, bytes: 0, packer, text_packer, streams };
    let mut names = LocalNames::new(input.names);
    let order = in_trace_order(input.batches);
    let mut meta = head(input, order.len());
    meta.dictionary = dictionary.map_or(0, Dictionary::id);

    let mut contexts = ContextTable::default();
    let Chunked { rows, counted, open } =
        write_chunks(input, &order, &mut names, &mut contexts, &mut meta, &mut writer)?;
    let rows = by_service(rows, names.service_list.len());
    write_rows(&rows, &names, &mut meta, &mut writer)?;
    let counted = Minutes::of(&rows, &counted, &order, names.operation_list.len());
    drop((rows, order));
    write_traces(input, &mut names, &mut meta, &mut writer)?;
    for (number, block) in contexts.blocks(&mut writer.text_packer)?.iter().enumerate() {
        writer.put(Key::Contexts(number as u32), block)?;
    }
    write_minutes(&counted, &mut meta, &mut writer)?;
    if !open.as_bytes().is_empty() {
        writer.put(Key::Open, open.as_bytes())?;
    }
    finish_names(names, &mut meta);
    meta.bytes = writer.bytes;
    let stored = meta::encode(&meta, &mut writer.packer)?;
    writer.put(Key::Meta, &stored)?;
    Ok(meta)
}

struct Writer<'a> {
    sink: Sink<'a>,
    bytes: u64,
    packer: Packer,
    /// With the dictionary, if there is one.
    text_packer: Packer,
    streams: Streams,
}

impl Writer<'_> {
    fn put(&mut self, key: Key, value: &[u8]) -> Result<(), BuildError> {
        self.bytes += value.len() as u64;
        (self.sink)(key, value).map_err(BuildError::Sink)
    }

    /// Writes the block whose streams were filled.
    fn put_streams(&mut self, key: Key) -> Result<(), BuildError> {
        let packed = self.streams.pack(&mut self.packer)?;
        self.put(key, &packed)
    }
}

fn head(input: &SegmentInput<'_>, spans: usize) -> proto::SegmentMeta {
    let (seq_low, seq_high) = input.frames.unwrap_or((0, 0));
    let arrivals = || input.batches.iter().map(|batch| batch.arrival.0);
    proto::SegmentMeta {
        format: crate::FORMAT,
        seq_low,
        seq_high,
        spans: spans as u64,
        arrival_min: arrivals().min().unwrap_or(input.now.0),
        arrival_max: arrivals().max().unwrap_or(input.now.0),
        start_min: u64::MAX,
        open_since: input.open_since.map_or(0, |since| since.0),
        revised_traces: input
            .analysed
            .iter()
            .filter(|row| row.revised)
            .flat_map(|row| *row.trace_id.as_bytes())
            .collect(),
        ..proto::SegmentMeta::default()
    }
}

/// What the spans left behind besides chunks: in their order, and which traces are open.
struct Chunked {
    rows: Vec<Row>,
    counted: Vec<Counted>,
    open: OpenBits,
}

fn write_chunks<'a>(
    input: &SegmentInput<'_>,
    order: &[Placed<'a>],
    names: &mut LocalNames<'_>,
    contexts: &mut ContextTable<'a>,
    meta: &mut proto::SegmentMeta,
    writer: &mut Writer<'_>,
) -> Result<Chunked, BuildError> {
    let traces = || order.chunk_by(|a, b| a.2.trace_id == b.2.trace_id);
    writer.put(
        Key::Hashes,
        &hashes::encode(traces().map(|spans| trace_hash(&spans[0].2.trace_id)).collect()),
    )?;

    let is_open: HashSet<&TraceId> = input.open.iter().collect();
    let mut open = OpenBits::default();
    let mut rows = Vec::with_capacity(order.len());
    let mut counted = Vec::with_capacity(order.len());
    let mut chunks = ChunkWriter::default();
    let mut ahead = Ahead::new(order);
    for spans in traces() {
        let id = spans[0].2.trace_id;
        if chunks.is_enough() {
            end_block(&mut chunks, meta, writer)?;
        }
        if is_open.contains(&id) {
            open.set(meta.traces as u32);
        }
        begin_trace(&mut chunks, &id, meta);
        for (nth, (at, batch, row)) in spans.iter().enumerate() {
            if chunks.is_full() {
                end_block(&mut chunks, meta, writer)?;
                meta.chunk_continued.push(meta.chunk_first_trace.len() as u32);
                begin_trace(&mut chunks, &id, meta);
            }
            ahead.fetch_next();
            let context = contexts.of_batch(*at, row.context, || batch.context(row.context));
            let place = (rows.len() as u32, meta.traces as u32, nth as u32);
            let to = to_row(row, place, names);
            // Roots have no parent to write.
            let kind_of_call = to.operation as usize * 2 + usize::from(row.node.parent.is_none());
            chunks.add(context, kind_of_call, batch.span_bytes(row));
            rows.push(to);
            counted.push(Counted::new(row));
            note_span(row, meta);
        }
        meta.traces += 1;
    }
    if !chunks.is_empty() {
        end_block(&mut chunks, meta, writer)?;
        let tables = chunks.table().block(&mut writer.text_packer)?;
        writer.put(Key::Tables, &tables)?;
    }
    Ok(Chunked { rows, counted, open })
}

fn begin_trace(chunks: &mut ChunkWriter<'_>, id: &TraceId, meta: &mut proto::SegmentMeta) {
    if chunks.is_empty() {
        let (low, high) = halves(id);
        meta.chunk_first_low.push(low);
        meta.chunk_first_high.push(high);
        meta.chunk_first_trace.push(meta.traces as u32);
    }
    chunks.begin_trace(id);
}

fn end_block(
    chunks: &mut ChunkWriter<'_>,
    meta: &proto::SegmentMeta,
    writer: &mut Writer<'_>,
) -> Result<(), BuildError> {
    let block = chunks.finish(&mut writer.text_packer)?;
    writer.put(Key::Chunk(meta.chunk_first_trace.len() as u32 - 1), &block)
}

fn to_row(row: &SpanRow, (place, trace, span): (u32, u32, u32), names: &mut LocalNames<'_>) -> Row {
    let node = &row.node;
    let root = if node.parent.is_none() { ROOT_FLAG } else { 0 };
    Row {
        service: names.service(node.service),
        duration: node.duration().0,
        start: node.start.0,
        trace,
        span,
        operation: names.operation(node.operation),
        flags: node.status as u8 | root,
        place,
    }
}

fn note_span(row: &SpanRow, meta: &mut proto::SegmentMeta) {
    let node = &row.node;
    meta.errors += u64::from(node.status == StatusCode::Error);
    meta.start_min = meta.start_min.min(node.start.0);
    meta.start_max = meta.start_max.max(node.start.0);
}

fn write_rows(
    rows: &[Row],
    names: &LocalNames<'_>,
    meta: &mut proto::SegmentMeta,
    writer: &mut Writer<'_>,
) -> Result<(), BuildError> {
    count_names(rows, names, meta);
    for service in rows.chunk_by(|a, b| a.service == b.service) {
        for block in service.chunks(rows::ROWS_MAX) {
            rows::write_block(block, &mut writer.streams);
            writer.put_streams(Key::Rows(meta.row_blocks.len() as u32))?;
            meta.row_blocks.push(proto::RowBlock {
                service: block[0].service,
                rows: block.len() as u32,
                duration_max: block[0].duration,
                duration_min: block[block.len() - 1].duration,
                start_min: block.iter().map(|row| row.start).min().unwrap_or(0),
                start_max: block.iter().map(|row| row.start).max().unwrap_or(0),
            });
        }
    }
    Ok(())
}

fn count_names(rows: &[Row], names: &LocalNames<'_>, meta: &mut proto::SegmentMeta) {
    meta.service_totals =
        vec![proto::ServiceTotals { first_seen: u64::MAX, ..Default::default() }; names.service_list.len()];
    meta.operations = names
        .operation_list
        .iter()
        .map(|(service, kind, name)| proto::Operation {
            service: *service,
            kind: *kind as u32,
            name: name.to_string(),
            ..Default::default()
        })
        .collect();
    for row in rows {
        let error = u64::from(row.flags & 3 == StatusCode::Error as u8);
        let total = &mut meta.service_totals[row.service as usize];
        total.spans += 1;
        total.errors += error;
        total.first_seen = total.first_seen.min(row.start);
        total.last_seen = total.last_seen.max(row.start);
        let operation = &mut meta.operations[row.operation as usize];
        operation.spans += 1;
        operation.errors += error;
        operation.duration_max = operation.duration_max.max(row.duration);
    }
}

fn write_traces(
    input: &SegmentInput<'_>,
    names: &mut LocalNames<'_>,
    meta: &mut proto::SegmentMeta,
    writer: &mut Writer<'_>,
) -> Result<(), BuildError> {
    let mut sorted: Vec<&TraceRow> = input.analysed.iter().map(|row| &**row).collect();
    sorted.sort_unstable_by_key(|row| (std::cmp::Reverse(row.duration), row.start, row.trace_id));
    for (number, block) in sorted.chunks(traces::ROWS_MAX).enumerate() {
        write_heads(block, names, &mut writer.streams);
        writer.put_streams(Key::Traces(number as u32))?;
        meta.trace_blocks.push(proto::TraceBlock {
            rows: block.len() as u32,
            duration_max: block[0].duration.0,
            duration_min: block[block.len() - 1].duration.0,
            start_min: block.iter().map(|row| row.start.0).min().unwrap_or(0),
            start_max: block.iter().map(|row| row.start.0).max().unwrap_or(0),
        });
    }
    for (number, block) in sorted.chunks(traces::ROWS_MAX).enumerate() {
        write_paths(block, names, &mut writer.streams);
        writer.put_streams(Key::Paths(number as u32))?;
    }
    Ok(())
}

fn write_minutes(
    counted: &Minutes,
    meta: &mut proto::SegmentMeta,
    writer: &mut Writer<'_>,
) -> Result<(), BuildError> {
    for (minute, series) in counted.iter() {
        meta.minutes.push(minute);
        if minutes::write(&series, &mut writer.streams) {
            writer.put_streams(Key::Minute(minute))?;
        } else {
            let packed = writer.packer.pack(&minutes::whole(&series))?;
            writer.put(Key::Minute(minute), &packed)?;
        }
    }
    Ok(())
}

/// Analyses may have named services and operations that no span of this segment has.
fn finish_names(names: LocalNames<'_>, meta: &mut proto::SegmentMeta) {
    for (service, kind, name) in names.operation_list.iter().skip(meta.operations.len()) {
        meta.operations.push(proto::Operation {
            service: *service,
            kind: *kind as u32,
            name: name.to_string(),
            ..Default::default()
        });
    }
    meta.service_totals.resize(
        names.service_list.len(),
        proto::ServiceTotals { first_seen: u64::MAX, ..Default::default() },
    );
    meta.services = names.service_list.iter().map(ToString::to_string).collect();
    if meta.spans == 0 {
        meta.start_min = 0;
    }
}
