//! A whole trace.

use query::TraceAnswer;
use serde::Serialize;
use serde_json::Value;
use trace_model::{Anomaly, SpanId};

use super::{Completeness, Text};

/// `GET /traces/{trace_id}` as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Trace<'a> {
    trace: &'a Value,
    state: &'static str,
    #[serde(flatten)]
    completeness: Completeness<'a>,
    anomalies: Vec<AnomalyShape>,
}

#[derive(Debug, Serialize)]
struct AnomalyShape {
    kind: &'static str,
    span_id: Text<SpanId>,
}

impl<'a> Trace<'a> {
    /// `otlp` is the OTLP/JSON of `answer`'s spans.
    pub(crate) fn new(answer: &'a TraceAnswer, otlp: &'a Value) -> Self {
        Self {
            trace: otlp,
            state: answer.state.as_str(),
            completeness: Completeness::of(&answer.incomplete),
            anomalies: answer.anomalies.iter().map(AnomalyShape::from).collect(),
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
        let otlp = json!({"resourceSpans": []});
        let wanted = json!({
            "trace": {"resourceSpans": []}, "state": "open", "complete": false,
            "incomplete": [{"reason": "trace_open", "detail": "spans may still come"}],
            "anomalies": [{"kind": "missing_parent", "span_id": "00f067aa0ba902b7"}]
        });
        assert_eq!(to_value(Trace::new(&fake::trace(), &otlp)).unwrap(), wanted);
    }
}
