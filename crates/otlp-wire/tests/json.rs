//! OTLP/JSON against prost with serde: either reads what the other writes.
#![allow(clippy::unwrap_used)] // A test that cannot unwrap has failed.

use longpole_fuzz::otlp::drawn::{mutate, mutations, request};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use otlp_wire::{JsonError, TracesJson, Walked, WireLimits, json_to_traces, walk};
use proptest::prelude::*;
use prost::Message;
use serde_json::{Value as Json, json};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn prost_reads_our_json(mut request in request()) {
        // prost's reader demands every field of an EntityRef, defaults too.
        for resource in request.resource_spans.iter_mut().filter_map(|spans| spans.resource.as_mut()) {
            resource.entity_refs.clear();
        }
        let json = written(&request.encode_to_vec());
        let read: ExportTraceServiceRequest = serde_json::from_slice(&json).unwrap();
        prop_assert_eq!(read, request);
    }

    #[test]
    fn we_read_prosts_json(request in request()) {
        let bytes = json_to_traces(&serde_json::to_vec(&request).unwrap()).unwrap();
        prop_assert_eq!(ExportTraceServiceRequest::decode(&bytes[..]).unwrap(), request);
    }

    #[test]
    fn json_comes_back_as_the_same_bytes(request in request()) {
        // prost writes fields in another order than ours (flags), so one trip brings the order in.
        let once = json_to_traces(&written(&request.encode_to_vec())).unwrap();
        let twice = json_to_traces(&written(&once)).unwrap();
        prop_assert_eq!(ExportTraceServiceRequest::decode(&once[..]).unwrap(), request);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn mutated_json_never_panics(request in request(), mutations in mutations()) {
        let mut text = serde_json::to_vec(&request).unwrap();
        mutate(&mut text, mutations);
        if let Ok(bytes) = json_to_traces(&text) {
            ExportTraceServiceRequest::decode(&bytes[..]).unwrap();
        }
    }

    #[test]
    fn mutated_bytes_never_panic(request in request(), mutations in mutations()) {
        let mut bytes = request.encode_to_vec();
        mutate(&mut bytes, mutations);
        let _ = serde_json::to_vec(&TracesJson(&bytes));
    }
}

fn written(traces: &[u8]) -> Vec<u8> {
    serde_json::to_vec(&TracesJson(traces)).unwrap()
}

fn document(traces: &[u8]) -> Json {
    serde_json::from_slice(&written(traces)).unwrap()
}

fn span(span: Json) -> Json {
    json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})
}

fn through(json: &Json) -> Json {
    document(&json_to_traces(json.to_string().as_bytes()).unwrap())
}

fn error(json: &Json) -> String {
    json_to_traces(json.to_string().as_bytes()).unwrap_err().to_string()
}

#[test]
fn both_spellings_of_everything_are_read() {
    let camel = span(json!({
        "traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "spanId": "00f067aa0ba902b7", "kind": 2,
        "startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000000000000005",
        "status": {"code": 2}, "droppedEventsCount": 3,
        "attributes": [{"key": "b", "value": {"bytesValue": "+/8="}}, {"key": "i", "value": {"intValue": "-7"}}]
    }));
    let snake = json!({"resource_spans": [{"scope_spans": [{"unknown": {"x": 1}, "spans": [{
        "trace_id": "4BF92F3577B34DA6A3CE929D0E0E4736", "span_id": "00F067AA0BA902B7",
        "kind": "SPAN_KIND_SERVER", "parentSpanId": null, "name": null,
        "start_time_unix_nano": 1_700_000_000_000_000_000u64, "end_time_unix_nano": 1_700_000_000_000_000_005u64,
        "status": {"code": "STATUS_CODE_ERROR"}, "dropped_events_count": "3",
        "attributes": [{"key": "b", "value": {"bytes_value": "-_8"}}, {"key": "i", "value": {"int_value": -7}}]
    }]}]}]});
    assert_eq!(through(&camel), camel);
    assert_eq!(through(&snake), camel);
}

#[test]
fn oneof_members_keep_their_defaults_and_other_fields_do_not() {
    let values = json!([
        {"key": "", "value": {"stringValue": ""}}, {"key": "", "value": {"boolValue": false}},
        {"key": "", "value": {"intValue": "0"}}, {"key": "", "value": {"doubleValue": 0.0}},
        {"key": "", "value": {"arrayValue": {"values": []}}}, {"key": "", "value": {"bytesValue": ""}},
        {"key": "", "value": {}}, {"key": ""}
    ]);
    let want = span(json!({"kind": 0, "attributes": values}));
    assert_eq!(through(&want), want);
    let zeros =
        json!({"name": "", "startTimeUnixNano": "0", "traceId": "", "attributes": values, "flags": 0});
    assert_eq!(through(&span(zeros)), want);
}

