//! Answers against brute force over every span. Also used by the model of the whole pipeline.

use std::collections::BTreeMap;
use std::sync::Arc;

use otlp_wire::{Walked, WireLimits, walk};
use query::{
    BottleneckGroup, BottleneckQuery, Engine, GroupBy, LatencyQuery, Order, State, TraceSearch, TraceState,
    Window, analyse,
};
use trace_assemble::Phase;
use trace_model::{NanoDuration, SpanKind, StatusCode, TraceId, UnixNanos};

use super::oracle::{Oracle, extent};
use super::spans::{BASE, Dice, NAMES, SECOND, SERVICES, Span};

/// Who is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) state: &'a State,
    /// Windows that are asked for begin within ten of these, nanoseconds.
    pub(crate) step: u64,
}

impl Asked<'_> {
    /// Whether the trace may still get spans.
    fn is_open(&self, id: &TraceId) -> bool {
        let assembly = self.state.assembly.lock();
        assembly.assembler.get(id).is_some_and(|trace| trace.phase() == Phase::Open)
    }

    /// What windows are widened to whole ones of at most, nanoseconds: `finest` unless there are rollups.
    fn bucket(&self, finest: u64) -> u64 {
        let view = self.state.snapshot_of_stored();
        view.rollups.iter().map(|rollup| rollup.tier.width()).fold(finest, u64::max)
    }
}

fn some<T>(dice: &mut Dice, one_in: u64, value: impl FnOnce(&mut Dice) -> T) -> Option<T> {
    if dice.one_in(one_in) { Some(value(dice)) } else { None }
}

fn window(dice: &mut Dice, step: u64) -> Window {
    if dice.one_in(2) {
        return Window::ALL;
    }
    let start = BASE + dice.below(9) * step;
    Window { start: UnixNanos(start), end: UnixNanos(start + dice.below(8) * step + dice.below(2)) }
}

pub(crate) fn random_search(dice: &mut Dice, step: u64) -> TraceSearch {
    let duration = |dice: &mut Dice| NanoDuration(dice.below(5) * SECOND / 10);
    TraceSearch {
        service: some(dice, 2, |dice| dice.pick(&SERVICES).to_owned()),
        operation: some(dice, 3, |dice| dice.pick(&NAMES).to_owned()),
        kind: some(dice, 5, |dice| dice.pick(&[SpanKind::Server, SpanKind::Client])),
        status: some(dice, 4, |dice| dice.pick(&StatusCode::ALL)),
        min_duration: some(dice, 4, duration),
        max_duration: some(dice, 4, duration),
        min_trace_duration: some(dice, 6, duration),
        max_trace_duration: some(dice, 6, |dice| NanoDuration(dice.below(170) * SECOND)),
        window: window(dice, step),
        order: dice.pick(&[Order::Slowest, Order::Newest]),
        limit: 1 + dice.below(5) as usize,
        cursor: None,
    }
}

pub(crate) fn check_search(world: &Asked<'_>, oracle: &Oracle, dice: &mut Dice) {
    let mut search = random_search(dice, world.step);
    let (wanted, analysed) = (oracle.search(&search), oracle.analysed());
    let mut found = Vec::new();
    loop {
        let answer = world.engine.search(&search).unwrap();
        assert_eq!(answer.incomplete, Vec::new());
        assert!(answer.traces.len() <= search.limit && (answer.next.is_none() || !answer.traces.is_empty()));
        for hit in &answer.traces {
            let known = if hit.matched.is_some() { &oracle.traces } else { &analysed };
            let spans = &known[&hit.trace_id];
            assert_eq!((hit.start, hit.duration.0), extent(spans), "{hit:?}");
            assert_eq!(hit.spans, spans.len() as u64, "{hit:?}");
            assert_eq!(hit.services.iter().map(|service| service.spans).sum::<u64>(), hit.spans);
            assert_eq!(hit.state == TraceState::Open, world.is_open(&hit.trace_id));
            found.push((hit.trace_id, hit.matched.as_ref().map(|matched| matched.span_id)));
        }
        let Some(next) = answer.next else { break };
        search.cursor = Some(next);
    }
    let wanted: Vec<_> = wanted.into_iter().map(|((.., id), span)| (id, span)).collect();
    assert_eq!(found, wanted, "{search:?}");
}

