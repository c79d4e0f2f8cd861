//! Which services and operations the critical paths of many traces are made of.
//!
//! Everything is summed in one pass, by the duration of the traces' roots where bands of it are asked for. Nothing is
//! kept a trace, so memory depends on the number of items and not of traces, and what traces were made of that are
//! not kept any more adds up with the rest.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use latency::LatencyHistogram;
use segment::rolled_paths;
use segment::{
    ItemKey, ItemSums, Names, Part, PathExemplar, PathGrouping, PathSumming, PathSums, ReadError, Tier,
    TraceHeads, TracePaths, TraceRow,
};
use span_store::in_parts;
use trace_assemble::Phase;
use trace_model::{NanoDuration, OperationId, TraceId, UnixNanos};

use crate::answer::*;
use crate::damage::Reader;
use crate::engine::QueryError;
use crate::request::*;
use crate::rollups::{Kind, Rollup, widen};
use crate::sealed::{Detail, SealedSegment};
use crate::search::{globalize, globalize_share};
use crate::state::State;
use crate::sums_room::{Portion, Share};
use crate::view::View;

/// What a question about all entries takes before anything is known of it, bytes.
const BEGIN_BYTES: usize = 8 << 20;
/// Traces that are not sealed yet are added so many at a time.
const LIVE_ROWS: usize = 512;

pub(crate) fn answer(state: &Reader<'_>, asked: &BottleneckQuery) -> Result<BottleneckAnswer, QueryError> {
    let (mut window, _) = widen(&state.snapshot_of_stored(), asked.window, Kind::Paths);
    loop {
        let question = BottleneckQuery { window, ..asked.clone() };
        let share = state.sums.share();
        let mut portion = share.portion();
        // Whoever must wait does so before it holds on to what is live; of one entry that is little.
        let begin = if question.service.is_none() { BEGIN_BYTES } else { 0 };
        portion.set(begin);
        let (live, held, open) = live_rows(state, &question);
        let view = state.snapshot_of_stored();
        let (of_view, mut incomplete) = widen(&view, asked.window, Kind::Paths);
        // Retention may just have put a rollup in the place of traces.
        if of_view != window {
            window = of_view;
            continue;
        }
        incomplete.extend(open_note(open));
        let selection = Selection { state, question: &question, view: &view, held: &held, share: &share };
        return selection.answer(live, (begin, portion), incomplete);
    }
}

fn open_note(open: u64) -> Option<Incomplete> {
    let detail = format!("{open} traces are still open and not counted yet");
    (open > 0).then_some(Incomplete { reason: "trace_open", detail })
}

/// What memory knows of traces whose sealed analyses it replaces.
#[derive(Default)]
struct Held {
    /// Those that are analysed again: none of their sealed analyses counts.
    again: HashSet<TraceId>,
    /// Those analysed for the first time. Their analysis may just have been sealed; another of the same trace, of
    /// spans that are not kept any more, is one of its own.
    first: HashMap<TraceId, Likeness>,
}

/// By what two analyses of a trace are taken for the same. The rows themselves would stay in memory for as long as the
/// question takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Likeness {
    start: UnixNanos,
    duration: NanoDuration,
    root_duration: NanoDuration,
    spans: u32,
    errors: u32,
}

impl Likeness {
    fn of(row: &TraceRow) -> Self {
        let TraceRow { start, duration, root_duration, spans, errors, .. } = *row;
        Self { start, duration, root_duration, spans, errors }
    }
}

impl Held {
    fn replaces(&self, sealed: &TraceRow) -> bool {
        self.again.contains(&sealed.trace_id)
            || self.first.get(&sealed.trace_id).is_some_and(|own| *own == Likeness::of(sealed))
    }

    /// About the bytes of memory it takes.
    fn memory_bytes(&self) -> usize {
        self.again.capacity() * size_of::<TraceId>()
            + self.first.capacity() * size_of::<(TraceId, Likeness)>()
    }
}

/// Finished analyses in memory that are asked for, what they replace, and how many traces in the window are open.
fn live_rows(state: &State, question: &BottleneckQuery) -> (Vec<Arc<TraceRow>>, Held, u64) {
    let (mut rows, mut held, open) = rows_in_window(state, question);
    let mut entries = Entries::new();
    rows.retain(|(row, _)| root_wanted(state, question, row.root, &mut entries));
    let first = rows.iter().filter(|(_, is_first)| *is_first);
    held.first = first.map(|(row, _)| (row.trace_id, Likeness::of(row))).collect();
    (rows.into_iter().map(|(row, _)| row).collect(), held, open)
}

