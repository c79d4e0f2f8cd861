//! The analysis of traces that are due.

use query::{AnomalyCounts, Nodes, State, analyse_counting, analyse_in_part, summary};
use segment::TraceRow;
use trace_assemble::{OpenTrace, Totals};
use trace_model::{SpanNode, TraceId, UnixNanos};

/// What is held of a trace.
enum Held {
    Whole(Vec<SpanNode>),
    /// Sealed spans of it have to be read.
    InPart(Totals),
    /// There are too many to be analysed together.
    TooMany(Totals),
}

#[derive(Debug)]
pub(super) struct Finishing<'a> {
    state: &'a State,
}

impl<'a> Finishing<'a> {
    pub(super) fn new(state: &'a State) -> Self {
        Self { state }
    }

    /// Whether a trace without a root may go on from one that was looked for neither in memory nor, since its first
    /// span began too late for that, in files. Most traces have a root, so this costs little; and whoever has one is
    /// taken for a trace of its own.
    pub(super) fn may_be_stored(&self, id: &TraceId) -> bool {
        let stored = self.state.view.read().stored();
        if !stored.has_files() {
            return false;
        }
        let unsearched = {
            let assembly = self.state.assembly.lock();
            let trace = assembly.assembler.get(id);
            trace.is_some_and(|trace| !trace.has_root() && trace.searched_since() > UnixNanos(0))
        };
        if !unsearched {
            return false;
        }
        match stored.may_hold(id, UnixNanos(0), UnixNanos(0)) {
            Ok(found) => {
                self.state.count(&self.state.counters.joined_from_files, u64::from(found));
                self.state.assembly.lock().assembler.note_searched(id, UnixNanos(0));
                found
            }
            Err(error) => {
                self.state.count(&self.state.counters.lookups_failed, 1);
                tracing::error!(trace = %id, %error, "cannot look for a stored trace");
                false
            }
        }
    }

    /// The analysis of a trace that is due; `None` if it has to wait, for another large trace or for the store.
    pub(super) fn analyse(&self, id: TraceId) -> Option<TraceRow> {
        let (held, revised) = self.held(&id)?;
        let row = match held {
            Held::Whole(nodes) => self.analysed(id, nodes, revised)?,
            Held::TooMany(totals) => self.too_large(id, &totals, revised),
            Held::InPart(totals) => self.read_back(id, &totals, revised)?,
        };
        let counters = &self.state.counters;
        self.state.count(&counters.analysed, 1);
        self.state.count(&counters.analysed_again, u64::from(revised));
        Some(row)
    }

    fn held(&self, id: &TraceId) -> Option<(Held, bool)> {
        let most = self.state.trace_spans_max as u64;
        let assembly = self.state.assembly.lock();
        let trace: &OpenTrace = assembly.assembler.get(id)?;
        let held = if trace.is_partly_held() {
            let totals = trace.totals();
            if totals.spans > most { Held::TooMany(totals) } else { Held::InPart(totals) }
        } else if trace.span_count() as u64 > most {
            Held::TooMany(trace.totals())
        } else {
            Held::Whole(trace.nodes())
        };
        Some((held, trace.is_revised()))
    }

    /// The analysis of a trace that is held in part. It waits for a store that fails, and not for spans that are damaged or
    /// gone: those never come back.
    fn read_back(&self, id: TraceId, known: &Totals, revised: bool) -> Option<TraceRow> {
        let _pass = self.state.large.try_enter()?;
        let read = query::trace_nodes(self.state, id, self.state.trace_spans_max);
        let read =
            read.inspect_err(|error| tracing::error!(trace = %id, %error, "cannot read a stored trace"));
        let query::TraceNodes { nodes, whole } = read.ok()?;
        match nodes {
            Nodes::All(nodes) if whole && !nodes.is_empty() => self.analysed(id, nodes, revised),
            Nodes::All(nodes) => {
                let (row, anomalies) = analyse_in_part(id, nodes, known, revised);
                self.count_anomalies(anomalies);
                Some(row)
            }
            Nodes::Sums(totals) => Some(self.too_large(id, &totals, revised)),
        }
    }

    fn analysed(&self, id: TraceId, nodes: Vec<SpanNode>, revised: bool) -> Option<TraceRow> {
        let (row, anomalies) = analyse_counting(id, nodes, revised)?;
        self.count_anomalies(anomalies);
        Some(row)
    }

    fn count_anomalies(&self, anomalies: AnomalyCounts) {
        for (counter, count) in self.state.counters.anomalies.iter().zip(anomalies) {
            self.state.count(counter, count);
        }
    }

    fn too_large(&self, id: TraceId, totals: &Totals, revised: bool) -> TraceRow {
        self.state.count(&self.state.counters.too_large, 1);
        summary(id, totals, revised)
    }
}
