//! The shop that every SDK has in its own language: three services in three processes, joined by W3C headers. Each
//! prints every span that it ended, as the SDK itself has it.
//!
//! ```text
//! frontend  GET /buy (attributes of every type, once)
//! frontend    call checkout
//! checkout      POST /checkout (an event)
//! checkout        reserve stock
//! checkout        charge (a link to the one before)
//! payment           POST /charge (fails one time in ten, with an exception)
//! ```

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use serde_json::Value;

use super::stored::{self, Integers, LARGE_BYTES, named, text, value};
use super::{App, Environment, Otlp, Protocol, Relay};
use crate::api::Api;
use crate::server::{Server, ServerOptions};
use crate::shop::{self, Expected};
use crate::traffic::hex;
use crate::wait::eventually;

const REQUESTS: usize = 30;
const SPANS_A_REQUEST: usize = 6;
const FAILED: usize = REQUESTS / 10;

/// The SDK of one language.
#[derive(Debug)]
pub struct Sdk {
    /// Of its environment.
    pub name: &'static str,
    /// The program, to which role and arguments are added.
    pub program: fn(&Environment) -> Command,
    /// The type of the exception that `payment` records.
    pub exception: &'static str,
    /// The numbers that it sets as the smallest and the largest.
    pub integers: Integers,
}

/// Runs the shop against a server of its own and checks all that arrived. Does nothing, and says so, where the
/// language is not on this machine.
pub fn run(sdk: &Sdk, otlp: Otlp) -> Result<()> {
    let Some(environment) = Environment::find(sdk.name)? else { return Ok(()) };
    run_in(&environment, sdk, otlp)
}

/// The same in an environment that is certain to be there.
pub fn run_in(environment: &Environment, sdk: &Sdk, otlp: Otlp) -> Result<()> {
    let server = ServerOptions::new()?.hasty().start()?;
    let address = match otlp.protocol {
        Protocol::Grpc => server.grpc(),
        Protocol::HttpProtobuf | Protocol::HttpJson => server.otlp_http(),
    };
    let relay = Relay::start(address)?;
    let logs = tempfile::tempdir()?;
    let start = |service: &str, arguments: &[String]| {
        let mut command = (sdk.program)(environment);
        command.arg(service).args(arguments);
        otlp.tell(&mut command, service, relay.address());
        App::start(service, command, logs.path())
    };
    let expected = expected_of(start)?;
    relay.check(otlp, LARGE_BYTES)?;
    check(&server, sdk, &expected)
}

/// Starts the three services, lets them do their work and end, and returns what they say they did.
fn expected_of(start: impl Fn(&str, &[String]) -> Result<App>) -> Result<Vec<Expected>> {
    let mut payment = start("payment", &[])?;
    let mut checkout = start("checkout", &[payment.port()?.to_string()])?;
    let mut frontend = start("frontend", &[checkout.port()?.to_string(), REQUESTS.to_string()])?;
    let mut spans = Vec::new();
    for app in [&mut frontend, &mut checkout, &mut payment] {
        for line in app.finish()? {
            spans.push(expected(&line).with_context(|| format!("in {line}"))?);
        }
        // SDKs warn on standard error about anything that they could not deliver.
        let said = app.said();
        ensure!(said.trim().is_empty(), "said on standard error: {said}");
    }
    ensure!(spans.len() == REQUESTS * SPANS_A_REQUEST, "{} spans were made", spans.len());
    Ok(spans)
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
        start_nanos: shop::number(&line["start"])?,
        end_nanos: shop::number(&line["end"])?,
        error: line["error"].as_bool().context("no error")?,
    })
}

fn check(server: &Server, sdk: &Sdk, expected: &[Expected]) -> Result<()> {
    let api = server.api();
    shop::check(&api, expected)?;
    for root in expected.iter().filter(|e| e.parent_id.is_empty()) {
        eventually("final", Duration::from_secs(20), || stored::check_trace(&api, &root.trace_id))?;
    }
    details(&api, sdk, expected)?;
    failure(&api, sdk, expected)?;
    searches(&api)?;
    let metrics = api.get("/metrics", "text/plain")?;
    counted(&String::from_utf8_lossy(&metrics.body))
}

