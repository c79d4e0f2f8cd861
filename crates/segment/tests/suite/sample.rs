//! Random spans, an in-memory store of a segment's values, and names that say their number.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use segment::{
    Blocks, Key, LiveBatch, Names, OperationEntry, ReadError, SegmentInput, SegmentMeta, SpanRow, TraceRow,
    TraceServiceCount, build,
};
use trace_analyze::{Flags, PathShare};
use trace_model::{
    NanoDuration, OperationId, ServiceId, SpanId, SpanKind, SpanNode, StatusCode, TraceId, UnixNanos,
};

pub(crate) const OPERATIONS: u32 = 12;
const SERVICES: u32 = 4;

#[derive(Debug, Default, Clone)]
pub(crate) struct Memory(pub(crate) BTreeMap<Vec<u8>, Vec<u8>>);

impl Blocks for Memory {
    fn get(&self, key: Key) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.0.get(&key.to_bytes()).cloned())
    }
}

#[derive(Debug)]
pub(crate) struct Numbered;

impl Names for Numbered {
    fn service(&self, id: ServiceId) -> Arc<str> {
        format!("service {}", id.0).into()
    }

    fn operation(&self, id: OperationId) -> OperationEntry {
        OperationEntry {
            service: ServiceId(id.0 % SERVICES),
            kind: SpanKind::from_wire(u64::from(id.0 % 6)),
            name: format!("operation {}", id.0).into(),
        }
    }
}

/// A span with its bytes and its context.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) trace_id: TraceId,
    pub(crate) node: SpanNode,
    pub(crate) message: Vec<u8>,
    pub(crate) context: Vec<u8>,
}

fn trace_id(n: u8) -> TraceId {
    let mut bytes = [n; 16];
    bytes[15] = 1;
    TraceId::new(bytes).unwrap()
}

/// Spans of few traces, with many ties; `content` tells them all apart.
pub(crate) fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let one = (
        0..40_u8,
        0..OPERATIONS,
        0..200_000_000_000_u64,
        0..6_u64,
        0..3_u64,
        any::<bool>(),
        0..90_u8,
        0..60_usize,
    );
    vec(one, 1..120).prop_map(|drawn| {
        let samples = drawn.into_iter().enumerate().map(|(nth, d)| {
            let (trace, operation, start, length, status, usual, context, size) = d;
            let trace_id = trace_id(trace);
            let start = start / 1_000_000_000 * 1_000_000_000;
            let mut message = if usual { vec![0x0a, 0x10] } else { vec![0x12] };
            if usual {
                message.extend_from_slice(trace_id.as_bytes());
            }
            message.extend((0..size).map(|i| (i * nth) as u8));
            let node = SpanNode {
                span_id: SpanId::new([trace + 1; 8]).unwrap(),
                parent: usual.then(|| SpanId::new([9; 8]).unwrap()),
                start: UnixNanos(start),
                end: UnixNanos((start + length * 250_000_000).saturating_sub(250_000_000)),
                content: nth as u64,
                service: ServiceId(operation % SERVICES),
                operation: OperationId(operation),
                kind: SpanKind::from_wire(u64::from(operation % 6)),
                status: StatusCode::from_wire(status),
            };
            Sample { trace_id, node, message, context: format!("context {context}").into_bytes() }
        });
        samples.collect()
    })
}

/// One batch of these spans.
pub(crate) fn batch(number: u64, samples: &[Sample]) -> Arc<LiveBatch> {
    let (mut request, mut context_bytes) = (vec![0xff; 3], Vec::new());
    let (mut contexts, mut rows) = (Vec::new(), Vec::new());
    for (nth, sample) in samples.iter().enumerate() {
        rows.push(SpanRow {
            trace_id: sample.trace_id,
            node: sample.node,
            offset: request.len() as u32,
            len: sample.message.len() as u32,
            context: nth as u32,
        });
        contexts.push((context_bytes.len() as u32, sample.context.len() as u32));
        request.extend_from_slice(&sample.message);
        context_bytes.extend_from_slice(&sample.context);
    }
    let arrival = UnixNanos(1_000 + number);
    Arc::new(LiveBatch {
        number,
        seq: number,
        arrival,
        request: request.into(),
        context_bytes,
        contexts,
        rows,
    })
}

/// Analyses of traces, whether or not they have spans here.
pub(crate) fn analyses() -> impl Strategy<Value = Vec<Arc<TraceRow>>> {
    let share = (
        0..OPERATIONS,
        proptest::option::of((0..SERVICES, 0..SERVICES)),
        any::<u64>(),
        0..9_u32,
        any::<bool>(),
    );
    let one =
        (any::<u32>(), 0..5_u64, proptest::option::of(0..OPERATIONS), any::<[bool; 2]>(), vec(share, 0..5));
    vec(one, 0..30).prop_map(|drawn| {
        let rows =
            drawn.into_iter().enumerate().map(|(nth, (number, duration, root, [odd, revised], shares))| {
                let mut flags = Flags::default();
                flags.insert_if(Flags::OVERRUN, odd);
                Arc::new(TraceRow {
                    trace_id: trace_id(nth as u8),
                    start: UnixNanos(u64::from(number)),
                    duration: NanoDuration(duration),
                    root: root.map(OperationId),
                    root_duration: NanoDuration(duration / 2),
                    spans: number,
                    errors: number / 2,
                    missing_parents: number / 3,
                    flags,
                    revised,
                    services: (0..SERVICES)
                        .map(|service| TraceServiceCount {
                            service: ServiceId(service),
                            spans: number,
                            errors: 1,
                        })
                        .collect(),
                    shares: shares
                        .into_iter()
                        .map(|(operation, edge, exclusive, spans, on_path)| PathShare {
                            service: ServiceId(u32::MAX),
                            operation: OperationId(operation),
                            edge: edge.map(|(client, server)| (ServiceId(client), ServiceId(server))),
                            exclusive: NanoDuration(exclusive),
                            spans,
                            errors: spans / 2,
                            on_path,
                        })
                        .collect(),
                })
            });
        rows.collect()
    })
}

pub(crate) fn sealed(batches: &[Arc<LiveBatch>], analysed: &[Arc<TraceRow>]) -> (Memory, SegmentMeta) {
    let open = [trace_id(200)];
    let input = SegmentInput {
        batches,
        frames: Some((1, 9)),
        analysed,
        open: &open,
        open_since: None,
        names: &Numbered,
        dictionary: None,
        now: UnixNanos(5_000),
    };
    let mut memory = Memory::default();
    let mut last = Vec::new();
    let meta = build(&input, &mut |key, value| {
        let key = key.to_bytes();
        assert!(last < key, "keys do not rise");
        last.clone_from(&key);
        memory.0.insert(key, value.to_vec());
        Ok(())
    });
    (memory, meta.unwrap())
}
