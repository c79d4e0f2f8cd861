//! Which services and operations the critical paths of many traces are made of.
//!
//! Two passes: the first takes the durations of the roots, which give the bands; the second adds up the
//! shares. Nothing is kept a trace, so memory depends on the number of items and not of traces.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use latency::LatencyHistogram;
use segment::{Names, TraceHeads, TracePaths, TraceRow};
use trace_analyze::{Flags, PathShare};
use trace_assemble::Phase;
use trace_model::{NanoDuration, OperationId, ServiceId, TraceId};

use crate::answer::*;
use crate::engine::QueryError;
use crate::request::*;
use crate::sealed::{Detail, SealedSegment};
use crate::search::{globalize, globalize_share};
use crate::state::{State, View};

/// Exemplar traces of an item.
const EXEMPLARS_MAX: usize = 3;

pub(crate) fn answer(state: &State, question: &BottleneckQuery) -> Result<BottleneckAnswer, QueryError> {
    let mut scanned = Scanned::default();
    let (live, held, open) = live_rows(state, question);
    let view = state.snapshot();
    let mut selection = Selection { state, question, view: &view, live: &live, held: &held };

    let mut roots = Roots::default();
    selection.each(false, &mut scanned, &mut |row, _| roots.add(row))?;
    let bands = Bands {
        median: roots.latency.quantile(0.5).unwrap_or_default(),
        tail: roots.latency.quantile(0.99).unwrap_or_default(),
    };
    let mut sums = Sums { state, question, bands, items: HashMap::new(), total: 0, fast: 0, slow: 0 };
    selection.each(true, &mut scanned, &mut |row, shares| sums.add(row, shares))?;
    let (items, other_share) = sums.finish(roots.traces);
    Ok(BottleneckAnswer {
        traces: roots.traces,
        excluded: roots.excluded,
        latency: roots.latency,
        items,
        other_share,
        flagged_share: share(u128::from(roots.flagged), u128::from(roots.traces)),
        incomplete: open_note(open),
        scanned,
    })
}

fn open_note(open: u64) -> Vec<Incomplete> {
    if open == 0 {
        return Vec::new();
    }
    let detail = format!("{open} traces are still open and not counted yet");
    vec![Incomplete { reason: "trace_open", detail }]
}

/// Finished analyses in memory, all traces held there, and how many of them in the window are open.
fn live_rows(state: &State, question: &BottleneckQuery) -> (Vec<Arc<TraceRow>>, HashSet<TraceId>, u64) {
    let assembly = state.assembly.lock();
    let mut rows = Vec::new();
    let mut held = HashSet::new();
    let mut open = 0;
    for (id, trace) in assembly.assembler.iter() {
        match assembly.analysed.get(id) {
            Some(row) if trace.phase() == Phase::Finished => {
                held.insert(*id);
                rows.push(Arc::clone(row));
            }
            // Finished and without an analysis waiting: its segment is being published, look there.
            _ if trace.phase() == Phase::Finished => {}
            _ => {
                held.insert(*id);
                open += u64::from(question.window.contains(trace.extent().0));
            }
        }
    }
    (rows, held, open)
}

type Each<'f> = &'f mut dyn FnMut(&TraceRow, &[PathShare]);

struct Selection<'a> {
    state: &'a State,
    question: &'a BottleneckQuery,
    view: &'a View,
    live: &'a [Arc<TraceRow>],
    held: &'a HashSet<TraceId>,
}

