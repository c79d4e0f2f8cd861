//! Traces written as text.
//!
//! `A[10,40]<R(SERVER)@shop!` is span A from 10 ms to 40 ms, child of R, a SERVER of the service `shop`
//! with status ERROR. Kind, service, parent and `!` may be left out. `S=A[..]` is labelled S and has the
//! id of A. The same text twice is the same span sent twice.

use std::collections::HashMap;

use trace_analyze::{CriticalPath, Extent, Overrun, PathOptions, critical_path};
use trace_model::{
    NanoDuration, OperationId, ServiceId, SpanId, SpanKind, SpanNode, StatusCode, Trace, UnixNanos,
};

pub(crate) const MS: u64 = 1_000_000;

/// A number for a word that does not depend on other words.
fn number(word: &str) -> u64 {
    word.bytes().fold(0, |n: u64, byte| n.wrapping_mul(131).wrapping_add(u64::from(byte))).max(1)
}

pub(crate) fn id(word: &str) -> SpanId {
    SpanId::new(number(word).to_be_bytes()).unwrap()
}

/// Spans from text, and the label of each by its content.
pub(crate) struct Drawn {
    pub(crate) spans: Vec<SpanNode>,
    labels: HashMap<u64, String>,
}

impl Drawn {
    pub(crate) fn parse(text: &str) -> Self {
        let mut drawn = Self { spans: Vec::new(), labels: HashMap::new() };
        for word in text.split_whitespace() {
            let (label, span) = parse_span(word);
            drawn.labels.insert(span.content, label);
            drawn.spans.push(span);
        }
        drawn
    }

    pub(crate) fn trace(&self) -> Trace {
        Trace::from_spans(self.spans.clone()).unwrap().0
    }

    /// The spans `by` nanoseconds later, in another order.
    pub(crate) fn shifted(&self, by: u64) -> Self {
        let shift = |span: &SpanNode| SpanNode {
            start: UnixNanos(span.start.0 + by),
            end: UnixNanos(span.end.0 + by),
            ..*span
        };
        Self { spans: self.spans.iter().rev().map(shift).collect(), labels: self.labels.clone() }
    }

    pub(crate) fn label(&self, trace: &Trace, i: u32) -> &str {
        &self.labels[&trace.spans()[i as usize].content]
    }

    /// A path as `R[0,10] A[10,40]`, edges as `C~S[10,20]`, in ms after `zero`.
    pub(crate) fn write(&self, trace: &Trace, path: &CriticalPath, zero: u64) -> String {
        let ms = |at: UnixNanos| (at.0 - zero) / MS;
        let write = |segment: &trace_analyze::PathSegment| {
            let owner = match segment.edge {
                Some((a, b)) => format!("{}~{}", self.label(trace, a), self.label(trace, b)),
                None => self.label(trace, segment.span).to_string(),
            };
            format!("{owner}[{},{}]", ms(segment.start), ms(segment.end))
        };
        path.segments.iter().map(write).collect::<Vec<_>>().join(" ")
    }
}

fn parse_span(word: &str) -> (String, SpanNode) {
    let (name, rest) = word.split_once('[').unwrap();
    let (label, own_id) = name.split_once('=').unwrap_or((name, name));
    let (times, mut rest) = rest.split_once(']').unwrap();
    let (start, end) = times.split_once(',').unwrap();
    let mut span = SpanNode {
        span_id: id(own_id),
        parent: None,
        start: UnixNanos(start.parse::<u64>().unwrap() * MS),
        end: UnixNanos(end.parse::<u64>().unwrap() * MS),
        content: number(word),
        service: ServiceId(number("app") as u32),
        operation: OperationId(number(label) as u32),
        kind: SpanKind::Internal,
        status: StatusCode::Unset,
    };
    while let Some(sign) = rest.chars().next() {
        let end = rest[1..].find(['<', '(', '@', '!']).map_or(rest.len(), |at| at + 1);
        let value = rest[1..end].trim_end_matches(')');
        match sign {
            '<' => span.parent = Some(id(value)),
            '(' => span.kind = SpanKind::from_word(&value.to_lowercase()).unwrap(),
            '@' => span.service = ServiceId(number(value) as u32),
            '!' => span.status = StatusCode::Error,
            other => panic!("`{other}` in `{word}`"),
        }
        rest = &rest[end..];
    }
    (label.to_string(), span)
}

pub(crate) fn options(overrun: Overrun, extent: Extent) -> PathOptions {
    PathOptions { overrun, extent, epsilon: NanoDuration(0) }
}

/// The response path of the primary root with the default options.
pub(crate) fn response(trace: &Trace) -> CriticalPath {
    critical_path(trace, trace.primary_root(), &PathOptions::default())
}

/// What a path is made of, told by ids and without edges, to compare the paths of two traces.
pub(crate) fn told(trace: &Trace, path: &CriticalPath) -> Vec<(SpanId, u64, u64)> {
    let tell = |s: &trace_analyze::PathSegment| (trace.spans()[s.span as usize].span_id, s.start.0, s.end.0);
    path.segments.iter().map(tell).collect()
}
