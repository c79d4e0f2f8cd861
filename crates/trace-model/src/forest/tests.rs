use proptest::prelude::*;

use super::*;
use crate::{OperationId, ServiceId, SpanKind, StatusCode};

fn id(n: u64) -> SpanId {
    SpanId::new(n.to_be_bytes()).unwrap()
}

fn span(n: u64, parent: u64, start: u64, end: u64) -> SpanNode {
    SpanNode {
        span_id: id(n),
        parent: (parent != 0).then(|| id(parent)),
        start: UnixNanos(start),
        end: UnixNanos(end),
        content: n * 1000 + parent,
        service: ServiceId(1),
        operation: OperationId(1),
        kind: SpanKind::Internal,
        status: StatusCode::Unset,
    }
}

fn of(spans: &[SpanNode]) -> (Trace, Vec<(AnomalyKind, SpanId)>) {
    let (trace, found) = Trace::from_spans(spans.to_vec()).unwrap();
    (trace, found.into_iter().map(|a| (a.kind, a.span_id)).collect())
}

/// `child<parent` for every span, roots as `root<-`.
fn links(trace: &Trace) -> Vec<String> {
    let name = |i: usize| trace.spans()[i].span_id.as_bytes()[7].to_string();
    let parent = |i| trace.parent(i).map_or("-".to_string(), name);
    let mut all: Vec<_> = (0..trace.len()).map(|i| format!("{}<{}", name(i), parent(i))).collect();
    all.sort();
    all
}

#[test]
fn no_spans_are_no_trace() {
    assert!(Trace::from_spans(Vec::new()).is_none());
}

#[test]
fn a_clean_tree_has_no_anomalies() {
    let (trace, found) = of(&[span(3, 1, 20, 90), span(1, 0, 0, 100), span(2, 1, 10, 30)]);
    assert_eq!(found, []);
    assert_eq!(trace.children(0), [1, 2]);
    assert_eq!(trace.roots(), [0]);
    assert_eq!(
        (trace.start(), trace.end(), trace.duration()),
        (UnixNanos(0), UnixNanos(100), NanoDuration(100))
    );
    assert!(trace.has_true_root());
    assert_eq!(trace.children(99), [0u32; 0]);
    assert_eq!(trace.parent(99), None);
}

#[test]
fn a_longer_span_comes_before_a_shorter_one_with_the_same_start() {
    let (trace, _) = of(&[span(1, 2, 5, 8), span(2, 0, 5, 9)]);
    assert_eq!(trace.spans()[0].span_id, id(2));
}

#[test]
fn a_repeated_span_is_dropped_and_a_different_one_kept() {
    let (trace, found) = of(&[span(1, 0, 0, 9), span(1, 0, 0, 9), span(1, 0, 0, 9)]);
    assert_eq!((trace.len(), found), (1, vec![(AnomalyKind::Duplicate, id(1)); 2]));
    let (trace, found) = of(&[span(1, 0, 0, 9), SpanNode { content: 7, ..span(1, 0, 0, 9) }]);
    assert_eq!(trace.len(), 2);
    assert!(found.contains(&(AnomalyKind::IdConflict, id(1))));
}

#[test]
fn spans_that_differ_in_content_only_are_ordered_by_it() {
    let with = |content| SpanNode { content, ..span(1, 0, 0, 9) };
    let order = |spans: &[SpanNode]| of(spans).0.spans().iter().map(|s| s.content).collect::<Vec<_>>();
    assert_eq!(order(&[with(2), with(3), with(1)]), [1, 2, 3]);
    assert_eq!(order(&[with(3), with(1), with(2), with(3)]), [1, 2, 3]);
}

#[test]
fn copies_of_one_span_under_two_services_are_told_apart() {
    let other = |s: SpanNode| SpanNode { service: ServiceId(2), ..s };
    let (a, b) = (span(1, 0, 0, 9), other(span(1, 0, 0, 9)));
    let more = other(span(2, 1, 3, 4));
    let (trace, found) = of(&[a, b, a, b, more]);
    assert_eq!(trace.len(), 3);
    assert_eq!(found.iter().filter(|(kind, _)| *kind == AnomalyKind::Duplicate).count(), 2);
    assert_eq!(trace.spans(), of(&[b, more, a]).0.spans());
}

#[test]
fn missing_parents_self_parents_and_cycles_become_roots() {
    let (trace, found) = of(&[
        span(1, 9, 50, 60),
        span(2, 2, 40, 60),
        span(3, 4, 30, 60),
        span(4, 5, 20, 60),
        span(5, 3, 25, 60),
    ]);
    assert_eq!(links(&trace), ["1<-", "2<-", "3<4", "4<-", "5<3"]);
    let want =
        [(AnomalyKind::MissingParent, id(1)), (AnomalyKind::SelfParent, id(2)), (AnomalyKind::Cycle, id(4))];
    assert_eq!(found, want);
    assert!(!trace.has_true_root());
    assert!(trace.has_anomaly(AnomalyKind::Cycle) && !trace.has_anomaly(AnomalyKind::Duplicate));
    assert_eq!(trace.spans()[trace.primary_root()].span_id, id(4));
}

#[test]
fn the_primary_root_is_the_earliest_true_root() {
    let (trace, found) = of(&[span(1, 9, 0, 60), span(3, 0, 10, 80), span(2, 0, 10, 20), span(4, 0, 40, 60)]);
    assert_eq!(trace.spans()[trace.primary_root()].span_id, id(2));
    let second: Vec<_> = found.iter().filter(|(kind, _)| *kind == AnomalyKind::SecondRoot).collect();
    assert_eq!(second, [&(AnomalyKind::SecondRoot, id(3)), &(AnomalyKind::SecondRoot, id(4))]);
}

