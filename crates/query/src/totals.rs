//! Services and operations, with what is stored of them.

use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use segment::{Names, ReadError, RowBlock};
use trace_model::{OperationId, ServiceId, SpanKind, StatusCode, UnixNanos};

use crate::answer::*;
use crate::damage::Reader;
use crate::engine::QueryError;
use crate::fetch;
use crate::request::Window;
use crate::sealed::SealedSegment;
use crate::view::View;

/// Traces that are looked at for the exact starts of their spans, for one question at most.
const EXACT_TRACES_MAX: usize = 10_000;

struct Total {
    spans: u64,
    errors: u64,
    /// Of spans that say when they began; one that began at 0 does not.
    first: u64,
    last: u64,
}

impl Total {
    const NONE: Self = Self { spans: 0, errors: 0, first: u64::MAX, last: 0 };

    fn add(&mut self, spans: u64, errors: u64, first: u64, last: u64) {
        self.spans += spans;
        self.errors += errors;
        self.first = self.first.min(told(first).unwrap_or(u64::MAX));
        self.last = self.last.max(last);
    }

    /// Some span started at `first` and some at `last`, which is of interest if it was in the window. Others are hidden
    /// behind a first of 0.
    fn see(&mut self, window: Window, first: u64, last: u64) {
        if first > 0 && window.contains(UnixNanos(first)) {
            self.first = self.first.min(first);
        }
        if window.contains(UnixNanos(last)) {
            self.last = self.last.max(last);
        }
    }
}

/// When spans began; `None` for 0, which says nothing of it.
fn told(start: u64) -> Option<u64> {
    (start > 0).then_some(start)
}

/// When the oldest span began of those that say it.
pub(crate) fn oldest(view: &View) -> Option<UnixNanos> {
    let sealed = view.sealed.iter().filter(|segment| segment.meta.spans > 0).filter_map(oldest_of);
    let live = view.live.iter().flat_map(|batch| &batch.rows).filter_map(|row| told(row.node.start.0));
    sealed.chain(live).min().map(UnixNanos)
}

fn oldest_of(segment: &Arc<SealedSegment>) -> Option<u64> {
    let by_service = || {
        let totals = segment.meta.service_totals.iter().filter(|total| total.spans > 0);
        totals.filter_map(|total| told(total.first_seen)).min()
    };
    told(segment.meta.start_min).or_else(by_service)
}

pub(crate) fn services(
    state: &Reader<'_>,
    window: Option<Window>,
) -> Result<(Vec<ServiceRow>, Vec<Incomplete>), QueryError> {
    let window = window.unwrap_or(Window::ALL);
    let mut view = state.snapshot();
    let mut totals: HashMap<ServiceId, Total> = HashMap::new();
    for row in view.live.iter().flat_map(|batch| &batch.rows) {
        if window.contains(row.node.start) {
            let error = u64::from(row.node.status == StatusCode::Error);
            let start = row.node.start.0;
            totals.entry(row.node.service).or_insert(Total::NONE).add(1, error, start, start);
        }
    }
    view.let_go_of_live();
    let mut cut = Vec::new();
    for segment in view.sealed.iter().filter(|segment| segment.meta.spans > 0) {
        let meta = &segment.meta;
        if window.contains(UnixNanos(meta.start_min)) && window.contains(UnixNanos(meta.start_max)) {
            for (local, total) in meta.service_totals.iter().enumerate().filter(|(_, t)| t.spans > 0) {
                let id = segment.service(local as u32);
                let (first, last) = (total.first_seen, total.last_seen);
                totals.entry(id).or_insert(Total::NONE).add(total.spans, total.errors, first, last);
            }
        } else if meta.start_min < window.end.0 && meta.start_max >= window.start.0 {
            cut.push(segment);
        }
    }
    let mut allowance = Allowance { left: EXACT_TRACES_MAX, exceeded: false };
    // After the others: what is known to be the first and the last need not be looked up.
    for segment in cut {
        partly(state, segment, window, &mut allowance, &mut totals)?;
    }
    let mut rows: Vec<ServiceRow> = totals
        .into_iter()
        .map(|(id, total)| ServiceRow {
            name: state.names.service(id),
            spans: total.spans,
            errors: total.errors,
            first_seen: UnixNanos(if total.first == u64::MAX { 0 } else { total.first }),
            last_seen: UnixNanos(total.last),
        })
        .collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((rows, allowance.note().into_iter().collect()))
}

