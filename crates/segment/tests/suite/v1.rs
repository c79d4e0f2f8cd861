//! Segments of format 1 are still read: a writer of its blocks, and the readers on them.

use proptest::prelude::*;
use prost::Message as _;
use segment::{
    ChunkBlock, Key, RowBlock, SegmentMeta, TraceHeads, TracePaths, decode_minute, decode_segment_meta,
};

use crate::messages::messages;
use crate::round_trip::{check_chunks, check_minutes, check_rows, in_order};
use crate::sample::{Memory, Sample, analyses, batch, samples, sealed};

fn put(out: &mut Vec<u8>, value: impl Into<u64>) {
    let mut value = value.into();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn packed(raw: &[u8]) -> Vec<u8> {
    let mut packed = (raw.len() as u32).to_le_bytes().to_vec();
    packed.extend(zstd::bulk::compress(raw, 1).unwrap());
    packed
}

fn chunk(memory: &Memory, number: u32) -> Vec<u8> {
    let block = ChunkBlock::read(memory, number).unwrap();
    let mut out = Vec::new();
    for id in (0..).map_while(|nth| block.trace_at(nth).ok()) {
        let spans = block.spans(&id).unwrap();
        out.extend_from_slice(id.as_bytes());
        put(&mut out, spans.len() as u64);
        for span in spans {
            put(&mut out, span.context);
            let prefix = [&[0x0a, 0x10], &id.as_bytes()[..]].concat();
            let (bytes, kept) = match span.message.strip_prefix(&prefix[..]) {
                Some(rest) => (rest, 0),
                None => (&span.message[..], 1),
            };
            put(&mut out, (bytes.len() as u64) << 1 | kept);
            out.extend_from_slice(bytes);
        }
    }
    packed(&out)
}

/// `traces` have the starts to the nanosecond, which rows had then.
fn rows(memory: &Memory, number: u32, traces: &[&[Sample]]) -> Vec<u8> {
    let block = RowBlock::read(memory, number).unwrap();
    let mut out = Vec::new();
    let places = block.traces.iter().zip(&block.spans);
    let starts: Vec<u64> =
        places.map(|(trace, span)| traces[*trace as usize][*span as usize].node.start.0).collect();
    let start = *starts.iter().min().unwrap();
    put(&mut out, block.len() as u64);
    put(&mut out, start);
    put(&mut out, block.durations[0].0);
    let before = block.durations.iter().take(1).chain(&block.durations);
    before.zip(&block.durations).for_each(|(before, duration)| put(&mut out, before.0 - duration.0));
    starts.iter().for_each(|at| put(&mut out, at - start));
    for column in [&block.traces, &block.spans, &block.operations] {
        column.iter().for_each(|value| put(&mut out, *value));
    }
    out.extend_from_slice(&block.flags);
    packed(&out)
}

fn heads(memory: &Memory, number: u32) -> Vec<u8> {
    let rows = TraceHeads::read(memory, number).unwrap().rows;
    let mut out = Vec::new();
    put(&mut out, rows.len() as u64);
    for row in rows {
        out.extend_from_slice(row.trace_id.as_bytes());
        put(&mut out, row.start.0);
        put(&mut out, row.duration.0);
        put(&mut out, row.root.map_or(0, |root| root.0 + 1));
        put(&mut out, row.root_duration.0);
        for value in [row.spans, row.errors, row.missing_parents, row.flags.bits(), u32::from(row.revised)] {
            put(&mut out, value);
        }
        put(&mut out, row.services.len() as u64);
        for count in &row.services {
            [count.service.0, count.spans, count.errors].into_iter().for_each(|value| put(&mut out, value));
        }
    }
    packed(&out)
}

fn paths(memory: &Memory, number: u32) -> Vec<u8> {
    let paths = TracePaths::read(memory, number).unwrap();
    let mut out = Vec::new();
    put(&mut out, paths.traces() as u64);
    for shares in paths.iter() {
        put(&mut out, shares.len() as u64);
        for share in shares {
            put(&mut out, share.operation.0);
            put(&mut out, share.edge.map_or(0, |(client, _)| client.0 + 1));
            if let Some((_, server)) = share.edge {
                put(&mut out, server.0);
            }
            put(&mut out, share.exclusive.0);
            put(&mut out, u64::from(share.spans) << 1 | u64::from(share.on_path));
            put(&mut out, share.errors);
        }
    }
    packed(&out)
}

fn minute(memory: &Memory, number: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for row in decode_minute(memory, number, &|_, _| true).unwrap() {
        put(&mut out, row.operation);
        out.push(row.status as u8);
        let (mut histogram, mut exemplars) = (Vec::new(), Vec::new());
        row.histogram.encode(&mut histogram);
        row.exemplars.encode(&mut exemplars);
        for value in [histogram, exemplars] {
            put(&mut out, value.len() as u64);
            out.extend_from_slice(&value);
        }
    }
    packed(&out)
}

/// The same segment as format 1 had it.
pub(crate) fn downgraded(memory: &Memory, meta: &SegmentMeta, samples: &[Sample]) -> Memory {
    let sorted = in_order(samples);
    let traces: Vec<&[Sample]> = sorted.chunk_by(|a, b| a.trace_id == b.trace_id).collect();
    let mut old = memory.clone();
    old.0.remove(&Key::Tables.to_bytes());
    let mut set = |key: Key, value| old.0.insert(key.to_bytes(), value);
    for number in 0..meta.chunk_first_trace.len() as u32 {
        set(Key::Chunk(number), chunk(memory, number));
    }
    for number in 0..meta.row_blocks.len() as u32 {
        set(Key::Rows(number), rows(memory, number, &traces));
    }
    for number in 0..meta.trace_blocks.len() as u32 {
        set(Key::Traces(number), heads(memory, number));
        set(Key::Paths(number), paths(memory, number));
    }
    for &number in &meta.minutes {
        set(Key::Minute(number), minute(memory, number));
    }
    set(Key::Meta, meta.encode_to_vec());
    old
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn spans_and_rows_of_format_1_come_back(
        samples in samples(),
        written in messages(),
        analysed in analyses(),
    ) {
        let (memory, meta) = sealed(&[batch(1, &samples)], &analysed);
        let old = downgraded(&memory, &meta, &samples);
        check_chunks(&old, &meta, &in_order(&samples));
        check_rows(&old, &meta, &in_order(&samples));
        check_minutes(&old, &meta, &samples);
        prop_assert_eq!(&decode_segment_meta(&old.0[&Key::Meta.to_bytes()]).unwrap(), &meta);
        for number in 0..meta.trace_blocks.len() as u32 {
            let heads = |memory| format!("{:?}", TraceHeads::read(memory, number).unwrap());
            prop_assert_eq!(heads(&old), heads(&memory));
            let paths = |memory| format!("{:?}", TracePaths::read(memory, number).unwrap());
            prop_assert_eq!(paths(&old), paths(&memory));
        }
        let (memory, meta) = sealed(&[batch(1, &written)], &[]);
        check_chunks(&downgraded(&memory, &meta, &written), &meta, &in_order(&written));
    }
}
