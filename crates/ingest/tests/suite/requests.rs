//! Requests to send.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;

/// A span with ids made of `n`, which is not 0.
pub(crate) fn span(n: u64) -> Span {
    Span {
        trace_id: u128::from(n).to_be_bytes().to_vec(),
        span_id: n.to_be_bytes().to_vec(),
        name: format!("span {n}"),
        start_time_unix_nano: 1_700_000_000_000_000_000,
        end_time_unix_nano: 1_700_000_000_001_000_000,
        ..Span::default()
    }
}

/// The same with about so many bytes more.
pub(crate) fn long_span(n: u64, bytes: usize) -> Span {
    Span { attributes: vec![text("filler", &"x".repeat(bytes))], ..span(n) }
}

/// An attribute that is text.
pub(crate) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

/// A value in so many arrays, which is one level each.
pub(crate) fn nested(levels: usize) -> KeyValue {
    let inner = (1..levels).fold(Value::IntValue(1), |inner, _| {
        Value::ArrayValue(ArrayValue { values: vec![AnyValue { value: Some(inner) }] })
    });
    attribute("nested", inner)
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// A request of these spans.
pub(crate) fn of(spans: Vec<Span>) -> Vec<u8> {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

/// A request of so many plain spans.
pub(crate) fn spans(count: u64) -> Vec<u8> {
    of((1..=count).map(span).collect())
}

/// A request of one span with about so many bytes.
pub(crate) fn bytes(count: usize) -> Vec<u8> {
    of(vec![long_span(1, count)])
}

/// A request of one span as OTLP/JSON, whose attribute's value is in so many arrays, which is one level each.
pub(crate) fn nested_json(levels: usize) -> Vec<u8> {
    let (open, close) = (r#"{"arrayValue":{"values":["#.repeat(levels - 1), "]}}".repeat(levels - 1));
    let attribute = format!(r#"{{"key":"nested","value":{open}{{"boolValue":true}}{close}}}"#);
    format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{:032x}","spanId":"{:016x}","attributes":[{attribute}]}}]}}]}}]}}"#,
        1, 1
    )
    .into_bytes()
}

/// One span as OTLP/JSON, with about so many bytes.
pub(crate) fn json(count: usize) -> Vec<u8> {
    format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{:032x}","spanId":"{:016x}","name":"{}"}}]}}]}}]}}"#,
        1,
        1,
        "x".repeat(count)
    )
    .into_bytes()
}

/// A request with a resource of about so many bytes, and so many scopes of one span each.
pub(crate) fn scopes(count: u64, resource: usize) -> Vec<u8> {
    let of = |n| ScopeSpans { spans: vec![span(n)], ..ScopeSpans::default() };
    let resource =
        Resource { attributes: vec![text("filler", &"x".repeat(resource))], ..Resource::default() };
    let resource_spans = vec![ResourceSpans {
        resource: Some(resource),
        scope_spans: (1..=count).map(of).collect(),
        ..ResourceSpans::default()
    }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}
