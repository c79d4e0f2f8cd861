//! Deep chains and wide fans: no deep recursion, nothing quadratic.

use std::time::{Duration, Instant};

use trace_analyze::{
    Extent, Overrun, PathOptions, exclusive, inclusive, path_shares, self_times, slack, what_if,
};
use trace_model::{
    AnomalyKind, NanoDuration, OperationId, ServiceId, SpanId, SpanKind, SpanNode, StatusCode, Trace,
    UnixNanos,
};

use crate::support::{options, response};

const N: u64 = 100_000;
/// Far above what it takes (tens of milliseconds), far below what a quadratic walk takes.
const LIMIT: Duration = Duration::from_secs(5);

fn span(n: u64, parent: u64, start: u64, end: u64) -> SpanNode {
    SpanNode {
        span_id: SpanId::new(n.to_be_bytes()).unwrap(),
        parent: SpanId::new(parent.to_be_bytes()).ok(),
        start: UnixNanos(start),
        end: UnixNanos(end),
        content: n,
        service: ServiceId(n as u32 % 7),
        operation: OperationId(n as u32 % 50),
        kind: [SpanKind::Client, SpanKind::Server][n as usize % 2],
        status: StatusCode::Unset,
    }
}

/// Runs everything, and checks what holds for every trace.
fn analyse(spans: Vec<SpanNode>) -> (Trace, usize) {
    let began = Instant::now();
    let trace = Trace::from_spans(spans).unwrap().0;
    let path = response(&trace);
    assert_eq!(path.duration(), trace.spans()[trace.primary_root()].duration());
    assert_eq!(exclusive(&trace, &path).iter().map(|x| x.0).sum::<u64>(), path.duration().0);
    assert_eq!(inclusive(&trace, &path)[trace.primary_root()], path.duration());
    assert_eq!(path_shares(&trace, &path).iter().map(|row| row.exclusive.0).sum::<u64>(), path.duration().0);
    assert_eq!(what_if(&trace, trace.primary_root(), &|_| true, 0), path.duration());
    assert_eq!(slack(&trace, &path).len(), trace.len());
    assert_eq!(self_times(&trace).len(), trace.len());
    let last =
        trace_analyze::critical_path(&trace, trace.primary_root(), &options(Overrun::Auto, Extent::Trace));
    assert_eq!(last.duration(), trace.duration());
    let took = began.elapsed();
    assert!(took < LIMIT, "took {took:?}");
    (trace, path.segments.len())
}

#[test]
fn a_chain_of_100_000_nested_spans() {
    let spans = (1..=N).map(|n| span(n, n - 1, n, 4 * N - n)).collect();
    let (_, segments) = analyse(spans);
    assert_eq!(segments as u64, 2 * N - 1);
}

#[test]
fn a_fan_of_100_000_sequential_siblings() {
    let children = (1..N).map(|n| span(n + 1, 1, n * 10, n * 10 + 5));
    let (_, segments) = analyse(std::iter::once(span(1, 0, 0, N * 10)).chain(children).collect());
    assert_eq!(segments as u64, 2 * (N - 1) + 1);
}

#[test]
fn a_fan_of_100_000_parallel_siblings() {
    let children = (1..N).map(|n| span(n + 1, 1, n, N + n));
    let (trace, segments) = analyse(std::iter::once(span(1, 0, 0, N * 3)).chain(children).collect());
    assert_eq!(segments, 3);
    let path = response(&trace);
    let least = slack(&trace, &path).into_iter().filter(|s| *s > NanoDuration(0)).min();
    assert_eq!(least, Some(NanoDuration(1)));
}

#[test]
fn a_chain_of_100_000_messages() {
    // Each span starts after its parent has ended: nothing but queues.
    let kind = |n: u64| [SpanKind::Consumer, SpanKind::Producer][n as usize % 2];
    let spans: Vec<_> =
        (1..=N).map(|n| SpanNode { kind: kind(n), ..span(n, n - 1, n * 10, n * 10 + 4) }).collect();
    let trace = Trace::from_spans(spans).unwrap().0;
    let path = trace_analyze::critical_path(&trace, 0, &options(Overrun::Clip, Extent::Trace));
    assert_eq!(path.segments.len() as u64, 2 * N - 1);
    let short = trace_analyze::critical_path(&trace, 0, &PathOptions::default());
    assert_eq!(short.segments.len(), 1);
}

