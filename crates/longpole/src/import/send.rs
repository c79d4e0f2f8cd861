//! Sends requests over OTLP/gRPC as the bytes that they are, again and again while the server is
//! busy or away.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use ingest::RawCodec;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request as Call, Status};

use super::fields::Request;
use super::reader::Place;
use super::{channel, is_worth_a_retry};

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// With pauses doubling up to the longest, about a minute in all.
const ATTEMPTS: u32 = 16;

/// What became of a request, or of what should have been one.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The server took it, except for some spans and with these words.
    Sent { spans: u64, rejected: u64, place: Place, message: String },
    /// It could not be read, or the server found it wrong.
    Bad { place: Place, reason: String },
    /// The server stayed away.
    Lost(String),
}

/// A connection that many tasks share.
#[derive(Debug, Clone)]
pub(super) struct Sender(Grpc<Channel>);

impl Sender {
    /// Connects, so that a wrong address shows at once.
    pub(super) async fn connect(address: &str) -> Result<Self> {
        let connected = channel(address)?.connect().await;
        let channel = connected.with_context(|| {
            format!("no OTLP/gRPC server at {address} (start one: longpole serve; or name another: --endpoint HOST:PORT)")
        })?;
        Ok(Self(Grpc::new(channel)))
    }

    /// Sends one request until the server takes or refuses it.
    pub(super) async fn send(&self, place: &Place, request: Request) -> Outcome {
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            match self.try_once(request.bytes.clone()).await {
                Ok(response) => return sent(place.clone(), request.spans, response),
                Err(status) if is_worth_a_retry(status.code()) && attempt < ATTEMPTS => {
                    tracing::debug!(code = ?status.code(), message = status.message(), attempt, "sending again");
                }
                Err(status) => return refused(place.clone(), &status),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            attempt += 1;
        }
    }

    async fn try_once(&self, bytes: Bytes) -> Result<Bytes, Status> {
        let mut grpc = self.0.clone();
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static(EXPORT);
        Ok(grpc.unary(Call::new(bytes), path, RawCodec).await?.into_inner())
    }
}

fn sent(place: Place, spans: u64, response: Bytes) -> Outcome {
    let partial = ExportTraceServiceResponse::decode(response).ok().and_then(|r| r.partial_success);
    let (rejected, message) = partial.map_or((0, String::new()), |p| (p.rejected_spans, p.error_message));
    Outcome::Sent { spans, rejected: u64::try_from(rejected).unwrap_or(0), place, message }
}

fn refused(place: Place, status: &Status) -> Outcome {
    let reason = format!("the server said {:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Unavailable
        | Code::ResourceExhausted
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Unknown => Outcome::Lost(reason),
        _ => Outcome::Bad { place, reason },
    }
}
