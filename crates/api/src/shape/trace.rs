//! A whole trace, or a page of a large one.

use std::collections::BTreeMap;

use otlp_wire::TracesJson;
use query::TraceAnswer;
use serde::Serialize;
use trace_model::{Anomaly, AnomalyKind, SpanId};

use super::{Completeness, Text};
use crate::cursor::write_span;

/// `GET /traces/{trace_id}` as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Trace<'a> {
    trace: TracesJson<'a>,
    state: &'static str,
    #[serde(flatten)]
    completeness: Completeness<'a>,
    anomalies: Vec<AnomalyShape>,
    anomaly_counts: BTreeMap<&'static str, u64>,
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct AnomalyShape {
    kind: &'static str,
    span_id: Text<SpanId>,
}

impl<'a> Trace<'a> {
    pub(crate) fn new(answer: &'a TraceAnswer) -> Self {
        let counts = AnomalyKind::ALL.into_iter().zip(answer.anomaly_counts);
        Self {
            trace: TracesJson(&answer.traces_data),
            state: answer.state.as_str(),
            completeness: Completeness::of(&answer.incomplete),
            anomalies: answer.anomalies.iter().map(AnomalyShape::from).collect(),
            anomaly_counts: counts
                .filter(|(_, count)| *count > 0)
                .map(|(kind, count)| (kind.as_str(), count))
                .collect(),
            next_cursor: answer.next.as_ref().map(write_span),
        }
    }
}

impl From<&Anomaly> for AnomalyShape {
    fn from(anomaly: &Anomaly) -> Self {
        Self { kind: anomaly.kind.as_str(), span_id: Text(anomaly.span_id) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};

    use super::*;
    use crate::fake;

    #[test]
    fn a_trace_has_this_shape() {
        let wanted = json!({
            "trace": {"resourceSpans": []}, "state": "open", "complete": false,
            "incomplete": [{"reason": "trace_open", "detail": "spans may still come"}],
            "anomalies": [{"kind": "missing_parent", "span_id": "00f067aa0ba902b7"}],
            "anomaly_counts": {"missing_parent": 1}, "next_cursor": null
        });
        assert_eq!(to_value(Trace::new(&fake::trace())).unwrap(), wanted);
    }
}
