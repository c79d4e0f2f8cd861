//! Small segments with a dictionary: read with it and not without, trained on others, adopted if it is better.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use segment::{
    Blocks, ChunkBlock, ChunkTables, ContextBlock, Dictionary, Key, ReadError, RowBlock, Samples,
    SegmentInput, SegmentMeta, build, decode_minute, decode_segment_meta, dictionary_samples, retrain,
    trace_hashes,
};
use trace_model::{OperationId, ServiceId, SpanId, SpanKind, SpanNode, StatusCode, TraceId, UnixNanos};

use crate::round_trip::{check_chunks, check_minutes, check_rows, in_order};
use crate::sample::{Memory, Numbered, Sample, batch};

#[derive(Debug)]
struct With<'a>(&'a Memory, Option<&'a Dictionary>);

impl Blocks for With<'_> {
    fn get(&self, key: Key) -> Result<Option<Vec<u8>>, ReadError> {
        self.0.get(key)
    }

    fn dictionary(&self) -> Option<&Dictionary> {
        self.1
    }
}

/// Spans of a shop that sells one kind of thing; what a span says comes again in other segments only.
fn shop(seed: u64, goods: &str, spans: u64) -> Vec<Sample> {
    let of = |nth: u64| {
        let id = (seed * 1_000 + nth + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).max(1);
        let trace_id = TraceId::new(u128::from(id).to_be_bytes()).unwrap();
        let node = SpanNode {
            span_id: SpanId::new(id.to_be_bytes()).unwrap(),
            parent: None,
            start: UnixNanos(1_000_000_000 * nth),
            end: UnixNanos(1_000_000_000 * nth + id % 90_000_000),
            content: id,
            service: ServiceId((nth % 4) as u32),
            operation: OperationId((nth % 12) as u32),
            kind: SpanKind::from_wire(nth % 6),
            status: StatusCode::Unset,
        };
        // What a thing is called has nothing in common with what another is called.
        let called = |salt: &str| {
            let hash = xxhash_rust::xxh3::xxh3_128(format!("{salt} {goods} {nth}").as_bytes());
            format!("{hash:032x}")
        };
        let text = format!("\u{1}http.route/{}/basket", called("route"));
        let context = format!("service.name {} k8s.pod.name {seed}", called("service"));
        Sample { trace_id, node, message: text.into_bytes(), context: context.into_bytes() }
    };
    (0..spans).map(of).collect()
}

fn sealed(samples: &[Sample], dictionary: Option<&Dictionary>) -> (Memory, SegmentMeta) {
    let input = SegmentInput {
        batches: &[batch(1, samples)],
        frames: Some((1, 2)),
        analysed: &[],
        open: &[],
        open_since: None,
        names: &Numbered,
        dictionary,
        now: UnixNanos(5_000),
    };
    let mut memory = Memory::default();
    let meta = build(&input, &mut |key, value| {
        memory.0.insert(key.to_bytes(), value.to_vec());
        Ok(())
    });
    (memory, meta.unwrap())
}

fn sampled(goods: &str, dictionary: Option<&Dictionary>) -> Vec<Samples> {
    let of = |seed| {
        let (memory, meta) = sealed(&shop(seed, goods, 60), dictionary);
        assert_eq!(meta.dictionary, dictionary.map_or(0, Dictionary::id));
        dictionary_samples(&With(&memory, dictionary), meta.chunk_first_trace.len() as u32, 1 << 20).unwrap()
    };
    (0..16).map(of).collect()
}

fn trained(goods: &str) -> Dictionary {
    let found = retrain(&sampled(goods, None), None).unwrap().expect("much comes again");
    assert!(found.after * 2 < found.before, "{} of {}", found.after, found.before);
    Dictionary::new(7, found.bytes).unwrap()
}

