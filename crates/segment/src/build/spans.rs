//! Writes the spans' messages into chunk blocks.

use longpole_proto::segment as proto;
use trace_model::TraceId;

use super::{BuildError, Writer};
use crate::ahead::Ahead;
use crate::chunks::ChunkWriter;
use crate::contexts::ContextTable;
use crate::keys::Key;
use crate::order::{Placed, halves};

/// `kinds_of_call` are those of [`super::Layout`].
pub(super) fn write_chunks<'a>(
    order: &[Placed<'a>],
    kinds_of_call: &[u32],
    contexts: &mut ContextTable<'a>,
    meta: &mut proto::SegmentMeta,
    writer: &mut Writer<'_>,
) -> Result<(), BuildError> {
    let mut chunks = ChunkWriter::default();
    let mut ahead = Ahead::messages(order);
    let mut kinds_of_call = kinds_of_call.iter();
    for (number, spans) in order.chunk_by(|a, b| a.2.trace_id == b.2.trace_id).enumerate() {
        let id = spans[0].2.trace_id;
        let (at, batch, row) = &spans[0];
        let first = contexts.of_batch(*at, row.context, || batch.context(row.context));
        // Also if the block is full: a trace of no spans would be left in it.
        if chunks.is_enough() || chunks.is_full(first) {
            end_block(&mut chunks, meta, writer)?;
        }
        begin_trace(&mut chunks, &id, number as u32, meta);
        for ((at, batch, row), kind_of_call) in spans.iter().zip(&mut kinds_of_call) {
            let context = contexts.of_batch(*at, row.context, || batch.context(row.context));
            if chunks.is_full(context) {
                end_block(&mut chunks, meta, writer)?;
                meta.chunk_continued.push(meta.chunk_first_trace.len() as u32);
                begin_trace(&mut chunks, &id, number as u32, meta);
            }
            ahead.fetch_next();
            chunks.add(context, *kind_of_call as usize, batch.span_bytes(row));
        }
    }
    if !chunks.is_empty() {
        end_block(&mut chunks, meta, writer)?;
        let tables = chunks.table().block(&mut writer.text_packer)?;
        writer.put(Key::Tables, &tables)?;
    }
    Ok(())
}

fn begin_trace(chunks: &mut ChunkWriter<'_>, id: &TraceId, number: u32, meta: &mut proto::SegmentMeta) {
    if chunks.is_empty() {
        let (low, high) = halves(id);
        meta.chunk_first_low.push(low);
        meta.chunk_first_high.push(high);
        meta.chunk_first_trace.push(number);
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
