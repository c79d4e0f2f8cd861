//! The server itself: limits, admission, and the wait for the log.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use query::NameTable;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};

use crate::admit::{Admitted, prepare};
use crate::codec::RawCodec;
use crate::counters::{IngestCounter, IngestCounters};
use crate::respond;

const SERVICE: &str = "opentelemetry.proto.collector.trace.v1.TraceService";
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Bounds on what clients may send.
#[derive(Debug, Clone, Copy)]
pub struct IngestLimits {
    /// Inflated bytes of one request. Default 64 MiB.
    pub request_bytes: usize,
    /// Inflated bytes of all requests on their way to the log. Default 64 MiB.
    pub queued_bytes: usize,
    /// Streams of one connection at a time. Default 256.
    pub streams: u32,
}

impl Default for IngestLimits {
    fn default() -> Self {
        Self { request_bytes: 64 << 20, queued_bytes: 64 << 20, streams: 256 }
    }
}

/// Takes OTLP/gRPC requests and sends them on to the log.
#[derive(Debug, Clone)]
pub struct IngestServer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    names: Arc<NameTable>,
    limits: IngestLimits,
    queue: mpsc::Sender<Admitted>,
    queued_bytes: Arc<Semaphore>,
    counters: Arc<IngestCounters>,
}

impl IngestServer {
    /// A server that sends admitted requests to `queue`.
    pub fn new(
        names: Arc<NameTable>,
        limits: IngestLimits,
        queue: mpsc::Sender<Admitted>,
        counters: Arc<IngestCounters>,
    ) -> Self {
        let queued_bytes = Arc::new(Semaphore::new(limits.queued_bytes));
        Self { inner: Arc::new(Inner { names, limits, queue, queued_bytes, counters }) }
    }

    /// Serves connections until `stop` resolves, then finishes what is under way.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), tonic::transport::Error> {
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_service_status(SERVICE, tonic_health::ServingStatus::Serving).await;
        let stop = async move {
            stop.await;
            health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
            health.set_service_status(SERVICE, tonic_health::ServingStatus::NotServing).await;
        };
        let streams = self.inner.limits.streams;
        tonic::transport::Server::builder()
            .max_concurrent_streams(streams)
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .max_frame_size(1 << 20)
            .tcp_nodelay(true)
            .http2_keepalive_interval(Some(Duration::from_secs(60)))
            .add_service(health_service)
            .add_service(self)
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop)
            .await
    }

    /// Inflated bytes of one request at most.
    pub(crate) fn request_bytes_max(&self) -> usize {
        self.inner.limits.request_bytes
    }

    pub(crate) async fn export(self, request: Bytes) -> Result<Bytes, Status> {
        let inner = &*self.inner;
        let permit = self.admit_bytes(request.len())?;
        let bytes = request.len() as u64;
        let mut prepared = prepare(request, &inner.names).map_err(|error| {
            inner.counters.add(IngestCounter::UnreadableRequests, 1);
            tracing::warn!(%error, bytes, "refused a request");
            Status::invalid_argument(error.to_string())
        })?;
        if prepared.rejected > 0 {
            inner.counters.add(IngestCounter::RejectedSpans, prepared.rejected);
            tracing::warn!(
                spans = prepared.rejected,
                reason = prepared.reason,
                "left spans out of a request"
            );
        }
        let answer = respond::stored(&prepared);
        if prepared.batch.rows.is_empty() {
            return Ok(answer);
        }
        let spans = prepared.batch.rows.len() as u64;
        prepared.reason = None;
        let (done, committed) = oneshot::channel();
        let stopping = || respond::not_stored(&respond::CommitError::Stopping);
        inner.queue.send(Admitted { prepared, done, permit }).await.map_err(|_| stopping())?;
        match committed.await.map_err(|_| stopping())? {
            Ok(()) => {
                inner.counters.add(IngestCounter::Requests, 1);
                inner.counters.add(IngestCounter::Bytes, bytes);
                inner.counters.add(IngestCounter::Spans, spans);
                Ok(answer)
            }
            Err(error) => {
                inner.counters.add(IngestCounter::FailedRequests, 1);
                Err(respond::not_stored(&error))
            }
        }
    }

    fn admit_bytes(&self, bytes: usize) -> Result<tokio::sync::OwnedSemaphorePermit, Status> {
        // A request larger than the whole queue may pass when it is alone.
        let charge = bytes.clamp(1, self.inner.limits.queued_bytes);
        let charge = u32::try_from(charge).unwrap_or(u32::MAX);
        Arc::clone(&self.inner.queued_bytes).try_acquire_many_owned(charge).map_err(|_| {
            self.inner.counters.add(IngestCounter::OverloadedRequests, 1);
            respond::overloaded(Duration::from_millis(200))
        })
    }
}

impl NamedService for IngestServer {
    const NAME: &'static str = SERVICE;
}

impl tower::Service<http::Request<Body>> for IngestServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            if request.uri().path() != EXPORT {
                return Ok(Status::unimplemented("this service has one method, Export").into_http());
            }
            let limit = server.inner.limits.request_bytes;
            let mut grpc = Grpc::new(RawCodec)
                .apply_compression_config(encodings(), tonic::codec::EnabledCompressionEncodings::default())
                .apply_max_message_size_config(Some(limit), None);
            Ok(grpc.unary(Export(server), request).await)
        })
    }
}

fn encodings() -> tonic::codec::EnabledCompressionEncodings {
    let mut encodings = tonic::codec::EnabledCompressionEncodings::default();
    encodings.enable(CompressionEncoding::Gzip);
    encodings.enable(CompressionEncoding::Zstd);
    encodings
}

struct Export(IngestServer);

impl UnaryService<Bytes> for Export {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let server = self.0.clone();
        Box::pin(async move { server.export(request.into_inner()).await.map(Response::new) })
    }
}
