//! Exemplar sets: bounded, and the same however they were put together.

use latency::{Exemplar, ExemplarSet};
use proptest::prelude::*;
use trace_model::{NanoDuration, SpanId, TraceId, UnixNanos};

fn exemplar(n: u128, duration: u64) -> Exemplar {
    Exemplar {
        trace_id: TraceId::new(n.to_be_bytes()).unwrap(),
        span_id: SpanId::new((n as u64).to_be_bytes()).unwrap(),
        duration: NanoDuration(duration),
        time: UnixNanos(1_000 + n as u64),
    }
}

fn of(seen: &[(Exemplar, bool)]) -> ExemplarSet {
    let mut set = ExemplarSet::new();
    seen.iter().for_each(|(exemplar, error)| set.observe(*exemplar, *error));
    set
}

/// Few ids and few bands, so that all kinds of ties occur.
fn seen(max: usize) -> impl Strategy<Value = Vec<(Exemplar, bool)>> {
    let one = (1..40u128, 0..10u32, 0..3u64, any::<bool>());
    let one = one.prop_map(|(n, band, more, error)| (exemplar(n, (1 << band) + more), error));
    prop::collection::vec(one, 0..max)
}

fn merged(a: &ExemplarSet, b: &ExemplarSet) -> ExemplarSet {
    let mut a = a.clone();
    a.merge(b);
    a
}

proptest! {
    #[test]
    fn a_set_is_a_function_of_what_was_seen(
        (a, b, shuffled) in (seen(30), seen(30)).prop_flat_map(|(a, b)| {
            let all = a.iter().chain(&b).copied().collect::<Vec<_>>();
            (Just(a), Just(b), Just(all).prop_shuffle())
        })
    ) {
        let want = of(&shuffled);
        prop_assert_eq!(&merged(&of(&a), &of(&b)), &want);
        prop_assert_eq!(&merged(&of(&b), &of(&a)), &want);
        prop_assert_eq!(&merged(&want, &of(&a)), &want);
        prop_assert_eq!(&merged(&want, &want), &want);
    }

    #[test]
    fn merging_is_associative(a in seen(20), b in seen(20), c in seen(20)) {
        let [a, b, c] = [a, b, c].map(|seen| of(&seen));
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
    }

    #[test]
    fn a_set_holds_few_that_were_seen_and_the_slowest_of_them(seen in seen(60)) {
        let set = of(&seen);
        let held: Vec<_> = set.iter().collect();
        prop_assert!(held.len() <= 5);
        prop_assert!(held.iter().all(|e| seen.iter().any(|(s, _)| s == *e)));
        prop_assert!((1..held.len()).all(|i| !held[..i].contains(&held[i])));
        let slowest = |seen: &mut dyn Iterator<Item = &(Exemplar, bool)>| seen.map(|(e, _)| e.duration).max();
        prop_assert_eq!(set.slowest().map(|e| e.duration), slowest(&mut seen.iter()));
        prop_assert_eq!(set.error().map(|e| e.duration), slowest(&mut seen.iter().filter(|s| s.1)));
        let bands = |of: &mut dyn Iterator<Item = NanoDuration>| {
            let mut bands: Vec<_> = of.map(|d| d.0.ilog2()).collect();
            bands.sort_unstable();
            bands.dedup();
            bands.len()
        };
        let (seen_bands, held_bands) =
            (bands(&mut seen.iter().map(|s| s.0.duration)), bands(&mut held.iter().map(|e| e.duration)));
        prop_assert!(held_bands >= seen_bands.min(3));
    }

    #[test]
    fn the_nearest_above_is_the_fastest_that_is_slow_enough(seen in seen(30), limit in 0..1100u64) {
        let set = of(&seen);
        let want = set.iter().map(|e| e.duration.0).filter(|d| *d >= limit).min();
        prop_assert_eq!(set.nearest_above(NanoDuration(limit)).map(|e| e.duration.0), want);
    }

    #[test]
    fn the_encoding_goes_there_and_back(seen in seen(30), after in any::<[u8; 2]>()) {
        let set = of(&seen);
        let mut bytes = Vec::new();
        set.encode(&mut bytes);
        prop_assert!(bytes.len() <= 2 + 5 * 45);
        bytes.extend(after);
        let mut rest = &bytes[..];
        prop_assert_eq!(ExemplarSet::decode(&mut rest).unwrap(), set);
        prop_assert_eq!(rest, after);
    }

    #[test]
    fn no_bytes_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        seen in seen(10),
        at in any::<prop::sample::Index>(),
        flip in 1..=255u8,
    ) {
        let mut valid = Vec::new();
        of(&seen).encode(&mut valid);
        let cut = at.index(valid.len());
        prop_assert!(ExemplarSet::decode(&mut &valid[..cut]).is_err());
        valid[cut] ^= flip;
        let behind_format: Vec<u8> = [1, 2, 5].into_iter().chain(bytes.iter().copied()).collect();
        for bytes in [&bytes, &valid, &behind_format] {
            let mut rest = &bytes[..];
            match ExemplarSet::decode(&mut rest) {
                Ok(set) => prop_assert_eq!(&merged(&set, &set), &set),
                Err(_) => prop_assert_eq!(rest, &bytes[..]),
            }
        }
    }
}

#[test]
fn equal_durations_are_settled_by_the_smaller_id() {
    let set = of(&[(exemplar(9, 100), false), (exemplar(3, 100), false), (exemplar(5, 100), true)]);
    assert_eq!(set.slowest(), Some(&exemplar(3, 100)));
    assert_eq!(set.error(), Some(&exemplar(5, 100)));
}

#[test]
fn one_span_in_several_roles_is_stored_once() {
    let mut bytes = Vec::new();
    of(&[(exemplar(9, 100), true)]).encode(&mut bytes);
    assert_eq!(bytes.len(), 2 + 1 + 24 + 1 + 2);
}

#[test]
fn an_empty_set_is_empty() {
    let set = ExemplarSet::new();
    assert!(set.is_empty() && set.iter().next().is_none() && set.nearest_above(NanoDuration(0)).is_none());
    let mut bytes = Vec::new();
    set.encode(&mut bytes);
    assert_eq!(bytes, [1, 0]);
}
