//! The walker and the JSON transcoder, against prost and against serde on prost's types.

mod agree;
pub mod drawn;
mod transcode;

use otlp_wire::{StoredSpan, Walked, WireLimits, read_span, service_name, splice_traces, walk};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use prost::Message;

pub use agree::check;
pub use transcode::check_json_text;

use crate::drive::{Draw, Shape, Target};

/// The OTLP walker. Input: the bytes of a request.
pub const WALKER: Target =
    Target { name: "walker", shape: Shape::Protobuf, inputs: 30_000, run: walker, draw: drawn_requests };

/// OTLP/JSON to protobuf and back. Input: JSON text.
pub const JSON: Target =
    Target { name: "json", shape: Shape::Json, inputs: 20_000, run: check_json_text, draw: drawn_json };

fn walker(input: &[u8]) -> bool {
    // The readers of stored bytes take anything, too.
    let _ = read_span(input);
    let _ = service_name(input);
    splice_traces([StoredSpan { context: input, span: input }]);
    let taken = check(input);
    tighter_limits_take_less(input, taken);
    taken
}

/// What passes tight limits passes the wide ones, with the same spans.
fn tighter_limits_take_less(input: &[u8], taken: bool) {
    let (mut wide, mut tight) = (Walked::new(), Walked::new());
    if walk(input, &WireLimits { depth: 2, spans: 3, ..WireLimits::default() }, &mut tight).is_ok() {
        assert!(taken && walk(input, &WireLimits::default(), &mut wide).is_ok());
        assert_eq!(tight.spans, wide.spans);
        assert!(tight.spans.len() as u64 + tight.rejected_spans <= 3);
    }
}

fn requests()
-> impl FnMut(&mut crate::Dice) -> opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest
{
    let strategy = drawn::request().boxed();
    move |dice| {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&dice.any().to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        strategy.new_tree(&mut runner).unwrap().current()
    }
}

fn drawn_requests() -> Draw {
    let mut requests = requests();
    Box::new(move |dice| requests(dice).encode_to_vec())
}

fn drawn_json() -> Draw {
    let mut requests = requests();
    Box::new(move |dice| serde_json::to_vec(&requests(dice)).unwrap())
}
