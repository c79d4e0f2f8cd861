//! What each service does.

use std::fmt;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail};
use opentelemetry::trace::{Link, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::SdkTracer;

use crate::http::{call, serve};

/// What payment fails with.
#[derive(Debug)]
struct Declined(u64);

impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "card {} declined", self.0)
    }
}

/// The role that the arguments name.
pub(crate) fn run(tracer: &SdkTracer, arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["payment"] => payment(tracer.clone()),
        ["checkout", port] => checkout(tracer.clone(), port.parse()?),
        ["frontend", port, count] => {
            let (port, count) = (port.parse()?, count.parse()?);
            (0..count).for_each(|number| buy(tracer, port, number));
            Ok(())
        }
        _ => bail!("no such role: {arguments:?}"),
    }
}

fn start(tracer: &SdkTracer, name: &'static str, kind: SpanKind, parent: &Context) -> Context {
    parent.with_span(tracer.span_builder(name).with_kind(kind).start_with_context(tracer, parent))
}

fn payment(tracer: SdkTracer) -> Result<()> {
    serve(move |caller, number| {
        let context = start(&tracer, "POST /charge", SpanKind::Server, caller);
        sleep(Duration::from_millis(2 + number % 5));
        let ok = number % 10 != 3;
        if !ok {
            let exception = [
                KeyValue::new("exception.type", "Declined"),
                KeyValue::new("exception.message", Declined(number).to_string()),
            ];
            context.span().add_event("exception", exception.to_vec());
            context.span().set_status(Status::error("declined"));
        }
        context.span().end();
        ok
    })
}

fn checkout(tracer: SdkTracer, port: u16) -> Result<()> {
    serve(move |caller, number| {
        let context = start(&tracer, "POST /checkout", SpanKind::Server, caller);
        let reserve = start(&tracer, "reserve stock", SpanKind::Internal, &context);
        reserve.span().set_attribute(KeyValue::new("app.item", format!("item-{number}")));
        sleep(Duration::from_millis(1));
        reserve.span().end();

        let why = vec![KeyValue::new("app.why", "reserved before")];
        let link = Link::new(reserve.span().span_context().clone(), why, 0);
        let charge = tracer.span_builder("charge").with_kind(SpanKind::Client).with_links(vec![link]);
        let charge = context.with_span(charge.start_with_context(&tracer, &context));
        let ok = call(&charge, port, number);
        if !ok {
            charge.span().set_status(Status::error(""));
        }
        charge.span().end();
        let event = vec![KeyValue::new("app.ok", ok), KeyValue::new("app.number", number as i64)];
        context.span().add_event("charged", event);
        context.span().end();
        true
    })
}

fn buy(tracer: &SdkTracer, port: u16, number: u64) {
    let context = start(tracer, "GET /buy", SpanKind::Server, &Context::new());
    if number == 0 {
        context.span().set_attributes(every_type());
    }
    let client = start(tracer, "call checkout", SpanKind::Client, &context);
    call(&client, port, number);
    client.span().end();
    context.span().end();
}

fn every_type() -> Vec<KeyValue> {
    let words = ["a", "", "ß"].map(StringValue::from).to_vec();
    vec![
        KeyValue::new("t.string", "text"),
        KeyValue::new("t.empty", ""),
        KeyValue::new("t.unicode", "Grüße, 世界 \u{1f600} \u{0} end"),
        KeyValue::new("t.large", "x".repeat(65_536)),
        KeyValue::new("t.int", -42),
        KeyValue::new("t.int.min", i64::MIN),
        KeyValue::new("t.int.max", i64::MAX),
        KeyValue::new("t.double", 0.1),
        KeyValue::new("t.true", true),
        KeyValue::new("t.false", false),
        KeyValue::new("t.strings", Value::Array(Array::String(words))),
        KeyValue::new("t.ints", Value::Array(Array::I64(vec![1, -2, 3]))),
        KeyValue::new("t.doubles", Value::Array(Array::F64(vec![0.5, -1.5]))),
        KeyValue::new("t.bools", Value::Array(Array::Bool(vec![true, false]))),
    ]
}
