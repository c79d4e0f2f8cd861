//! OTLP/HTTP: both content types, and errors as a `google.rpc.Status` in the request's own.

use std::sync::Arc;

use ingest::IngestCounter;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use parking_lot::Mutex;
use prost::Message as _;
use tonic::Code;
use tonic_types::pb::Status;

use crate::raw_grpc::{TRACES, call, channel, frame};
use crate::raw_http::{Client, JSON, PROTOBUF, post};
use crate::requests;
use crate::world::World;

#[tokio::test]
async fn protobuf_and_json_are_stored_and_answered_in_kind() {
    let world = World::new().await;
    let answer = post(&world.http, "/v1/traces", PROTOBUF, &requests::spans(2)).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(answer.header("content-type"), Some("application/x-protobuf"));
    let answer = post(&world.http, "/v1/traces", JSON, &requests::json(10)).await;
    assert_eq!((answer.status, &answer.body[..]), (200, &b"{}"[..]));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let answer =
        post(&world.http, "/v1/traces", "content-type: Application/JSON; charset=utf-8\r\n", b"{}").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(world.log.spans(), 3);
    world.charged(0).await;
}

#[tokio::test]
async fn partial_success_is_in_both() {
    let world = World::new().await;
    let mut bad = requests::span(1);
    bad.trace_id = vec![1; 3];
    let request = requests::of(vec![bad, requests::span(2)]);
    let answer = post(&world.http, "/v1/traces", PROTOBUF, &request).await;
    let partial = ExportTraceServiceResponse::decode(&answer.body[..]).unwrap().partial_success.unwrap();
    assert_eq!((answer.status, partial.rejected_spans), (200, 1));
    let json = br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"01","spanId":"02"}]}]}]}"#;
    let answer = post(&world.http, "/v1/traces", JSON, json).await;
    let partial = &answer.json()["partialSuccess"];
    assert_eq!((answer.status, partial["rejectedSpans"].as_str()), (200, Some("1")));
    assert!(partial["errorMessage"].as_str().unwrap().contains("trace_id"));
}

#[tokio::test]
async fn an_unreadable_request_is_400_and_not_worth_a_retry() {
    let world = World::new().await;
    let answer = post(&world.http, "/v1/traces", PROTOBUF, &[0xff; 50]).await;
    assert_eq!((answer.status, answer.header("retry-after")), (400, None));
    assert_eq!(answer.header("content-type"), Some("application/x-protobuf"));
    let status = Status::decode(&answer.body[..]).unwrap();
    assert_eq!(status.code, 3);
    assert!(!status.message.is_empty());

    let answer = post(&world.http, "/v1/traces", JSON, b"{\"resourceSpans\":7}").await;
    assert_eq!((answer.status, answer.header("content-type")), (400, Some("application/json")));
    assert!(answer.json()["message"].as_str().unwrap().contains("resourceSpans"));
    assert_eq!(world.count(IngestCounter::UnreadableRequests), 2);
}

#[tokio::test]
async fn a_wrong_content_type_path_or_method_names_the_right_one() {
    let world = World::new().await;
    let answer = post(&world.http, "/v1/traces", "content-type: text/plain\r\n", b"x").await;
    assert_eq!((answer.status, answer.json()["code"].as_i64()), (415, Some(12)));
    assert!(answer.json()["message"].as_str().unwrap().contains("application/x-protobuf"));
    assert_eq!(world.count(IngestCounter::ContentTypeRequests), 1);

    let answer = post(&world.http, "/", PROTOBUF, b"").await;
    assert_eq!(answer.status, 404);
    assert!(Status::decode(&answer.body[..]).unwrap().message.contains("/v1/traces"));

    let mut client = Client::connect(&world.http).await;
    client.head("GET", "/v1/traces", "").await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 405);
    assert!(answer.header("allow").unwrap().contains("POST"));
    assert!(answer.json()["message"].as_str().unwrap().contains("POST"));
    assert_eq!(world.count(IngestCounter::MisdirectedRequests), 2);
}

#[tokio::test]
async fn grpc_on_this_port_is_told_where_to_go_in_its_own_words() {
    let world = World::new().await;
    let grpc = channel(&world.http).await;
    for path in [TRACES, "/grpc.health.v1.Health/Check"] {
        let answer = call(&grpc, path, &[], frame(false, &requests::spans(1))).await;
        assert_eq!((answer.http, answer.code(), answer.ended_in_head), (200, Code::Unimplemented, true));
        let message = answer.status.message();
        assert!(
            message.contains("OTLP/HTTP") && message.contains("gRPC") && message.contains("4317"),
            "{message}"
        );
        assert_eq!(answer.headers["content-type"], "application/grpc");
    }
    assert_eq!(world.count(IngestCounter::MisdirectedRequests), 2);
}

#[tokio::test]
async fn a_connection_serves_many_requests_good_and_bad() {
    let world = World::new().await;
    let mut client = Client::connect(&world.http).await;
    for _ in 0..5 {
        assert_eq!(client.post("/v1/traces", PROTOBUF, &requests::spans(1)).await.status, 200);
        assert_eq!(client.post("/v1/traces", PROTOBUF, b"\xff\xff").await.status, 400);
        assert_eq!(client.post("/v1/nothing", PROTOBUF, b"body").await.status, 404);
    }
    assert_eq!(world.log.spans(), 5);
    assert_eq!(world.count(IngestCounter::Connections), 1);
}

#[tokio::test]
async fn a_body_in_chunks_is_taken() {
    let world = World::new().await;
    let mut client = Client::connect(&world.http).await;
    client.head("POST", "/v1/traces", &format!("{PROTOBUF}transfer-encoding: chunked\r\n")).await;
    for chunk in requests::spans(2).chunks(7) {
        client.send(format!("{:x}\r\n", chunk.len()).as_bytes()).await;
        client.send(&[chunk, b"\r\n"].concat()).await;
    }
    client.send(b"0\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(world.log.spans(), 2);
}

/// What a subscriber writes.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_refusal_is_logged_as_json_with_each_field_once() {
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    // Of this thread, which runs the server as well.
    let _logging = tracing::subscriber::set_default(subscriber);
    let world = World::new().await;
    assert_eq!(post(&world.http, "/v1/traces", PROTOBUF, b"\xff\xff").await.status, 400);
    let log = String::from_utf8(written.0.lock().clone()).unwrap();
    let line = log.lines().find(|line| line.contains("refused a request")).unwrap();
    assert_eq!(line.matches(r#""message":"#).count(), 1, "{line}");
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert!(line["fields"]["why"].as_str().unwrap().contains("ExportTraceServiceRequest"), "{line}");
}
