use super::cut::FORGOTTEN_MIN;
use super::*;
use crate::Totals;
use trace_model::{OperationId, ServiceId, SpanId, SpanKind, StatusCode};

const S: u64 = 1_000_000_000;

fn trace_id(n: u8) -> TraceId {
    TraceId::new([n; 16]).unwrap()
}

fn node(span: u8, parent: Option<u8>) -> SpanNode {
    SpanNode {
        span_id: SpanId::new([span; 8]).unwrap(),
        parent: parent.map(|p| SpanId::new([p; 8]).unwrap()),
        start: UnixNanos(0),
        end: UnixNanos(10),
        content: u64::from(span),
        service: ServiceId(0),
        operation: OperationId(0),
        kind: SpanKind::Internal,
        status: StatusCode::Unset,
    }
}

fn live(batch: u64) -> Location {
    Location::Live { batch, row: 0 }
}

#[test]
fn a_trace_with_a_root_is_finished_after_the_short_quiet() {
    let mut assembler = Assembler::new(Options::default());
    assembler.observe(trace_id(1), &node(1, None), live(0), UnixNanos(0));
    assembler.observe(trace_id(1), &node(2, Some(1)), live(0), UnixNanos(3 * S));
    assert!(assembler.poll(UnixNanos(7 * S)).is_empty());
    assert_eq!(assembler.poll(UnixNanos(8 * S)), [trace_id(1)]);
    assert_eq!(assembler.open_traces(), 0);
}

#[test]
fn a_trace_without_a_root_waits_longer_but_not_past_its_greatest_age() {
    let mut assembler = Assembler::new(Options::default());
    assembler.observe(trace_id(1), &node(2, Some(1)), live(0), UnixNanos(0));
    assert!(assembler.poll(UnixNanos(59 * S)).is_empty());
    assert_eq!(assembler.poll(UnixNanos(60 * S)), [trace_id(1)]);
    for second in 0..1_000 {
        let mut span = node(3, Some(1));
        span.content = 1_000 + second;
        assembler.observe(trace_id(2), &span, live(0), UnixNanos(second * S));
    }
    assert_eq!(assembler.poll(UnixNanos(900 * S)), [trace_id(2)]);
}

#[test]
fn a_repeated_span_is_recognised_in_small_and_large_traces() {
    let mut assembler = Assembler::new(Options::default());
    for span in 1..=100 {
        assert_eq!(assembler.observe(trace_id(1), &node(span, None), live(0), UnixNanos(0)), Seen::New);
        assert_eq!(assembler.observe(trace_id(1), &node(1, None), live(0), UnixNanos(0)), Seen::Duplicate);
    }
    assert_eq!(assembler.held_spans(), 100);
}

#[test]
fn a_late_span_reopens_and_a_sealed_finished_trace_is_let_go() {
    let mut assembler = Assembler::new(Options::default());
    assembler.observe(trace_id(1), &node(1, None), live(1), UnixNanos(0));
    assert_eq!(assembler.poll(UnixNanos(10 * S)).len(), 1);
    assembler.observe(trace_id(1), &node(2, Some(1)), live(2), UnixNanos(11 * S));
    assert!(assembler.get(&trace_id(1)).unwrap().is_revised());
    assembler.sealed(1);
    assembler.release(&trace_id(1));
    assert!(assembler.holds(&trace_id(1)), "open again, so it stays");
    assert_eq!(assembler.poll(UnixNanos(20 * S)).len(), 1);
    assembler.release(&trace_id(1));
    assert!(assembler.holds(&trace_id(1)), "one of its spans is live");
    assembler.sealed(2);
    assembler.release(&trace_id(1));
    assert!(!assembler.holds(&trace_id(1)));
    assert_eq!(assembler.held_spans(), 0);
}

