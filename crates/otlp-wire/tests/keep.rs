//! A request without some of its spans is one that never had them.
#![allow(clippy::unwrap_used)] // A test that cannot unwrap has failed.

use longpole_fuzz::otlp::drawn;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use otlp_wire::{Walked, WireLimits, keep_spans, walk};
use proptest::prelude::*;
use prost::Message as _;

fn walked(request: &[u8]) -> Walked {
    let mut walked = Walked::new();
    walk(request, &WireLimits::STORED, &mut walked).unwrap();
    walked
}

/// A span whose message is about this long.
fn span(id: u8, length: usize) -> Span {
    let (trace_id, span_id) = (vec![id.max(1); 16], vec![id.max(1); 8]);
    Span { trace_id, span_id, name: "n".repeat(length), ..Span::default() }
}

/// A request of these spans, by resource and scope.
fn request(blocks: &[Vec<Vec<Span>>]) -> ExportTraceServiceRequest {
    let scope_spans = |spans: &Vec<Span>| ScopeSpans {
        spans: spans.clone(),
        schema_url: "of the scope".to_owned(),
        ..ScopeSpans::default()
    };
    let resource_spans = |scopes: &Vec<Vec<Span>>| ResourceSpans {
        resource: Some(Resource { dropped_attributes_count: 3, ..Resource::default() }),
        scope_spans: scopes.iter().map(scope_spans).collect(),
        schema_url: "of the resource".to_owned(),
    };
    ExportTraceServiceRequest { resource_spans: blocks.iter().map(resource_spans).collect() }
}

fn blocks() -> impl Strategy<Value = Vec<Vec<Vec<(Span, bool)>>>> {
    // Around the lengths at which a length takes another byte.
    let span = (1..255_u8, prop_oneof![0..200_usize, 16_300..16_400_usize], any::<bool>());
    let span = span.prop_map(|(id, length, stays)| (self::span(id, length), stays));
    let spans = prop::collection::vec(span, 0..5);
    prop::collection::vec(prop::collection::vec(spans, 0..3), 0..3)
}

proptest! {
    #[test]
    fn what_is_left_is_the_request_of_the_others(blocks in blocks()) {
        let all = blocks.iter().flatten().flatten();
        let stays: Vec<bool> = all.map(|(_, stays)| *stays).collect();
        let part = |only: bool| {
            let spans = |spans: &Vec<(Span, bool)>| -> Vec<Span> {
                spans.iter().filter(|(_, stays)| *stays || !only).map(|(span, _)| span.clone()).collect()
            };
            let blocks: Vec<Vec<Vec<Span>>> =
                blocks.iter().map(|scopes| scopes.iter().map(spans).collect()).collect();
            request(&blocks).encode_to_vec()
        };
        let (whole, want) = (part(false), part(true));
        let offsets = walked(&whole).spans.into_iter().zip(stays).filter(|(_, stays)| *stays);
        prop_assert_eq!(keep_spans(&whole, offsets.map(|(span, _)| span.span.0)).unwrap(), want);
    }

    /// What was rejected for a limit stays out whatever the limits are later, and the others are as they were.
    #[test]
    fn what_is_left_of_limits_needs_none(
        request in drawn::request(),
        attributes in 0..4_u32,
        bytes in 30..300_u32,
        context in 0..200_u32,
    ) {
        let request = request.encode_to_vec();
        let limits = WireLimits {
            span_attributes: attributes,
            span_bytes: bytes,
            context_bytes: context,
            ..WireLimits::STORED
        };
        let mut before = Walked::new();
        walk(&request, &limits, &mut before).unwrap();
        prop_assert!(before.spans.iter().all(|span| (span.group as usize) < before.groups.len()));
        let left = keep_spans(&request, before.spans.iter().map(|span| span.span.0)).unwrap();
        let after = walked(&left);
        prop_assert_eq!((after.rejected_spans, after.groups.len()), (0, before.groups.len()));
        let told = |walked: &Walked, request: &[u8]| -> Vec<(Vec<u8>, Vec<u8>)> {
            let context = |group| {
                let mut context = Vec::new();
                walked.context(group, request, &mut context);
                context
            };
            walked.spans.iter().map(|span| (span.bytes(request).to_vec(), context(span.group))).collect()
        };
        prop_assert_eq!(told(&after, &left), told(&before, &request));
    }

    #[test]
    fn no_input_makes_it_panic_or_grow(bytes in prop::collection::vec(any::<u8>(), 0..200), kept in 0..40_u32) {
        if let Ok(left) = keep_spans(&bytes, kept..) {
            prop_assert!(left.len() <= bytes.len());
        }
    }
}

/// Unknown fields stay, on every level; a length with more bytes than it needs becomes shorter.
#[test]
fn what_is_around_the_spans_stays() {
    let field = |key: u8, payload: &[u8]| [&[key, payload.len() as u8], payload].concat();
    let (first, second) = (span(1, 3).encode_to_vec(), span(2, 3).encode_to_vec());
    let unknown = field(0x7a, b"?");
    let scope = |spans: &[&[u8]]| {
        let spans: Vec<u8> = spans.iter().flat_map(|span| field(0x12, span)).collect();
        [&unknown[..], &spans, &unknown].concat()
    };
    let around = |scope: Vec<u8>| [&unknown[..], &field(0x12, &scope), &unknown].concat();
    let whole = around(scope(&[&first, &second]));
    let long = [&[0x0a, whole.len() as u8 | 0x80, 0x80, 0x00][..], &whole].concat();
    let whole = [&unknown[..], &long, &unknown].concat();
    let want = [&unknown[..], &field(0x0a, &around(scope(&[&second]))), &unknown].concat();
    let offset = walked(&whole).spans[1].span.0;
    assert_eq!(keep_spans(&whole, [offset]).unwrap(), want);
}
