//! Random lives of a store: spans come late, twice and out of order, segments are cut and sealed at any
//! moment, the process is killed; every answer is that of brute force over the spans.

use std::collections::HashSet;

use query::{TraceSearch, Window};
use trace_model::UnixNanos;

use crate::checks::{check, random_search};
use crate::oracle::Oracle;
use crate::spans::{BASE, Dice, STEP, random_spans, request};
use crate::world::World;

const LIVES: u64 = 150;

/// One life; ends with everything delivered.
pub(crate) fn live(dir: &std::path::Path, dice: &mut Dice, checked: bool) -> (World, Oracle) {
    let mut world = World::open(dir);
    let mut oracle = Oracle::default();
    let spans = random_spans(dice);
    let mut next = 0;
    let mut cut = None;
    let mut steps = 0;
    while next < spans.len() || steps < 12 {
        steps += 1;
        match dice.below(12) {
            0..=4 => {
                let upto = (next + 1 + dice.below(5) as usize).min(spans.len());
                let mut sent = spans[next..upto].to_vec();
                next = upto;
                for _ in 0..dice.below(3) {
                    sent.push(spans[dice.below(upto as u64) as usize].clone());
                }
                sent.iter().for_each(|span| oracle.add(span));
                world.deliver(request(&sent));
            }
            5..=7 => {
                world.wait(dice.pick(&[1, 6, 61]));
                world.finish_quiet();
            }
            8 | 9 if cut.is_none() => cut = Some(world.cut()),
            8..=10 => {
                if let Some(cut) = cut.take() {
                    world.seal(&cut);
                }
            }
            _ if dice.one_in(3) => {
                cut = None;
                world = world.restart();
            }
            _ => world.merge(dice.pick(&[30_000, 60_000, 1 << 20])),
        }
        if checked && dice.one_in(3) {
            check(&world.asked(), &oracle, dice);
        }
    }
    if let Some(cut) = cut {
        world.seal(&cut);
    }
    if dice.one_in(2) {
        world.merge(1 << 20);
    }
    (world, oracle)
}

#[test]
fn every_answer_is_that_of_brute_force() {
    for seed in 1..=LIVES {
        let dir = tempfile::tempdir().unwrap();
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let (mut world, oracle) = live(dir.path(), &mut dice, true);
            check(&world.asked(), &oracle, &mut dice);
            world.wait(1_000);
            world.finish_quiet();
            let cut = world.cut();
            world.seal(&cut);
            check(&world.asked(), &oracle, &mut dice);
            let view = world.state.snapshot();
            assert_eq!(view.live.len(), 0);
            let assembly = world.state.assembly.lock();
            assert_eq!((assembly.assembler.held_spans(), assembly.analysed.len()), (0, 0), "all is let go");
        }));
        assert!(result.is_ok(), "seed {seed}");
    }
}

#[test]
fn ids_that_were_given_out_are_not_given_again_among_equals() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path());
    let mut spans = Vec::new();
    for n in 1..=60_u8 {
        let mut span = random_spans(&mut Dice(1))[0].clone();
        span.trace_id = trace_model::TraceId::new([n; 16]).unwrap();
        (span.start, span.end) = (UnixNanos(BASE), UnixNanos(BASE));
        spans.push(span);
    }
    world.deliver(request(&spans[..30]));
    let cut = world.cut();
    world.seal(&cut);
    world.deliver(request(&spans[30..]));
    let mut search =
        TraceSearch { service: Some(spans[0].service.to_owned()), ..random_search(&mut Dice(3), STEP) };
    search =
        TraceSearch { operation: None, kind: None, status: None, window: Window::ALL, limit: 7, ..search };
    (search.min_duration, search.max_duration) = (None, None);
    (search.min_trace_duration, search.max_trace_duration) = (None, None);
    let mut seen = HashSet::new();
    loop {
        let answer = world.engine.search(&search).unwrap();
        assert!(answer.traces.iter().all(|hit| seen.insert(hit.trace_id)));
        let Some(next) = answer.next else { break };
        search.cursor = Some(next);
    }
    assert_eq!(seen.len(), 60);
}
