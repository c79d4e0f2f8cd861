//! The Rust SDK with its OTLP/gRPC exporter: three services, each with a provider of its own, joined by W3C headers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use longpole_tests::Server;
use longpole_tests::shop::{self, Expected};
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    Link, Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanData, SpanProcessor};

const REQUESTS: usize = 40;

/// Writes down every span that ends, as the SDK itself has it.
#[derive(Debug)]
struct Account {
    service: &'static str,
    spans: Arc<Mutex<Vec<Expected>>>,
}

impl SpanProcessor for Account {
    fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        let nanos =
            |time: std::time::SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        let root = span.parent_span_id == SpanId::INVALID;
        let expected = Expected {
            service: self.service.to_owned(),
            name: span.name.to_string(),
            kind: format!("{:?}", span.span_kind).to_lowercase(),
            trace_id: span.span_context.trace_id().to_string(),
            span_id: span.span_context.span_id().to_string(),
            parent_id: if root { String::new() } else { span.parent_span_id.to_string() },
            start_nanos: nanos(span.start_time),
            end_nanos: nanos(span.end_time),
            error: matches!(span.status, Status::Error { .. }),
        };
        if let Ok(mut spans) = self.spans.lock() {
            spans.push(expected);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// A service with its own provider.
struct Service {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Service {
    fn new(name: &'static str, server: &Server, spans: &Arc<Mutex<Vec<Expected>>>) -> Result<Self> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(format!("http://{}", server.grpc()))
            .build()?;
        let provider = SdkTracerProvider::builder()
            .with_resource(Resource::builder().with_service_name(name).build())
            .with_span_processor(Account { service: name, spans: Arc::clone(spans) })
            .with_batch_exporter(exporter)
            .build();
        let tracer = provider.tracer("longpole.test");
        Ok(Self { provider, tracer })
    }

    fn span(&self, name: &'static str, kind: SpanKind, parent: &Context) -> Context {
        parent.with_span(
            self.tracer.span_builder(name).with_kind(kind).start_with_context(&self.tracer, parent),
        )
    }
}

/// What goes over the wire between two services.
fn carried(from: &Context) -> Context {
    let propagator = TraceContextPropagator::new();
    let mut headers = HashMap::<String, String>::new();
    propagator.inject_context(from, &mut headers);
    propagator.extract_with_context(&Context::new(), &headers)
}

#[test]
fn three_rust_services_arrive_whole() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let server = Server::start().unwrap();
    let spans = Arc::new(Mutex::new(Vec::new()));
    let [web, orders, stock] =
        ["web", "orders", "stock"].map(|name| Service::new(name, &server, &spans).unwrap());

    let mut linked = None;
    for number in 0..REQUESTS {
        linked = Some(request(number, [&web, &orders, &stock], linked));
    }
    for service in [&web, &orders, &stock] {
        service.provider.force_flush().unwrap();
        service.provider.shutdown().unwrap();
    }
    let expected = spans.lock().unwrap().clone();
    assert_eq!(expected.len(), REQUESTS * 5);
    shop::check(&server.api(), &expected).unwrap();
    details(&server, &expected).unwrap();
}

/// One request through the three services. Returns the context of its root, for the next one to link to.
fn request(number: usize, [web, orders, stock]: [&Service; 3], linked: Option<SpanContext>) -> SpanContext {
    let pause = |ms: usize| std::thread::sleep(Duration::from_millis(ms as u64));
    let root = web.span("GET /buy", SpanKind::Server, &Context::new());
    if number == 1 {
        for attribute in every_type() {
            root.span().set_attribute(attribute);
        }
    }
    if let Some(linked) = linked {
        root.span().add_link(linked, vec![KeyValue::new("app.why", "the one before")]);
    }
    let call = web.span("call orders", SpanKind::Client, &root);
    let server = orders.span("POST /orders", SpanKind::Server, &carried(&call));
    let ask = orders.span("call stock", SpanKind::Client, &server);
    let mut leaf = stock.tracer.span_builder("GET /stock").with_kind(SpanKind::Server);
    leaf.links = Some(vec![Link::with_context(root.span().span_context().clone())]);
    let mut leaf = leaf.start_with_context(&stock.tracer, &carried(&ask));
    pause(1 + number % 4);
    if number % 10 == 7 {
        leaf.add_event("exception", vec![KeyValue::new("exception.message", "sold out")]);
        leaf.set_status(Status::error("sold out"));
    }
    leaf.end();
    for context in [&ask, &server, &call, &root] {
        context.span().end();
    }
    root.span().span_context().clone()
}

fn every_type() -> Vec<KeyValue> {
    let words = ["a", "", "ß"].map(StringValue::from).to_vec();
    vec![
        KeyValue::new("t.string", "text"),
        KeyValue::new("t.unicode", "Grüße, 世界 \u{1f600}"),
        KeyValue::new("t.large", "x".repeat(65_536)),
        KeyValue::new("t.int", i64::MIN),
        KeyValue::new("t.double", 0.1),
        KeyValue::new("t.bool", true),
        KeyValue::new("t.strings", Value::Array(Array::String(words))),
        KeyValue::new("t.ints", Value::Array(Array::I64(vec![1, -2]))),
        KeyValue::new("t.doubles", Value::Array(Array::F64(vec![0.5]))),
        KeyValue::new("t.bools", Value::Array(Array::Bool(vec![true, false]))),
    ]
}

/// Attributes of every type, links, the event and the status, as stored.
fn details(server: &Server, expected: &[Expected]) -> Result<()> {
    let mut roots: Vec<&Expected> = expected.iter().filter(|e| e.parent_id.is_empty()).collect();
    roots.sort_by_key(|e| e.start_nanos);
    let spans = server.api().trace_spans(&roots[1].trace_id)?;
    let root = spans.iter().find(|s| s.name == "GET /buy").context("no root")?;
    let value =
        |key: &str| root.attributes.iter().find(|a| a.key == key).and_then(|a| a.value.clone()?.value);
    let text = |t: &str| Some(Any::StringValue(t.to_owned()));
    ensure!(value("t.unicode") == text("Grüße, 世界 \u{1f600}"));
    ensure!(value("t.large") == text(&"x".repeat(65_536)));
    ensure!(value("t.int") == Some(Any::IntValue(i64::MIN)));
    ensure!(value("t.double") == Some(Any::DoubleValue(0.1)));
    ensure!(value("t.bool") == Some(Any::BoolValue(true)));
    let length = |key: &str| match value(key) {
        Some(Any::ArrayValue(array)) => array.values.len(),
        _ => 0,
    };
    ensure!([length("t.strings"), length("t.ints"), length("t.doubles"), length("t.bools")] == [3, 2, 1, 2]);
    let link = root.links.first().context("no link")?;
    ensure!(longpole_tests::traffic::hex(&link.trace_id) == roots[0].trace_id);

    let failed = server.api().walk_traces("service=stock&status=error", 20)?;
    ensure!(failed.len() == REQUESTS / 10, "{} traces failed", failed.len());
    let id = failed[0]["trace_id"].as_str().context("no id")?;
    let spans = server.api().trace_spans(id)?;
    let span = spans.iter().find(|s| s.name == "GET /stock").context("no leaf")?;
    ensure!(span.status.as_ref().is_some_and(|s| s.message == "sold out") && span.events.len() == 1);
    Ok(())
}
