//! The critical path of one trace, worked out from its spans when asked.

use segment::Names;
use trace_analyze::{CriticalPath, critical_path, exclusive, inclusive, self_times, slack};
use trace_model::{AnomalyKind, Trace};

use crate::answer::*;
use crate::engine::{QueryError, operation_name, trace_incomplete};
use crate::fetch;
use crate::request::CriticalPathQuery;
use crate::state::State;

/// Paths of further roots that are answered; the rest is named as left out.
const OTHER_ROOTS_MAX: usize = 100;

pub(crate) fn answer(
    state: &State,
    question: &CriticalPathQuery,
) -> Result<Option<CriticalPathAnswer>, QueryError> {
    let Some(fetched) = fetch::trace(state, question.trace_id)? else { return Ok(None) };
    let Some((trace, anomalies)) = Trace::from_spans(fetched.nodes()) else { return Ok(None) };
    let primary = trace.primary_root();
    let missing = anomalies.iter().filter(|anomaly| anomaly.kind == AnomalyKind::MissingParent).count();
    let mut incomplete = trace_incomplete(fetched.state, missing);
    let others: Vec<usize> =
        trace.roots().iter().map(|&root| root as usize).filter(|&root| root != primary).collect();
    if others.len() > OTHER_ROOTS_MAX {
        incomplete.push(Incomplete {
            reason: "other_roots_limit",
            detail: format!("{} other roots, paths of the first {OTHER_ROOTS_MAX} given", others.len()),
        });
    }
    let path_of = |root: usize| {
        let path = critical_path(&trace, root, &question.options);
        root_path(&trace, path)
    };
    let names = names(state, &trace);
    Ok(Some(CriticalPathAnswer {
        trace_id: question.trace_id,
        state: fetched.state,
        names,
        primary: path_of(primary),
        other_roots: others.into_iter().take(OTHER_ROOTS_MAX).map(path_of).collect(),
        self_times: self_times(&trace),
        incomplete,
        trace,
    }))
}

fn root_path(trace: &Trace, path: CriticalPath) -> RootPath {
    RootPath {
        exclusive: exclusive(trace, &path),
        inclusive: inclusive(trace, &path),
        slack: slack(trace, &path),
        path,
    }
}

fn names(state: &State, trace: &Trace) -> Vec<OperationName> {
    trace
        .spans()
        .iter()
        .map(|span| match state.names.operation(span.operation) {
            entry if entry.service == span.service => OperationName {
                service: state.names.service(entry.service),
                operation: entry.name,
                kind: entry.kind,
            },
            _ => operation_name(state, span.operation),
        })
        .collect()
}
