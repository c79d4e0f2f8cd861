//! Random lives of the whole pipeline: the real stages, one step after the other in one thread, with a clock that the
//! life moves and a real store. Spans come late and twice, segments are cut and sealed at any moment, the process is
//! killed between any two steps, partitions are merged, expire and leave rollups. Every answer is that of brute force
//! over what was acknowledged.

#[path = "../../../../query/tests/suite/checks.rs"]
mod checks;
mod closed;
mod damaged;
mod flawed;
mod gap;
mod keeping;
mod large;
mod life;
mod lost;
#[path = "../../../../query/tests/suite/oracle.rs"]
#[allow(dead_code, reason = "the suite of `query` uses the rest")]
mod oracle;
mod room;
mod sealing;
#[path = "../../../../query/tests/suite/spans.rs"]
#[allow(dead_code, reason = "the suite of `query` uses the rest")]
mod spans;
mod step;
mod world;

use std::cell::{Cell, RefCell};
use std::hash::BuildHasher as _;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use life::Life;
use step::{SpanRef, Step};

/// Sequences that are the same in every run. `LONGPOLE_MODEL_SEED` runs that one alone, `LONGPOLE_MODEL_LIVES` so many.
const LIVES: u64 = 1_000;
/// Sequences besides that are others in every run.
const FRESH: u64 = 50;
/// How often a failing sequence is run again with steps left out.
const SHRINKS: u32 = 300;

thread_local! {
    /// While a sequence is tried, its panics are expected and kept off the screen.
    static QUIET: Cell<bool> = const { Cell::new(false) };
    /// Where the last of them was.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

fn hush() {
    static HUSHED: Once = Once::new();
    HUSHED.call_once(|| {
        let show = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if QUIET.get() {
                let place = info.location().map(ToString::to_string);
                PLACE.set(place.unwrap_or_default());
            } else {
                show(info);
            }
        }));
    });
}

/// What went wrong, if anything.
fn fault(life: &Life, steps: &[Step]) -> Option<String> {
    QUIET.set(true);
    let lived = std::panic::catch_unwind(|| life.run(steps));
    QUIET.set(false);
    let panic = lived.err()?;
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    Some(format!("{}: {}", PLACE.take(), text.unwrap_or_default()))
}

/// Leaves out whatever the fault does not need, in ever smaller pieces.
fn shrink(life: &Life, mut steps: Vec<Step>, mut why: String) -> (Vec<Step>, String) {
    let mut tries = 0;
    let mut piece = steps.len() / 2;
    while piece > 0 {
        let mut at = 0;
        while at < steps.len() && tries < SHRINKS {
            tries += 1;
            let mut fewer = steps.clone();
            fewer.drain(at..(at + piece).min(steps.len()));
            match fault(life, &fewer) {
                Some(still) => (steps, why) = (fewer, still),
                None => at += piece,
            }
        }
        piece /= 2;
    }
    (steps, why)
}

fn live(seed: u64) {
    let life = Life::new(seed);
    let steps = life.draw();
    let Some(why) = fault(&life, &steps) else { return };
    let before = steps.len();
    let (steps, why) = shrink(&life, steps, why);
    let list: String = steps.iter().map(|step| format!("    {step:?}\n")).collect();
    panic!("seed {seed}, {life:?}: {} of {before} steps are needed:\n{list}{why}", steps.len());
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Beyond those that are the same in every run, and short enough to be typed.
fn fresh_seed() -> u64 {
    let random = std::hash::RandomState::new().hash_one(std::process::id());
    1_000_000 + random % 1_000_000_000
}

#[test]
fn what_was_acknowledged_is_answered_once_whatever_happens() {
    hush();
    if let Some(seed) = from_env("LONGPOLE_MODEL_SEED") {
        return live(seed);
    }
    let lives = from_env("LONGPOLE_MODEL_LIVES").unwrap_or(LIVES);
    let fresh = fresh_seed();
    println!("besides 1 to {lives}, the seeds {fresh} to {}", fresh + FRESH - 1);
    let seeds: Vec<u64> = (1..=lives).chain(fresh..fresh + FRESH).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, |threads| threads.get().min(8)) {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    live(*seed);
                }
            });
        }
    });
}

/// Spans by trace and place.
fn spans(list: &[(u8, u8)]) -> Vec<SpanRef> {
    list.iter().map(|(trace, nth)| SpanRef(*trace, *nth)).collect()
}

/// A trace that was open at a cut is analysed after a restart: assembling had taken it in long after its arrival.
#[test]
fn an_open_trace_that_waited_for_assembling_is_not_forgotten() {
    let die = Step::Die { copy: false };
    let commit = Step::Commit(vec![spans(&[(10, 0), (10, 3)])]);
    Life::new(1).run(&[
        commit,
        Step::Wait(5_400),
        Step::Take,
        Step::Cut,
        Step::Seal,
        die,
        Step::Ask(724_535_904),
    ]);
}

/// Likewise if a segment of analyses alone was sealed after the arrival of what was cut after it.
#[test]
fn a_segment_of_analyses_alone_is_no_younger_than_what_is_cut_after_it() {
    let steps = [
        Step::Commit(vec![spans(&[(6, 0)]), spans(&[(7, 0)])]),
        Step::Take,
        Step::Wait(61),
        Step::Cut,
        Step::Tick,
        Step::Cut,
        Step::Commit(vec![spans(&[(10, 0), (10, 3)])]),
        Step::Wait(61),
        Step::Take,
        Step::Cut,
        Step::Seal,
        Step::Die { copy: false },
        Step::Ask(724_535_904),
    ];
    Life::new(1).run(&steps);
}

/// Likewise if traces of several cuts were open when the process ended, and it ends again before they are quiet.
#[test]
fn open_traces_of_several_cuts_survive_two_restarts() {
    let one = |list: &[(u8, u8)]| Step::Commit(vec![spans(list)]);
    let steps = [
        one(&[(11, 4), (11, 1), (10, 0), (6, 5), (6, 2), (0, 4), (9, 4)]),
        Step::Wait(61),
        one(&[(11, 2), (11, 4), (3, 2)]),
        one(&[(10, 3), (5, 6), (5, 5), (5, 3)]),
        Step::Take,
        Step::Cut,
        one(&[(9, 4), (1, 2), (9, 5)]),
        Step::Take,
        Step::Seal,
        one(&[(2, 0), (0, 1), (8, 6), (2, 4), (11, 4), (3, 1), (11, 2), (5, 5), (5, 1)]),
        Step::Die { copy: true },
        Step::Ask(254_570_952),
        Step::Cut,
        Step::Seal,
        Step::Die { copy: true },
    ];
    Life::new(10).run(&steps);
}

/// Likewise if the first span that is replayed is a late one, and reopens a trace that had been analysed.
#[test]
fn a_trace_that_a_replay_reopens_is_open_since_the_arrival_of_its_late_span() {
    let one = |list: &[(u8, u8)]| Step::Commit(vec![spans(list)]);
    let steps = [
        one(&[(3, 4), (3, 0), (3, 1), (3, 2), (3, 6)]),
        Step::Take,
        Step::Wait(61),
        Step::Tick,
        Step::Cut,
        Step::Seal,
        one(&[(3, 3)]),
        Step::Wait(6),
        Step::Die { copy: false },
        Step::Cut,
        Step::Seal,
        Step::Die { copy: false },
        Step::Ask(1),
        Step::Ask(2),
        Step::Ask(3),
    ];
    Life::new(1).run(&steps);
}
