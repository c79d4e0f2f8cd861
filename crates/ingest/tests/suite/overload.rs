//! More than can be taken, or nothing can be: refused before it is read, with the time to come back.

use std::time::Duration;

use bytes::Bytes;
use ingest::{IngestCounter, IngestLimits};
use prost::Message as _;
use tonic::Code;
use tonic_types::pb::Status;

use crate::raw_grpc::{Call, TRACES, channel, export, frame};
use crate::raw_http::{Client, JSON, PROTOBUF, post};
use crate::requests;
use crate::world::{PATIENCE, World, until};

const LIMIT: usize = 1 << 20;

async fn small() -> World {
    World::limited(IngestLimits { queued_bytes: LIMIT, ..IngestLimits::default() }).await
}

/// An export that waits for a log which takes nothing, and what it has charged.
async fn waiting(world: &World, bytes: usize) -> tokio::task::JoinHandle<Code> {
    let request = requests::bytes(bytes);
    let charged = request.len();
    let address = world.grpc.clone();
    let call = tokio::spawn(async move { export(&address, &[], frame(false, &request)).await.code() });
    world.charged(charged).await;
    call
}

fn is_a_wait(wait: Option<Duration>) -> bool {
    wait.is_some_and(|wait| (Duration::from_millis(80)..=Duration::from_secs(36)).contains(&wait))
}

#[tokio::test]
async fn beyond_the_budget_clients_are_told_when_to_come_back() {
    let world = small().await;
    world.log.hold();
    let first = waiting(&world, LIMIT - 2_000).await;
    // Not a byte of these bodies is sent: the answer comes for what was announced.
    let channel = channel(&world.grpc).await;
    let mut call = Call::start(&channel, TRACES, &[]);
    call.send(frame(false, &vec![0; 4_000]).slice(..5)).await;
    let answer = call.answer().await;
    assert_eq!(answer.code(), Code::ResourceExhausted);
    assert!(is_a_wait(answer.retry_after()), "{:?}", answer.retry_after());
    assert!(answer.status.message().contains("ingest.queued_bytes"));

    for (headers, is_json) in [(PROTOBUF, false), (JSON, true)] {
        let mut client = Client::connect(&world.http).await;
        client.head("POST", "/v1/traces", &format!("{headers}content-length: 4000\r\n")).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 429);
        let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=36).contains(&seconds));
        if is_json {
            assert_eq!(answer.json()["code"], 8);
            let delay = &answer.json()["details"][0]["retryDelay"];
            assert!(delay.as_str().unwrap().ends_with('s'));
        } else {
            let status = Status::decode(&answer.body[..]).unwrap();
            assert_eq!((status.code, status.details.len()), (8, 1));
        }
    }
    assert_eq!(world.count(IngestCounter::OverloadedRequests), 3);

    world.log.let_go();
    assert_eq!(first.await.unwrap(), Code::Ok);
    world.charged(0).await;
    assert_eq!(export(&world.grpc, &[], frame(false, &requests::bytes(4_000))).await.code(), Code::Ok);
}

#[tokio::test]
async fn bodies_are_charged_as_they_come_and_not_as_they_are_announced() {
    let world = small().await;
    let channel = channel(&world.grpc).await;
    let whole = frame(false, &requests::bytes(LIMIT / 2));
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut call = Call::start(&channel, TRACES, &[]);
        call.send(whole.slice(..5 + 1_000)).await;
        slow.push(call);
    }
    world.charged(20_000).await;
    // Twenty that together announced ten times the budget hold nobody up.
    assert_eq!(export(&world.grpc, &[], whole.clone()).await.code(), Code::Ok);
    assert_eq!(post(&world.http, "/v1/traces", PROTOBUF, &whole[5..]).await.status, 200);

    // Whoever hangs up gives back what it had.
    slow.drain(1..).for_each(Call::hang_up);
    world.charged(1_000).await;
    let mut last = slow.pop().unwrap();
    last.send(whole.slice(5 + 1_000..)).await;
    last.body = None;
    assert_eq!(last.answer().await.code(), Code::Ok);
    world.charged(0).await;
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_bytes() {
    let world = small().await;
    let mut client = Client::connect(&world.http).await;
    client.head("POST", "/v1/traces", &format!("{PROTOBUF}content-length: 100000\r\n")).await;
    client.send(&[0; 50_000]).await;
    world.charged(50_000).await;
    drop(client);
    world.charged(0).await;
    world.counts(IngestCounter::AbandonedRequests, 1).await;
}

#[tokio::test]
async fn what_is_stored_for_a_client_that_has_gone_is_counted() {
    let world = small().await;
    world.log.hold();
    // So long that their rows are a part of what is charged for their bytes.
    let request = requests::of((1..=3).map(|n| requests::long_span(n, 200)).collect());
    // The log has the first in its hands, and the second waits.
    let channel = channel(&world.grpc).await;
    for n in 1..=2 {
        let mut call = Call::start(&channel, TRACES, &[]);
        call.send(frame(false, &request)).await;
        call.body = None;
        world.charged(n * request.len()).await;
        call.hang_up();
    }
    let mut client = Client::connect(&world.http).await;
    let head = format!("{PROTOBUF}content-length: {}\r\n", request.len());
    client.head("POST", "/v1/traces", &head).await;
    client.send(&request).await;
    world.charged(3 * request.len()).await;
    drop(client);
    world.log.let_go();
    world.charged(0).await;
    world.counts(IngestCounter::Requests, 3).await;
    world.counts(IngestCounter::Spans, 9).await;
    world.counts(IngestCounter::Bytes, 3 * request.len() as u64).await;
    assert_eq!(world.log.spans(), 9);
}