pub(crate) fn check_traces(world: &Asked<'_>, oracle: &Oracle) {
    for (id, spans) in &oracle.traces {
        let answer = world.engine.trace(*id).unwrap().unwrap();
        assert_eq!(answer.state == TraceState::Open, world.is_open(id));
        let mut walked = Walked::new();
        walk(&answer.traces_data, &WireLimits::default(), &mut walked).unwrap();
        let mut wanted: Vec<&Span> = spans.iter().collect();
        wanted.sort_by_key(|span| (span.start, std::cmp::Reverse(span.end), span.span_id, span.content()));
        assert_eq!(walked.spans.len(), wanted.len(), "spans of {id}");
        for (found, span) in walked.spans.iter().zip(wanted) {
            assert_eq!(found.content, span.content());
            assert_eq!(walked.service(found.group, &answer.traces_data), Some(span.service.as_bytes()));
        }
    }
}

pub(crate) fn check_totals(world: &Asked<'_>, oracle: &Oracle, dice: &mut Dice) {
    let window = window(dice, world.step);
    let (rows, _) = world.engine.services(Some(window)).unwrap();
    let rows: Vec<_> = rows
        .into_iter()
        .map(|row| (row.name.to_string(), row.spans, row.errors, row.first_seen, row.last_seen))
        .collect();
    assert_eq!(rows, oracle.services(window), "{window:?}");
    let service = dice.pick(&SERVICES);
    let (rows, _) = world.engine.operations(service, None).unwrap();
    let found: BTreeMap<_, _> =
        rows.iter().map(|row| ((row.name.to_string(), row.kind), (row.spans, row.errors))).collect();
    let mut wanted: BTreeMap<(String, SpanKind), (u64, u64)> = BTreeMap::new();
    for span in oracle.spans().filter(|span| span.service == service) {
        let total = wanted.entry((span.name.to_owned(), span.kind)).or_default();
        total.0 += 1;
        total.1 += u64::from(span.status == StatusCode::Error);
    }
    assert_eq!((found.len(), &found), (rows.len(), &wanted));
    assert!(rows.is_sorted_by(|a, b| a.spans >= b.spans));
}

pub(crate) fn check_latency(world: &Asked<'_>, oracle: &Oracle, dice: &mut Dice) {
    let question = LatencyQuery {
        service: some(dice, 2, |dice| dice.pick(&SERVICES).to_owned()),
        operation: some(dice, 3, |dice| dice.pick(&NAMES).to_owned()),
        kind: some(dice, 4, |dice| dice.pick(&[SpanKind::Server, SpanKind::Client])),
        status: some(dice, 4, |dice| dice.pick(&StatusCode::ALL)),
        window: window(dice, world.step),
        step: some(dice, 2, |dice| NanoDuration((1 + dice.below(2)) * UnixNanos::PER_MINUTE)),
        quantiles: vec![0.0, 0.5, 0.9, 1.0],
        group_by: GroupBy { status: dice.one_in(2), ..GroupBy::default() },
        limit: 1_000,
    };
    let answer = world.engine.latency(&question).unwrap();
    check_window(question.window, answer.window, world.bucket(UnixNanos::PER_MINUTE));
    let mut wanted: BTreeMap<_, Vec<(u64, StatusCode)>> = BTreeMap::new();
    for span in oracle.ever() {
        let fits = question.service.as_deref().is_none_or(|service| service == span.service)
            && question.operation.as_deref().is_none_or(|name| name == span.name)
            && question.kind.is_none_or(|kind| kind == span.kind)
            && question.status.is_none_or(|status| status == span.status)
            && answer.window.contains(span.end);
        if fits {
            let status = question.group_by.status.then_some(span.status);
            let labels = (span.service.to_owned(), span.name.to_owned(), span.kind, status);
            wanted.entry(labels).or_default().push((span.duration(), span.status));
        }
    }
    assert_eq!(answer.series.len(), wanted.len(), "{question:?}");
    for series in &answer.series {
        let text = |name: &Option<Arc<str>>| name.as_deref().unwrap().to_owned();
        let labels = (text(&series.service), text(&series.operation), series.kind.unwrap(), series.status);
        let spans = wanted.get_mut(&labels).unwrap();
        spans.sort_unstable();
        let errors = spans.iter().filter(|(_, status)| *status == StatusCode::Error).count() as u64;
        assert_eq!((series.histogram.count(), series.histogram.errors()), (spans.len() as u64, errors));
        for (q, value) in question.quantiles.iter().zip(&series.values) {
            let rank = ((q * spans.len() as f64).ceil() as usize).max(1);
            let exact = spans[rank - 1].0;
            assert!((exact..=exact + exact / 128 + 1_000).contains(&value.0), "{q}: {exact} {value:?}");
        }
        let points: u64 = series.points.iter().map(|point| point.count).sum();
        assert_eq!(points, if question.step.is_some() { spans.len() as u64 } else { 0 });
    }
}