impl Selection<'_> {
    /// Tells `each` the traces asked for, ids process-wide; with their shares if `with_shares`.
    fn each(&mut self, with_shares: bool, scanned: &mut Scanned, each: Each<'_>) -> Result<(), QueryError> {
        let mut entries: HashMap<OperationId, bool> = HashMap::new();
        for row in self.live.iter().filter(|row| self.wanted(row, &mut entries)) {
            each(row, &row.shares);
        }
        for segment in self.view.sealed.iter() {
            scanned.segments += u64::from(!with_shares && segment.traces.rows > 0);
            let window = self.question.window;
            if !segment.traces.overlaps(window) {
                continue;
            }
            let detail = match self.state.blocks.detail(segment, &self.state.names) {
                Ok(detail) => detail,
                Err(_) if segment.handle.is_dropped() => continue,
                Err(error) => return Err(error.into()),
            };
            for (number, meta) in detail.meta.trace_blocks.iter().enumerate() {
                if meta.start_min >= window.end.0 || meta.start_max < window.start.0 {
                    continue;
                }
                match self.block((segment, &detail), number as u32, with_shares, &mut entries, scanned, each)
                {
                    Err(_) if segment.handle.is_dropped() => break,
                    other => other?,
                }
            }
        }
        Ok(())
    }

    fn block(
        &self,
        (segment, detail): (&SealedSegment, &Detail),
        number: u32,
        with_shares: bool,
        entries: &mut HashMap<OperationId, bool>,
        scanned: &mut Scanned,
        each: Each<'_>,
    ) -> Result<(), QueryError> {
        let heads = TraceHeads::read(&segment.handle, number)?;
        let mut paths =
            if with_shares { TracePaths::read(&segment.handle, number)?.rows } else { Vec::new() };
        scanned.blocks += 1 + u64::from(with_shares);
        let service_of = |id: OperationId| self.state.names.operation(id).service;
        for (at, mut row) in heads.rows.into_iter().enumerate() {
            scanned.rows += u64::from(!with_shares);
            if self.held.contains(&row.trace_id) || self.view.is_replaced(&row.trace_id, segment.id) {
                continue;
            }
            globalize(&mut row, segment, detail);
            if !self.wanted(&row, entries) {
                continue;
            }
            let shares = paths.get_mut(at).map(std::mem::take).unwrap_or_default();
            let shares: Vec<PathShare> = shares
                .into_iter()
                .map(|mut share| {
                    globalize_share(&mut share, segment, detail, &service_of);
                    share
                })
                .collect();
            each(&row, &shares);
        }
        Ok(())
    }

    fn wanted(&self, row: &TraceRow, entries: &mut HashMap<OperationId, bool>) -> bool {
        if !self.question.window.contains(row.start) {
            return false;
        }
        let question = self.question;
        let Some(root) = row.root else {
            // Without a root nobody can say whose trace it is; it is counted as excluded where none is named.
            return question.service.is_none() && question.operation.is_none();
        };
        *entries.entry(root).or_insert_with(|| {
            let entry = self.state.names.operation(root);
            question.operation.as_deref().is_none_or(|wanted| wanted == &*entry.name)
                && question
                    .service
                    .as_deref()
                    .is_none_or(|wanted| wanted == &*self.state.names.service(entry.service))
        })
    }
}

#[derive(Default)]
struct Roots {
    traces: u64,
    excluded: u64,
    flagged: u64,
    latency: LatencyHistogram,
}

impl Roots {
    fn add(&mut self, row: &TraceRow) {
        if row.root.is_none() {
            self.excluded += 1;
            return;
        }
        self.traces += 1;
        self.flagged += u64::from(row.flags != Flags::default() || row.missing_parents > 0);
        self.latency.record(row.root_duration, row.errors > 0);
    }
}

#[derive(Clone, Copy)]
struct Bands {
    median: NanoDuration,
    tail: NanoDuration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ItemKey {
    service: ServiceId,
    operation: Option<OperationId>,
    edge: Option<(ServiceId, ServiceId)>,
}

#[derive(Default)]
struct Item {
    sum: u128,
    present: LatencyHistogram,
    spans: u64,
    errors: u64,
    fast: u128,
    slow: u128,
    exemplars: Vec<BottleneckExemplar>,
}

struct Sums<'a> {
    state: &'a State,
    question: &'a BottleneckQuery,
    bands: Bands,
    items: HashMap<ItemKey, Item>,
    total: u128,
    fast: u64,
    slow: u64,
}

