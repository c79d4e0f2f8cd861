//! The routes: which path leads to which handler, and what surrounds them all.

mod analysis;
mod names;
mod system;
mod traces;

#[cfg(test)]
mod tests;

use std::any::Any;

use axum::Router;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

use crate::params::{
    BOTTLENECKS, CRITICAL_PATH, DOCUMENT, LATENCY, LATER, OPERATIONS, SERVICES, STATUS_ROUTE, TRACE, TRACES,
};
use crate::{ApiError, ApiState};

/// All of the HTTP API: `/api/v1`, health, `/metrics`, and a page at `/` that lists them.
pub fn router(state: ApiState) -> Router {
    let mut router = Router::new()
        .route("/", get(system::index))
        .route("/healthz", get(system::healthz))
        .route("/readyz", get(system::readyz))
        .route("/metrics", get(system::metrics))
        .route(DOCUMENT.path, get(system::openapi))
        .route(SERVICES.path, get(names::services))
        .route(OPERATIONS.path, get(names::operations))
        .route(TRACES.path, get(traces::search))
        .route(TRACE.path, get(traces::trace))
        .route(CRITICAL_PATH.path, get(traces::critical_path))
        .route(LATENCY.path, get(analysis::latency))
        .route(BOTTLENECKS.path, get(analysis::bottlenecks))
        .route(STATUS_ROUTE.path, get(system::status));
    for path in LATER {
        router = router.route(path, get(later));
    }
    router
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(CompressionLayer::new())
        .with_state(state)
}

async fn later(uri: Uri) -> ApiError {
    ApiError::not_implemented(uri.path())
}

async fn nowhere(uri: Uri) -> ApiError {
    ApiError::not_found(uri.path())
}

async fn wrong_method(method: Method) -> ApiError {
    ApiError::method_not_allowed(method.as_str())
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = text.unwrap_or("unknown"), "a handler panicked");
    ApiError::internal("internal", "the request failed; the log has the reason").into_response()
}