/// Of a segment that the window cuts, the services that it cuts as well are counted row by row.
fn partly(
    state: &Reader<'_>,
    segment: &SealedSegment,
    window: Window,
    allowance: &mut Allowance,
    totals: &mut HashMap<ServiceId, Total>,
) -> Result<(), QueryError> {
    let detail = state.blocks.detail(segment, &state.names);
    let Some(detail) = state.readable(segment, detail)? else { return Ok(()) };
    let mut exact = ExactStarts { state, segment, traces: HashMap::new(), allowance };
    let mut next = 0_u32;
    for blocks in detail.meta.row_blocks.chunk_by(|a, b| a.service == b.service) {
        let numbers = next..;
        next += blocks.len() as u32;
        let Some(service) = blocks.first().map(|block| block.service) else { continue };
        let total = totals.entry(segment.service(service)).or_insert(Total::NONE);
        let Some(stored) = segment.meta.service_totals.get(service as usize) else { continue };
        let contains = |start| window.contains(UnixNanos(start));
        if blocks.iter().all(|block| contains(block.start_min) && contains(block.start_max)) {
            total.add(stored.spans, stored.errors, stored.first_seen, stored.last_seen);
            continue;
        }
        for (number, meta) in numbers.zip(blocks) {
            if meta.start_min >= window.end.0 || meta.start_max < window.start.0 {
                continue;
            }
            let block = RowBlock::read(&segment.handle, number);
            let Some(block) = state.readable(segment, block)? else { continue };
            total.see(window, stored.first_seen, stored.last_seen);
            total.see(window, meta.start_min, meta.start_max);
            let starts =
                Starts { first: meta.start_min, first_told: stored.first_seen, last: meta.start_max };
            block_partly(&block, &starts, window, &mut exact, total)?;
        }
    }
    totals.retain(|_, total| total.spans > 0);
    Ok(())
}

/// What is known of all starts of a block. Its rows know less of their own if one of them is far from the others.
struct Starts {
    first: u64,
    /// The first of those of its service that are not 0.
    first_told: u64,
    last: u64,
}

impl Starts {
    /// The earliest and the latest at which the span of a row may have started.
    fn between(&self, block: &RowBlock, row: usize) -> (UnixNanos, UnixNanos) {
        let (earliest, latest) = block.start_between(row);
        let earliest = match earliest.0.max(self.first) {
            0 => 0,
            earliest => earliest.max(self.first_told),
        };
        (UnixNanos(earliest), UnixNanos(latest.0.min(self.last)))
    }
}

/// Counts the rows in the window. Rows do not tell exactly when their spans started; it is looked up where that matters,
/// and where it cannot be had, a row counts if its span was in the window for certain.
fn block_partly(
    block: &RowBlock,
    starts: &Starts,
    window: Window,
    exact: &mut ExactStarts<'_>,
    total: &mut Total,
) -> Result<(), QueryError> {
    for row in 0..block.len() {
        let (mut earliest, mut latest) = starts.between(block, row);
        if latest < window.start || earliest >= window.end {
            continue;
        }
        let is_within = window.contains(earliest) && window.contains(latest);
        let may_be_first = told(earliest.0).is_some_and(|earliest| earliest < total.first);
        let is_extreme = may_be_first || latest.0 > total.last;
        if is_extreme || !is_within {
            match exact.start(block.traces[row], block.spans[row])? {
                Some(start) => (earliest, latest) = (start, start),
                None if is_within => {}
                None => {
                    exact.allowance.exceeded |= exact.is_used_up(block.traces[row]);
                    continue;
                }
            }
        }
        if window.contains(earliest) {
            let error = u64::from(block.status(row) == StatusCode::Error);
            total.add(1, error, earliest.0, latest.0);
        }
    }
    Ok(())
}

