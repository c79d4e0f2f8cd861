//! gRPC calls whose frames a test makes itself, and whose bodies it may leave open.

use std::convert::Infallible;

use bytes::{BufMut, Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt;
use http_body_util::channel::Channel as BodyChannel;
use ingest::Address;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::ServiceExt;

use crate::world::PATIENCE;

pub(crate) const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A channel to the server.
pub(crate) async fn channel(address: &Address) -> Channel {
    let uri = match address {
        Address::Tcp(address) => format!("http://{address}"),
        Address::Unix(path) => format!("unix://{}", path.display()),
    };
    Endpoint::from_shared(uri).unwrap().connect().await.unwrap()
}

/// A message in its frame.
pub(crate) fn frame(compressed: bool, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(u8::from(compressed));
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    frame.freeze()
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) http: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) status: Status,
    /// Whether the headers were all of it.
    pub(crate) ended_in_head: bool,
    /// The message's frame.
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn code(&self) -> Code {
        self.status.code()
    }

    pub(crate) fn retry_after(&self) -> Option<std::time::Duration> {
        self.status.get_details_retry_info().and_then(|info| info.retry_delay)
    }
}

/// A call whose body a test sends.
pub(crate) struct Call {
    /// Dropped, it ends the body.
    pub(crate) body: Option<http_body_util::channel::Sender<Bytes, Infallible>>,
    answer: tokio::task::JoinHandle<Answer>,
}

impl Call {
    pub(crate) fn start(channel: &Channel, path: &str, headers: &[(&'static str, &str)]) -> Self {
        let (body, receiver) = BodyChannel::<Bytes, Infallible>::new(64);
        let mut request = http::Request::post(format!("http://test{path}")).header("te", "trailers");
        if headers.iter().all(|(name, _)| *name != "content-type") {
            request = request.header("content-type", "application/grpc");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(tonic::body::Body::new(receiver)).unwrap();
        let channel = channel.clone();
        let answer = tokio::spawn(async move {
            let response = channel.oneshot(request).await.unwrap();
            let (head, body) = response.into_parts();
            let ended_in_head = body.is_end_stream();
            let body = body.collect().await.unwrap();
            let from = body.trailers().filter(|trailers| trailers.contains_key("grpc-status"));
            let status = Status::from_header_map(from.unwrap_or(&head.headers));
            Answer {
                http: head.status.as_u16(),
                status: status.unwrap_or_else(|| Status::unknown("no grpc-status")),
                headers: head.headers,
                ended_in_head,
                body: body.to_bytes(),
            }
        });
        Self { body: Some(body), answer }
    }

    pub(crate) async fn send(&mut self, bytes: Bytes) {
        self.body.as_mut().unwrap().send_data(bytes).await.unwrap();
    }

    /// The answer, whether the body has ended or not.
    pub(crate) async fn answer(self) -> Answer {
        let answer = tokio::time::timeout(PATIENCE, self.answer).await.expect("no answer in time").unwrap();
        drop(self.body);
        answer
    }

    /// Goes away.
    pub(crate) fn hang_up(self) {
        self.answer.abort();
    }
}

/// A whole call.
pub(crate) async fn call(
    channel: &Channel,
    path: &str,
    headers: &[(&'static str, &str)],
    body: Bytes,
) -> Answer {
    let mut call = Call::start(channel, path, headers);
    call.send(body).await;
    call.body = None;
    call.answer().await
}

/// A whole `Export` on a connection of its own.
pub(crate) async fn export(address: &Address, headers: &[(&'static str, &str)], body: Bytes) -> Answer {
    call(&channel(address).await, TRACES, headers, body).await
}
