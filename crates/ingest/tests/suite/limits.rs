//! Every limit of a request: a clear answer that names it, and a counter.

use ingest::{IngestCounter, IngestLimits};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use tonic::Code;

use crate::raw_grpc::{Call, TRACES, channel, export, frame};
use crate::raw_http::{Client, JSON, PROTOBUF, post};
use crate::requests;
use crate::world::World;

fn small() -> IngestLimits {
    IngestLimits {
        wire_bytes: 64 << 10,
        json_bytes: 16 << 10,
        request_spans: 10,
        span_attributes: 3,
        span_bytes: 8 << 10,
        context_bytes: 4 << 10,
        value_depth: 4,
        ..IngestLimits::default()
    }
}

/// Sends a request both ways; both answers must name the key, and the counter must have counted both.
async fn refused(world: &World, request: &[u8], key: &str, http: u16, counter: IngestCounter) {
    let before = world.count(counter);
    let answer = export(&world.grpc, &[], frame(false, request)).await;
    assert_eq!(answer.code(), Code::InvalidArgument, "{key}");
    let message = answer.status.message();
    assert!(message.contains(key), "{message}");
    assert!(
        !message.contains("readable") && !message.contains("malformed"),
        "a limit is no damage: {message}"
    );
    assert!(answer.retry_after().is_none());
    let answer = post(&world.http, "/v1/traces", PROTOBUF, request).await;
    assert_eq!((answer.status, answer.header("retry-after")), (http, None), "{key}");
    assert!(String::from_utf8_lossy(&answer.body).contains(key), "{answer:?}");
    assert_eq!(world.count(counter), before + 2, "{key}");
}

#[tokio::test]
async fn limits_of_a_request_refuse_all_of_it() {
    let world = World::limited(small()).await;
    let long = requests::bytes(65 << 10);
    refused(&world, &long, "ingest.wire_bytes", 413, IngestCounter::WireBytesRequests).await;
    refused(&world, &requests::spans(11), "ingest.request_spans", 413, IngestCounter::SpansRequests).await;
    let mut deep = requests::span(1);
    deep.attributes = vec![requests::nested(5)];
    refused(&world, &requests::of(vec![deep]), "ingest.value_depth", 400, IngestCounter::DepthRequests).await;
    assert_eq!(world.log.spans(), 0);
    let fewer = World::limited(IngestLimits { request_bytes: 32 << 10, ..small() }).await;
    // Neither compressed nor over what may come on the wire, and still more bytes than a request may have.
    let whole = requests::bytes(33 << 10);
    refused(&fewer, &whole, "ingest.request_bytes", 413, IngestCounter::RequestBytesRequests).await;
    // Nor has this one, but with its resource once for each of its scopes.
    let scopes = requests::scopes(9, 3_900);
    assert!(scopes.len() < 5_000);
    refused(&fewer, &scopes, "ingest.request_bytes", 413, IngestCounter::RequestBytesRequests).await;
    // What is just within them is taken.
    assert_eq!(post(&world.http, "/v1/traces", PROTOBUF, &requests::spans(10)).await.status, 200);
    let mut deep = requests::span(1);
    deep.attributes = vec![requests::nested(4)];
    assert_eq!(post(&world.http, "/v1/traces", PROTOBUF, &requests::of(vec![deep])).await.status, 200);
    assert_eq!(world.log.spans(), 11);
    world.charged(0).await;
}

#[tokio::test]
async fn nesting_of_json_is_counted_and_named_as_that_of_protobuf() {
    let world = World::limited(small()).await;
    // The transcoder has a bound of its own, which is the greatest that the key can have.
    for (n, levels) in [5, 33, 60].into_iter().enumerate() {
        let answer = post(&world.http, "/v1/traces", JSON, &requests::nested_json(levels)).await;
        let message = "over a limit: attribute values nest deeper than 4 (ingest.value_depth)";
        assert_eq!((answer.status, answer.json()["message"].as_str()), (400, Some(message)), "{levels}");
        assert_eq!(world.count(IngestCounter::DepthRequests), n as u64 + 1);
    }
    assert_eq!(world.count(IngestCounter::UnreadableRequests), 0);
    assert_eq!(post(&world.http, "/v1/traces", JSON, &requests::nested_json(4)).await.status, 200);
    world.charged(0).await;
}

