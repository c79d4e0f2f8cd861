//! The OTLP intake over real sockets, with a log that the tests hold in their hands.
#![allow(clippy::unwrap_used)] // A test that cannot unwrap has failed.

mod answers;
mod connections;
mod cors;
mod encodings;
mod grpc;
mod health;
mod http;
mod limits;
mod overload;
mod raw_grpc;
mod raw_http;
mod requests;
mod signals;
mod unix;
mod world;
