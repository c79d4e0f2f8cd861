//! Sends requests over OTLP/gRPC as the bytes that they are, again and again while the server is
//! busy or away.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use ingest::RawCodec;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request as Call, Status};

use super::fields::Request;
use super::reader::Place;
use super::waiting::Waiting;
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
    /// There is a file that cannot be opened.
    Unopened { file: PathBuf, error: io::Error },
    /// The server stayed away.
    Lost(String),
    /// The server was there and took nothing for as long as it was asked.
    Refused(String),
}

/// A connection that many tasks share.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    grpc: Grpc<Channel>,
    waiting: Arc<Waiting>,
}

impl Sender {
    /// Connects, so that a wrong address shows at once.
    pub(super) async fn connect(address: &str, waiting: Waiting) -> Result<Self> {
        let connected = channel(address)?.connect().await;
        let channel = connected.with_context(|| {
            format!("no OTLP/gRPC server at {address} (start one: longpole serve; or name another: --endpoint HOST:PORT)")
        })?;
        Ok(Self { grpc: Grpc::new(channel), waiting: Arc::new(waiting) })
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
                    self.waiting.tell(&said(&status), pause);
                }
                Err(status) => return refused(place.clone(), &status),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            attempt += 1;
        }
    }

    async fn try_once(&self, bytes: Bytes) -> Result<Bytes, Status> {
        let mut grpc = self.grpc.clone();
        grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
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
    match status.code() {
        code if !is_worth_a_retry(code) => Outcome::Bad { place, reason: words(status) },
        _ if is_lost(status) => Outcome::Lost(with_root(status)),
        _ => Outcome::Refused(words(status)),
    }
}

/// Why it is sent again: what the server said, or what became of the connection.
fn said(status: &Status) -> String {
    if is_lost(status) { with_root(status) } else { words(status) }
}

fn words(status: &Status) -> String {
    format!("the server said {:?}: {}", status.code(), status.message())
}

/// A status that was not made of the server's own words has a cause: the connection, or the time.
fn is_lost(status: &Status) -> bool {
    status.source().is_some()
}

/// What was said, and what was at the bottom of it: "transport error" alone helps nobody.
fn with_root(status: &Status) -> String {
    let root = std::iter::successors(status.source(), |&error| error.source()).last();
    let root = root.map(ToString::to_string).unwrap_or_default();
    if status.message().contains(&root) {
        status.message().to_owned()
    } else {
        format!("{}: {root}", status.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_said_is_told_from_what_became_of_the_connection() {
        let outcome = |status: &Status| refused(Place { file: PathBuf::from("a"), number: 1 }, status);
        let full = outcome(&Status::unavailable("the disk is too full"));
        let Outcome::Refused(reason) = full else { panic!("{full:?}") };
        assert_eq!(reason, "the server said Unavailable: the disk is too full");
        assert_eq!(said(&Status::unavailable("the disk is too full")), reason);
        let closed = Status::from_error(Box::new(io::Error::other("connection reset")));
        assert!(said(&closed).contains("connection reset"), "{}", said(&closed));
        let closed = outcome(&closed);
        let Outcome::Lost(reason) = closed else { panic!("{closed:?}") };
        assert!(reason.contains("connection reset"), "{reason}");
        let wrong = outcome(&Status::invalid_argument("too deep"));
        assert!(matches!(wrong, Outcome::Bad { .. }), "{wrong:?}");
    }
}
