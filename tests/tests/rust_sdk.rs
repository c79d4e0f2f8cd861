//! Promise: what the unmodified Rust SDK sends, told by `OTEL_*` variables only, is stored as it was sent.
//! Its program is a part of this package.

use std::process::Command;

use anyhow::{Context as _, Result};
use longpole_tests::clients::shop::{self, Sdk};
use longpole_tests::clients::{Environment, Otlp, Protocol, stored};

const RUST: Sdk = Sdk { name: "rust", program, exception: "Declined", integers: stored::ALL_INTEGERS };

fn program(environment: &Environment) -> Command {
    Command::new(environment.path("longpole-test-shop"))
}

fn run(otlp: Otlp) -> Result<()> {
    let longpole = longpole_tests::program()?;
    // Cargo puts all programs of the workspace into one folder.
    let folder = longpole.parent().context("longpole is in no folder")?;
    shop::run_in(&Environment::at(folder), &RUST, otlp)
}

#[test]
fn grpc() {
    run(Otlp::plain(Protocol::Grpc)).unwrap();
}

#[test]
fn grpc_gzip() {
    run(Otlp::gzip(Protocol::Grpc)).unwrap();
}

#[test]
fn http_protobuf() {
    run(Otlp::plain(Protocol::HttpProtobuf)).unwrap();
}

#[test]
fn http_protobuf_gzip() {
    run(Otlp::gzip(Protocol::HttpProtobuf)).unwrap();
}

#[test]
fn http_json() {
    run(Otlp::plain(Protocol::HttpJson)).unwrap();
}

#[test]
fn http_json_gzip() {
    run(Otlp::gzip(Protocol::HttpJson)).unwrap();
}
