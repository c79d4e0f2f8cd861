//! Promise: both OTLP servers speak over unix sockets if asked, survive a crash's left-overs, and leave nothing behind.
#![allow(clippy::unwrap_used)] // A test that cannot unwrap has failed.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use longpole_tests::traffic::{hex, now_nanos, request, trace};
use longpole_tests::{Exporter, Server, ServerOptions, eventually};
use prost::Message as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

fn post(socket: &Path, body: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn found(server: &Server, id: &str, spans: usize) {
    eventually("the trace by id", Duration::from_secs(10), || {
        let found = server.api().trace_spans(id)?.len();
        anyhow::ensure!(found == spans, "{found} of {spans} spans");
        Ok(())
    })
    .unwrap();
}

#[test]
fn spans_come_over_sockets_before_and_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let (grpc, http) = (folder.path().join("grpc.sock"), folder.path().join("http.sock"));
    let address = |path: &Path| format!("unix:{}", path.display());
    let options = ServerOptions::new().unwrap().otlp(&address(&grpc), &address(&http));
    let mut server = options.start().unwrap();
    assert_eq!((server.grpc(), server.otlp_http()), (&*address(&grpc), &*address(&http)));

    let mut random = StdRng::seed_from_u64(1);
    let first = trace(&mut random, now_nanos() - 1_000_000_000);
    Exporter::connect(server.grpc()).unwrap().deliver(&request(&first)).unwrap();
    found(&server, &hex(&first[0].span.trace_id), first.len());

    server.kill().unwrap();
    assert!(grpc.exists() && http.exists(), "a crash leaves them");
    server.start_again().unwrap();
    let second = trace(&mut random, now_nanos() - 1_000_000_000);
    let answer = post(&http, &request(&second).encode_to_vec());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    found(&server, &hex(&second[0].span.trace_id), second.len());

    assert_eq!(server.terminate().unwrap().code(), Some(0), "{}", server.log_tail());
    assert!(!grpc.exists() && !http.exists(), "an orderly end removes them");
}