#[test]
fn a_trace_taken_back_for_repeated_spans_only_is_let_go_without_an_analysis() {
    let mut assembler = Assembler::new(Options::default());
    assembler.reopen(trace_id(1), [node(1, None), node(2, Some(1))], UnixNanos(0));
    assert_eq!(assembler.observe(trace_id(1), &node(2, Some(1)), live(1), UnixNanos(1)), Seen::Duplicate);
    assert!(assembler.poll(UnixNanos(60 * S)).is_empty());
    assert_eq!((assembler.held_spans(), assembler.open_traces()), (0, 0));
}

#[test]
fn rows_are_observed_as_single_spans_are() {
    let rows = [(0, node(1, None)), (2, node(2, Some(1))), (3, node(2, Some(1))), (5, node(3, Some(1)))];
    let mut assembler = Assembler::new(Options::default());
    let mut repeated = Vec::new();
    assert_eq!(assembler.observe_rows(trace_id(1), 1, rows.into_iter(), UnixNanos(S), &mut repeated), 0);
    assert_eq!(repeated, [3]);
    // Rows 3 and 4 were taken out.
    assembler.renumber(&trace_id(1), 1, &mut |row| if row > 3 { row - 2 } else { row });
    let places =
        |assembler: &Assembler| assembler.spans(&trace_id(1)).map(|span| span.location).collect::<Vec<_>>();
    assert_eq!(places(&assembler), [0, 2, 3].map(|row| Location::Live { batch: 1, row }));
    assert_eq!(assembler.poll(UnixNanos(10 * S)), [trace_id(1)]);
    let late = [(7, node(1, None)), (8, node(4, Some(1)))];
    assert_eq!(assembler.observe_rows(trace_id(1), 2, late.into_iter(), UnixNanos(11 * S), &mut repeated), 1);
    assembler.renumber(&trace_id(1), 2, &mut |row| row - 8);
    let late = Location::Live { batch: 2, row: 0 };
    assert_eq!((repeated, places(&assembler)[3], places(&assembler).len()), (vec![3, 7], late, 4));
    let nothing = assembler.observe_rows(trace_id(2), 2, [].into_iter(), UnixNanos(11 * S), &mut Vec::new());
    assert_eq!(nothing, 0);
    assert!(!assembler.holds(&trace_id(2)), "nothing came of it");
}

/// A trace that stays open must not keep what is known of those that came and went after it.
#[test]
fn one_trace_that_stays_open_does_not_make_the_others_stay() {
    let mut assembler = Assembler::new(Options::default());
    for second in 0..100 {
        let now = UnixNanos(second * S);
        let mut span = node(1, None);
        span.content = second;
        assembler.observe(trace_id(1), &span, live(second), now);
        for nth in 0..100_u64 {
            let id = TraceId::new(u128::from(1_000 + second * 100 + nth).to_be_bytes()).unwrap();
            assembler.observe(id, &node(1, None), live(second), now);
        }
        assembler.poll(now).iter().for_each(|id| assembler.release(id));
        assert_eq!(assembler.cut().since, Some(UnixNanos(0)));
        let known = assembler.schedule.opened.len();
        assert!(known <= FORGOTTEN_MIN + 2 * assembler.open_traces(), "{known} are known after {second} s");
    }
    assert!((2..1_000).contains(&assembler.open_traces()), "{} are open", assembler.open_traces());
}

#[test]
fn every_open_trace_is_named_by_a_cut_since_the_one_told() {
    let mut assembler = Assembler::new(Options::default());
    let nothing = OpenAtCut { touched: Vec::new(), since: None };
    assert_eq!(assembler.cut(), nothing);
    // Without a root it is open for a minute; the other is finished before the second cut.
    assembler.observe(trace_id(1), &node(2, Some(1)), live(1), UnixNanos(S));
    assembler.observe(trace_id(2), &node(1, None), live(1), UnixNanos(2 * S));
    let both = OpenAtCut { touched: vec![trace_id(1), trace_id(2)], since: Some(UnixNanos(S)) };
    assert_eq!(assembler.cut(), both);
    assert_eq!(assembler.poll(UnixNanos(10 * S)), [trace_id(2)]);
    assembler.observe(trace_id(3), &node(1, None), live(2), UnixNanos(10 * S));
    let third = OpenAtCut { touched: vec![trace_id(3)], since: Some(UnixNanos(S)) };
    assert_eq!(assembler.cut(), third);
    assert_eq!(assembler.poll(UnixNanos(61 * S)), [trace_id(3), trace_id(1)]);
    assert_eq!(assembler.cut(), nothing);
}

