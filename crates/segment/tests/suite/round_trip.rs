//! What was put in comes back, in the order that readers rely on.

use std::cmp::Reverse;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use prost::Message as _;
use segment::{
    Blocks, ChunkBlock, ChunkSpan, ContextBlock, HistogramTable, Key, ROOT_FLAG, RowBlock, SegmentMeta,
    TraceHeads, TracePaths, decode_minute, decode_segment_meta, trace_hash, trace_hashes,
};
use trace_model::{NanoDuration, TraceId, UnixNanos};

use crate::sample::{Memory, Sample, analyses, batch, samples, sealed};

/// The spans of a trace, and the number of the first block that has some.
fn stored(memory: &dyn Blocks, meta: &SegmentMeta, id: &TraceId) -> (u32, Vec<ChunkSpan>) {
    let whole = u128::from_be_bytes(*id.as_bytes());
    let halves = meta.chunk_first_high.iter().zip(&meta.chunk_first_low);
    let firsts = halves.map(|(high, low)| u128::from(*high) << 64 | u128::from(*low));
    let end = firsts.take_while(|first| *first <= whole).count() as u32;
    let mut first = end - 1;
    while meta.chunk_continued.contains(&first) {
        first -= 1;
    }
    let spans = (first..end).map(|number| ChunkBlock::read(memory, number).unwrap().spans(id).unwrap());
    (first, spans.flatten().collect())
}

pub(crate) fn in_order(samples: &[Sample]) -> Vec<Sample> {
    let mut sorted = samples.to_vec();
    sorted.sort_by_key(|s| (s.trace_id, s.node.start, Reverse(s.node.end), s.node.span_id, s.node.content));
    sorted
}

/// Every span is found by its start and id, in blocks that say so.
pub(crate) fn check_look_ups(memory: &dyn Blocks, meta: &SegmentMeta, sorted: &[Sample]) {
    for spans in sorted.chunk_by(|a, b| a.trace_id == b.trace_id) {
        let id = spans[0].trace_id;
        let (mut number, all) = stored(memory, meta, &id);
        let (mut found, mut left) = (Vec::new(), all.len());
        while left > 0 {
            let block = ChunkBlock::read(memory, number).unwrap();
            left -= block.spans(&id).unwrap().len();
            let (low, high) = block.starts(&id).unwrap();
            let in_block = spans.iter().filter(|span| (low..=high).contains(&span.node.start));
            let wanted: Vec<_> = in_block.map(|span| (span.node.start, span.node.span_id)).collect();
            let among = |start, id: &[u8]| wanted.iter().any(|w| w.0 == start && w.1.as_bytes() == id);
            found.extend(block.spans_among(&id, &among).unwrap().into_iter().map(|span| span.message));
            number += 1;
        }
        let messages: Vec<_> = all.into_iter().map(|span| span.message).collect();
        assert_eq!(found, messages);
    }
}

pub(crate) fn check_chunks(memory: &dyn Blocks, meta: &SegmentMeta, sorted: &[Sample]) {
    let hashes = trace_hashes(memory, meta.chunk_first_trace.len() as u32).unwrap();
    for (nth, spans) in sorted.chunk_by(|a, b| a.trace_id == b.trace_id).enumerate() {
        let id = spans[0].trace_id;
        assert!(hashes.binary_search(&trace_hash(&id)).is_ok());
        let (number, found) = stored(memory, meta, &id);
        assert_eq!(found.len(), spans.len());
        for (found, span) in found.iter().zip(spans) {
            assert_eq!(found.message, span.message);
            match &found.own_context {
                Some(context) => assert_eq!(**context, *span.context),
                None => {
                    let block = ContextBlock::read(memory, ContextBlock::number_of(found.context)).unwrap();
                    assert_eq!(block.get(found.context).unwrap(), span.context);
                }
            }
        }
        let last = meta.chunk_first_trace.partition_point(|first| *first <= nth as u32) - 1;
        let within = nth as u32 - meta.chunk_first_trace[last];
        assert_eq!(ChunkBlock::read(memory, last as u32).unwrap().trace_at(within).unwrap(), id);
        assert!(number <= last as u32);
    }
    assert!(hashes.is_sorted());
}