/// Finished analyses in memory of traces in the window, and whether each is the first of its trace; of what they replace,
/// traces that are analysed again; how many traces in the window are open.
fn rows_in_window(state: &State, question: &BottleneckQuery) -> (Vec<(Arc<TraceRow>, bool)>, Held, u64) {
    let assembly = state.assembly.lock();
    let mut rows = Vec::new();
    let mut held = Held::default();
    let mut open = 0;
    for (id, trace) in assembly.assembler.iter() {
        match assembly.analysed.get(id) {
            Some(row) if trace.phase() == Phase::Finished => {
                if question.window.contains(row.start) {
                    rows.push((Arc::clone(row), !trace.is_revised()));
                }
            }
            // Finished and without an analysis waiting: its segment is being published, look there.
            _ if trace.phase() == Phase::Finished => continue,
            _ => {
                open += u64::from(question.window.contains(trace.extent().0));
            }
        }
        if trace.is_revised() {
            held.again.insert(*id);
        }
    }
    (rows, held, open)
}

struct Selection<'a> {
    state: &'a Reader<'a>,
    question: &'a BottleneckQuery,
    view: &'a View,
    held: &'a Held,
    share: &'a Share<'a>,
}

/// Which roots are asked for, once it was looked up.
type Entries = HashMap<OperationId, bool>;