#[test]
fn a_cut_tells_arrivals_and_not_when_they_were_observed() {
    let mut assembler = Assembler::new(Options::default());
    assembler.note_arrival(UnixNanos(S));
    assembler.observe(trace_id(1), &node(1, None), live(1), UnixNanos(2 * S));
    assert_eq!(assembler.cut().since, Some(UnixNanos(S)));
    assert_eq!(assembler.poll(UnixNanos(20 * S)), [trace_id(1)]);
    // A late span opens it again.
    assembler.note_arrival(UnixNanos(21 * S));
    assembler.observe(trace_id(1), &node(2, Some(1)), live(2), UnixNanos(22 * S));
    assert_eq!(assembler.cut().since, Some(UnixNanos(21 * S)));
}

#[test]
fn a_resumed_trace_is_analysed_and_keeps_the_place_where_it_is_named() {
    let mut assembler = Assembler::new(Options::default());
    assembler.resume(trace_id(1), [node(1, None)], UnixNanos(3), UnixNanos(100 * S));
    assert_eq!(assembler.cut(), OpenAtCut { touched: Vec::new(), since: Some(UnixNanos(3)) });
    assert_eq!(assembler.poll(UnixNanos(105 * S)), [trace_id(1)]);
    assert_eq!(assembler.cut().since, None);
    assembler.release(&trace_id(1));
    assert_eq!(assembler.held_spans(), 0);
}

#[test]
fn the_bound_on_spans_finishes_the_traces_due_next() {
    let mut assembler = Assembler::new(Options { spans_max: 5, ..Options::default() });
    for n in 1..=9 {
        assembler.observe(trace_id(n), &node(n, None), live(0), UnixNanos(u64::from(n)));
    }
    let forced = assembler.poll(UnixNanos(20));
    assert_eq!(forced, (1..=4).map(trace_id).collect::<Vec<_>>());
    assert_eq!(assembler.finished_early(), 4);
}

#[test]
fn what_is_finished_and_waits_for_sealing_forces_nothing_else_out() {
    let mut assembler = Assembler::new(Options { spans_max: 5, ..Options::default() });
    for n in 1..=9 {
        assembler.observe(trace_id(n), &node(n, None), live(1), UnixNanos(u64::from(n)));
    }
    assert_eq!(assembler.poll(UnixNanos(20)).len(), 4);
    assert!(assembler.poll(UnixNanos(21)).is_empty(), "enough goes with the next seal");
    assert!(assembler.waits_for_sealing() && assembler.room() == 0);
    assembler.sealed(1);
    (1..=4).for_each(|n| assembler.release(&trace_id(n)));
    assert_eq!((assembler.held_spans(), assembler.finished_early()), (5, 4));
    assert!(!assembler.waits_for_sealing());
    // A late span opens one again; what was finished of it does not count twice.
    assert_eq!(assembler.poll(UnixNanos(60 * S)).len(), 5);
    assembler.observe(trace_id(9), &node(10, Some(9)), live(2), UnixNanos(61 * S));
    assembler.observe(trace_id(8), &node(11, Some(8)), live(2), UnixNanos(61 * S));
    assert!(assembler.poll(UnixNanos(61 * S)).is_empty());
    assembler.sealed(2);
    assert_eq!(assembler.poll(UnixNanos(120 * S)).len(), 2);
    (1..=9).for_each(|n| assembler.release(&trace_id(n)));
    assert_eq!((assembler.held_spans(), assembler.finished_spans), (0, 0));
}

