//! Encodes the model's spans as OTLP and remembers where in the bytes their ids and times are.

use std::collections::BTreeMap;

use crate::model::{Kind, ModelSpan, SERVICES};

/// Where one span's changing fields lie in an encoded request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Spot {
    pub trace_id: u32,
    pub span_id: u32,
    /// 0 for a root.
    pub parent_id: u32,
    pub start: u32,
    pub end: u32,
    /// 0 for a span without an event.
    pub event: u32,
}

impl Spot {
    fn shifted(self, by: usize) -> Self {
        let by = by as u32;
        let optional = |at: u32| if at == 0 { 0 } else { at + by };
        Self {
            trace_id: self.trace_id + by,
            span_id: self.span_id + by,
            parent_id: optional(self.parent_id),
            start: self.start + by,
            end: self.end + by,
            event: optional(self.event),
        }
    }
}

/// One request, as a collector in front would send it: the spans of each pod together.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Encoded {
    pub bytes: Vec<u8>,
    pub spots: Vec<Spot>,
}

/// Encodes an `ExportTraceServiceRequest`.
pub fn request(spans: &[ModelSpan]) -> Encoded {
    let mut pods: BTreeMap<(usize, usize), Vec<&ModelSpan>> = BTreeMap::new();
    for span in spans {
        pods.entry((span.service, span.pod)).or_default().push(span);
    }
    let mut out =
        Encoded { bytes: Vec::with_capacity(spans.len() * 480), spots: Vec::with_capacity(spans.len()) };
    for ((service, pod), members) in pods {
        let (scope_bytes, scope_spots) = scope_spans(&members);
        let mut body = Vec::with_capacity(scope_bytes.len() + 1024);
        message(&mut body, 1, &resource(service, pod));
        let shift = message(&mut body, 2, &scope_bytes);
        text(&mut body, 3, "https://opentelemetry.io/schemas/1.37.0");
        let base = message(&mut out.bytes, 1, &body) + shift;
        out.spots.extend(scope_spots.iter().map(|s| s.shifted(base)));
    }
    out
}

fn scope_spans(members: &[&ModelSpan]) -> (Vec<u8>, Vec<Spot>) {
    let mut bytes = Vec::with_capacity(members.len() * 480);
    let mut spots = Vec::with_capacity(members.len());
    let mut scope = Vec::new();
    text(&mut scope, 1, "io.opentelemetry.instrumentation.grpc");
    text(&mut scope, 2, "2.20.1-alpha");
    message(&mut bytes, 1, &scope);
    for span in members {
        let (body, spot) = encode_span(span);
        let at = message(&mut bytes, 2, &body);
        spots.push(spot.shifted(at));
    }
    (bytes, spots)
}

fn encode_span(span: &ModelSpan) -> (Vec<u8>, Spot) {
    let mut out = Vec::with_capacity(512);
    let trace_id = message(&mut out, 1, &span.trace_id) as u32;
    let span_id = message(&mut out, 2, &span.span_id) as u32;
    let parent_id = span.parent_id.map_or(0, |parent| message(&mut out, 4, &parent) as u32);
    text(&mut out, 5, &span.operation);
    number(&mut out, 6, span.kind as u64);
    let start = fixed64(&mut out, 7, span.start_nanos) as u32;
    let end = fixed64(&mut out, 8, span.end_nanos) as u32;
    attributes(&mut out, span);
    let event = if span.event { event(&mut out, span) } else { 0 };
    let mut status = Vec::new();
    if span.error {
        text(&mut status, 2, "upstream request failed");
        number(&mut status, 3, 2);
    }
    message(&mut out, 15, &status);
    fixed32(&mut out, 16, 0x101);
    (out, Spot { trace_id, span_id, parent_id, start, end, event })
}

fn event(out: &mut Vec<u8>, span: &ModelSpan) -> u32 {
    let mut body = Vec::new();
    let time = fixed64(&mut body, 1, span.end_nanos);
    text(&mut body, 2, "exception");
    attribute(&mut body, 3, "exception.type", &Value::Text("io.grpc.StatusRuntimeException"));
    attribute(&mut body, 3, "exception.message", &Value::Text("UNAVAILABLE: upstream connect error"));
    (message(out, 11, &body) + time) as u32
}

