//! One life: its options, its steps, and what must be true in between.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use span_store::StoreOptions;
use trace_assemble::Options;
use trace_model::{NanoDuration, TraceId, UnixNanos};

use super::checks::{Asked, check, check_latency, check_totals, check_traces};
use super::flawed::Flaw;
use super::oracle::Oracle;
use super::spans::{Dice, Span, request};
use super::step::{self, Keeping, SpanRef, Step, Then};
use super::world::{Failing, Gone, Setting, World};
use crate::pipeline::SealOptions;

#[derive(Debug)]
pub(super) struct Life {
    seed: u64,
    setting: Setting,
    keeping: Keeping,
}

/// What is known from outside.
#[derive(Default)]
struct Known {
    oracle: Oracle,
    begins: HashMap<u8, u64>,
    /// Content hashes of spans that went and left nothing.
    dropped: HashSet<u64>,
}

/// A folder in memory where there is one: a life is a few hundred writes and they must not wait for a disk.
pub(super) fn folder() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.or_else(|_| tempfile::tempdir()).unwrap()
}

impl Life {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        dice.below(2);
        let retains = dice.one_in(3);
        let setting = Setting {
            seal: SealOptions {
                bytes: dice.pick(&[1 << 20, 1 << 20, 900]),
                interval: NanoDuration::from_secs(dice.pick(&[300, 60])),
            },
            assemble: Options {
                spans_max: dice.pick(&[4_000_000, 4_000_000, 12]),
                trace_held_max: dice.pick(&[4_000_000, 3, 1]),
                ..Options::default()
            },
            store: StoreOptions {
                retention: NanoDuration::from_secs(if retains { 7_200 } else { 7 * 86_400 }),
                bytes_max: if retains && dice.one_in(3) { 15_000 } else { 50 << 30 },
                generation_bytes: dice.pick(&[300, 1 << 20]),
                cache_bytes: 1 << 20,
                ..StoreOptions::default()
            },
            // Of one trace in memory, of none, of all.
            revisions: dice.pick(&[100, 0, 1 << 20]),
            ..Setting::default()
        };
        let keeping = match retains {
            false => Keeping::All,
            true if dice.one_in(4) => Keeping::Dropped,
            true => Keeping::RolledUp,
        };
        Self { seed, setting, keeping }
    }

    pub(super) fn draw(&self) -> Vec<Step> {
        step::draw(&mut Dice(self.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1), self.keeping)
    }

    /// Lives through the steps.
    ///
    /// # Panics
    /// If an answer is wrong.
    pub(super) fn run(&self, steps: &[Step]) {
        let mut world = World::open(folder(), self.setting);
        let mut known = Known::default();
        for step in steps {
            world = self.take_step(world, &mut known, step);
        }
        ask(&mut world, &known, self.seed);
        world.wait(1_000);
        world.tick();
        world.seal_all();
        ask(&mut world, &known, self.seed + 1);
        assert_eq!(world.state.snapshot().live.len(), 0, "all is sealed");
        let assembly = world.state.assembly.lock();
        assert_eq!((assembly.assembler.held_spans(), assembly.analysed.len()), (0, 0), "all is let go");
    }

    fn take_step(&self, mut world: World, known: &mut Known, step: &Step) -> World {
        match step {
            Step::Commit(group) => self.commit(&mut world, known, group),
            Step::CommitInPart(group) => self.commit_in_part(&mut world, known, group),
            Step::Fail { what, group, then } => return self.fail(world, known, *what, group, *then),
            Step::Unheard { group, die } => {
                let requests = self.requests(&world, known, group);
                world.log(&requests.iter().map(|spans| request(spans)).collect::<Vec<_>>());
                if *die {
                    world = world.die(false);
                }
                self.commit(&mut world, known, group);
            }
            Step::Take => world.take_all(),
            Step::Wait(seconds) => world.wait(*seconds),
            Step::Tick => world.tick(),
            Step::Cut => world.cut(),
            Step::Seal => world.seal(),
            Step::PublishAndDie => {
                world.publish();
                return world.die(false);
            }
            Step::Die { copy } => return world.die(*copy),
            Step::Drop => known.drop(world.retain()),
            Step::Merge { replaced, die: false } => world.merge(*replaced),
            Step::Merge { die: true, .. } => return world.merge_and_die(),
            Step::Retire { die: false } => known.retire(world.retire()),
            Step::Retire { die: true } => return world.retire_and_die(),
            Step::Fold => known.retire(world.fold()),
            Step::Ask(seed) => ask(&mut world, known, *seed),
        }
        world
    }

    fn commit(&self, world: &mut World, known: &mut Known, group: &[Vec<SpanRef>]) {
        // A late span of a trace that is not whole any more is analysed with what is left of it.
        let mut requests = self.resolve(world, known, group);
        let is_late =
            requests.iter().flatten().any(|span| known.oracle.outlived.contains_key(&span.trace_id));
        if is_late {
            world.take_all();
        }
        let assembly = world.state.assembly.lock();
        let held: HashSet<TraceId> = assembly.assembler.iter().map(|(id, _)| *id).collect();
        drop(assembly);
        requests.iter_mut().for_each(|spans| spans.retain(|span| known.is_sure(span, &held)));
        world.commit(&requests);
        for span in requests.iter().flatten() {
            known.oracle.outlived.remove(&span.trace_id);
            known.oracle.add(span);
        }
        if is_late {
            world.take_all();
        }
    }

    fn commit_in_part(&self, world: &mut World, known: &mut Known, group: &[Vec<(SpanRef, Option<Flaw>)>]) {
        let mut requests = Vec::new();
        for request in group {
            let resolve = |(at, flaw): &(SpanRef, _)| (self.span(world, known, *at), *flaw);
            let mut resolved: Vec<(Span, Option<Flaw>)> = request.iter().map(resolve).collect();
            // What is gone may be left out for a flaw, and not come again.
            resolved.retain(|(span, flaw)| flaw.is_some() || known.is_whole(span));
            requests.push(resolved);
        }
        world.commit_in_part(&requests);
        let sound = requests.iter().flatten().filter(|(_, flaw)| flaw.is_none());
        sound.for_each(|(span, _)| known.oracle.add(span));
    }

    /// Nothing of what is refused is there: what fails here writes nothing. The rest is, whatever becomes of the process.
    fn fail(
        &self,
        mut world: World,
        known: &mut Known,
        what: Failing,
        group: &[Vec<SpanRef>],
        then: Then,
    ) -> World {
        let broken = world.break_store(what);
        world.refuse(&self.requests(&world, known, group));
        match then {
            Then::Mend => {
                world.try_to_seal();
                world.mend(broken);
                self.commit(&mut world, known, group);
                world
            }
            Then::Stop => {
                world.stop();
                world.mend_files(broken);
                world.die(false)
            }
            Then::Die { copy } => {
                world.mend_files(broken);
                world.die(copy)
            }
        }
    }

    /// The spans of a group but for those of traces that are not whole any more.
    fn requests(&self, world: &World, known: &mut Known, group: &[Vec<SpanRef>]) -> Vec<Vec<Span>> {
        let mut requests = self.resolve(world, known, group);
        requests.iter_mut().for_each(|spans| spans.retain(|span| known.is_whole(span)));
        requests
    }

    fn resolve(&self, world: &World, known: &mut Known, group: &[Vec<SpanRef>]) -> Vec<Vec<Span>> {
        let spans = |request: &Vec<SpanRef>| request.iter().map(|at| self.span(world, known, *at)).collect();
        group.iter().map(spans).collect()
    }

    fn span(&self, world: &World, known: &mut Known, at: SpanRef) -> Span {
        let now = world.now();
        let base = *known.begins.entry(at.0).or_insert_with(|| step::begin(self.seed, at.0, now));
        step::span(self.seed, at, base)
    }
}

