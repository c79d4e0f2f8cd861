//! Rollups in the place of spans: no sum changes when a partition goes, however late spans come and whenever the
//! process is killed, nor when minutes become hours and hours days.

use std::collections::BTreeMap;

use query::{
    BottleneckGroup, BottleneckQuery, Freed, GroupBy, LatencyQuery, Retired, RollupOptions, Window,
    drop_partition, keep_rollups, retire_partition,
};
use segment::Tier;
use span_store::{Expired, SpanStore, StoreError, StoreOptions};
use trace_model::{NanoDuration, StatusCode, TraceId, UnixNanos};

use crate::oracle::Oracle;
use crate::spans::{BASE, Dice, SECOND, SERVICES, Span, random_spans, request};
use crate::world::{World, state_of, while_closed};

const LIVES: u64 = 60;
const MINUTE: u64 = UnixNanos::PER_MINUTE;

fn whole(window: Window, tier: Tier) -> Window {
    let width = tier.width();
    let end = if window.end.0 == u64::MAX { u64::MAX } else { window.end.0.div_ceil(width) * width };
    Window { start: UnixNanos(window.start.0 / width * width), end: UnixNanos(end) }
}

fn windows(tier: Tier) -> Vec<Window> {
    let from = |at: u64, minutes: u64| Window { start: UnixNanos(at), end: UnixNanos(at + minutes * MINUTE) };
    let some = [Window::ALL, from(BASE, 1), from(BASE + 30 * SECOND, 2), from(BASE + 3 * MINUTE, 90)];
    some.into_iter().map(|window| whole(window, tier)).collect()
}

fn latency(window: Window, step: Option<NanoDuration>, status: bool) -> LatencyQuery {
    LatencyQuery {
        service: None,
        operation: None,
        kind: None,
        status: None,
        window,
        step,
        quantiles: vec![0.0, 0.5, 0.99],
        group_by: GroupBy { status, ..GroupBy::default() },
        limit: 1_000,
    }
}

fn bottlenecks(window: Window, group_by: BottleneckGroup, service: Option<&str>) -> BottleneckQuery {
    let service = service.map(str::to_owned);
    BottleneckQuery { service, operation: None, window, group_by, faster_permille: 500, limit: 1_000 }
}

/// Everything that is summed over windows of whole buckets, as text.
fn sums(world: &World, tier: Tier) -> Vec<String> {
    let mut said = Vec::new();
    for window in windows(tier) {
        for step in [None, Some(NanoDuration(tier.width()))] {
            let answer = world.engine.latency(&latency(window, step, true)).unwrap();
            assert_eq!(answer.window, window);
            assert_eq!(answer.incomplete, Vec::new());
            said.push(format!("{window:?} {step:?} {:?}", answer.series));
        }
        for group in [BottleneckGroup::Service, BottleneckGroup::Operation] {
            for service in [None, Some(SERVICES[0])] {
                let answer = world.engine.bottlenecks(&bottlenecks(window, group, service)).unwrap();
                assert_eq!(answer.window, window);
                said.push(format!(
                    "{window:?} {group:?} {service:?} {} {} {:?} {:?} {} {}",
                    answer.traces,
                    answer.excluded,
                    answer.latency,
                    answer.items,
                    answer.other_share,
                    answer.flagged_share
                ));
            }
        }
    }
    said
}

fn assert_same(before: &[String], after: &[String], what: &str) {
    for (before, after) in before.iter().zip(after) {
        assert_eq!(before, after, "{what}");
    }
}

/// Count, errors and sum of durations by minute of the end, from what was delivered.
fn brute_force(oracle: &Oracle) -> BTreeMap<u64, (u64, u64, u128)> {
    let mut minutes: BTreeMap<u64, (u64, u64, u128)> = BTreeMap::new();
    for span in oracle.spans() {
        let minute = minutes.entry(span.end.0 / MINUTE).or_default();
        minute.0 += 1;
        minute.1 += u64::from(span.status == StatusCode::Error);
        minute.2 += u128::from(span.duration());
    }
    minutes
}

fn check_minutes(world: &World, oracle: &Oracle) {
    let mut found: BTreeMap<u64, (u64, u64, u128)> = BTreeMap::new();
    for minute in brute_force(oracle).keys() {
        let window = Window { start: UnixNanos(minute * MINUTE), end: UnixNanos((minute + 1) * MINUTE) };
        for series in world.engine.latency(&latency(window, None, false)).unwrap().series {
            let sum = found.entry(*minute).or_default();
            sum.0 += series.histogram.count();
            sum.1 += series.histogram.errors();
            sum.2 += series.histogram.sum_nanos();
        }
    }
    assert_eq!(found, brute_force(oracle));
    let all = world.engine.latency(&latency(Window::ALL, None, false)).unwrap();
    let count: u64 = all.series.iter().map(|series| series.histogram.count()).sum();
    assert_eq!(count, oracle.spans().count() as u64);
}

