//! Bounds on connections, and clients that take their time.

use std::time::Duration;

use bytes::Bytes;
use ingest::{IngestCounter, IngestLimits};
use tonic::Code;

use crate::raw_grpc::{Call, TRACES, channel, export, frame};
use crate::raw_http::{Client, PROTOBUF, post};
use crate::requests;
use crate::world::World;

const SHORT: Duration = Duration::from_millis(150);

#[tokio::test]
async fn connections_over_the_limit_are_told_so_and_closed() {
    let world = World::limited(IngestLimits { connections: 2, ..IngestLimits::default() }).await;
    let mut first = Client::connect(&world.http).await;
    let mut second = Client::connect(&world.http).await;
    for client in [&mut first, &mut second] {
        assert_eq!(client.post("/v1/traces", PROTOBUF, &requests::spans(1)).await.status, 200);
    }
    let mut third = Client::connect(&world.http).await;
    let answer = third.post("/v1/traces", PROTOBUF, &requests::spans(1)).await;
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
    assert!(String::from_utf8_lossy(&answer.body).contains("ingest.connections"));
    third.until_closed().await;
    assert_eq!(world.count(IngestCounter::ConnectionsOverLimit), 1);
    assert_eq!(world.count(IngestCounter::OverConnectionsRequests), 1);

    // The limit is each server's own, and a place that is given up is free again.
    assert_eq!(export(&world.grpc, &[], frame(false, &requests::spans(1))).await.code(), Code::Ok);
    drop(first);
    let again = async { while post(&world.http, "/v1/traces", PROTOBUF, b"").await.status != 200 {} };
    assert!(tokio::time::timeout(crate::world::PATIENCE, again).await.is_ok());
}

#[tokio::test]
async fn grpc_connections_over_the_limit_are_unavailable() {
    let world = World::limited(IngestLimits { connections: 1, ..IngestLimits::default() }).await;
    let first = channel(&world.grpc).await;
    let under_way = Call::start(&first, TRACES, &[]);
    world.counts(IngestCounter::Connections, 1).await;
    let answer = export(&world.grpc, &[], frame(false, &requests::spans(1))).await;
    assert_eq!(answer.code(), Code::Unavailable);
    assert!(answer.retry_after().is_some());
    drop(under_way);
}

#[tokio::test]
async fn headers_that_do_not_come_end_the_connection() {
    let world = World::limited(IngestLimits { header_timeout: SHORT, ..IngestLimits::default() }).await;
    let mut silent = Client::connect(&world.http).await;
    let mut halfway = Client::connect(&world.http).await;
    halfway.send(b"POST /v1/traces HTTP/1.1\r\nhost: te").await;
    let mut second_request = Client::connect(&world.http).await;
    assert_eq!(second_request.post("/v1/traces", PROTOBUF, &requests::spans(1)).await.status, 200);
    second_request.send(b"POST /v1/tr").await;
    let mut no_preface = Client::connect(&world.grpc).await;
    no_preface.send(b"PRI * HTT").await;
    for client in [&mut silent, &mut halfway, &mut second_request, &mut no_preface] {
        client.until_closed().await;
    }
    world.counts(IngestCounter::SlowConnections, 4).await;
}

#[tokio::test]
async fn what_is_no_http_and_heads_that_are_too_long_are_counted() {
    let world = World::new().await;
    // As the README has it: so many headers and so many bytes.
    let head = |headers: usize, bytes: usize| {
        let mut head = "POST /v1/traces HTTP/1.1\r\ncontent-length: 0\r\n".to_owned();
        head.push_str(PROTOBUF);
        (3..headers).for_each(|n| head.push_str(&format!("x-{n}: 1\r\n")));
        let filled = head.len() + "filler: \r\n\r\n".len();
        head + &format!("filler: {}\r\n\r\n", "x".repeat(bytes.saturating_sub(filled)))
    };
    let most = 408 << 10;
    let other = "\x16\x03\x01 of another protocol\r\n\r\n".to_owned();
    for (n, (sent, status)) in [(head(101, 0), "431"), (other, "400")].into_iter().enumerate() {
        let mut client = Client::connect(&world.http).await;
        client.send(sent.as_bytes()).await;
        let said = String::from_utf8(client.until_closed().await).unwrap();
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{n}: {said:?}");
        world.counts(IngestCounter::BrokenConnections, n as u64 + 1).await;
    }
    // The last read may go beyond. A client that still writes may find the connection reset instead of the answer.
    let mut client = Client::connect(&world.http).await;
    client.try_send(head(4, 4 * most).as_bytes()).await;
    client.until_closed().await;
    world.counts(IngestCounter::BrokenConnections, 3).await;
    for (headers, bytes) in [(100, 0), (4, most - 4_096)] {
        let mut client = Client::connect(&world.http).await;
        client.send(head(headers, bytes).as_bytes()).await;
        assert_eq!(client.answer().await.status, 200);
    }
    // Who goes away has broken nothing.
    drop(Client::connect(&world.http).await);
    let mut halfway = Client::connect(&world.http).await;
    halfway.send(b"POST /v1/tr").await;
    drop(halfway);
    assert_eq!(world.count(IngestCounter::BrokenConnections), 3);
}

