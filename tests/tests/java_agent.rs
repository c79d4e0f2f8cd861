//! Promise: what the OpenTelemetry Java agent sends of a small HTTP application that knows nothing of it, told by
//! `OTEL_*` variables only, is stored as it was sent.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use longpole_tests::clients::stored::{self, named, text, value};
use longpole_tests::clients::{App, Environment, Otlp, Protocol, Relay};
use longpole_tests::traffic::hex;
use longpole_tests::{Api, ServerOptions, eventually, metric, shop};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

const SERVICE: &str = "java-shop";
const REQUESTS: usize = 10;
/// The request that fails.
const FAILS: usize = 3;

/// Name, kind and the parent's name: those of the server and of the client are the agent's, the others the program's.
const SPANS: [(&str, SpanKind, &str); 5] = [
    ("GET /checkout", SpanKind::Server, ""),
    ("reserve stock", SpanKind::Internal, "GET /checkout"),
    ("charge", SpanKind::Internal, "GET /checkout"),
    ("GET", SpanKind::Client, "charge"),
    ("GET /charge", SpanKind::Server, "GET"),
];

/// What the agent sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signals {
    Traces,
    /// Metrics and logs as well, as it does unless told otherwise.
    All,
}

#[test]
fn grpc() {
    run(Otlp::plain(Protocol::Grpc), Signals::Traces).unwrap();
}

#[test]
fn grpc_gzip_with_metrics_and_logs() {
    run(Otlp::gzip(Protocol::Grpc), Signals::All).unwrap();
}

#[test]
fn http_protobuf() {
    run(Otlp::plain(Protocol::HttpProtobuf), Signals::Traces).unwrap();
}

#[test]
fn http_protobuf_gzip_with_metrics_and_logs() {
    run(Otlp::gzip(Protocol::HttpProtobuf), Signals::All).unwrap();
}

fn run(otlp: Otlp, signals: Signals) -> Result<()> {
    let Some(environment) = Environment::find("java")? else { return Ok(()) };
    let server = ServerOptions::new()?.hasty().start()?;
    let address = if otlp.protocol == Protocol::Grpc { server.grpc() } else { server.otlp_http() };
    let relay = Relay::start(address)?;
    let logs = tempfile::tempdir()?;
    let mut command = program(&environment);
    otlp.tell(&mut command, SERVICE, relay.address());
    if signals == Signals::All {
        Otlp::tell_all_signals(&mut command);
    }
    let mut app = App::start(SERVICE, command, logs.path())?;

    let client = Api::new(&format!("127.0.0.1:{}", app.port()?));
    let mut roots = Vec::new();
    for number in 0..REQUESTS {
        let answer = client.json(&format!("/checkout?number={number}"))?;
        let id = |key: &str| answer[key].as_str().map(str::to_owned).context("no id");
        roots.push((id("trace_id")?, id("span_id")?));
    }
    app.finish()?;
    quiet(&app.said())?;
    relay.check(otlp, stored::LARGE_BYTES)?;

    let api = server.api();
    for (number, (trace_id, root)) in roots.iter().enumerate() {
        eventually("final", Duration::from_secs(20), || {
            stored::check_trace(&api, trace_id)?;
            check_spans(&api, trace_id, root, number)
        })?;
    }
    counted(&api, signals)
}

fn program(environment: &Environment) -> Command {
    let mut command = Command::new("java");
    let mut agent = std::ffi::OsString::from("-javaagent:");
    agent.push(environment.path("opentelemetry-javaagent.jar"));
    let mut classes = environment.path("").into_os_string();
    classes.push(":");
    classes.push(environment.path("*"));
    // Quick to start; a test is no place to optimise.
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m"]);
    command.arg(agent).arg("-cp").arg(classes).arg("Shop");
    command
}