#[tokio::test]
async fn one_larger_than_the_budget_passes_alone() {
    let world = small().await;
    let large = requests::bytes(2 * LIMIT);
    assert_eq!(export(&world.grpc, &[], frame(false, &large)).await.code(), Code::Ok);
    world.log.hold();
    let first = waiting(&world, 1_000).await;
    assert_eq!(export(&world.grpc, &[], frame(false, &large)).await.code(), Code::ResourceExhausted);
    world.log.let_go();
    assert_eq!(first.await.unwrap(), Code::Ok);
    world.charged(0).await;
}

#[tokio::test]
async fn the_wait_follows_how_fast_the_log_is() {
    let world = small().await;
    // The log stands still with something queued: the measured rate falls, and the wait grows.
    world.log.hold();
    let first = waiting(&world, LIMIT - 2_000).await;
    let channel = channel(&world.grpc).await;
    let mut longest = Duration::ZERO;
    let growing = async {
        while longest < Duration::from_millis(1_000) {
            let mut call = Call::start(&channel, TRACES, &[]);
            call.send(frame(false, &vec![0; 4_000]).slice(..5)).await;
            longest = longest.max(call.answer().await.retry_after().unwrap());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, growing).await.is_ok(), "the wait stayed at {longest:?}");
    world.log.let_go();
    assert_eq!(first.await.unwrap(), Code::Ok);
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_unread_until_it_can() {
    let world = World::new().await;
    world.log.refuse(Some("the disk is full"));
    let channel = channel(&world.grpc).await;
    let call = Call::start(&channel, TRACES, &[]);
    let answer = call.answer().await;
    assert_eq!(answer.code(), Code::Unavailable);
    assert_eq!(answer.status.message(), "the disk is full");
    assert!(is_a_wait(answer.retry_after()));

    let mut client = Client::connect(&world.http).await;
    client.head("POST", "/v1/traces", &format!("{JSON}content-length: 1000\r\n")).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
    assert_eq!(answer.json()["message"], "the disk is full");
    assert!(world.count(IngestCounter::RefusedRequests) >= 2);
    assert_eq!(world.log.spans(), 0);

    world.log.refuse(None);
    assert_eq!(post(&world.http, "/v1/traces", PROTOBUF, &requests::spans(1)).await.status, 200);
}

#[tokio::test]
async fn now_and_then_one_is_let_through_to_find_out() {
    let world = World::new().await;
    world.log.refuse(Some("the log cannot be written"));
    let mut refused = 0;
    let trying = async {
        while post(&world.http, "/v1/traces", PROTOBUF, &requests::spans(1)).await.status != 200 {
            refused += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, trying).await.is_ok(), "nothing was let through");
    assert!(refused > 0);
    assert_eq!(world.log.spans(), 1);
}

#[tokio::test]
async fn a_log_that_fails_is_unavailable() {
    let world = World::new().await;
    world.log.fail();
    let answer = export(&world.grpc, &[], frame(false, &requests::spans(1))).await;
    assert_eq!(answer.code(), Code::Unavailable);
    assert!(is_a_wait(answer.retry_after()));
    assert_eq!(post(&world.http, "/v1/traces", PROTOBUF, &requests::spans(1)).await.status, 503);
    assert_eq!(world.count(IngestCounter::FailedRequests), 2);
    world.charged(0).await;
}

#[tokio::test]
async fn while_draining_new_requests_are_unavailable_and_old_ones_end_well() {
    let world = World::new().await;
    let channel = channel(&world.grpc).await;
    let whole = frame(false, &requests::bytes(10_000));
    let mut under_way = Call::start(&channel, TRACES, &[]);
    under_way.send(whole.slice(..5_000)).await;
    world.charged(5_000 - 5).await;

    world.server.drain();
    let answer = Call::start(&channel, TRACES, &[]).answer().await;
    assert_eq!(answer.code(), Code::Unavailable);
    assert!(is_a_wait(answer.retry_after()));
    assert_eq!(post(&world.http, "/v1/traces", PROTOBUF, &requests::spans(1)).await.status, 503);
    assert_eq!(world.count(IngestCounter::DrainingRequests), 2);

    world.ask_to_stop();
    under_way.send(whole.slice(5_000..)).await;
    under_way.body = None;
    assert_eq!(under_way.answer().await.code(), Code::Ok);
    assert_eq!(world.log.spans(), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_body_over_the_budget_midway_is_refused_midway() {
    let world = small().await;
    let channel = channel(&world.grpc).await;
    let mut first = Call::start(&channel, TRACES, &[]);
    first.send(frame(false, &vec![0; LIMIT / 4 * 3]).slice(..5 + LIMIT / 2)).await;
    world.charged(LIMIT / 2).await;
    let mut second = Call::start(&channel, TRACES, &[]);
    // Announced, it fits; both together do not.
    second.send(frame(false, &vec![0; LIMIT / 2]).slice(..5)).await;
    first.send(Bytes::from(vec![0; LIMIT / 4])).await;
    let queued = world.server.queued_bytes();
    until("the first is charged", || queued() > LIMIT / 2).await;
    second.send(Bytes::from(vec![0; LIMIT / 2])).await;
    let answer = second.answer().await;
    assert_eq!(answer.code(), Code::ResourceExhausted);
    first.hang_up();
    world.charged(0).await;
}
