//! The engine: one method a question.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use segment::{Names, ReadError};
use span_store::SpanStore;
use trace_model::{AnomalyKind, NanoDuration, SpanKind, Trace, TraceId, UnixNanos};

use crate::analysis::count_anomalies;
use crate::answer::*;
use crate::damage::Reader;
use crate::gather::{Nodes, SpanPlace};
use crate::housekeeping::RollupTotals;
use crate::reach::Asked;
use crate::request::*;
use crate::state::State;
use crate::view::View;
use crate::{bottlenecks, fetch, latencies, metrics, page, path, search, totals};

/// Anomalies of a trace that are named one by one.
const ANOMALIES_MAX: usize = 1_000;

/// Why a question could not be answered. Nothing that a client asks can cause the first.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The store failed.
    #[error("{0}")]
    Store(String),
    /// It is not there, and may be yet: the log is being replayed.
    #[error("{0}")]
    Recovering(String),
    /// All that may be stored of a trace is damaged.
    #[error(
        "nothing of this trace can be read; what may be stored of it is in a damaged segment, which /api/v1/status names"
    )]
    Unreadable,
    /// The points of the latency series asked for do not fit into memory.
    #[error(
        "the points of {series} series, one every {step}, take more than {} MiB of histograms; make step wider, \
         limit smaller or the window shorter",
        .most >> 20
    )]
    TooManyPoints {
        /// Series that would have been answered.
        series: usize,
        /// Width of a point.
        step: NanoDuration,
        /// Bytes that points may take.
        most: usize,
    },
}

impl From<ReadError> for QueryError {
    fn from(error: ReadError) -> Self {
        Self::Store(error.to_string())
    }
}

/// Answers questions over everything that was acknowledged.
#[derive(Debug)]
pub struct Engine {
    state: Arc<State>,
    store: Arc<SpanStore>,
}

impl Engine {
    /// An engine over the state that the pipeline keeps.
    pub fn new(state: Arc<State>, store: Arc<SpanStore>) -> Self {
        Self { state, store }
    }

    /// Whether answers are over everything that was acknowledged and spans are taken, or why not.
    ///
    /// # Errors
    /// The reason.
    pub fn ready(&self) -> Result<(), String> {
        let not_ready = self.state.not_ready.lock().clone();
        match not_ready.or_else(|| self.state.refusing().into_iter().next()) {
            None => Ok(()),
            Some(reason) => Err(reason),
        }
    }

    /// What answers lack until the log has been replayed. Ask before looking: who asks afterwards may have looked
    /// too early.
    fn recovering(&self) -> Option<Incomplete> {
        let detail = self.state.not_ready.lock().clone()?;
        Some(Incomplete { reason: RECOVERING, detail })
    }

    /// Services, by name; all of time without a window.
    ///
    /// # Errors
    /// If the store fails.
    pub fn services(&self, window: Option<Window>) -> Result<(Vec<ServiceRow>, Vec<Incomplete>), QueryError> {
        let recovering = self.recovering();
        let reader = Reader::new(&self.state);
        let (rows, mut incomplete) = totals::services(&reader, window)?;
        incomplete.extend(recovering);
        incomplete.extend(reader.damage(Asked::Spans(window.unwrap_or(Window::ALL))));
        Ok((rows, incomplete))
    }

    /// Operations of a service, most spans first.
    ///
    /// # Errors
    /// If the store fails.
    pub fn operations(
        &self,
        service: &str,
        kind: Option<SpanKind>,
    ) -> Result<(Vec<OperationRow>, Vec<Incomplete>), QueryError> {
        let mut incomplete: Vec<Incomplete> = self.recovering().into_iter().collect();
        let reader = Reader::new(&self.state);
        let rows = totals::operations(&reader, service, kind)?;
        incomplete.extend(reader.damage(Asked::Spans(Window::ALL)));
        Ok((rows, incomplete))
    }

    /// Traces that match, in order.
    ///
    /// # Errors
    /// If the store fails.
    pub fn search(&self, search: &TraceSearch) -> Result<TraceSearchAnswer, QueryError> {
        let recovering = self.recovering();
        let reader = Reader::new(&self.state);
        let mut answer = search::run(&reader, search)?;
        if recovering.is_some() {
            // The log may have more of any of them.
            answer.traces.iter_mut().for_each(|hit| hit.state = TraceState::Open);
        }
        answer.incomplete.extend(recovering);
        answer.incomplete.extend(reader.damage(search::asked(search)));
        Ok(answer)
    }

    /// A whole trace, or of a large one the first page.
    ///
    /// # Errors
    /// If it is not there while recovering, if nothing of it can be read for damage, or if the store fails.
    pub fn trace(&self, id: TraceId) -> Result<Option<TraceAnswer>, QueryError> {
        self.trace_page(&TracePage::first(id))
    }

