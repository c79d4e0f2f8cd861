//! Clients that do not read what they asked for.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use ingest::{Address, ConnectionLimits, IngestCounter, IngestCounters, Listener, serve_connections};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::raw_http::Client;
use crate::world::until;

const HOUR: Duration = Duration::from_secs(3_600);
/// More than sockets hold.
const LARGE: usize = 32 << 20;

/// A server whose every answer is so many bytes.
struct Large {
    address: Address,
    counters: Arc<IngestCounters>,
    /// Shared by all bytes of all answers.
    answers: Arc<()>,
}

struct Held(Vec<u8>, #[allow(dead_code)] Arc<()>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Large {
    async fn new(answer_timeout: Duration) -> Self {
        Self::of(LARGE, answer_timeout).await
    }

    async fn of(bytes: usize, answer_timeout: Duration) -> Self {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let (address, counters) = (listener.address().unwrap(), Arc::<IngestCounters>::default());
        let limits = ConnectionLimits {
            connections: 10,
            key: "none",
            streams: 10,
            header_timeout: HOUR,
            idle_timeout: HOUR,
            answer_timeout,
        };
        let answers = Arc::new(());
        let all = Arc::clone(&answers);
        let service = tower::service_fn(move |_: Request<ingest::RequestBody>| {
            let answer = Bytes::from_owner(Held(vec![7; bytes], Arc::clone(&all)));
            std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(answer))))
        });
        let counted = Arc::clone(&counters);
        tokio::spawn(serve_connections(listener, service, limits, counted, std::future::pending()));
        Self { address, counters, answers }
    }

    /// Waits until there is no answer, also none that is being written, and no connection.
    async fn no_answers(&self) {
        // The test and the service, which each connection has as well, hold on to it.
        until("no answers", || Arc::strong_count(&self.answers) == 2).await;
    }

    async fn stalled(&self, count: u64) {
        until("counted", || self.counters.get(IngestCounter::StalledConnections) == count).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_not_read_ends_its_connection_and_takes_no_memory_any_more() {
    let server = Large::new(Duration::from_millis(300)).await;
    let mut client = Client::connect(&server.address).await;
    client.head("GET", "/", "").await;
    server.stalled(1).await;
    server.no_answers().await;
}

#[tokio::test]
async fn streams_without_a_window_end_with_their_connection() {
    without_a_window(LARGE, 0).await;
    // All of the answer is handed over for this one byte.
    without_a_window(60_000, 1).await;
}

async fn without_a_window(bytes: usize, initial_window: u8) {
    let server = Large::of(bytes, Duration::from_millis(300)).await;
    let mut client = Client::connect(&server.address).await;
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    client.send(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, initial_window]).await;
    for stream in [1, 3, 5] {
        // GET, http, /, and the authority; the end of headers and of the stream.
        let head = [&[0x82, 0x86, 0x84, 0x01, 4][..], b"test"].concat();
        client.send(&[&[0, 0, head.len() as u8, 1, 5, 0, 0, 0, stream], &head[..]].concat()).await;
    }
    server.stalled(1).await;
    server.no_answers().await;
}

/// Of what a socket could hold, it would take a third before anything went on.
#[tokio::test]
async fn a_slow_reader_is_not_cut() {
    let server = Large::new(Duration::from_millis(2_500)).await;
    let Address::Tcp(address) = &server.address else { panic!("it listens on a port") };
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    let (mut part, mut read) = (vec![0; 16 << 10], 0);
    for _ in 0..120 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        read += stream.read(&mut part).await.unwrap();
    }
    while read < LARGE {
        let n = stream.read(&mut part).await.unwrap();
        assert!(n > 0, "cut after {read} bytes");
        read += n;
    }
    assert_eq!(server.counters.get(IngestCounter::StalledConnections), 0);
}

#[tokio::test]
async fn an_answer_that_is_read_comes_whole() {
    let server = Large::new(Duration::from_secs(20)).await;
    let mut client = Client::connect(&server.address).await;
    for _ in 0..2 {
        client.head("GET", "/", "").await;
        let answer = client.answer().await;
        assert!(answer.body.len() == LARGE && answer.body.iter().all(|&byte| byte == 7));
    }
    drop(client);
    server.no_answers().await;
    assert_eq!(server.counters.get(IngestCounter::StalledConnections), 0);
}
