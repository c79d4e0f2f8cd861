//! The routes over a fake backend.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::fake::Fake;
use crate::{ApiState, BuildInfo, Counter, router, schema};

const TRACE: &str = "/api/v1/traces/4bf92f3577b34da6a3ce929d0e0e4736";

fn state(fake: Fake) -> ApiState {
    let counters = || vec![Counter::new("spans_accepted", "Spans taken in.", 5)];
    let build = BuildInfo { version: "0.1.0".into(), commit: None };
    ApiState::new(Arc::new(fake), Arc::new(counters), build)
}

async fn send(fake: Fake, request: Request<Body>) -> Response<Body> {
    router(state(fake)).oneshot(request).await.unwrap()
}

async fn get(fake: Fake, uri: &str) -> (StatusCode, Vec<u8>) {
    let response = send(fake, Request::get(uri).body(Body::empty()).unwrap()).await;
    (response.status(), body(response).await)
}

async fn body(response: Response<Body>) -> Vec<u8> {
    response.into_body().collect().await.unwrap().to_bytes().to_vec()
}

async fn get_json(fake: Fake, uri: &str) -> (u16, Value) {
    let (status, body) = get(fake, uri).await;
    (status.as_u16(), serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn every_answer_has_the_shape_that_is_described() {
    for (uri, name) in [
        ("/api/v1/services", "Services"),
        ("/api/v1/services/check%20out%2F%C3%A4/operations?kind=server", "Operations"),
        ("/api/v1/traces?service=checkout&min_duration=1.5s&start=now-15m", "Traces"),
        (TRACE, "Trace"),
        (&format!("{TRACE}/critical-path?extent=trace&overrun=auto"), "CriticalPath"),
        ("/api/v1/latency?step=1m", "Latency"),
        ("/api/v1/bottlenecks?group_by=operation&what_if=0.25", "Bottlenecks"),
        ("/api/v1/status", "Status"),
    ] {
        let (status, answer) = get_json(Fake::Well, uri).await;
        assert_eq!(status, 200, "{uri}: {answer}");
        schema::check(name, &answer);
    }
}

#[tokio::test]
async fn a_service_in_the_path_is_decoded() {
    let (_, answer) = get_json(Fake::Well, "/api/v1/services/check%20out%2F%C3%A4/operations").await;
    assert_eq!(answer["operations"][0]["name"], "PlaceOrder");
    let (status, answer) = get_json(Fake::Well, "/api/v1/services/unknown/operations").await;
    assert_eq!((status, &answer["operations"]), (200, &Value::Array(Vec::new())));
}

#[tokio::test]
async fn what_clients_get_wrong_is_said_in_json() {
    for (uri, status, code, parameter) in [
        ("/api/v1/traces?limit=0", 400, "invalid_parameter", "limit"),
        ("/api/v1/traces?limt=5", 400, "unknown_parameter", "limt"),
        ("/api/v1/traces?attr=http.status_code%3E%3D500", 400, "not_supported", "attr"),
        ("/api/v1/traces?cursor=rubbish", 400, "invalid_parameter", "cursor"),
        ("/api/v1/services?cursor=rubbish", 400, "invalid_parameter", "cursor"),
        ("/api/v1/status?x=1", 400, "unknown_parameter", "x"),
        ("/api/v1/openapi.json?x=1", 400, "unknown_parameter", "x"),
        ("/api/v1/traces/xyz", 400, "invalid_parameter", "trace_id"),
        ("/api/v1/traces/00000000000000000000000000000000", 400, "invalid_parameter", "trace_id"),
        ("/api/v1/services/%FF/operations", 400, "invalid_parameter", "service"),
        ("/api/v1/bottlenecks?band=tail", 400, "not_supported", "band"),
        ("/api/v1/traces/a3ce929d0e0e4736", 404, "trace_not_found", ""),
        ("/api/v1/traces/a3ce929d0e0e4736/critical-path", 404, "trace_not_found", ""),
        ("/api/v1/heatmap?service=a", 404, "not_implemented", ""),
        ("/api/v1/slos/checkout", 404, "not_implemented", ""),
        ("/api/v1/attributes/http.method/values", 404, "not_implemented", ""),
        ("/api/v2/traces", 404, "not_found", ""),
    ] {
        let (found, answer) = get_json(Fake::Well, uri).await;
        let error = &answer["error"];
        assert_eq!((found, error["code"].as_str()), (status, Some(code)), "{uri}: {answer}");
        assert_eq!(error["parameter"].as_str().unwrap_or_default(), parameter, "{uri}");
        schema::check("Error", &answer);
    }
}

#[tokio::test]
async fn another_method_is_refused() {
    let request = Request::post("/api/v1/traces").body(Body::empty()).unwrap();
    let response = send(Fake::Well, request).await;
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()[header::ALLOW], "GET,HEAD");
    let answer: Value = serde_json::from_slice(&body(response).await).unwrap();
    assert_eq!(answer["error"]["code"], "method_not_allowed");
}

#[tokio::test]
async fn faults_of_the_server_say_so_and_no_more() {
    let (status, answer) = get_json(Fake::Broken, "/api/v1/traces").await;
    assert_eq!((status, answer["error"]["code"].as_str()), (500, Some("store")));
    assert!(!answer.to_string().contains("secret"));
    for uri in ["/api/v1/traces", "/readyz"] {
        let (status, answer) = get_json(Fake::Panicking, uri).await;
        assert_eq!((status, answer["error"]["code"].as_str()), (500, Some("internal")), "{uri}");
    }
}

#[tokio::test]
async fn while_recovering_answers_say_that_they_lack_something() {
    for uri in [
        "/api/v1/services",
        "/api/v1/services/checkout/operations",
        "/api/v1/traces",
        TRACE,
        &format!("{TRACE}/critical-path"),
        "/api/v1/latency",
        "/api/v1/bottlenecks",
    ] {
        let (status, answer) = get_json(Fake::Recovering, uri).await;
        assert_eq!((status, &answer["complete"]), (200, &Value::Bool(false)), "{uri}");
        let why = answer["incomplete"].as_array().unwrap().last().unwrap();
        assert_eq!(why["reason"], "recovering", "{uri}");
        assert!(why["detail"].as_str().unwrap().contains("3 of 40 frames"), "{uri}");
    }
}

#[tokio::test]
async fn while_recovering_what_cannot_be_said_honestly_is_to_be_asked_again() {
    let other = "/api/v1/traces/a3ce929d0e0e4736";
    let other_path = format!("{other}/critical-path");
    for (uri, accept) in
        [("/readyz", "*/*"), (other, "*/*"), (&other_path, "*/*"), (TRACE, "application/x-protobuf")]
    {
        let request = Request::get(uri).header(header::ACCEPT, accept).body(Body::empty()).unwrap();
        let response = send(Fake::Recovering, request).await;
        assert_eq!(response.status(), 503, "{uri}");
        assert_eq!(response.headers()[header::RETRY_AFTER], "1", "{uri}");
        let answer: Value = serde_json::from_slice(&body(response).await).unwrap();
        assert!(answer["error"]["message"].as_str().unwrap().contains("replaying the log"), "{uri}");
    }
    assert_eq!(get(Fake::Recovering, "/healthz").await, (StatusCode::OK, b"ok\n".to_vec()));
    assert_eq!(get(Fake::Well, "/readyz").await, (StatusCode::OK, b"ready\n".to_vec()));
}

#[tokio::test]
async fn over_the_bound_queries_are_turned_away_and_health_is_not() {
    let router = router(state(Fake::Slow).with_concurrency(1));
    let request = |uri| Request::get(uri).body(Body::empty()).unwrap();
    let first = tokio::spawn(router.clone().oneshot(request("/api/v1/services")));
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let second = router.clone().oneshot(request("/api/v1/services")).await.unwrap();
    assert_eq!(
        (second.status(), &second.headers()[header::RETRY_AFTER]),
        (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap())
    );
    assert_eq!(router.oneshot(request("/metrics")).await.unwrap().status(), 200);
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_trace_comes_as_protobuf_if_asked_for() {
    let request = |accept| Request::get(TRACE).header(header::ACCEPT, accept).body(Body::empty()).unwrap();
    let response = send(Fake::Well, request("application/x-protobuf")).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/x-protobuf");
    let response = send(Fake::Well, request("application/json, */*;q=0.1")).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    assert_eq!(send(Fake::Well, request("text/html")).await.status(), 406);
}

#[tokio::test]
async fn answers_are_compressed_and_indented_if_asked_for() {
    for coding in ["gzip", "zstd"] {
        let request = Request::get("/api/v1/traces").header(header::ACCEPT_ENCODING, coding);
        let response = send(Fake::Well, request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.headers()[header::CONTENT_ENCODING], coding);
    }
    let (_, plain) = get(Fake::Well, "/api/v1/services").await;
    let (_, pretty) = get(Fake::Well, "/api/v1/services?pretty=true").await;
    assert!(!plain.contains(&b'\n') && pretty.starts_with(b"{\n  \"services\""));
}

#[tokio::test]
async fn metrics_come_in_the_format_that_the_scraper_prefers() {
    let prometheus =
        "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.4,*/*;q=0.1";
    let request =
        |accept| Request::get("/metrics").header(header::ACCEPT, accept).body(Body::empty()).unwrap();
    let response = send(Fake::Well, request(prometheus)).await;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(response.headers()[header::CONTENT_TYPE], content_type);
    let text = String::from_utf8(body(response).await).unwrap();
    assert!(text.contains("\nlongpole_spans_accepted_total 5\n") && text.ends_with("# EOF\n"));
    for accept in ["*/*", "text/html"] {
        let response = send(Fake::Well, request(accept)).await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
    }
}

/// Every status and content type that a path can answer with, whatever the client did.
#[tokio::test]
async fn statuses_and_content_types_are_described() {
    let document = crate::openapi();
    for (fake, uri, path, accept) in [
        (Fake::Well, "/healthz", "/healthz", "*/*"),
        (Fake::Well, "/readyz", "/readyz", "*/*"),
        (Fake::Recovering, "/readyz", "/readyz", "*/*"),
        (Fake::Well, "/metrics", "/metrics", "text/plain"),
        (Fake::Well, "/metrics", "/metrics", "application/openmetrics-text"),
        (Fake::Well, "/api/v1/openapi.json?pretty=false", "/api/v1/openapi.json", "*/*"),
        (Fake::Well, "/api/v1/openapi.json?x=1", "/api/v1/openapi.json", "*/*"),
        (Fake::Well, TRACE, "/api/v1/traces/{trace_id}", "application/x-protobuf"),
        (Fake::Well, TRACE, "/api/v1/traces/{trace_id}", "text/html"),
        (Fake::Well, "/api/v1/traces/a3ce929d0e0e4736", "/api/v1/traces/{trace_id}", "*/*"),
        (Fake::Recovering, "/api/v1/traces/a3ce929d0e0e4736", "/api/v1/traces/{trace_id}", "*/*"),
    ] {
        let request = Request::get(uri).header(header::ACCEPT, accept).body(Body::empty()).unwrap();
        let response = send(fake, request).await;
        let content_type = response.headers()[header::CONTENT_TYPE].to_str().unwrap();
        let media_type = content_type.split(';').next().unwrap();
        let described = &document["paths"][path]["get"]["responses"][response.status().as_str()];
        assert!(
            described["content"].get(media_type).is_some(),
            "{uri} as {accept}: {} {media_type} is not described",
            response.status()
        );
    }
}

#[tokio::test]
async fn the_first_page_lists_what_there_is() {
    let (status, page) = get(Fake::Well, "/").await;
    let page = String::from_utf8(page).unwrap();
    assert_eq!(status, 200);
    for path in ["/api/v1/traces", "/api/v1/bottlenecks", "/metrics", "/api/v1/openapi.json"] {
        assert!(page.contains(path), "{path}");
    }
    let (status, document) = get_json(Fake::Well, "/api/v1/openapi.json").await;
    assert_eq!((status, document), (200, crate::openapi()));
}
