//! Writes down one simulated trace: spans opened and closed at times that the simulation says.

use std::f64::consts::TAU;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::services::{Service, int, text};

pub(super) const MICROS: u64 = 1_000;
pub(super) const MILLIS: u64 = 1_000_000;
pub(super) const SECONDS: u64 = 1_000_000_000;

/// `W3C` trace flags: sampled.
const SAMPLED: u32 = 1;
/// One request in so many meets a fault.
const ONE_IN: u32 = 100;
/// The fault strikes one of so many first calls, so that every kind of request has enough of them.
const FAULTY_CALLS: u32 = 3;

/// A span and the service whose SDK sends it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ShopSpan {
    pub(super) service: Service,
    pub(super) span: Span,
}

/// When something ended: well, or with an error.
pub(super) type Step = Result<u64, u64>;

/// An RPC by service and method.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rpc(pub(super) Service, pub(super) &'static str, pub(super) &'static str);

/// A statement to a database.
#[derive(Debug, Clone, Copy)]
pub(super) struct Statement {
    pub(super) system: &'static str,
    pub(super) server: &'static str,
    pub(super) operation: &'static str,
    pub(super) collection: &'static str,
    pub(super) query: &'static str,
}

/// A trace being written down.
#[derive(Debug)]
pub(super) struct Recorder {
    rng: StdRng,
    trace_id: [u8; 16],
    spans: Vec<ShopSpan>,
    /// How many calls until the fault of this request, if it has one.
    fault_after: Option<u32>,
}

