//! The walker against prost: same verdicts, same facts.
//!
//! Where the two differ on purpose:
//! - prost refuses a request with a string that is not UTF-8; Longpole keeps it.
//! - prost refuses a known field number with a wrong wire type; for Longpole it is an unknown
//!   field, which is what protobuf itself says.
//! - prost skips groups in unknown fields; Longpole refuses them, since no OTLP message has any.
//! - prost counts all nesting, up to 100; Longpole counts `AnyValue` only, up to 32.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use otlp_wire::{
    StoredSpan, TracesJson, Walked, WalkedSpan, WireFault, WireLimits, json_to_traces, read_span,
    service_name, splice_traces, walk,
};
use prost::Message;
use trace_model::{SpanKind, StatusCode};

use super::drawn::{Whole, flatten, has_good_ids, service};

fn check_span(walked: &Walked, span: &WalkedSpan, request: &[u8], want: &Whole) {
    assert_eq!(&span.trace_id.as_bytes()[..], want.span.trace_id);
    assert_eq!(&span.span_id.as_bytes()[..], want.span.span_id);
    let zero = want.span.parent_span_id.iter().all(|byte| *byte == 0);
    let parent = span.parent.map(|id| id.as_bytes().to_vec());
    assert_eq!(parent, (!zero).then(|| want.span.parent_span_id.clone()));
    assert_eq!(span.start.0, want.span.start_time_unix_nano);
    assert_eq!(span.end.0, want.span.end_time_unix_nano);
    assert_eq!(span.kind, SpanKind::from_wire(want.span.kind as u64));
    let status = want.span.status.as_ref().map_or(0, |status| status.code);
    assert_eq!(span.status, StatusCode::from_wire(status as u64));
    assert_eq!(span.name_bytes(request), want.span.name.as_bytes());
    let service = service(&want.resource).map(str::as_bytes);
    assert_eq!(walked.service(span.group, request), service);

    let mut context = Vec::new();
    walked.context(span.group, request, &mut context);
    assert_eq!(service_name(&context), service);
    check_head(span, request);
}

fn check_head(span: &WalkedSpan, request: &[u8]) {
    let head = read_span(span.bytes(request)).unwrap();
    assert_eq!((head.trace_id, head.span_id, head.parent), (span.trace_id, span.span_id, span.parent));
    assert_eq!(
        (head.start, head.end, head.kind, head.status),
        (span.start, span.end, span.kind, span.status)
    );
    assert_eq!((head.content, head.name), (span.content, span.name_bytes(request)));
}

fn check_facts(walked: &Walked, bytes: &[u8], decoded: &ExportTraceServiceRequest) {
    let want = flatten(decoded);
    assert_eq!(walked.spans.len(), want.len());
    for (span, want) in walked.spans.iter().zip(&want) {
        check_span(walked, span, bytes, want);
    }
    let all =
        decoded.resource_spans.iter().flat_map(|spans| &spans.scope_spans).flat_map(|spans| &spans.spans);
    assert_eq!(walked.rejected_spans, all.filter(|span| !has_good_ids(span)).count() as u64);
}

fn splice(walked: &Walked, bytes: &[u8]) -> Vec<u8> {
    let contexts: Vec<Vec<u8>> = walked
        .spans
        .iter()
        .map(|span| {
            let mut context = Vec::new();
            walked.context(span.group, bytes, &mut context);
            context
        })
        .collect();
    let stored = walked.spans.iter().zip(&contexts);
    splice_traces(stored.map(|(span, context)| StoredSpan { context, span: span.bytes(bytes) }))
}

/// JSON says what prost decodes, whatever the order, number and merging of fields.
fn check_json(bytes: &[u8], decoded: &ExportTraceServiceRequest) {
    // Debug text, because a NaN does not equal itself.
    let want = format!("{decoded:?}");
    // String-table indexes belong to profiles; in JSON they are unknown fields.
    if want.replace("key_strindex: 0", "").contains("trindex") {
        return;
    }
    let json = serde_json::to_vec(&TracesJson(bytes)).unwrap();
    let again = ExportTraceServiceRequest::decode(&json_to_traces(&json).unwrap()[..]).unwrap();
    assert_eq!(format!("{again:?}"), want);
}

/// Walks and decodes the same bytes; verdict and findings must agree. Whether the walker takes them.
///
/// # Panics
/// If they do not agree.
pub fn check(bytes: &[u8]) -> bool {
    let mut walked = Walked::new();
    let verdict = walk(bytes, &WireLimits::default(), &mut walked);
    match (verdict, ExportTraceServiceRequest::decode(bytes)) {
        (Ok(()), Ok(decoded)) => {
            check_facts(&walked, bytes, &decoded);
            check_json(bytes, &decoded);
            let spliced = splice(&walked, bytes);
            let again = ExportTraceServiceRequest::decode(&spliced[..]).unwrap();
            assert_eq!(format!("{:?}", flatten(&again)), format!("{:?}", flatten(&decoded)));
        }
        (Ok(()), Err(error)) => {
            let text = error.to_string();
            let known = text.contains("invalid string value") || text.contains("invalid wire type: ");
            assert!(known, "only prost refuses: {text}\n{bytes:x?}");
        }
        (Err(error), Ok(_)) => assert_eq!(error.fault, WireFault::Group, "only the walker refuses: {error}"),
        (Err(_), Err(_)) => assert!(walked.spans.is_empty() && walked.groups.is_empty()),
    }
    // Whatever has been accepted can be shown, alone or spliced.
    if verdict.is_ok() {
        serde_json::to_vec(&TracesJson(bytes)).unwrap();
        let spliced = splice(&walked, bytes);
        serde_json::to_vec(&TracesJson(&spliced)).unwrap();
        let mut again = Walked::new();
        walk(&spliced, &WireLimits::default(), &mut again).unwrap();
        let contents = |walked: &Walked| walked.spans.iter().map(|span| span.content).collect::<Vec<_>>();
        assert_eq!(contents(&again), contents(&walked));
    }
    verdict.is_ok()
}
