//! Histograms and exemplars by themselves.

use latency::{Exemplar, ExemplarSet, LatencyHistogram};
use trace_model::{NanoDuration, SpanId, TraceId, UnixNanos};

use crate::Dice;
use crate::drive::{Shape, Target};

/// Encoded latency histograms.
pub const HISTOGRAM: Target = Target {
    name: "histogram",
    shape: Shape::Bytes,
    inputs: 30_000,
    run: histogram,
    draw: || Box::new(|dice: &mut Dice| encoded(&some_histogram(dice), LatencyHistogram::encode)),
};

/// Encoded sets of exemplars.
pub const EXEMPLARS: Target = Target {
    name: "exemplars",
    shape: Shape::Bytes,
    inputs: 30_000,
    run: exemplars,
    draw: || Box::new(|dice: &mut Dice| encoded(&some_exemplars(dice), ExemplarSet::encode)),
};

fn encoded<T>(value: &T, encode: fn(&T, &mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(value, &mut out);
    out
}

fn some_duration(dice: &mut Dice) -> NanoDuration {
    NanoDuration(dice.any() >> dice.below(64))
}

fn some_histogram(dice: &mut Dice) -> LatencyHistogram {
    let mut histogram = LatencyHistogram::new();
    for _ in 0..dice.pick(&[0, 1, 3, 20, 200]) {
        histogram.record(some_duration(dice), dice.one_in(5));
    }
    histogram
}

fn some_exemplars(dice: &mut Dice) -> ExemplarSet {
    let mut set = ExemplarSet::new();
    for n in 0..dice.below(12) as u8 {
        let exemplar = Exemplar {
            trace_id: TraceId::new([n + 1; 16]).unwrap(),
            span_id: SpanId::new([dice.below(200) as u8 + 1; 8]).unwrap(),
            duration: some_duration(dice),
            time: UnixNanos(dice.any()),
        };
        set.observe(exemplar, dice.one_in(4));
    }
    set
}

fn histogram(input: &[u8]) -> bool {
    let mut rest = input;
    let Ok(histogram) = LatencyHistogram::decode(&mut rest) else {
        assert_eq!(rest.len(), input.len(), "a refused input is left as it was");
        return false;
    };
    let again = encoded(&histogram, LatencyHistogram::encode);
    assert_eq!(LatencyHistogram::decode(&mut &again[..]).unwrap(), histogram);
    use_histogram(&histogram);
    true
}

fn exemplars(input: &[u8]) -> bool {
    let mut rest = input;
    let Ok(set) = ExemplarSet::decode(&mut rest) else {
        assert_eq!(rest.len(), input.len(), "a refused input is left as it was");
        return false;
    };
    let again = encoded(&set, ExemplarSet::encode);
    assert_eq!(ExemplarSet::decode(&mut &again[..]).unwrap(), set);
    use_exemplars(&set);
    true
}

/// Whatever was decoded can be asked and merged.
pub(super) fn use_histogram(histogram: &LatencyHistogram) {
    let mut previous = NanoDuration(0);
    for q in [0.0, 0.5, 0.99, 1.0] {
        let value = histogram.quantile(q).unwrap_or_default();
        assert!(value >= previous, "quantiles rise");
        previous = value;
    }
    let mut twice = histogram.clone();
    twice.merge(histogram);
    assert_eq!(twice.count(), histogram.count().saturating_mul(2));
    let mut other = LatencyHistogram::new();
    other.merge(histogram);
    assert_eq!(&other, histogram);
}

/// Likewise; merging with itself changes nothing.
pub(super) fn use_exemplars(set: &ExemplarSet) {
    assert!(set.iter().count() <= 5);
    let mut merged = set.clone();
    merged.merge(set);
    assert_eq!(&merged, set);
}
