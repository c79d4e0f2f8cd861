//! Accepting connections and watching over them: how many, how many streams, how long without a request, how long without
//! reading an answer.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::Service;

use crate::activity::{Activity, Overdue, Watched};
use crate::answer::Answer;
use crate::counters::{IngestCounter, IngestCounters};
use crate::listen::{Accepted, Listener};
use crate::places::{ConnectionLimits, OverLimit, Place, Places};
use crate::request_body::RequestBody;

/// Bytes that a stream of HTTP/2 may have on the way to us, and all streams of a connection together. What has come
/// and has not been looked at yet is bounded by the latter.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Few and large frames cost less than many small ones.
const FRAME_MAX: u32 = 1 << 20;
/// Bytes of an answer that HTTP/2 takes ahead of what was written.
const SEND_BUFFER: usize = 128 << 10;
/// How often a client of HTTP/2 that says nothing is asked whether it is still there, and how long it may think.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection may take to end once it was told to.
const FAREWELL: Duration = Duration::from_secs(5);
/// The wait after an accept that failed, for instance because all file descriptors are in use.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often a connection is looked at: at most, and at least.
const LOOK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Serves connections until `stop` resolves, then tells them to end and waits until they have. Of `counters` only those
/// of connections are counted. Requests on a connection over the limit are marked; see [`OverLimit`]. An accept that fails is
/// tried again.
pub async fn serve<S, B>(
    listener: Listener,
    service: S,
    limits: ConnectionLimits,
    counters: Arc<IngestCounters>,
    stop: impl Future<Output = ()> + Send,
) where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (stopping, stopped) = watch::channel(false);
    let server = Server { service, limits, counters, builder: Arc::new(builder(&limits)), stopped };
    let places = Places::new(limits.connections);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &server.counters) => accepted,
        };
        server.counters.add(IngestCounter::Connections, 1);
        let place = places.take();
        if place.as_ref().is_none_or(|place| place.is_over) {
            server.counters.add(IngestCounter::ConnectionsOverLimit, 1);
        }
        if let Some(place) = place {
            connections.spawn(server.clone().accepted(accepted, place));
        }
    }
    drop(listener);
    stopping.send_replace(true);
    while connections.join_next().await.is_some() {}
}

/// The next connection. An accept that fails is counted and tried again after a pause; clients wait meanwhile.
async fn accept(listener: &Listener, counters: &IngestCounters) -> Accepted {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                counters.add(IngestCounter::AcceptFailures, 1);
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// How often a connection is looked at.
fn look(limits: &ConnectionLimits) -> Duration {
    (limits.header_timeout.min(limits.idle_timeout).min(limits.answer_timeout) / 4).clamp(LOOK.0, LOOK.1)
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
        .max_send_buf_size(SEND_BUFFER)
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
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Serves one connection to its end, and keeps its place for as long.
    async fn accepted(self, accepted: Accepted, place: Place) {
        match accepted {
            Accepted::Tcp(stream) => self.connection(stream, place.is_over).await,
            Accepted::Unix(stream) => self.connection(stream, place.is_over).await,
        }
    }

    /// Serves one connection to its end.
    async fn connection(
        mut self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        is_over: bool,
    ) {
        let activity = Activity::new();
        let over_limit = is_over.then(|| OverLimit::new(&self.limits));
        let service = Watching { service: self.service, activity: Arc::clone(&activity), over_limit };
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity), Arc::clone(&self.counters)));
        let mut connection = pin!(self.builder.serve_connection(io, service));
        let mut look = tokio::time::interval(look(&self.limits));
        let mut ending: Option<Instant> = None;
        loop {
            tokio::select! {
                ended = connection.as_mut() => return note_end(&self.counters, ended),
                () = told_to_stop(&mut self.stopped), if ending.is_none() => {
                    connection.as_mut().graceful_shutdown();
                    ending = Some(Instant::now());
                }
                _ = look.tick() => {}
            }
            if ending.is_some_and(|since| since.elapsed() >= FAREWELL) && !activity.is_busy() {
                return;
            }
            let ConnectionLimits { header_timeout, idle_timeout, answer_timeout, .. } = self.limits;
            match activity.overdue(header_timeout, idle_timeout, answer_timeout) {
                // Whoever reads nothing would not read a farewell.
                Some(Overdue::Unread) => return self.counters.add(IngestCounter::StalledConnections, 1),
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

/// Other ends than this are between the client and hyper; what was lost by them was counted as abandoned.
fn note_end(counters: &IngestCounters, ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended
        && is_broken(error.as_ref())
    {
        counters.add(IngestCounter::BrokenConnections, 1);
        tracing::debug!(%error, "a connection ended with what is no HTTP");
    }
}

/// Whether what came was no HTTP/1.1, or a head that is too long. Both were answered by hyper, and no service saw them.
fn is_broken(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)
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
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: 'static,
{
    type Response = Response<Answer<B>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let in_flight = self.activity.begin();
        let mut request = request.map(|body| RequestBody::new(body, self.activity.body()));
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

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpStream};
    use std::os::fd::OwnedFd;

    use super::*;

    #[tokio::test]
    async fn accepts_that_fail_are_counted_and_tried_again() {
        let bound = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bound = bound.into_std().unwrap();
        let same: OwnedFd = bound.try_clone().unwrap().into();
        // A listener that was shut down fails every accept, as one does that gets no file descriptor.
        TcpStream::from(same).shutdown(Shutdown::Both).unwrap();
        let listener = Listener::from(tokio::net::TcpListener::from_std(bound).unwrap());
        let counters = IngestCounters::default();
        let _ = tokio::time::timeout(ACCEPT_PAUSE * 5 / 2, accept(&listener, &counters)).await;
        assert!((2..=3).contains(&counters.get(IngestCounter::AcceptFailures)));
    }
}
