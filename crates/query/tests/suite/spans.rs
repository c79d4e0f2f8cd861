//! Random spans with many ties, and their bytes.

use std::sync::Arc;

use bytes::Bytes;
use query::NameTable;
use trace_model::{SpanId, SpanKind, SpanNode, StatusCode, TraceId, UnixNanos};

pub(crate) const SECOND: u64 = 1_000_000_000;
/// The spans of a life of the query suite begin within ten of these.
pub(crate) const STEP: u64 = 20 * SECOND;
pub(crate) const BASE: u64 = 1_700_000_000 * SECOND;
pub(crate) const SERVICES: [&str; 3] = ["shop", "cart", "bank"];
pub(crate) const NAMES: [&str; 3] = ["GET /", "pay", "query"];

/// xorshift64*: a few random numbers, the same for the same seed.
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) parent: Option<SpanId>,
    pub(crate) service: &'static str,
    pub(crate) name: &'static str,
    pub(crate) kind: SpanKind,
    pub(crate) status: StatusCode,
    pub(crate) start: UnixNanos,
    pub(crate) end: UnixNanos,
}

impl Span {
    pub(crate) fn duration(&self) -> u64 {
        self.end.since(self.start).0
    }

    pub(crate) fn message(&self) -> Vec<u8> {
        let mut out = field(1, self.trace_id.as_bytes());
        out.extend(field(2, self.span_id.as_bytes()));
        if let Some(parent) = &self.parent {
            out.extend(field(4, parent.as_bytes()));
        }
        out.extend(field(5, self.name.as_bytes()));
        out.extend([6 << 3, self.kind as u8, 7 << 3 | 1]);
        out.extend(self.start.0.to_le_bytes());
        out.push(8 << 3 | 1);
        out.extend(self.end.0.to_le_bytes());
        out.extend(field(15, &[3 << 3, self.status as u8]));
        out
    }

    pub(crate) fn content(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&self.message())
    }

    pub(crate) fn node(&self, names: &Arc<NameTable>) -> SpanNode {
        let service = names.service_id(Some(self.service.as_bytes()));
        SpanNode {
            span_id: self.span_id,
            parent: self.parent,
            start: self.start,
            end: self.end,
            content: self.content(),
            service,
            operation: names.operation_id(service, self.kind, self.name.as_bytes()),
            kind: self.kind,
            status: self.status,
        }
    }
}

fn field(number: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = payload.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(payload);
    out
}

/// An export request with one `ResourceSpans` a span.
pub(crate) fn request(spans: &[Span]) -> Bytes {
    let groups = spans.iter().flat_map(|span| {
        let value = field(1, span.service.as_bytes());
        let attribute = [field(1, b"service.name"), field(2, &value)].concat();
        let resource = field(1, &field(1, &attribute));
        let scope_spans = field(2, &field(2, &span.message()));
        field(1, &[resource, scope_spans].concat())
    });
    groups.collect::<Vec<u8>>().into()
}

/// The spans of some traces, in an order that is not that of their starts.
pub(crate) fn random_spans(dice: &mut Dice) -> Vec<Span> {
    let traces = 1 + dice.below(14);
    let mut spans: Vec<Span> = Vec::new();
    for trace in 0..traces {
        let mut id = [0x11; 16];
        id[0] = (trace * 83 % 251) as u8;
        id[15] = trace as u8;
        let count = 1 + dice.below(6) as u8;
        for nth in 1..=count {
            let own = if nth > 1 && dice.one_in(12) { nth - 1 } else { nth };
            let root = nth == 1 && !dice.one_in(6) || dice.one_in(25);
            // Apart by less than what rows tell apart, and by more.
            let beside = dice.pick(&[0, 0, 1, 2, 900, 1_000_000, 30_000_000]);
            let start = BASE + dice.below(9) * 20 * SECOND + beside;
            let length = dice.pick(&[0, 1, 1, 2, 3, 300]) * SECOND / 10;
            let end = if dice.one_in(30) { start - SECOND } else { start + length };
            spans.push(Span {
                trace_id: TraceId::new(id).unwrap(),
                span_id: SpanId::new([own; 8]).unwrap(),
                parent: (!root).then(|| SpanId::new([1 + dice.below(u64::from(count)) as u8; 8]).unwrap()),
                service: dice.pick(&SERVICES),
                name: dice.pick(&NAMES),
                kind: dice.pick(&[SpanKind::Server, SpanKind::Client]),
                status: dice.pick(&StatusCode::ALL),
                start: UnixNanos(start),
                end: UnixNanos(end),
            });
        }
    }
    for at in (1..spans.len()).rev() {
        spans.swap(at, dice.below(at as u64 + 1) as usize);
    }
    // The same bytes from two services are one span to everybody; the model has no such pair.
    let mut seen = std::collections::HashSet::new();
    spans.retain(|span| seen.insert(span.content()));
    spans
}
