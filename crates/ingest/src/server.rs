//! The intake behind both protocols: admission before anything is read, then reception, work, and the wait for
//! the log.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http_body::Body;
use query::NameTable;
use tokio::sync::{mpsc, oneshot};

use crate::admit::Admitted;
use crate::body::{BodyLimits, Chunks, too_long};
use crate::budget::Budget;
use crate::commit::{OnItsWay, Tally};
use crate::connection;
use crate::cors::AllowedOrigins;
use crate::counters::{IngestCounter, IngestCounters};
use crate::digest::{Digested, Message, overloaded};
use crate::gate::Gate;
use crate::grpc::GrpcService;
use crate::health::Health;
use crate::heavy::Heavy;
use crate::limits::IngestLimits;
use crate::listen::Listener;
use crate::places::ConnectionLimits;
use crate::received::Received;
use crate::refusal::{Reason, Refused};
use crate::respond::{CommitError, Taken};

/// Takes OTLP requests over gRPC and HTTP and sends them on to the log.
#[derive(Debug, Clone)]
pub struct IngestServer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    names: Arc<NameTable>,
    limits: IngestLimits,
    origins: AllowedOrigins,
    queue: mpsc::Sender<Admitted>,
    budget: Arc<Budget>,
    counters: Arc<IngestCounters>,
    gate: Gate,
    heavy: Heavy,
}

/// What an intake is made of.
pub struct IngestParts {
    /// Numbers of services and operations.
    pub names: Arc<NameTable>,
    /// Bounds on what clients may send.
    pub limits: IngestLimits,
    /// The web pages that may send.
    pub origins: AllowedOrigins,
    /// Where admitted requests go.
    pub queue: mpsc::Sender<Admitted>,
    /// What is counted.
    pub counters: Arc<IngestCounters>,
    /// Why nothing can be stored at the moment; `None` if all is well. Asked before each request is read, so it
    /// must be quick.
    pub refusing: Box<dyn Fn() -> Option<String> + Send + Sync>,
    /// Whether spans are taken and all that is stored is there: what gRPC's health checkers are told until the server
    /// stops. It must be quick as well.
    pub is_ready: Box<dyn Fn() -> bool + Send + Sync>,
}

