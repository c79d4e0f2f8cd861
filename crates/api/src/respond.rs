//! Writing answers.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::ApiError;

/// The media type of JSON.
pub(crate) const JSON: &str = "application/json";
/// The media type of OTLP protobuf.
pub(crate) const PROTOBUF: &str = "application/x-protobuf";

/// `value` as JSON, indented if asked for.
pub(crate) fn json<T: Serialize>(value: &T, pretty: bool) -> Result<Response, ApiError> {
    let body = if pretty {
        serde_json::to_vec_pretty(value).map(|mut body| {
            body.push(b'\n');
            body
        })
    } else {
        serde_json::to_vec(value)
    };
    let body = body.map_err(|error| {
        tracing::error!(%error, "an answer could not be written");
        ApiError::internal("internal", "the answer could not be written")
    })?;
    Ok(([(header::CONTENT_TYPE, JSON)], body).into_response())
}

/// OTLP protobuf bytes.
pub(crate) fn protobuf(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, PROTOBUF)], body).into_response()
}