#[test]
fn a_little_that_could_go_is_not_worth_a_segment() {
    let mut assembler = Assembler::new(Options { spans_max: 160, ..Options::default() });
    for n in 1..=200 {
        assembler.observe(trace_id(n), &node(n, None), live(1), UnixNanos(u64::from(n)));
        assembler.poll(UnixNanos(u64::from(n)));
        let finished = n.saturating_sub(160);
        assert_eq!(
            (assembler.finished_early(), assembler.waits_for_sealing()),
            (finished.into(), finished > 10)
        );
    }
}

#[test]
fn a_trace_that_grows_too_large_keeps_what_is_not_sealed_and_sums_of_the_rest() {
    let mut assembler = Assembler::new(Options { trace_held_max: 10, ..Options::default() });
    let all: Vec<SpanNode> =
        (1..=60).map(|n| SpanNode { start: UnixNanos(n.into()), ..node(n, (n > 1).then_some(1)) }).collect();
    for (at, node) in all.iter().enumerate() {
        assembler.observe(trace_id(1), node, live(at as u64 / 20 + 1), UnixNanos(0));
    }
    assembler.trim();
    assert_eq!(assembler.held_spans(), 60, "nothing of it is sealed");
    assembler.sealed(2);
    assembler.trim();
    let mut wanted = Totals::default();
    wanted.extend(&all);
    {
        let trace = assembler.get(&trace_id(1)).unwrap();
        assert!(trace.is_partly_held() && trace.has_root());
        assert_eq!((trace.span_count(), trace.totals()), (20, wanted));
        assert_eq!(trace.extent(), (UnixNanos(1), UnixNanos(60)));
    }
    assert_eq!((assembler.held_spans(), assembler.traces_held_in_part()), (20, 1));
    assert_eq!(assembler.observe(trace_id(1), &all[50], live(4), UnixNanos(0)), Seen::Duplicate);
    // It waits for longer, since to analyse it it has to be read.
    assert!(assembler.poll(UnixNanos(59 * S)).is_empty());
    assert_eq!(assembler.poll(UnixNanos(60 * S)), [trace_id(1)]);
    assembler.sealed(3);
    assembler.release(&trace_id(1));
    assert_eq!((assembler.held_spans(), assembler.traces_held_in_part()), (0, 0));
}

#[test]
fn a_trace_taken_back_in_part_is_let_go_or_analysed_like_a_whole_one() {
    let stored = [node(1, None), node(2, Some(1))];
    let mut totals = Totals::default();
    totals.extend(&stored);
    let mut assembler = Assembler::new(Options::default());
    assembler.reopen_partly(trace_id(1), totals.clone(), 0, UnixNanos(0));
    assert_eq!((assembler.open_traces(), assembler.traces_held_in_part()), (1, 1));
    assert!(assembler.poll(UnixNanos(60 * S)).is_empty(), "nothing new came");
    assert_eq!((assembler.open_traces(), assembler.traces_held_in_part()), (0, 0));

    // Of what is held already, what had been sealed when it was read is in the sums.
    assembler.observe(trace_id(1), &node(1, None), live(7), UnixNanos(61 * S));
    assembler.observe(trace_id(1), &node(3, Some(1)), live(8), UnixNanos(61 * S));
    assembler.reopen_partly(trace_id(1), totals, 7, UnixNanos(62 * S));
    let trace = assembler.get(&trace_id(1)).unwrap();
    assert_eq!((trace.span_count(), trace.totals().spans, trace.is_revised()), (1, 3, true));
    assert_eq!(assembler.held_spans(), 1);
    assert_eq!(assembler.poll(UnixNanos(122 * S)), [trace_id(1)]);
}

#[test]
fn a_cut_reaches_back_to_the_earliest_of_the_resumed_traces() {
    for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
        let mut assembler = Assembler::new(Options::default());
        for n in order {
            let listed = UnixNanos(u64::from(n) * S);
            assembler.resume(trace_id(n), [node(n, Some(9))], listed, UnixNanos(50 * S));
        }
        assert_eq!(assembler.cut().since, Some(UnixNanos(S)), "{order:?}");
    }
}