/// What is answered has all of the window, and no more than buckets of this width make of it.
fn check_window(asked: Window, answered: Window, width: u64) {
    assert!(answered.start <= asked.start && answered.end >= asked.end, "{asked:?} {answered:?}");
    let whole = asked.end.0.checked_next_multiple_of(width).unwrap_or(u64::MAX);
    assert!(
        answered.start.0 >= asked.start.0 / width * width && answered.end.0 <= whole,
        "{asked:?} {answered:?} by {width}"
    );
}

/// Service, span name and kind where grouped by operation, and whether it is an edge.
type ItemLabels = (String, Option<(String, SpanKind)>, bool);

pub(crate) fn check_bottlenecks(world: &Asked<'_>, oracle: &Oracle, dice: &mut Dice) {
    let question = BottleneckQuery {
        service: some(dice, 3, |dice| dice.pick(&SERVICES).to_owned()),
        operation: some(dice, 5, |dice| dice.pick(&NAMES).to_owned()),
        window: window(dice, world.step),
        group_by: dice.pick(&[BottleneckGroup::Service, BottleneckGroup::Operation]),
        faster_permille: 500,
        limit: 1 + dice.below(30) as usize,
    };
    let answer = world.engine.bottlenecks(&question).unwrap();
    check_window(question.window, answer.window, world.bucket(1));
    let names = &world.state.names;
    let (mut traces, mut excluded, mut total) = (0, 0, 0_u128);
    let mut sums: BTreeMap<ItemLabels, u128> = BTreeMap::new();
    let analysed = oracle.analysed();
    let closed = analysed.iter().filter(|(id, _)| !world.is_open(id));
    for (id, spans) in closed.chain(oracle.rolled.iter().map(|(id, spans)| (id, spans))) {
        let row = analyse(*id, spans.iter().map(|span| span.node(names)).collect(), false).unwrap();
        if !answer.window.contains(row.start) {
            continue;
        }
        let Some(root) = row.root else {
            excluded += u64::from(question.service.is_none() && question.operation.is_none());
            continue;
        };
        let root = segment::Names::operation(&**names, root);
        let service = segment::Names::service(&**names, root.service);
        if question.service.as_deref().is_some_and(|wanted| wanted != &*service)
            || question.operation.as_deref().is_some_and(|wanted| wanted != &*root.name)
        {
            continue;
        }
        traces += 1;
        total += u128::from(row.root_duration.0);
        for share in &row.shares {
            let entry = segment::Names::operation(&**names, share.operation);
            let service = segment::Names::service(&**names, share.service).to_string();
            let operation = (question.group_by == BottleneckGroup::Operation)
                .then(|| (entry.name.to_string(), entry.kind));
            *sums.entry((service, operation, share.edge.is_some())).or_default() +=
                u128::from(share.exclusive.0);
        }
    }
    assert_eq!((answer.traces, answer.excluded, answer.latency.count()), (traces, excluded, traces));
    let shares: f64 = answer.items.iter().map(|item| item.cp_share).sum();
    assert!(
        total == 0 || (shares + answer.other_share - 1.0).abs() < 1e-9,
        "{shares} {}",
        answer.other_share
    );
    assert_eq!(sums.values().sum::<u128>(), total);
    assert!(answer.items.len() <= question.limit);
    if question.limit >= 20 {
        let mut found: BTreeMap<_, u128> = BTreeMap::new();
        for item in &answer.items {
            let operation = item.operation.as_ref().map(|name| (name.to_string(), item.kind.unwrap()));
            *found.entry((item.service.to_string(), operation, item.edge.is_some())).or_default() +=
                item.cp_nanos_sum;
        }
        if answer.items.len() < question.limit {
            assert_eq!(found, sums, "{question:?}");
        }
    }
}

pub(crate) fn check(world: &Asked<'_>, oracle: &Oracle, dice: &mut Dice) {
    for _ in 0..6 {
        check_search(world, oracle, dice);
    }
    check_traces(world, oracle);
    check_totals(world, oracle, dice);
    check_latency(world, oracle, dice);
    check_bottlenecks(world, oracle, dice);
}
