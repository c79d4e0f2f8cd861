//! Dictionaries are trained on what was sealed, taken if they are better, and go with their last segment. Whether a
//! segment has one changes no answer.

use query::{Dictionaries, DictionaryTrainer, Trained};
use segment::Blocks;
use trace_model::{SpanId, TraceId, UnixNanos};

use crate::checks::check_traces;
use crate::oracle::Oracle;
use crate::spans::{Dice, Span, random_spans, request};
use crate::world::World;

const HOUR: u64 = 3_600;

struct Shop {
    world: World,
    oracle: Oracle,
    trainer: DictionaryTrainer,
    next: u64,
}

impl Shop {
    /// Seals segments of ten spans, whose texts come again in other segments of the same kind of goods only.
    fn seal(&mut self, goods: &str, segments: u64) {
        let template = random_spans(&mut Dice(1))[0].clone();
        for _ in 0..segments {
            let mut spans: Vec<Span> = Vec::new();
            for nth in 0..10 {
                self.next += 1;
                let called: String = (0..8).map(|part| word(&format!("{goods} {nth} {part}"))).collect();
                let mut id = [0x11; 16];
                id[8..].copy_from_slice(&self.next.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
                spans.push(Span {
                    trace_id: TraceId::new(id).unwrap(),
                    span_id: SpanId::new([1; 8]).unwrap(),
                    parent: None,
                    service: Box::leak(called.into_boxed_str()),
                    start: self.world.now,
                    end: UnixNanos(self.world.now.0 + self.next * 1_000_003),
                    ..template.clone()
                });
            }
            spans.iter().for_each(|span| self.oracle.add(span));
            self.world.deliver(request(&spans));
            self.world.wait(3);
            self.world.finish_quiet();
            let cut = self.world.cut();
            self.world.seal(&cut);
        }
    }

    fn tend(&mut self) -> Option<Trained> {
        let World { state, store, now, .. } = &self.world;
        self.trainer.tend(state, store, *now).unwrap()
    }

    fn counted(&self) -> Dictionaries {
        self.world.engine.status().housekeeping.dictionaries
    }

    /// The numbers of the dictionaries that segments name, and the bytes of the last segment.
    fn named(&self) -> (Vec<u32>, u64) {
        let view = self.world.state.snapshot();
        let id = |segment: &std::sync::Arc<query::SealedSegment>| segment.handle.dictionary().map(|d| d.id());
        let mut named: Vec<u32> = view.sealed.iter().filter_map(id).collect();
        named.dedup();
        (named, view.sealed.last().unwrap().meta.bytes)
    }
}

fn word(of: &str) -> String {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(of.as_bytes()))
}

#[test]
fn dictionaries_are_trained_hourly_taken_if_better_and_go_with_their_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (world, trainer) = (World::open(dir.path()), DictionaryTrainer::default());
    let mut shop = Shop { world, oracle: Oracle::default(), trainer, next: 0 };
    shop.seal("shoes", 7);
    assert_eq!(shop.tend(), None, "too few segments");
    assert_eq!(shop.counted(), Dictionaries::default());
    shop.seal("shoes", 9);
    let (none, plain) = shop.named();
    assert_eq!(none, Vec::<u32>::new());
    let trained = shop.tend().expect("it is better than none");
    assert!(trained.adopted && trained.after * 2 < trained.before, "{trained:?}");
    shop.seal("shoes", 20);
    let (named, bytes) = shop.named();
    assert_eq!(named, [1]);
    assert!(bytes + 500 < plain, "{bytes} of {plain} bytes");

    assert_eq!(shop.tend(), None, "an hour has not passed");
    assert_eq!(shop.counted().trained, 1);
    shop.world.wait(HOUR);
    assert_eq!(shop.tend(), None, "it is no better than the one in use");
    assert_eq!((shop.counted().trained, shop.counted().adopted), (2, 1));
    shop.world.wait(HOUR);
    assert_eq!(shop.tend(), None, "nothing was sealed since");
    assert_eq!(shop.counted().trained, 2);
    shop.seal("books", 64);
    let trained = shop.tend().expect("all is different");
    assert!(trained.adopted && trained.after * 20 <= trained.before * 19, "{trained:?}");
    shop.seal("books", 2);
    assert_eq!(shop.named().0, [1, 2]);
    assert_eq!(shop.counted(), Dictionaries { stored: 2, trained: 3, adopted: 2, dropped: 0, failed: 0 });

    shop.world.wait(120);
    shop.world.finish_quiet();
    check_traces(&shop.world.asked(), &shop.oracle);
    shop.world = shop.world.restart();
    check_traces(&shop.world.asked(), &shop.oracle);
    shop.world.merge(1 << 20);
    check_traces(&shop.world.asked(), &shop.oracle);
    while shop.world.retire(true).is_some() {
        shop.world.store.keep_house().unwrap();
    }
    assert_eq!(shop.named().0, [2]);
    shop.tend();
    assert_eq!((shop.counted().stored, shop.counted().dropped), (1, 1));
    shop.world = shop.world.restart();
    assert_eq!(shop.named().0, [2]);
}