    /// A page of a trace. Anomalies are told on the first.
    ///
    /// # Errors
    /// If it is not there while recovering, if nothing of it can be read for damage, or if the store fails.
    pub fn trace_page(&self, page: &TracePage) -> Result<Option<TraceAnswer>, QueryError> {
        let recovering = self.recovering();
        let reader = Reader::new(&self.state);
        let Some(fetched) = fetch::trace(&reader, page)? else { return not_found(recovering) };
        let mut answer = TraceAnswer {
            traces_data: page::splice(&fetched.spans),
            next: fetched.spans.last().filter(|_| fetched.more).map(|span| SpanPlace::from(&span.node)),
            state: if recovering.is_some() { TraceState::Open } else { fetched.state },
            anomalies: Vec::new(),
            anomaly_counts: Default::default(),
            incomplete: Vec::new(),
            pass: fetched.pass.map(Arc::new),
        };
        let mut missing = 0;
        let most = self.state.trace_spans_max;
        match fetched.nodes {
            Some(Nodes::All(nodes)) => {
                let found = Trace::from_spans(nodes).map(|(_, anomalies)| anomalies);
                answer.anomalies = found.unwrap_or_default();
                answer.anomaly_counts = count_anomalies(&answer.anomalies);
                missing = answer.anomaly_counts[AnomalyKind::MissingParent as usize];
            }
            Some(Nodes::Sums(totals)) => answer.incomplete.push(too_large(totals.spans, most)),
            None => {}
        }
        answer.incomplete.splice(0..0, trace_incomplete(fetched.state, missing as usize));
        if answer.next.is_some() {
            let detail = format!("{} spans from here on; the cursor leads to the next", fetched.spans.len());
            answer.incomplete.push(Incomplete { reason: "page", detail });
        }
        if answer.anomalies.len() > ANOMALIES_MAX {
            let detail = format!("{} anomalies, the first {ANOMALIES_MAX} named", answer.anomalies.len());
            answer.incomplete.push(Incomplete { reason: "anomalies_limit", detail });
            answer.anomalies.truncate(ANOMALIES_MAX);
        }
        answer.incomplete.extend(recovering);
        answer.incomplete.extend(reader.damage(Asked::Trace));
        Ok(Some(answer))
    }

    /// The critical path of a trace.
    ///
    /// # Errors
    /// If it is not there while recovering, if nothing of it can be read for damage, or if the store fails.
    pub fn critical_path(
        &self,
        question: &CriticalPathQuery,
    ) -> Result<Option<CriticalPathAnswer>, QueryError> {
        let recovering = self.recovering();
        let reader = Reader::new(&self.state);
        let Some(mut answer) = path::answer(&reader, question)? else { return not_found(recovering) };
        if recovering.is_some() {
            answer.state = TraceState::Open;
        }
        answer.incomplete.extend(recovering);
        answer.incomplete.extend(reader.damage(Asked::Trace));
        Ok(Some(answer))
    }

    /// Latency percentiles.
    ///
    /// # Errors
    /// If the points asked for are too many, or if the store fails.
    pub fn latency(&self, question: &LatencyQuery) -> Result<LatencyAnswer, QueryError> {
        let recovering = self.recovering();
        let reader = Reader::new(&self.state);
        let mut answer = latencies::answer(&reader, question)?;
        answer.incomplete.extend(recovering);
        answer.incomplete.extend(reader.damage(Asked::Durations(answer.window)));
        Ok(answer)
    }

    /// What critical paths are made of.
    ///
    /// # Errors
    /// If the store fails.
    pub fn bottlenecks(&self, question: &BottleneckQuery) -> Result<BottleneckAnswer, QueryError> {
        let recovering = self.recovering();
        let reader = Reader::new(&self.state);
        let mut answer = bottlenecks::answer(&reader, question)?;
        answer.incomplete.extend(recovering);
        answer.incomplete.extend(reader.damage(Asked::Paths(answer.window)));
        Ok(answer)
    }

