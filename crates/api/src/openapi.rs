//! The description of the API, made of the parameter tables and the schemas.

use serde_json::{Map, Value, json};

use crate::params::{DOCUMENT, Kind, Param, ROUTES, Route};
use crate::{metrics, schema};

const BAD_PARAMETER: &str =
    "A parameter is wrong, unknown or not built yet, or what it asks for is too large for one answer.";

/// The OpenAPI 3.1 document that `/api/v1/openapi.json` answers.
pub fn openapi() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        paths.insert(route.path.to_owned(), json!({ "get": operation(route) }));
    }
    paths.extend(of_the_process());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Longpole",
            "version": "1",
            "description": "Durations are integers in nanoseconds (_nanos), instants decimal strings (_unix_nano)."
        },
        "paths": paths,
        "components": { "schemas": schema::all() }
    })
}

/// What is no question about spans.
fn of_the_process() -> [(String, Value); 4] {
    let text = "text/plain";
    let not_ready = refusal("The log is being replayed, or spans are refused: the message says why.");
    let busy = refusal("Another scrape is being written: try again after Retry-After seconds.");
    [
        ("/healthz", system("Whether the process is alive.", &[text], &[], &[])),
        (
            "/readyz",
            system(
                "Whether answers have everything and spans are taken.",
                &[text],
                &[],
                &[("503", not_ready)],
            ),
        ),
        (
            "/metrics",
            system(
                "OpenMetrics 1.0, or Prometheus text, by Accept.",
                &[metrics::OPEN_TYPE, metrics::TEXT_TYPE],
                &[],
                &[("503", busy)],
            ),
        ),
        (
            DOCUMENT.path,
            system(
                DOCUMENT.about,
                &["application/json"],
                DOCUMENT.params,
                &[("400", refusal(BAD_PARAMETER))],
            ),
        ),
    ]
    .map(|(path, operation)| (path.to_owned(), json!({ "get": operation })))
}

fn system(about: &str, media_types: &[&str], params: &[Param], refusals: &[(&str, Value)]) -> Value {
    let content: Map<String, Value> =
        media_types.iter().map(|media_type| ((*media_type).to_owned(), json!({}))).collect();
    let mut responses = Map::new();
    responses.insert("200".to_owned(), json!({ "description": about, "content": content }));
    responses.extend(refusals.iter().map(|(status, refusal)| ((*status).to_owned(), refusal.clone())));
    let mut operation = json!({ "summary": about, "responses": responses });
    if !params.is_empty() {
        operation["parameters"] = params.iter().map(parameter).collect();
    }
    operation
}

fn refusal(about: &str) -> Value {
    json!({ "description": about, "content": { "application/json": { "schema": reference("Error") } } })
}

fn operation(route: &Route) -> Value {
    let in_path = route
        .path_params()
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    let in_query = route.params.iter().filter(|param| !matches!(param.kind, Kind::Later(_))).map(parameter);
    let mut responses = Map::new();
    responses.insert("200".to_owned(), json!({ "description": "The answer.", "content": content(route) }));
    for (status, about, is_there) in [
        ("400", BAD_PARAMETER, true),
        ("404", "There is no such trace.", route.path.contains("{trace_id}")),
        ("406", "Accept takes none of the content types.", has_protobuf(route)),
        ("503", "Overload, or start-up and not found yet: try again after Retry-After seconds.", true),
    ] {
        if is_there {
            responses.insert(status.to_owned(), refusal(about));
        }
    }
    json!({
        "operationId": route.id,
        "summary": route.about,
        "parameters": in_path.chain(in_query).collect::<Vec<_>>(),
        "responses": responses
    })
}

/// Whether there is a choice by Accept.
fn has_protobuf(route: &Route) -> bool {
    route.answer == "Trace"
}

fn content(route: &Route) -> Value {
    let mut content = json!({ "application/json": { "schema": reference(route.answer) } });
    if has_protobuf(route) {
        content[crate::respond::PROTOBUF] = json!({});
    }
    content
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn parameter(param: &Param) -> Value {
    let mut schema = schema_of(param.kind);
    let mut about = param.about.to_owned();
    match param.default {
        // These depend on the clock and on each other, so that no literal value says them.
        Some(default) if matches!(param.kind, Kind::Time) => about = format!("{about} Default: {default}."),
        Some(default) => schema["default"] = typed(param.kind, default),
        None => {}
    }
    json!({ "name": param.name, "in": "query", "description": about, "schema": schema })
}

fn typed(kind: Kind, default: &str) -> Value {
    match kind {
        Kind::Integer { .. } | Kind::Permille | Kind::Flag => {
            serde_json::from_str(default).unwrap_or(Value::Null)
        }
        _ => Value::from(default),
    }
}

fn schema_of(kind: Kind) -> Value {
    match kind {
        Kind::Text | Kind::Later(_) => json!({ "type": "string", "minLength": 1 }),
        Kind::Cursor => json!({ "type": "string" }),
        Kind::Time => json!({ "type": "string", "description": crate::params::time::TIME_FORMS }),
        Kind::Duration => json!({ "type": "string", "description": crate::params::time::DURATION_FORMS }),
        Kind::Word { built, .. } => json!({ "type": "string", "enum": built }),
        Kind::Words(words) => {
            json!({ "type": "string", "description": format!("Some of {}, with commas between.", words.join(", ")) })
        }
        Kind::Integer { least, most } => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Quantiles => {
            json!({ "type": "string", "description": "Numbers from 0 to 1, with commas between." })
        }
        Kind::Permille => json!({ "type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.001 }),
        Kind::Flag => json!({ "type": "boolean" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As cargo says it when the test runs; what was compiled in may be another clone's.
    fn committed() -> std::path::PathBuf {
        let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into());
        std::path::Path::new(&package).join("openapi.json")
    }

    #[test]
    fn the_committed_document_is_up_to_date() {
        let written = format!("{}\n", serde_json::to_string_pretty(&openapi()).unwrap());
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::write(committed(), &written).unwrap();
        }
        let committed = std::fs::read_to_string(committed()).unwrap_or_default();
        assert!(
            committed == written,
            "openapi.json is out of date: run the tests of api with UPDATE_OPENAPI=1"
        );
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = openapi();
        let text = document.to_string();
        for part in text.split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
        }
    }
}
