//! The unmodified Python SDK: three services in three processes, configured by `OTEL_*` variables only.
#![allow(clippy::print_stdout)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use longpole_tests::shop::{self, Expected};
use longpole_tests::traffic::hex;
use longpole_tests::{Api, Server, eventually};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValue};
use serde_json::Value;

const REQUESTS: usize = 30;
const SPANS_A_REQUEST: usize = 6;

/// One running service; ended when dropped.
struct Service {
    name: &'static str,
    child: Child,
    /// The service runs until this is closed.
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    log: PathBuf,
}

#[test]
fn three_python_services_arrive_whole() {
    let python = match std::env::var_os("LONGPOLE_TEST_PYTHON") {
        Some(python) if !python.is_empty() => PathBuf::from(python),
        _ => {
            println!(
                "skipped: LONGPOLE_TEST_PYTHON names no Python with the OpenTelemetry SDK (`make test` makes one)"
            );
            return;
        }
    };
    let server = Server::start().unwrap();
    let logs = tempfile::tempdir().unwrap();
    let start = |name, arguments: &[String]| Service::start(&python, logs.path(), &server, name, arguments);

    let mut payment = start("payment", &[]).unwrap();
    let payment_port = payment.port().unwrap();
    let mut checkout = start("checkout", &[payment_port]).unwrap();
    let checkout_port = checkout.port().unwrap();
    let mut frontend = start("frontend", &[checkout_port, REQUESTS.to_string()]).unwrap();

    let mut expected = frontend.finish().unwrap();
    expected.extend(checkout.finish().unwrap());
    expected.extend(payment.finish().unwrap());
    assert_eq!(expected.len(), REQUESTS * SPANS_A_REQUEST);

    let api = server.api();
    shop::check(&api, &expected).unwrap();
    details(&api, &expected).unwrap();
    searches(&api).unwrap();
}

impl Service {
    fn start(
        python: &Path,
        logs: &Path,
        server: &Server,
        name: &'static str,
        arguments: &[String],
    ) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let app = longpole_tests::package_dir().join("python/app.py");
        let mut command = Command::new(python);
        for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("OTEL_")) {
            command.env_remove(key);
        }
        if name == "checkout" {
            command.env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
        }
        let mut child = command
            .arg(app)
            .arg(name)
            .args(arguments)
            .env("OTEL_SERVICE_NAME", name)
            .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.version=1.0")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", server.grpc()))
            .env("OTEL_BSP_SCHEDULE_DELAY", "100")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .context("cannot start Python")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("no standard output")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Ok(Self { name, child, stdin, lines, log })
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn port(&self) -> Result<String> {
        let line = self.lines.recv_timeout(Duration::from_secs(30));
        let line = line.with_context(|| format!("{} says no port: {}", self.name, self.said()))?;
        let line: Value = serde_json::from_str(&line)?;
        Ok(line["port"].as_u64().context("no port")?.to_string())
    }

    /// Lets it end by itself and returns the spans that it made.
    fn finish(&mut self) -> Result<Vec<Expected>> {
        drop(self.stdin.take());
        let status = eventually(self.name, Duration::from_secs(60), || {
            self.child.try_wait()?.context("the service is still running")
        })?;
        if !status.success() {
            bail!("{}: {status}: {}", self.name, self.said());
        }
        // The exporter warns on standard error about anything that it could not deliver.
        let said = self.said();
        ensure!(said.trim().is_empty(), "{} said on standard error: {said}", self.name);
        let mut spans = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(10)) {
            spans.push(expected(&serde_json::from_str(&line)?)?);
        }
        Ok(spans)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn expected(line: &Value) -> Result<Expected> {
    let text = |key: &str| Ok::<_, anyhow::Error>(line[key].as_str().context("no text")?.to_owned());
    Ok(Expected {
        service: text("service")?,
        name: text("name")?,
        kind: text("kind")?,
        trace_id: text("trace_id")?,
        span_id: text("span_id")?,
        parent_id: text("parent_id")?,
        start_nanos: line["start"].as_u64().context("no start")?,
        end_nanos: line["end"].as_u64().context("no end")?,
        error: line["error"].as_bool().context("no error")?,
    })
}

