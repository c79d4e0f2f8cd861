//! Compression of requests on both transports: what is known, what is broken, and bombs.

use std::io::Write as _;

use ingest::{IngestCounter, IngestLimits};
use tonic::Code;

use crate::raw_grpc::{export, frame};
use crate::raw_http::{JSON, PROTOBUF, post};
use crate::requests;
use crate::world::World;

const NAMES: [&str; 3] = ["gzip", "zstd", "deflate"];

fn compress(name: &str, bytes: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::best();
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
        "zstd" => {
            let mut compressor = zstd::bulk::Compressor::new(3).unwrap();
            compressor.include_checksum(true).unwrap();
            compressor.compress(bytes).unwrap()
        }
        _ => bytes.to_vec(),
    }
}

#[tokio::test]
async fn every_encoding_is_inflated_on_both_transports() {
    let world = World::new().await;
    // A small request, one that is inflated on another thread, and one larger than a step of inflation.
    let mut random = requests::span(9);
    random.events = (0..20_000).map(|_| event()).collect();
    let large = requests::of(vec![random]);
    let mut sent = 0;
    for request in [requests::spans(1), requests::bytes(3 << 20), large] {
        for name in ["identity", "gzip", "zstd", "deflate"] {
            let body = compress(name, &request);
            let answer =
                export(&world.grpc, &[("grpc-encoding", name)], frame(name != "identity", &body)).await;
            assert_eq!(answer.code(), Code::Ok, "{name}: {}", answer.status.message());
            let headers = format!("{PROTOBUF}content-encoding: {name}\r\n");
            let answer = post(&world.http, "/v1/traces", &headers, &body).await;
            assert_eq!(answer.status, 200, "{name}: {}", String::from_utf8_lossy(&answer.body));
            sent += 2 * request.len();
        }
    }
    assert_eq!(world.log.spans(), 24);
    assert_eq!(world.count(IngestCounter::Bytes), sent as u64, "what the log has is what was inflated");
    let json = compress("gzip", &requests::json(200_000));
    let answer = post(&world.http, "/v1/traces", &format!("{JSON}content-encoding: gzip\r\n"), &json).await;
    assert_eq!(answer.status, 200);
    world.charged(0).await;
}

fn event() -> opentelemetry_proto::tonic::trace::v1::span::Event {
    let name = format!("{:x}", rand::random::<u128>());
    opentelemetry_proto::tonic::trace::v1::span::Event { name, ..Default::default() }
}

#[tokio::test]
async fn an_unknown_encoding_names_those_that_are_known() {
    let world = World::new().await;
    let answer = export(&world.grpc, &[("grpc-encoding", "snappy")], frame(true, b"any")).await;
    assert_eq!(answer.code(), Code::Unimplemented);
    assert!(answer.status.message().contains("zstd"), "{}", answer.status.message());
    assert_eq!(answer.headers["grpc-accept-encoding"], "identity,gzip,zstd,deflate");
    let headers = format!("{JSON}content-encoding: br\r\n");
    let answer = post(&world.http, "/v1/traces", &headers, b"any").await;
    assert_eq!((answer.status, answer.header("retry-after")), (415, None));
    assert_eq!(answer.json()["code"], 12);
    assert!(answer.json()["message"].as_str().unwrap().contains("zstd"));
    assert_eq!(answer.header("accept-encoding"), Some("identity, gzip, zstd, deflate"));
    assert_eq!(world.count(IngestCounter::EncodingRequests), 2);
}

#[tokio::test]
async fn what_cannot_be_inflated_is_refused() {
    let world = World::new().await;
    for name in NAMES {
        let whole = compress(name, &requests::spans(5));
        let mut broken = whole.clone();
        let middle = broken.len() / 2;
        broken.iter_mut().skip(middle).take(8).for_each(|byte| *byte ^= 0xa5);
        for bytes in [b"no such thing at all".as_slice(), &whole[..whole.len() / 2], &broken] {
            let answer = export(&world.grpc, &[("grpc-encoding", name)], frame(true, bytes)).await;
            assert_eq!(answer.code(), Code::InvalidArgument, "{name}");
            let headers = format!("{PROTOBUF}content-encoding: {name}\r\n");
            assert_eq!(post(&world.http, "/v1/traces", &headers, bytes).await.status, 400, "{name}");
        }
    }
    assert_eq!(world.log.spans(), 0);
    let refused =
        world.count(IngestCounter::InflateRequests) + world.count(IngestCounter::UnreadableRequests);
    assert_eq!(refused, 18);
    world.charged(0).await;
}

#[tokio::test]
async fn bombs_end_at_the_limit() {
    let limits = IngestLimits { request_bytes: 2 << 20, queued_bytes: 4 << 20, ..IngestLimits::default() };
    let world = World::limited(limits).await;
    // 512 MiB if anybody let it: as deflate and zstd of zeros, some hundred KiB and less.
    let zeros = vec![0; 64 << 20];
    for name in NAMES {
        let bomb = compress(name, &zeros);
        assert!(bomb.len() < 100 << 10, "{name}: {}", bomb.len());
        // Gzip and zstd go on after the end of a member or frame.
        let bomb = if name == "deflate" { bomb } else { bomb.repeat(8) };
        let answer = export(&world.grpc, &[("grpc-encoding", name)], frame(true, &bomb)).await;
        assert_eq!(answer.code(), Code::InvalidArgument, "{name}");
        assert!(answer.status.message().contains("ingest.request_bytes"), "{}", answer.status.message());
        assert!(answer.retry_after().is_none());
        let headers = format!("{PROTOBUF}content-encoding: {name}\r\n");
        let answer = post(&world.http, "/v1/traces", &headers, &bomb).await;
        assert_eq!(answer.status, 413, "{name}");
    }
    assert_eq!(world.count(IngestCounter::RequestBytesRequests), 6);
    assert_eq!(export(&world.grpc, &[], frame(false, &requests::spans(1))).await.code(), Code::Ok);
    world.charged(0).await;
}

#[tokio::test]
async fn a_frame_that_asks_for_a_giant_window_is_refused() {
    let world = World::new().await;
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&requests::bytes(1 << 20)).unwrap();
    let body = encoder.finish().unwrap();
    let answer = export(&world.grpc, &[("grpc-encoding", "zstd")], frame(true, &body)).await;
    assert_eq!(answer.code(), Code::InvalidArgument);
    assert_eq!(world.count(IngestCounter::InflateRequests), 1);
}

#[tokio::test]
async fn inflated_bytes_count_against_the_budget() {
    let limits = IngestLimits { queued_bytes: 4 << 20, ..IngestLimits::default() };
    let world = World::limited(limits).await;
    world.log.hold();
    let first = compress("gzip", &requests::bytes(3 << 20));
    let (address, body) = (world.grpc.clone(), frame(true, &first));
    let waiting = tokio::spawn(async move { export(&address, &[("grpc-encoding", "gzip")], body).await });
    let queued = world.server.queued_bytes();
    crate::world::until("the inflated bytes are charged", || (3 << 20..4 << 20).contains(&queued())).await;
    // Small on the wire, and too much once inflated.
    let answer = export(&world.grpc, &[("grpc-encoding", "gzip")], frame(true, &first)).await;
    assert_eq!(answer.code(), Code::ResourceExhausted);
    assert!(answer.retry_after().is_some());
    world.log.let_go();
    assert_eq!(waiting.await.unwrap().code(), Code::Ok);
    world.charged(0).await;
}
