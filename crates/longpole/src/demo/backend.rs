//! What happens inside the services behind the frontend.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::recorder::{MICROS, MILLIS, Recorder, Rpc, Statement, Step};
use super::services::{Service, int, text};

const REDIS_GET: Statement = Statement {
    system: "redis",
    server: "cart-redis",
    operation: "HGETALL",
    collection: "cart",
    query: "HGETALL cart:?",
};
const REDIS_SET: Statement = Statement { operation: "HSET", query: "HSET cart:? ? ?", ..REDIS_GET };
const PRODUCTS: Statement = Statement {
    system: "postgresql",
    server: "catalog-db",
    operation: "SELECT",
    collection: "products",
    query: "SELECT id, name, price_units, currency FROM products WHERE category = $1 ORDER BY rank LIMIT 24",
};
const PRODUCT: Statement = Statement { query: "SELECT * FROM products WHERE id = $1", ..PRODUCTS };
const STOCK: Statement = Statement {
    system: "postgresql",
    server: "inventory-db",
    operation: "SELECT",
    collection: "stock",
    query: "SELECT on_hand, reserved FROM stock WHERE sku = $1",
};
const RESERVE: Statement = Statement {
    operation: "UPDATE",
    query: "UPDATE stock SET reserved = reserved + $2 WHERE sku = $1 AND on_hand - reserved >= $2",
    ..STOCK
};
const SHIPMENT: Statement = Statement {
    system: "mysql",
    server: "shipping-db",
    operation: "INSERT",
    collection: "shipments",
    query: "INSERT INTO shipments (order_id, carrier, address_id) VALUES (?, ?, ?)",
};
/// A charge is tried so often, with a pause that doubles.
const CHARGE_ATTEMPTS: u32 = 3;
const FIRST_BACK_OFF: u64 = 60 * MILLIS;
/// How often of a thousand the bank's gateway is not there.
const GATEWAY_AWAY: u32 = 120;

/// What the world is like at the moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    /// The inventory's database waits for locks.
    pub(super) inventory_slow: bool,
}

pub(super) fn list_products(recorder: &mut Recorder, here: usize, at: u64) -> Step {
    // Now and then the cache is cold.
    let median = if recorder.chance(15) { 85 * MILLIS } else { 6 * MILLIS };
    let read = recorder.query(here, PRODUCTS, at, median);
    Ok(read + recorder.about(1_500 * MICROS))
}

pub(super) fn get_product(recorder: &mut Recorder, here: usize, at: u64) -> Step {
    let read = recorder.query(here, PRODUCT, at, 1_800 * MICROS);
    Ok(read + recorder.about(250 * MICROS))
}

pub(super) fn get_cart(recorder: &mut Recorder, here: usize, at: u64) -> Step {
    let read = recorder.query(here, REDIS_GET, at, 500 * MICROS);
    Ok(read + recorder.about(300 * MICROS))
}

pub(super) fn write_cart(recorder: &mut Recorder, here: usize, at: u64) -> Step {
    let written = recorder.query(here, REDIS_SET, at, 700 * MICROS);
    Ok(written + recorder.about(300 * MICROS))
}

/// Recommendations: a model, and the products that it names.
pub(super) fn recommend(recorder: &mut Recorder, here: usize, at: u64) -> Step {
    let rpc = Rpc(Service::Recommendation, "shop.Recommendation", "List");
    recorder.call(here, rpc, at, |recorder, here, at| {
        let service = recorder.service(here);
        let attributes = vec![text("shop.model.name", "als-2026-05"), int("shop.model.candidates", 200)];
        let model = recorder.open(service, Some(here), "rank candidates", SpanKind::Internal, at, attributes);
        let ranked = at + recorder.spread(11 * MILLIS, 0.5);
        recorder.close(model, ranked);
        recorder.call(here, Rpc(Service::Catalog, "shop.Catalog", "ListProducts"), ranked, list_products)
    })
}

pub(super) fn stock(recorder: &mut Recorder, here: usize, at: u64, weather: &Weather) -> Step {
    let median = if weather.inventory_slow { 160 * MILLIS } else { 2_500 * MICROS };
    let read = recorder.query(here, STOCK, at, median);
    Ok(read + recorder.about(400 * MICROS))
}

pub(super) fn reserve(recorder: &mut Recorder, here: usize, at: u64, weather: &Weather) -> Step {
    let median = if weather.inventory_slow { 420 * MILLIS } else { 5 * MILLIS };
    let read = stock(recorder, here, at, weather)?;
    let reserved = recorder.query(here, RESERVE, read, median);
    Ok(reserved + recorder.about(400 * MICROS))
}

