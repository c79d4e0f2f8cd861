//! Spans made from a seed: small traces of a few services, with the odd cases that real ones have.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use rand::Rng as _;
use rand::rngs::StdRng;

/// The services that send.
pub const SERVICES: [&str; 4] = ["web", "orders", "stock", "billing"];

const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const CLIENT: i32 = 3;

/// A span and the service that sends it.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Sent {
    pub service: &'static str,
    pub span: Span,
}

/// Now, in unix nanoseconds.
pub fn now_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// An attribute with a string.
pub fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.to_owned()))
}

/// An attribute with any value.
pub fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// One trace of 3 to 18 spans that starts at `start`: servers, clients and internal work, at times a failure, a
/// link, an event, a parent that never comes, a child that outlives its parent, two spans of equal times.
pub fn trace(rng: &mut StdRng, start: u64) -> Vec<Sent> {
    let trace_id: [u8; 16] = rng.random();
    let count = rng.random_range(3..=18);
    let lost = rng.random_bool(0.08).then(|| rng.random_range(1..count));
    let mut made: Vec<Sent> = Vec::with_capacity(count);
    for n in 0..count {
        let parent = (n > 0).then(|| made[rng.random_range(0..n)].clone());
        made.push(child(rng, trace_id, parent.as_ref(), start));
    }
    // The lost span's children name a parent that nobody ever sends.
    if let Some(lost) = lost {
        made.remove(lost);
    }
    made
}

fn child(rng: &mut StdRng, trace_id: [u8; 16], parent: Option<&Sent>, start: u64) -> Sent {
    let span_id: [u8; 8] = rng.random();
    let (service, kind, from, length) = match parent {
        None => (SERVICES[0], SERVER, start, rng.random_range(2_000_000..400_000_000)),
        Some(parent) => {
            let (service, kind) = if parent.span.kind == CLIENT {
                (SERVICES[rng.random_range(1..SERVICES.len())], SERVER)
            } else {
                (parent.service, if rng.random_bool(0.6) { CLIENT } else { INTERNAL })
            };
            let (from, room) = (parent.span.start_time_unix_nano, length(&parent.span).max(10));
            let offset = if rng.random_bool(0.1) { 0 } else { rng.random_range(0..room / 2) };
            let overrun = if rng.random_bool(0.05) { room } else { 0 };
            (service, kind, from + offset, rng.random_range(1..=room - room / 2) + overrun)
        }
    };
    let error = rng.random_bool(0.04);
    let span = Span {
        trace_id: trace_id.to_vec(),
        span_id: span_id.to_vec(),
        parent_span_id: parent.map(|p| p.span.span_id.clone()).unwrap_or_default(),
        name: operation(rng, kind).to_owned(),
        kind,
        start_time_unix_nano: from,
        end_time_unix_nano: from + length,
        attributes: vec![
            text("http.route", "/v1/orders/{id}"),
            attribute("app.items", any_value::Value::IntValue(rng.random_range(0..50))),
        ],
        events: events(rng, from, error),
        links: links(rng),
        status: error.then(|| Status { message: "failed".to_owned(), code: 2 }),
        flags: 1,
        ..Span::default()
    };
    Sent { service, span }
}

fn length(span: &Span) -> u64 {
    span.end_time_unix_nano - span.start_time_unix_nano
}

fn operation(rng: &mut StdRng, kind: i32) -> &'static str {
    let second = rng.random_bool(0.3);
    match (kind, second) {
        (SERVER, false) => "GET /orders",
        (SERVER, true) => "POST /orders",
        (CLIENT, _) => "call",
        _ => "work",
    }
}

fn events(rng: &mut StdRng, time: u64, error: bool) -> Vec<Event> {
    if !error && !rng.random_bool(0.05) {
        return Vec::new();
    }
    let attributes = vec![text("exception.message", "no such order: \u{1F4E6}")];
    vec![Event { time_unix_nano: time, name: "exception".to_owned(), attributes, ..Event::default() }]
}

fn links(rng: &mut StdRng) -> Vec<Link> {
    if !rng.random_bool(0.03) {
        return Vec::new();
    }
    let (trace_id, span_id): ([u8; 16], [u8; 8]) = (rng.random(), rng.random());
    vec![Link { trace_id: trace_id.to_vec(), span_id: span_id.to_vec(), ..Link::default() }]
}

/// One request with these spans, those of a service together.
pub fn request(spans: &[Sent]) -> ExportTraceServiceRequest {
    let mut by_service: BTreeMap<&str, Vec<Span>> = BTreeMap::new();
    for sent in spans {
        by_service.entry(sent.service).or_default().push(sent.span.clone());
    }
    let resource_spans =
        by_service.into_iter().map(|(service, spans)| resource_spans(service, spans)).collect();
    ExportTraceServiceRequest { resource_spans }
}

/// The spans of one service.
pub fn resource_spans(service: &str, spans: Vec<Span>) -> ResourceSpans {
    let attributes = vec![text("service.name", service), text("deployment.environment.name", "test")];
    let scope = InstrumentationScope { name: "traffic".to_owned(), ..InstrumentationScope::default() };
    ResourceSpans {
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_spans: vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn traces_are_seeded_valid_and_not_all_alike() {
        let mut rng = StdRng::seed_from_u64(1);
        let start = 1_700_000_000_000_000_000;
        let traces: Vec<Vec<Sent>> = (0..300).map(|_| trace(&mut rng, start)).collect();
        assert_eq!(trace(&mut StdRng::seed_from_u64(1), start), traces[0]);
        let mut ids = HashSet::new();
        for spans in &traces {
            assert!(spans.len() >= 2 && spans[0].span.parent_span_id.is_empty());
            for span in spans.iter().map(|s| &s.span) {
                assert!(span.end_time_unix_nano > span.start_time_unix_nano);
                assert!(span.start_time_unix_nano >= start && span.trace_id == spans[0].span.trace_id);
                assert!(ids.insert(span.span_id.clone()));
            }
        }
        let all = || traces.iter().flatten().map(|s| &s.span);
        assert!(all().any(|s| s.status.is_some()) && all().any(|s| !s.links.is_empty()));
        assert!(all().any(|s| s.kind == CLIENT) && all().any(|s| s.kind == INTERNAL));
        let lost = |s: &&Span| !s.parent_span_id.is_empty() && !ids.contains(&s.parent_span_id);
        assert!(all().any(|s| lost(&s)), "no parent is missing anywhere");
    }

    #[test]
    fn a_request_holds_every_span_once() {
        let spans = trace(&mut StdRng::seed_from_u64(2), 1_000);
        let request = request(&spans);
        let inside: usize =
            request.resource_spans.iter().flat_map(|r| &r.scope_spans).map(|s| s.spans.len()).sum();
        assert_eq!(inside, spans.len());
    }
}