/// Attributes of every type, the link, the event and the exception, as stored.
fn details(api: &Api, expected: &[Expected]) -> Result<()> {
    let roots = || expected.iter().filter(|e| e.parent_id.is_empty());
    let first = roots().min_by_key(|e| e.start_nanos).context("no root")?;
    let spans = api.trace_spans(&first.trace_id)?;
    let named = |name: &str| spans.iter().find(|s| s.name == name).with_context(|| format!("no span {name}"));
    every_type(&named("GET /buy")?.attributes)?;

    let (reserve, charge) = (named("reserve stock")?, named("charge")?);
    ensure!(charge.links.len() == 1, "{} links", charge.links.len());
    ensure!(charge.links[0].span_id == reserve.span_id && charge.links[0].trace_id == reserve.trace_id);
    ensure!(value(&charge.links[0].attributes, "app.why")? == Any::StringValue("reserved before".to_owned()));

    let event = named("POST /checkout")?.events.first().context("no event")?;
    ensure!(event.name == "charged" && value(&event.attributes, "app.ok")? == Any::BoolValue(true));

    let failed =
        expected.iter().find(|e| e.error && e.service == "payment").context("no failure was made")?;
    let spans = api.trace_spans(&failed.trace_id)?;
    let span =
        spans.iter().find(|s| hex(&s.span_id) == failed.span_id).context("the failed span is not there")?;
    ensure!(span.status.as_ref().is_some_and(|s| s.message == "declined"), "{:?}", span.status);
    let exception = span.events.first().context("no exception")?;
    ensure!(value(&exception.attributes, "exception.type")? == Any::StringValue("ValueError".to_owned()));
    Ok(())
}

fn every_type(attributes: &[KeyValue]) -> Result<()> {
    let text = |t: &str| Any::StringValue(t.to_owned());
    let array = |values: Vec<Any>| {
        let values =
            values.into_iter().map(|v| opentelemetry_proto::tonic::common::v1::AnyValue { value: Some(v) });
        Any::ArrayValue(ArrayValue { values: values.collect() })
    };
    let wanted = [
        ("t.string", text("text")),
        ("t.empty", text("")),
        ("t.unicode", text("Grüße, 世界 \u{1f600} \u{0} end")),
        ("t.large", text(&"x".repeat(65_536))),
        ("t.int", Any::IntValue(-42)),
        ("t.int.min", Any::IntValue(i64::MIN)),
        ("t.int.max", Any::IntValue(i64::MAX)),
        ("t.double", Any::DoubleValue(0.1)),
        ("t.true", Any::BoolValue(true)),
        ("t.false", Any::BoolValue(false)),
        ("t.strings", array(["a", "", "ß"].map(text).to_vec())),
        ("t.ints", array([1, -2, 3].map(Any::IntValue).to_vec())),
        ("t.doubles", array([0.5, -1.5].map(Any::DoubleValue).to_vec())),
        ("t.bools", array([true, false].map(Any::BoolValue).to_vec())),
    ];
    for (key, wanted) in wanted {
        let found = value(attributes, key)?;
        ensure!(found == wanted, "{key}: {found:?}");
    }
    Ok(())
}

fn value(attributes: &[KeyValue], key: &str) -> Result<Any> {
    let attribute =
        attributes.iter().find(|a| a.key == key).with_context(|| format!("no attribute {key}"))?;
    attribute.value.clone().and_then(|v| v.value).with_context(|| format!("{key} has no value"))
}

fn searches(api: &Api) -> Result<()> {
    let services = api.json("/api/v1/services")?;
    let names: Vec<&str> =
        services["services"].as_array().into_iter().flatten().filter_map(|s| s["name"].as_str()).collect();
    ensure!(names == ["checkout", "frontend", "payment"], "{names:?}");
    let failed = api.walk_traces("service=payment&status=error", 2)?;
    ensure!(failed.len() == REQUESTS / 10, "{} traces failed", failed.len());
    let slow = api.walk_traces("service=frontend&operation=GET%20%2Fbuy", 7)?;
    let durations: Vec<u64> = slow.iter().filter_map(|t| t["matched"]["duration_nanos"].as_u64()).collect();
    ensure!(durations.len() == REQUESTS, "{} traces", durations.len());
    ensure!(durations.is_sorted_by(|a, b| a >= b), "not slowest first: {durations:?}");
    Ok(())
}
