//! OTLP/gRPC: routes calls, and serves `Export` itself, so that a message is charged as it comes, inflated within
//! its limit and never copied more than once. Health is tonic's.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt;

use crate::body::{Chunks, in_time};
use crate::counters::IngestCounter;
use crate::digest::Message;
use crate::encoding::{self, Encoding};
use crate::ending::Ending;
use crate::health::Health;
use crate::places::OverLimit;
use crate::received::Received;
use crate::refusal::{Reason, Refused};
use crate::request_body::RequestBody;
use crate::server::IngestServer;

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const HEALTH: &str = "/grpc.health.v1.Health/";

const GRPC: &str = "application/grpc";
/// The same with the name of what messages are written in.
const GRPC_PROTO: &str = "application/grpc+proto";
/// A message has a byte that says whether it is compressed, and a length, before it.
const PREFIX: usize = 5;
/// Bytes of a health check at most: the name of a service in its frame.
const HEALTH_BYTES: usize = 1_024;

/// All of what the gRPC port answers.
#[derive(Debug, Clone)]
pub(crate) struct GrpcService {
    server: IngestServer,
    health: Arc<Health>,
    checks: Routes,
}

impl GrpcService {
    /// `checks` are the routes of `health`.
    pub(crate) fn new(server: IngestServer, health: Arc<Health>, checks: Routes) -> Self {
        Self { server, health, checks }
    }

    async fn answer(self, request: Request<RequestBody>) -> Response<Body> {
        if !is_grpc(request.headers()) {
            self.server.counters().add(IngestCounter::ContentTypeRequests, 1);
            return not_grpc();
        }
        match request.uri().path() {
            TRACES => self.export(request).await,
            METRICS => self.drop_signal(request, "metrics", IngestCounter::MetricsRequests).await,
            LOGS => self.drop_signal(request, "logs", IngestCounter::LogsRequests).await,
            path if path.starts_with(HEALTH) => self.check(request).await,
            path => {
                let message = format!("{path} is not here; this port has the Export of TraceService");
                refuse(&self.server, &Refused::new(Reason::Path, message))
            }
        }
    }

    /// Answers a health check. Its body is here before tonic sees it, which would wait for one without an end.
    async fn check(self, request: Request<RequestBody>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let mut chunks = Chunks::new(body);
        let limits = self.server.body_limits();
        let message = match in_time(limits.time, chunks.short(HEALTH_BYTES)).await {
            Ok(message) => message,
            Err(refused) => {
                chunks.linger(limits);
                return refuse(&self.server, &refused);
            }
        };
        self.health.refresh().await;
        let stopped = self.health.stopped();
        match self.checks.oneshot(Request::from_parts(head, Full::new(message))).await {
            Ok(answer) => answer.map(|body| Body::new(Ending::new(body, stopped))),
            Err(never) => match never {},
        }
    }

    async fn export(&self, request: Request<RequestBody>) -> Response<Body> {
        let accepted = accepted(request.headers());
        let over_limit = OverLimit::of(&request);
        let (head, body) = request.into_parts();
        let mut chunks = Chunks::new(body);
        let message = match over_limit.map_or_else(|| self.server.may_enter(), Err) {
            Ok(()) => self.receive(&head.headers, &mut chunks).await,
            Err(refused) => Err(refused),
        };
        let outcome = match message {
            Ok(message) => self.server.export(message).await,
            Err(refused) => Err(refused),
        };
        match outcome {
            Ok(taken) => stored(&taken.to_protobuf(), accepted),
            Err(refused) => {
                chunks.linger(self.server.body_limits());
                refuse(&self.server, &refused)
            }
        }
    }

