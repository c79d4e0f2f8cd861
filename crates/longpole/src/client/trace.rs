//! `longpole trace ID`: one trace as a waterfall, with its critical path.

use std::io::Write;

use clap::Args;
use serde_json::Value;

use super::http::{ClientError, Server, path_part};
use super::model::{CriticalPath, as_nanos};
use super::screen::Screen;
use super::waterfall::{Bar, Waterfall};
use super::{Exit, Output, Params, Target};

/// Which trace, and how much of it.
#[derive(Debug, Clone, Args)]
pub(crate) struct TraceArgs {
    /// The trace's id: 32 hex digits, or 16
    #[arg(value_name = "ID")]
    pub(crate) trace_id: String,
    /// Show at most so many spans; the rest is counted
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub(crate) max_spans: usize,
    /// Server and format.
    #[command(flatten)]
    pub(crate) target: Target,
}

/// Asks and prints.
pub(super) fn run(args: &TraceArgs, screen: &Screen, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let server = Server::new(&args.target.server)?;
    let path = format!("/traces/{}", path_part(args.trace_id.trim()));
    if args.target.output == Output::Json {
        server.copy(&path, Params::default(), out)?;
        return Ok(Exit::Ok);
    }
    let body = server.get(&path, &Params::default())?;
    let critical_path = critical_path(&server, &path)?;
    let waterfall = Waterfall {
        trace_id: args.trace_id.trim().to_ascii_lowercase(),
        open: body["state"] == "open",
        incomplete: body["complete"] == Value::Bool(false),
        missing_parents: body["anomaly_counts"]["missing_parent"].as_u64().unwrap_or(0) as usize,
        bars: read_bars(&body["trace"]),
        critical_path,
        max_spans: args.max_spans.max(1),
    };
    waterfall.write(screen, out)?;
    Ok(Exit::Ok)
}

/// The critical path, or none where the trace has none (its root has not come).
fn critical_path(server: &Server, path: &str) -> Result<Option<CriticalPath>, ClientError> {
    let params = Params(vec![("max_segments", "1000".to_owned())]);
    match server.get(&format!("{path}/critical-path"), &params) {
        Ok(body) => server.read(body).map(Some),
        Err(ClientError::Refused { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// The spans of an OTLP/JSON trace.
pub(super) fn read_bars(trace: &Value) -> Vec<Bar> {
    let mut bars = Vec::new();
    for resource_spans in items(trace, "resourceSpans") {
        let service = items(&resource_spans["resource"], "attributes")
            .find(|attribute| attribute["key"] == "service.name")
            .and_then(|attribute| attribute["value"]["stringValue"].as_str())
            .unwrap_or("unknown_service");
        for scope_spans in items(resource_spans, "scopeSpans") {
            bars.extend(items(scope_spans, "spans").map(|span| read_bar(service, span)));
        }
    }
    bars
}

fn read_bar(service: &str, span: &Value) -> Bar {
    let text = |key: &str| span[key].as_str().unwrap_or_default().to_owned();
    let start = as_nanos(&span["startTimeUnixNano"]);
    let code = &span["status"]["code"];
    Bar {
        span_id: text("spanId"),
        parent: Some(text("parentSpanId")).filter(|id| id.chars().any(|c| c != '0')),
        service: service.to_owned(),
        operation: text("name"),
        start,
        end: as_nanos(&span["endTimeUnixNano"]).max(start),
        error: code.as_u64() == Some(2) || code == "STATUS_CODE_ERROR",
        message: span["status"]["message"].as_str().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn otlp_json_becomes_bars() {
        let trace: Value = serde_json::from_str(
            r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a"}}]},
            "scopeSpans":[{"spans":[{"spanId":"01","parentSpanId":"","name":"x","startTimeUnixNano":"5","endTimeUnixNano":9,
            "status":{"code":2,"message":"no"}}]}]}]}"#,
        )
        .unwrap();
        let bars = read_bars(&trace);
        assert_eq!(bars.len(), 1);
        assert_eq!((bars[0].service.as_str(), bars[0].start, bars[0].end), ("a", 5, 9));
        assert!(bars[0].error && bars[0].parent.is_none() && bars[0].message == "no");
        assert!(read_bars(&Value::Null).is_empty());
    }
}
