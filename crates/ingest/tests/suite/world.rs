//! An intake with both servers, and the log behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ingest::{
    Address, Admitted, AllowedOrigins, CommitError, IngestCounter, IngestCounters, IngestLimits, IngestParts,
    IngestServer, Listener,
};
use query::NameTable;
use tokio::sync::{Notify, mpsc, watch};

/// No wait in these tests is longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a test may set before the start.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) limits: IngestLimits,
    pub(crate) origins: AllowedOrigins,
    /// Where gRPC and HTTP listen, if not on free ports.
    pub(crate) addresses: Option<(String, String)>,
}

/// Running servers.
pub(crate) struct World {
    pub(crate) grpc: Address,
    pub(crate) http: Address,
    pub(crate) server: IngestServer,
    pub(crate) counters: Arc<IngestCounters>,
    pub(crate) log: Arc<Log>,
    stop: watch::Sender<bool>,
    servers: tokio::task::JoinSet<()>,
}

/// What the tests do to the log.
#[derive(Default)]
pub(crate) struct Log {
    held: AtomicBool,
    changed: Notify,
    fails: AtomicBool,
    refusing: parking_lot::Mutex<Option<String>>,
    /// Requests that it has, as they are written.
    pub(crate) requests: parking_lot::Mutex<Vec<bytes::Bytes>>,
    recovering: AtomicBool,
    /// Spans and bytes that it has.
    pub(crate) spans: std::sync::atomic::AtomicUsize,
    pub(crate) bytes: std::sync::atomic::AtomicUsize,
}

impl Log {
    /// Takes nothing until it is let go.
    pub(crate) fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
    }

    pub(crate) fn let_go(&self) {
        self.held.store(false, Ordering::SeqCst);
        self.changed.notify_one();
    }

    /// Fails to write from now on.
    pub(crate) fn fail(&self) {
        self.fails.store(true, Ordering::SeqCst);
    }

    /// Says that nothing can be stored, or that all is well.
    pub(crate) fn refuse(&self, why: Option<&str>) {
        *self.refusing.lock() = why.map(str::to_owned);
    }

    /// Is being replayed, or is not any more.
    pub(crate) fn recover(&self, recovers: bool) {
        self.recovering.store(recovers, Ordering::SeqCst);
    }

    fn is_ready(&self) -> bool {
        !self.recovering.load(Ordering::SeqCst) && self.refusing.lock().is_none()
    }

    pub(crate) fn spans(&self) -> usize {
        self.spans.load(Ordering::SeqCst)
    }

    async fn run(self: Arc<Self>, mut queue: mpsc::Receiver<Admitted>) {
        while let Some(admitted) = queue.recv().await {
            while self.held.load(Ordering::SeqCst) {
                self.changed.notified().await;
            }
            let Admitted { prepared, done, permit } = admitted;
            let outcome = match self.fails.load(Ordering::SeqCst) {
                true => Err(CommitError::Log("no room".to_owned())),
                false => {
                    self.spans.fetch_add(prepared.batch.rows.len(), Ordering::SeqCst);
                    self.requests.lock().push(prepared.batch.request.clone());
                    self.bytes.fetch_add(prepared.batch.request.len(), Ordering::SeqCst);
                    Ok(())
                }
            };
            let _ = done.send(outcome);
            drop(permit);
        }
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn limited(limits: IngestLimits) -> Self {
        Self::with(Options { limits, ..Options::default() }).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let any = || "127.0.0.1:0".to_owned();
        let (grpc, http) = options.addresses.unwrap_or_else(|| (any(), any()));
        let grpc_listener = Listener::bind(&grpc).await.unwrap();
        let http_listener = Listener::bind(&http).await.unwrap();
        let (grpc, http) = (grpc_listener.address().unwrap(), http_listener.address().unwrap());
        let log = Arc::new(Log::default());
        let counters = Arc::new(IngestCounters::default());
        let (queue, admitted) = mpsc::channel(64);
        let (refusing, ready) = (Arc::clone(&log), Arc::clone(&log));
        let server = IngestServer::new(IngestParts {
            names: Arc::new(NameTable::default()),
            limits: options.limits,
            origins: options.origins,
            queue,
            counters: Arc::clone(&counters),
            refusing: Box::new(move || refusing.refusing.lock().clone()),
            is_ready: Box::new(move || ready.is_ready()),
        });
        tokio::spawn(Arc::clone(&log).run(admitted));
        let (stop, _) = watch::channel(false);
        let stopped = || {
            let mut stop = stop.subscribe();
            async move { drop(stop.wait_for(|stop| *stop).await) }
        };
        let mut servers = tokio::task::JoinSet::new();
        servers.spawn(server.clone().serve_grpc(grpc_listener, stopped()));
        servers.spawn(server.clone().serve_http(http_listener, stopped()));
        Self { grpc, http, server, counters, log, stop, servers }
    }

    /// Asks the servers to stop and does not wait.
    pub(crate) fn ask_to_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Stops the servers and waits until they have.
    pub(crate) async fn stop(mut self) {
        self.ask_to_stop();
        let ended = async { while self.servers.join_next().await.is_some() {} };
        tokio::time::timeout(PATIENCE, ended).await.unwrap();
    }

    pub(crate) fn count(&self, counter: IngestCounter) -> u64 {
        self.counters.get(counter)
    }

    /// Waits until a counter has a value.
    pub(crate) async fn counts(&self, counter: IngestCounter, value: u64) {
        until(&format!("{counter:?} = {value}"), || self.count(counter) == value).await;
    }

    /// Waits until so many bytes are charged.
    pub(crate) async fn charged(&self, bytes: usize) {
        let queued = self.server.queued_bytes();
        until(&format!("{bytes} bytes charged"), || queued() == bytes).await;
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "never: {what}");
}
