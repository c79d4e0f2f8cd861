//! An OTLP/gRPC server that takes requests as bytes and drops them.

use std::net::SocketAddr;

use clap::Parser;
use longpole_benches::null::{Effort, serve};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
struct Args {
    /// Address to listen on; port 0 picks one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    serve(Args::parse().listen, Effort::Raw).await
}
