//! OTLP/gRPC: frames, compression both ways, and what is not there.

use bytes::Bytes;
use ingest::{IngestCounter, IngestLimits};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse, trace_service_client::TraceServiceClient,
};
use prost::Message as _;
use tonic::Code;
use tonic::codec::CompressionEncoding;

use crate::raw_grpc::{Call, TRACES, call, channel, export, frame};
use crate::raw_http::{PROTOBUF, post};
use crate::requests;
use crate::world::World;

#[tokio::test]
async fn what_is_acknowledged_is_in_the_log() {
    let world = World::new().await;
    let request = requests::spans(3);
    let answer = export(&world.grpc, &[], frame(false, &request)).await;
    assert_eq!((answer.http, answer.code()), (200, Code::Ok));
    assert_eq!(answer.body, frame(false, &[]), "success has no partial_success");
    assert_eq!(world.log.spans(), 3);
    assert_eq!(world.count(IngestCounter::Requests), 1);
    assert_eq!(world.count(IngestCounter::Spans), 3);
    assert_eq!(world.count(IngestCounter::Bytes), request.len() as u64);
    world.charged(0).await;
}

#[tokio::test]
async fn frames_may_come_in_any_pieces() {
    let world = World::new().await;
    let channel = channel(&world.grpc).await;
    let whole = frame(false, &requests::spans(2));
    for piece in [1, 3, 4, 5, 6, 7, whole.len()] {
        let mut call = Call::start(&channel, TRACES, &[]);
        for chunk in whole.chunks(piece) {
            call.send(Bytes::copy_from_slice(chunk)).await;
        }
        call.body = None;
        assert_eq!(call.answer().await.code(), Code::Ok, "pieces of {piece}");
    }
    assert_eq!(world.log.spans(), 14);
}

#[tokio::test]
async fn a_real_client_compresses_both_ways() {
    let world = World::limited(IngestLimits { span_attributes: 1, ..IngestLimits::default() }).await;
    let mut bad = requests::span(2);
    bad.attributes = vec![requests::text("a", "1"), requests::text("b", "2")];
    let bytes = requests::of(vec![requests::span(1), bad]);
    let request = ExportTraceServiceRequest::decode(&bytes[..]).unwrap();
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let client = TraceServiceClient::new(channel(&world.grpc).await);
        let mut client = client.send_compressed(encoding).accept_compressed(encoding);
        let answer = client.export(request.clone()).await.unwrap();
        let sent_as = answer.metadata().get("grpc-encoding").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(
            sent_as.as_deref(),
            Some(if encoding == CompressionEncoding::Gzip { "gzip" } else { "zstd" })
        );
        let partial = answer.into_inner().partial_success.unwrap();
        assert_eq!(partial.rejected_spans, 1);
        assert!(partial.error_message.contains("ingest.span_attributes"), "{}", partial.error_message);
    }
    assert_eq!(world.log.spans(), 2);
}

#[tokio::test]
async fn broken_frames_are_refused_by_name() {
    let world = World::new().await;
    let channel = channel(&world.grpc).await;
    let one = frame(false, &requests::spans(1));
    for (what, body, says) in [
        ("nothing", Bytes::new(), "no message"),
        ("half a head", one.slice(..3), "3 of 5 bytes"),
        ("half a message", one.slice(..one.len() - 1), "bytes, and"),
        ("two messages", [one.clone(), one.clone()].concat().into(), "one message"),
        ("a flag that does not exist", [&[2], &one[1..]].concat().into(), "begin with 2"),
    ] {
        let answer = call(&channel, TRACES, &[], body).await;
        assert_eq!(answer.code(), Code::InvalidArgument, "{what}");
        assert!(answer.status.message().contains(says), "{what}: {}", answer.status.message());
        assert!(answer.retry_after().is_none(), "{what} is not worth a retry");
        assert!(answer.ended_in_head, "{what}");
    }
    assert_eq!(world.count(IngestCounter::UnreadableRequests), 5);
    let answer = call(&channel, TRACES, &[], frame(true, &requests::spans(1))).await;
    assert_eq!(answer.code(), Code::InvalidArgument);
    assert_eq!(world.count(IngestCounter::InflateRequests), 1);
    assert_eq!(call(&channel, TRACES, &[], one).await.code(), Code::Ok, "and the connection goes on");
    world.charged(0).await;
}

