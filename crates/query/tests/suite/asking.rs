//! Questions of each kind, of which the number found and the reasons for what is missing are of interest.

use query::{
    BottleneckGroup, BottleneckQuery, CriticalPathQuery, Engine, GroupBy, Incomplete, LatencyQuery,
    QueryError, TraceSearch, Window,
};
use trace_model::{StatusCode, TraceId};

use crate::checks::random_search;
use crate::spans::{Dice, SERVICES, STEP};

/// What there is of something, and why it may not be all.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) count: u64,
    pub(crate) incomplete: Vec<Incomplete>,
}

impl Found {
    pub(crate) fn says_damaged(&self) -> bool {
        self.incomplete.iter().any(|why| why.reason == "damaged_segment")
    }
}

/// A search for all traces of a window.
pub(crate) fn all_of(window: Window) -> TraceSearch {
    TraceSearch {
        service: None,
        operation: None,
        kind: None,
        status: None,
        min_duration: None,
        max_duration: None,
        min_trace_duration: None,
        max_trace_duration: None,
        window,
        limit: 1_000,
        ..random_search(&mut Dice(1), STEP)
    }
}

/// A search for all traces with spans of a window that failed.
pub(crate) fn failed_of(window: Window) -> TraceSearch {
    TraceSearch { status: Some(StatusCode::Error), ..all_of(window) }
}

pub(crate) fn search(engine: &Engine, search: &TraceSearch) -> Found {
    let answer = engine.search(search).unwrap();
    Found { count: answer.traces.len() as u64, incomplete: answer.incomplete }
}

pub(crate) fn latency(engine: &Engine, window: Window) -> Found {
    let answer = engine.latency(&LatencyQuery {
        service: None,
        operation: None,
        kind: None,
        status: None,
        window,
        step: None,
        quantiles: vec![0.5],
        group_by: GroupBy::default(),
        limit: 1_000,
    });
    let answer = answer.unwrap();
    let count = answer.series.iter().map(|series| series.histogram.count()).sum();
    Found { count, incomplete: answer.incomplete }
}

pub(crate) fn bottlenecks(engine: &Engine, window: Window) -> Found {
    let answer = engine.bottlenecks(&BottleneckQuery {
        service: None,
        operation: None,
        window,
        group_by: BottleneckGroup::Operation,
        faster_permille: 500,
        limit: 10,
    });
    let answer = answer.unwrap();
    Found { count: answer.traces, incomplete: answer.incomplete }
}

pub(crate) fn services(engine: &Engine, window: Window) -> Found {
    let (rows, incomplete) = engine.services(Some(window)).unwrap();
    Found { count: rows.iter().map(|row| row.spans).sum(), incomplete }
}

pub(crate) fn operations(engine: &Engine) -> Found {
    let (rows, incomplete) = engine.operations(SERVICES[0], None).unwrap();
    Found { count: rows.iter().map(|row| row.spans).sum(), incomplete }
}

pub(crate) fn trace(engine: &Engine, id: TraceId) -> Found {
    let path = engine.critical_path(&CriticalPathQuery::of(id));
    let answer = match engine.trace(id) {
        Err(QueryError::Unreadable) => {
            assert!(matches!(path, Err(QueryError::Unreadable)));
            let why = Incomplete { reason: "damaged_segment", detail: "nothing can be read".to_owned() };
            return Found { count: 0, incomplete: vec![why] };
        }
        answer => answer.unwrap().unwrap(),
    };
    let path = path.unwrap().unwrap();
    let mut walked = otlp_wire::Walked::new();
    otlp_wire::walk(&answer.traces_data, &otlp_wire::WireLimits::STORED, &mut walked).unwrap();
    assert_eq!(path.trace.len(), walked.spans.len());
    let found = Found { count: walked.spans.len() as u64, incomplete: answer.incomplete };
    let of_path = Found { count: found.count, incomplete: path.incomplete };
    assert_eq!(found.says_damaged(), of_path.says_damaged());
    found
}
