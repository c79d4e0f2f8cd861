//! Percentiles and bottlenecks.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

use crate::params::{self, Args, BOTTLENECKS, LATENCY};
use crate::{ApiError, ApiState, respond, shape};

/// `GET /api/v1/latency`.
pub(super) async fn latency(State(api): State<ApiState>, uri: Uri) -> Result<Response, ApiError> {
    let args = Args::read(&LATENCY, &uri, api.now())?;
    let query = params::latency(&args)?;
    api.ask_for_sums(move |backend| {
        let answer = backend.latency(&query)?;
        respond::json(&shape::Latency::new(&query, &answer), args.pretty())
    })
    .await
}

/// `GET /api/v1/bottlenecks`.
pub(super) async fn bottlenecks(State(api): State<ApiState>, uri: Uri) -> Result<Response, ApiError> {
    let args = Args::read(&BOTTLENECKS, &uri, api.now())?;
    let query = params::bottlenecks(&args)?;
    api.ask_for_sums(move |backend| {
        let answer = backend.bottlenecks(&query)?;
        respond::json(&shape::Bottlenecks::new(&query, &answer), args.pretty())
    })
    .await
}