pub(super) fn quote(recorder: &mut Recorder, _: usize, at: u64) -> Step {
    Ok(at + recorder.about(3 * MILLIS))
}

pub(super) fn score(recorder: &mut Recorder, here: usize, at: u64) -> Step {
    let service = recorder.service(here);
    let model = recorder.open(service, Some(here), "evaluate rules", SpanKind::Internal, at, Vec::new());
    let done = at + recorder.spread(24 * MILLIS, 0.45);
    recorder.close(model, done);
    Ok(done + recorder.about(500 * MICROS))
}

pub(super) fn ship(recorder: &mut Recorder, here: usize, at: u64) -> Step {
    let written = recorder.query(here, SHIPMENT, at, 4 * MILLIS);
    Ok(written + recorder.about(MILLIS))
}

/// Charges the card; when the bank is away, waits and tries again.
pub(super) fn charge_with_retries(recorder: &mut Recorder, here: usize, at: u64) -> Step {
    let mut at = at;
    let mut pause = FIRST_BACK_OFF;
    for attempt in 1..=CHARGE_ATTEMPTS {
        let last = attempt == CHARGE_ATTEMPTS;
        let rpc = Rpc(Service::Payment, "shop.Payment", "Charge");
        let charged = recorder.call(here, rpc, at, |r, s, at| {
            r.note(s, int("shop.charge.attempt", i64::from(attempt)));
            charge(r, s, at, !last)
        });
        match charged {
            Ok(done) => return Ok(done),
            Err(failed) if last => return Err(failed),
            Err(failed) => {
                let attributes = vec![int("retry.attempt", i64::from(attempt))];
                recorder.event(here, failed, "retry after back-off", attributes);
                at = failed + recorder.about(pause);
                pause *= 2;
            }
        }
    }
    Err(at)
}

fn charge(recorder: &mut Recorder, here: usize, at: u64, may_fail: bool) -> Step {
    let attributes = vec![
        text("http.request.method", "POST"),
        text("url.full", "https://gateway.bank.example/v2/charges"),
        text("server.address", "gateway.bank.example"),
        int("server.port", 443),
    ];
    let service = recorder.service(here);
    let span = recorder.open(service, Some(here), "POST", SpanKind::Client, at, attributes);
    if may_fail && recorder.chance(GATEWAY_AWAY) {
        let failed = at + recorder.about(18 * MILLIS);
        recorder.note(span, int("http.response.status_code", 503));
        recorder.fail(span, "503 Service Unavailable");
        recorder.close(span, failed);
        recorder.throw(here, failed, "GatewayUnavailable", "the bank's gateway answered 503");
        return Err(failed + recorder.about(300 * MICROS));
    }
    let done = at + recorder.spread(55 * MILLIS, 0.4);
    recorder.note(span, int("http.response.status_code", 200));
    recorder.close(span, done);
    Ok(done + recorder.about(600 * MICROS))
}

/// Announces the order; the email service takes it up later, when the customer has long had the
/// answer.
pub(super) fn publish_order(recorder: &mut Recorder, here: usize, at: u64) -> u64 {
    let attributes = |operation: &str| {
        vec![
            text("messaging.system", "kafka"),
            text("messaging.destination.name", "orders"),
            text("messaging.operation.type", operation),
            text("server.address", "kafka"),
        ]
    };
    let service = recorder.service(here);
    let sent = recorder.open(service, Some(here), "send orders", SpanKind::Producer, at, attributes("send"));
    let published = at + recorder.about(1_200 * MICROS);
    recorder.close(sent, published);
    let taken = published + recorder.spread(90 * MILLIS, 0.6);
    let mut process_attributes = attributes("process");
    process_attributes.push(text("messaging.consumer.group.name", "email"));
    let process = recorder.open(
        Service::Email,
        Some(sent),
        "process orders",
        SpanKind::Consumer,
        taken,
        process_attributes,
    );
    let composed = taken + recorder.about(8 * MILLIS);
    let smtp_attributes = vec![text("server.address", "smtp.example"), int("server.port", 587)];
    let smtp = recorder.open(
        Service::Email,
        Some(process),
        "smtp send",
        SpanKind::Client,
        composed,
        smtp_attributes,
    );
    let mailed = composed + recorder.spread(140 * MILLIS, 0.35);
    recorder.close(smtp, mailed);
    let done = mailed + recorder.about(MILLIS);
    recorder.close(process, done);
    published
}