#[tokio::test]
async fn limits_of_a_span_leave_out_that_span_alone() {
    let world = World::limited(small()).await;
    let mut many = requests::span(1);
    many.attributes = (0..4).map(|n| requests::text(&n.to_string(), "value")).collect();
    let mut long = requests::span(2);
    long.attributes = vec![requests::text("long", &"x".repeat(8 << 10))];
    for (bad, key, counter) in [
        (many, "ingest.span_attributes", IngestCounter::SpansOverAttributes),
        (long, "ingest.span_bytes", IngestCounter::SpansOverBytes),
    ] {
        let request = requests::of(vec![bad, requests::span(3)]);
        let answer = export(&world.grpc, &[], frame(false, &request)).await;
        assert_eq!(answer.code(), Code::Ok);
        let partial = ExportTraceServiceResponse::decode(&answer.body[5..]).unwrap().partial_success.unwrap();
        assert_eq!(partial.rejected_spans, 1);
        assert!(partial.error_message.contains(key), "{}", partial.error_message);
        assert_eq!(world.count(counter), 1);
    }
    assert_eq!(world.count(IngestCounter::RejectedSpans), 2);
    assert_eq!(world.log.spans(), 2);
    let request = [requests::scopes(2, 4_200), requests::of(vec![requests::span(3)])].concat();
    let answer = export(&world.grpc, &[], frame(false, &request)).await;
    let partial = ExportTraceServiceResponse::decode(&answer.body[5..]).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 2);
    assert!(partial.error_message.contains("ingest.context_bytes"), "{}", partial.error_message);
    assert_eq!(world.count(IngestCounter::SpansOverContext), 2);
    assert_eq!((world.count(IngestCounter::RejectedSpans), world.log.spans()), (4, 3));
    // The long resource alone is left of what was rejected.
    assert!(world.log.requests.lock().pop().unwrap().ends_with(&requests::of(vec![requests::span(3)])));
    // The log is read again without limits.
    for logged in world.log.requests.lock().iter() {
        assert_eq!(logged[..], requests::of(vec![requests::span(3)]));
    }
    world.charged(0).await;
}

#[tokio::test]
async fn a_body_that_does_not_say_how_long_it_is_ends_at_the_limit() {
    let world = World::limited(small()).await;
    let mut client = Client::connect(&world.http).await;
    client.head("POST", "/v1/traces", &format!("{PROTOBUF}transfer-encoding: chunked\r\n")).await;
    let chunk = [format!("{:x}\r\n", 16 << 10).as_bytes(), &vec![0; 16 << 10], b"\r\n"].concat();
    for _ in 0..5 {
        client.send(&chunk).await;
    }
    // The answer does not wait for the end.
    let answer = client.answer().await;
    assert_eq!(answer.status, 413);
    assert_eq!(world.count(IngestCounter::WireBytesRequests), 1);
    world.charged(0).await;
}

#[tokio::test]
async fn a_refusal_does_not_wait_for_the_body() {
    let world = World::limited(small()).await;
    let mut client = Client::connect(&world.http).await;
    client.head("POST", "/v1/traces", &format!("{PROTOBUF}content-length: 70000\r\n")).await;
    assert_eq!(client.answer().await.status, 413);

    let channel = channel(&world.grpc).await;
    let mut call = Call::start(&channel, TRACES, &[]);
    call.send(frame(false, &vec![0; 70_000]).slice(..5)).await;
    assert_eq!(call.answer().await.code(), Code::InvalidArgument);
    assert_eq!(world.count(IngestCounter::WireBytesRequests), 2);
}

#[tokio::test]
async fn a_client_that_writes_all_of_it_first_still_gets_the_answer() {
    let world = World::limited(small()).await;
    let mut client = Client::connect(&world.http).await;
    let answer = client.post("/v1/traces", PROTOBUF, &vec![0; 65 << 10]).await;
    assert_eq!(answer.status, 413);
    // The rest of the body was read, so the connection can be used again.
    assert_eq!(client.post("/v1/traces", PROTOBUF, &requests::spans(1)).await.status, 200);
}

#[tokio::test]
async fn a_client_far_over_the_limit_still_gets_the_answer() {
    let world = World::limited(IngestLimits { wire_bytes: 2 << 20, ..small() }).await;
    let mut client = Client::connect(&world.http).await;
    // It is more than the limit and what sockets hold together, so the client gets so far only if the server reads on.
    let answer = client.post("/v1/traces", PROTOBUF, &vec![0; 15 << 20]).await;
    assert_eq!(answer.status, 413);
    assert_eq!(client.post("/v1/traces", PROTOBUF, &requests::spans(1)).await.status, 200);
    world.charged(0).await;
}

#[tokio::test]
async fn json_has_a_limit_of_its_own() {
    let world = World::limited(small()).await;
    let answer = post(&world.http, "/v1/traces", JSON, &requests::json(17 << 10)).await;
    assert_eq!(answer.status, 413);
    assert!(answer.json()["message"].as_str().unwrap().contains("ingest.json_bytes"));
    assert_eq!(world.count(IngestCounter::JsonBytesRequests), 1);
    assert_eq!(post(&world.http, "/v1/traces", JSON, &requests::json(7 << 10)).await.status, 200);
    world.charged(0).await;
}
