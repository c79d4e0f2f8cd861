//! Latency percentiles: stored and live histograms, merged. Percentiles are never averaged.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use latency::{ExemplarSet, LatencyHistogram};
use segment::{HistogramTable, Names, OperationEntry, Part, Tier, decode_minute, rolled_histograms};
use span_store::in_parts;
use trace_model::{NanoDuration, OperationId, SpanKind, StatusCode, UnixNanos};

use crate::answer::*;
use crate::engine::QueryError;
use crate::request::*;
use crate::rollups::{Kind, Rollup, coarse_points, widen};
use crate::sealed::{SEGMENTS_WORTH, SealedSegment};
use crate::state::State;
use crate::view::View;

type Labels = (Option<Arc<str>>, Option<Arc<str>>, Option<SpanKind>, Option<StatusCode>);

#[derive(Default)]
struct Series {
    histogram: LatencyHistogram,
    exemplars: ExemplarSet,
    points: BTreeMap<u64, LatencyHistogram>,
}

impl Series {
    fn merge(&mut self, other: Self) {
        self.histogram.merge(&other.histogram);
        self.exemplars.merge(&other.exemplars);
        for (start, histogram) in other.points {
            self.points.entry(start).or_default().merge(&histogram);
        }
    }
}

pub(crate) fn answer(state: &State, question: &LatencyQuery) -> Result<LatencyAnswer, QueryError> {
    let mut view = state.snapshot();
    let (window, mut incomplete) = widen(&view, whole_minutes(question.window), Kind::Histograms);
    let mut run = Run::new(state, question, window);
    run.live(&view);
    view.let_go_of_live();
    run.rolled(&view)?;
    run.sealed(&view)?;
    let resolution = run.resolution.map(|tier| NanoDuration(tier.width()));
    incomplete.extend(run.cut_points.map(|tier| coarse_points(NanoDuration(tier.width()))));
    let mut series: Vec<LatencySeries> =
        run.series.into_iter().map(|(labels, series)| finish(labels, series, question)).collect();
    series.sort_by(|a, b| {
        let labels = |s: &LatencySeries| (s.service.clone(), s.operation.clone(), s.kind, s.status);
        b.histogram.count().cmp(&a.histogram.count()).then_with(|| labels(a).cmp(&labels(b)))
    });
    Ok(LatencyAnswer { window, resolution, series, incomplete })
}

fn whole_minutes(window: Window) -> Window {
    let minute = UnixNanos::PER_MINUTE;
    let start = window.start.0 / minute * minute;
    let end = window.end.0.div_ceil(minute).saturating_mul(minute);
    Window { start: UnixNanos(start), end: UnixNanos(end) }
}

struct Run<'a> {
    state: &'a State,
    question: &'a LatencyQuery,
    window: Window,
    /// What an operation is called, `None` for those not asked for.
    operations: HashMap<OperationId, Option<(Arc<str>, OperationEntry)>>,
    series: HashMap<Labels, Series>,
    /// The widest rollup that was read.
    resolution: Option<Tier>,
    /// The widest rollup of which a bucket did not lie in one point.
    cut_points: Option<Tier>,
}

impl<'a> Run<'a> {
    fn new(state: &'a State, question: &'a LatencyQuery, window: Window) -> Self {
        let (operations, series) = (HashMap::new(), HashMap::new());
        Self { state, question, window, operations, series, resolution: None, cut_points: None }
    }

    fn wanted(&mut self, id: OperationId) -> Option<(Arc<str>, OperationEntry)> {
        if let Some(known) = self.operations.get(&id) {
            return known.clone();
        }
        let entry = self.state.names.operation(id);
        let service = self.state.names.service(entry.service);
        let question = self.question;
        let fits = question.service.as_deref().is_none_or(|wanted| wanted == &*service)
            && question.operation.as_deref().is_none_or(|wanted| wanted == &*entry.name)
            && question.kind.is_none_or(|wanted| wanted == entry.kind);
        let known = fits.then_some((service, entry));
        self.operations.insert(id, known.clone());
        known
    }

    fn add(
        &mut self,
        at: UnixNanos,
        id: OperationId,
        status: StatusCode,
        histogram: &LatencyHistogram,
        exemplars: &ExemplarSet,
    ) {
        let Some((service, entry)) = self.wanted(id) else { return };
        let by = self.question.group_by;
        let labels = (
            by.service.then_some(service),
            by.operation.then_some(entry.name),
            by.kind.then_some(entry.kind),
            by.status.then_some(status),
        );
        let series = self.series.entry(labels).or_default();
        series.histogram.merge(histogram);
        series.exemplars.merge(exemplars);
        if let Some(step) = self.question.step {
            let offset = at.since(self.window.start).0 / step.0.max(1) * step.0;
            series.points.entry(self.window.start.0 + offset).or_default().merge(histogram);
        }
    }

    fn in_window(&self, minute: u32) -> bool {
        self.window.contains(Tier::Minute.start(minute))
    }

    fn rolled(&mut self, view: &View) -> Result<(), QueryError> {
        let (state, question, window) = (self.state, self.question, self.window);
        let parts = in_parts(&view.rollups, 1, |part| {
            let mut run = Run::new(state, question, window);
            part.iter().try_for_each(|rollup| run.rollup(rollup)).map(|()| run)
        });
        for part in parts {
            let part = part?;
            self.resolution = self.resolution.max(part.resolution);
            self.cut_points = self.cut_points.max(part.cut_points);
            self.merge(part.series);
        }
        Ok(())
    }