/// Trace number, span number within the trace, and the span, for every row.
pub(crate) fn check_rows(memory: &Memory, meta: &SegmentMeta, sorted: &[Sample]) {
    let traces: Vec<&[Sample]> = sorted.chunk_by(|a, b| a.trace_id == b.trace_id).collect();
    let mut seen = 0;
    let mut last = None;
    for (number, block_meta) in meta.row_blocks.iter().enumerate() {
        let block = RowBlock::read(memory, number as u32).unwrap();
        assert_eq!(block.len(), block_meta.rows as usize);
        assert_eq!(block.durations[0].0, block_meta.duration_max);
        assert_eq!(block.durations[block.len() - 1].0, block_meta.duration_min);
        let range = block_meta.start_max - block_meta.start_min;
        for row in 0..block.len() {
            let span = &traces[block.traces[row] as usize][block.spans[row] as usize].node;
            let (earliest, latest) = block.start_between(row);
            assert!(earliest <= span.start && span.start <= latest);
            assert!(latest.0 - earliest.0 <= range >> 11, "a start is not a two-thousandth of the block off");
            assert_eq!(block.durations[row], span.duration());
            assert_eq!(block.status(row), span.status);
            assert_eq!(block.flags[row] & ROOT_FLAG != 0, span.parent.is_none());
            let operation = &meta.operations[block.operations[row] as usize];
            assert_eq!(operation.name, format!("operation {}", span.operation.0));
            assert_eq!(meta.services[block_meta.service as usize], format!("service {}", span.service.0));
            let place = (
                block_meta.service,
                Reverse(span.duration()),
                span.start,
                block.traces[row],
                block.spans[row],
            );
            assert!(last.is_none_or(|last| last < place));
            last = Some(place);
            seen += 1;
        }
    }
    assert_eq!(seen, sorted.len());
}

pub(crate) fn check_minutes(memory: &Memory, meta: &SegmentMeta, samples: &[Sample]) {
    let mut table = HistogramTable::default();
    batch(1, samples).rows.iter().for_each(|row| table.record(row));
    let mut left = table.iter().count();
    for &minute in &meta.minutes {
        for row in decode_minute(memory, minute, &|_, _| true).unwrap() {
            let name = &meta.operations[row.operation as usize].name;
            let mut counted = table.iter().filter(|(at, id, status, ..)| {
                *at == minute && *status == row.status && *name == format!("operation {}", id.0)
            });
            let (.., histogram, exemplars) = counted.next().unwrap();
            assert_eq!((histogram, exemplars), (&row.histogram, &row.exemplars));
            left -= 1;
        }
    }
    assert_eq!(left, 0);
}

fn check_totals(meta: &SegmentMeta, samples: &[Sample]) {
    let errors = |samples: &[&Sample]| {
        samples.iter().filter(|s| s.node.status == trace_model::StatusCode::Error).count() as u64
    };
    let all: Vec<&Sample> = samples.iter().collect();
    assert_eq!((meta.spans, meta.errors), (all.len() as u64, errors(&all)));
    for (local, total) in meta.service_totals.iter().enumerate() {
        let name = &meta.services[local];
        let of: Vec<_> =
            all.iter().copied().filter(|s| *name == format!("service {}", s.node.service.0)).collect();
        assert_eq!((total.spans, total.errors), (of.len() as u64, errors(&of)));
    }
    for operation in &meta.operations {
        let of: Vec<_> = all
            .iter()
            .copied()
            .filter(|s| operation.name == format!("operation {}", s.node.operation.0))
            .collect();
        assert_eq!((operation.spans, operation.errors), (of.len() as u64, errors(&of)));
        assert_eq!(operation.duration_max, of.iter().map(|s| s.node.duration().0).max().unwrap_or(0));
    }
}

/// Sums that columns cannot tell are written as they were before there were columns.
#[test]
fn histograms_of_the_longest_spans_come_back() {
    let drawn = samples().new_tree(&mut TestRunner::deterministic()).unwrap().current();
    let spans = |starts: &[u64]| -> Vec<Sample> {
        let of = |(nth, start): (usize, &u64)| {
            let mut sample = drawn[0].clone();
            (sample.node.start, sample.node.end) = (UnixNanos(*start), UnixNanos(u64::MAX));
            sample.node.content = nth as u64;
            sample
        };
        starts.iter().enumerate().map(of).collect()
    };
    for (starts, in_columns) in [(&[0, 0, 0][..], true), (&[0, 0, u64::MAX], false)] {
        let samples = spans(starts);
        let (memory, meta) = sealed(&[batch(1, &samples)], &[]);
        check_minutes(&memory, &meta, &samples);
        let stored = &memory.0[&Key::Minute(meta.minutes[0]).to_bytes()];
        assert_eq!(stored.starts_with(b"\x02LP\xff"), in_columns, "{starts:?}");
        let sum = samples.iter().map(|s| u128::from(s.node.duration().0)).sum::<u128>();
        let rows = decode_minute(&memory, meta.minutes[0], &|_, _| true).unwrap();
        assert_eq!(rows[0].histogram.sum_nanos(), sum);
        assert_eq!(rows[0].histogram.max(), Some(NanoDuration(u64::MAX)));
    }
}

