//! Services and operations.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;

use super::traces::path_text;
use crate::params::{self, Args, OPERATIONS, SERVICES};
use crate::{ApiError, ApiState, respond, shape};

/// `GET /api/v1/services`.
pub(super) async fn services(State(api): State<ApiState>, uri: Uri) -> Result<Response, ApiError> {
    let args = Args::read(&SERVICES, &uri, api.now())?;
    let window = params::services_window(&args)?;
    let page = params::name_page(&args)?;
    api.ask(move |backend| {
        let (rows, incomplete) = backend.services(window)?;
        respond::json(&shape::Services::new(&rows, &incomplete, &page), args.pretty())
    })
    .await
}

/// `GET /api/v1/services/{service}/operations`.
pub(super) async fn operations(
    State(api): State<ApiState>,
    service: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let service = path_text("service", service)?;
    let args = Args::read(&OPERATIONS, &uri, api.now())?;
    let kind = params::operations_kind(&args);
    let page = params::name_page(&args)?;
    api.ask(move |backend| {
        let (rows, incomplete) = backend.operations(&service, kind)?;
        respond::json(&shape::Operations::new(&rows, &incomplete, &page), args.pretty())
    })
    .await
}
