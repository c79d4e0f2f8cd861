//! Segments with more contexts, or more bytes of them, than are numbered: further spans carry their own, and all read
//! back.

use segment::ChunkBlock;
use trace_model::{OperationId, ServiceId, SpanId, SpanKind, SpanNode, StatusCode, TraceId, UnixNanos};

use crate::round_trip::{check_chunks, in_order};
use crate::sample::{Sample, batch, sealed};

/// The caps, as `contexts.rs` has them.
const NUMBERED_MAX: usize = 64 << 10;
const BYTES_MAX: usize = 16 << 20;
const CONTEXT_MAX: usize = 64 << 10;
const SPANS_OF_A_TRACE: usize = 500;

fn sample(nth: usize, context: Vec<u8>) -> Sample {
    let trace = (nth / SPANS_OF_A_TRACE + 1) as u128;
    let start = UnixNanos(1_000 + nth as u64);
    let node = SpanNode {
        span_id: SpanId::new((nth as u64 + 1).to_be_bytes()).unwrap(),
        parent: None,
        start,
        end: UnixNanos(start.0 + 5),
        content: nth as u64,
        service: ServiceId(0),
        operation: OperationId(0),
        kind: SpanKind::Internal,
        status: StatusCode::Unset,
    };
    Sample { trace_id: TraceId::new(trace.to_be_bytes()).unwrap(), node, message: vec![0x12, 1, 7], context }
}

/// How many spans of a segment of one batch carry their context, once all of it was read back.
fn with_their_own(samples: &[Sample]) -> usize {
    let (memory, meta) = sealed(&[batch(1, samples)], &[]);
    let sorted = in_order(samples);
    check_chunks(&memory, &meta, &sorted);
    let blocks: Vec<ChunkBlock> =
        (0..meta.chunk_first_trace.len()).map(|n| ChunkBlock::read(&memory, n as u32).unwrap()).collect();
    let ids = sorted.chunk_by(|a, b| a.trace_id == b.trace_id).map(|spans| spans[0].trace_id);
    let spans = ids.flat_map(|id| blocks.iter().filter_map(move |block| block.spans(&id).ok()).flatten());
    spans.filter(|span| span.own_context.is_some()).count()
}

#[test]
fn contexts_beyond_the_cap_on_their_number_are_kept_with_their_spans() {
    const SPANS: usize = NUMBERED_MAX + 1_000;
    let mut samples: Vec<Sample> =
        (0..SPANS).map(|nth| sample(nth, format!("context {nth}").into_bytes())).collect();
    // Spans that come after the cap was reached are still numbered if their context is.
    samples.extend((SPANS..SPANS + 100).map(|nth| sample(nth, b"context 7".to_vec())));
    assert_eq!(with_their_own(&samples), 1_000);
}

#[test]
fn contexts_beyond_the_cap_on_their_bytes_are_kept_with_their_spans() {
    const LENGTH: usize = 60 << 10;
    const NUMBERED: usize = BYTES_MAX / LENGTH;
    let context = |nth: usize, length: usize| {
        let mut context = nth.to_be_bytes().repeat(length / 8 + 1);
        context.truncate(length);
        context
    };
    // The first is too long by itself, and takes no room from the others.
    let mut samples = vec![sample(0, context(0, CONTEXT_MAX + 1))];
    samples.extend((1..=NUMBERED + 30).map(|nth| sample(nth, context(nth, LENGTH))));
    // One that is short enough for what room is left.
    samples.push(sample(NUMBERED + 31, context(NUMBERED + 31, BYTES_MAX % LENGTH)));
    assert_eq!(with_their_own(&samples), 1 + 30);
}
