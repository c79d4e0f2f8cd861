//! The schemas of answers, for the API's description. Tests compare them with what is written.

use serde_json::{Map, Value, json};

fn string() -> Value {
    json!({ "type": "string" })
}

fn integer() -> Value {
    json!({ "type": "integer", "format": "int64", "minimum": 0 })
}

fn number() -> Value {
    json!({ "type": "number" })
}

fn boolean() -> Value {
    json!({ "type": "boolean" })
}

/// Nanoseconds since 1970, as a decimal string.
fn instant() -> Value {
    json!({ "type": "string", "pattern": "^[0-9]+$" })
}

fn hex(digits: u32) -> Value {
    json!({ "type": "string", "pattern": format!("^[0-9a-f]{{{digits}}}$") })
}

fn words(words: &[&str]) -> Value {
    json!({ "type": "string", "enum": words })
}

fn kind() -> Value {
    words(&["unspecified", "internal", "server", "client", "producer", "consumer"])
}

fn list(of: Value) -> Value {
    json!({ "type": "array", "items": of })
}

fn nullable(of: Value) -> Value {
    json!({ "anyOf": [of, { "type": "null" }] })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// An object whose properties are all there, except those whose name ends with `?`.
fn object<const N: usize>(properties: [(&str, Value); N]) -> Value {
    let required: Vec<&str> =
        properties.iter().map(|(name, _)| *name).filter(|name| !name.ends_with('?')).collect();
    let map: Map<String, Value> = properties
        .iter()
        .map(|(name, schema)| (name.trim_end_matches('?').to_owned(), schema.clone()))
        .collect();
    json!({ "type": "object", "properties": map, "required": required })
}

/// The object with `complete` and `incomplete`.
fn searched(mut object: Value) -> Value {
    object["properties"]["complete"] = boolean();
    object["properties"]["incomplete"] = list(reference("Incomplete"));
    if let Some(required) = object["required"].as_array_mut() {
        required.push("complete".into());
    }
    object
}

fn incomplete() -> Value {
    let mut object = object([("reason", string()), ("detail", string())]);
    object["description"] = json!(
        "Why an answer may lack something; recovering: after a start the log is still being replayed, /readyz says how far."
    );
    object
}

/// All schemas by name.
pub(crate) fn all() -> Value {
    json!({
        "Error": error(),
        "Incomplete": incomplete(),
        "Scanned": object([("segments", integer()), ("rows", integer()), ("blocks", integer())]),
        "Edge": object([("client", string()), ("server", string())]),
        "Operation": object([("service", string()), ("operation", string()), ("kind", kind())]),
        "Services": services(),
        "Operations": operations(),
        "Traces": traces(),
        "Trace": trace(),
        "CriticalPath": critical_path(),
        "Segment": segment(),
        "Root": object([("span_id", hex(16)), ("service", string()), ("operation", string())]),
        "Latency": latency(),
        "Bottlenecks": bottlenecks(),
        "Status": status(),
    })
}

fn error() -> Value {
    let inner = object([("code", string()), ("message", string()), ("parameter", nullable(string()))]);
    object([("error", inner)])
}

fn services() -> Value {
    let service = object([
        ("name", string()),
        ("spans", integer()),
        ("errors", integer()),
        ("first_seen_unix_nano", instant()),
        ("last_seen_unix_nano", instant()),
    ]);
    searched(object([("services", list(service)), ("next_cursor", nullable(string()))]))
}

fn operations() -> Value {
    let operation =
        object([("name", string()), ("kind", kind()), ("spans", integer()), ("errors", integer())]);
    searched(object([("operations", list(operation)), ("next_cursor", nullable(string()))]))
}

fn traces() -> Value {
    let matched = object([
        ("span_id", hex(16)),
        ("service", string()),
        ("operation", string()),
        ("kind", kind()),
        ("status", words(&["ok", "error", "unset"])),
        ("start_unix_nano", instant()),
        ("duration_nanos", integer()),
    ]);
    let service = object([("name", string()), ("spans", integer()), ("errors", integer())]);
    let hit = object([
        ("trace_id", hex(32)),
        ("root", nullable(reference("Operation"))),
        ("start_unix_nano", instant()),
        ("duration_nanos", integer()),
        ("spans", integer()),
        ("errors", integer()),
        ("services", list(service)),
        ("matched", nullable(matched)),
        ("state", words(&["open", "final"])),
        ("missing_parents", integer()),
    ]);
    searched(object([
        ("traces", list(hit)),
        ("next_cursor", nullable(string())),
        ("order", words(&["slowest", "newest"])),
        ("start_unix_nano", instant()),
        ("end_unix_nano", instant()),
        ("scanned", reference("Scanned")),
    ]))
}

fn trace() -> Value {
    let anomaly = object([("kind", string()), ("span_id", hex(16))]);
    searched(object([
        ("trace", json!({ "type": "object", "description": "OTLP/JSON TracesData." })),
        ("state", words(&["open", "final"])),
        ("anomalies", list(anomaly)),
        ("anomaly_counts", json!({ "type": "object", "additionalProperties": integer() })),
        ("next_cursor", nullable(string())),
    ]))
}

fn segment() -> Value {
    object([
        ("span_id", hex(16)),
        ("service", string()),
        ("operation", string()),
        ("edge", nullable(reference("Edge"))),
        ("start_unix_nano", instant()),
        ("end_unix_nano", instant()),
    ])
}

fn critical_path() -> Value {
    let span = object([
        ("span_id", hex(16)),
        ("exclusive_nanos", integer()),
        ("inclusive_nanos", integer()),
        ("self_nanos", integer()),
        ("slack_nanos", nullable(integer())),
    ]);
    let share = object([
        ("service", string()),
        ("edge", nullable(reference("Edge"))),
        ("exclusive_nanos", integer()),
        ("share", number()),
    ]);
    let other = object([
        ("root", reference("Root")),
        ("start_unix_nano", instant()),
        ("end_unix_nano", instant()),
        ("duration_nanos", integer()),
        ("segments", list(reference("Segment"))),
        ("flags", list(string())),
    ]);
    searched(object([
        ("trace_id", hex(32)),
        ("state", words(&["open", "final"])),
        ("extent", words(&["response", "trace"])),
        ("overrun", words(&["clip", "auto", "exclude"])),
        ("root", reference("Root")),
        ("start_unix_nano", instant()),
        ("end_unix_nano", instant()),
        ("duration_nanos", integer()),
        ("segments", list(reference("Segment"))),
        ("spans", list(span)),
        ("by_service", list(share)),
        ("flags", list(string())),
        ("other_roots", list(other)),
        ("truncated", boolean()),
    ]))
}

fn latency() -> Value {
    let exemplar = object([
        ("quantile", number()),
        ("trace_id", hex(32)),
        ("span_id", hex(16)),
        ("duration_nanos", integer()),
        ("time_unix_nano", instant()),
    ]);
    let point = object([
        ("start_unix_nano", instant()),
        ("count", integer()),
        ("errors", integer()),
        ("values_nanos", list(integer())),
    ]);
    let series = object([
        ("service?", string()),
        ("operation?", string()),
        ("kind?", kind()),
        ("status?", words(&["ok", "error", "unset"])),
        ("count", integer()),
        ("errors", integer()),
        ("rate_per_second", number()),
        ("min_nanos", integer()),
        ("max_nanos", integer()),
        ("mean_nanos", integer()),
        ("values_nanos", list(integer())),
        ("low_confidence", list(boolean())),
        ("exemplars", list(exemplar)),
        ("points?", list(point)),
    ]);
    searched(object([
        ("quantiles", list(number())),
        ("relative_error_max", number()),
        ("start_unix_nano", instant()),
        ("end_unix_nano", instant()),
        ("step_nanos?", integer()),
        ("resolution_nanos", nullable(integer())),
        ("series", list(series)),
        ("truncated", boolean()),
    ]))
}

fn housekeeping() -> Value {
    let last = || ("last_unix_nano", nullable(instant()));
    let freed_rollups = object([("rollups", integer()), ("spans", integer()), ("bytes", integer()), last()]);
    let rollup = object([
        ("rollups", integer()),
        ("bytes", integer()),
        ("spans", integer()),
        ("traces", integer()),
        ("oldest_unix_nano", nullable(instant())),
        ("freed", freed_rollups),
    ]);
    let merged = object([
        ("partitions", integer()),
        ("segments_before", integer()),
        ("segments_after", integer()),
        ("failed", integer()),
    ]);
    let freed = object([
        ("partitions", integer()),
        ("segments", integer()),
        ("spans", integer()),
        ("bytes", integer()),
        last(),
    ]);
    let rollups = object([("minute", rollup.clone()), ("hour", rollup.clone()), ("day", rollup)]);
    let dictionaries = object([
        ("stored", integer()),
        ("trained", integer()),
        ("adopted", integer()),
        ("dropped", integer()),
        ("failed", integer()),
    ]);
    object([
        ("merged", merged),
        ("freed", freed),
        ("postponed", integer()),
        ("rollups", rollups),
        ("dictionaries", dictionaries),
    ])
}

fn bottlenecks() -> Value {
    let entry = object([
        ("count", integer()),
        ("errors", integer()),
        ("min_nanos", integer()),
        ("max_nanos", integer()),
        ("mean_nanos", integer()),
        ("p50_nanos", integer()),
        ("p90_nanos", integer()),
        ("p95_nanos", integer()),
        ("p99_nanos", integer()),
    ]);
    searched(object([
        ("start_unix_nano", instant()),
        ("end_unix_nano", instant()),
        ("resolution_nanos", nullable(integer())),
        ("traces", integer()),
        ("excluded", integer()),
        ("latency", entry),
        ("items", list(bottleneck_item())),
        ("other_share", number()),
        ("confidence", object([("flagged_share", number())])),
        ("scanned", reference("Scanned")),
    ]))
}

fn bottleneck_item() -> Value {
    let what_if = object([
        ("faster", number()),
        ("saving_mean_nanos", nullable(integer())),
        ("upper_bound_mean_nanos", integer()),
        ("p99_before_nanos", integer()),
        ("p99_after_nanos", nullable(integer())),
    ]);
    let exemplar =
        object([("trace_id", hex(32)), ("root_duration_nanos", integer()), ("cp_nanos", integer())]);
    object([
        ("service", string()),
        ("operation", nullable(string())),
        ("kind", nullable(kind())),
        ("edge", nullable(reference("Edge"))),
        ("cp_share", number()),
        ("cp_share_baseline", nullable(number())),
        ("cp_nanos", object([("mean", integer()), ("p50", integer()), ("p99", integer())])),
        ("presence", number()),
        ("amplification_nanos", json!({ "type": "integer", "format": "int64" })),
        ("calls_per_trace", number()),
        ("error_share", number()),
        ("what_if", what_if),
        ("call_path", nullable(list(string()))),
        ("flags", list(string())),
        ("exemplars", list(exemplar)),
    ])
}

fn status() -> Value {
    let store = object([
        ("segments", integer()),
        ("partitions", integer()),
        ("sealed_spans", integer()),
        ("live_spans", integer()),
        ("stored_bytes", integer()),
        ("log_bytes", integer()),
        ("bytes_last_day", integer()),
        ("oldest_unix_nano", nullable(instant())),
        ("reopened", integer()),
        ("torn_log_end", nullable(string())),
    ]);
    let disk = object([
        ("state", string()),
        ("free_bytes", integer()),
        ("total_bytes", integer()),
        ("free_min_bytes", integer()),
        ("ballast_bytes", integer()),
    ]);
    object([
        ("build", object([("version", string()), ("commit", nullable(string()))])),
        ("uptime_nanos", integer()),
        ("store", store),
        ("disk", disk),
        ("open", object([("traces", integer()), ("spans", integer())])),
        ("housekeeping", housekeeping()),
        ("counters", json!({ "type": "object", "additionalProperties": integer() })),
        ("damaged", list(string())),
        ("recovering", nullable(string())),
        ("refusing", list(string())),
    ])
}

/// Panics if `value` has other properties or types than the schema says. Knows what `all` uses.
#[cfg(test)]
pub(crate) fn check(name: &str, value: &Value) {
    let all = all();
    check_against(&all, &reference(name), value, name);
}

#[cfg(test)]
fn check_against(all: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return check_against(all, &all[name], value, at);
    }
    if let Some(first) = schema.get("anyOf") {
        if !value.is_null() {
            check_against(all, &first[0], value, at);
        }
        return;
    }
    match schema["type"].as_str().unwrap() {
        "object" => check_object(all, schema, value, at),
        "array" => {
            for item in value.as_array().unwrap_or_else(|| panic!("{at}: {value}")) {
                check_against(all, &schema["items"], item, at);
            }
        }
        "string" => assert!(value.is_string(), "{at}: {value}"),
        "boolean" => assert!(value.is_boolean(), "{at}: {value}"),
        "integer" => assert!(value.is_i64() || value.is_u64(), "{at}: {value}"),
        _ => assert!(value.is_number(), "{at}: {value}"),
    }
}

#[cfg(test)]
fn check_object(all: &Value, schema: &Value, value: &Value, at: &str) {
    let value = value.as_object().unwrap_or_else(|| panic!("{at}: {value}"));
    let Some(properties) = schema["properties"].as_object() else { return };
    for name in schema["required"].as_array().unwrap() {
        assert!(value.contains_key(name.as_str().unwrap()), "{at} lacks {name}");
    }
    for (name, inner) in value {
        let known = properties.get(name).unwrap_or_else(|| panic!("{at}.{name} is not in the schema"));
        check_against(all, known, inner, &format!("{at}.{name}"));
    }
}