    /// The state of the store and of assembly.
    pub fn status(&self) -> StatusAnswer {
        let state = &self.state;
        let (open_traces, open_spans, early) = {
            let assembly = state.assembly.lock();
            let assembler = &assembly.assembler;
            (assembler.open_traces() as u64, assembler.held_spans() as u64, assembler.finished_early())
        };
        let view = state.snapshot();
        let size = self.store.size();
        let newest = view.sealed.iter().map(|segment| segment.meta.arrival_max).max().unwrap_or(0);
        let since = newest.saturating_sub(86_400_000_000_000);
        let counters = &state.counters;
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let anomaly = |kind: AnomalyKind| read(&counters.anomalies[kind as usize]);
        StatusAnswer {
            segments: view.sealed.len() as u64,
            sealed_spans: view.sealed.iter().map(|segment| segment.meta.spans).sum(),
            live_spans: view.live.iter().map(|batch| batch.rows.len() as u64).sum(),
            stored_bytes: size.segment_bytes,
            log_bytes: size.log_bytes,
            bytes_last_day: view
                .sealed
                .iter()
                .filter(|segment| segment.meta.arrival_max >= since)
                .map(|segment| segment.handle.disk_bytes())
                .sum(),
            partitions: size.partitions,
            oldest: totals::oldest(&view),
            open_traces,
            open_spans,
            reopened: size.reopened,
            torn_log_end: self.store.torn_log_end().map(str::to_owned),
            disk: *state.disk.lock(),
            counters: vec![
                ("spans", read(&counters.spans)),
                ("duplicate_spans", read(&counters.duplicates)),
                ("late_spans", read(&counters.late)),
                ("spans_ahead_of_clock", read(&counters.ahead_of_clock)),
                ("spans_behind_clock", read(&counters.behind_clock)),
                ("seals", read(&counters.seals)),
                ("damaged_frames", read(&counters.damaged_frames)),
                ("lost_frames", read(&counters.lost_frames)),
                ("torn_log_ends", u64::from(self.store.torn_log_end().is_some())),
                ("refused_requests", read(&counters.refused_requests)),
                ("disk_full", read(&counters.disk_full)),
                ("segments_dropped_for_room", read(&counters.dropped_for_room)),
                ("spans_not_rolled_up", read(&counters.not_rolled_up)),
                ("reopen_lookups", read(&counters.reopen_lookups)),
                ("lookups_failed", read(&counters.lookups_failed)),
                ("traces_finished_early", early),
                ("names_over_limit", state.names.totals().overflowed),
                ("metrics_over_limit", state.metrics.lock().over_limit()),
                ("traces_analysed", read(&counters.analysed)),
                ("traces_analysed_again", read(&counters.analysed_again)),
                ("traces_too_large", read(&counters.too_large)),
                ("traces_held_in_part", read(&counters.held_in_part)),
                ("traces_joined_from_files", read(&counters.joined_from_files)),
                ("revisions_not_written", read(&counters.revisions_not_written)),
                ("anomaly_missing_parent", anomaly(AnomalyKind::MissingParent)),
                ("anomaly_self_parent", anomaly(AnomalyKind::SelfParent)),
                ("anomaly_cycle", anomaly(AnomalyKind::Cycle)),
                ("anomaly_id_conflict", anomaly(AnomalyKind::IdConflict)),
                ("anomaly_shared_id", anomaly(AnomalyKind::SharedId)),
                ("anomaly_end_before_start", anomaly(AnomalyKind::EndBeforeStart)),
                ("anomaly_second_root", anomaly(AnomalyKind::SecondRoot)),
                ("anomaly_before_parent", anomaly(AnomalyKind::BeforeParent)),
            ],
            housekeeping: *state.housekeeping.lock(),
            rollups: rollup_totals(&view),
            damaged: state.damaged(),
            recovering: state.not_ready.lock().clone(),
            refusing: state.refusing(),
        }
    }

    /// Calls, errors and latency by operation since the process began.
    pub fn operation_metrics(&self) -> Vec<OperationMetrics> {
        let mut rows: Vec<OperationMetrics> = metrics::of_all(&self.state)
            .into_rows()
            .map(|(id, totals)| OperationMetrics {
                operation: id.map_or_else(OperationName::overflow, |id| operation_name(&self.state, id)),
                totals,
            })
            .collect();
        rows.sort_by(|a, b| {
            let key = |row: &OperationMetrics| {
                (row.operation.service.clone(), row.operation.operation.clone(), row.operation.kind)
            };
            key(a).cmp(&key(b))
        });
        rows
    }
}

/// Until the log has been replayed, nobody knows that something is not there.
fn not_found<T>(recovering: Option<Incomplete>) -> Result<Option<T>, QueryError> {
    match recovering {
        None => Ok(None),
        Some(why) => Err(QueryError::Recovering(why.detail)),
    }
}

fn rollup_totals(view: &View) -> [RollupTotals; 3] {
    let mut totals = [RollupTotals::default(); 3];
    for rollup in view.rollups.iter() {
        let total = &mut totals[rollup.tier as usize - 1];
        total.rollups += 1;
        total.bytes += rollup.handle.disk_bytes();
        total.spans += rollup.meta.spans;
        total.traces += rollup.meta.traces;
        let begin = UnixNanos(rollup.meta.begin);
        total.oldest = Some(total.oldest.map_or(begin, |oldest| oldest.min(begin)));
    }
    totals
}

pub(crate) fn operation_name(state: &State, id: trace_model::OperationId) -> OperationName {
    let entry = state.names.operation(id);
    OperationName { service: state.names.service(entry.service), operation: entry.name, kind: entry.kind }
}

pub(crate) fn too_large(spans: u64, most: usize) -> Incomplete {
    Incomplete {
        reason: "trace_too_large",
        detail: format!("{spans} spans; no more than {most} of one trace are analysed together"),
    }
}

pub(crate) fn trace_incomplete(state: TraceState, missing_parents: usize) -> Vec<Incomplete> {
    let mut incomplete = Vec::new();
    if state == TraceState::Open {
        incomplete
            .push(Incomplete { reason: "trace_open", detail: "spans may still be on their way".to_owned() });
    }
    if missing_parents > 0 {
        incomplete.push(Incomplete {
            reason: "missing_parent",
            detail: format!("{missing_parents} spans name a parent that has not come"),
        });
    }
    incomplete
}