    fn merge(&mut self, series: HashMap<Labels, Series>) {
        for (labels, series) in series {
            self.series.entry(labels).or_default().merge(series);
        }
    }

    fn rollup(&mut self, rollup: &Rollup) -> Result<(), QueryError> {
        let (tier, question, window) = (rollup.tier, self.question, self.window);
        let wanted: Vec<bool> = rollup.operations().iter().map(|&id| self.wanted(id).is_some()).collect();
        if !wanted.contains(&true) {
            return Ok(());
        }
        let in_window = |bucket| window.contains(tier.start(bucket));
        let fits = |bucket, local: u32, status| {
            let operation = wanted.get(local as usize).copied().unwrap_or(false);
            operation && in_window(bucket) && status_wanted(question, status)
        };
        let services = rollup.services_of(&wanted, &self.state.names);
        for block in rollup.blocks_with(Kind::Histograms, in_window) {
            if let Part::Service(service) = block.part
                && !services.contains(&service)
            {
                continue;
            }
            let _turn = self.state.scans.turn();
            let read = rolled_histograms(&rollup.handle, block, &fits, &mut |row| {
                let (id, at) = (rollup.operation(row.operation), tier.start(row.bucket));
                self.resolution = self.resolution.max(Some(tier));
                if self.is_cut(at, tier) {
                    self.cut_points = self.cut_points.max(Some(tier));
                }
                self.add(at, id, row.status, &row.histogram, &row.exemplars);
            });
            self.state.readable_of_rollup(rollup, read)?;
        }
        Ok(())
    }

    /// Whether a bucket lies in more than one point.
    fn is_cut(&self, at: UnixNanos, tier: Tier) -> bool {
        let Some(step) = self.question.step else { return false };
        let from = at.since(self.window.start).0 % step.0.max(1);
        from.saturating_add(tier.width()) > step.0
    }

    fn sealed(&mut self, view: &View) -> Result<(), QueryError> {
        let in_window =
            |segment: &&Arc<SealedSegment>| segment.meta.minutes.iter().any(|minute| self.in_window(*minute));
        let segments: Vec<_> = view.sealed.iter().filter(in_window).collect();
        let (state, question, window) = (self.state, self.question, self.window);
        let parts = in_parts(&segments, SEGMENTS_WORTH, |part| {
            let mut run = Run::new(state, question, window);
            part.iter().try_for_each(|segment| run.segment(segment)).map(|()| run.series)
        });
        for part in parts {
            self.merge(part?);
        }
        Ok(())
    }

    fn segment(&mut self, segment: &SealedSegment) -> Result<(), QueryError> {
        let _turn = self.state.scans.turn();
        let detail = self.state.blocks.detail_of_many(segment, &self.state.names);
        let Some(detail) = self.state.readable(segment, detail)? else { return Ok(()) };
        let wanted: Vec<bool> = detail.operations.iter().map(|id| self.wanted(*id).is_some()).collect();
        if !wanted.contains(&true) {
            return Ok(());
        }
        for &minute in &segment.meta.minutes {
            if !self.in_window(minute) {
                continue;
            }
            let fits = |local: u32, status| {
                wanted.get(local as usize).copied().unwrap_or(false) && status_wanted(self.question, status)
            };
            let rows = decode_minute(&segment.handle, minute, &fits);
            for row in self.state.readable(segment, rows)?.into_iter().flatten() {
                let id = detail.operation(row.operation);
                self.add(Tier::Minute.start(minute), id, row.status, &row.histogram, &row.exemplars);
            }
        }
        Ok(())
    }

    fn live(&mut self, view: &View) {
        let mut table = HistogramTable::default();
        for row in view.live.iter().flat_map(|batch| &batch.rows) {
            if self.in_window(row.node.end.minute()) && status_wanted(self.question, row.node.status) {
                table.record(row);
            }
        }
        for (minute, id, status, histogram, exemplars) in table.iter() {
            self.add(Tier::Minute.start(minute), id, status, histogram, exemplars);
        }
    }
}

fn status_wanted(question: &LatencyQuery, status: StatusCode) -> bool {
    question.status.is_none_or(|wanted| wanted == status)
}

fn values(histogram: &LatencyHistogram, quantiles: &[f64]) -> Vec<NanoDuration> {
    quantiles.iter().map(|&q| histogram.quantile(q).unwrap_or_default()).collect()
}

fn finish(labels: Labels, series: Series, question: &LatencyQuery) -> LatencySeries {
    let (service, operation, kind, status) = labels;
    let values_of_all = values(&series.histogram, &question.quantiles);
    let exemplars = question
        .quantiles
        .iter()
        .zip(&values_of_all)
        .filter_map(|(&q, &value)| Some((q, *series.exemplars.nearest_above(value)?)))
        .collect();
    let points = series
        .points
        .into_iter()
        .map(|(start, histogram)| LatencyPoint {
            start: UnixNanos(start),
            count: histogram.count(),
            errors: histogram.errors(),
            values: values(&histogram, &question.quantiles),
        })
        .collect();
    LatencySeries {
        service,
        operation,
        kind,
        status,
        low_confidence: question.quantiles.iter().map(|&q| series.histogram.low_confidence(q)).collect(),
        values: values_of_all,
        exemplars,
        points,
        histogram: series.histogram,
    }
}
