//! The process itself: health, metrics, status, and what there is.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};

use crate::accept::preferred;
use crate::metrics::{self, Format};
use crate::params::{Args, DOCUMENT, ROUTES, STATUS_ROUTE};
use crate::{ApiError, ApiState, respond, shape};

/// `GET /`.
pub(super) async fn index(State(api): State<ApiState>) -> String {
    let mut page =
        format!("Longpole {}: distributed tracing collector and latency analyzer\n\n", api.build().version);
    for route in ROUTES {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "GET {:<48} {}", route.path, route.about);
    }
    page.push_str(
        "\nGET /api/v1/openapi.json    the description of the above\n\
         GET /healthz                alive\n\
         GET /readyz                 ready to answer with everything, or 503 with the reason\n\
         GET /metrics                OpenMetrics or Prometheus text\n",
    );
    page
}

/// `GET /healthz`.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`.
pub(super) async fn readyz(State(api): State<ApiState>) -> Result<&'static str, ApiError> {
    api.block(|backend| backend.ready()).await?.map(|()| "ready\n").map_err(ApiError::not_ready)
}

/// `GET /metrics`.
pub(super) async fn metrics(State(api): State<ApiState>, headers: HeaderMap) -> Result<Response, ApiError> {
    // Scrapers that accept neither get the older format, which all of them read.
    let open = preferred(&headers, &[metrics::TEXT_TYPE, metrics::OPEN_TYPE]) == Some(1);
    let format = if open { Format::OpenMetrics } else { Format::Text };
    let asker = api.clone();
    api.scrape(move |backend| {
        let (status, operations) = (backend.status(), backend.operation_metrics());
        let body = metrics::render(format, asker.build(), &asker.counters(), &status, &operations);
        let content_type = HeaderValue::from_static(format.content_type());
        let headers =
            [(header::CONTENT_TYPE, content_type), (header::VARY, HeaderValue::from_static("accept"))];
        (headers, body).into_response()
    })
    .await
}

/// `GET /api/v1/status`.
pub(super) async fn status(State(api): State<ApiState>, uri: Uri) -> Result<Response, ApiError> {
    let args = Args::read(&STATUS_ROUTE, &uri, api.now())?;
    let status = api.block(|backend| backend.status()).await?;
    respond::json(&shape::Status::new(api.build(), api.uptime(), &status), args.pretty())
}

/// `GET /api/v1/openapi.json`.
pub(super) async fn openapi(State(api): State<ApiState>, uri: Uri) -> Result<Response, ApiError> {
    let args = Args::read(&DOCUMENT, &uri, api.now())?;
    respond::json(&crate::openapi(), args.pretty())
}