    async fn receive(
        &self,
        headers: &HeaderMap,
        chunks: &mut Chunks<RequestBody>,
    ) -> Result<Message, Refused> {
        let encoding = match headers.get("grpc-encoding") {
            None => Encoding::Identity,
            Some(name) => name.to_str().ok().and_then(Encoding::named).ok_or_else(|| {
                let message =
                    format!("grpc-encoding {name:?} is not known here; known are {}", encoding::KNOWN);
                Refused::new(Reason::UnknownEncoding, message)
            })?,
        };
        in_time(self.server.body_limits().time, async {
            let Some(([flag, length @ ..], first)) = chunks.head::<PREFIX>().await? else {
                return Err(Refused::new(Reason::Unreadable, "the call has no message"));
            };
            let length = u32::from_be_bytes(length) as usize;
            let encoding = match (flag, encoding) {
                (0, _) => Encoding::Identity,
                (1, Encoding::Identity) => {
                    return Err(Refused::new(
                        Reason::BrokenEncoding,
                        "compressed, and no grpc-encoding says how",
                    ));
                }
                (1, encoding) => encoding,
                _ => {
                    return Err(Refused::new(
                        Reason::Unreadable,
                        format!("a frame cannot begin with {flag}"),
                    ));
                }
            };
            let mut body = self.server.may_come(Some(length))?;
            if encoding == Encoding::Identity {
                body = body.in_one_piece(Some(length));
            }
            self.server.receive(chunks, first, &mut body).await?;
            whole(&body, length)?;
            Ok(Message { body, encoding, json: false })
        })
        .await
    }

    /// Answers a signal that is not kept. Success without a word: SDKs log every partial success and every error.
    async fn drop_signal(
        &self,
        request: Request<RequestBody>,
        signal: &'static str,
        counter: IngestCounter,
    ) -> Response<Body> {
        self.server.note_dropped(signal, counter);
        Chunks::new(request.into_body()).discard(self.server.body_limits()).await;
        stored(&Bytes::new(), None)
    }
}

fn whole(body: &Received, length: usize) -> Result<(), Refused> {
    if body.len() == length {
        return Ok(());
    }
    let message = format!("the call has one message of {length} bytes, and {} came", body.len());
    Err(Refused::new(Reason::Unreadable, message))
}

/// The compression for an answer, if the client takes any.
fn accepted(headers: &HeaderMap) -> Option<Encoding> {
    let accepted = headers.get("grpc-accept-encoding")?.to_str().ok()?;
    accepted.split(',').filter_map(Encoding::named).find(|&encoding| encoding != Encoding::Identity)
}

fn stored(answer: &Bytes, accepted: Option<Encoding>) -> Response<Body> {
    let compressed = accepted
        .filter(|_| !answer.is_empty())
        .and_then(|encoding| Some((encoding, encoding.deflate(answer).ok()?)));
    let message = compressed.as_ref().map_or(&answer[..], |(_, bytes)| bytes);
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(u8::from(compressed.is_some()));
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(frame.freeze()).with_trailers(async { Some(Ok(trailers)) });
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    if let Some((encoding, _)) = compressed {
        response.headers_mut().insert("grpc-encoding", HeaderValue::from_static(encoding.name()));
    }
    response
}

/// A refusal, which is all in the headers.
pub(crate) fn refuse<B: Default>(server: &IngestServer, refused: &Refused) -> Response<B> {
    server.note(refused);
    let status: Status = refused.status();
    let mut response = status.into_http();
    if refused.reason == Reason::UnknownEncoding {
        let known = HeaderValue::from_static("identity,gzip,zstd,deflate");
        response.headers_mut().insert("grpc-accept-encoding", known);
    }
    response
}

/// The answer to what is no gRPC at all, such as OTLP/HTTP on the wrong port.
fn not_grpc() -> Response<Body> {
    let text = "this port speaks OTLP/gRPC (content type application/grpc or application/grpc+proto, HTTP/2); OTLP/HTTP \
                has a port of its own, 4318 by default\n";
    let mut response = Response::new(Body::new(Full::from(text)));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Whether a request says that it is gRPC in protobuf. gRPC-Web, and gRPC in JSON, are something else.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(CONTENT_TYPE).map(HeaderValue::to_str) else { return false };
    let media = value.split(';').next().unwrap_or_default().trim();
    [GRPC, GRPC_PROTO].iter().any(|known| media.eq_ignore_ascii_case(known))
}

impl tower::Service<Request<RequestBody>> for GrpcService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(request).await) })
    }
}
