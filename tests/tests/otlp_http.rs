//! Promise: OTLP/HTTP takes what OTLP/gRPC takes, from a collector that needs no configuration: both content types, every
//! compression, web pages, and answers that clients understand.
#![allow(clippy::unwrap_used)] // A test that cannot unwrap has failed.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use longpole_tests::traffic::{Sent, hex, now_nanos, request, trace};
use longpole_tests::{Server, ServerOptions, eventually};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use ureq::Agent;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

fn post(server: &Server, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
    let config =
        Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(30)));
    let agent: Agent = config.build().into();
    let mut call = agent.post(format!("http://{}{path}", server.otlp_http()));
    for (name, value) in headers {
        call = call.header(*name, *value);
    }
    let mut answer = call.send(body)?;
    let body = answer.body_mut().read_to_vec()?;
    Ok(Answer { status: answer.status().as_u16(), headers: answer.headers().clone(), body })
}

fn spans(seed: u64) -> Vec<Sent> {
    trace(&mut StdRng::seed_from_u64(seed), now_nanos() - 1_000_000_000)
}

fn compressed(name: &str, bytes: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::fast();
    match name {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "zstd" => zstd::bulk::compress(bytes, 1).unwrap(),
        _ => bytes.to_vec(),
    }
}

fn is_stored(server: &Server, spans: &[Sent]) -> Result<()> {
    let id = hex(&spans[0].span.trace_id);
    eventually("the trace by id", Duration::from_secs(10), || {
        let found = server.api().trace_spans(&id)?.len();
        ensure!(found == spans.len(), "{found} of {} spans", spans.len());
        Ok(())
    })
}

/// The value of a counter in `/metrics`.
fn counter(server: &Server, name: &str) -> Result<u64> {
    let answer = server.api().get("/metrics", "text/plain")?;
    let text = String::from_utf8(answer.body)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no {name} in /metrics"))?.parse()?)
}

#[test]
fn both_content_types_and_every_compression_are_stored() {
    let server = Server::start().unwrap();
    for (at, encoding) in ["identity", "gzip", "zstd", "deflate"].into_iter().enumerate() {
        for (content_type, seed) in [(PROTOBUF, 100 + at as u64), (JSON, 200 + at as u64)] {
            let spans = spans(seed);
            let request: ExportTraceServiceRequest = request(&spans);
            let body = match content_type {
                JSON => serde_json::to_vec(&request).unwrap(),
                _ => request.encode_to_vec(),
            };
            let headers = [("content-type", content_type), ("content-encoding", encoding)];
            let answer = post(&server, "/v1/traces", &headers, &compressed(encoding, &body)).unwrap();
            let said = String::from_utf8_lossy(&answer.body);
            assert_eq!(answer.status, 200, "{content_type} {encoding}: {said}");
            assert_eq!(answer.header("content-type"), Some(content_type));
            is_stored(&server, &spans).unwrap();
        }
    }
    assert_eq!(counter(&server, "longpole_ingest_requests_total").unwrap(), 8);
}

#[test]
fn refusals_and_partial_success_come_in_the_clients_own_words() {
    let server = Server::start().unwrap();
    let json = [("content-type", JSON)];
    let answer = post(&server, "/v1/traces", &json, b"{\"resourceSpans\": 1}").unwrap();
    let status: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (400, Some(JSON)));
    assert_eq!(status["code"], 3, "{status}");
    assert!(status["message"].as_str().unwrap().contains("resourceSpans"), "{status}");

    let mut some = spans(1);
    some[0].span.trace_id = vec![0; 16];
    let body = request(&some).encode_to_vec();
    let answer = post(&server, "/v1/traces", &[("content-type", PROTOBUF)], &body).unwrap();
    let partial = ExportTraceServiceResponse::decode(&answer.body[..]).unwrap().partial_success.unwrap();
    assert_eq!((answer.status, partial.rejected_spans), (200, 1));

    // A bomb: 128 MiB of zeros.
    let bomb = compressed("gzip", &vec![0; 128 << 20]);
    let headers = [("content-type", PROTOBUF), ("content-encoding", "gzip")];
    let answer = post(&server, "/v1/traces", &headers, &bomb).unwrap();
    assert_eq!(answer.status, 413);
    assert_eq!(counter(&server, "longpole_ingest_request_bytes_requests_total").unwrap(), 1);
}

#[test]
fn metrics_and_logs_are_answered_quietly() {
    let server = Server::start().unwrap();
    for path in ["/v1/metrics", "/v1/logs"] {
        let answer = post(&server, path, &[("content-type", PROTOBUF)], b"\x0a\x00").unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
    }
    assert_eq!(counter(&server, "longpole_ingest_dropped_metrics_requests_total").unwrap(), 1);
    assert_eq!(counter(&server, "longpole_ingest_dropped_logs_requests_total").unwrap(), 1);
}

#[test]
fn web_pages_may_send_unless_told_otherwise() {
    let page = "https://shop.example";
    let server = Server::start().unwrap();
    let body = serde_json::to_vec(&request(&spans(2))).unwrap();
    let headers = [("content-type", JSON), ("origin", page)];
    let answer = post(&server, "/v1/traces", &headers, &body).unwrap();
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some(page)));

    let options = ServerOptions::new().unwrap().env("LONGPOLE_INGEST__CORS_ORIGINS", "https://other.example");
    let server = options.start().unwrap();
    let answer = post(&server, "/v1/traces", &headers, &body).unwrap();
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[test]
fn limits_are_configuration() {
    let options = ServerOptions::new()
        .unwrap()
        .env("LONGPOLE_INGEST__WIRE_BYTES", "1KiB")
        .env("LONGPOLE_INGEST__SPAN_ATTRIBUTES", "1");
    let server = options.start().unwrap();
    let answer = post(&server, "/v1/traces", &[("content-type", PROTOBUF)], &[0; 2_000]).unwrap();
    assert_eq!(answer.status, 413);
    assert!(String::from_utf8_lossy(&answer.body).contains("ingest.wire_bytes"));
    assert_eq!(counter(&server, "longpole_ingest_wire_bytes_requests_total").unwrap(), 1);
}