/// One life in which partitions go while spans still come, each span once; and what retention said.
fn live(dir: &std::path::Path, dice: &mut Dice) -> (World, Oracle, [u64; 2]) {
    let mut world = World::open(dir);
    let mut oracle = Oracle::default();
    let spans = random_spans(dice);
    let (mut next, mut steps, mut cut, mut said) = (0, 0, None, [0; 2]);
    while next < spans.len() || steps < 40 {
        steps += 1;
        match dice.below(14) {
            0..=3 if next < spans.len() => {
                let upto = (next + 1 + dice.below(4) as usize).min(spans.len());
                spans[next..upto].iter().for_each(|span| oracle.add(span));
                world.deliver(request(&spans[next..upto]));
                next = upto;
            }
            4..=6 => {
                world.wait(dice.pick(&[1, 6, 61]));
                world.finish_quiet();
            }
            7 | 8 if cut.is_none() => cut = Some(world.cut()),
            7..=9 => {
                if let Some(cut) = cut.take() {
                    world.seal(&cut);
                }
            }
            10 => world.merge(dice.pick(&[30_000, 1 << 20])),
            11 if dice.one_in(2) => {
                cut = None;
                world = world.restart();
            }
            _ => {
                let before = sums(&world, Tier::Minute);
                match world.retire(false) {
                    Some(Retired::Gone { .. }) => said[0] += 1,
                    Some(Retired::Postponed) => said[1] += 1,
                    None => {}
                }
                assert_same(&before, &sums(&world, Tier::Minute), "a partition went");
                world.store.keep_house().unwrap();
            }
        }
        if dice.one_in(4) {
            check_minutes(&world, &oracle);
        }
    }
    if let Some(cut) = cut {
        world.seal(&cut);
    }
    (world, oracle, said)
}

fn finish(world: &mut World) {
    world.wait(1_000);
    world.finish_quiet();
    let cut = world.cut();
    world.seal(&cut);
}

/// Rollups of this width become coarser.
fn fold(world: &World, tier: Tier) {
    let never = NanoDuration(u64::MAX);
    let age = |of: Tier| if of == tier { NanoDuration(0) } else { never };
    let options = RollupOptions {
        minute: age(Tier::Minute),
        hour: age(Tier::Hour),
        day: age(Tier::Day),
        bytes_max: u64::MAX,
    };
    let later = UnixNanos(world.now.0 + 100 * Tier::Day.width());
    for _ in 0..1_000 {
        if !keep_rollups(&world.state, &world.store, &options, later).unwrap() {
            return;
        }
    }
    panic!("there is no end to it");
}

#[test]
fn no_sum_changes_when_spans_go() {
    let mut said = [0; 2];
    for seed in 1..=LIVES {
        let dir = tempfile::tempdir().unwrap();
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let (mut world, oracle, of_life) = live(dir.path(), &mut dice);
            said = [said[0] + of_life[0], said[1] + of_life[1]];
            finish(&mut world);
            world.wait(120);
            let before = sums(&world, Tier::Minute);
            while let Some(retired) = world.retire(false) {
                assert!(matches!(retired, Retired::Gone { .. }), "no trace is held");
                assert_same(&before, &sums(&world, Tier::Minute), "a partition went");
                if dice.one_in(2) {
                    world = world.restart();
                    assert_same(&before, &sums(&world, Tier::Minute), "after a start");
                }
            }
            check_minutes(&world, &oracle);
        }));
        assert!(result.is_ok(), "seed {seed}");
    }
    assert!(said[0] > 20 && said[1] > 0, "gone and postponed while spans came: {said:?}");
}

/// A world whose first partitions are rollups, and whose last, a day and more later, has one span.
fn rolled_up(dir: &std::path::Path, dice: &mut Dice) -> World {
    let (mut world, ..) = live(dir, dice);
    finish(&mut world);
    world.wait(40 * 86_400);
    let mut span = random_spans(&mut Dice(1))[0].clone();
    span.trace_id = TraceId::new([0xee; 16]).unwrap();
    (span.start, span.end) = (world.now, world.now);
    world.deliver(request(&[span]));
    finish(&mut world);
    while world.retire(false).is_some() {}
    world
}

