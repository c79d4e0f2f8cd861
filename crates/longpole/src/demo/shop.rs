//! What happens in the shop on each kind of request, up to the services behind the frontend.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::backend::{self, Weather};
use super::recorder::{MICROS, MILLIS, Recorder, Rpc, SECONDS, ShopSpan, Step, join};
use super::services::{Service, double, int, text};

/// The inventory's database is slow for a minute of every four.
const WEATHER_PERIOD: u64 = 240 * SECONDS;
const STORM_FROM: u64 = 120 * SECONDS;
const STORM_TO: u64 = 180 * SECONDS;

const AGENTS: [&str; 3] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) Mobile/15E148",
    "ShopApp/7.2 (Android 15)",
];
const CURRENCIES: [&str; 4] = ["EUR", "USD", "GBP", "JPY"];

/// A kind of request: how often of a thousand, and what it is.
struct Route {
    weight: u32,
    method: &'static str,
    route: &'static str,
    work: fn(&mut Recorder, usize, u64, &Weather) -> Step,
}

const ROUTES: [Route; 5] = [
    Route { weight: 300, method: "GET", route: "/", work: home },
    Route { weight: 390, method: "GET", route: "/product/{id}", work: product },
    Route { weight: 120, method: "GET", route: "/cart", work: cart },
    Route { weight: 100, method: "POST", route: "/cart", work: add_to_cart },
    Route { weight: 90, method: "POST", route: "/checkout", work: checkout },
];

/// One request to the shop: all spans of its trace. The same arguments give the same spans.
pub(super) fn request(seed: u64, start: u64, since_opening: u64) -> Vec<ShopSpan> {
    let mut recorder = Recorder::new(seed);
    let phase = since_opening % WEATHER_PERIOD;
    let weather = Weather { inventory_slow: (STORM_FROM..STORM_TO).contains(&phase) };
    let route = choose(&mut recorder);
    let root = open_root(&mut recorder, route, start);
    let begun = start + recorder.about(350 * MICROS);
    let done = (route.work)(&mut recorder, root, begun, &weather);
    let (ended, status) = done.map_or_else(|at| (at, 500), |at| (at, 200));
    recorder.note(root, int("http.response.status_code", status));
    if status == 500 {
        recorder.note(root, text("error.type", "500"));
        recorder.fail(root, "a service behind it failed");
    }
    let end = ended + recorder.about(600 * MICROS);
    recorder.close(root, end);
    recorder.into_spans()
}

fn choose(recorder: &mut Recorder) -> &'static Route {
    let mut drawn = recorder.pick(ROUTES.iter().map(|route| route.weight).sum());
    for route in &ROUTES {
        match drawn.checked_sub(route.weight) {
            Some(rest) => drawn = rest,
            None => return route,
        }
    }
    &ROUTES[0]
}

fn open_root(recorder: &mut Recorder, route: &Route, start: u64) -> usize {
    let path = route.route.replace("{id}", &format!("SKU-{:05}", recorder.pick(2_000)));
    let agent = AGENTS[recorder.pick(3) as usize];
    let client = format!("203.0.113.{}", 1 + recorder.pick(250));
    let user = format!("u-{:06}", recorder.pick(40_000));
    let attributes = vec![
        text("http.request.method", route.method),
        text("http.route", route.route),
        text("url.path", &path),
        text("url.scheme", "https"),
        text("server.address", "shop.example"),
        text("network.protocol.version", "2"),
        text("client.address", &client),
        text("user_agent.original", agent),
        text("user.id", &user),
    ];
    let name = format!("{} {}", route.method, route.route);
    recorder.open(Service::Frontend, None, name, SpanKind::Server, start, attributes)
}

/// The front page: three services at the same time, then the page is rendered.
fn home(recorder: &mut Recorder, here: usize, at: u64, _: &Weather) -> Step {
    let products = recorder.call(
        here,
        Rpc(Service::Catalog, "shop.Catalog", "ListProducts"),
        at,
        backend::list_products,
    );
    let advice = backend::recommend(recorder, here, at);
    let cart = recorder.call(here, Rpc(Service::Cart, "shop.Cart", "GetCart"), at, backend::get_cart);
    let fetched = join([products, advice, cart])?;
    Ok(render(recorder, here, fetched))
}

