//! Finding traces, and single ones.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::Response;
use query::RECOVERING;
use trace_model::TraceId;

use crate::accept::preferred;
use crate::cursor::write_span;
use crate::params::{self, Args, CRITICAL_PATH, TRACE, TRACES};
use crate::{ApiError, ApiState, respond, shape};

/// The header with the cursor of the next page of a trace, where there is one.
const NEXT_CURSOR: &str = "longpole-next-cursor";

/// `GET /api/v1/traces`.
pub(super) async fn search(State(api): State<ApiState>, uri: Uri) -> Result<Response, ApiError> {
    let args = Args::read(&TRACES, &uri, api.now())?;
    let search = params::search(&args)?;
    api.ask(move |backend| {
        let answer = backend.search(&search)?;
        respond::json(&shape::Traces::new(&search, &answer), args.pretty())
    })
    .await
}

/// `GET /api/v1/traces/{trace_id}`.
pub(super) async fn trace(
    State(api): State<ApiState>,
    id: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id = trace_id(id)?;
    let args = Args::read(&TRACE, &uri, api.now())?;
    let page = params::trace_page(&args, id)?;
    let offered = [respond::JSON, respond::PROTOBUF];
    let chosen = preferred(&headers, &offered).ok_or_else(|| ApiError::not_acceptable(&offered))?;
    let mut response = api
        .ask(move |backend| {
            let answer = backend.trace(&page)?.ok_or_else(|| ApiError::trace_not_found(id))?;
            let next = answer.next.as_ref().map(write_span);
            let mut response = if chosen == 1 {
                // Protobuf has no place to say that the log may have more of it.
                if let Some(why) = answer.incomplete.iter().find(|why| why.reason == RECOVERING) {
                    return Err(ApiError::not_ready(why.detail.clone()));
                }
                respond::protobuf(answer.traces_data)
            } else {
                respond::json(&shape::Trace::new(&answer), args.pretty())?
            };
            // The bytes of the spans have no place for it.
            if let Some(next) = next.and_then(|next| HeaderValue::try_from(next).ok()) {
                response.headers_mut().insert(NEXT_CURSOR, next);
            }
            Ok(response)
        })
        .await?;
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// `GET /api/v1/traces/{trace_id}/critical-path`.
pub(super) async fn critical_path(
    State(api): State<ApiState>,
    id: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let id = trace_id(id)?;
    let args = Args::read(&CRITICAL_PATH, &uri, api.now())?;
    let query = params::critical_path(&args, id);
    api.ask(move |backend| {
        let answer = backend.critical_path(&query)?.ok_or_else(|| ApiError::trace_not_found(id))?;
        let shape = shape::CriticalPath::new(&answer, &query.options, params::max_segments(&args));
        respond::json(&shape, args.pretty())
    })
    .await
}

fn trace_id(path: Result<Path<String>, PathRejection>) -> Result<TraceId, ApiError> {
    let text = path_text("trace_id", path)?;
    text.parse().map_err(|error: trace_model::InvalidId| ApiError::invalid("trace_id", error.to_string()))
}

/// The text of a path parameter.
pub(super) fn path_text(name: &str, path: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    path.map(|Path(text)| text)
        .map_err(|_| ApiError::invalid(name, format!("{name} in the path is not valid UTF-8")))
}
