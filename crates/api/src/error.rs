//! What went wrong, as an HTTP status and a JSON body.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use query::QueryError;

/// An error as the API shows it: `{"error": {"code", "message", "parameter"}}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    parameter: Option<String>,
}

/// Seconds after which a client that got a 503 may try again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), parameter: None }
    }

    fn of(mut self, parameter: impl Into<String>) -> Self {
        self.parameter = Some(parameter.into());
        self
    }

    /// A value that is not accepted; `message` says what would be.
    pub(crate) fn invalid(parameter: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_parameter", message).of(parameter)
    }

    /// A parameter that the route does not have.
    pub(crate) fn unknown(parameter: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "unknown_parameter", message).of(parameter)
    }

    /// A parameter or value that is described but not built yet.
    pub(crate) fn not_supported(parameter: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "not_supported", message).of(parameter)
    }

    /// A query string that cannot be taken apart.
    pub(crate) fn invalid_query(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_query", message)
    }

    /// A trace that is not stored.
    pub(crate) fn trace_not_found(id: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "trace_not_found", format!("no trace with id {id} is stored"))
    }

    /// A path that leads nowhere.
    pub(crate) fn not_found(path: &str) -> Self {
        let message = format!("nothing is at {path}; GET / lists what there is");
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// The answer as JSON is larger than `most` bytes. Asking for less helps, and protobuf, which is never as large.
    pub(crate) fn answer_too_large(most: usize) -> Self {
        let message = format!(
            "as JSON this answer takes more than {} MiB; ask for fewer items with limit, without pretty=true, or for a \
             trace as application/x-protobuf",
            most >> 20
        );
        Self::new(StatusCode::BAD_REQUEST, "answer_too_large", message)
    }

    /// A route that is described but not built yet.
    pub(crate) fn not_implemented(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_implemented", format!("{path} is not built yet"))
    }

    /// A method that a route does not have.
    pub(crate) fn method_not_allowed(method: &str) -> Self {
        let message = format!("{method} is not allowed here; use GET");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    /// None of the media types that the client accepts can be made.
    pub(crate) fn not_acceptable(offered: &[&str]) -> Self {
        let message = format!("the Accept header leaves nothing; there is {}", offered.join(" and "));
        Self::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", message)
    }

    /// More is being asked than can be answered at once.
    pub(crate) fn overloaded() -> Self {
        let message = "too many queries at once; try again shortly";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message)
    }

    /// Answers wait for clients that do not read them.
    pub(crate) fn too_much_unread() -> Self {
        let message = "too many large answers are not read yet; try again shortly, or ask for less";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message)
    }

    /// The request came on one connection too many; `message` says what the limit is.
    pub fn too_many_connections(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_connections", message)
    }

    /// Start-up, or the store refuses.
    pub(crate) fn not_ready(reason: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", reason)
    }

    /// A fault of the server. Details go to the log, not to the client.
    pub(crate) fn internal(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, message)
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The word for programs.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The parameter that is at fault, if one is.
    pub fn parameter(&self) -> Option<&str> {
        self.parameter.as_deref()
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Recovering(reason) => Self::not_ready(reason),
            // Not a 500, which a client would try again: it stays as it is.
            error @ QueryError::Unreadable => {
                Self::new(StatusCode::NOT_FOUND, "trace_not_found", error.to_string())
            }
            error @ QueryError::TooManyPoints { .. } => Self::invalid("step", error.to_string()),
            QueryError::Store(reason) => {
                tracing::error!(%reason, "a query failed");
                Self::internal("store", "the store could not be read; the log has the reason")
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "error": { "code": self.code, "message": self.message, "parameter": self.parameter }
        });
        let mut response = (self.status, axum::Json(body)).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trace_model::NanoDuration;

    #[test]
    fn points_that_do_not_fit_are_the_fault_of_the_step() {
        let step = NanoDuration::from_secs(60);
        let error = ApiError::from(QueryError::TooManyPoints { series: 600, step, most: 1 << 20 });
        let said = (error.status().as_u16(), error.code(), error.parameter());
        assert_eq!(said, (400, "invalid_parameter", Some("step")));
        assert!(error.message().contains("make step wider"), "{}", error.message());
    }
}