impl Known {
    /// Whether all is there of the trace that this span is of, as far as it is known.
    fn is_whole(&self, span: &Span) -> bool {
        !self.dropped.contains(&span.content()) && !self.oracle.outlived.contains_key(&span.trace_id)
    }

    /// Whether it is promised what becomes of a span. Nothing remembers what is gone: of a trace that is not whole a span
    /// is compared with what is stored, and with more while the trace is held, which a crash may end.
    fn is_sure(&self, span: &Span, held: &HashSet<TraceId>) -> bool {
        let stored = self.oracle.traces.get(&span.trace_id);
        let is_new = |stored: &Vec<Span>| stored.iter().all(|other| other.content() != span.content());
        self.is_whole(span)
            || !self.dropped.contains(&span.content())
                && !held.contains(&span.trace_id)
                && stored.is_some_and(is_new)
    }

    /// Spans go and leave nothing.
    fn drop(&mut self, gone: HashSet<u64>) {
        for spans in self.oracle.traces.values_mut() {
            spans.retain(|span| !gone.contains(&span.content()));
        }
        self.oracle.traces.retain(|_, spans| !spans.is_empty());
        self.dropped.extend(gone);
    }

    /// Rollups take the place of spans and analyses. An analysis in a later partition outlives spans that it was made with.
    fn retire(&mut self, partitions: Vec<Gone>) {
        let oracle = &mut self.oracle;
        for partition in partitions {
            for (id, spans) in &mut oracle.traces {
                let going = spans.extract_if(.., |span| partition.spans.contains(&span.content()));
                let going: Vec<Span> = going.collect();
                oracle.gone.extend(going.iter().cloned());
                if !going.is_empty() {
                    oracle.outlived.entry(*id).or_default().extend(going);
                }
            }
            oracle.traces.retain(|_, spans| !spans.is_empty());
            for id in partition.analysed {
                assert!(!oracle.traces.contains_key(&id), "spans of {id} are without an analysis");
                oracle.rolled.extend(oracle.outlived.remove(&id).map(|spans| (id, spans)));
            }
        }
    }
}

fn ask(world: &mut World, known: &Known, seed: u64) {
    // What is acknowledged is visible once assembling has taken it in.
    world.take_all();
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let asked = Asked {
        engine: &world.engine,
        state: &world.state,
        step: dice.pick(&[20, 600, 7_200]) * 1_000_000_000,
    };
    let status = world.engine.status();
    assert_eq!(status.damaged, Vec::<String>::new());
    assert_eq!(
        (status.sealed_spans + status.live_spans) as usize,
        known.oracle.spans().count(),
        "spans in status"
    );
    if !known.oracle.gone.is_empty() {
        absent(world, known);
    }
    if known.dropped.is_empty() {
        return check(&asked, &known.oracle, &mut dice);
    }
    // Analyses outlive spans of theirs that lay in an older partition, so searches by trace tell of what is gone.
    check_traces(&asked, &known.oracle);
    check_totals(&asked, &known.oracle, &mut dice);
    check_latency(&asked, &known.oracle, &mut dice);
    absent(world, known);
}

fn absent(world: &World, known: &Known) {
    for id in world.absent(&known.oracle) {
        assert!(world.engine.trace(id).unwrap().is_none(), "{id} is gone");
    }
}

/// A moment of a life in words, for a fault.
impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} traces, begun {:?}",
            self.oracle.traces.len(),
            self.begins.values().map(|at| UnixNanos(*at))
        )
    }
}