#[test]
fn minutes_become_hours_and_days_and_add_up_to_the_same() {
    for seed in 1..=30 {
        let dir = tempfile::tempdir().unwrap();
        let mut dice = Dice(seed * 77);
        let mut world = rolled_up(dir.path(), &mut dice);
        for (from, to) in [(Tier::Minute, Tier::Hour), (Tier::Hour, Tier::Day)] {
            let before = sums(&world, to);
            fold(&world, from);
            let view = world.state.snapshot();
            assert!(view.rollups.iter().all(|rollup| rollup.tier == to), "seed {seed}: {:?}", view.rollups);
            drop(view);
            assert_same(&before, &sums(&world, to), "folded");
            world.store.keep_house().unwrap();
            world = world.restart();
            assert_same(&before, &sums(&world, to), "after a start");
        }
        let freed: u64 = world.engine.status().rollups.iter().map(|totals| totals.spans).sum();
        fold(&world, Tier::Day);
        let status = world.engine.status();
        assert_eq!(status.rollups.iter().map(|totals| totals.rollups).sum::<u64>(), 0);
        assert_eq!(status.housekeeping.rollups[2].spans, freed);
    }
}

/// Whether a rollup became coarser, or went, at this moment.
fn kept_at(world: &World, options: &RollupOptions, now: u64) -> bool {
    keep_rollups(&world.state, &world.store, options, UnixNanos(now)).unwrap()
}

#[test]
fn each_width_of_rollups_has_an_age_of_its_own_exact_to_the_nanosecond() {
    const DAY: u64 = 86_400 * SECOND;
    let options = RollupOptions {
        minute: NanoDuration(5 * DAY),
        hour: NanoDuration(70 * DAY),
        day: NanoDuration(300 * DAY),
        bytes_max: u64::MAX,
    };
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path());
    world.deliver(request(&[one_span(1)]));
    finish(&mut world);
    let arrival = world.now.0;
    world.wait(40 * 86_400);
    world.deliver(request(&[one_span(2)]));
    finish(&mut world);
    assert_eq!(world.retire(false), Some(Retired::Gone { segments: 1, spans: 1 }));
    // Minutes of a day go together, and hours of 32 days; their age is that of the last of them.
    let end_of = |days: u64| (arrival / (days * DAY) + 1) * days * DAY;
    let due = [(Tier::Minute, end_of(1) + 5 * DAY), (Tier::Hour, end_of(32) + 70 * DAY)];
    for (tier, due) in due {
        assert_eq!(world.state.snapshot().rollups[0].tier, tier);
        assert!(!kept_at(&world, &options, due - 1), "{tier:?} just before");
        assert!(kept_at(&world, &options, due), "{tier:?} just then");
        assert!(!kept_at(&world, &options, due), "{tier:?}: all is done");
    }
    let view = world.state.snapshot();
    let day = &view.rollups[0];
    assert_eq!((view.rollups.len(), day.tier), (1, Tier::Day));
    // A day's rollup is as old as what arrived last in it.
    let due = day.meta.end + 300 * DAY;
    assert!(day.meta.end > day.meta.begin && day.meta.end <= arrival + 32 * DAY, "{:?}", day.meta);
    drop(view);
    assert!(!kept_at(&world, &options, due - 1), "just before");
    assert!(kept_at(&world, &options, due), "just then");
    let status = world.engine.status();
    assert_eq!(world.state.snapshot().rollups.len(), 0);
    assert_eq!(status.housekeeping.rollups.map(|freed| (freed.partitions, freed.spans)), [(1, 1); 3]);
    assert_eq!(status.housekeeping.rollups[2].last, Some(UnixNanos(due)));
}

#[test]
fn what_retention_freed_is_what_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(dir.path());
    let mut sent = Vec::new();
    for part in 0..5_u8 {
        // Other traces in each, and of the last none goes.
        let mut spans = random_spans(&mut Dice(u64::from(part) * 31 + 7));
        for span in &mut spans {
            let mut id = *span.trace_id.as_bytes();
            id[0] = part + 1;
            span.trace_id = TraceId::new(id).unwrap();
        }
        spans.iter().for_each(|span| world.deliver(request(std::slice::from_ref(span))));
        finish(&mut world);
        sent.push(world.engine.status().sealed_spans);
    }
    let before = world.engine.status();
    assert!(sent.windows(2).all(|pair| pair[0] < pair[1]), "{sent:?}");
    let mut gone = 0;
    while let Some(oldest) = world.store.oldest_partition() {
        let retired = retire_partition(&world.state, &world.store, &oldest, false, world.now).unwrap();
        assert!(matches!(retired, Retired::Gone { .. }));
        world.store.keep_house().unwrap();
        gone += 1;
        let after = world.engine.status();
        let freed = after.housekeeping.spans;
        assert_eq!(freed.spans, before.sealed_spans - after.sealed_spans);
        assert_eq!(freed.segments, before.segments - after.segments);
        assert_eq!(freed.bytes, before.stored_bytes - after.stored_bytes);
        assert_eq!((freed.partitions, freed.last), (gone, Some(world.now)));
        assert_eq!(after.rollups[0].spans, freed.spans, "what is not kept is counted");
    }
    assert_eq!(world.engine.status().housekeeping.spans.spans, sent[3], "all but the last part");
}

