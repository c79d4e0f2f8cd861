//! An OTLP/gRPC client for messages that are encoded already: their bytes go to the socket as they lie.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderValue, Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tonic::codegen::Service as _;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::codec::EXPORT_PATH;
use crate::recycle::PREFIX;

/// One connection. A clone shares it.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
}

/// A body of one piece. It does not tell its length, as gRPC clients do not.
#[derive(Debug)]
struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

impl Client {
    /// Connects to `http://host:port`.
    ///
    /// # Errors
    /// If it is no endpoint, or nobody listens.
    pub async fn connect(endpoint: &str) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(endpoint.to_owned())
            .with_context(|| format!("not an endpoint: {endpoint}"))?
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(10));
        let channel =
            endpoint.connect().await.with_context(|| format!("cannot connect to {}", endpoint.uri()))?;
        Ok(Self { channel })
    }

    /// Sends a message with its gRPC prefix and returns the answer's message.
    ///
    /// # Errors
    /// The status that the server answers with, if it is not OK; `UNAVAILABLE` if it does not answer.
    pub async fn export(&mut self, message: Bytes) -> Result<Bytes, Status> {
        let unavailable = |error: &dyn std::fmt::Display| Status::unavailable(format!("no answer: {error}"));
        std::future::poll_fn(|context| self.channel.poll_ready(context))
            .await
            .map_err(|error| unavailable(&error))?;
        let mut request = Request::new(tonic::body::Body::new(Whole(Some(message))));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static(EXPORT_PATH);
        request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let response = self.channel.call(request).await.map_err(|error| unavailable(&error))?;
        answer(response).await
    }
}

async fn answer(response: Response<tonic::body::Body>) -> Result<Bytes, Status> {
    let (head, body) = response.into_parts();
    // A refusal may come without a body, its status among the headers.
    ok_or_status(Status::from_header_map(&head.headers))?;
    let collected = body.collect().await?;
    match collected.trailers().and_then(Status::from_header_map) {
        Some(status) => ok_or_status(Some(status))?,
        None if head.headers.contains_key("grpc-status") => {}
        None => return Err(Status::unknown(format!("HTTP {} without a gRPC status", head.status))),
    }
    let message = collected.to_bytes();
    Ok(message.slice(PREFIX.min(message.len())..))
}

fn ok_or_status(status: Option<Status>) -> Result<(), Status> {
    match status {
        Some(status) if status.code() != Code::Ok => Err(status),
        _ => Ok(()),
    }
}
