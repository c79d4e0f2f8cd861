//! The shop is the same each time, whole, and fails as often as it says.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::recorder::{MILLIS, SECONDS, ShopSpan};
use super::services::Service;
use super::traffic::Traffic;
use super::{ShopOptions, run_shop};

const OPENED: u64 = 1_772_366_400 * SECONDS;

fn traces(seed: u64, seconds: u64) -> Vec<Vec<ShopSpan>> {
    let mut traffic = Traffic::new(seed, OPENED, 50);
    std::iter::from_fn(|| traffic.next_before(OPENED + seconds * SECONDS)).collect()
}

fn is_error(span: &ShopSpan) -> bool {
    span.span.status.as_ref().is_some_and(|status| status.code == 2)
}

#[test]
fn the_same_seed_gives_the_same_spans() {
    assert_eq!(traces(7, 5), traces(7, 5));
    assert_ne!(traces(7, 5), traces(8, 5));
}

#[test]
fn every_trace_is_one_tree_with_ids_of_its_own() {
    let mut ids = HashSet::new();
    for trace in traces(1, 30) {
        assert!(ids.insert(trace[0].span.trace_id.clone()));
        assert!(trace[0].span.parent_span_id.is_empty());
        let mut seen = HashSet::new();
        for (i, span) in trace.iter().enumerate() {
            assert_eq!(span.span.trace_id, trace[0].span.trace_id);
            assert!(i == 0 || seen.contains(&span.span.parent_span_id), "parents come first");
            assert!(seen.insert(span.span.span_id.clone()));
            assert!(span.span.end_time_unix_nano > span.span.start_time_unix_nano);
        }
    }
}

#[test]
fn all_services_and_kinds_take_part() {
    let traces = traces(3, 30);
    let spans: Vec<&ShopSpan> = traces.iter().flatten().collect();
    let services: BTreeSet<Service> = spans.iter().map(|span| span.service).collect();
    assert_eq!(services.len(), Service::ALL.len());
    for kind in
        [SpanKind::Server, SpanKind::Client, SpanKind::Producer, SpanKind::Consumer, SpanKind::Internal]
    {
        assert!(spans.iter().any(|span| span.span.kind == kind as i32), "{kind:?}");
    }
    let repeated = traces.iter().any(|trace| {
        let mut gets = HashMap::new();
        trace.iter().for_each(|span| *gets.entry(span.span.name.as_str()).or_insert(0) += 1);
        gets.get("SELECT products").is_some_and(|n| *n >= 8)
    });
    assert!(repeated, "an N+1 is there");
    assert!(spans.iter().any(|s| s.span.events.iter().any(|e| e.name == "retry after back-off")));
}

#[test]
fn one_request_in_a_hundred_fails_with_an_exception() {
    let traces = traces(5, 240);
    let failed: Vec<_> = traces.iter().filter(|trace| is_error(&trace[0])).collect();
    let share = failed.len() as f64 / traces.len() as f64;
    assert!((0.006..0.014).contains(&share), "{share} of {}", traces.len());
    for trace in failed {
        let thrown = |span: &ShopSpan| span.span.events.iter().any(|event| event.name == "exception");
        assert!(trace.iter().any(|span| is_error(span) && thrown(span)));
    }
}

#[test]
fn the_inventory_is_slow_for_a_minute_of_every_four() {
    let mut by_minute: HashMap<u64, Vec<u64>> = HashMap::new();
    for span in traces(9, 480).into_iter().flatten().map(|span| span.span) {
        if span.name == "SELECT stock" {
            let minute = (span.start_time_unix_nano - OPENED) / (60 * SECONDS);
            by_minute.entry(minute).or_default().push(span.end_time_unix_nano - span.start_time_unix_nano);
        }
    }
    for (minute, mut lengths) in by_minute {
        lengths.sort_unstable();
        let median = lengths[lengths.len() / 2];
        assert_eq!(median > 50 * MILLIS, minute % 4 == 2, "minute {minute}: {median}");
    }
}

#[test]
fn the_email_comes_after_the_answer() {
    let traces = traces(11, 30);
    let mails =
        traces.iter().filter_map(|trace| Some((trace, trace.iter().find(|s| s.service == Service::Email)?)));
    let late =
        mails.clone().filter(|(trace, mail)| mail.span.end_time_unix_nano > trace[0].span.end_time_unix_nano);
    assert!(mails.clone().count() > 20);
    assert_eq!(late.count(), mails.count());
}

/// A collector that is away at first and remembers what spans came from whom.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<(u32, HashMap<String, u64>)>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut state = self.0.lock().unwrap();
        state.0 += 1;
        if state.0 <= 3 {
            return Err(Status::unavailable("starting"));
        }
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let name = attributes.iter().find(|a| a.key == "service.name").unwrap();
            let spans = resource.scope_spans.iter().map(|scope| scope.spans.len() as u64).sum::<u64>();
            *state.1.entry(format!("{:?}", name.value)).or_default() += spans;
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test]
async fn the_shop_sends_its_history_and_stops_when_told() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let collector = Collector::default();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let serving = tonic::transport::Server::builder().add_service(TraceServiceServer::new(collector.clone()));
    let task = tokio::spawn(serving.serve_with_incoming(incoming));

    let (stop, stopped) = watch::channel(false);
    let options = ShopOptions {
        endpoint,
        backfill: Duration::from_secs(60),
        traces_per_second: 10,
        ..ShopOptions::default()
    };
    let shop = tokio::spawn(run_shop(options, stopped));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    stop.send(true).unwrap();
    let report = shop.await.unwrap().unwrap();
    task.abort();

    let state = collector.0.lock().unwrap();
    assert_eq!(state.1.values().sum::<u64>(), report.spans);
    assert_eq!(state.1.len(), Service::ALL.len());
    assert!(report.traces > 400 && report.lost_spans == 0 && report.retries >= 3, "{report:?}");
}
