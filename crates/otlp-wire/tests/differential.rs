//! The walker against prost, over drawn requests and soup; what "agree" means is in `longpole_fuzz::otlp`.
#![allow(clippy::unwrap_used)] // A test that cannot unwrap has failed.

use longpole_fuzz::otlp::check;
use longpole_fuzz::otlp::drawn::{mutate, mutations, request, wire_soup};
use otlp_wire::{StoredSpan, Walked, WireLimits, read_span, service_name, splice_traces, walk};
use proptest::prelude::*;
use prost::Message;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn generated_requests_agree(request in request()) {
        let bytes = request.encode_to_vec();
        let mut walked = Walked::new();
        walk(&bytes, &WireLimits::default(), &mut walked).unwrap();
        check(&bytes);
    }

    #[test]
    fn mutated_requests_agree(request in request(), mutations in mutations()) {
        let mut bytes = request.encode_to_vec();
        mutate(&mut bytes, mutations);
        check(&bytes);
    }

    /// The concatenation of two encodings is their merge, with messages in any order.
    #[test]
    fn pieces_in_another_order_agree(a in request(), b in request()) {
        let bytes = [a.encode_to_vec(), b.encode_to_vec()].concat();
        check(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn wire_soup_agrees(bytes in wire_soup()) {
        check(&bytes);
        let mut nested = vec![0x0a];
        prost::encoding::encode_varint(bytes.len() as u64, &mut nested);
        nested.extend(&bytes);
        check(&nested);
    }

    /// Soup as the body of a span: this is where the readers of stored spans live.
    #[test]
    fn soup_in_a_span_agrees(soup in wire_soup()) {
        let mut span = vec![0x0a, 16];
        span.extend([7; 16]);
        span.extend([0x12, 8]);
        span.extend([9; 8]);
        span.extend(&soup);
        let wrap = |number: u8, payload: &[u8]| {
            let mut out = vec![number << 3 | 2];
            prost::encoding::encode_varint(payload.len() as u64, &mut out);
            out.extend(payload);
            out
        };
        check(&wrap(1, &wrap(2, &wrap(2, &span))));
    }

    #[test]
    fn random_bytes_agree(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        check(&bytes);
        let _ = read_span(&bytes);
        let _ = service_name(&bytes);
        splice_traces([StoredSpan { context: &bytes, span: &bytes }]);
    }
}