impl Selection<'_> {
    /// Adds `live`, which it lets go of first, and what is stored.
    fn answer(
        &self,
        live: Vec<Arc<TraceRow>>,
        (begin, mut portion): (usize, Portion<'_>),
        incomplete: Vec<Incomplete>,
    ) -> Result<BottleneckAnswer, QueryError> {
        let by = match self.question.group_by {
            BottleneckGroup::Service => PathGrouping::Service,
            BottleneckGroup::Operation => PathGrouping::Operation,
        };
        let (mut summing, mut scanned, mut entries) =
            (PathSumming::new(by), Scanned::default(), Entries::new());
        for rows in live.chunks(LIVE_ROWS) {
            for row in rows.iter().filter(|row| self.wanted(row, &mut entries)) {
                summing.add(row, &row.shares);
            }
            portion.set(begin.max(self.held.memory_bytes() + summing.memory_bytes()));
        }
        drop(live);
        let mut sums = summing.finish();
        let parts = in_parts(&self.view.sealed, self.state.segments_worth(), |part| {
            let (mut summing, mut scanned) = (PathSumming::new(by), Scanned::default());
            self.sealed(part, &mut scanned, &mut summing).map(|()| (summing.finish(), scanned))
        });
        for part in parts {
            let (of_part, read) = part?;
            sums.merge(of_part, |key| key);
            scanned.add(read);
        }
        let parts = in_parts(&self.view.rollups, 1, |part| self.rolled(part, by));
        let mut resolution = None;
        for part in parts {
            let (of_part, tier, read) = part?;
            sums.merge(of_part, |key| key);
            resolution = resolution.max(tier);
            scanned.add(read);
        }
        let (items, other_share) = items(self.state, self.question, &sums);
        Ok(BottleneckAnswer {
            window: self.question.window,
            resolution: resolution.map(|tier| NanoDuration(tier.width())),
            traces: sums.traces,
            excluded: sums.excluded,
            items,
            other_share,
            flagged_share: share(u128::from(sums.flagged), u128::from(sums.traces)),
            latency: sums.latency,
            incomplete,
            scanned,
        })
    }

    /// Adds the traces of these segments that are asked for.
    fn sealed(
        &self,
        segments: &[Arc<SealedSegment>],
        scanned: &mut Scanned,
        summing: &mut PathSumming,
    ) -> Result<(), QueryError> {
        let (mut entries, mut portion) = (Entries::new(), self.share.portion());
        for segment in segments {
            scanned.segments += u64::from(segment.traces.rows > 0);
            let window = self.question.window;
            if !segment.traces.overlaps(window) {
                continue;
            }
            let detail = {
                let _turn = self.state.scans.turn();
                self.state.blocks.detail_of_many(segment, &self.state.names)
            };
            let Some(detail) = self.state.readable(segment, detail)? else { continue };
            for (number, meta) in detail.meta.trace_blocks.iter().enumerate() {
                if meta.start_min >= window.end.0 || meta.start_max < window.start.0 {
                    continue;
                }
                // Before a turn is taken: whoever waits for room must not keep others from ending.
                portion.set(summing.memory_bytes());
                let _turn = self.state.scans.turn();
                let read = self.block((segment, &detail), number as u32, &mut entries, scanned, summing);
                self.state.readable(segment, read)?;
            }
        }
        Ok(())
    }

    fn block(
        &self,
        (segment, detail): (&SealedSegment, &Detail),
        number: u32,
        entries: &mut Entries,
        scanned: &mut Scanned,
        summing: &mut PathSumming,
    ) -> Result<(), ReadError> {
        let mut heads = TraceHeads::read_without_services(&segment.handle, number)?.rows;
        scanned.blocks += 1;
        scanned.rows += heads.len() as u64;
        let wanted = heads.iter_mut().map(|row| {
            globalize(row, segment, detail);
            // Most are of other roots, which is soon told.
            Ok(self.wanted(row, entries)
                && !self.held.replaces(row)
                && !self.view.is_replaced(&row.trace_id, segment.id)?)
        });
        let wanted: Vec<bool> = wanted.collect::<Result<_, ReadError>>()?;
        if !wanted.contains(&true) {
            return Ok(());
        }
        let is_wanted = |at: usize| wanted.get(at).copied().unwrap_or(false);
        let mut paths = TracePaths::read_of(&segment.handle, number, is_wanted)?;
        scanned.blocks += 1;
        for (at, row) in heads.iter().enumerate().filter(|(at, _)| is_wanted(*at)) {
            let shares = paths.of(at);
            shares.iter_mut().for_each(|share| globalize_share(share, segment, detail));
            summing.add(row, shares);
        }
        Ok(())
    }

    /// What these rollups have of the traces asked for, and the width of the widest that has any.
    fn rolled(
        &self,
        rollups: &[Arc<Rollup>],
        by: PathGrouping,
    ) -> Result<(PathSums, Option<Tier>, Scanned), QueryError> {
        let (mut sums, mut found, mut scanned) = (PathSums::default(), None, Scanned::default());
        let (mut entries, mut portion) = (Entries::new(), self.share.portion());
        let names_a_root = self.question.service.is_some() || self.question.operation.is_some();
        let kind = match by {
            PathGrouping::Service if !names_a_root => Kind::PathsOfAll,
            _ => Kind::Paths,
        };
        for rollup in rollups {
            let tier = rollup.tier;
            let roots: Vec<bool> =
                rollup.operations().iter().map(|&root| self.root_wanted(Some(root), &mut entries)).collect();
            let rootless = self.root_wanted(None, &mut entries);
            let in_window = |bucket| self.question.window.contains(tier.start(bucket));
            let wanted = |bucket, root: Option<u32>| {
                let root = root.map_or(rootless, |root| roots.get(root as usize).copied().unwrap_or(false));
                root && in_window(bucket)
            };
            let services = rollup.services_of(&roots, &self.state.names);
            for block in rollup.blocks_with(kind, in_window) {
                let may_be_wanted = match block.part {
                    Part::Whole | Part::Together => true,
                    Part::Rootless => rootless,
                    Part::Service(service) => services.contains(&service),
                };
                if !may_be_wanted {
                    continue;
                }
                portion.set(sums.memory_bytes());
                let _turn = self.state.scans.turn();
                scanned.blocks += 1;
                let read = rolled_paths(&rollup.handle, block, by, &wanted, &mut |row| {
                    scanned.rows += 1;
                    sums.merge(row.sums, |key| rollup.globalize(key));
                    found = found.max(Some(tier));
                });
                self.state.readable_of_rollup(rollup, read)?;
            }
        }
        Ok((sums, found, scanned))
    }

    fn wanted(&self, row: &TraceRow, entries: &mut Entries) -> bool {
        self.question.window.contains(row.start) && self.root_wanted(row.root, entries)
    }

    fn root_wanted(&self, root: Option<OperationId>, entries: &mut Entries) -> bool {
        root_wanted(self.state, self.question, root, entries)
    }
}

fn root_wanted(
    state: &State,
    question: &BottleneckQuery,
    root: Option<OperationId>,
    entries: &mut Entries,
) -> bool {
    let Some(root) = root else {
        // Without a root nobody can say whose trace it is; it is counted as excluded where none is named.
        return question.service.is_none() && question.operation.is_none();
    };
    *entries.entry(root).or_insert_with(|| {
        let entry = state.names.operation(root);
        question.operation.as_deref().is_none_or(|wanted| wanted == &*entry.name)
            && question.service.as_deref().is_none_or(|wanted| wanted == &*state.names.service(entry.service))
    })
}

