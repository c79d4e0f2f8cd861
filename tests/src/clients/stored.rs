//! What is stored of a trace, looked up by name: attributes, events, links, resources.

use anyhow::{Context, Result, ensure};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::Value;

use crate::api::Api;

/// The whole numbers that a language can hold: from, to.
pub type Integers = (i64, i64);

/// Of languages with 64 bits.
pub const ALL_INTEGERS: Integers = (i64::MIN, i64::MAX);

/// Of JavaScript, whose numbers have 53.
pub const SAFE_INTEGERS: Integers = (-9_007_199_254_740_991, 9_007_199_254_740_991);

/// Letters of the long attribute that every client sets once.
pub const LARGE_BYTES: u64 = 65_536;

/// The only span with this name.
pub fn named<'a>(spans: &'a [Span], name: &str) -> Result<&'a Span> {
    let mut found = spans.iter().filter(|s| s.name == name);
    let first = found.next().with_context(|| format!("no span {name}"))?;
    ensure!(found.next().is_none(), "more than one span {name}");
    Ok(first)
}

/// The value of an attribute.
pub fn value(attributes: &[KeyValue], key: &str) -> Result<Any> {
    let attribute =
        attributes.iter().find(|a| a.key == key).with_context(|| format!("no attribute {key}"))?;
    attribute.value.clone().and_then(|v| v.value).with_context(|| format!("{key} has no value"))
}

/// A value that is text.
pub fn text(text: &str) -> Any {
    Any::StringValue(text.to_owned())
}

/// The attributes of every type, which each client sets on one span.
pub fn check_every_type(attributes: &[KeyValue], integers: Integers) -> Result<()> {
    let array = |values: Vec<Any>| {
        let values = values.into_iter().map(|v| AnyValue { value: Some(v) });
        Any::ArrayValue(ArrayValue { values: values.collect() })
    };
    let wanted = [
        ("t.string", text("text")),
        ("t.empty", text("")),
        ("t.unicode", text("Grüße, 世界 \u{1f600} \u{0} end")),
        ("t.large", text(&"x".repeat(LARGE_BYTES as usize))),
        ("t.int", Any::IntValue(-42)),
        ("t.int.min", Any::IntValue(integers.0)),
        ("t.int.max", Any::IntValue(integers.1)),
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

/// The exception that a span recorded: its type, and what its message begins with.
pub fn check_exception(span: &Span, kind: &str, message: &str) -> Result<()> {
    let event = span.events.iter().find(|e| e.name == "exception").context("no exception")?;
    ensure!(value(&event.attributes, "exception.type")? == text(kind), "{event:?}");
    ensure!(value(&event.attributes, "exception.message")? == text(message), "{event:?}");
    Ok(())
}

/// Every resource of a trace has what `OTEL_RESOURCE_ATTRIBUTES` says, and nothing else is missing from the answer.
pub fn check_trace(api: &Api, trace_id: &str) -> Result<()> {
    let answer = api.json(&format!("/api/v1/traces/{trace_id}"))?;
    ensure!(answer["state"] == "final", "{trace_id} is {}", answer["state"]);
    ensure!(answer["complete"] == true, "{trace_id}: {answer}");
    ensure!(answer["anomalies"].as_array().is_some_and(Vec::is_empty), "{}", answer["anomalies"]);
    let resources = answer["trace"]["resourceSpans"].as_array().context("no resourceSpans")?;
    ensure!(!resources.is_empty(), "{trace_id} has no spans");
    for resource in resources {
        let attributes = resource["resource"]["attributes"].as_array().context("no attributes")?;
        for (key, wanted) in [("deployment.environment.name", "test"), ("service.version", "1.0")] {
            let found: Vec<&Value> = attributes.iter().filter(|a| a["key"] == key).collect();
            ensure!(found.len() == 1 && found[0]["value"]["stringValue"] == wanted, "{key}: {found:?}");
        }
    }
    Ok(())
}
