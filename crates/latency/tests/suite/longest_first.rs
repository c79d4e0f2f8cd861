//! What is made from sorted durations is what any order makes.

use latency::{Exemplar, ExemplarSet, LatencyHistogram, LongestFirst};
use proptest::prelude::*;
use trace_model::{NanoDuration, SpanId, TraceId, UnixNanos};

/// Few ids, so that spans are equal in every part; durations of all sizes, and many alike.
fn spans() -> impl Strategy<Value = Vec<(Exemplar, bool)>> {
    let duration = prop_oneof![
        0..4_u64,
        (0..64_u32).prop_map(|bits| 1 << bits),
        (0..40_u64).prop_map(|n| 1_000_000 + n * 9_000),
        any::<u64>(),
    ];
    let one = (1..30_u128, duration, 0..3_u64, any::<bool>()).prop_map(|(n, duration, time, error)| {
        let exemplar = Exemplar {
            trace_id: TraceId::new(n.to_be_bytes()).unwrap(),
            span_id: SpanId::new((n as u64).to_be_bytes()).unwrap(),
            duration: NanoDuration(duration),
            time: UnixNanos(time),
        };
        (exemplar, error)
    });
    prop::collection::vec(one, 0..120)
}

proptest! {
    #[test]
    fn it_encodes_to_the_same_bytes(series in prop::collection::vec(spans(), 1..4)) {
        for mut spans in series {
            let (mut histogram, mut exemplars) = (LatencyHistogram::new(), ExemplarSet::new());
            for (exemplar, error) in &spans {
                histogram.record(exemplar.duration, *error);
                exemplars.observe(*exemplar, *error);
            }
            let (mut want, mut got) = (Vec::new(), Vec::new());
            histogram.encode(&mut want);
            exemplars.encode(&mut want);

            spans.sort_by_key(|(exemplar, _)| std::cmp::Reverse(exemplar.duration));
            let mut sorted = LongestFirst::default();
            for (exemplar, error) in &spans {
                let hash = Exemplar::hash_of(&exemplar.trace_id, &exemplar.span_id);
                sorted.record(exemplar.duration, *error, hash, || *exemplar);
            }
            prop_assert_eq!(sorted.count(), histogram.count());
            prop_assert_eq!(sorted.longest(), histogram.max());
            prop_assert_eq!(sorted.parts(), histogram.parts());
            sorted.encode_histogram(&mut got);
            sorted.encode_exemplars(&mut got);
            prop_assert_eq!(got, want);
        }
    }
}