/// Odd traces of a million spans: nothing of them is lost, and what is odd is counted.
fn odd(spans: Vec<SpanNode>, wanted: &[(AnomalyKind, usize)], roots: usize) {
    let count = spans.len();
    let (trace, anomalies) = Trace::from_spans(spans).unwrap();
    assert_eq!((trace.len(), trace.roots().len()), (count, roots));
    let mut found: Vec<(AnomalyKind, usize)> = Vec::new();
    for part in anomalies.chunk_by(|a, b| a.kind == b.kind) {
        found.push((part[0].kind, part.len()));
    }
    assert_eq!(found, wanted);
    let path = response(&trace);
    assert_eq!(path.duration(), trace.spans()[trace.primary_root()].duration());
    assert_eq!(path_shares(&trace, &path).iter().map(|row| row.exclusive.0).sum::<u64>(), path.duration().0);
}

const MILLION: u64 = 1_000_000;

#[test]
fn a_million_spans_under_ten_thousand_roots() {
    let root_of = |n: u64| (n % 10_000) + 1;
    let spans = (1..=MILLION).map(|n| match n {
        1..=10_000 => span(n, 0, n, n + MILLION),
        _ => span(n, root_of(n), n, n + 5),
    });
    odd(spans.collect(), &[(AnomalyKind::SecondRoot, 9_999)], 10_000);
}

#[test]
fn paths_of_many_roots_take_room_for_their_own_trees() {
    let spans = (1..=N).map(|n| if n <= 1_000 { span(n, 0, n, n + N) } else { span(n, 1, n, n + 5) });
    let trace = Trace::from_spans(spans.collect()).unwrap().0;
    let path_of = |root: &u32| trace_analyze::critical_path(&trace, *root as usize, &PathOptions::default());
    let room: usize = trace.roots().iter().map(|root| path_of(root).segments.capacity()).sum();
    assert!(room <= 2 * trace.len(), "{room}");
}

#[test]
fn a_million_spans_whose_parents_never_came() {
    let spans = (1..=MILLION).map(|n| span(n, n + MILLION, n, n + 5));
    odd(spans.collect(), &[(AnomalyKind::MissingParent, MILLION as usize)], MILLION as usize);
}

#[test]
fn a_million_spans_in_circles_of_ten() {
    let next = |n: u64| if n.is_multiple_of(10) { n - 9 } else { n + 1 };
    let spans = (1..=MILLION).map(|n| span(n, next(n), n, n + 5));
    odd(spans.collect(), &[(AnomalyKind::Cycle, MILLION as usize / 10)], MILLION as usize / 10);
}

#[test]
fn a_million_spans_that_share_ids() {
    // Each id is that of a CLIENT and its SERVER; every tenth CLIENT's id is that of a third span as well.
    let shared = MILLION / 2;
    let spans = (2..=MILLION + 1).map(|n| {
        let mut node = span(n / 2, 0, n, n + 5);
        (node.content, node.kind) = (n, [SpanKind::Client, SpanKind::Server][n as usize % 2]);
        node
    });
    let third = (1..=shared / 10).map(|n| SpanNode {
        content: n + 2 * MILLION,
        kind: SpanKind::Internal,
        ..span(n * 10, 0, MILLION * 2 + n, MILLION * 2 + n)
    });
    let (ids, thirds) = (shared as usize, shared as usize / 10);
    let wanted = [
        (AnomalyKind::IdConflict, thirds),
        (AnomalyKind::SharedId, ids),
        (AnomalyKind::SecondRoot, ids + thirds - 1),
    ];
    odd(spans.chain(third).collect(), &wanted, ids + thirds);
}
