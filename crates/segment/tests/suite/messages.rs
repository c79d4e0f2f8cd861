//! Span messages of every make come back to the bit: as encoders write them, and as nobody should.

use std::cmp::Reverse;

use proptest::collection::vec;
use proptest::prelude::*;
use segment::{ChunkBlock, Key};
use trace_model::{OperationId, ServiceId, SpanId, SpanKind, SpanNode, StatusCode, TraceId, UnixNanos};

use crate::round_trip::{check_chunks, check_look_ups, in_order};
use crate::sample::{Sample, batch, sealed};

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn sized(out: &mut Vec<u8>, tag: u64, content: &[u8]) {
    varint(out, tag);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

fn field(tag: u64, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    sized(&mut out, tag, content);
    out
}

fn number(tag: u64, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, tag);
    varint(&mut out, value);
    out
}

fn fixed(tag: u64, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, tag);
    out.extend_from_slice(&value.to_le_bytes());
    out
}

/// Numbers of all sizes, small ones most of the time.
fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..300_u64, 1 => any::<u64>(), 1 => (0..64_u32).prop_map(|n| u64::MAX >> n)]
}

fn texts() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-c]{0,2}".prop_map(String::into_bytes),
        4 => "/v1/items/[0-9]{1,4}".prop_map(String::into_bytes),
        2 => "[0-9]{0,30}(\\.[0-9]{1,3}){0,20}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..200),
        1 => Just(vec![b'x'; 5_000]),
    ]
}

fn values() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => texts().prop_map(|text| field(0x0a, &text)),
        2 => any::<bool>().prop_map(|flag| number(0x10, flag.into())),
        4 => numbers().prop_map(|value| number(0x18, value)),
        2 => any::<u64>().prop_map(|bits| fixed(0x21, bits)),
        1 => texts().prop_map(|text| field(0x2a, &text)),
        1 => texts().prop_map(|text| field(0x3a, &text)),
        1 => Just(Vec::new()),
        1 => vec(any::<u8>(), 0..12),
        // Two fields where there should be one.
        1 => numbers().prop_map(|value| [number(0x18, value), number(0x18, value)].concat()),
    ]
}

fn attributes(tag: u64) -> impl Strategy<Value = Vec<u8>> {
    let keys = prop_oneof![5 => "key\\.[a-d]", 1 => "[a-z]{0,300}"].prop_map(String::into_bytes);
    (keys, values(), 0..20_u8).prop_map(move |(key, value, turn)| match turn {
        0 => field(tag, &[field(0x12, &value), field(0x0a, &key)].concat()),
        1 => field(tag, &field(0x0a, &key)),
        _ => field(tag, &[field(0x0a, &key), field(0x12, &value)].concat()),
    })
}

fn events() -> impl Strategy<Value = Vec<u8>> {
    let inside = prop_oneof![
        numbers().prop_map(|time| fixed(0x09, 1_000_000_000_000_u64.wrapping_add(time))),
        texts().prop_map(|name| field(0x12, &name)),
        attributes(0x1a),
        vec(any::<u8>(), 0..6),
    ];
    vec(inside, 0..4).prop_map(|fields| field(0x5a, &fields.concat()))
}

fn fields() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => attributes(0x4a),
        2 => events(),
        2 => texts().prop_map(|name| field(0x2a, &name)),
        1 => numbers().prop_map(|kind| number(0x30, kind)),
        1 => any::<[u8; 8]>().prop_map(|id| field(0x12, &id)),
        1 => any::<[u8; 8]>().prop_map(|id| field(0x22, &id)),
        1 => any::<u64>().prop_map(|time| fixed(0x39, time)),
        1 => any::<u64>().prop_map(|time| fixed(0x41, time)),
        1 => texts().prop_map(|state| field(0x1a, &state)),
        1 => texts().prop_map(|link| field(0x6a, &link)),
        1 => Just(vec![0x7a, 0x00]),
        1 => any::<u32>().prop_map(|flags| [&[0x85, 0x01], &flags.to_le_bytes()[..]].concat()),
        // Unknown fields of every wire type, overlong varints, groups, and nonsense.
        1 => numbers().prop_map(|value| number(900 << 3, value)),
        1 => any::<u64>().prop_map(|value| fixed(900 << 3 | 1, value)),
        1 => texts().prop_map(|text| field(900 << 3 | 2, &text)),
        1 => Just(vec![0x30, 0x82, 0x80, 0x00]),
        1 => Just(vec![0x2a, 0x81, 0x00, b'a']),
        1 => Just(vec![0x4b, 0x4c]),
        1 => vec(any::<u8>(), 0..8),
    ]
}

