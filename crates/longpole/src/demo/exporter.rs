//! A service's SDK as the collector sees it: one connection, batches, retries.

use std::time::Duration;

use anyhow::Result;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::Channel;

use super::ShopReport;
use super::services::Service;
use crate::import::{channel, is_worth_a_retry};

/// Spans in a batch, as SDKs have it.
pub(super) const BATCH: usize = 512;
const QUEUED_BATCHES: usize = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Attempts after the shop was told to stop.
const LAST_ATTEMPTS: u32 = 3;

/// The SDK of one service.
#[derive(Debug)]
pub(super) struct Exporter {
    batches: mpsc::Sender<Vec<Span>>,
    task: JoinHandle<ShopReport>,
}

impl Exporter {
    /// Starts the SDK of a service.
    pub(super) fn start(service: Service, endpoint: &str, stop: watch::Receiver<bool>) -> Result<Self> {
        let client = TraceServiceClient::new(channel(endpoint)?.connect_lazy());
        let (batches, queue) = mpsc::channel(QUEUED_BATCHES);
        let worker = Worker { service, client, stop, report: ShopReport::default() };
        Ok(Self { batches, task: tokio::spawn(worker.run(queue)) })
    }

    /// Hands over spans, waiting while the queue is full.
    pub(super) async fn send(&self, mut spans: Vec<Span>) {
        while !spans.is_empty() {
            let rest = spans.split_off(spans.len().min(BATCH));
            // The worker only goes when this end does.
            let _ = self.batches.send(std::mem::replace(&mut spans, rest)).await;
        }
    }

    /// Sends what is left and says what was sent.
    pub(super) async fn finish(self) -> Result<ShopReport> {
        drop(self.batches);
        Ok(self.task.await?)
    }
}

struct Worker {
    service: Service,
    client: TraceServiceClient<Channel>,
    stop: watch::Receiver<bool>,
    report: ShopReport,
}

impl Worker {
    async fn run(mut self, mut queue: mpsc::Receiver<Vec<Span>>) -> ShopReport {
        while let Some(spans) = queue.recv().await {
            self.export(spans).await;
        }
        self.report
    }

    async fn export(&mut self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        let request = self.request(spans);
        let mut pause = FIRST_PAUSE;
        let mut last_attempts = 0;
        loop {
            match self.client.export(request.clone()).await {
                Ok(response) => {
                    let partial = response.into_inner().partial_success.unwrap_or_default();
                    let rejected = u64::try_from(partial.rejected_spans).unwrap_or(0);
                    self.report.batches += 1;
                    self.report.spans += count.saturating_sub(rejected);
                    self.report.rejected_spans += rejected;
                    return;
                }
                Err(status) => {
                    let is_stopping = *self.stop.borrow();
                    last_attempts += u32::from(is_stopping);
                    if !is_worth_a_retry(status.code()) || last_attempts >= LAST_ATTEMPTS {
                        self.lost(count, &status, is_stopping);
                        return;
                    }
                }
            }
            self.report.retries += 1;
            self.pause(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn lost(&mut self, spans: u64, status: &Status, is_stopping: bool) {
        let service = self.service.name();
        self.report.lost_spans += spans;
        if is_stopping {
            // The server is stopped by the same key, and nobody wants to know of each batch.
            tracing::debug!(service, spans, %status, "the demo shop lost a batch");
        } else {
            tracing::warn!(service, spans, %status, "the demo shop lost a batch");
        }
    }

    /// Waits; less when the shop is told to stop meanwhile.
    async fn pause(&mut self, pause: Duration) {
        let stopped_before = *self.stop.borrow();
        if stopped_before {
            tokio::time::sleep(pause.min(FIRST_PAUSE)).await;
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = self.stop.wait_for(|stop| *stop) => {}
        }
    }

    fn request(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let scope = ScopeSpans { scope: Some(self.service.scope()), spans, ..ScopeSpans::default() };
        let resource = ResourceSpans {
            resource: Some(self.service.resource()),
            scope_spans: vec![scope],
            schema_url: "https://opentelemetry.io/schemas/1.37.0".to_owned(),
        };
        ExportTraceServiceRequest { resource_spans: vec![resource] }
    }
}
