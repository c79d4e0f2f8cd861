//! The OpenTelemetry Collector: an OTLP/gRPC receiver, the batch processor, and exporters with retry and a queue.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Environment;
use crate::api::Api;
use crate::child::{own_address, terminate};
use crate::wait::eventually;

const RECEIVER: u16 = 4317;
const METRICS: u16 = 8888;
const END_LIMIT: Duration = Duration::from_secs(60);

/// A running Collector; killed when dropped.
#[derive(Debug)]
pub struct Collector {
    child: Option<Child>,
    host: Ipv4Addr,
    exporters: usize,
    folder: TempDir,
}

impl Collector {
    /// Starts it with these exporters: the name, as the Collector has it, and the settings that are not common to all.
    pub fn start(environment: &Environment, exporters: &[(&str, Value)]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let host = own_address();
        let path = folder.path().join("config.yaml");
        // JSON is YAML.
        std::fs::write(&path, config(host, exporters).to_string())?;
        let mut collector = Self { child: None, host, exporters: exporters.len(), folder };
        let child = Command::new(environment.path("collector"))
            .arg("--config")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(collector.log_path())?)
            .spawn()
            .context("cannot start the Collector")?;
        collector.child = Some(child);
        Ok(collector)
    }

    /// `host:port` of its OTLP/gRPC receiver.
    pub fn address(&self) -> String {
        format!("{}:{RECEIVER}", self.host)
    }

    /// Waits until each of its exporters has had as many spans acknowledged, by its own account. To be called before
    /// [`finish`](Self::finish): a Collector that ends gives up what it is about to try again.
    pub fn wait_until_sent(&self, spans: usize) -> Result<()> {
        let wanted = (spans * self.exporters) as u64;
        let api = Api::new(&format!("{}:{METRICS}", self.host));
        eventually("the Collector has sent all", Duration::from_secs(30), || {
            let metrics = api.get("/metrics", "text/plain")?;
            let sent = sent(&String::from_utf8_lossy(&metrics.body))?;
            ensure!(sent == wanted, "{sent} spans of {wanted}");
            Ok(())
        })
    }

    /// Lets it send what it has, end, and say how it went.
    pub fn finish(&mut self) -> Result<Log> {
        let child = self.child.take().context("the Collector is not running")?;
        let status = terminate(child, END_LIMIT)?;
        let text = std::fs::read_to_string(self.log_path())?;
        if !status.success() {
            bail!("the Collector: {status}: {text}");
        }
        Ok(Log(text))
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("stderr.log")
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only if it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sums over exporters and what else they are told apart by.
fn sent(metrics: &str) -> Result<u64> {
    let lines = metrics.lines().filter(|line| line.starts_with("otelcol_exporter_sent_spans"));
    let values = lines.filter_map(|line| line.rsplit(' ').next());
    values.map(|value| value.parse::<u64>().with_context(|| value.to_owned())).sum()
}

fn config(host: Ipv4Addr, exporters: &[(&str, Value)]) -> Value {
    let names: Vec<&str> = exporters.iter().map(|(name, _)| *name).collect();
    let mut all = serde_json::Map::new();
    for (name, settings) in exporters {
        let mut exporter = json!({
            "timeout": "5s",
            // As long as it takes: the default gives up after five minutes.
            "retry_on_failure": {"enabled": true, "initial_interval": "50ms", "max_interval": "500ms", "max_elapsed_time": 0},
            "sending_queue": {"enabled": true, "num_consumers": 4, "queue_size": 100_000},
        });
        if let (Some(exporter), Some(settings)) = (exporter.as_object_mut(), settings.as_object()) {
            exporter.extend(settings.clone());
        }
        all.insert((*name).to_owned(), exporter);
    }
    let reader = json!({"pull": {"exporter": {"prometheus": {"host": host.to_string(), "port": METRICS}}}});
    json!({
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": format!("{host}:{RECEIVER}")}}}},
        "processors": {"batch": {"timeout": "20ms", "send_batch_size": 512, "send_batch_max_size": 1024}},
        "exporters": all,
        "service": {
            "telemetry": {"metrics": {"level": "basic", "readers": [reader]}, "logs": {"encoding": "json"}},
            "pipelines": {"traces": {"receivers": ["otlp"], "processors": ["batch"], "exporters": names}},
        },
    })
}

/// What a Collector said.
#[derive(Debug)]
pub struct Log(String);

impl Log {
    /// How often it put an export off to try again.
    pub fn retries(&self) -> usize {
        self.0.lines().filter(|line| line.contains("Will retry the request after interval")).count()
    }

    /// It gave nothing up: no error, and no word of data that was dropped or refused.
    pub fn check(&self) -> Result<()> {
        for line in self.0.lines() {
            let entry: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            let lost = ["Dropping data", "dropped_items", "rejected", "Partial success"];
            let bad = entry["level"] == "error" || lost.iter().any(|word| line.contains(word));
            ensure!(!bad, "the Collector said: {line}");
        }
        Ok(())
    }
}
