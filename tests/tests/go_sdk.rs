//! Promise: what the unmodified Go SDK sends, told by `OTEL_*` variables only, is stored as it was sent.

use std::process::Command;

use longpole_tests::clients::shop::{self, Sdk};
use longpole_tests::clients::{Environment, Otlp, Protocol, stored};

const GO: Sdk = Sdk { name: "go", program, exception: "main.declined", integers: stored::ALL_INTEGERS };

fn program(environment: &Environment) -> Command {
    Command::new(environment.path("shop"))
}

#[test]
fn grpc() {
    shop::run(&GO, Otlp::plain(Protocol::Grpc)).unwrap();
}

#[test]
fn grpc_gzip() {
    shop::run(&GO, Otlp::gzip(Protocol::Grpc)).unwrap();
}

#[test]
fn http_protobuf() {
    shop::run(&GO, Otlp::plain(Protocol::HttpProtobuf)).unwrap();
}

#[test]
fn http_protobuf_gzip() {
    shop::run(&GO, Otlp::gzip(Protocol::HttpProtobuf)).unwrap();
}