/// Attributes of every type, the link and the event, as stored.
fn details(api: &Api, sdk: &Sdk, expected: &[Expected]) -> Result<()> {
    let roots = expected.iter().filter(|e| e.parent_id.is_empty());
    let first = roots.min_by_key(|e| e.start_nanos).context("no root")?;
    let spans = api.trace_spans(&first.trace_id)?;
    stored::check_every_type(&named(&spans, "GET /buy")?.attributes, sdk.integers)?;

    let (reserve, charge) = (named(&spans, "reserve stock")?, named(&spans, "charge")?);
    ensure!(value(&reserve.attributes, "app.item")? == text("item-0"));
    ensure!(charge.links.len() == 1, "{} links", charge.links.len());
    ensure!(charge.links[0].span_id == reserve.span_id && charge.links[0].trace_id == reserve.trace_id);
    ensure!(value(&charge.links[0].attributes, "app.why")? == text("reserved before"));

    let event = named(&spans, "POST /checkout")?.events.first().context("no event")?;
    ensure!(event.name == "charged" && value(&event.attributes, "app.ok")? == Any::BoolValue(true));
    ensure!(value(&event.attributes, "app.number")? == Any::IntValue(0), "{event:?}");
    Ok(())
}

/// The failed span has its status, its message and its exception.
fn failure(api: &Api, sdk: &Sdk, expected: &[Expected]) -> Result<()> {
    let mut failed: Vec<_> = expected.iter().filter(|e| e.error && e.service == "payment").collect();
    failed.sort_by_key(|e| e.start_nanos);
    ensure!(failed.len() == FAILED, "{} failures were made", failed.len());
    let spans = api.trace_spans(&failed[0].trace_id)?;
    let span = named(&spans, "POST /charge")?;
    ensure!(hex(&span.span_id) == failed[0].span_id, "another span failed: {span:?}");
    ensure!(span.status.as_ref().is_some_and(|s| s.message == "declined"), "{:?}", span.status);
    stored::check_exception(span, sdk.exception, "card 3 declined")
}

fn searches(api: &Api) -> Result<()> {
    let services = api.json("/api/v1/services")?;
    let services = services["services"].as_array().context("no services")?;
    let found: Vec<_> = services.iter().map(|s| (s["name"].as_str(), s["spans"].as_u64())).collect();
    let spans = |n: usize| Some((n * REQUESTS) as u64);
    let wanted = [(Some("checkout"), spans(3)), (Some("frontend"), spans(2)), (Some("payment"), spans(1))];
    ensure!(found == wanted, "{found:?}");
    let failed = api.walk_traces("service=payment&status=error", 2)?;
    ensure!(failed.len() == FAILED, "{} traces failed", failed.len());
    let slow = api.walk_traces("service=frontend&operation=GET%20%2Fbuy", 7)?;
    let durations: Vec<u64> = slow.iter().filter_map(|t| t["matched"]["duration_nanos"].as_u64()).collect();
    ensure!(durations.len() == REQUESTS, "{} traces", durations.len());
    ensure!(durations.is_sorted_by(|a, b| a >= b), "not slowest first: {durations:?}");
    Ok(())
}

/// All was taken at the first attempt: nothing refused, nothing invalid, nothing twice.
fn counted(metrics: &str) -> Result<()> {
    let wanted = [
        ("longpole_spans_total", REQUESTS * SPANS_A_REQUEST),
        ("longpole_duplicate_spans_total", 0),
        ("longpole_ingest_rejected_spans_total", 0),
        ("longpole_ingest_unreadable_requests_total", 0),
    ];
    for (name, wanted) in wanted {
        let found = crate::metric(metrics, name)?;
        ensure!(found == wanted as f64, "{name} is {found} and not {wanted}");
    }
    Ok(())
}