#[test]
fn a_small_segment_is_smaller_with_a_dictionary_and_reads_with_it_alone() {
    let dictionary = trained("shoes");
    let samples = shop(99, "shoes", 60);
    let (memory, meta) = sealed(&samples, Some(&dictionary));
    let (_, plain_meta) = sealed(&samples, None);
    assert_eq!((meta.dictionary, plain_meta.dictionary), (7, 0));
    assert!(meta.bytes + 1_000 < plain_meta.bytes, "{} of {} bytes", meta.bytes, plain_meta.bytes);
    check_chunks(&With(&memory, Some(&dictionary)), &meta, &in_order(&samples));
    // With the wrong one, or none, the spans are damaged and the rest serves.
    let other = trained("books");
    for wrong in [None, Some(&other)] {
        let blocks = With(&memory, wrong);
        let tables = Arc::<ChunkTables>::default();
        let chunk = ChunkBlock::read_with(&blocks, 0, || Ok(tables));
        let contexts = ContextBlock::read(&blocks, 0);
        let right = ContextBlock::read(&With(&memory, Some(&dictionary)), 0).unwrap();
        assert!(chunk.is_err() || ChunkTables::read(&blocks).is_err(), "{wrong:?}");
        assert!(!contexts.is_ok_and(|block| block.get(0).unwrap() == right.get(0).unwrap()), "{wrong:?}");
    }
    check_rows(&memory, &meta, &in_order(&samples));
    check_minutes(&memory, &meta, &samples);
    assert!(RowBlock::read(&memory, 0).is_ok() && trace_hashes(&memory, 1).is_ok());
    assert!(decode_minute(&memory, meta.minutes[0], &|_, _| true).is_ok());
    assert_eq!(decode_segment_meta(&memory.0[&Key::Meta.to_bytes()]).unwrap(), meta);
}

#[test]
fn a_large_segment_needs_no_dictionary() {
    let dictionary = trained("shoes");
    let (memory, meta) = sealed(&shop(99, "shoes", 50_000), Some(&dictionary));
    assert_eq!(meta.dictionary, 0);
    assert!(ContextBlock::read(&memory, 0).is_ok() && ChunkBlock::read(&memory, 0).is_ok());
}

#[test]
fn a_dictionary_is_taken_only_if_it_is_better_than_the_one_in_use() {
    let first = trained("shoes");
    assert_eq!(retrain(&sampled("shoes", Some(&first)), Some(&first)).unwrap(), None, "nothing has changed");
    let other = retrain(&sampled("books", Some(&first)), Some(&first)).unwrap().expect("all has changed");
    assert!(other.after * 20 <= other.before * 19);
    let few = &sampled("shoes", None)[..7];
    assert_eq!(retrain(few, None).unwrap(), None, "too little to go by");
    let nothing = vec![vec![Vec::new()]; 20];
    assert_eq!(retrain(&nothing, None).unwrap(), None);
}

#[test]
fn samples_are_bounded() {
    let (memory, meta) = sealed(&shop(1, "shoes", 60), None);
    for bytes_max in [0, 10, 3_000] {
        let samples = dictionary_samples(&memory, meta.chunk_first_trace.len() as u32, bytes_max).unwrap();
        assert_eq!(samples.iter().map(Vec::len).sum::<usize>(), bytes_max);
    }
}

proptest! {
    #[test]
    fn bytes_that_are_no_dictionary_do_not_panic(at in any::<prop::sample::Index>(), byte in 1..=255_u8, cut in any::<bool>()) {
        static GOOD: LazyLock<Dictionary> = LazyLock::new(|| trained("shoes"));
        let (samples, good) = (shop(99, "shoes", 20), &*GOOD);
        let mut bytes = good.bytes().to_vec();
        let at = at.index(400.min(bytes.len()));
        if cut { bytes.truncate(at) } else { bytes[at] ^= byte }
        let Ok(damaged) = Dictionary::new(7, bytes) else { return Ok(()) };
        let (memory, _) = sealed(&samples, Some(good));
        let _ = ChunkBlock::read(&With(&memory, Some(&damaged)), 0);
        let _ = ContextBlock::read(&With(&memory, Some(&damaged)), 0);
    }
}