impl Sums<'_> {
    fn add(&mut self, row: &TraceRow, shares: &[PathShare]) {
        if row.root.is_none() {
            return;
        }
        let (fast, slow) = (row.root_duration <= self.bands.median, row.root_duration > self.bands.tail);
        self.fast += u64::from(fast);
        self.slow += u64::from(slow);
        self.total += u128::from(row.root_duration.0);
        let mut of_trace: HashMap<ItemKey, (u64, u64, u64)> = HashMap::new();
        for share in shares {
            let key = ItemKey {
                service: share.edge.map_or(share.service, |(client, _)| client),
                operation: match self.question.group_by {
                    BottleneckGroup::Service => None,
                    BottleneckGroup::Operation => Some(share.operation),
                },
                edge: share.edge,
            };
            let sums = of_trace.entry(key).or_default();
            sums.0 += share.exclusive.0;
            sums.1 += u64::from(share.spans);
            sums.2 += u64::from(share.errors);
        }
        for (key, (exclusive, spans, errors)) in of_trace {
            let item = self.items.entry(key).or_default();
            item.sum += u128::from(exclusive);
            item.spans += spans;
            item.errors += errors;
            item.fast += if fast { u128::from(exclusive) } else { 0 };
            item.slow += if slow { u128::from(exclusive) } else { 0 };
            if exclusive > 0 {
                item.present.record(NanoDuration(exclusive), false);
                item.note(BottleneckExemplar {
                    trace_id: row.trace_id,
                    root_duration: row.root_duration,
                    cp: NanoDuration(exclusive),
                });
            }
        }
    }

    fn finish(self, traces: u64) -> (Vec<BottleneckItem>, f64) {
        let Sums { state, question, items, total, fast, slow, .. } = self;
        let mut rows: Vec<BottleneckItem> = items
            .into_iter()
            .map(|(key, item)| {
                let entry = key.operation.map(|id| state.names.operation(id));
                BottleneckItem {
                    service: state.names.service(key.service),
                    operation: entry.as_ref().map(|entry| Arc::clone(&entry.name)),
                    kind: entry.map(|entry| entry.kind),
                    edge: key
                        .edge
                        .map(|(client, server)| (state.names.service(client), state.names.service(server))),
                    cp_nanos_sum: item.sum,
                    cp_share: share(item.sum, total),
                    cp_mean: mean(item.sum, traces),
                    cp_p50: quantile(&item.present, traces, 0.5),
                    cp_p99: quantile(&item.present, traces, 0.99),
                    presence: share(u128::from(item.present.count()), u128::from(traces)),
                    amplification_nanos: mean(item.slow, slow).0 as i64 - mean(item.fast, fast).0 as i64,
                    calls_per_trace: share(u128::from(item.spans), u128::from(traces)),
                    error_share: share(u128::from(item.errors), u128::from(item.spans)),
                    saving_upper_bound_mean: mean(
                        item.sum * u128::from(question.faster_permille) / 1000,
                        traces,
                    ),
                    exemplars: item.exemplars,
                }
            })
            .collect();
        rows.sort_by(|a, b| {
            let names = |i: &BottleneckItem| (i.service.clone(), i.operation.clone(), i.kind, i.edge.clone());
            b.cp_nanos_sum.cmp(&a.cp_nanos_sum).then_with(|| names(a).cmp(&names(b)))
        });
        let left_out: u128 = rows.iter().skip(question.limit).map(|item| item.cp_nanos_sum).sum();
        rows.truncate(question.limit);
        (rows, share(left_out, total))
    }
}

impl Item {
    fn note(&mut self, exemplar: BottleneckExemplar) {
        let key = |e: &BottleneckExemplar| (std::cmp::Reverse(e.cp), e.trace_id);
        let at = self.exemplars.partition_point(|other| key(other) < key(&exemplar));
        if at < EXEMPLARS_MAX {
            self.exemplars.insert(at, exemplar);
            self.exemplars.truncate(EXEMPLARS_MAX);
        }
    }
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
