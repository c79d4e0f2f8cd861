//! Questions over HTTP, one after the other over a connection that stays open.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use ureq::Agent;

/// A client of one server.
#[derive(Debug)]
pub struct HttpClient {
    agent: Agent,
    base: String,
}

/// An answer, whatever its status.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// From sending the request to the end of the answer.
    pub took: Duration,
}

impl HttpClient {
    /// Of the server at `host:port`.
    pub fn new(address: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .max_idle_connections_per_host(1)
            .build();
        Self { agent: config.into(), base: format!("http://{address}") }
    }

    /// Asks for a path.
    ///
    /// # Errors
    /// If no answer comes within a minute.
    pub fn ask(&self, path: &str) -> Result<Answer> {
        let url = format!("{}{path}", self.base);
        let started = Instant::now();
        let answer = self.agent.get(&url).call().with_context(|| format!("GET {url}"))?;
        read(answer, started)
    }

    /// Asks for a path and takes nothing but success for an answer.
    ///
    /// # Errors
    /// If another comes, or none within a minute.
    pub fn get(&self, path: &str) -> Result<Answer> {
        let answer = self.ask(path)?;
        if answer.status / 100 != 2 {
            bail!("GET {path}: {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        Ok(answer)
    }

    /// The JSON under a path.
    ///
    /// # Errors
    /// If there is none.
    pub fn json(&self, path: &str) -> Result<Value> {
        serde_json::from_slice(&self.get(path)?.body).with_context(|| format!("GET {path}: no JSON"))
    }

    /// Sends an OTLP request.
    ///
    /// # Errors
    /// If no answer comes within a minute.
    pub fn export(&self, request: &[u8]) -> Result<Answer> {
        let url = format!("{}/v1/traces", self.base);
        let started = Instant::now();
        let post = self.agent.post(&url).header("content-type", "application/x-protobuf");
        read(post.send(request).with_context(|| format!("POST {url}"))?, started)
    }
}

fn read(mut answer: http::Response<ureq::Body>, started: Instant) -> Result<Answer> {
    let body = answer.body_mut().with_config().limit(256 << 20).read_to_vec()?;
    Ok(Answer { status: answer.status().as_u16(), body, took: started.elapsed() })
}

/// How many spans an answer of `/api/v1/traces/{id}` has.
pub fn spans_of_trace(body: &[u8]) -> Option<u64> {
    let answer = serde_json::from_slice::<Value>(body).ok()?;
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let resources = list(&answer["trace"], "resourceSpans");
    let scopes = resources.iter().flat_map(|r| list(r, "scopeSpans"));
    Some(scopes.map(|s| list(&s, "spans").len() as u64).sum())
}