/// A reader that does not know a format must find its number, whatever became of the rest.
#[test]
fn a_meta_says_its_format_to_those_who_do_not_know_it() {
    let drawn = samples().new_tree(&mut TestRunner::deterministic()).unwrap().current();
    let (memory, meta) = sealed(&[batch(1, &drawn)], &[]);
    let outer = SegmentMeta::decode(&memory.0[&Key::Meta.to_bytes()][..]).unwrap();
    assert!(!outer.packed.is_empty(), "a meta with names shrinks");
    let packed = SegmentMeta { format: outer.format, packed: outer.packed.clone(), ..Default::default() };
    assert_eq!((outer.format, &outer), (meta.format, &packed));
    for (format, bytes, found) in [
        (segment::FORMAT + 1, vec![1, 2, 3], Some(segment::FORMAT + 1)),
        (segment::FORMAT, vec![1, 2, 3], None),
        // Not the number that is inside.
        (segment::FORMAT - 1, outer.packed, None),
    ] {
        let stored = SegmentMeta { format, packed: bytes, ..SegmentMeta::default() }.encode_to_vec();
        assert_eq!(decode_segment_meta(&stored).ok().map(|meta| meta.format), found);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_span_and_all_that_is_derived_from_it_comes_back(samples in samples()) {
        let (memory, meta) = sealed(&[batch(1, &samples)], &[]);
        let sorted = in_order(&samples);
        check_chunks(&memory, &meta, &sorted);
        // As a segment of the first format, which has no list, is read.
        let (mut without, blocks) = (memory.clone(), meta.chunk_first_trace.len() as u32);
        without.0.remove(&Key::Hashes.to_bytes());
        prop_assert_eq!(trace_hashes(&without, blocks).unwrap(), trace_hashes(&memory, blocks).unwrap());
        check_look_ups(&memory, &meta, &sorted);
        check_rows(&memory, &meta, &sorted);
        check_minutes(&memory, &meta, &samples);
        check_totals(&meta, &samples);
        prop_assert_eq!(decode_segment_meta(&memory.0[&Key::Meta.to_bytes()]).unwrap(), meta);
    }

    #[test]
    fn values_do_not_depend_on_the_order_of_arrival(
        (samples, moved) in samples().prop_flat_map(|s| (Just(s.clone()), Just(s).prop_shuffle())),
        rows in analyses(),
        parts in 1..7_usize,
    ) {
        let (one, meta) = sealed(&[batch(1, &samples)], &rows);
        let split: Vec<_> = moved.chunks(parts).zip(2..).map(|(part, number)| batch(number, part)).collect();
        let turned: Vec<_> = rows.iter().rev().map(Arc::clone).collect();
        let (other, mut other_meta) = sealed(&split, &turned);
        let values = |memory: Memory| {
            memory.0.into_iter().filter(|(key, _)| *key != Key::Meta.to_bytes()).collect::<Vec<_>>()
        };
        prop_assert_eq!(values(one), values(other));
        // The traces revised are told in the order of their analyses.
        (other_meta.arrival_min, other_meta.arrival_max) = (meta.arrival_min, meta.arrival_max);
        other_meta.revised_traces.clone_from(&meta.revised_traces);
        prop_assert_eq!(meta, other_meta);
    }

    #[test]
    fn analyses_come_back_slowest_first(rows in analyses()) {
        let (memory, meta) = sealed(&[], &rows);
        let mut sorted: Vec<_> = rows.iter().collect();
        sorted.sort_by_key(|row| (Reverse(row.duration), row.start, row.trace_id));
        let blocks = 0..meta.trace_blocks.len() as u32;
        let heads = blocks.clone().flat_map(|number| TraceHeads::read(&memory, number).unwrap().rows);
        let paths = blocks.flat_map(|number| {
            let paths = TracePaths::read(&memory, number).unwrap();
            paths.iter().map(<[_]>::to_vec).collect::<Vec<_>>()
        });
        let found: Vec<_> = heads.zip(paths).collect();
        prop_assert_eq!(found.len(), sorted.len());
        let operation = |local: u32| meta.operations[local as usize].name.clone();
        let service = |local: u32| meta.services[local as usize].clone();
        for ((head, shares), row) in found.into_iter().zip(sorted) {
            prop_assert_eq!((head.trace_id, head.start, head.duration), (row.trace_id, row.start, row.duration));
            prop_assert_eq!((head.root_duration, head.flags, head.revised), (row.root_duration, row.flags, row.revised));
            prop_assert_eq!((head.spans, head.errors, head.missing_parents), (row.spans, row.errors, row.missing_parents));
            prop_assert_eq!(head.root.map(|id| operation(id.0)), row.root.map(|id| format!("operation {}", id.0)));
            for (found, count) in head.services.iter().zip(&row.services) {
                prop_assert_eq!(service(found.service.0), format!("service {}", count.service.0));
                prop_assert_eq!((found.spans, found.errors), (count.spans, count.errors));
            }
            prop_assert_eq!(shares.len(), row.shares.len());
            for (mut found, share) in shares.into_iter().zip(&row.shares) {
                prop_assert_eq!(operation(found.operation.0), format!("operation {}", share.operation.0));
                let edge = found.edge.map(|(client, server)| (service(client.0), service(server.0)));
                let wanted = share.edge.map(|(a, b)| (format!("service {}", a.0), format!("service {}", b.0)));
                prop_assert_eq!(edge, wanted);
                (found.operation, found.edge) = (share.operation, share.edge);
                prop_assert_eq!(found, *share);
            }
        }
    }
}
