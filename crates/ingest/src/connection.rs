//! Accepting connections and watching over them: how many, how many streams, how long without a request.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::Service;

use crate::activity::{Activity, Answer, Overdue, Watched};
use crate::counters::{IngestCounter, IngestCounters};
use crate::drain::jittered;
use crate::listen::{Accepted, Listener};
use crate::refusal::{Reason, Refused};

/// Bytes that a stream of HTTP/2 may have on the way to us, and all streams of a connection together. What has come
/// and has not been looked at yet is bounded by the latter.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Few and large frames cost less than many small ones.
const FRAME_MAX: u32 = 1 << 20;
/// How often a client of HTTP/2 that says nothing is asked whether it is still there, and how long it may think.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections over the limit that get an answer before they are closed; further ones are closed at once.
const OVER_LIMIT: usize = 64;
/// How long a connection may take to end once it was told to.
const FAREWELL: Duration = Duration::from_secs(5);
/// The wait after an accept that failed, for instance because all file descriptors are in use.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often a connection is looked at: at most, and at least.
const LOOK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Bounds on the connections of one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    pub(crate) connections: usize,
    pub(crate) streams: u32,
    pub(crate) header_timeout: Duration,
    pub(crate) idle_timeout: Duration,
}

impl ConnectionLimits {
    fn look(&self) -> Duration {
        (self.header_timeout.min(self.idle_timeout) / 4).clamp(LOOK.0, LOOK.1)
    }
}

/// Marks the requests of a connection over the limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OverLimit(usize);

impl OverLimit {
    /// The refusal of a request that came on one connection too many.
    pub(crate) fn of<B>(request: &Request<B>) -> Option<Refused> {
        let limit = request.extensions().get::<Self>()?.0;
        let message = format!("more than {limit} connections (ingest.connections)");
        Some(Refused::until(Reason::TooManyConnections, message, jittered(Duration::from_secs(5))))
    }
}

/// Serves connections until `stop` resolves, then tells them to end and waits until they have.
///
/// # Errors
/// None at present: an accept that fails is tried again.
pub(crate) async fn serve<S, B>(
    listener: Listener,
    service: S,
    limits: ConnectionLimits,
    counters: Arc<IngestCounters>,
    stop: impl Future<Output = ()> + Send,
) -> std::io::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (stopping, stopped) = watch::channel(false);
    let server = Server { service, limits, counters, builder: Arc::new(builder(&limits)), stopped };
    let places = Arc::new(Semaphore::new(limits.connections));
    let over_limit = Arc::new(Semaphore::new(OVER_LIMIT));
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        server.counters.add(IngestCounter::Connections, 1);
        let place = Arc::clone(&places).try_acquire_owned();
        let is_over = place.is_err();
        if is_over {
            server.counters.add(IngestCounter::ConnectionsOverLimit, 1);
        }
        let Ok(place) = place.or_else(|_| Arc::clone(&over_limit).try_acquire_owned()) else { continue };
        let server = server.clone();
        connections.spawn(async move {
            match accepted {
                Accepted::Tcp(stream) => server.connection(stream, is_over).await,
                Accepted::Unix(stream) => server.connection(stream, is_over).await,
            }
            drop(place);
        });
    }
    drop(listener);
    stopping.send_replace(true);
    while connections.join_next().await.is_some() {}
    Ok(())
}

fn builder(limits: &ConnectionLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    // `Activity` watches over headers: hyper's own limit would also end connections that are merely idle.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_MAX)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
}

#[derive(Debug, Clone)]
struct Server<S> {
    service: S,
    limits: ConnectionLimits,
    counters: Arc<IngestCounters>,
    builder: Arc<Builder<TokioExecutor>>,
    stopped: watch::Receiver<bool>,
}

impl<S, B> Server<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Serves one connection to its end.
    async fn connection(
        mut self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        is_over: bool,
    ) {
        let activity = Activity::new();
        let over_limit = is_over.then_some(OverLimit(self.limits.connections));
        let service = Watching { service: self.service, activity: Arc::clone(&activity), over_limit };
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity), Arc::clone(&self.counters)));
        let mut connection = pin!(self.builder.serve_connection(io, service));
        let mut look = tokio::time::interval(self.limits.look());
        let mut ending: Option<Instant> = None;
        loop {
            tokio::select! {
                // How it ended is between the client and hyper; what was lost by it was counted as abandoned.
                _ = connection.as_mut() => return,
                () = told_to_stop(&mut self.stopped), if ending.is_none() => {
                    connection.as_mut().graceful_shutdown();
                    ending = Some(Instant::now());
                }
                _ = look.tick() => {}
            }
            if ending.is_some_and(|since| since.elapsed() >= FAREWELL) && !activity.is_busy() {
                return;
            }
            match activity.overdue(self.limits.header_timeout, self.limits.idle_timeout) {
                Some(Overdue::Head) => return self.counters.add(IngestCounter::SlowConnections, 1),
                Some(Overdue::Idle) => self.counters.add(IngestCounter::IdleConnections, 1),
                None if is_over && activity.has_answered() => {}
                None => continue,
            }
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(FAREWELL, connection).await;
            return;
        }
    }
}

async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Tells the connection about its requests, and the requests about their connection.
#[derive(Debug, Clone)]
struct Watching<S> {
    service: S,
    activity: Arc<Activity>,
    over_limit: Option<OverLimit>,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Watching<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: 'static,
{
    type Response = Response<Answer<B>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let in_flight = self.activity.begin();
        if let Some(over_limit) = self.over_limit {
            request.extensions_mut().insert(over_limit);
        }
        let mut service = self.service.clone();
        Box::pin(async move {
            std::future::poll_fn(|cx: &mut Context<'_>| -> Poll<_> { service.poll_ready(cx) }).await?;
            let response = service.call(request).await?;
            Ok(response.map(|body| Answer::new(body, in_flight)))
        })
    }
}
