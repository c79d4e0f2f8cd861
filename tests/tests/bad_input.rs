//! Promise: no input is answered with silence or a guess. What is wrong is named, and what is right beside it is kept.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use longpole_tests::traffic::{Sent, attribute, hex, now_nanos, request, resource_spans, text, trace};
use longpole_tests::{Api, Server, ServerOptions, eventually, metric, raw_call, spans_of};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue};
use prost::Message as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tonic::Code;

fn good(seed: u64) -> Vec<Sent> {
    trace(&mut StdRng::seed_from_u64(seed), now_nanos() - 1_000_000_000)
}

fn frame(compressed: bool, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(u8::from(compressed));
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    frame.freeze()
}

#[test]
fn an_unreadable_request_is_an_invalid_argument() {
    let server = Server::start().unwrap();
    let exporter = server.exporter().unwrap();
    let whole = request(&good(1)).encode_to_vec();
    let cut = whole[..whole.len() - 3].to_vec();
    for (what, bytes) in [
        ("noise", vec![0xff; 200]),
        ("a cut request", cut),
        ("a length past the end", vec![0x0a, 0x7f, 0x01]),
        (
            "a varint without an end",
            vec![0x0a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
        ),
    ] {
        let status = exporter.export_bytes(bytes.into()).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
        assert!(!status.message().is_empty(), "{what}: no reason");
    }
    // Nothing at all is a request without spans.
    exporter.export_bytes(Bytes::new()).unwrap();
    exporter.deliver(&request(&good(1))).unwrap();
}

#[test]
fn broken_compression_and_broken_frames_are_refused() {
    let server = Server::start().unwrap();
    let gzip = [("grpc-encoding", "gzip")];
    let code = raw_call(server.grpc(), &gzip, frame(true, b"this is not gzip")).unwrap();
    assert!(matches!(code, Code::InvalidArgument | Code::Internal), "{code:?}");
    let code = raw_call(server.grpc(), &[("grpc-encoding", "nonsense")], frame(true, b"any")).unwrap();
    assert_eq!(code, Code::Unimplemented);
    let code = raw_call(server.grpc(), &[], Bytes::from_static(&[0, 0, 0, 1, 0, 1, 2])).unwrap();
    assert_ne!(code, Code::Ok, "half a frame");
    // And the server goes on.
    server.exporter().unwrap().gzip().deliver(&request(&good(2))).unwrap();
}

#[test]
fn single_bad_spans_are_rejected_and_the_others_kept() {
    let server = Server::start().unwrap();
    let spans = good(3);
    let id = hex(&spans[0].span.trace_id);
    let mut bad: Vec<Sent> = good(4).into_iter().cycle().take(3).collect();
    bad[0].span.trace_id = vec![0; 16];
    bad[1].span.span_id = vec![1; 7];
    bad[2].span.trace_id = Vec::new();
    let mut all = spans.clone();
    all.extend(bad);
    let answer = server.exporter().unwrap().export(&request(&all)).unwrap();
    let partial = answer.partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 3, "{}", partial.error_message);
    assert!(partial.error_message.contains("id"), "no reason: {:?}", partial.error_message);
    let found = server.api().trace_spans(&id).unwrap();
    assert_eq!(found.len(), spans.len());
}

#[test]
fn a_span_that_was_rejected_over_a_limit_does_not_come_back_after_a_crash() {
    let limited = ServerOptions::new().unwrap().env("LONGPOLE_INGEST__SPAN_ATTRIBUTES", "3");
    let mut server = limited.env("LONGPOLE_INGEST__SPAN_BYTES", "8KiB").start().unwrap();
    let spans = good(14);
    let id = hex(&spans[0].span.trace_id);
    let mut all = spans.clone();
    let one_more = |id: u8, attributes: Vec<_>| {
        let mut sent = spans[0].clone();
        sent.span.span_id = vec![id; 8];
        sent.span.attributes.extend(attributes);
        sent
    };
    all.insert(1, one_more(1, vec![text("a", "1"), text("b", "2")]));
    all.push(one_more(2, vec![text("long", &"x".repeat(8 << 10))]));
    let answer = server.exporter().unwrap().export(&request(&all)).unwrap();
    assert_eq!(answer.partial_success.unwrap().rejected_spans, 2);
    let as_taken = |server: &Server| {
        let found = server.api().trace_spans(&id).unwrap();
        assert_eq!(found.len(), spans.len());
        assert!(spans.iter().all(|sent| found.contains(&sent.span)));
        let status = server.api().json("/api/v1/status").unwrap();
        assert_eq!(status["store"]["live_spans"], spans.len(), "{status}");
    };
    as_taken(&server);
    server.kill().unwrap();
    server.start_again().unwrap();
    as_taken(&server);
}

#[test]
fn a_value_nested_without_end_does_no_harm() {
    let server = Server::start().unwrap();
    let mut value = Any::IntValue(1);
    for _ in 0..1_000 {
        value = Any::ArrayValue(ArrayValue { values: vec![AnyValue { value: Some(value) }] });
    }
    let mut spans = good(5);
    spans[0].span.attributes.push(attribute("deep", value));
    let bytes = request(&spans).encode_to_vec();
    // Rejected or kept; what counts is that the server is there afterwards.
    let _ = server.exporter().unwrap().export_bytes(bytes.into());
    server.exporter().unwrap().deliver(&request(&good(6))).unwrap();
}