impl std::fmt::Debug for IngestParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IngestParts").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl IngestServer {
    /// An intake that sends admitted requests to `queue`.
    pub fn new(parts: IngestParts) -> Self {
        Self {
            inner: Arc::new(Inner {
                names: parts.names,
                limits: parts.limits,
                origins: parts.origins,
                queue: parts.queue,
                budget: Budget::new(parts.limits.queued_bytes),
                counters: parts.counters,
                gate: Gate::new(parts.refusing, parts.is_ready),
                heavy: Heavy::new(),
            }),
        }
    }

    /// Serves OTLP/gRPC until `stop` resolves, then finishes what is under way.
    pub async fn serve_grpc(self, listener: Listener, stop: impl Future<Output = ()> + Send) {
        let inner = Arc::clone(&self.inner);
        let (health, checks) = Health::new(Box::new(move || inner.gate.is_ready())).await;
        let service = GrpcService::new(self.clone(), Arc::clone(&health), checks);
        let stop = async {
            stop.await;
            self.drain();
            health.stop().await;
        };
        let (limits, counters) = (self.connection_limits(), Arc::clone(self.counters()));
        tokio::select! {
            () = connection::serve(listener, service, limits, counters, stop) => {}
            () = health.follow() => {}
        }
    }

    /// Serves OTLP/HTTP until `stop` resolves, then finishes what is under way.
    pub async fn serve_http(self, listener: Listener, stop: impl Future<Output = ()> + Send) {
        let router = self.http_router();
        let stop = async {
            stop.await;
            self.drain();
        };
        connection::serve(listener, router, self.connection_limits(), Arc::clone(self.counters()), stop)
            .await;
    }

    /// Refuses every further request, retryably. Those being received are finished.
    pub fn drain(&self) {
        self.inner.gate.drain();
    }

    /// Reads how many bytes are being received or on their way to the log. It does not keep the intake alive.
    pub fn queued_bytes(&self) -> impl Fn() -> usize + Send + Sync + 'static {
        let budget = Arc::clone(&self.inner.budget);
        move || budget.used()
    }

    pub(crate) fn counters(&self) -> &Arc<IngestCounters> {
        &self.inner.counters
    }

    pub(crate) fn origins(&self) -> &AllowedOrigins {
        &self.inner.origins
    }

    pub(crate) fn body_limits(&self) -> BodyLimits {
        BodyLimits { bytes: self.inner.limits.wire_bytes, time: self.inner.limits.body_timeout }
    }

    fn connection_limits(&self) -> ConnectionLimits {
        let limits = &self.inner.limits;
        ConnectionLimits {
            connections: limits.connections,
            key: "ingest.connections",
            streams: u32::try_from(limits.streams).unwrap_or(u32::MAX),
            header_timeout: limits.header_timeout,
            idle_timeout: limits.idle_timeout,
            answer_timeout: limits.body_timeout,
        }
    }

    /// Whether a request may be read at all.
    pub(crate) fn may_enter(&self) -> Result<(), Refused> {
        self.inner.gate.check()
    }

    /// Whether a body of this length may come. It is charged as it comes and not before, so that one which is
    /// announced and never sent takes nothing from others.
    pub(crate) fn may_come(&self, announced: Option<usize>) -> Result<Received, Refused> {
        let announced = announced.unwrap_or(0);
        if announced > self.inner.limits.wire_bytes {
            return Err(too_long(self.inner.limits.wire_bytes));
        }
        if !self.inner.budget.has_room(announced.max(1)) {
            return Err(overloaded(&self.inner.budget));
        }
        Ok(Received::new(self.inner.budget.charge()))
    }

    /// Receives a body, of which a part may be there.
    pub(crate) async fn receive<B>(
        &self,
        chunks: &mut Chunks<B>,
        first: Bytes,
        received: &mut Received,
    ) -> Result<(), Refused>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::fmt::Display,
    {
        chunks.collect(first, received, self.body_limits(), &self.inner.budget).await
    }

    /// Works a message up and waits until the log has it.
    pub(crate) async fn export(&self, message: Message) -> Result<Taken, Refused> {
        let Digested { mut prepared, charge, wire_bytes } = self.digest(message).await?;
        let taken = Taken::of(&mut prepared);
        if taken.rejected > 0 {
            tracing::warn!(spans = taken.rejected, reason = taken.reason, "left spans out of a request");
        }
        let tally = Tally::of(&self.inner.counters, &prepared, wire_bytes);
        if prepared.batch.rows.is_empty() {
            tally.stored();
            return Ok(taken);
        }
        let (done, committed) = oneshot::channel();
        let queued = self.inner.budget.queue(charge.bytes());
        let admitted = Admitted { prepared, done, permit: charge };
        self.inner.queue.send(admitted).await.map_err(|_| not_committed(&CommitError::Stopping))?;
        let outcome = OnItsWay::new(committed, queued, tally).outcome().await;
        outcome.map_err(|error| not_committed(&error))?;
        Ok(taken)
    }

    /// Heavy work goes to other threads than those that serve connections.
    async fn digest(&self, message: Message) -> Result<Digested, Refused> {
        let inner = &self.inner;
        let message = message.begin(&inner.limits, &inner.budget)?;
        if !message.is_heavy() {
            return message.digest(&inner.limits, &inner.budget, &inner.names);
        }
        let of = Arc::clone(inner);
        let digested = inner.heavy.run(move || message.digest(&of.limits, &of.budget, &of.names));
        digested.await.unwrap_or_else(|| Err(not_committed(&CommitError::Stopping)))
    }

    /// Counts a request of a signal that is not kept, and says once that there are such.
    pub(crate) fn note_dropped(&self, signal: &'static str, counter: IngestCounter) {
        if self.inner.counters.get(counter) == 0 {
            tracing::info!(
                signal,
                "clients also send this signal; it is answered and dropped: Longpole keeps traces"
            );
        }
        self.inner.counters.add(counter, 1);
    }

    /// Counts a refusal and says it in the log: what clients did wrong as a warning, the rest quietly.
    pub(crate) fn note(&self, refused: &Refused) {
        self.inner.counters.add(refused.reason.counter(), 1);
        if refused.retry_after.is_some() || refused.reason == Reason::HungUp {
            tracing::debug!(reason = ?refused.reason, why = refused.message, "refused a request");
        } else {
            tracing::warn!(reason = ?refused.reason, why = refused.message, "refused a request");
        }
    }
}

fn not_committed(error: &CommitError) -> Refused {
    let wait = crate::drain::jittered(std::time::Duration::from_secs(1));
    Refused::until(error.reason(), error.to_string(), wait)
}