/// A product: the catalog first, then its price, its stock and what goes with it.
fn product(recorder: &mut Recorder, here: usize, at: u64, weather: &Weather) -> Step {
    let found =
        recorder.call(here, Rpc(Service::Catalog, "shop.Catalog", "GetProduct"), at, backend::get_product)?;
    let price = convert(recorder, here, found);
    let stock =
        recorder.call(here, Rpc(Service::Inventory, "shop.Inventory", "GetStock"), found, |r, s, at| {
            backend::stock(r, s, at, weather)
        });
    let advice = backend::recommend(recorder, here, found);
    let fetched = join([price, stock, advice])?;
    Ok(render(recorder, here, fetched))
}

/// The cart: each product in it is fetched by itself, one after the other (N+1).
fn cart(recorder: &mut Recorder, here: usize, at: u64, _: &Weather) -> Step {
    let mut at = recorder.call(here, Rpc(Service::Cart, "shop.Cart", "GetCart"), at, backend::get_cart)?;
    let items = 2 + recorder.pick(9);
    recorder.note(here, int("shop.cart.items", i64::from(items)));
    for _ in 0..items {
        at = recorder.call(
            here,
            Rpc(Service::Catalog, "shop.Catalog", "GetProduct"),
            at,
            backend::get_product,
        )?;
    }
    at = recorder.call(here, Rpc(Service::Shipping, "shop.Shipping", "GetQuote"), at, backend::quote)?;
    Ok(render(recorder, here, at))
}

fn add_to_cart(recorder: &mut Recorder, here: usize, at: u64, weather: &Weather) -> Step {
    let found =
        recorder.call(here, Rpc(Service::Catalog, "shop.Catalog", "GetProduct"), at, backend::get_product)?;
    let stock =
        recorder.call(here, Rpc(Service::Inventory, "shop.Inventory", "GetStock"), found, |r, s, at| {
            backend::stock(r, s, at, weather)
        })?;
    recorder.call(here, Rpc(Service::Cart, "shop.Cart", "AddItem"), stock, backend::write_cart)
}

fn checkout(recorder: &mut Recorder, here: usize, at: u64, weather: &Weather) -> Step {
    let placed =
        recorder.call(here, Rpc(Service::Checkout, "shop.Checkout", "PlaceOrder"), at, |r, s, at| {
            place_order(r, s, at, weather)
        })?;
    Ok(render(recorder, here, placed))
}

/// An order: its items are reserved and priced at the same time, then it is paid, then shipped and
/// announced.
fn place_order(recorder: &mut Recorder, here: usize, at: u64, weather: &Weather) -> Step {
    let currency = CURRENCIES[recorder.pick(4) as usize];
    let amount = f64::from(500 + recorder.pick(40_000)) / 100.0;
    recorder.note(here, text("shop.order.currency", currency));
    recorder.note(here, double("shop.order.amount", amount));
    let known = recorder.call(here, Rpc(Service::Cart, "shop.Cart", "GetCart"), at, backend::get_cart)?;
    let items = 1 + recorder.pick(4);
    recorder.note(here, int("shop.order.items", i64::from(items)));
    let mut steps = vec![
        recorder.call(here, Rpc(Service::Shipping, "shop.Shipping", "GetQuote"), known, backend::quote),
        recorder.call(here, Rpc(Service::Fraud, "shop.Fraud", "Score"), known, backend::score),
        convert(recorder, here, known),
    ];
    for _ in 0..items {
        let reserve = Rpc(Service::Inventory, "shop.Inventory", "Reserve");
        steps.push(recorder.call(here, reserve, known, |r, s, at| backend::reserve(r, s, at, weather)));
    }
    let prepared = join(steps)?;
    let paid = backend::charge_with_retries(recorder, here, prepared)?;
    let shipped = recorder.call(here, Rpc(Service::Shipping, "shop.Shipping", "Ship"), paid, backend::ship);
    let emptied =
        recorder.call(here, Rpc(Service::Cart, "shop.Cart", "EmptyCart"), paid, backend::write_cart);
    let settled = join([shipped, emptied])?;
    Ok(backend::publish_order(recorder, here, settled))
}

fn convert(recorder: &mut Recorder, here: usize, at: u64) -> Step {
    recorder.call(here, Rpc(Service::Currency, "shop.Currency", "Convert"), at, |r, _, at| {
        Ok(at + r.about(700 * MICROS))
    })
}

fn render(recorder: &mut Recorder, here: usize, at: u64) -> u64 {
    let span =
        recorder.open(Service::Frontend, Some(here), "render page", SpanKind::Internal, at, Vec::new());
    let done = at + recorder.about(4 * MILLIS);
    recorder.close(span, done);
    done
}