#[test]
fn a_span_that_is_over_before_its_parent_starts_is_reported() {
    // 2 and 5 are over too early, 3 only begins too early, 4 is late, and 6 ends before it starts, but within its parent.
    let (trace, found) = of(&[
        span(1, 0, 50, 90),
        span(2, 1, 10, 49),
        span(3, 1, 20, 50),
        span(4, 1, 91, 95),
        span(5, 4, 60, 70),
        span(6, 1, 60, 5),
    ]);
    let early = [
        (AnomalyKind::EndBeforeStart, id(6)),
        (AnomalyKind::BeforeParent, id(2)),
        (AnomalyKind::BeforeParent, id(5)),
    ];
    assert_eq!(found, early);
    assert!(trace.has_anomaly(AnomalyKind::BeforeParent));
}

#[test]
fn a_span_that_ends_before_it_starts_is_reported() {
    let (trace, found) = of(&[span(1, 0, 60, 50)]);
    assert_eq!(found, [(AnomalyKind::EndBeforeStart, id(1))]);
    assert_eq!((trace.end(), trace.duration()), (UnixNanos(60), NanoDuration(0)));
}

#[test]
fn a_shared_id_makes_the_server_a_child_of_its_client() {
    let on = |service, kind, s: SpanNode| SpanNode {
        service: ServiceId(service),
        kind,
        content: service.into(),
        ..s
    };
    let root = on(1, SpanKind::Server, span(1, 0, 0, 100));
    let client = on(1, SpanKind::Client, span(2, 1, 10, 90));
    let remote = on(3, SpanKind::Internal, span(3, 2, 30, 40));
    let local = on(1, SpanKind::Internal, span(4, 2, 12, 14));
    for says in [1, 2] {
        let server = on(3, SpanKind::Server, span(2, says, 20, 80));
        let (trace, found) = of(&[local, remote, server, client, root]);
        assert_eq!(found, [(AnomalyKind::SharedId, id(2))]);
        let at = |s: &SpanNode| trace.spans().iter().position(|x| x == s).unwrap();
        assert_eq!(trace.parent(at(&server)), Some(at(&client)));
        assert_eq!(trace.parent(at(&client)), Some(at(&root)));
        assert_eq!(trace.parent(at(&remote)), Some(at(&server)));
        assert_eq!(trace.parent(at(&local)), Some(at(&client)));
    }
}

#[test]
fn a_million_spans_in_one_chain_or_one_circle_are_arranged() {
    let n = 1_000_000;
    let chain: Vec<_> = (1..=n).map(|i| span(i, i - 1, i, 3 * n - i)).collect();
    assert_eq!(of(&chain).0.roots(), [0]);
    let circle: Vec<_> = (1..=n).map(|i| span(i, if i == 1 { n } else { i - 1 }, i, 3 * n - i)).collect();
    let (trace, found) = of(&circle);
    assert_eq!((trace.roots(), found), (&[0][..], vec![(AnomalyKind::Cycle, id(1))]));
}

#[test]
fn many_spans_with_one_id_and_many_children_take_no_longer_than_others() {
    let n = 100_000;
    let same = (0..n).map(|i| SpanNode { content: i, service: ServiceId(i as u32), ..span(1, 0, 0, 9) });
    let children = (0..n).map(|i| SpanNode { service: ServiceId(i as u32), ..span(i + 2, 1, 1, 8) });
    let (trace, _) = of(&same.chain(children).collect::<Vec<_>>());
    assert!((0..n as usize).all(|i| trace.children(i).len() == 1));
}

fn any_span() -> impl Strategy<Value = SpanNode> {
    let times = prop_oneof![4 => 0..20u64, 1 => any::<u64>()];
    (1..12u64, 0..13u64, times.clone(), times, 0..2u64, 0..6usize).prop_map(
        |(n, p, start, end, content, kind)| {
            let kind = SpanKind::ALL[kind];
            // The service follows from the content, as it does unless a client lies about itself.
            SpanNode {
                kind,
                content,
                service: ServiceId(content as u32 * 7 + n as u32 % 3),
                ..span(n, p, start, end)
            }
        },
    )
}

proptest! {
    #[test]
    fn any_spans_become_a_forest_whatever_their_order(
        (spans, shuffled) in prop::collection::vec(any_span(), 1..40)
            .prop_flat_map(|spans| (Just(spans.clone()), Just(spans).prop_shuffle()))
    ) {
        let (trace, found) = Trace::from_spans(spans.clone()).unwrap();
        prop_assert_eq!((&trace, &found), (&Trace::from_spans(shuffled).unwrap().0, &found));
        let dropped = found.iter().filter(|a| a.kind == AnomalyKind::Duplicate).count();
        prop_assert_eq!(trace.len() + dropped, spans.len());
        // Every span is reached from the roots exactly once.
        let mut reached = trace.roots().to_vec();
        let mut next = 0;
        while let Some(i) = reached.get(next).copied() {
            for child in trace.children(i as usize) {
                prop_assert_eq!(trace.parent(*child as usize), Some(i as usize));
                reached.push(*child);
            }
            next += 1;
        }
        reached.sort();
        prop_assert_eq!(reached, (0..trace.len() as u32).collect::<Vec<_>>());
        // A root that names a parent was repaired, and says so.
        let orphans = trace.roots().iter().filter(|i| trace.spans()[**i as usize].parent.is_some()).count();
        let repairs = [AnomalyKind::MissingParent, AnomalyKind::SelfParent, AnomalyKind::Cycle];
        prop_assert!(found.iter().filter(|a| repairs.contains(&a.kind)).count() >= orphans);
    }
}
