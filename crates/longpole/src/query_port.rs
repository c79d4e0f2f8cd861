//! The query port: the API on connections that are bounded and watched as those of the OTLP ports are.

use std::sync::Arc;
use std::time::Duration;

use api::ApiError;
use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use ingest::{ConnectionLimits, IngestCounters, OverLimit, serve_connections};
use tokio::net::TcpListener;

/// HTTP/2 streams of a connection at a time; how many queries run is bounded besides.
const STREAMS: u32 = 256;
/// Time for the headers of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time without a request; scrapers and terminals ask more often.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Time for a client that reads nothing of its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Answered also on a connection over the limit: whoever watches must not take a full port for a dead process.
const ALWAYS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Serves until `stop` resolves.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: Router,
    connections: usize,
    counters: Arc<IngestCounters>,
    stop: impl Future<Output = ()> + Send,
) {
    let limits = ConnectionLimits {
        connections,
        key: "server.http_connections",
        streams: STREAMS,
        header_timeout: HEADER_TIMEOUT,
        idle_timeout: IDLE_TIMEOUT,
        answer_timeout: ANSWER_TIMEOUT,
    };
    let routes = routes.layer(from_fn(refuse_over_limit));
    serve_connections(listener.into(), routes, limits, counters, stop).await;
}

async fn refuse_over_limit(request: Request, next: Next) -> Response {
    match OverLimit::message(&request) {
        Some(message) if !ALWAYS.contains(&request.uri().path()) => {
            ApiError::too_many_connections(message).into_response()
        }
        _ => next.run(request).await,
    }
}