#[test]
fn a_window_that_cuts_an_hour_is_widened_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let world = rolled_up(dir.path(), &mut Dice(5));
    fold(&world, Tier::Minute);
    let hour = Tier::Hour.width();
    let buckets = world.state.snapshot().rollups[0].meta.path_buckets.clone();
    let first = u64::from(buckets[0]) * hour;
    let asked = Window { start: UnixNanos(first + 7 * MINUTE), end: UnixNanos(first + 8 * MINUTE) };
    let widened = Window { start: UnixNanos(first), end: UnixNanos(first + hour) };
    let narrow = world.engine.bottlenecks(&bottlenecks(asked, BottleneckGroup::Service, None)).unwrap();
    let wide = world.engine.bottlenecks(&bottlenecks(widened, BottleneckGroup::Service, None)).unwrap();
    assert_eq!((narrow.window, narrow.resolution), (widened, Some(NanoDuration(hour))));
    assert_eq!((narrow.traces, &narrow.items), (wide.traces, &wide.items));
    assert_eq!(narrow.incomplete[0].reason, "resolution");
    assert_eq!(wide.incomplete, Vec::new());

    let asked = latency(asked, Some(NanoDuration(MINUTE)), false);
    let answer = world.engine.latency(&asked).unwrap();
    assert_eq!(answer.window, widened);
    assert_eq!(
        answer.incomplete.len(),
        2,
        "the window, and points narrower than an hour: {:?}",
        answer.incomplete
    );
    let elsewhere = Window { start: UnixNanos(first - 10 * hour + 1), end: UnixNanos(first - 9 * hour + 1) };
    let answer = world.engine.latency(&latency(elsewhere, None, false)).unwrap();
    assert!(answer.window.end.0 - answer.window.start.0 <= hour + MINUTE, "nothing is cut there");
    assert_eq!((answer.incomplete, answer.resolution), (Vec::new(), None));
}

#[test]
fn a_rollup_whose_segments_are_still_there_does_not_count() {
    for seed in 1..=10 {
        let dir = tempfile::tempdir().unwrap();
        let mut dice = Dice(seed * 13);
        let (mut world, ..) = live(dir.path(), &mut dice);
        finish(&mut world);
        let before = sums(&world, Tier::Minute);
        // Somebody still reads, so that the partition's family is there when the process is killed.
        let reader = world.state.snapshot();
        let gone = world.retire(false).is_some();
        assert_same(&before, &sums(&world, Tier::Minute), "a partition went");
        let crashed = crate::merging::copy(dir.path());
        drop(reader);
        let again = World::open_at(crashed.path(), world.now);
        assert_same(&before, &sums(&again, Tier::Minute), "after a crash in between");
        if gone {
            assert!(again.retire(false).is_some(), "the partition is back and goes again");
            assert_same(&before, &sums(&again, Tier::Minute), "gone at last");
        }
    }
}

/// However often it was tried: what cannot be read at the moment may be the next time.
#[test]
fn a_store_that_fails_costs_a_rollup_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice(21);
    let (mut world, ..) = live(dir.path(), &mut dice);
    finish(&mut world);
    world.wait(120);
    world.deliver(request(&random_spans(&mut Dice(3))[..1]));
    finish(&mut world);
    let before = sums(&world, Tier::Minute);
    let partition = world.state.snapshot().sealed[0].handle.partition();
    let expired = Expired { partition, bytes: 1 };
    let retire = || retire_partition(&world.state, &world.store, &expired, true, world.now);
    world.while_closed(|| {
        let error = retire().unwrap_err().to_string();
        assert!(error.ends_with("the database is being opened again"), "{error}");
    });
    assert_eq!(world.engine.status().damaged, Vec::<String>::new());
    assert_same(&before, &sums(&world, Tier::Minute), "it stayed");
    assert!(matches!(retire().unwrap(), Retired::Gone { .. }));
    assert_same(&before, &sums(&world, Tier::Minute), "it went");
}

