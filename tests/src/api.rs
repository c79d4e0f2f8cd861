//! The HTTP API, asked as any client would.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use opentelemetry_proto::tonic::trace::v1::{Span, TracesData};
use prost::Message as _;
use serde_json::Value;
use ureq::Agent;

/// Status, headers of interest and body.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("not JSON ({}): {}", self.status, String::from_utf8_lossy(&self.body)))
    }
}

/// A client of one server.
#[derive(Debug, Clone)]
pub struct Api {
    agent: Agent,
    base: String,
}

impl Api {
    /// Of the server at `host:port`.
    pub fn new(address: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .build();
        Self { agent: config.into(), base: format!("http://{address}") }
    }

    /// GET, whatever the answer is.
    pub fn get(&self, path: &str, accept: &str) -> Result<Answer> {
        let url = format!("{}{path}", self.base);
        let call = self.agent.get(&url).header("accept", accept).call();
        let mut answer = call.with_context(|| format!("GET {url}"))?;
        let body = answer.body_mut().with_config().limit(512 << 20).read_to_vec()?;
        let header = answer.headers().get("content-type").and_then(|v| v.to_str().ok());
        let content_type = header.unwrap_or_default().to_owned();
        Ok(Answer { status: answer.status().as_u16(), content_type, body })
    }

    /// A page of a trace as OTLP protobuf, and the cursor of the next one.
    pub fn page(&self, path: &str) -> Result<(Vec<u8>, Option<String>)> {
        let url = format!("{}{path}", self.base);
        let call = self.agent.get(&url).header("accept", "application/x-protobuf").call();
        let mut answer = call.with_context(|| format!("GET {url}"))?;
        ensure!(answer.status().as_u16() == 200, "GET {path}: {}", answer.status());
        let next =
            answer.headers().get("longpole-next-cursor").and_then(|v| v.to_str().ok()).map(str::to_owned);
        Ok((answer.body_mut().with_config().limit(512 << 20).read_to_vec()?, next))
    }

    /// GET that must be answered with 200 and JSON.
    pub fn json(&self, path: &str) -> Result<Value> {
        let answer = self.get(path, "application/json")?;
        let body = String::from_utf8_lossy(&answer.body);
        ensure!(answer.status == 200, "GET {path}: {} {body}", answer.status);
        answer.json()
    }

    /// All spans of a trace, decoded from the stored bytes. An unknown trace has none.
    pub fn trace_spans(&self, trace_id: &str) -> Result<Vec<Span>> {
        let path = format!("/api/v1/traces/{trace_id}");
        let answer = self.get(&path, "application/x-protobuf")?;
        if answer.status == 404 {
            return Ok(Vec::new());
        }
        ensure!(answer.status == 200, "GET {path}: {}", answer.status);
        let data = TracesData::decode(answer.body.as_slice()).context("not OTLP TracesData")?;
        let scopes = data.resource_spans.into_iter().flat_map(|r| r.scope_spans);
        Ok(scopes.flat_map(|s| s.spans).collect())
    }

    /// Walks the cursors of a search and returns its items. `query` has no cursor and no limit.
    pub fn walk_traces(&self, query: &str, limit: usize) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor = None::<String>;
        loop {
            let from = cursor.map(|c| format!("&cursor={}", escape(&c))).unwrap_or_default();
            let page = self.json(&format!("/api/v1/traces?{query}&limit={limit}{from}"))?;
            let list = page["traces"].as_array().context("no traces in the answer")?;
            ensure!(list.len() <= limit, "{} items on a page of {limit}", list.len());
            items.extend(list.iter().cloned());
            cursor = page["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                return Ok(items);
            }
            ensure!(items.len() < 1_000_000, "the cursors of {query} do not end");
        }
    }
}

/// Escapes a value for a query string or a path.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

impl Api {
    /// A query string of these parameters.
    pub fn query(parameters: &[(&str, &str)]) -> String {
        let pairs: Vec<String> = parameters.iter().map(|(k, v)| format!("{k}={}", escape(v))).collect();
        pairs.join("&")
    }

    /// A text as a part of a path.
    pub fn path_part(text: &str) -> String {
        escape(text)
    }
}

/// All spans of an answer of trace by id (JSON), each with its service name.
pub fn spans_of(answer: &Value) -> Vec<(String, Value)> {
    let mut out = Vec::new();
    for resource in list(&answer["trace"]["resourceSpans"]) {
        let attributes = list(&resource["resource"]["attributes"]);
        let name = attributes.iter().find(|a| a["key"] == "service.name");
        let service = name.and_then(|a| a["value"]["stringValue"].as_str()).unwrap_or_default();
        for scope in list(&resource["scopeSpans"]) {
            out.extend(list(&scope["spans"]).iter().map(|span| (service.to_owned(), span.clone())));
        }
    }
    out
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
