//! Until the log has been replayed, answers say that they lack something and nothing is said to be missing.

use query::{
    BottleneckGroup, BottleneckQuery, CriticalPathQuery, GroupBy, LatencyQuery, QueryError, RECOVERING,
    TraceState, Window,
};
use trace_analyze::PathOptions;
use trace_model::TraceId;

use crate::checks::random_search;
use crate::model::live;
use crate::spans::{Dice, STEP};

#[test]
fn nothing_is_missing_before_the_log_is_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice(7);
    let (world, oracle) = live(dir.path(), &mut dice, false);
    let (engine, known) = (&world.engine, *oracle.traces.keys().next().unwrap());
    let unknown = TraceId::new([0xee; 16]).unwrap();
    let path_of =
        |trace_id| engine.critical_path(&CriticalPathQuery { trace_id, options: PathOptions::default() });
    assert!(engine.trace(unknown).unwrap().is_none() && path_of(unknown).unwrap().is_none());

    *world.state.not_ready.lock() = Some("3 of 40".to_owned());
    assert!(engine.ready().unwrap_err().contains("3 of 40"));
    assert!(matches!(engine.trace(unknown), Err(QueryError::Recovering(why)) if why == "3 of 40"));
    assert!(matches!(path_of(unknown), Err(QueryError::Recovering(_))));
    let (trace, path) = (engine.trace(known).unwrap().unwrap(), path_of(known).unwrap().unwrap());
    assert_eq!((trace.state, path.state), (TraceState::Open, TraceState::Open));
    let found = engine.search(&random_search(&mut dice, STEP)).unwrap();
    assert!(found.traces.iter().all(|hit| hit.state == TraceState::Open));
    let latency = engine.latency(&latency()).unwrap();
    let bottlenecks = engine.bottlenecks(&bottlenecks()).unwrap();
    for incomplete in [
        trace.incomplete,
        path.incomplete,
        found.incomplete,
        latency.incomplete,
        bottlenecks.incomplete,
        engine.services(None).unwrap().1,
        engine.operations("a", None).unwrap().1,
    ] {
        assert!(incomplete.iter().any(|why| why.reason == RECOVERING && why.detail == "3 of 40"));
    }
    assert_eq!(engine.status().recovering.as_deref(), Some("3 of 40"));
}

fn latency() -> LatencyQuery {
    LatencyQuery {
        service: None,
        operation: None,
        kind: None,
        status: None,
        window: Window::ALL,
        step: None,
        quantiles: vec![0.5],
        group_by: GroupBy::default(),
        limit: 1_000,
    }
}

fn bottlenecks() -> BottleneckQuery {
    BottleneckQuery {
        service: None,
        operation: None,
        window: Window::ALL,
        group_by: BottleneckGroup::Service,
        faster_permille: 500,
        limit: 10,
    }
}
