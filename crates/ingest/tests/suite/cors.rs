//! Web pages that send spans: preflights, beacons, and pages that may not.

use ingest::AllowedOrigins;

use crate::raw_http::{Answer, Client, JSON};
use crate::requests;
use crate::world::{Options, World};

const PAGE: &str = "https://shop.example";

async fn world(origins: &str) -> World {
    let origins: AllowedOrigins = origins.parse().unwrap();
    World::with(Options { origins, ..Options::default() }).await
}

async fn preflight(world: &World, origin: &str) -> Answer {
    let mut client = Client::connect(&world.http).await;
    let headers = format!(
        "origin: {origin}\r\naccess-control-request-method: POST\r\n\
         access-control-request-headers: content-type,x-api-key\r\n"
    );
    client.head("OPTIONS", "/v1/traces", &headers).await;
    client.answer().await
}

async fn send(world: &World, origin: &str, body: &[u8]) -> Answer {
    let mut client = Client::connect(&world.http).await;
    client.post("/v1/traces", &format!("{JSON}origin: {origin}\r\n"), body).await
}

#[tokio::test]
async fn by_default_every_page_may_send() {
    let world = world("*").await;
    let answer = preflight(&world, PAGE).await;
    assert_eq!(answer.status, 200);
    // Beacons come with credentials, and then `*` would not do.
    assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(answer.header("access-control-allow-methods"), Some("POST"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("content-type,x-api-key"));
    assert!(answer.header("access-control-max-age").is_some());
    assert!(answer.header("vary").unwrap().to_lowercase().contains("origin"));

    let answer = send(&world, PAGE, &requests::json(5)).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some(PAGE)));
    // Scripts may read refusals as well.
    let answer = send(&world, PAGE, b"not json").await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (400, Some(PAGE)));
    assert_eq!(world.log.spans(), 1);
}

#[tokio::test]
async fn named_origins_may_send_and_no_others() {
    let world = world("https://shop.example,http://localhost:3000").await;
    for origin in [PAGE, "http://localhost:3000"] {
        let answer = preflight(&world, origin).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    }
    for origin in ["https://evil.example", "http://shop.example", "https://shop.example.evil.example", "null"]
    {
        assert_eq!(preflight(&world, origin).await.header("access-control-allow-origin"), None, "{origin}");
    }
}

#[tokio::test]
async fn none_means_no_page() {
    let world = world("none").await;
    let answer = preflight(&world, PAGE).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (405, None));
    let answer = send(&world, PAGE, &requests::json(5)).await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
}