/// A world in which the oldest of several partitions can go.
fn with_an_oldest(dir: &std::path::Path) -> World {
    let mut world = World::open(dir);
    for trace in 1..=2 {
        world.deliver(request(&[one_span(trace)]));
        finish(&mut world);
    }
    assert_eq!(world.state.snapshot().sealed.len(), 2);
    world
}

fn one_span(trace: u8) -> Span {
    let mut span = random_spans(&mut Dice(3))[0].clone();
    (span.trace_id, span.parent) = (TraceId::new([trace; 16]).unwrap(), None);
    span
}

#[test]
fn a_trace_that_was_taken_back_for_a_repeated_span_is_counted_when_nothing_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = with_an_oldest(dir.path());
    let before = sums(&world, Tier::Minute);
    world.deliver(request(&[one_span(1)]));
    assert!(world.state.assembly.lock().assembler.holds(&one_span(1).trace_id));
    assert_eq!(world.retire(true), Some(Retired::Gone { segments: 1, spans: 1 }));
    world.wait(1_000);
    world.finish_quiet();
    assert!(!world.state.assembly.lock().assembler.holds(&one_span(1).trace_id), "it is let go of");
    assert_same(&before, &sums(&world, Tier::Minute), "a partition went");
}

#[test]
fn a_partition_that_the_store_cannot_let_go_of_is_answered_from_and_counts_when_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let world = with_an_oldest(dir.path());
    let (before, oldest) = (sums(&world, Tier::Minute), world.store.oldest_partition().unwrap());
    let go = || drop_partition(&world.state, &world.store, &oldest, world.now);
    let freed = || world.state.housekeeping.lock().spans;
    world.while_closed(|| {
        assert!(matches!(go(), Err(StoreError::Closed)));
        assert!(world.store.failure().is_some(), "whoever heals the store hears of it");
    });
    assert_same(&before, &sums(&world, Tier::Minute), "it could not go");
    assert_eq!((world.store.size().partitions, freed()), (2, Freed::default()));
    assert_eq!(go().unwrap(), (1, 1));
    assert_eq!((world.store.size().partitions, freed().partitions, freed().spans), (1, 1, 1));
    assert_eq!(world.state.snapshot().sealed.len(), 1);
}

#[test]
fn a_start_goes_on_if_rollups_that_do_not_count_cannot_be_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let world = with_an_oldest(dir.path());
    // Somebody still reads, so that the partition's family is there when the process is killed.
    let reader = world.state.snapshot();
    assert!(matches!(world.retire(false), Some(Retired::Gone { .. })));
    let crashed = crate::merging::copy(dir.path());
    drop(reader);
    let (store, segments, _) = SpanStore::open(crashed.path(), StoreOptions::default()).unwrap();
    let ids = segments.iter().map(|stored| stored.handle.id()).collect();
    let state = state_of(segments);
    while_closed(store.dir(), &store, || state.add_stored_rollups(&store, &ids));
    assert_eq!((state.snapshot().rollups.len(), state.snapshot().sealed.len()), (0, 2));
    store.keep_house().unwrap();
    drop((state, store));
    let (store, ..) = SpanStore::open(crashed.path(), StoreOptions::default()).unwrap();
    assert_eq!(store.take_stored_rollups().len(), 0, "it is gone");
}

#[test]
fn too_many_bytes_make_rollups_coarser_before_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let world = rolled_up(dir.path(), &mut Dice(9));
    let before = sums(&world, Tier::Hour);
    let bytes = |world: &World| world.engine.status().rollups.iter().map(|totals| totals.bytes).sum::<u64>();
    let of_minutes = bytes(&world);
    let options = RollupOptions { bytes_max: of_minutes - 1, ..RollupOptions::default() };
    assert!(keep_rollups(&world.state, &world.store, &options, world.now).unwrap());
    assert!(bytes(&world) < of_minutes);
    assert_same(&before, &sums(&world, Tier::Hour), "hours instead of minutes");
    let nothing = RollupOptions { bytes_max: 0, ..RollupOptions::default() };
    while keep_rollups(&world.state, &world.store, &nothing, world.now).unwrap() {}
    assert_eq!(bytes(&world), 0);
    let freed = world.state.housekeeping.lock().rollups;
    assert!(freed.iter().all(|freed| *freed != Freed::default()), "{freed:?}");
}