#[test]
fn doubles_without_a_number_have_names() {
    let values =
        ["NaN", "Infinity", "-Infinity"].map(|name| json!({"key": "d", "value": {"doubleValue": name}}));
    let want = span(json!({"kind": 0, "attributes": values}));
    assert_eq!(through(&want), want);
    assert!(error(&span(json!({"attributes": [{"value": {"doubleValue": "inf"}}]}))).contains("Infinity"));
}

#[test]
fn errors_name_the_path_and_what_would_be_right() {
    assert_eq!(
        error(&span(json!({"kind": "SERVER"}))),
        "`resourceSpans[0].scopeSpans[0].spans[0].kind` must be a number from 0 to 5 or one of \
         SPAN_KIND_UNSPECIFIED, SPAN_KIND_INTERNAL, SPAN_KIND_SERVER, SPAN_KIND_CLIENT, SPAN_KIND_PRODUCER, \
         SPAN_KIND_CONSUMER, got \"SERVER\" at line 1, column 52"
    );
    assert_eq!(
        error(&span(json!({"traceId": "xyz"}))),
        "`resourceSpans[0].scopeSpans[0].spans[0].traceId` must be an id as a string of hex digits, two a byte, \
         got \"xyz\" at line 1, column 55"
    );
    assert!(
        error(&span(json!({"startTimeUnixNano": -1}))).contains("startTimeUnixNano` must be nanoseconds")
    );
    assert!(error(&span(json!({"startTimeUnixNano": "1.5"}))).contains("startTimeUnixNano` must be"));
    assert!(error(&span(json!({"start_time_unix_nano": true}))).contains("spans[0].start_time_unix_nano`"));
    assert_eq!(
        error(&json!({"resourceSpans": {}})),
        "`resourceSpans` must be an array, got an object at line 1, column 18"
    );
    assert_eq!(error(&json!([])), "`$` must be an object, got an array at line 1, column 1");
    let two = json!({"attributes": [{"key": "k", "value": {"intValue": 1, "stringValue": "x"}}]});
    assert!(
        error(&span(two))
            .contains("attributes[0].value` must be of one type only: `intValue` or `stringValue`")
    );
}

