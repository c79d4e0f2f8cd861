//! A TCP relay that sees what a client really sends: how much, and how it begins.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::otlp::{Otlp, Protocol};
use crate::wait::eventually;

/// Of each connection's first bytes, as many are kept.
const HEAD_BYTES: usize = 4096;

#[derive(Debug, Default)]
struct Seen {
    stopping: AtomicBool,
    connections: AtomicUsize,
    bytes: AtomicU64,
    /// Of the connections that have ended.
    heads: Mutex<Vec<Vec<u8>>>,
}

/// Stands between one client and the server until dropped.
#[derive(Debug)]
pub struct Relay {
    address: String,
    seen: Arc<Seen>,
}

impl Relay {
    /// Listens on a port of its own and passes everything on to `server`.
    pub fn start(server: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?.to_string();
        let seen = Arc::new(Seen::default());
        let (server, shared) = (server.to_owned(), Arc::clone(&seen));
        std::thread::spawn(move || accept(&listener, &server, &shared));
        Ok(Self { address, seen })
    }

    /// `host:port` for the client.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Checks that the client spoke as it was told. It must have sent, among others, `text_bytes` bytes of one letter
    /// repeated, which show uncompressed and vanish compressed.
    pub fn check(&self, otlp: Otlp, text_bytes: u64) -> Result<()> {
        let bytes = self.seen.bytes.load(Ordering::SeqCst);
        let compressed = bytes < text_bytes;
        ensure!(bytes > 0, "nothing was sent");
        ensure!(compressed == otlp.gzip, "{bytes} bytes were sent with {otlp:?}");
        let heads = eventually("every connection ends", Duration::from_secs(10), || self.heads())?;
        for text in heads.iter().filter(|head| !head.is_empty()) {
            // A client has a connection of its own for each signal, or one for all.
            let right = match otlp.protocol {
                Protocol::Grpc => text.starts_with("pri * http/2.0"),
                Protocol::HttpProtobuf => is_post(text, "application/x-protobuf"),
                Protocol::HttpJson => is_post(text, "application/json"),
            };
            ensure!(right, "not {otlp:?}: {text}");
        }
        Ok(())
    }

    /// How each connection began, in lower case, once all have ended.
    fn heads(&self) -> Result<Vec<String>> {
        let heads = self.seen.heads.lock().map_err(|_| anyhow::anyhow!("the relay failed"))?;
        let connections = self.seen.connections.load(Ordering::SeqCst);
        ensure!(heads.len() == connections, "{} of {connections} connections have ended", heads.len());
        Ok(heads.iter().map(|head| String::from_utf8_lossy(head).to_lowercase()).collect())
    }
}

fn is_post(head: &str, content_type: &str) -> bool {
    let signals = ["traces", "metrics", "logs"];
    signals.iter().any(|signal| head.starts_with(&format!("post /v1/{signal} http/1.1")))
        && head.contains(&format!("content-type: {content_type}"))
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.seen.stopping.store(true, Ordering::SeqCst);
    }
}

fn accept(listener: &TcpListener, server: &str, seen: &Arc<Seen>) {
    while !seen.stopping.load(Ordering::SeqCst) {
        let Ok((client, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        // A client that is turned away sees a closed connection.
        let Ok(server) = TcpStream::connect(server) else { continue };
        if relay(client, server, seen).is_ok() {
            seen.connections.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Two threads that end when either side does.
fn relay(client: TcpStream, server: TcpStream, seen: &Arc<Seen>) -> Result<()> {
    client.set_nonblocking(false)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_server, to_client) = (server.try_clone()?, client.try_clone()?);
    let counted = Arc::clone(seen);
    std::thread::spawn(move || pump(client, server, Some(&counted)));
    std::thread::spawn(move || pump(from_server, to_client, None));
    Ok(())
}

fn pump(mut from: TcpStream, mut to: TcpStream, seen: Option<&Seen>) {
    let mut buffer = vec![0; 64 << 10];
    let mut head = Vec::new();
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if let Some(seen) = seen {
            seen.bytes.fetch_add(read as u64, Ordering::SeqCst);
            head.extend(buffer[..read].iter().take(HEAD_BYTES - head.len()));
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    if let Some(mut heads) = seen.and_then(|seen| seen.heads.lock().ok()) {
        heads.push(head);
    }
}
