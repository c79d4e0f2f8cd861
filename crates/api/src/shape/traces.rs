//! Found traces.

use query::{MatchedSpan, TraceHit, TraceSearch, TraceSearchAnswer};
use serde::Serialize;
use trace_model::{SpanId, TraceId};

use super::{Completeness, OperationShape, ScannedShape, Text};
use crate::cursor::write_traces;

/// `GET /traces`.
#[derive(Debug, Serialize)]
pub(crate) struct Traces<'a> {
    traces: Vec<Hit<'a>>,
    next_cursor: Option<String>,
    order: &'static str,
    start_unix_nano: Text<u64>,
    end_unix_nano: Text<u64>,
    #[serde(flatten)]
    completeness: Completeness<'a>,
    scanned: ScannedShape,
}

impl<'a> Traces<'a> {
    pub(crate) fn new(search: &TraceSearch, answer: &'a TraceSearchAnswer) -> Self {
        Self {
            traces: answer.traces.iter().map(Hit::from).collect(),
            next_cursor: answer.next.as_ref().map(|at| write_traces(search, at)),
            order: search.order.as_str(),
            start_unix_nano: Text(search.window.start.0),
            end_unix_nano: Text(search.window.end.0),
            completeness: Completeness::of(&answer.incomplete),
            scanned: answer.scanned.into(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Hit<'a> {
    trace_id: Text<TraceId>,
    root: Option<OperationShape<'a>>,
    start_unix_nano: Text<u64>,
    duration_nanos: u64,
    spans: u64,
    errors: u64,
    services: Vec<ServiceShape<'a>>,
    matched: Option<Matched<'a>>,
    state: &'static str,
    missing_parents: u64,
}

#[derive(Debug, Serialize)]
struct ServiceShape<'a> {
    name: &'a str,
    spans: u64,
    errors: u64,
}

#[derive(Debug, Serialize)]
struct Matched<'a> {
    span_id: Text<SpanId>,
    #[serde(flatten)]
    operation: OperationShape<'a>,
    status: &'static str,
    start_unix_nano: Text<u64>,
    duration_nanos: u64,
}

impl<'a> From<&'a TraceHit> for Hit<'a> {
    fn from(hit: &'a TraceHit) -> Self {
        let service =
            |of: &'a query::TraceService| ServiceShape { name: &of.name, spans: of.spans, errors: of.errors };
        Self {
            trace_id: Text(hit.trace_id),
            root: hit.root.as_ref().map(OperationShape::from),
            start_unix_nano: Text(hit.start.0),
            duration_nanos: hit.duration.0,
            spans: hit.spans,
            errors: hit.errors,
            services: hit.services.iter().map(service).collect(),
            matched: hit.matched.as_ref().map(Matched::from),
            state: hit.state.as_str(),
            missing_parents: hit.missing_parents,
        }
    }
}

impl<'a> From<&'a MatchedSpan> for Matched<'a> {
    fn from(span: &'a MatchedSpan) -> Self {
        Self {
            span_id: Text(span.span_id),
            operation: (&span.operation).into(),
            status: span.status.as_str(),
            start_unix_nano: Text(span.start.0),
            duration_nanos: span.duration.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};

    use super::*;
    use crate::fake;

    #[test]
    fn found_traces_have_this_shape() {
        let answer = TraceSearchAnswer { next: None, ..fake::found() };
        let wanted = json!({
            "traces": [{
                "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
                "root": {"service": "frontend", "operation": "GET /checkout", "kind": "server"},
                "start_unix_nano": "1700000000000000000", "duration_nanos": 1204000000, "spans": 48, "errors": 1,
                "services": [{"name": "frontend", "spans": 9, "errors": 0}],
                "matched": {"span_id": "00f067aa0ba902b7", "service": "checkout", "operation": "PlaceOrder",
                    "kind": "server", "status": "error", "start_unix_nano": "1700000000000000100",
                    "duration_nanos": 981000000},
                "state": "final", "missing_parents": 0
            }],
            "next_cursor": null, "order": "slowest",
            "start_unix_nano": "1700000000000000000", "end_unix_nano": "1700000060000000000", "complete": true,
            "scanned": {"segments": 4, "rows": 1310, "blocks": 11}
        });
        assert_eq!(to_value(Traces::new(&fake::search(), &answer)).unwrap(), wanted);
    }

    #[test]
    fn a_trace_without_its_root_says_null() {
        let mut answer = fake::found();
        answer.traces[0].root = None;
        answer.traces[0].matched = None;
        let written = to_value(Traces::new(&fake::search(), &answer)).unwrap();
        assert_eq!(
            (&written["traces"][0]["root"], &written["traces"][0]["matched"]),
            (&json!(null), &json!(null))
        );
        assert!(written["next_cursor"].is_string());
    }
}
