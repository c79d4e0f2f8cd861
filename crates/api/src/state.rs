//! What every handler has at hand.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use trace_model::UnixNanos;

use crate::unread::Unread;
use crate::{ApiError, Backend, Counter};

/// How long a query waits for its turn, and its answer for room, before it is turned away.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// How long a question for sums waits for others of its kind.
const SUMS_PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of large answers that clients may not have read yet; as many of others, and as many of metrics.
const UNREAD_BYTES: usize = 64 << 20;

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildInfo {
    /// The version, e.g. `0.1.0`.
    pub version: String,
    /// The commit that it was built from, if known.
    pub commit: Option<String>,
}

/// How many of so many queries at a time may be for sums.
const fn sums_of(queries: usize) -> usize {
    queries.div_ceil(2)
}

/// The engine, the counters of others, and the bound on queries at one time. Cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    backend: Arc<dyn Backend>,
    counters: Arc<dyn Fn() -> Vec<Counter> + Send + Sync>,
    build: Arc<BuildInfo>,
    turns: Arc<Semaphore>,
    sums: Arc<Semaphore>,
    scrapes: Arc<Semaphore>,
    unread: Unread,
    unread_metrics: Unread,
    started: Instant,
}

impl fmt::Debug for ApiState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiState").field("build", &self.build).finish_non_exhaustive()
    }
}

impl ApiState {
    /// A state that asks `backend`, and shows the `counters` of the rest of the process in `/metrics`.
    ///
    /// As many queries run at one time as four for each processor, at least 16; see
    /// [`with_concurrency`](Self::with_concurrency).
    pub fn new(
        backend: Arc<dyn Backend>,
        counters: Arc<dyn Fn() -> Vec<Counter> + Send + Sync>,
        build: BuildInfo,
    ) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let queries = (processors * 4).max(16);
        let scrapes = Arc::new(Semaphore::new(1));
        Self {
            backend,
            counters,
            build: Arc::new(build),
            turns: Arc::new(Semaphore::new(queries)),
            sums: Arc::new(Semaphore::new(sums_of(queries))),
            scrapes,
            unread: Unread::new(UNREAD_BYTES),
            unread_metrics: Unread::new(UNREAD_BYTES),
            started: Instant::now(),
        }
    }

    /// The same with at most `queries` at one time. Those beyond wait a second, then get a 503.
    #[must_use]
    pub fn with_concurrency(mut self, queries: usize) -> Self {
        self.turns = Arc::new(Semaphore::new(queries));
        self.sums = Arc::new(Semaphore::new(sums_of(queries)));
        self
    }

    /// Asks the backend on a blocking thread, when it is this query's turn. Answers may be large: what is made of
    /// them belongs into the question as well.
    pub(crate) async fn ask<F>(&self, question: F) -> Result<Response, ApiError>
    where
        F: FnOnce(&dyn Backend) -> Result<Response, ApiError> + Send + 'static,
    {
        let (answer, _turn) = self.in_turn(&self.turns, question).await?;
        self.unread.hold(answer?).await
    }

    /// The same for sums over all that is stored, which may take seconds each, and wait for each other's memory. Half of the
    /// turns are left for others meanwhile; who waits for that holds nothing.
    pub(crate) async fn ask_for_sums<F>(&self, question: F) -> Result<Response, ApiError>
    where
        F: FnOnce(&dyn Backend) -> Result<Response, ApiError> + Send + 'static,
    {
        let place = tokio::time::timeout(SUMS_PATIENCE, Arc::clone(&self.sums).acquire_owned()).await;
        let Ok(Ok(place)) = place else { return Err(ApiError::overloaded()) };
        self.ask(move |backend| {
            let _place = place;
            question(backend)
        })
        .await
    }

    /// The same for metrics, which wait for no questions, and of which one is written at a time: with many operations it
    /// takes megabytes.
    pub(crate) async fn scrape<F>(&self, scrape: F) -> Result<Response, ApiError>
    where
        F: FnOnce(&dyn Backend) -> Response + Send + 'static,
    {
        let (metrics, _turn) = self.in_turn(&self.scrapes, scrape).await?;
        self.unread_metrics.hold(metrics).await
    }

    /// The answer, and the turn for as long as there may be no room for it.
    async fn in_turn<T, F>(
        &self,
        turns: &Arc<Semaphore>,
        question: F,
    ) -> Result<(T, OwnedSemaphorePermit), ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Backend) -> T + Send + 'static,
    {
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(ApiError::overloaded()) };
        // The turn is held until the work is done, also when the client has gone meanwhile.
        self.block(move |backend| (question(backend), turn)).await
    }

    /// Calls the backend on a blocking thread without waiting for a turn: for health, which must
    /// answer under load as well.
    pub(crate) async fn block<T, F>(&self, call: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Backend) -> T + Send + 'static,
    {
        let backend = Arc::clone(&self.backend);
        tokio::task::spawn_blocking(move || call(backend.as_ref())).await.map_err(|error| {
            tracing::error!(%error, "a query panicked");
            ApiError::internal("internal", "the query failed; the log has the reason")
        })
    }

    /// The counters of the rest of the process.
    pub(crate) fn counters(&self) -> Vec<Counter> {
        (self.counters)()
    }

    pub(crate) fn build(&self) -> &BuildInfo {
        &self.build
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The present instant by the clock of this machine.
    pub(crate) fn now(&self) -> UnixNanos {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixNanos(u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX))
    }
}
