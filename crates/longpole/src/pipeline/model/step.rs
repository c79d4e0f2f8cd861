//! What can happen in a life.

use super::flawed::Flaw;
use super::spans::{BASE, Dice, NAMES, SECOND, SERVICES, Span};
use super::world::Failing;
use trace_model::{SpanId, SpanKind, StatusCode, TraceId, UnixNanos};

/// Traces of a life, and the spans that each can have.
const TRACES: u64 = 12;
const SPANS: u64 = 7;

/// A span by its trace and its place in it: the same pair is the same span.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SpanRef(pub(super) u8, pub(super) u8);

impl std::fmt::Debug for SpanRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Requests are committed in one group and acknowledged.
    Commit(Vec<Vec<SpanRef>>),
    /// Likewise, but for spans that are rejected.
    CommitInPart(Vec<Vec<(SpanRef, Option<Flaw>)>>),
    /// The store fails: a group is refused, and what then happens does. Who is still there sends it again.
    Fail { what: Failing, group: Vec<Vec<SpanRef>>, then: Then },
    /// A group is written, and nobody is told, as if the write had ended in an error; with `die` the process is killed.
    /// Its clients send it again.
    Unheard { group: Vec<Vec<SpanRef>>, die: bool },
    /// Assembling takes in the frames that were committed.
    Take,
    /// Time goes by, in seconds.
    Wait(u64),
    /// Assembling finishes what is quiet, and cuts if it is time.
    Tick,
    /// Assembling cuts.
    Cut,
    /// The sealer seals the oldest cut.
    Seal,
    /// The sealer publishes the oldest cut and is killed before anybody sees it.
    PublishAndDie,
    /// Killed; with `copy` the folder is copied while it is open, as the system would have it after `kill -9`.
    Die { copy: bool },
    /// Everything is sealed, and what is too old goes and leaves nothing, as for want of room.
    Drop,
    /// The keeper merges small segments; with `die` the process is killed while somebody still reads the old ones.
    Merge { replaced: bool, die: bool },
    /// The keeper puts rollups in the place of what is too old; with `die` the process is killed while somebody still reads it.
    Retire { die: bool },
    /// The same, and rollups become coarser.
    Fold,
    /// Questions, drawn from this seed.
    Ask(u64),
}

/// What becomes of partitions that are too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeping {
    /// None is.
    All,
    /// They go without a rollup.
    Dropped,
    /// Rollups take their place.
    RolledUp,
}

/// What happens while the store fails.
#[derive(Debug, Clone, Copy)]
pub(super) enum Then {
    /// The oldest cut cannot be sealed, and the store gets over its error.
    Mend,
    /// The process stops.
    Stop,
    /// It is killed; as [`Step::Die`].
    Die { copy: bool },
}

fn spans(dice: &mut Dice) -> Vec<SpanRef> {
    let trace = dice.below(TRACES) as u8;
    let count = 1 + dice.below(5);
    let one = |dice: &mut Dice| {
        let trace = if dice.one_in(3) { dice.below(TRACES) as u8 } else { trace };
        SpanRef(trace, dice.below(SPANS) as u8)
    };
    (0..count).map(|_| one(dice)).collect()
}

fn group(dice: &mut Dice) -> Vec<Vec<SpanRef>> {
    (0..1 + dice.below(3)).map(|_| spans(dice)).collect()
}

fn in_part(dice: &mut Dice) -> Vec<Vec<(SpanRef, Option<Flaw>)>> {
    let flaw = |dice: &mut Dice| dice.one_in(2).then(|| dice.pick(&Flaw::ALL));
    group(dice).into_iter().map(|spans| spans.into_iter().map(|span| (span, flaw(dice))).collect()).collect()
}

fn fail(dice: &mut Dice) -> Step {
    let what = dice.pick(&[Failing::All, Failing::Log]);
    let then =
        dice.pick(&[Then::Mend, Then::Mend, Then::Stop, Then::Die { copy: false }, Then::Die { copy: true }]);
    Step::Fail { what, group: group(dice), then }
}

fn step(dice: &mut Dice, keeping: Keeping) -> Step {
    match dice.below(48) {
        0..=11 => Step::Commit(group(dice)),
        40 | 41 => Step::CommitInPart(in_part(dice)),
        42 => fail(dice),
        43 => Step::Unheard { group: group(dice), die: dice.one_in(2) },
        12..=16 => Step::Take,
        17..=20 if keeping == Keeping::RolledUp && dice.one_in(6) => Step::Wait(100_000),
        17..=20 => Step::Wait(dice.pick(&[1, 6, 6, 61, 61, 1_200, 5_400, 18_000])),
        21..=25 => Step::Tick,
        26..=28 => Step::Cut,
        29..=32 => Step::Seal,
        33 => Step::PublishAndDie,
        34 | 35 => Step::Die { copy: dice.one_in(2) },
        36 if keeping == Keeping::Dropped => Step::Drop,
        36 | 44 | 45 if keeping == Keeping::RolledUp => Step::Retire { die: dice.one_in(4) },
        46 if keeping == Keeping::RolledUp => Step::Fold,
        47 => Step::Merge { replaced: dice.one_in(3), die: dice.one_in(6) },
        44..=46 => Step::Commit(group(dice)),
        _ => Step::Ask(dice.below(1 << 30)),
    }
}

pub(super) fn draw(dice: &mut Dice, keeping: Keeping) -> Vec<Step> {
    (0..20 + dice.below(60)).map(|_| step(dice, keeping)).collect()
}

/// The span that a reference means in the life of this seed. `base` is when its trace began.
pub(super) fn span(seed: u64, at: SpanRef, base: u64) -> Span {
    let SpanRef(trace, nth) = at;
    let mut dice =
        Dice((seed << 16 | u64::from(trace) << 8 | u64::from(nth)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    dice.below(2);
    let own = if nth > 0 && dice.one_in(12) { nth } else { nth + 1 };
    let root = nth == 0 && !dice.one_in(6) || dice.one_in(25);
    // The nanoseconds keep spans apart that share an id.
    let start = base + dice.below(9) * 20 * SECOND + u64::from(nth);
    let length = dice.pick(&[0, 1, 1, 2, 3, 300]) * SECOND / 10;
    let end = if dice.one_in(30) { start - SECOND } else { start + length };
    let mut id = [0x11; 16];
    (id[0], id[15]) = ((u64::from(trace) * 83 % 251) as u8, trace);
    Span {
        trace_id: TraceId::new(id).unwrap(),
        span_id: SpanId::new([own; 8]).unwrap(),
        parent: (!root).then(|| SpanId::new([1 + dice.below(SPANS) as u8; 8]).unwrap()),
        service: dice.pick(&SERVICES),
        name: dice.pick(&NAMES),
        kind: dice.pick(&[SpanKind::Server, SpanKind::Client]),
        status: dice.pick(&StatusCode::ALL),
        start: UnixNanos(start),
        end: UnixNanos(end),
    }
}

/// When a trace begins by its clients' clocks, which are up to half a minute ahead or two minutes behind.
pub(super) fn begin(seed: u64, trace: u8, now: UnixNanos) -> u64 {
    let mut dice = Dice((seed << 8 | u64::from(trace)).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1);
    now.0.max(BASE) + dice.below(30) * SECOND - dice.below(120) * SECOND
}
