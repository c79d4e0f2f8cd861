//! Random OTLP requests, and what prost makes of a request.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z./]{1,12}", "\\PC{0,6}"]
}

fn any_value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        Just(None),
        text().prop_map(|text| Some(Value::StringValue(text))),
        any::<bool>().prop_map(|value| Some(Value::BoolValue(value))),
        any::<i64>().prop_map(|value| Some(Value::IntValue(value))),
        // JSON has no number for the others.
        any::<f64>()
            .prop_filter("finite", |value| value.is_finite())
            .prop_map(|v| Some(Value::DoubleValue(v))),
        vec(any::<u8>(), 0..9).prop_map(|bytes| Some(Value::BytesValue(bytes))),
    ]
    .prop_map(|value| AnyValue { value });
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|values| Value::ArrayValue(ArrayValue { values })),
            vec((text(), option::of(inner)), 0..4).prop_map(|pairs| Value::KvlistValue(KeyValueList {
                values: pairs.into_iter().map(pair).collect()
            })),
        ]
        .prop_map(|value| AnyValue { value: Some(value) })
    })
}

fn pair((key, value): (String, Option<AnyValue>)) -> KeyValue {
    KeyValue { key, value, ..Default::default() }
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let key = prop_oneof![3 => text(), 1 => Just("service.name".to_owned())];
    vec((key, option::weighted(0.9, any_value())).prop_map(pair), 0..4)
}

fn id(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => vec(any::<u8>(), length),
        1 => Just(vec![0; length]),
        1 => vec(any::<u8>(), 0..20),
        1 => Just(Vec::new()),
    ]
}

fn enumeration(most: i32) -> impl Strategy<Value = i32> {
    prop_oneof![8 => 0..=most, 1 => any::<i32>()]
}

fn event() -> impl Strategy<Value = Event> {
    (any::<u64>(), text(), attributes(), any::<u32>()).prop_map(
        |(time_unix_nano, name, attributes, dropped)| Event {
            time_unix_nano,
            name,
            attributes,
            dropped_attributes_count: dropped,
        },
    )
}

fn link() -> impl Strategy<Value = Link> {
    (id(16), id(8), text(), attributes(), any::<u32>(), any::<u32>()).prop_map(
        |(trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count,
            flags,
        },
    )
}

fn span() -> impl Strategy<Value = Span> {
    let ids = (id(16), id(8), prop_oneof![id(8), Just(Vec::new())]);
    let facts = (text(), text(), enumeration(5), any::<u64>(), any::<u64>(), any::<u32>());
    let parts = (attributes(), vec(event(), 0..2), vec(link(), 0..2), any::<[u32; 3]>());
    let status = option::of((text(), enumeration(2)).prop_map(|(message, code)| Status { message, code }));
    (ids, facts, parts, status).prop_map(|(ids, facts, parts, status)| Span {
        trace_id: ids.0,
        span_id: ids.1,
        parent_span_id: ids.2,
        trace_state: facts.0,
        name: facts.1,
        kind: facts.2,
        start_time_unix_nano: facts.3,
        end_time_unix_nano: facts.4,
        flags: facts.5,
        attributes: parts.0,
        events: parts.1,
        links: parts.2,
        dropped_attributes_count: parts.3[0],
        dropped_events_count: parts.3[1],
        dropped_links_count: parts.3[2],
        status,
    })
}

fn scope_spans() -> impl Strategy<Value = ScopeSpans> {
    let scope =
        (text(), text(), attributes(), any::<u32>()).prop_map(|(name, version, attributes, dropped)| {
            InstrumentationScope { name, version, attributes, dropped_attributes_count: dropped }
        });
    (option::of(scope), vec(span(), 0..4), text()).prop_map(|(scope, spans, schema_url)| ScopeSpans {
        scope,
        spans,
        schema_url,
    })
}

fn resource() -> impl Strategy<Value = Resource> {
    let entity = (text(), text(), vec(text(), 0..3)).prop_map(|(schema_url, r#type, id_keys)| EntityRef {
        schema_url,
        r#type,
        description_keys: id_keys.clone(),
        id_keys,
    });
    (attributes(), any::<u32>(), vec(entity, 0..2)).prop_map(
        |(attributes, dropped_attributes_count, entity_refs)| Resource {
            attributes,
            dropped_attributes_count,
            entity_refs,
        },
    )
}

/// Requests as clients send them, with a bad id here and there.
pub fn request() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let resource_spans = (option::of(resource()), vec(scope_spans(), 0..3), text())
        .prop_map(|(resource, scope_spans, schema_url)| ResourceSpans { resource, scope_spans, schema_url });
    vec(resource_spans, 0..3).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

