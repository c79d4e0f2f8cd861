//! Promise: clients that do nothing take no open files from the store, however many come and on whatever port.
#![allow(clippy::unwrap_used)] // A test that cannot unwrap has failed.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::ensure;
use longpole_tests::traffic::{now_nanos, request, trace};
use longpole_tests::{Server, ServerOptions, eventually, metric};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// More than the limit leaves to any port, and few enough for the test's own limit.
const IDLE: usize = 220;

fn metrics(server: &Server) -> anyhow::Result<String> {
    Ok(String::from_utf8(server.api().get("/metrics", "text/plain")?.body)?)
}

fn idle(address: &str) -> Vec<TcpStream> {
    (0..IDLE).filter_map(|_| TcpStream::connect(address).ok()).collect()
}

/// Asks on a connection of its own.
fn ask(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // One that is closed at once may be reset before it is read.
    let _ = write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn idle_clients_leave_the_store_its_files() {
    let options = ServerOptions::new().unwrap().hasty().open_files(128, 1_024);
    let server = options.start().unwrap();
    let exporter = server.exporter().unwrap();
    let mut random = StdRng::seed_from_u64(1);
    let mut send = || exporter.deliver(&request(&trace(&mut random, now_nanos()))).unwrap();
    send();

    let mut clients = idle(server.grpc());
    clients.extend(idle(server.otlp_http()));
    let asking = eventually("sealed beside idle clients", Duration::from_secs(30), || {
        let text = metrics(&server)?;
        ensure!(metric(&text, "longpole_ingest_connections_over_limit_total")? > 0.0, "there is room");
        ensure!(metric(&text, "longpole_seals_total")? > 0.0, "nothing is sealed");
        Ok(text)
    });
    assert_eq!(metric(&asking.unwrap(), "longpole_ingest_accept_failures_total").unwrap(), 0.0);
    // Whoever was there before is served as ever.
    send();
    let log = server.log_tail();
    for key in ["server.http_connections to 36", "ingest.connections to 127"] {
        assert!(log.contains(key), "{log}");
    }
}

#[test]
fn the_query_port_says_that_it_is_full() {
    let options = ServerOptions::new().unwrap().env("LONGPOLE_SERVER__HTTP_CONNECTIONS", "20");
    let server = options.start().unwrap();
    // As many as there are places; those over the limit have a few more.
    let mut clients: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(server.http()).unwrap()).collect();
    let refused = eventually("a refusal", Duration::from_secs(10), || {
        let answer = ask(server.http(), "/api/v1/services");
        ensure!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        Ok(answer)
    });
    let refused = refused.unwrap();
    assert!(
        refused.contains("too_many_connections") && refused.contains("server.http_connections"),
        "{refused}"
    );
    // A full port is no dead process.
    assert!(ask(server.http(), "/readyz").starts_with("HTTP/1.1 200"));
    let text = ask(server.http(), "/metrics");
    assert!(metric(&text, "longpole_http_connections_over_limit_total").unwrap() >= 2.0);
    clients.clear();
    eventually("places that are free again", Duration::from_secs(10), || {
        let answer = ask(server.http(), "/api/v1/services");
        ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        Ok(())
    })
    .unwrap();
}
