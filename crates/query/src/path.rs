//! The critical path of one trace, worked out from its spans when asked.

use std::sync::Arc;

use segment::Names;
use trace_analyze::{CriticalPath, critical_path, exclusive, inclusive, self_times, slack};
use trace_model::{AnomalyKind, Trace};

use crate::answer::*;
use crate::damage::Reader;
use crate::engine::{QueryError, operation_name, too_large, trace_incomplete};
use crate::fetch;
use crate::gather::{First, LARGE};
use crate::request::{CriticalPathQuery, TracePage};
use crate::state::State;

/// Paths of further roots that are answered; the rest is named as left out.
const OTHER_ROOTS_MAX: usize = 100;

pub(crate) fn answer(
    state: &Reader<'_>,
    question: &CriticalPathQuery,
) -> Result<Option<CriticalPathAnswer>, QueryError> {
    let mut first = First::new(None, state.trace_spans_max, usize::MAX);
    let (mut count, mut pass) = (0_u64, None);
    let found = fetch::each_span(state, question.trace_id, &mut |span| {
        count += 1;
        if count == LARGE as u64 {
            pass = Some(Arc::new(state.large.enter()));
        }
        first.add(span.node);
    })?;
    let Some(trace_state) = found.state()? else { return Ok(None) };
    let (nodes, more) = first.done();
    let Some((trace, anomalies)) = Trace::from_spans(nodes) else { return Ok(None) };
    let primary = trace.primary_root();
    let missing = anomalies.iter().filter(|anomaly| anomaly.kind == AnomalyKind::MissingParent).count();
    let mut incomplete = trace_incomplete(trace_state, missing);
    if more {
        incomplete.push(too_large(count, state.trace_spans_max));
    }
    let others: Vec<usize> =
        trace.roots().iter().map(|&root| root as usize).filter(|&root| root != primary).collect();
    if others.len() > OTHER_ROOTS_MAX {
        incomplete.push(Incomplete {
            reason: "other_roots_limit",
            detail: format!("{} other roots, paths of the first {OTHER_ROOTS_MAX} given", others.len()),
        });
    }
    if trace.len() > TracePage::LIMIT_MAX {
        let detail = format!("{} spans, times of the first {} given", trace.len(), TracePage::LIMIT_MAX);
        incomplete.push(Incomplete { reason: "spans_limit", detail });
    }
    let path_of = |root: usize| {
        let mut path = critical_path(&trace, root, &question.options);
        // Many are kept until they are written.
        path.segments.shrink_to_fit();
        path
    };
    let names = names(state, &trace);
    Ok(Some(CriticalPathAnswer {
        trace_id: question.trace_id,
        state: trace_state,
        names,
        primary: root_path(&trace, path_of(primary)),
        other_roots: others.into_iter().take(OTHER_ROOTS_MAX).map(path_of).collect(),
        self_times: self_times(&trace),
        incomplete,
        trace,
        pass,
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