/// Bytes that look like protobuf: keys with small numbers, nested payloads, now and then a fault.
pub fn wire_soup() -> impl Strategy<Value = Vec<u8>> {
    let varint = prop_oneof![vec(0u8..0x80, 1), vec(any::<u8>(), 1..11), Just(vec![0xff; 11])];
    let key = |wire_type: u8| {
        (0u8..=16)
            .prop_map(move |n| if n < 16 { vec![n << 3 | wire_type] } else { vec![0x80 | wire_type, 1] })
    };
    let joined = |(a, b): (Vec<u8>, Vec<u8>)| [a, b].concat();
    let leaf = prop_oneof![
        8 => (key(0), varint).prop_map(joined),
        4 => (key(1), vec(any::<u8>(), 8)).prop_map(joined),
        4 => (key(5), vec(any::<u8>(), 4)).prop_map(joined),
        4 => (key(2), "[a-z]{0,5}").prop_map(|(key, text)| [key, vec![text.len() as u8], text.into_bytes()].concat()),
        1 => vec(any::<u8>(), 0..4),
    ];
    let fields = leaf.prop_recursive(8, 64, 5, move |inner| {
        (prop_oneof![6 => (1u8..=2).boxed(), 4 => (1u8..=15).boxed()], vec(inner, 0..5)).prop_map(
            |(number, parts)| {
                let payload = parts.concat();
                let mut out = vec![number << 3 | 2];
                prost::encoding::encode_varint(payload.len() as u64, &mut out);
                out.extend(payload);
                out
            },
        )
    });
    vec(fields, 0..4).prop_map(|parts| parts.concat())
}

/// A change of a few bytes.
#[derive(Debug, Clone)]
pub enum Mutation {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index),
    Truncate(prop::sample::Index),
}

pub fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let place = any::<prop::sample::Index>;
    let mutation = prop_oneof![
        (place(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (place(), 0u8..8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        (place(), vec(any::<u8>(), 1..4)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        place().prop_map(Mutation::Remove),
        place().prop_map(Mutation::Truncate),
    ];
    vec(mutation, 1..4)
}

pub fn mutate(bytes: &mut Vec<u8>, mutations: Vec<Mutation>) {
    for mutation in mutations {
        if bytes.is_empty() {
            return;
        }
        let place = |index: prop::sample::Index| index.index(bytes.len());
        match mutation {
            Mutation::Set(at, byte) => {
                let at = place(at);
                bytes[at] = byte;
            }
            Mutation::Flip(at, bit) => {
                let at = place(at);
                bytes[at] ^= 1 << bit;
            }
            Mutation::Insert(at, new) => {
                let at = place(at);
                bytes.splice(at..at, new);
            }
            Mutation::Remove(at) => {
                let at = place(at);
                bytes.remove(at);
            }
            Mutation::Truncate(at) => {
                let at = place(at);
                bytes.truncate(at);
            }
        }
    }
}

/// A span with all that its request says about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole {
    pub resource: Option<Resource>,
    pub resource_schema: String,
    pub scope: Option<InstrumentationScope>,
    pub scope_schema: String,
    pub span: Span,
}

/// Whether Longpole accepts the ids of a span, said in prost's terms.
pub fn has_good_ids(span: &Span) -> bool {
    let zero = |id: &[u8]| id.iter().all(|byte| *byte == 0);
    span.trace_id.len() == 16
        && !zero(&span.trace_id)
        && span.span_id.len() == 8
        && !zero(&span.span_id)
        && matches!(span.parent_span_id.len(), 0 | 8)
}

/// The acceptable spans of a request, each with its context.
pub fn flatten(request: &ExportTraceServiceRequest) -> Vec<Whole> {
    let mut out = Vec::new();
    for resource_spans in &request.resource_spans {
        for scope_spans in &resource_spans.scope_spans {
            for span in scope_spans.spans.iter().filter(|span| has_good_ids(span)) {
                out.push(Whole {
                    resource: resource_spans.resource.clone(),
                    resource_schema: resource_spans.schema_url.clone(),
                    scope: scope_spans.scope.clone(),
                    scope_schema: scope_spans.schema_url.clone(),
                    span: span.clone(),
                });
            }
        }
    }
    out
}

/// `service.name` as Longpole defines it, from prost's objects.
pub fn service(resource: &Option<Resource>) -> Option<&str> {
    let last = resource.as_ref()?.attributes.iter().rfind(|pair| pair.key == "service.name")?;
    match last.value.as_ref()?.value.as_ref()? {
        Value::StringValue(name) if !name.is_empty() => Some(name),
        _ => None,
    }
}
