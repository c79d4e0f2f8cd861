//! Sound segments in memory, made of drawn spans and analyses.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use prost::Message;
use segment::{
    Blocks, BuildError, Dictionary, Key, LiveBatch, Names, OperationEntry, ReadError, SegmentInput, SpanRow,
    TraceRow, TraceServiceCount, build,
};
use trace_analyze::{Flags, PathShare};
use trace_model::{
    NanoDuration, OperationId, ServiceId, SpanId, SpanKind, SpanNode, StatusCode, TraceId, UnixNanos,
};

use crate::Dice;

const OPERATIONS: usize = 9;
const SERVICES: u32 = 3;

/// All drawn spans end in this minute since the epoch.
pub(super) const MINUTE: u32 = 28_000_000;
pub(super) const BASE: u64 = MINUTE as u64 * UnixNanos::PER_MINUTE;

/// The values of a segment by key.
#[derive(Debug, Default, Clone)]
pub(super) struct Memory(pub(super) BTreeMap<Vec<u8>, Vec<u8>>);

impl Blocks for Memory {
    fn get(&self, key: Key) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.0.get(&key.to_bytes()).cloned())
    }
}

#[derive(Debug)]
pub(super) struct Numbered;

impl Names for Numbered {
    fn service(&self, id: ServiceId) -> Arc<str> {
        format!("service {}", id.0).into()
    }

    fn operation(&self, id: OperationId) -> OperationEntry {
        let kind = SpanKind::from_wire(u64::from(id.0 % 6));
        OperationEntry {
            service: ServiceId(id.0 % SERVICES),
            kind,
            name: format!("operation {}", id.0).into(),
        }
    }
}

fn trace_id(dice: &mut Dice, of: usize) -> TraceId {
    let mut bytes = [0x5a; 16];
    bytes[0] = dice.below(of) as u8;
    TraceId::new(bytes).unwrap()
}

fn span(dice: &mut Dice, trace_id: TraceId) -> (Span, OperationId) {
    let operation = OperationId(dice.below(OPERATIONS) as u32);
    let length = dice.pick(&[0, 1, 250, 1_000_000, 3_000_000_000]);
    let span = Span {
        trace_id: trace_id.as_bytes().to_vec(),
        span_id: vec![1 + dice.below(250) as u8; 8],
        parent_span_id: if dice.one_in(3) { Vec::new() } else { vec![1 + dice.below(250) as u8; 8] },
        name: format!("operation {}", operation.0),
        kind: (operation.0 % 6) as i32,
        start_time_unix_nano: BASE + 30_000_000_000 - length,
        end_time_unix_nano: BASE + 30_000_000_000,
        trace_state: "x".repeat(dice.below(40)),
        status: Some(Status { code: dice.below(3) as i32, ..Status::default() }),
        ..Span::default()
    };
    (span, operation)
}

/// Encoders usually write the trace id first, but need not.
fn encode(span: &Span, dice: &mut Dice) -> Vec<u8> {
    if !dice.one_in(6) {
        return span.encode_to_vec();
    }
    let id = Span { trace_id: span.trace_id.clone(), ..Span::default() };
    let rest = Span { trace_id: Vec::new(), ..span.clone() };
    [rest.encode_to_vec(), id.encode_to_vec()].concat()
}

