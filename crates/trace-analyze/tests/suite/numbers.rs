//! Self time, slack, shares and replay of small drawn traces, worked out by hand.

use trace_analyze::{
    PathShare, UNLIMITED_SLACK, exclusive, inclusive, path_shares, self_times, slack, what_if,
};
use trace_model::{NanoDuration, Trace};

use crate::support::{Drawn, MS, id, response};

/// `A=10 B=20` for all spans in canonical order, in ms; `-` for no limit.
fn per_span(drawn: &Drawn, trace: &Trace, values: &[NanoDuration]) -> String {
    let value = |v: NanoDuration| if v == UNLIMITED_SLACK { "-".into() } else { (v.0 / MS).to_string() };
    let write = |(i, v): (usize, &NanoDuration)| format!("{}={}", drawn.label(trace, i as u32), value(*v));
    values.iter().enumerate().map(write).collect::<Vec<_>>().join(" ")
}

fn replay(text: &str, target: &str, permille: u32) -> u64 {
    let trace = Drawn::parse(text).trace();
    let ns = what_if(&trace, trace.primary_root(), &|span| span.span_id == id(target), permille).0;
    assert_eq!(ns % MS, 0);
    ns / MS
}

#[test]
fn self_time_is_what_no_child_covers() {
    let drawn = Drawn::parse("R[0,100] A[10,40]<R B[30,60]<R C[90,120]<R D[0,0]<R E[20,25]<A F[70,65]<R");
    let trace = drawn.trace();
    assert_eq!(per_span(&drawn, &trace, &self_times(&trace)), "R=40 D=0 A=25 E=5 B=30 F=0 C=30");
}

#[test]
fn exclusive_and_inclusive_time_follow_the_path() {
    let drawn = Drawn::parse("R[0,100] A[10,90]<R B[20,50]<A C[60,70]<A D[15,85]<R");
    let trace = drawn.trace();
    let path = response(&trace);
    assert_eq!(per_span(&drawn, &trace, &exclusive(&trace, &path)), "R=20 A=40 D=0 B=30 C=10");
    assert_eq!(per_span(&drawn, &trace, &inclusive(&trace, &path)), "R=100 A=80 D=0 B=30 C=10");
}

#[test]
fn slack_runs_to_the_barrier_or_the_straggler() {
    let slack_of = |text| {
        let drawn = Drawn::parse(text);
        let trace = drawn.trace();
        per_span(&drawn, &trace, &slack(&trace, &response(&trace)))
    };
    assert_eq!(slack_of("R[0,100] A[10,40]<R B[10,85]<R"), "R=0 B=0 A=45");
    assert_eq!(slack_of("R[0,100] A[5,20]<R B[5,45]<R C[50,70]<R D[50,95]<R"), "R=0 B=0 A=25 D=0 C=25");
    // E is below A, which may end 45 later itself.
    assert_eq!(slack_of("R[0,100] A[10,40]<R B[10,85]<R E[15,30]<A"), "R=0 B=0 A=45 E=45");
    // G waited for F, and may be late itself: F has that, too.
    assert_eq!(slack_of("R[0,100] B[10,85]<R F[12,30]<R G[40,60]<R"), "R=0 B=0 F=25 G=25");
    assert_eq!(slack_of("R[0,30] A[40,80]<R B[50,60]<A"), "R=0 A=- B=-");
    assert_eq!(slack_of("P[0,30](PRODUCER) C[10,20]<P(CONSUMER)"), "P=0 C=-");
}

#[test]
fn shares_sum_to_the_path_and_name_the_network() {
    let drawn = Drawn::parse(
        "R[0,100](SERVER)@web C[10,50]<R(CLIENT)@web S[20,40]<C(SERVER)@db C=D[50,90]<R(CLIENT)@web \
         T[55,90]<D(SERVER)@db! X[60,70]<R@web",
    );
    let trace = drawn.trace();
    let rows = path_shares(&trace, &response(&trace));
    let label = |row: &PathShare| {
        let same = |i: &usize| trace.spans()[*i].operation == row.operation;
        drawn.label(&trace, (0..trace.len()).find(same).unwrap() as u32)
    };
    let write = |row: &PathShare| {
        let edge = if row.edge.is_some() { "~" } else { "" };
        let (ms, on) = (row.exclusive.0 / MS, if row.on_path { "on" } else { "off" });
        format!("{}{edge} {ms} {}/{} {on}", label(row), row.errors, row.spans)
    };
    let written: Vec<_> = rows.iter().map(write).collect();
    assert_eq!(written, ["T 35 1/1 on", "C~ 25 0/2 on", "R 20 0/1 on", "S 20 0/1 on", "X 0 0/1 off"]);
    let edge = rows[1].edge.unwrap();
    assert_eq!((edge.0, edge.1), (rows[1].service, rows[0].service));
}

#[test]
fn replay_shrinks_what_the_root_waits_for_and_no_more() {
    let two = "R[0,100] A[10,40]<R B[50,90]<R";
    assert_eq!(replay(two, "B", 0), 100);
    assert_eq!(replay(two, "B", 500), 80);
    assert_eq!(replay(two, "B", 1000), 60);
    assert_eq!(replay(two, "B", 5000), 60);
    // The root's own time: 10 before A, 10 between, 10 after.
    assert_eq!(replay(two, "R", 500), 85);
    // Once the straggler is as short as the runner-up, that one counts.
    assert_eq!(replay("R[0,100] A[10,40]<R B[10,85]<R", "B", 1000), 55);
    assert_eq!(replay("R[0,100] A[10,40]<R B[10,85]<R", "A", 1000), 100);
    // C waited for both A and B.
    assert_eq!(replay("R[0,100] A[10,20]<R B[10,50]<R C[60,90]<R", "B", 1000), 70);
    // Only a child's own time shrinks, not that of the spans below it.
    assert_eq!(replay("R[0,100] A[10,90]<R B[20,80]<A", "A", 1000), 80);
    // Not awaited, so of no use.
    assert_eq!(replay("R[0,100](PRODUCER) A[10,90]<R(CONSUMER)", "A", 1000), 100);
}

#[test]
fn a_root_that_is_not_there_has_an_empty_path() {
    let trace = Drawn::parse("R[0,100]").trace();
    let path = trace_analyze::critical_path(&trace, 7, &trace_analyze::PathOptions::default());
    assert!(path.segments.is_empty());
    assert_eq!(what_if(&trace, 7, &|_| true, 500), NanoDuration(0));
    assert_eq!(slack(&trace, &path), [UNLIMITED_SLACK]);
    assert_eq!(
        (exclusive(&trace, &path), inclusive(&trace, &path)),
        (vec![NanoDuration(0)], vec![NanoDuration(0)])
    );
    assert!(path_shares(&trace, &path).is_empty());
}