/// The agent says on standard error what it could not export.
fn quiet(said: &str) -> Result<()> {
    let bad = |line: &&str| ["WARN", "ERROR", "SEVERE", "Exception"].iter().any(|word| line.contains(word));
    let complaints: Vec<&str> = said.lines().filter(bad).collect();
    ensure!(complaints.is_empty(), "it said: {complaints:#?}");
    ensure!(said.contains("opentelemetry-javaagent - version"), "the agent did not start: {said}");
    Ok(())
}

fn check_spans(api: &Api, trace_id: &str, root: &str, number: usize) -> Result<()> {
    let spans = api.trace_spans(trace_id)?;
    ensure!(spans.len() == SPANS.len(), "{} spans", spans.len());
    for (name, kind, parent) in SPANS {
        let span = named(&spans, name)?;
        ensure!(span.kind == kind as i32, "{span:?}");
        let parent = if parent.is_empty() { Vec::new() } else { named(&spans, parent)?.span_id.clone() };
        ensure!(span.parent_span_id == parent, "{span:?}");
    }
    let first = named(&spans, "GET /checkout")?;
    ensure!(hex(&first.span_id) == root, "the application had {root}: {first:?}");
    let path = shop::critical_path(api, trace_id)?;
    ensure!(path.duration_nanos == first.end_time_unix_nano - first.start_time_unix_nano, "{path:?}");
    own_spans(&spans, number)?;
    outcome(&spans, number)
}

/// What the program itself added.
fn own_spans(spans: &[Span], number: usize) -> Result<()> {
    let (reserve, charge) = (named(spans, "reserve stock")?, named(spans, "charge")?);
    stored::check_every_type(&reserve.attributes, stored::ALL_INTEGERS)?;
    let link = charge.links.first().context("no link")?;
    ensure!(link.span_id == reserve.span_id && link.trace_id == reserve.trace_id, "{link:?}");
    ensure!(value(&link.attributes, "app.why")? == text("reserved before"));
    let event = charge.events.first().context("no event")?;
    ensure!(
        event.name == "charged" && value(&event.attributes, "app.ok")? == Any::BoolValue(number != FAILS)
    );
    ensure!(value(&event.attributes, "app.number")? == Any::IntValue(i64::try_from(number)?));
    Ok(())
}

/// One request fails on the server's side; the agent marks its client's span as well.
fn outcome(spans: &[Span], number: usize) -> Result<()> {
    let fails = number == FAILS;
    for name in ["GET /charge", "GET"] {
        let span = named(spans, name)?;
        let error = span.status.as_ref().is_some_and(|s| s.code == StatusCode::Error as i32);
        ensure!(error == fails, "{:?}", span.status);
        let status = value(&span.attributes, "http.response.status_code")?;
        ensure!(status == Any::IntValue(if fails { 500 } else { 200 }), "{status:?}");
    }
    if !fails {
        return Ok(());
    }
    let message = format!("card {number} declined");
    stored::check_exception(named(spans, "GET /charge")?, "java.lang.IllegalStateException", &message)
}

fn counted(api: &Api, signals: Signals) -> Result<()> {
    let services = api.json("/api/v1/services")?;
    let services = services["services"].as_array().context("no services")?;
    let spans = (REQUESTS * SPANS.len()) as u64;
    ensure!(services.len() == 1 && services[0]["name"] == SERVICE, "{services:?}");
    ensure!(services[0]["spans"] == spans && services[0]["errors"] == 2, "{services:?}");
    let metrics = api.get("/metrics", "text/plain")?;
    let metrics = String::from_utf8_lossy(&metrics.body);
    ensure!(metric(&metrics, "longpole_spans_total")? == spans as f64);
    ensure!(metric(&metrics, "longpole_duplicate_spans_total")? == 0.0);
    ensure!(metric(&metrics, "longpole_ingest_rejected_spans_total")? == 0.0);
    for signal in ["metrics", "logs"] {
        let came = metric(&metrics, &format!("longpole_ingest_dropped_{signal}_requests_total"))? > 0.0;
        ensure!(came == (signals == Signals::All), "{signal} came: {came}");
    }
    Ok(())
}
