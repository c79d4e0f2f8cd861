//! Metrics and logs: answered so that SDKs which send all three keep quiet, dropped, and counted.

use ingest::IngestCounter;
use tonic::Code;

use crate::raw_grpc::{call, channel, frame};
use crate::raw_http::{JSON, PROTOBUF, post};
use crate::world::World;

#[tokio::test]
async fn metrics_and_logs_are_answered_without_a_word_and_counted() {
    let world = World::new().await;
    let grpc = channel(&world.grpc).await;
    let gzip = [("grpc-encoding", "gzip")];
    for path in [
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    ] {
        let answer = call(&grpc, path, &gzip, frame(true, b"whatever it is, it is not looked at")).await;
        assert_eq!(answer.code(), Code::Ok);
        assert_eq!(answer.body, frame(false, &[]), "a partial success would be logged");
    }
    for path in ["/v1/metrics", "/v1/logs"] {
        let answer = post(&world.http, path, PROTOBUF, b"anything").await;
        assert_eq!((answer.status, answer.body.len()), (200, 0));
        assert_eq!(answer.header("content-type"), Some("application/x-protobuf"));
        let answer = post(&world.http, path, &format!("{JSON}content-encoding: gzip\r\n"), b"{}").await;
        assert_eq!((answer.status, &answer.body[..]), (200, &b"{}"[..]));
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    assert_eq!(world.count(IngestCounter::MetricsRequests), 3);
    assert_eq!(world.count(IngestCounter::LogsRequests), 3);
    assert_eq!(world.count(IngestCounter::Requests), 0);
    assert_eq!(world.log.spans(), 0);
}