#[tokio::test]
async fn other_methods_are_unimplemented_and_name_the_right_one() {
    let world = World::new().await;
    let channel = channel(&world.grpc).await;
    for path in ["/opentelemetry.proto.collector.trace.v1.TraceService/Import", "/some.Service/Export"] {
        let answer = call(&channel, path, &[], frame(false, b"")).await;
        assert_eq!((answer.code(), answer.ended_in_head), (Code::Unimplemented, true));
        assert!(answer.status.message().contains("TraceService"), "{}", answer.status.message());
    }
    assert_eq!(world.count(IngestCounter::MisdirectedRequests), 2);
}

#[tokio::test]
async fn otlp_http_on_this_port_is_told_where_to_go() {
    let world = World::new().await;
    let answer = post(&world.grpc, "/v1/traces", PROTOBUF, &requests::spans(1)).await;
    assert_eq!(answer.status, 415);
    assert!(String::from_utf8_lossy(&answer.body).contains("4318"));
    assert_eq!(world.count(IngestCounter::ContentTypeRequests), 1);
}

#[tokio::test]
async fn what_only_resembles_grpc_is_refused() {
    let world = World::new().await;
    let channel = channel(&world.grpc).await;
    let request = frame(false, &requests::spans(1));
    for (content_type, is_grpc) in [
        ("application/grpc+proto", true),
        ("application/grpc; charset=utf-8", true),
        ("Application/GRPC", true),
        ("application/grpc-web", false),
        ("application/grpc-web+proto", false),
        ("application/grpc+json", false),
        ("application/grpcx", false),
    ] {
        let answer = call(&channel, TRACES, &[("content-type", content_type)], request.clone()).await;
        assert_eq!(answer.http, if is_grpc { 200 } else { 415 }, "{content_type}");
        assert_eq!(answer.code() == Code::Ok, is_grpc, "{content_type}");
        let says = String::from_utf8_lossy(&answer.body).contains("application/grpc+proto");
        assert_eq!(says, !is_grpc, "{content_type}");
    }
    assert_eq!((world.log.spans(), world.count(IngestCounter::ContentTypeRequests)), (3, 4));
}

#[tokio::test]
async fn a_request_without_a_span_to_take_is_acknowledged_and_counted() {
    let world = World::new().await;
    let mut bad = requests::span(7);
    bad.span_id = vec![0; 8];
    let bad = requests::of(vec![bad]);
    for request in [&bad[..], &[]] {
        assert_eq!(export(&world.grpc, &[], frame(false, request)).await.code(), Code::Ok);
    }
    assert_eq!(world.count(IngestCounter::Requests), 2);
    assert_eq!(world.count(IngestCounter::Bytes), bad.len() as u64);
    assert_eq!(world.count(IngestCounter::RejectedSpans), 1);
    assert_eq!((world.count(IngestCounter::Spans), world.log.spans()), (0, 0));
}

#[tokio::test]
async fn the_answer_is_an_otlp_message() {
    let world = World::new().await;
    let mut bad = requests::span(7);
    bad.span_id = vec![0; 8];
    let answer = export(&world.grpc, &[], frame(false, &requests::of(vec![bad, requests::span(8)]))).await;
    assert_eq!(answer.code(), Code::Ok);
    let partial = ExportTraceServiceResponse::decode(&answer.body[5..]).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 1);
    assert!(partial.error_message.contains("span_id"), "{}", partial.error_message);
    assert_eq!(world.count(IngestCounter::RejectedSpans), 1);
}
