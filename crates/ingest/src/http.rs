//! OTLP/HTTP: `POST /v1/traces`, protobuf or JSON, gzip and zstd. The same admission as gRPC.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tonic::Code;
use tower_http::decompression::RequestDecompressionLayer;

use crate::server::IngestServer;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

impl IngestServer {
    /// The routes of OTLP/HTTP.
    pub fn http_router(&self) -> Router {
        let limit = self.request_bytes_max();
        Router::new()
            .route("/v1/traces", post(traces))
            .layer(DefaultBodyLimit::max(limit))
            .layer(RequestDecompressionLayer::new())
            .with_state(self.clone())
    }
}

async fn traces(State(server): State<IngestServer>, headers: HeaderMap, body: Bytes) -> Response {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let json = match content_type.split(';').next().unwrap_or("").trim() {
        PROTOBUF => false,
        JSON => true,
        other => {
            let message = format!("content type must be {PROTOBUF} or {JSON}, not `{other}`");
            return (StatusCode::UNSUPPORTED_MEDIA_TYPE, message).into_response();
        }
    };
    let request = if json {
        match otlp_wire::json_to_traces(&body) {
            Ok(request) => request.into(),
            Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        }
    } else {
        body
    };
    match server.export(request).await {
        Ok(answer) => stored(answer, json),
        Err(status) => refused(&status),
    }
}

/// Answers in the request's own content type.
fn stored(answer: Bytes, json: bool) -> Response {
    if !json {
        return ([(header::CONTENT_TYPE, PROTOBUF)], answer).into_response();
    }
    let decoded = ExportTraceServiceResponse::decode(answer).unwrap_or_default();
    let text = match decoded.partial_success {
        None => "{}".to_owned(),
        Some(partial) => serde_json::json!({"partialSuccess": {
            "rejectedSpans": partial.rejected_spans.to_string(),
            "errorMessage": partial.error_message,
        }})
        .to_string(),
    };
    ([(header::CONTENT_TYPE, JSON)], text).into_response()
}

fn refused(status: &tonic::Status) -> Response {
    let code = match status.code() {
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    let message = status.message().to_owned();
    if code == StatusCode::BAD_REQUEST {
        return (code, message).into_response();
    }
    (code, [(header::RETRY_AFTER, "1")], message).into_response()
}
