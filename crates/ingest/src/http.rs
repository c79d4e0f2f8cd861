//! OTLP/HTTP: `POST /v1/traces` in protobuf or JSON, and polite answers to the rest.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};

use crate::body::{Chunks, in_time};
use crate::counters::IngestCounter;
use crate::digest::Message;
use crate::encoding::{self, Encoding};
use crate::grpc;
use crate::places::OverLimit;
use crate::refusal::{Reason, Refused};
use crate::respond::Taken;
use crate::rpc_status;
use crate::server::IngestServer;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// What a request is written in, and so its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Protobuf,
    Json,
}

impl Format {
    const fn content_type(self) -> HeaderValue {
        match self {
            Self::Protobuf => HeaderValue::from_static(PROTOBUF),
            Self::Json => HeaderValue::from_static(JSON),
        }
    }

    /// Of a request; as an error, what it calls itself.
    fn of(headers: &HeaderMap) -> Result<Self, String> {
        let value = headers.get(header::CONTENT_TYPE).map_or(b"".as_slice(), HeaderValue::as_bytes);
        let value = String::from_utf8_lossy(value);
        let media = value.split(';').next().unwrap_or_default().trim();
        match media.to_ascii_lowercase().as_str() {
            PROTOBUF => Ok(Self::Protobuf),
            JSON => Ok(Self::Json),
            _ => Err(media.to_owned()),
        }
    }
}

impl IngestServer {
    /// The routes of OTLP/HTTP.
    pub(crate) fn http_router(&self) -> Router {
        let router = Router::new()
            .route("/v1/traces", post(traces))
            .route("/v1/metrics", post(metrics))
            .route("/v1/logs", post(logs))
            .fallback(no_such_path)
            .method_not_allowed_fallback(no_such_method);
        let router = match self.origins().layer() {
            Some(cors) => router.layer(cors),
            None => router,
        };
        router.with_state(self.clone())
    }
}

async fn traces(State(server): State<IngestServer>, request: Request) -> Response {
    let format = Format::of(request.headers());
    let awaits_go_ahead = request.headers().contains_key(header::EXPECT);
    let over_limit = OverLimit::of(&request);
    let (head, body) = request.into_parts();
    let mut chunks = Chunks::new(body);
    let may_enter = || over_limit.map_or_else(|| server.may_enter(), Err);
    let message =
        match format.as_ref().map_err(|media| unknown_media(media)).and_then(|f| may_enter().map(|()| f)) {
            Ok(format) => receive(&server, &head.headers, *format, &mut chunks).await,
            Err(refused) => Err(refused),
        };
    let outcome = match message {
        Ok(message) => server.export(message).await,
        Err(refused) => Err(refused),
    };
    // Who asked to be understood in neither gets text that people can read.
    let format = format.unwrap_or(Format::Json);
    match outcome {
        Ok(taken) => stored(&taken, format),
        Err(refused) => {
            // A client that waits for the go-ahead has not sent its body.
            if !awaits_go_ahead {
                chunks.linger(server.body_limits());
            }
            refuse(&server, &refused, format)
        }
    }
}

async fn receive(
    server: &IngestServer,
    headers: &HeaderMap,
    format: Format,
    chunks: &mut Chunks<Body>,
) -> Result<Message, Refused> {
    let encoding = match headers.get(header::CONTENT_ENCODING) {
        None => Encoding::Identity,
        Some(name) => name.to_str().ok().and_then(Encoding::named).ok_or_else(|| {
            let message =
                format!("content-encoding {name:?} is not known here; known are {}", encoding::KNOWN);
            Refused::new(Reason::UnknownEncoding, message)
        })?,
    };
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let mut body = server.may_come(length)?;
    if encoding == Encoding::Identity {
        body = body.in_one_piece(length);
    }
    in_time(server.body_limits().time, server.receive(chunks, Bytes::new(), &mut body)).await?;
    Ok(Message { body, encoding, json: format == Format::Json })
}

async fn metrics(State(server): State<IngestServer>, request: Request) -> Response {
    drop_signal(&server, request, "metrics", IngestCounter::MetricsRequests).await
}

async fn logs(State(server): State<IngestServer>, request: Request) -> Response {
    drop_signal(&server, request, "logs", IngestCounter::LogsRequests).await
}

/// Answers a signal that is not kept. Success without a word: SDKs log every partial success and every error.
async fn drop_signal(
    server: &IngestServer,
    request: Request,
    signal: &'static str,
    counter: IngestCounter,
) -> Response {
    let format = Format::of(request.headers()).unwrap_or(Format::Protobuf);
    server.note_dropped(signal, counter);
    Chunks::new(request.into_body()).discard(server.body_limits()).await;
    stored(&Taken { rejected: 0, reason: String::new() }, format)
}

async fn no_such_path(State(server): State<IngestServer>, request: Request) -> Response {
    if grpc::is_grpc(request.headers()) {
        return not_http(&server, request);
    }
    let message = format!(
        "{:?} is not here; spans go to POST /v1/traces (OTEL_EXPORTER_OTLP_ENDPOINT is the address without a path, \
         OTEL_EXPORTER_OTLP_TRACES_ENDPOINT the one with it)",
        request.uri().path()
    );
    misdirected(&server, request, Refused::new(Reason::Path, message))
}

async fn no_such_method(State(server): State<IngestServer>, request: Request) -> Response {
    let message = format!("{} is not what OTLP/HTTP sends; use POST", request.method());
    misdirected(&server, request, Refused::new(Reason::Method, message))
}

/// The answer to gRPC on the wrong port, which its clients can read.
fn not_http(server: &IngestServer, request: Request) -> Response {
    let message = format!(
        "{:?} is not here; this port speaks OTLP/HTTP (POST /v1/traces, OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf); \
         OTLP/gRPC has a port of its own, 4317 by default",
        request.uri().path()
    );
    Chunks::new(request.into_body()).linger(server.body_limits());
    grpc::refuse(server, &Refused::new(Reason::Path, message))
}

fn misdirected(server: &IngestServer, request: Request, refused: Refused) -> Response {
    let format = Format::of(request.headers()).unwrap_or(Format::Json);
    Chunks::new(request.into_body()).linger(server.body_limits());
    refuse(server, &refused, format)
}

fn unknown_media(media: &str) -> Refused {
    Refused::new(Reason::ContentType, format!("content type must be {PROTOBUF} or {JSON}, not {media:?}"))
}

fn stored(taken: &Taken, format: Format) -> Response {
    let body = match format {
        Format::Protobuf => taken.to_protobuf(),
        Format::Json => taken.to_json().into(),
    };
    ([(header::CONTENT_TYPE, format.content_type())], body).into_response()
}

fn refuse(server: &IngestServer, refused: &Refused, format: Format) -> Response {
    server.note(refused);
    let body = match format {
        Format::Protobuf => rpc_status::protobuf(refused),
        Format::Json => rpc_status::json(refused).into_bytes(),
    };
    let mut response =
        (refused.reason.http(), [(header::CONTENT_TYPE, format.content_type())], body).into_response();
    if let Some(wait) = refused.retry_after {
        let seconds = HeaderValue::from(rpc_status::retry_after_seconds(wait));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    if refused.reason == Reason::UnknownEncoding {
        let known = HeaderValue::from_static(encoding::KNOWN);
        response.headers_mut().insert(header::ACCEPT_ENCODING, known);
    }
    response
}
