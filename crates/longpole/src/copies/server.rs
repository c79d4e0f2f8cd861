//! A backup while serving: the server makes a checkpoint inside its own folder, and the command copies it.
//!
//! The route takes no path from outside. A checkpoint that nobody copies goes after a while, so whoever reaches the port
//! cannot hold on to what retention drops.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use span_store::SpanStore;
use tokio::sync::Mutex;

use super::checkpoints;
use crate::client::base_url;

const PATH: &str = "/api/v1/backup";

/// `POST /api/v1/backup`: makes a checkpoint of all that was acknowledged before, and answers with its folder.
pub(crate) fn routes(store: Arc<SpanStore>) -> Router {
    // One at a time: each copies the log.
    let turn = Arc::new(Mutex::new(()));
    Router::new().route(
        PATH,
        post(move |headers: HeaderMap| {
            let (store, turn) = (Arc::clone(&store), Arc::clone(&turn));
            async move {
                let _turn = turn.lock().await;
                answer(store, &headers).await
            }
        }),
    )
}

async fn answer(store: Arc<SpanStore>, headers: &HeaderMap) -> Response {
    // A page in a browser cannot send this without asking first.
    if headers.get(header::CONTENT_TYPE).is_none_or(|value| value != "application/json") {
        let message = "the content type must be application/json";
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message);
    }
    match tokio::task::spawn_blocking(move || checkpoints::make(&store)).await {
        Ok(Ok(path)) => axum::Json(json!({"path": path})).into_response(),
        Ok(Err(error)) => {
            tracing::error!(%error, "cannot make a checkpoint");
            refused(StatusCode::INTERNAL_SERVER_ERROR, "backup_failed", &error.to_string())
        }
        Err(error) => refused(StatusCode::INTERNAL_SERVER_ERROR, "internal", &error.to_string()),
    }
}

fn refused(status: StatusCode, code: &str, message: &str) -> Response {
    (status, axum::Json(json!({"error": {"code": code, "message": message, "parameter": null}})))
        .into_response()
}

/// Asks a server for a checkpoint.
pub(super) fn ask(endpoint: &str) -> anyhow::Result<PathBuf> {
    let base = base_url(endpoint)?;
    let url = format!("{base}{PATH}");
    // Without a limit on the time: it copies the log.
    let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build();
    let agent = ureq::Agent::new_with_config(config);
    let mut answer = agent
        .post(&url)
        .header("content-type", "application/json")
        .send("{}")
        .with_context(|| format!("no server at {base}; give --data-dir if none has the store open"))?;
    let body: Value = serde_json::from_slice(&answer.body_mut().read_to_vec()?)
        .with_context(|| format!("{url} does not answer as a longpole server does"))?;
    if answer.status() != 200 {
        bail!("{}", body["error"]["message"].as_str().unwrap_or("the server refused"));
    }
    let path = PathBuf::from(body["path"].as_str().context("the answer names no path")?);
    if !path.is_dir() {
        bail!("{} is not on this machine; run the command where the server is", path.display());
    }
    Ok(path)
}