#[tokio::test]
async fn the_header_timeout_leaves_idle_connections_alone() {
    let world = World::limited(IngestLimits { header_timeout: SHORT, ..IngestLimits::default() }).await;
    let grpc = channel(&world.grpc).await;
    let mut client = Client::connect(&world.http).await;
    assert_eq!(client.post("/v1/traces", PROTOBUF, &requests::spans(1)).await.status, 200);
    tokio::time::sleep(SHORT * 4).await;
    assert_eq!(client.post("/v1/traces", PROTOBUF, &requests::spans(1)).await.status, 200);
    let answer = crate::raw_grpc::call(&grpc, TRACES, &[], frame(false, &requests::spans(1))).await;
    assert_eq!(answer.code(), Code::Ok);
    assert_eq!(world.count(IngestCounter::Connections), 2);
}

#[tokio::test]
async fn after_the_rest_of_a_refused_body_a_connection_is_idle_and_not_slow() {
    let limits = IngestLimits { header_timeout: SHORT, wire_bytes: 1_000, ..IngestLimits::default() };
    let world = World::limited(limits).await;
    let mut client = Client::connect(&world.http).await;
    client.head("POST", "/v1/traces", &format!("{PROTOBUF}content-length: 5000\r\n")).await;
    assert_eq!(client.answer().await.status, 413);
    client.send(&[0; 5_000]).await;
    tokio::time::sleep(SHORT * 4).await;
    assert_eq!(client.post("/v1/traces", PROTOBUF, &requests::spans(1)).await.status, 200);
    assert_eq!(world.count(IngestCounter::SlowConnections), 0);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up_and_may_be_sent_again() {
    let world = World::limited(IngestLimits { body_timeout: SHORT, ..IngestLimits::default() }).await;
    let mut client = Client::connect(&world.http).await;
    client.head("POST", "/v1/traces", &format!("{PROTOBUF}content-length: 5000\r\n")).await;
    client.send(&[0; 1_000]).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
    assert!(String::from_utf8_lossy(&answer.body).contains("ingest.body_timeout"));

    let grpc = channel(&world.grpc).await;
    for sent in [0, 3, 1_000] {
        let mut call = Call::start(&grpc, TRACES, &[]);
        if sent > 0 {
            call.send(frame(false, &[0; 5_000]).slice(..sent)).await;
        }
        let answer = call.answer().await;
        assert_eq!(answer.code(), Code::Unavailable, "{sent} bytes");
        assert!(answer.retry_after().is_some());
    }
    assert_eq!(world.count(IngestCounter::SlowRequests), 4);
    world.charged(0).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let world = World::limited(IngestLimits { idle_timeout: SHORT, ..IngestLimits::default() }).await;
    let mut client = Client::connect(&world.http).await;
    assert_eq!(client.post("/v1/traces", PROTOBUF, &requests::spans(1)).await.status, 200);
    client.until_closed().await;
    world.counts(IngestCounter::IdleConnections, 1).await;
    // A request under way is not idle, however long the log takes.
    world.log.hold();
    let address = world.grpc.clone();
    let call = tokio::spawn(async move { export(&address, &[], frame(false, &requests::spans(1))).await });
    let queued = world.server.queued_bytes();
    crate::world::until("it waits", || queued() > 0).await;
    tokio::time::sleep(SHORT * 3).await;
    world.log.let_go();
    assert_eq!(call.await.unwrap().code(), Code::Ok);
}

#[tokio::test]
async fn slow_clients_do_not_hold_others_up() {
    let world = World::limited(IngestLimits { queued_bytes: 1 << 20, ..IngestLimits::default() }).await;
    let grpc = channel(&world.grpc).await;
    let mut slow_calls = Vec::new();
    let mut slow_clients = Vec::new();
    for n in 0..100 {
        let mut call = Call::start(&grpc, TRACES, &[]);
        call.send(frame(false, &vec![0; 1 << 19]).slice(..5 + n)).await;
        slow_calls.push(call);
        let mut client = Client::connect(&world.http).await;
        if n % 2 == 0 {
            client.head("POST", "/v1/traces", &format!("{PROTOBUF}content-length: 500000\r\n")).await;
            client.send(&[0; 100]).await;
        } else {
            client.send(b"POST /v1/traces HTTP/1.1\r\nx: ").await;
        }
        slow_clients.push(client);
    }
    world.charged(99 * 100 / 2 + 50 * 100).await;
    for _ in 0..5 {
        let body = requests::bytes(500_000);
        assert_eq!(post(&world.http, "/v1/traces", PROTOBUF, &body).await.status, 200);
        let answer = crate::raw_grpc::call(&grpc, TRACES, &[], frame(false, &body)).await;
        assert_eq!(answer.code(), Code::Ok);
    }
}

#[tokio::test]
async fn a_connection_has_so_many_streams_and_no_more() {
    let world = World::limited(IngestLimits { streams: 2, ..IngestLimits::default() }).await;
    let grpc = channel(&world.grpc).await;
    let whole = frame(false, &requests::spans(1));
    let mut open: Vec<Call> = Vec::new();
    for _ in 0..2 {
        let mut call = Call::start(&grpc, TRACES, &[]);
        call.send(whole.slice(..10)).await;
        open.push(call);
    }
    world.charged(10).await;
    // The client waits with a third, as the server told it to.
    let mut third = Call::start(&grpc, TRACES, &[]);
    third.send(whole.clone()).await;
    third.body = None;
    let mut first = open.remove(0);
    first.send(whole.slice(10..)).await;
    first.body = None;
    assert_eq!(first.answer().await.code(), Code::Ok);
    assert_eq!(third.answer().await.code(), Code::Ok);
    assert_eq!(world.log.spans(), 2);
}

/// As a client that does not wait for what the server says about limits: a call on each stream, each without an end.
#[tokio::test]
async fn streams_over_the_limit_are_counted() {
    let world = World::limited(IngestLimits { streams: 2, ..IngestLimits::default() }).await;
    let mut client = Client::connect(&world.grpc).await;
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    };
    // POST, http, then a literal path, authority and content type.
    let mut call = vec![0x83, 0x86];
    for (name, value) in [(&[0x04][..], TRACES), (&[0x01], "test"), (&[0x0f, 0x10], "application/grpc")] {
        call.extend_from_slice(name);
        call.push(value.len() as u8);
        call.extend_from_slice(value.as_bytes());
    }
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    client.send(&frame(4, 0, 0, &[])).await;
    for stream in [1, 3, 5, 7, 9] {
        client.send(&frame(1, 4, stream, &call)).await;
    }
    world.counts(IngestCounter::RefusedStreams, 3).await;
    // Those within it are still open, and the connection with them: nothing more is refused after one ends.
    client.send(&frame(3, 0, 1, &[0, 0, 0, 8])).await;
    client.send(&frame(1, 4, 11, &call)).await;
    client.send(&frame(1, 4, 13, &call)).await;
    world.counts(IngestCounter::RefusedStreams, 4).await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_idle_or_silent_connections() {
    let world = World::new().await;
    let grpc = channel(&world.grpc).await;
    let mut client = Client::connect(&world.http).await;
    assert_eq!(client.post("/v1/traces", PROTOBUF, &requests::spans(1)).await.status, 200);
    let mut silent = Client::connect(&world.http).await;
    silent.send(b"POST /v1/tra").await;
    world.counts(IngestCounter::Connections, 3).await;
    world.stop().await;
    client.until_closed().await;
    silent.until_closed().await;
    drop((grpc, Bytes::new()));
}
