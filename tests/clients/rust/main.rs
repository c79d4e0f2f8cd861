//! One of three services, instrumented with the unmodified OpenTelemetry SDK.
//!
//! ```text
//! longpole-test-shop payment                        serves; prints its port, ends when standard input ends
//! longpole-test-shop checkout PAYMENT_PORT          the same, and calls payment
//! longpole-test-shop frontend CHECKOUT_PORT COUNT   makes COUNT requests, then ends
//! ```
//!
//! Everything about the export comes from OTEL_* variables. Each prints one JSON line for every span that it ended, as
//! the SDK itself has it, so that what arrives can be compared.

mod http;
mod shop;

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use opentelemetry::trace::{SpanId, Status, TracerProvider as _};
use opentelemetry::{Context, InstrumentationScope, global};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::runtime::Tokio;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use opentelemetry_sdk::trace::{SdkTracerProvider, Span, SpanData, SpanProcessor};
use serde_json::{Value, json};

/// Prints one line.
fn say(line: &Value) {
    // A reader that went away has no more use for it.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Prints every span that ends.
#[derive(Debug)]
struct Account;

impl SpanProcessor for Account {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        let nanos = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        let root = span.parent_span_id == SpanId::INVALID;
        say(&json!({
            "service": std::env::var("OTEL_SERVICE_NAME").unwrap_or_default(),
            "name": span.name,
            "kind": format!("{:?}", span.span_kind).to_lowercase(),
            "trace_id": span.span_context.trace_id().to_string(),
            "span_id": span.span_context.span_id().to_string(),
            "parent_id": if root { String::new() } else { span.parent_span_id.to_string() },
            "start": nanos(span.start_time),
            "end": nanos(span.end_time),
            "error": matches!(span.status, Status::Error { .. }),
        }));
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The exporter that OTEL_EXPORTER_OTLP_PROTOCOL names; it reads the other variables itself.
fn exporter() -> Result<SpanExporter> {
    let protocol = std::env::var("OTEL_EXPORTER_OTLP_PROTOCOL")?;
    Ok(match protocol.as_str() {
        "grpc" => SpanExporter::builder().with_tonic().build()?,
        "http/protobuf" | "http/json" => SpanExporter::builder().with_http().build()?,
        _ => bail!("OTEL_EXPORTER_OTLP_PROTOCOL={protocol}"),
    })
}

fn main() -> Result<()> {
    // The exporters work in it.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let _inside = runtime.enter();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(BatchSpanProcessor::builder(exporter()?, Tokio).build())
        .with_span_processor(Account)
        .build();
    global::set_text_map_propagator(TraceContextPropagator::new());
    let scope = InstrumentationScope::builder("longpole.test").with_version("1.2.3").build();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    shop::run(&provider.tracer_with_scope(scope), &arguments)?;
    // Says what could not be exported.
    provider.force_flush()?;
    provider.shutdown()?;
    Ok(())
}
