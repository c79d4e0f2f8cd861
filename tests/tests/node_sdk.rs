//! Promise: what the unmodified Node SDK sends, told by `OTEL_*` variables only, is stored as it was sent.

use std::process::Command;

use longpole_tests::clients::shop::{self, Sdk};
use longpole_tests::clients::{Environment, Otlp, Protocol, stored};

const NODE: Sdk = Sdk { name: "node", program, exception: "RangeError", integers: stored::SAFE_INTEGERS };

fn program(environment: &Environment) -> Command {
    let mut command = Command::new("node");
    command.arg(environment.path("shop.mjs"));
    command
}

#[test]
fn grpc() {
    shop::run(&NODE, Otlp::plain(Protocol::Grpc)).unwrap();
}

#[test]
fn grpc_gzip() {
    shop::run(&NODE, Otlp::gzip(Protocol::Grpc)).unwrap();
}

#[test]
fn http_protobuf() {
    shop::run(&NODE, Otlp::plain(Protocol::HttpProtobuf)).unwrap();
}

#[test]
fn http_protobuf_gzip() {
    shop::run(&NODE, Otlp::gzip(Protocol::HttpProtobuf)).unwrap();
}

#[test]
fn http_json() {
    shop::run(&NODE, Otlp::plain(Protocol::HttpJson)).unwrap();
}

#[test]
fn http_json_gzip() {
    shop::run(&NODE, Otlp::gzip(Protocol::HttpJson)).unwrap();
}