impl Recorder {
    /// An empty trace, all of whose chance comes from `seed`.
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let trace_id = rng.random();
        let fault_after = rng.random_ratio(1, ONE_IN).then(|| rng.random_range(0..FAULTY_CALLS));
        Self { rng, trace_id, spans: Vec::new(), fault_after }
    }

    /// The spans written down.
    pub(super) fn into_spans(self) -> Vec<ShopSpan> {
        self.spans
    }

    /// A choice of `0..below`.
    pub(super) fn pick(&mut self, below: u32) -> u32 {
        self.rng.random_range(0..below.max(1))
    }

    /// True so many times in a thousand.
    pub(super) fn chance(&mut self, per_mille: u32) -> bool {
        self.rng.random_ratio(per_mille.min(1_000), 1_000)
    }

    /// A length of time around a median, log-normal as real latencies are.
    pub(super) fn about(&mut self, median: u64) -> u64 {
        self.spread(median, 0.28)
    }

    /// A length of time around a median with a given sigma of its logarithm.
    pub(super) fn spread(&mut self, median: u64, sigma: f64) -> u64 {
        let (u, v): (f64, f64) = (self.rng.random(), self.rng.random());
        let normal = (-2.0 * (1.0 - u).ln()).sqrt() * (TAU * v).cos();
        (median as f64 * (sigma * normal.clamp(-3.5, 3.5)).exp()) as u64
    }

    /// The way of a message between two machines.
    pub(super) fn network(&mut self) -> u64 {
        self.about(220 * MICROS)
    }

    /// Opens a span; its number is its name here.
    pub(super) fn open(
        &mut self,
        service: Service,
        parent: Option<usize>,
        name: impl Into<String>,
        kind: SpanKind,
        at: u64,
        attributes: Vec<KeyValue>,
    ) -> usize {
        let span_id: [u8; 8] = self.rng.random();
        let parent_span_id = parent.map(|i| self.spans[i].span.span_id.clone()).unwrap_or_default();
        let span = Span {
            trace_id: self.trace_id.to_vec(),
            span_id: span_id.to_vec(),
            parent_span_id,
            flags: SAMPLED,
            name: name.into(),
            kind: kind as i32,
            start_time_unix_nano: at,
            end_time_unix_nano: at,
            attributes,
            ..Span::default()
        };
        self.spans.push(ShopSpan { service, span });
        self.spans.len() - 1
    }

    /// Closes a span well.
    pub(super) fn close(&mut self, span: usize, at: u64) {
        let span = &mut self.spans[span].span;
        span.end_time_unix_nano = at.max(span.start_time_unix_nano);
    }

    /// Adds an attribute.
    pub(super) fn note(&mut self, span: usize, attribute: KeyValue) {
        self.spans[span].span.attributes.push(attribute);
    }

    /// Adds an event.
    pub(super) fn event(&mut self, span: usize, at: u64, name: &str, attributes: Vec<KeyValue>) {
        let event = Event { time_unix_nano: at, name: name.to_owned(), attributes, ..Event::default() };
        self.spans[span].span.events.push(event);
    }

    /// Marks a span as failed.
    pub(super) fn fail(&mut self, span: usize, message: &str) {
        self.spans[span].span.status =
            Some(Status { code: StatusCode::Error as i32, message: message.to_owned() });
    }

    /// Marks a span as failed by an exception, with the event that SDKs record.
    pub(super) fn throw(&mut self, span: usize, at: u64, kind: &str, message: &str) {
        let at_line = 40 + self.pick(400);
        let stack = format!("{kind}: {message}\n    at shop.{}.handle({at_line})", self.service(span).name());
        let attributes = vec![
            text("exception.type", kind),
            text("exception.message", message),
            text("exception.stacktrace", &stack),
        ];
        self.event(span, at, "exception", attributes);
        self.note(span, text("error.type", kind));
        self.fail(span, message);
    }

    /// The service that a span is of.
    pub(super) fn service(&self, span: usize) -> Service {
        self.spans[span].service
    }

    /// Calls another service: the client's span, the way, the server's span and `work` in it.
    pub(super) fn call(
        &mut self,
        here: usize,
        rpc: Rpc,
        at: u64,
        work: impl FnOnce(&mut Self, usize, u64) -> Step,
    ) -> Step {
        let Rpc(to, rpc_service, method) = rpc;
        let name = format!("{rpc_service}/{method}");
        let attributes = |peer: &'static str| {
            vec![
                text("rpc.system", "grpc"),
                text("rpc.service", rpc_service),
                text("rpc.method", method),
                text("server.address", peer),
                int("server.port", 8080),
            ]
        };
        let from = self.service(here);
        let client = self.open(from, Some(here), name.clone(), SpanKind::Client, at, attributes(to.name()));
        let arrived = at + self.network();
        let server = self.open(to, Some(client), name, SpanKind::Server, arrived, attributes(to.name()));
        let begun = arrived + self.about(120 * MICROS);
        let done = if self.is_fault() { Err(self.fault(server, begun)) } else { work(self, server, begun) };
        let (ended, code) = done.map_or_else(|at| (at, 13), |at| (at, 0));
        let back = ended + self.network();
        for (span, at) in [(server, ended), (client, back)] {
            self.close(span, at);
            self.note(span, int("rpc.grpc.status_code", code));
        }
        if code == 0 {
            return Ok(back);
        }
        self.fail_if_not_failed(server, "INTERNAL");
        self.fail(client, "13 INTERNAL");
        Err(back)
    }

    fn fail_if_not_failed(&mut self, span: usize, message: &str) {
        if self.spans[span].span.status.is_none() {
            self.fail(span, message);
        }
    }

    fn is_fault(&mut self) -> bool {
        match self.fault_after {
            Some(0) => {
                self.fault_after = None;
                true
            }
            Some(more) => {
                self.fault_after = Some(more - 1);
                false
            }
            None => false,
        }
    }

    fn fault(&mut self, server: usize, begun: u64) -> u64 {
        let (kind, message, after) = match self.pick(3) {
            0 => ("java.net.SocketTimeoutException", "upstream timed out after 250 ms", 250 * MILLIS),
            1 => ("NullPointerError", "price list has no entry for this item", 2 * MILLIS),
            _ => ("ConnectionPoolExhausted", "no connection free after 60 ms", 60 * MILLIS),
        };
        let at = begun + self.about(after);
        self.throw(server, at, kind, message);
        at
    }

    /// A statement to a database, which works; when it is done.
    pub(super) fn query(&mut self, here: usize, statement: Statement, at: u64, median: u64) -> u64 {
        let Statement { system, server, operation, collection, query } = statement;
        let attributes = vec![
            text("db.system.name", system),
            text("db.system", system),
            text("db.namespace", "shop"),
            text("db.operation.name", operation),
            text("db.collection.name", collection),
            text("db.query.text", query),
            text("server.address", server),
        ];
        let name = format!("{operation} {collection}");
        let span = self.open(self.service(here), Some(here), name, SpanKind::Client, at, attributes);
        let done = at + self.about(median);
        self.close(span, done);
        done
    }
}

/// Steps that ran beside one another: over when the last is, failed when one has.
pub(super) fn join(steps: impl IntoIterator<Item = Step>) -> Step {
    let mut end = 0;
    let mut failed = false;
    for step in steps {
        failed |= step.is_err();
        end = end.max(step.unwrap_or_else(|at| at));
    }
    if failed { Err(end) } else { Ok(end) }
}
