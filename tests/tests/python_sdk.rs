//! Promise: what the unmodified Python SDK sends, told by `OTEL_*` variables only, is stored as it was sent.

use std::process::Command;

use longpole_tests::clients::shop::{self, Sdk};
use longpole_tests::clients::{Environment, Otlp, Protocol, stored};
use longpole_tests::package_dir;

const PYTHON: Sdk = Sdk { name: "python", program, exception: "ValueError", integers: stored::ALL_INTEGERS };

fn program(environment: &Environment) -> Command {
    let mut command = Command::new(environment.path("bin/python"));
    command.arg(package_dir().join("clients/python/shop.py")).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

#[test]
fn grpc() {
    shop::run(&PYTHON, Otlp::plain(Protocol::Grpc)).unwrap();
}

#[test]
fn grpc_gzip() {
    shop::run(&PYTHON, Otlp::gzip(Protocol::Grpc)).unwrap();
}

#[test]
fn http_protobuf() {
    shop::run(&PYTHON, Otlp::plain(Protocol::HttpProtobuf)).unwrap();
}

#[test]
fn http_protobuf_gzip() {
    shop::run(&PYTHON, Otlp::gzip(Protocol::HttpProtobuf)).unwrap();
}
