//! OTLP/JSON as files have it: requests, and traces as our own API answers with them.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// Under this the API's answer to a question for one trace has its spans.
const TRACE: &str = "trace";
/// Members of what is no OTLP/JSON that are named.
const NAMED_MAX: usize = 5;

/// The protobuf of one request.
///
/// # Errors
/// If it is no OTLP/JSON, or has no member for spans at all, as metrics, logs and other formats of traces have none.
pub(super) fn to_protobuf(json: &[u8]) -> Result<Vec<u8>, String> {
    let protobuf = otlp_wire::json_to_traces(json).map_err(|error| error.to_string())?;
    if !protobuf.is_empty() {
        return Ok(protobuf);
    }
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_slice(json).map_err(|error| error.to_string())?;
    if members.contains_key("resourceSpans") || members.contains_key("resource_spans") {
        return Ok(protobuf);
    }
    match members.get(TRACE).map(|trace| trace.get()) {
        Some(trace) if trace.starts_with('{') => {
            otlp_wire::json_to_traces(trace.as_bytes()).map_err(|error| format!("in `{TRACE}`: {error}"))
        }
        _ => Err(without_spans(&members)),
    }
}

fn without_spans(members: &BTreeMap<String, &RawValue>) -> String {
    let expected = r#"OTLP/JSON of traces is {"resourceSpans":[…]}"#;
    if members.is_empty() {
        return format!("no resourceSpans in it, it is empty; {expected}");
    }
    let mut named: Vec<&str> = members.keys().take(NAMED_MAX).map(String::as_str).collect();
    if members.len() > NAMED_MAX {
        named.push("…");
    }
    format!("no resourceSpans in it, but {}; {expected}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPANS: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"x"}]}]}]}"#;

    #[test]
    fn a_trace_as_the_api_answers_with_it_is_read_as_a_request_is() {
        let answer = format!(r#"{{"trace":{SPANS},"state":"finished","complete":true,"next_cursor":null}}"#);
        let wanted = otlp_wire::json_to_traces(SPANS.as_bytes()).unwrap();
        assert!(!wanted.is_empty());
        assert_eq!(to_protobuf(answer.as_bytes()), Ok(wanted.clone()));
        assert_eq!(to_protobuf(SPANS.as_bytes()), Ok(wanted));
        let wrong = to_protobuf(br#"{"trace":{"resourceSpans":7}}"#).unwrap_err();
        assert!(wrong.starts_with("in `trace`: "), "{wrong}");
    }

    #[test]
    fn no_spans_is_a_request_and_no_member_for_spans_is_none() {
        for empty in
            [r#"{"resourceSpans":[]}"#, r#"{"resource_spans":[]}"#, r#"{"trace":{"resourceSpans":[]}}"#]
        {
            assert_eq!(to_protobuf(empty.as_bytes()), Ok(Vec::new()), "{empty}");
        }
        for (other, named) in [
            (r#"{"data":[{"traceID":"1"}]}"#, "but data;"),
            (r#"{"batches":[]}"#, "but batches;"),
            (r#"{"resourceMetrics":[{}],"a":1}"#, "but a, resourceMetrics;"),
            (r#"{"trace":"x"}"#, "but trace;"),
            ("{}", "it is empty;"),
        ] {
            let reason = to_protobuf(other.as_bytes()).unwrap_err();
            assert!(reason.starts_with("no resourceSpans in it") && reason.contains(named), "{reason}");
        }
    }
}