pub(super) fn batch(dice: &mut Dice) -> Arc<LiveBatch> {
    let (mut request, mut context_bytes) = (vec![0xff; 3], Vec::new());
    let (mut contexts, mut rows) = (Vec::new(), Vec::new());
    let traces = 1 + dice.below(12);
    for _ in 0..dice.pick(&[1, 5, 20, 60]) {
        let trace_id = trace_id(dice, traces);
        let (span, operation) = span(dice, trace_id);
        let message = encode(&span, dice);
        let context = format!("\u{5}\n\u{3}abc{}", "c".repeat(dice.below(80))).into_bytes();
        let node = SpanNode {
            span_id: SpanId::try_from(&span.span_id[..]).unwrap(),
            parent: SpanId::try_from(&span.parent_span_id[..]).ok(),
            start: UnixNanos(span.start_time_unix_nano),
            end: UnixNanos(span.end_time_unix_nano),
            content: xxhash_rust::xxh3::xxh3_64(&message),
            service: ServiceId(operation.0 % SERVICES),
            operation,
            kind: SpanKind::from_wire(u64::from(operation.0 % 6)),
            status: StatusCode::from_wire(span.status.map_or(0, |status| status.code as u64)),
        };
        let (offset, len) = (request.len() as u32, message.len() as u32);
        rows.push(SpanRow { trace_id, node, offset, len, context: contexts.len() as u32 });
        contexts.push((context_bytes.len() as u32, context.len() as u32));
        request.extend_from_slice(&message);
        context_bytes.extend_from_slice(&context);
    }
    let request = request.into();
    Arc::new(LiveBatch {
        number: 1,
        seq: 1,
        arrival: UnixNanos(BASE),
        request,
        context_bytes,
        contexts,
        rows,
    })
}

fn share(dice: &mut Dice) -> PathShare {
    let service = |dice: &mut Dice| ServiceId(dice.below(SERVICES as usize) as u32);
    PathShare {
        service: ServiceId(u32::MAX),
        operation: OperationId(dice.below(OPERATIONS) as u32),
        edge: if dice.one_in(2) { Some((service(dice), service(dice))) } else { None },
        exclusive: NanoDuration(dice.any() >> dice.below(64)),
        spans: dice.below(1_000) as u32,
        errors: dice.below(9) as u32,
        on_path: dice.one_in(2),
    }
}

pub(super) fn analysis(dice: &mut Dice, nth: u8) -> Arc<TraceRow> {
    let mut flags = Flags::default();
    flags.insert_if(Flags::OVERRUN, dice.one_in(3));
    let services = (0..dice.below(SERVICES as usize + 1) as u32).map(|service| TraceServiceCount {
        service: ServiceId(service),
        spans: dice.below(300) as u32,
        errors: dice.below(3) as u32,
    });
    let services = services.collect();
    Arc::new(TraceRow {
        trace_id: TraceId::new([nth + 1; 16]).unwrap(),
        start: UnixNanos(BASE + dice.below(1 << 30) as u64),
        duration: NanoDuration(dice.any() >> dice.below(64)),
        root: if dice.one_in(4) { None } else { Some(OperationId(dice.below(OPERATIONS) as u32)) },
        root_duration: NanoDuration(dice.below(1 << 40) as u64),
        spans: dice.below(400) as u32,
        errors: dice.below(4) as u32,
        missing_parents: dice.below(4) as u32,
        flags,
        revised: dice.one_in(4),
        services,
        shares: (0..dice.below(5)).map(|_| share(dice)).collect(),
    })
}

/// A segment with at least one value of every kind.
pub(super) fn sealed(dice: &mut Dice) -> Memory {
    try_sealed(dice, None).unwrap()
}

/// Likewise, compressed with a dictionary, which the compressor may refuse.
pub(super) fn try_sealed(dice: &mut Dice, dictionary: Option<&Dictionary>) -> Result<Memory, BuildError> {
    let batches = [batch(dice)];
    let count = dice.pick(&[1, 4, 30]);
    let analysed: Vec<_> = (0..count).map(|nth| analysis(dice, nth)).collect();
    // Open traces are named by their number among those that have spans here.
    let open: Vec<TraceId> = batches[0].rows.iter().take(1 + dice.below(5)).map(|row| row.trace_id).collect();
    let input = SegmentInput {
        batches: &batches,
        frames: Some((1, 9)),
        analysed: &analysed,
        open: &open,
        open_since: Some(UnixNanos(BASE)),
        names: &Numbered,
        dictionary,
        now: UnixNanos(BASE),
    };
    let mut memory = Memory::default();
    build(&input, &mut |key, value| {
        memory.0.insert(key.to_bytes(), value.to_vec());
        Ok(())
    })?;
    Ok(memory)
}