/// The items, greatest share first, and the share of those that the limit leaves out.
fn items(state: &State, question: &BottleneckQuery, sums: &PathSums) -> (Vec<BottleneckItem>, f64) {
    let total = sums.latency.sum_nanos();
    let bands = Bands::of(&sums.latency);
    let item = |(key, item): (&ItemKey, &ItemSums)| {
        let entry = key.operation.map(|id| state.names.operation(id));
        let service = |id| state.names.service(id);
        BottleneckItem {
            service: service(key.service),
            operation: entry.as_ref().map(|entry| Arc::clone(&entry.name)),
            kind: entry.map(|entry| entry.kind),
            edge: key.edge.map(|(client, server)| (service(client), service(server))),
            cp_nanos_sum: item.sum,
            cp_share: share(item.sum, total),
            cp_mean: mean(item.sum, sums.traces),
            cp_p50: quantile(&item.present, sums.traces, 0.5),
            cp_p99: quantile(&item.present, sums.traces, 0.99),
            presence: share(u128::from(item.present.count()), u128::from(sums.traces)),
            amplification_nanos: bands.amplification(item),
            calls_per_trace: share(u128::from(item.spans), u128::from(sums.traces)),
            error_share: share(u128::from(item.errors), u128::from(item.spans)),
            saving_upper_bound_mean: mean(
                item.sum * u128::from(question.faster_permille) / 1000,
                sums.traces,
            ),
            exemplars: item.exemplars.iter().map(exemplar).collect(),
        }
    };
    let mut rows: Vec<BottleneckItem> = sums.items.iter().map(item).collect();
    rows.sort_by(|a, b| {
        let names = |i: &BottleneckItem| (i.service.clone(), i.operation.clone(), i.kind, i.edge.clone());
        b.cp_nanos_sum.cmp(&a.cp_nanos_sum).then_with(|| names(a).cmp(&names(b)))
    });
    let left_out: u128 = rows.iter().skip(question.limit).map(|item| item.cp_nanos_sum).sum();
    rows.truncate(question.limit);
    (rows, share(left_out, total))
}

fn exemplar(of: &PathExemplar) -> BottleneckExemplar {
    BottleneckExemplar { trace_id: of.trace_id, root_duration: of.root_duration, cp: of.exclusive }
}

/// Traces up to the median of their roots' durations, and those above the 99th percentile.
struct Bands {
    median: NanoDuration,
    tail: NanoDuration,
    fast: u64,
    slow: u64,
}

impl Bands {
    fn of(latency: &LatencyHistogram) -> Self {
        let median = latency.quantile(0.5).unwrap_or_default();
        let tail = latency.quantile(0.99).unwrap_or_default();
        let fast = latency.cumulative_le(median);
        Self { median, tail, fast, slow: latency.count() - latency.cumulative_le(tail) }
    }

    fn amplification(&self, item: &ItemSums) -> i64 {
        let fast = item.by_root.through(self.median);
        let slow = item.by_root.total() - item.by_root.through(self.tail);
        difference(mean(slow, self.slow), mean(fast, self.fast))
    }
}

/// `a` less `b` in nanoseconds, as far as that can be told.
fn difference(a: NanoDuration, b: NanoDuration) -> i64 {
    let difference = i128::from(a.0) - i128::from(b.0);
    difference.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

fn share(part: u128, whole: u128) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn mean(sum: u128, count: u64) -> NanoDuration {
    NanoDuration(u64::try_from(sum / u128::from(count.max(1))).unwrap_or(u64::MAX))
}

/// The quantile over all traces, where those without the item count as zero.
fn quantile(present: &LatencyHistogram, traces: u64, q: f64) -> NanoDuration {
    let rank = ((q * traces as f64).ceil() as u64).max(1);
    let absent = traces.saturating_sub(present.count());
    if rank <= absent || present.count() == 0 {
        return NanoDuration(0);
    }
    let among_present = (rank - absent) as f64 / present.count() as f64;
    present.quantile(among_present.min(1.0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_of_very_long_means_keep_their_sign() {
        let long = 1_u64 << 63;
        for (a, b, wanted) in [
            (5, 7, -2),
            (long + 5, long, 5),
            (long, long + 5, -5),
            (u64::MAX, 0, i64::MAX),
            (0, u64::MAX, i64::MIN),
            (long, 1, i64::MAX),
        ] {
            assert_eq!(difference(NanoDuration(a), NanoDuration(b)), wanted, "{a} {b}");
        }
    }
}
