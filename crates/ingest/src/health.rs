//! What gRPC's health checkers are told: that spans are taken, for as long as they are.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::gate::Ready;

/// The service that has a health of its own, the same as that of the whole server.
const SERVICE: &str = "opentelemetry.proto.collector.trace.v1.TraceService";
/// Who watches instead of asking hears of a change after so long at most.
const LOOK: Duration = Duration::from_millis(250);

/// The health of the gRPC server.
pub(crate) struct Health {
    is_ready: Ready,
    reporter: HealthReporter,
    /// What was last reported: a report that changes nothing would still be sent to everyone who watches.
    said: Mutex<bool>,
    stopped: watch::Sender<bool>,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health").field("said", &self.said).finish_non_exhaustive()
    }
}

impl Health {
    /// Follows `is_ready`; and the routes of gRPC's health service.
    pub(crate) async fn new(is_ready: Ready) -> (Arc<Self>, Routes) {
        let (reporter, service) = tonic_health::server::health_reporter();
        let (stopped, _) = watch::channel(false);
        // A new reporter says that the server is serving, and nothing of services.
        reporter.set_service_status(SERVICE, ServingStatus::Serving).await;
        let health = Self { is_ready, reporter, said: Mutex::new(true), stopped };
        health.refresh().await;
        (Arc::new(health), Routes::new(service))
    }

    /// Reports what is so now.
    pub(crate) async fn refresh(&self) {
        let mut said = self.said.lock().await;
        let is_ready = (self.is_ready)();
        if *said == is_ready {
            return;
        }
        *said = is_ready;
        let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in ["", SERVICE] {
            self.reporter.set_service_status(service, status).await;
        }
    }

    /// Reports changes for as long as it is polled.
    pub(crate) async fn follow(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.refresh().await;
        }
    }

    /// Reports the end, which must be so already, and lets go of who watches.
    pub(crate) async fn stop(&self) {
        self.refresh().await;
        self.stopped.send_replace(true);
    }

    /// Becomes true when the server stops.
    pub(crate) fn stopped(&self) -> watch::Receiver<bool> {
        self.stopped.subscribe()
    }
}