#[test]
fn text_that_is_not_utf8_never_makes_an_answer_unreadable() {
    let server = Server::start().unwrap();
    let spans = good(13);
    let id = hex(&spans[0].span.trace_id);
    let mut bytes = request(&spans).encode_to_vec();
    let name = bytes.windows(12).position(|w| w == b"/v1/orders/{").unwrap();
    bytes[name + 1] = 0xff;
    match server.exporter().unwrap().export_bytes(bytes.into()) {
        Ok(_) => {
            eventually("the trace by id", Duration::from_secs(5), || {
                let answer = server.api().json(&format!("/api/v1/traces/{id}"))?;
                ensure!(spans_of(&answer).len() == spans.len(), "{answer}");
                Ok(())
            })
            .unwrap();
        }
        Err(status) => assert_eq!(status.code(), Code::InvalidArgument),
    }
}

#[test]
fn too_large_a_request_is_refused_and_says_so() {
    let server = Server::start().unwrap();
    let mut spans = good(7);
    spans[0].span.attributes.push(attribute("big", Any::StringValue("x".repeat(80 << 20))));
    let status = server.exporter().unwrap().export(&request(&spans)).unwrap_err();
    let refused = [Code::ResourceExhausted, Code::OutOfRange, Code::InvalidArgument];
    assert!(refused.contains(&status.code()), "{:?}", status.code());
    server.exporter().unwrap().deliver(&request(&good(8))).unwrap();
}

#[test]
fn strange_but_valid_spans_are_kept() {
    let server = Server::start().unwrap();
    let mut spans = good(9);
    let id = hex(&spans[0].span.trace_id);
    // Ends before it starts, is its own parent, has no name.
    spans[1].span.end_time_unix_nano = spans[1].span.start_time_unix_nano - 5;
    spans[1].span.parent_span_id = spans[1].span.span_id.clone();
    spans[2].span.name = String::new();
    server.exporter().unwrap().deliver(&request(&spans)).unwrap();
    let no_service = ExportTraceServiceRequest {
        resource_spans: vec![resource_spans("", vec![good(10)[0].span.clone()])],
    };
    server.exporter().unwrap().deliver(&no_service).unwrap();
    let api = server.api();
    assert_eq!(api.trace_spans(&id).unwrap().len(), spans.len());
    for path in [format!("/api/v1/traces/{id}"), format!("/api/v1/traces/{id}/critical-path")] {
        assert_eq!(api.get(&path, "application/json").unwrap().status, 200, "{path}");
    }
}

#[test]
fn names_beyond_the_limit_share_one_and_are_counted() {
    let server = Server::start().unwrap();
    let exporter = server.exporter().unwrap();
    let one = good(11).remove(0);
    let named = |n: u64| {
        let mut sent = one.clone();
        (sent.service, sent.span.name) = ("shop", format!("operation {n}"));
        sent.span.kind = 2;
        sent.span.span_id = (n + 1).to_be_bytes().to_vec();
        sent
    };
    let many: Vec<Sent> = (0..10_007).map(named).collect();
    for part in many.chunks(2_000) {
        exporter.deliver(&request(part)).unwrap();
    }
    let status = server.api().json("/api/v1/status").unwrap();
    assert_eq!(status["counters"]["names_over_limit"], 7, "{status}");
    let metrics = server.api().get("/metrics", "text/plain").unwrap();
    let metrics = String::from_utf8(metrics.body).unwrap();
    assert_eq!(metric(&metrics, "longpole_names_over_limit_total").unwrap(), 7.0);
    assert_eq!(metric(&metrics, "longpole_known_operations").unwrap(), 10_001.0);
    // They count, and keep their true names.
    let query = Api::query(&[
        ("start", "now-1h"),
        ("end", "now"),
        ("service", "shop"),
        ("operation", "__overflow__"),
    ]);
    eventually("the overflow is counted", Duration::from_secs(20), || {
        let answer = server.api().json(&format!("/api/v1/latency?{query}"))?;
        ensure!(answer["series"][0]["count"] == 7, "{answer}");
        Ok(())
    })
    .unwrap();
    let stored = server.api().trace_spans(&hex(&one.span.trace_id)).unwrap();
    assert!(stored.iter().any(|span| span.name == "operation 10006"));
}

