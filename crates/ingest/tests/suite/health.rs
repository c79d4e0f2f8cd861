//! What gRPC's health service says, and what its calls are held to.

use std::time::Duration;

use ingest::{IngestCounter, IngestLimits};
use prost::Message as _;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::raw_grpc::{Call, call, channel, frame};
use crate::world::{PATIENCE, World};

const SERVICES: [&str; 2] = ["", "opentelemetry.proto.collector.trace.v1.TraceService"];
const CHECK: &str = "/grpc.health.v1.Health/Check";
const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;

async fn is(world: &World, status: i32) {
    let mut health = HealthClient::new(channel(&world.grpc).await);
    for service in SERVICES {
        let request = HealthCheckRequest { service: service.to_owned() };
        assert_eq!(health.check(request).await.unwrap().into_inner().status, status, "{service:?}");
    }
}

#[tokio::test]
async fn health_is_serving_while_spans_are_taken() {
    let world = World::new().await;
    is(&world, SERVING).await;
    world.log.refuse(Some("the disk is full"));
    is(&world, NOT_SERVING).await;
    world.log.refuse(None);
    is(&world, SERVING).await;
    world.log.recover(true);
    is(&world, NOT_SERVING).await;
    world.log.recover(false);
    is(&world, SERVING).await;
    world.server.drain();
    is(&world, NOT_SERVING).await;
}

#[tokio::test]
async fn an_unknown_service_or_method_is_answered_in_headers_alone() {
    let world = World::new().await;
    let grpc = channel(&world.grpc).await;
    let unknown = HealthCheckRequest { service: "foo".to_owned() }.encode_to_vec();
    for (path, message, code) in
        [(CHECK, &unknown[..], Code::NotFound), ("/grpc.health.v1.Health/Look", &[], Code::Unimplemented)]
    {
        let answer = call(&grpc, path, &[], frame(false, message)).await;
        assert_eq!((answer.code(), answer.ended_in_head), (code, true), "{path}");
    }
    let served = call(&grpc, CHECK, &[], frame(false, &[])).await;
    assert_eq!((served.code(), served.ended_in_head), (Code::Ok, false));
}

#[tokio::test]
async fn who_watches_is_told_of_each_change_once_and_lets_the_server_end() {
    let world = World::new().await;
    world.log.recover(true);
    let mut health = HealthClient::new(channel(&world.grpc).await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let mut said = Vec::new();
    for _ in 0..3 {
        let next = tokio::time::timeout(PATIENCE, watch.message()).await.expect("nothing was said");
        said.push(next.unwrap().unwrap().status);
        world.log.recover(said.len() == 2);
        // Time to say again what has not changed.
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    assert_eq!(said, [NOT_SERVING, SERVING, NOT_SERVING]);
    world.stop().await;
    drop(watch);
}

#[tokio::test]
async fn a_check_without_an_end_is_given_up_and_a_long_one_refused() {
    let limits = IngestLimits { body_timeout: Duration::from_millis(150), ..IngestLimits::default() };
    let world = World::limited(limits).await;
    let grpc = channel(&world.grpc).await;
    for sent in [0, 3] {
        let mut unending = Call::start(&grpc, CHECK, &[]);
        if sent > 0 {
            unending.send(frame(false, &[]).slice(..sent)).await;
        }
        assert_eq!(unending.answer().await.code(), Code::Unavailable, "{sent} bytes");
    }
    assert_eq!(world.count(IngestCounter::SlowRequests), 2);
    let long = call(&grpc, CHECK, &[], frame(false, &[0; 2_000])).await;
    assert_eq!(long.code(), Code::InvalidArgument);
    assert_eq!(call(&grpc, CHECK, &[], frame(false, &[])).await.code(), Code::Ok);
}