fn attributes(out: &mut Vec<u8>, span: &ModelSpan) {
    let draw = span.draw;
    let peer = SERVICES[(draw % 30) as usize];
    let address = format!("{peer}.shop.svc.cluster.local");
    let mut add = |key: &str, value: Value<'_>| attribute(out, 9, key, &value);
    add("thread.id", Value::Number(20 + draw % 64));
    add("thread.name", Value::Text(&format!("grpc-default-executor-{}", draw % 64)));
    match span.kind {
        Kind::Server => {
            add("http.request.method", Value::Text("GET"));
            add("http.route", Value::Text("/api/v1/items/{id}"));
            add("url.path", Value::Text(&format!("/api/v1/items/{}", draw >> 40)));
            add("http.response.status_code", Value::Number(if span.error { 503 } else { 200 }));
            add(
                "client.address",
                Value::Text(&format!("10.{}.{}.{}", draw & 63, draw >> 8 & 255, draw >> 16 & 255)),
            );
            add("network.protocol.version", Value::Text("1.1"));
            add("user_agent.original", Value::Text("grpc-java-netty/1.66.0 okhttp/4.12.0 (linux; x86_64)"));
        }
        Kind::Client if span.leaf => {
            add("db.system.name", Value::Text("postgresql"));
            add("db.namespace", Value::Text("shop"));
            add("db.operation.name", Value::Text("SELECT"));
            let query =
                format!("SELECT id, name, price, stock FROM items WHERE id = {} AND region = $1", draw >> 44);
            add("db.query.text", Value::Text(&query));
            add("server.address", Value::Text("pg-main.shop.svc.cluster.local"));
            add("server.port", Value::Number(5432));
        }
        Kind::Client => {
            add("rpc.system", Value::Text("grpc"));
            add("rpc.service", Value::Text(&format!("com.example.shop.{peer}.v1.ResolverService")));
            add("rpc.method", Value::Text("Resolve"));
            add("rpc.grpc.status_code", Value::Number(if span.error { 14 } else { 0 }));
            add("server.address", Value::Text(&address));
            add("server.port", Value::Number(8080));
            add("network.type", Value::Text("ipv4"));
        }
        Kind::Producer | Kind::Consumer => {
            add("messaging.system", Value::Text("kafka"));
            add("messaging.destination.name", Value::Text("shop.events"));
            add("messaging.destination.partition.id", Value::Text(&(draw % 12).to_string()));
            add("messaging.kafka.offset", Value::Number(draw >> 30));
            add("messaging.operation.type", Value::Text("process"));
            add("server.address", Value::Text("kafka.shop.svc.cluster.local"));
            add("messaging.client.id", Value::Text("consumer-1"));
        }
        Kind::Internal => {
            add("code.function.name", Value::Text("com.example.shop.pricing.RuleEngine.evaluate"));
            add("code.file.path", Value::Text("src/main/java/com/example/shop/pricing/RuleEngine.java"));
            add("code.line.number", Value::Number(draw % 900));
            add("app.user.tier", Value::Text(["free", "silver", "gold"][(draw % 3) as usize]));
            add("app.cache.hit", Value::Flag(draw.is_multiple_of(5)));
            add("app.items", Value::Number(draw % 40));
            add("app.region", Value::Text("eu-central-1"));
        }
    }
    if span.parent_id.is_none() {
        add("app.request.id", Value::Text(&format!("{draw:032x}")));
    }
}

fn resource(service: usize, pod: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(768);
    let name = SERVICES[service];
    let pod_name = format!("{name}-7c9d8b6f5-{:05x}", (service * 7919 + pod * 104_729) & 0xf_ffff);
    let mut add = |key: &str, value: &str| attribute(&mut out, 1, key, &Value::Text(value));
    add("service.name", name);
    add("service.namespace", "shop");
    add("service.version", &format!("1.{}.0", service % 9));
    add("service.instance.id", &format!("{:08x}-0000-4000-8000-{pod:012x}", service * 7919));
    add("deployment.environment.name", "production");
    add("telemetry.sdk.name", "opentelemetry");
    add("telemetry.sdk.language", if service.is_multiple_of(3) { "go" } else { "java" });
    add("telemetry.sdk.version", "1.54.0");
    add("k8s.cluster.name", "eu-1");
    add("k8s.namespace.name", "shop");
    add("k8s.pod.name", &pod_name);
    add("k8s.node.name", &format!("node-{:02}", (service + pod * 5) % 12));
    add("host.arch", "amd64");
    out
}

enum Value<'a> {
    Text(&'a str),
    Number(u64),
    Flag(bool),
}

fn attribute(out: &mut Vec<u8>, field: u32, key: &str, value: &Value<'_>) {
    let mut any = Vec::with_capacity(64);
    match value {
        Value::Text(t) => text(&mut any, 1, t),
        Value::Flag(f) => number(&mut any, 2, u64::from(*f)),
        Value::Number(n) => number(&mut any, 3, *n),
    }
    let mut pair = Vec::with_capacity(96);
    text(&mut pair, 1, key);
    message(&mut pair, 2, &any);
    message(out, field, &pair);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn tag(out: &mut Vec<u8>, field: u32, wire: u64) {
    varint(out, u64::from(field) << 3 | wire);
}

/// Appends a length-delimited field; returns where its content begins.
fn message(out: &mut Vec<u8>, field: u32, body: &[u8]) -> usize {
    tag(out, field, 2);
    varint(out, body.len() as u64);
    let at = out.len();
    out.extend_from_slice(body);
    at
}

fn text(out: &mut Vec<u8>, field: u32, value: &str) {
    message(out, field, value.as_bytes());
}

fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, 0);
    varint(out, value);
}

fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) -> usize {
    tag(out, field, 1);
    let at = out.len();
    out.extend_from_slice(&value.to_le_bytes());
    at
}

fn fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    tag(out, field, 5);
    out.extend_from_slice(&value.to_le_bytes());
}
