//! What holds for every trace: the invariants P1 to P14 of the path, its slack and its replay.

use proptest::prelude::*;
use trace_analyze::{
    CriticalPath, Extent, Overrun, PathOptions, UNLIMITED_SLACK, critical_path, exclusive, inclusive,
    path_shares, self_times, slack, what_if,
};
use trace_model::{
    NanoDuration, OperationId, ServiceId, SpanId, SpanKind, SpanNode, StatusCode, Trace, UnixNanos,
};

use crate::oracle;
use crate::support::{options, response, told};

const POLICIES: [Overrun; 3] = [Overrun::Clip, Overrun::Auto, Overrun::Exclude];

fn span(n: u64, parent: u64, start: u64, end: u64, kind: usize) -> SpanNode {
    SpanNode {
        span_id: SpanId::new(n.to_be_bytes()).unwrap(),
        parent: SpanId::new(parent.to_be_bytes()).ok(),
        start: UnixNanos(start),
        end: UnixNanos(end),
        content: n,
        service: ServiceId(n as u32 % 4),
        operation: OperationId(n as u32 % 9),
        kind: SpanKind::ALL[kind],
        status: StatusCode::Unset,
    }
}

/// Trees of up to 40 spans on few instants, so that ties are common. Children may overrun, start early
/// or miss their parent unless `tidy`.
fn tree(tidy: bool) -> impl Strategy<Value = Vec<SpanNode>> {
    prop::collection::vec((any::<prop::sample::Index>(), 0..24u64, 0..24u64, 0..6usize, 0..8u8), 0..40)
        .prop_map(move |rows| {
            let mut spans = vec![span(1, 0, 1000, 1024, 2)];
            for (parent, from, length, kind, wild) in rows {
                let parent = *parent.get(&spans);
                let n = spans.len() as u64 + 1;
                let parent_id = u64::from_be_bytes(*parent.span_id.as_bytes());
                let (mut start, mut end) = (parent.start.0 + from, parent.start.0 + from + length);
                if !tidy && wild == 0 {
                    start = 995 + from;
                    end = 995 + from + length;
                } else {
                    start = start.min(parent.end.0);
                    end = end.min(parent.end.0 + u64::from(!tidy && wild == 1) * 3);
                }
                spans.push(span(n, parent_id, start, end.max(start), kind));
            }
            spans
        })
}

fn trace_of(spans: &[SpanNode]) -> Trace {
    Trace::from_spans(spans.to_vec()).unwrap().0
}

fn all_options() -> impl Strategy<Value = PathOptions> {
    (0..3usize, any::<bool>(), 0..4u64).prop_map(|(overrun, whole, epsilon)| PathOptions {
        overrun: POLICIES[overrun],
        extent: if whole { Extent::Trace } else { Extent::Response },
        epsilon: NanoDuration(epsilon),
    })
}

fn path_of(spans: &[SpanNode], options: &PathOptions) -> (Trace, CriticalPath) {
    let trace = trace_of(spans);
    let path = critical_path(&trace, trace.primary_root(), options);
    (trace, path)
}