#[test]
fn errors_of_syntax_name_the_place_and_what_would_be_right() {
    let error = |text: &str| match json_to_traces(text.as_bytes()).unwrap_err() {
        error @ JsonError::Syntax { .. } => error.to_string(),
        error => panic!("{error}"),
    };
    let at = |place: &str, rest: &str| format!("not valid JSON at {place}: expected {rest}");
    for (text, place, rest) in [
        ("", "line 1, column 1", "a value, got the end of the text"),
        ("not json", "line 1, column 1", "a value, got `not`"),
        ("{", "line 1, column 2", "a name in double quotes, got the end of the text"),
        ("{\n \"x\" 1}", "line 2, column 6", "`:`, got `1`"),
        ("{\n\n\"x\": 01}", "line 3, column 7", "`,` or `}`, got `1`"),
        ("{\"x\":[1 2]}", "line 1, column 9", "`,` or `]`, got `2`"),
        ("{\"x\":[1,]}", "line 1, column 9", "a value, got `]`"),
        ("{\"x\":1,}", "line 1, column 8", "a name in double quotes, got `}`"),
        ("{\"x\":-}", "line 1, column 7", "a digit, got `}`"),
        ("{\"x\":1.e3}", "line 1, column 8", "a digit, got `e3`"),
        ("{\"x\":nul}", "line 1, column 6", "a value, got `nul`"),
        ("{} {}", "line 1, column 4", "the end of the text, got `{`"),
        ("{\"resourceSpans\":[{]}", "line 1, column 20", "a name in double quotes, got `]`"),
        (
            "{\"x\":\"a\u{1}\"}",
            "line 1, column 8",
            "the string to go on, control characters escaped, or to end in `\"`, got the control character U+0001",
        ),
    ] {
        assert_eq!(error(text), at(place, rest), "{text}");
    }
    assert!(error(r#"{"x":"\ud800"}"#).contains("column 7: expected an escape"));
    assert!(error(r#"{"x":"\x"}"#).contains("surrogates in pairs, got `\\`"));
    assert_eq!(
        json_to_traces(b"{\"x\":\"\xff\"}").unwrap_err().to_string(),
        at("line 1, column 7", "UTF-8, got the byte 0xff")
    );
    let deep = |levels: usize| format!("{{\"x\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    assert!(json_to_traces(deep(128).as_bytes()).unwrap().is_empty());
    assert_eq!(error(&deep(129)), at("line 1, column 134", "a value that nests at most 128 deep, got `[`"));
}

#[test]
fn errors_repeat_no_more_than_the_beginning_of_what_is_wrong() {
    for wrong in [format!("\"{}\"", "\u{e9}".repeat(10_000)), format!("1{}", "0".repeat(10_000))] {
        let text = format!("{{\"resourceSpans\":[{{\"resource\":{{\"droppedAttributesCount\":{wrong}}}}}]}}");
        let error = json_to_traces(text.as_bytes()).unwrap_err().to_string();
        assert!(error.len() < 300 && error.contains("4294967295, got ") && error.contains("..."), "{error}");
    }
}

#[test]
fn a_field_is_given_once_whatever_its_spelling() {
    for (text, want) in [
        (r#"{"name": "a", "name": "a"}"#, "spans[0].name` must be given once only, got \"name\""),
        (r#"{"traceId": "", "trace_id": ""}"#, "spans[0].trace_id` must be given once only"),
        (r#"{"events": [], "events": []}"#, "spans[0].events` must be given once only"),
        (r#"{"status": {}, "stat\u0075s": {}}"#, "spans[0].status` must be given once only"),
        (
            r#"{"attributes": [{"value": {"intValue": 1, "int_value": 2}}]}"#,
            "attributes[0].value.int_value` must be given once only",
        ),
    ] {
        let text = format!(r#"{{"resourceSpans": [{{"scopeSpans": [{{"spans": [{text}]}}]}}]}}"#);
        let error = json_to_traces(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
    // `null` is no value, and an unknown name no field.
    let text =
        br#"{"resourceSpans": [{"schemaUrl": null, "schema_url": "u", "schemaUrl": null, "x": 1, "x": 2}]}"#;
    assert_eq!(json_to_traces(text).unwrap(), [10, 3, 26, 1, b'u']);
}

#[test]
fn integers_over_64_bits_are_refused_and_not_rounded() {
    for wrong in ["-9223372036854775809", "9223372036854775808", "\"-9223372036854775809\"", "1e19"] {
        let text = format!(
            r#"{{"resourceSpans": [{{"resource": {{"attributes": [{{"value": {{"intValue": {wrong}}}}}]}}}}]}}"#
        );
        let error = json_to_traces(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("must be a 64-bit integer") && error.contains(wrong), "{error}");
    }
}

#[test]
fn nulls_in_arrays_are_values_only_among_values() {
    let json = span(
        json!({"attributes": [null, {"key": "a", "value": {"arrayValue": {"values": [null, {"boolValue": true}]}}}]}),
    );
    let want = json!([{"key": "a", "value": {"arrayValue": {"values": [{}, {"boolValue": true}]}}}]);
    assert_eq!(through(&json)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["attributes"], want);
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        let value = (1..depth)
            .fold(json!({"boolValue": true}), |inner, _| json!({"arrayValue": {"values": [inner]}}));
        span(json!({"attributes": [{"key": "k", "value": value}]}))
    };
    json_to_traces(nested(32).to_string().as_bytes()).unwrap();
    for depth in [33, 60] {
        let error = json_to_traces(nested(depth).to_string().as_bytes()).unwrap_err();
        assert!(matches!(error, JsonError::TooDeep { .. }), "{error}");
        assert!(
            error.to_string().starts_with("attribute values nest deeper than 32 at line 1, column "),
            "{error}"
        );
    }
    let null = |depth: usize| nested(depth).to_string().replace(r#"{"boolValue":true}"#, "null").into_bytes();
    let deepest = json_to_traces(&null(32)).unwrap();
    walk(&deepest, &WireLimits::default(), &mut Walked::new()).unwrap();
    assert!(matches!(json_to_traces(&null(33)), Err(JsonError::TooDeep { .. })));
}

#[test]
fn invalid_utf8_is_replaced_and_unknown_fields_are_ignored() {
    // A span with an invalid name and field 99.
    let span = [0x2a, 2, b'a', 0xff, 0x98, 0x06, 1];
    let bytes = [&[0x0a, 11, 0x12, 9, 0x12, 7][..], &span].concat();
    let want = json!({"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "a\u{fffd}", "kind": 0}]}]}]});
    assert_eq!(document(&bytes), want);
    assert_eq!(document(&[]), json!({"resourceSpans": []}));
}