#[test]
fn bad_parameters_name_themselves() {
    let server = Server::start().unwrap();
    let api = server.api();
    let long = "9".repeat(3_000);
    for (path, parameter) in [
        ("/api/v1/traces?servise=web", "servise"),
        ("/api/v1/traces?min_duration=quick", "min_duration"),
        ("/api/v1/traces?limit=0", "limit"),
        ("/api/v1/traces?limit=1001", "limit"),
        ("/api/v1/traces?order=random", "order"),
        ("/api/v1/traces?kind=servant", "kind"),
        ("/api/v1/traces?cursor=nonsense", "cursor"),
        ("/api/v1/traces?start=yesterday", "start"),
        ("/api/v1/traces?start=now&end=now-1h", "start"),
        ("/api/v1/latency?quantiles=0.5,2", "quantiles"),
        ("/api/v1/latency?group_by=colour", "group_by"),
        ("/api/v1/latency?step=0s", "step"),
        (&format!("/api/v1/traces?limit={long}"), "limit"),
    ] {
        let answer = api.get(path, "application/json").unwrap();
        assert_eq!(answer.status, 400, "{path}");
        let error = &answer.json().unwrap()["error"];
        assert_eq!(error["parameter"], parameter, "{path}: {error}");
        assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()), "{path}: {error}");
    }
    let answer = api.json_error("/api/v1/traces?servise=web").unwrap();
    assert!(answer.contains("service"), "the nearest name is not in: {answer}");
}

#[test]
fn what_is_not_there_is_not_found() {
    let server = Server::start().unwrap();
    let api = server.api();
    for path in [
        "/api/v1/traces/0123456789abcdef0123456789abcdef",
        "/api/v1/traces/0123456789abcdef",
        "/api/v1/traces/0123456789abcdef0123456789abcdef/critical-path",
    ] {
        let answer = api.get(path, "application/json").unwrap();
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json().unwrap()["error"]["code"], "trace_not_found", "{path}");
    }
    assert_eq!(api.get("/api/v1/traces/nonsense", "application/json").unwrap().status, 400);
    assert_eq!(api.get("/api/v1/nothing", "application/json").unwrap().status, 404);
}

#[test]
fn what_is_acknowledged_can_be_asked_for() {
    let server = Server::start().unwrap();
    let exporter = server.exporter().unwrap();
    let api = server.api();
    for seed in 20..40 {
        let spans = good(seed);
        exporter.deliver(&request(&spans)).unwrap();
        let id = hex(&spans[0].span.trace_id);
        // At the first try: an acknowledgement says that it can be queried.
        assert_eq!(api.trace_spans(&id).unwrap().len(), spans.len());
        let found = api.walk_traces("service=web&order=newest", 100).unwrap();
        assert!(found.iter().any(|t| t["trace_id"] == id.as_str()), "{id} is not among {}", found.len());
    }
}

#[test]
fn the_description_is_the_committed_one_and_the_metrics_can_be_read() {
    let server = Server::start().unwrap();
    let api = server.api();
    server.exporter().unwrap().deliver(&request(&good(11))).unwrap();
    let served = api.json("/api/v1/openapi.json").unwrap();
    let file = longpole_tests::package_dir().join("../crates/api/openapi.json");
    let committed: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert!(served == committed, "crates/api/openapi.json is not what is served");

    let answer = api.get("/metrics", "application/openmetrics-text; version=1.0.0").unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.content_type.starts_with("application/openmetrics-text"), "{}", answer.content_type);
    let text = String::from_utf8(answer.body).unwrap();
    openmetrics(&text).unwrap();
    for path in ["/healthz", "/readyz", "/api/v1/status"] {
        assert_eq!(api.get(path, "*/*").unwrap().status, 200, "{path}");
    }
}

/// Every line is a comment of the known kinds or `name{labels} number [...]`, no series twice, an end mark.
fn openmetrics(text: &str) -> Result<()> {
    ensure!(text.ends_with("# EOF\n"), "no end mark");
    let mut seen = std::collections::HashSet::new();
    let mut samples = 0;
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let known = ["HELP ", "TYPE ", "UNIT ", "EOF"].iter().any(|k| comment.starts_with(k));
            ensure!(known, "not OpenMetrics: {line}");
            continue;
        }
        // What stands behind " # " is an exemplar.
        let sample = line.split(" # ").next().context("an empty line")?;
        let split = sample.rfind('}').map_or_else(|| sample.find(' '), |at| Some(at + 1));
        let (series, value) = sample.split_at(split.with_context(|| format!("no value: {line}"))?);
        let first = value.split_whitespace().next().with_context(|| format!("no value: {line}"))?;
        first.parse::<f64>().with_context(|| format!("not a number: {line}"))?;
        ensure!(seen.insert(series.to_owned()), "twice: {series}");
        samples += 1;
    }
    ensure!(samples > 5, "only {samples} samples");
    Ok(())
}

#[test]
fn sigterm_drains() {
    let mut server = Server::start().unwrap();
    let spans = good(12);
    server.exporter().unwrap().deliver(&request(&spans)).unwrap();
    let status = server.terminate().unwrap();
    assert_eq!(status.code(), Some(0), "{}", server.log_tail());
    server.start_again().unwrap();
    let found = server.api().trace_spans(&hex(&spans[0].span.trace_id)).unwrap();
    assert_eq!(found.len(), spans.len());
}

/// The message of an error, whatever the status.
trait ErrorMessage {
    fn json_error(&self, path: &str) -> Result<String>;
}

impl ErrorMessage for Api {
    fn json_error(&self, path: &str) -> Result<String> {
        let answer = self.get(path, "application/json")?.json()?;
        Ok(answer["error"]["message"].as_str().context("no message")?.to_owned())
    }
}