/// The head that encoders write, with some of it left out at times; then anything.
pub(crate) fn messages() -> impl Strategy<Value = Vec<Sample>> {
    vec(
        (
            0..4_u8,
            0..50_u8,
            proptest::option::weighted(0.8, 0..50_u8),
            numbers(),
            numbers(),
            0..40_u8,
            vec(fields(), 0..6),
        ),
        1..150,
    )
    .prop_map(|drawn| drawn.into_iter().enumerate().map(|(nth, drawn)| sample(nth, drawn)).collect())
}

type Drawn = (u8, u8, Option<u8>, u64, u64, u8, Vec<Vec<u8>>);

fn sample(nth: usize, (trace, id, parent, start, duration, left_out, fields): Drawn) -> Sample {
    let trace_id = TraceId::new([trace + 1; 16]).unwrap();
    let start = 1_000_000_000_000_u64.wrapping_add(start);
    let end = start.wrapping_add(duration);
    let head = [
        field(0x0a, trace_id.as_bytes()),
        field(0x12, &[id + 1; 8]),
        parent.map(|parent| field(0x22, &[parent; 8])).unwrap_or_default(),
        field(0x2a, b"GET /"),
        number(0x30, u64::from(id % 7)),
        fixed(0x39, start),
        fixed(0x41, end),
    ];
    let head = head.iter().enumerate().filter(|(at, _)| *at != left_out as usize);
    let message = head.map(|(_, field)| field.clone()).chain(fields).collect::<Vec<_>>().concat();
    let node = SpanNode {
        span_id: SpanId::new([id + 1; 8]).unwrap(),
        parent: None,
        start: UnixNanos(start),
        end: UnixNanos(end),
        content: nth as u64,
        service: ServiceId(0),
        operation: OperationId(0),
        kind: SpanKind::from_wire(0),
        status: StatusCode::Unset,
    };
    Sample { trace_id, node, message, context: format!("context {}", nth % 5).into_bytes() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_message_comes_back_to_the_bit(samples in messages()) {
        let (memory, meta) = sealed(&[batch(1, &samples)], &[]);
        check_chunks(&memory, &meta, &in_order(&samples));
    }
}

/// Spans of one trace, each the child of the one before; the first `of_another` belong to a lesser trace.
fn chain(spans: u64, of_another: u64, padding: usize) -> Vec<Sample> {
    let one = |nth: u64| {
        let id = |nth: u64| (nth + 1).to_be_bytes();
        let trace_id = TraceId::new([if nth < of_another { 1 } else { 2 }; 16]).unwrap();
        let mut message = [field(0x0a, trace_id.as_bytes()), field(0x12, &id(nth))].concat();
        if nth > 0 {
            message.extend(field(0x22, &id(nth - 1)));
        }
        let (start, end) = (1_000_000 * nth, 1_000_000 * nth + 5);
        message.extend([field(0x2a, &vec![b'n'; padding]), fixed(0x39, start), fixed(0x41, end)].concat());
        let node = SpanNode {
            span_id: SpanId::new(id(nth)).unwrap(),
            parent: None,
            start: UnixNanos(start),
            end: UnixNanos(end),
            content: nth,
            service: ServiceId(0),
            operation: OperationId(0),
            kind: SpanKind::from_wire(0),
            status: StatusCode::Unset,
        };
        Sample { trace_id, node, message, context: b"context".to_vec() }
    };
    (0..spans).map(one).collect()
}

#[test]
fn a_giant_trace_goes_on_in_the_next_blocks() {
    let samples = chain(10_000, 3, 9);
    let (memory, meta) = sealed(&[batch(1, &samples)], &[]);
    assert_eq!(meta.chunk_continued, [1, 2]);
    assert_eq!(meta.chunk_first_trace, [0, 1, 1]);
    check_chunks(&memory, &meta, &in_order(&samples));
    check_look_ups(&memory, &meta, &in_order(&samples));
    // One span is told from the others by its place, without putting them together.
    let block = ChunkBlock::read(&memory, 1).unwrap();
    let one = &samples[5_000].node;
    let among = |start, id: &[u8]| start == one.start && id == one.span_id.as_bytes();
    assert_eq!(block.spans_among(&samples[5_000].trace_id, &among).unwrap().len(), 1);
}

#[test]
fn large_messages_end_a_block_as_many_do() {
    let samples = chain(40, 0, 300_000);
    let (memory, meta) = sealed(&[batch(1, &samples)], &[]);
    assert!(meta.chunk_continued.len() > 3, "{:?}", meta.chunk_continued);
    check_chunks(&memory, &meta, &in_order(&samples));
}

#[test]
fn a_context_too_large_for_the_table_stays_with_its_spans() {
    let mut samples = chain(20, 5, 9);
    for sample in &mut samples[3..15] {
        sample.context = vec![b'c'; 70_000];
    }
    let (memory, meta) = sealed(&[batch(1, &samples)], &[]);
    let own = ChunkBlock::read(&memory, 0).unwrap().spans(&samples[7].trace_id).unwrap();
    assert_eq!(own.iter().filter(|span| span.own_context.is_some()).count(), 10);
    check_chunks(&memory, &meta, &in_order(&samples));
}

/// Two clients with a resource too large for the table, whose traces lie among each other.
#[test]
fn own_contexts_do_not_swell_a_block() {
    let mut samples = chain(200, 1, 9);
    for (nth, sample) in samples.iter_mut().enumerate() {
        sample.context = vec![b'a' + (nth % 2) as u8; 300_000];
    }
    let (memory, meta) = sealed(&[batch(1, &samples)], &[]);
    check_chunks(&memory, &meta, &in_order(&samples));
    for number in 0..meta.chunk_first_trace.len() as u32 {
        let bytes = ChunkBlock::read(&memory, number).unwrap().bytes();
        assert!(bytes < 4 << 20, "{bytes}");
    }
}

/// The block is full where a trace ends, and not before: equal contexts take the room of one.
#[test]
fn a_block_that_would_swell_ends_before_the_next_trace() {
    let mut samples = chain(16, 8, 9);
    for (nth, sample) in samples.iter_mut().enumerate() {
        sample.context = vec![if nth < 8 { b'a' } else { b'b' }; 300_000];
    }
    let (memory, meta) = sealed(&[batch(1, &samples)], &[]);
    assert_eq!((meta.chunk_first_trace.len(), meta.chunk_continued.len()), (2, 0));
    check_chunks(&memory, &meta, &in_order(&samples));
}

#[test]
fn spans_of_a_trace_share_a_context_of_their_own() {
    let mut samples = chain(50, 50, 9);
    samples.iter_mut().for_each(|sample| sample.context = vec![b'c'; 70_000]);
    let (memory, meta) = sealed(&[batch(1, &samples)], &[]);
    assert_eq!(meta.chunk_first_trace.len(), 1);
    let spans = ChunkBlock::read(&memory, 0).unwrap().spans(&samples[0].trace_id).unwrap();
    let own: Vec<_> = spans.iter().filter_map(|span| span.own_context.as_ref()).collect();
    assert!(own.len() == 50 && own.iter().all(|context| std::sync::Arc::ptr_eq(context, own[0])));
}

#[test]
fn what_spans_share_is_stored_once() {
    let mut samples = chain(4_000, 2_000, 9);
    for (nth, sample) in samples.iter_mut().enumerate() {
        let text = format!("SELECT name FROM items WHERE id = {} AND region = 'eu-{}'", nth * 7_919, nth % 3);
        sample.message.extend(field(
            0x4a,
            &[field(0x0a, b"db.query.text"), field(0x12, &field(0x0a, text.as_bytes()))].concat(),
        ));
    }
    samples.sort_by_key(|sample| (sample.trace_id, sample.node.start, Reverse(sample.node.end)));
    let (memory, meta) = sealed(&[batch(1, &samples)], &[]);
    check_chunks(&memory, &meta, &samples);
    let stored: usize = (0..meta.chunk_first_trace.len() as u32)
        .map(|number| memory.0[&Key::Chunk(number).to_bytes()].len())
        .sum();
    assert!(stored < 4_000 * 16, "{stored} bytes");
}