/// Traces that may still be looked at, and whether there were more.
struct Allowance {
    left: usize,
    exceeded: bool,
}

impl Allowance {
    fn note(&self) -> Option<Incomplete> {
        let detail = format!(
            "more than {EXACT_TRACES_MAX} traces have spans of which only a look would tell whether they are in the \
             window; those beyond are not counted. A window that starts or ends elsewhere may need fewer looks"
        );
        self.exceeded.then_some(Incomplete { reason: "starts_limit", detail })
    }
}

/// Exact starts of a segment's spans. Of a trace that was looked at all are kept, for it may be large; `None` if they cannot
/// be read, or no more traces are looked at.
struct ExactStarts<'a> {
    state: &'a Reader<'a>,
    segment: &'a SealedSegment,
    traces: HashMap<u32, Option<Vec<UnixNanos>>>,
    allowance: &'a mut Allowance,
}

impl ExactStarts<'_> {
    /// Whether a trace is not looked at because enough others were.
    fn is_used_up(&self, trace: u32) -> bool {
        self.allowance.left == 0 && !self.traces.contains_key(&trace)
    }

    fn start(&mut self, trace: u32, span: u32) -> Result<Option<UnixNanos>, QueryError> {
        let starts = match self.traces.entry(trace) {
            Entry::Occupied(starts) => starts.into_mut(),
            Entry::Vacant(_) if self.allowance.left == 0 => return Ok(None),
            Entry::Vacant(entry) => {
                self.allowance.left -= 1;
                entry.insert(fetch::starts_of(self.state, self.segment, trace)?)
            }
        };
        let Some(starts) = starts else { return Ok(None) };
        let start = starts.get(span as usize).copied().ok_or(ReadError::Damaged("row block"));
        Ok(self.state.readable(self.segment, start)?)
    }
}

pub(crate) fn operations(
    state: &Reader<'_>,
    service: &str,
    kind: Option<SpanKind>,
) -> Result<Vec<OperationRow>, QueryError> {
    let Some(service) = state.names.find_service(service) else { return Ok(Vec::new()) };
    let mut view = state.snapshot();
    let mut totals: HashMap<OperationId, (u64, u64)> = HashMap::new();
    for row in view.live.iter().flat_map(|batch| &batch.rows).filter(|row| row.node.service == service) {
        let total = totals.entry(row.node.operation).or_default();
        total.0 += 1;
        total.1 += u64::from(row.node.status == StatusCode::Error);
    }
    view.let_go_of_live();
    for segment in view.sealed.iter().filter(|segment| segment.services.contains(&service)) {
        let detail = state.blocks.detail(segment, &state.names);
        let Some(detail) = state.readable(segment, detail)? else { continue };
        for (local, operation) in detail.meta.operations.iter().enumerate() {
            if operation.spans > 0 && segment.service(operation.service) == service {
                let total = totals.entry(detail.operation(local as u32)).or_default();
                total.0 += operation.spans;
                total.1 += operation.errors;
            }
        }
    }
    let mut rows: Vec<OperationRow> = totals
        .into_iter()
        .map(|(id, (spans, errors))| {
            let entry = state.names.operation(id);
            OperationRow { name: entry.name, kind: entry.kind, spans, errors }
        })
        .filter(|row| kind.is_none_or(|kind| kind == row.kind))
        .collect();
    rows.sort_by(|a, b| b.spans.cmp(&a.spans).then_with(|| (&a.name, a.kind).cmp(&(&b.name, b.kind))));
    Ok(rows)
}