/// Segments are non-empty and without a gap between the path's start and end.
fn assert_contiguous(path: &CriticalPath) {
    assert!(path.segments.iter().all(|s| s.start < s.end), "{path:?}");
    assert!(path.segments.windows(2).all(|pair| pair[0].end == pair[1].start), "{path:?}");
    if let (Some(first), Some(last)) = (path.segments.first(), path.segments.last()) {
        assert_eq!((first.start, last.end), (path.start, path.end));
    } else {
        assert_eq!(path.start, path.end);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_path_is_the_one_of_the_definition(spans in tree(false), policy in 0..3usize) {
        let (trace, path) = path_of(&spans, &options(POLICIES[policy], Extent::Response));
        let root = trace.spans()[trace.primary_root()];
        let mut want = oracle::path(&trace, trace.primary_root(), root.start.0, root.end.0, POLICIES[policy]);
        want.reverse();
        let got: Vec<_> = path.segments.iter().map(|s| (s.span, s.start.0, s.end.0)).collect();
        prop_assert_eq!(got, want);
    }

    #[test]
    fn p1_p2_p3_p6_the_path_divides_the_roots_time(spans in tree(false), options in all_options()) {
        let (trace, path) = path_of(&spans, &options);
        assert_contiguous(&path);
        let root = trace.spans()[trace.primary_root()];
        match options.extent {
            Extent::Response => prop_assert_eq!((path.start, path.end), (root.start, root.end)),
            Extent::Trace => {
                prop_assert_eq!(path.end, trace.end());
                prop_assert!(path.start <= root.start && path.start >= trace.start());
            }
        }
        for segment in &path.segments {
            let owner = trace.spans()[segment.span as usize];
            let inside = owner.start <= segment.start && segment.end <= owner.end;
            let gap = segment.edge.is_some_and(|(from, _)| from == segment.span) && options.extent == Extent::Trace;
            prop_assert!(inside || gap, "{:?} of {:?}", segment, owner);
            let mut at = segment.span as usize;
            while let Some(parent) = trace.parent(at) {
                at = parent;
            }
            prop_assert_eq!(at, path.root as usize);
        }
        let length = path.duration().0;
        prop_assert_eq!(exclusive(&trace, &path).iter().map(|x| x.0).sum::<u64>(), length);
        prop_assert_eq!(inclusive(&trace, &path)[path.root as usize].0, length);
        prop_assert_eq!(path_shares(&trace, &path).iter().map(|row| row.exclusive.0).sum::<u64>(), length);
    }

    #[test]
    fn p4_the_order_of_arrival_does_not_matter(
        (spans, shuffled) in tree(false).prop_flat_map(|s| (Just(s.clone()), Just(s).prop_shuffle())),
        options in all_options(),
    ) {
        let ((a, first), (b, second)) = (path_of(&spans, &options), path_of(&shuffled, &options));
        prop_assert_eq!(&first, &second);
        prop_assert_eq!(path_shares(&a, &first), path_shares(&b, &second));
        prop_assert_eq!(slack(&a, &first), slack(&b, &second));
    }

    #[test]
    fn p4_renumbered_services_and_operations_do_not_matter(spans in tree(false), options in all_options()) {
        let flip = |s: &SpanNode| SpanNode {
            service: ServiceId(!s.service.0), operation: OperationId(!s.operation.0), ..*s
        };
        let flipped: Vec<_> = spans.iter().map(flip).collect();
        let ((a, first), (b, second)) = (path_of(&spans, &options), path_of(&flipped, &options));
        prop_assert_eq!(&first, &second);
        let (rows, again) = (path_shares(&a, &first), path_shares(&b, &second));
        prop_assert_eq!(rows.len(), again.len());
        for (row, again) in rows.iter().zip(&again) {
            prop_assert_eq!((row.operation.0, row.exclusive), (!again.operation.0, again.exclusive));
        }
    }

    #[test]
    fn p5_shift_and_scale_carry_over(spans in tree(false), options in all_options(), by in 0..u64::MAX / 2, times in 1..1000u64) {
        let options = PathOptions { overrun: if options.overrun == Overrun::Auto { Overrun::Clip } else { options.overrun }, ..options };
        let moved = |s: &SpanNode| SpanNode {
            start: UnixNanos(s.start.0 * times + by), end: UnixNanos(s.end.0 * times + by), ..*s
        };
        let all: Vec<_> = spans.iter().map(moved).collect();
        let ((a, first), (b, second)) = (
            path_of(&spans, &options),
            path_of(&all, &PathOptions { epsilon: NanoDuration(options.epsilon.0 * times), ..options }),
        );
        let want: Vec<_> = told(&a, &first).into_iter().map(|(id, s, e)| (id, s * times + by, e * times + by)).collect();
        prop_assert_eq!(told(&b, &second), want);
    }

    #[test]
    fn p7_a_leaf_off_the_path_can_be_deleted(spans in tree(false), policy in 0..3usize) {
        let options = options(POLICIES[policy], Extent::Response);
        let (trace, path) = path_of(&spans, &options);
        let parts = exclusive(&trace, &path);
        for i in (1..trace.len()).filter(|i| trace.children(*i).is_empty() && parts[*i].0 == 0) {
            let mut rest = trace.spans().to_vec();
            rest.remove(i);
            let (less, again) = path_of(&rest, &options);
            prop_assert_eq!(told(&less, &again), told(&trace, &path));
        }
    }

    #[test]
    fn p8_a_new_child_takes_exactly_the_segment_it_covers(spans in tree(false), pick in any::<prop::sample::Index>()) {
        let trace = trace_of(&spans);
        let path = response(&trace);
        let k = pick.index(path.segments.len());
        let segment = path.segments[k];
        let owner = trace.spans()[segment.span as usize];
        let child = SpanNode {
            parent: Some(owner.span_id), start: segment.start, end: segment.end, ..span(999, 0, 0, 0, 1)
        };
        let mut more = spans;
        more.push(child);
        let (wrapped, again) = path_of(&more, &PathOptions::default());
        let mut want = told(&trace, &path);
        want[k].0 = child.span_id;
        prop_assert_eq!(told(&wrapped, &again), want);
    }

    #[test]
    fn p9_replay_is_exact_falling_convex_and_bounded(spans in tree(false), service in 0..4u32, k in 0..=500u32) {
        let trace = trace_of(&spans);
        let path = response(&trace);
        let root = trace.primary_root();
        let target = |s: &SpanNode| s.service == ServiceId(service);
        let at = |permille| what_if(&trace, root, &target, permille).0;
        let whole = path.duration().0;
        prop_assert_eq!(at(0), whole);
        let own = exclusive(&trace, &path);
        let on_target: u64 = trace.spans().iter().zip(&own).filter(|(s, _)| target(s)).map(|(_, x)| x.0).sum();
        for permille in [k, 2 * k, 1000] {
            let saved = whole - at(permille);
            prop_assert!(saved * 1000 <= u64::from(permille) * on_target, "saved {} of {}", saved, on_target);
        }
        prop_assert!(at(k) >= at(2 * k) && at(2 * k) >= at(1000));
        // Each result is rounded up by less than 1 ns.
        prop_assert!(2 * at(k) <= whole + at(2 * k) + 2);
    }

    #[test]
    fn p10_an_empty_span_changes_nothing(spans in tree(false), pick in any::<prop::sample::Index>(), at in 990..1030u64, policy in 0..3usize) {
        let options = options(POLICIES[policy], Extent::Response);
        let (trace, path) = path_of(&spans, &options);
        let parent = pick.get(&spans).span_id;
        let mut more = spans.clone();
        more.push(SpanNode { parent: Some(parent), ..span(999, 0, at, at, 1) });
        let (again, same) = path_of(&more, &options);
        prop_assert_eq!(told(&again, &same), told(&trace, &path));
        prop_assert_eq!(same.flags, path.flags);
        prop_assert_eq!(what_if(&again, again.primary_root(), &|_| true, 300), what_if(&trace, trace.primary_root(), &|_| true, 300));
    }

    #[test]
    fn p11_a_span_may_end_later_within_its_slack(spans in tree(false)) {
        let trace = trace_of(&spans);
        let path = response(&trace);
        let (slack, parts) = (slack(&trace, &path), inclusive(&trace, &path));
        for i in 0..trace.len() {
            prop_assert!(parts[i].0 == 0 || slack[i].0 == 0, "span {} is on the path with slack {}", i, slack[i].0);
            // At exactly its slack it ties with the path, and the tie may go to it.
            if slack[i] == UNLIMITED_SLACK || slack[i].0 < 2 {
                continue;
            }
            let mut later = trace.spans().to_vec();
            later[i].end.0 += slack[i].0 - 1;
            let (moved, again) = path_of(&later, &PathOptions::default());
            prop_assert_eq!(told(&moved, &again), told(&trace, &path));
        }
    }

    #[test]
    fn slack_is_the_one_of_the_formula(spans in tree(false)) {
        let trace = trace_of(&spans);
        let path = response(&trace);
        let slack = slack(&trace, &path);
        prop_assert_eq!(slack, oracle::slack(&trace, trace.primary_root(), &inclusive(&trace, &path)));
    }

    #[test]
    fn p12_nothing_panics_whatever_the_numbers(
        rows in prop::collection::vec((1..9u64, 0..10u64, any::<u64>(), any::<u64>(), 0..6usize, 0..2u64), 1..30),
        options in all_options(),
        epsilon in prop_oneof![Just(0), Just(u64::MAX), any::<u64>()],
        permille in any::<u32>(),
    ) {
        let node = |(n, p, a, b, kind, content): (u64, u64, u64, u64, usize, u64)| SpanNode { content, ..span(n, p, a, b, kind) };
        let (trace, found) = Trace::from_spans(rows.into_iter().map(node).collect()).unwrap();
        let options = PathOptions { epsilon: NanoDuration(epsilon), ..options };
        for root in 0..trace.len() {
            let path = critical_path(&trace, root, &options);
            assert_contiguous(&path);
            prop_assert_eq!(exclusive(&trace, &path).iter().map(|x| u128::from(x.0)).sum::<u128>(), u128::from(path.duration().0));
            inclusive(&trace, &path);
            path_shares(&trace, &path);
            slack(&trace, &path);
            what_if(&trace, root, &|s| s.kind == SpanKind::Client, permille);
            prop_assert_eq!(what_if(&trace, root, &|_| true, 0), trace.spans()[root].duration());
        }
        self_times(&trace);
        let flags = critical_path(&trace, trace.primary_root(), &options).flags.names();
        let named = |name| found.iter().any(|a| a.kind.as_str() == name);
        prop_assert_eq!(named("missing_parent"), flags.contains(&"missing_parent"));
        prop_assert_eq!(named("cycle") || named("self_parent"), flags.contains(&"cycle"));
        prop_assert_eq!(named("id_conflict"), flags.contains(&"id_conflict"));
    }

    #[test]
    fn p13_each_tree_of_a_trace_has_its_own_path(one in tree(false), two in tree(false), options in all_options()) {
        let rename = |id: SpanId| SpanId::new((u64::from_be_bytes(*id.as_bytes()) + 500).to_be_bytes()).unwrap();
        let two: Vec<_> = two.into_iter().map(|s| SpanNode { span_id: rename(s.span_id), parent: s.parent.map(rename), ..s }).collect();
        let both = trace_of(&one.iter().chain(&two).copied().collect::<Vec<_>>());
        for half in [one, two] {
            let (alone, path) = path_of(&half, &options);
            let root = alone.spans()[alone.primary_root()].span_id;
            let at = both.spans().iter().position(|s| s.span_id == root).unwrap();
            prop_assert_eq!(told(&both, &critical_path(&both, at, &options)), told(&alone, &path));
        }
    }

    #[test]
    fn p14_without_overruns_all_policies_agree(spans in tree(true), whole in any::<bool>()) {
        let extent = if whole { Extent::Trace } else { Extent::Response };
        let [clip, auto, exclude] = POLICIES.map(|policy| path_of(&spans, &options(policy, extent)).1);
        prop_assert_eq!(&clip, &auto);
        prop_assert_eq!(&clip, &exclude);
    }

    #[test]
    fn self_time_is_at_most_the_duration_and_all_of_it_for_leaves(spans in tree(false)) {
        let trace = trace_of(&spans);
        for (i, own) in self_times(&trace).into_iter().enumerate() {
            let whole = trace.spans()[i].duration();
            prop_assert!(own <= whole);
            prop_assert!(!trace.children(i).is_empty() || own == whole);
            let covered = |t: &u64| trace.children(i).iter().any(|c| {
                let child = trace.spans()[*c as usize];
                child.start.0 <= *t && *t < child.end.0
            });
            let uncovered = (trace.spans()[i].start.0..trace.spans()[i].end.0).filter(|t| !covered(t)).count();
            prop_assert_eq!(own.0, uncovered as u64);
        }
    }
}
