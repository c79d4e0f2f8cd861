//! Latency percentiles: stored and live histograms, merged. Percentiles are never averaged.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use latency::{ExemplarSet, LatencyHistogram};
use segment::{HistogramTable, Names, OperationEntry, Part, Tier, decode_minute, rolled_histograms};
use span_store::in_parts;
use trace_model::{NanoDuration, OperationId, StatusCode, UnixNanos};

use crate::answer::*;
use crate::damage::Reader;
use crate::engine::QueryError;
use crate::latency_series::{Labels, Series, SeriesMap};
use crate::request::*;
use crate::rollups::{Kind, Rollup, coarse_points, widen};
use crate::sealed::SealedSegment;
use crate::sums_room::{Portion, Share};
use crate::view::View;

/// What a question about all services takes before anything is known of it, bytes.
const BEGIN_BYTES: usize = 4 << 20;

/// What was found in one go.
struct Found {
    window: Window,
    resolution: Option<Tier>,
    /// Most spans first.
    series: Vec<(Labels, Series)>,
    /// Whether there is no point for they did not fit.
    points_dropped: bool,
    incomplete: Vec<Incomplete>,
}

pub(crate) fn answer(state: &Reader<'_>, question: &LatencyQuery) -> Result<LatencyAnswer, QueryError> {
    // Until the answer is made of it.
    let share = state.sums.share();
    let most = state.sums.point_bytes_max();
    let (found, truncated) = first_series(question, most, |only| {
        share.reset();
        find(state, &share, question, only)
    })?;
    Ok(LatencyAnswer {
        window: found.window,
        resolution: found.resolution.map(|tier| NanoDuration(tier.width())),
        series: found.series.into_iter().map(|(labels, series)| finish(labels, series, question)).collect(),
        truncated,
        incomplete: found.incomplete,
    })
}

/// The series that are answered, and whether there are more. Points of all that there are may be too many even if those
/// of the few that are answered are not: these are found once more by themselves then.
fn first_series(
    question: &LatencyQuery,
    point_bytes_max: usize,
    find: impl Fn(Option<&HashSet<Labels>>) -> Result<Found, QueryError>,
) -> Result<(Found, bool), QueryError> {
    let mut found = find(None)?;
    let truncated = found.series.len() > question.limit;
    found.series.truncate(question.limit);
    if found.points_dropped && truncated {
        let only = found.series.into_iter().map(|(labels, _)| labels).collect();
        found = find(Some(&only))?;
    }
    if found.points_dropped {
        let (series, step) = (found.series.len(), question.step.unwrap_or_default());
        return Err(QueryError::TooManyPoints { series, step, most: point_bytes_max });
    }
    Ok((found, truncated))
}

fn find(
    state: &Reader<'_>,
    share: &Share<'_>,
    question: &LatencyQuery,
    only: Option<&HashSet<Labels>>,
) -> Result<Found, QueryError> {
    let mut first = share.portion();
    // Whoever must wait does so before it holds on to what is live; of one service that is little.
    first.set(if question.service.is_none() { BEGIN_BYTES } else { 0 });
    let turn = state.scans.turn();
    let mut view = state.snapshot();
    let (window, mut incomplete) = widen(&view, whole_minutes(question.window), Kind::Histograms);
    let mut run = Run::new(state, share, question, only, window);
    run.live(&view);
    view.let_go_of_live();
    drop(turn);
    first.set(0);
    run.portion.set(run.series.memory_bytes());
    run.rolled(&view)?;
    run.sealed(&view)?;
    incomplete.extend(run.cut_points.map(|tier| coarse_points(NanoDuration(tier.width()))));
    let (series, points_dropped) = run.series.into_sorted();
    Ok(Found { window, resolution: run.resolution, series, points_dropped, incomplete })
}

fn whole_minutes(window: Window) -> Window {
    let minute = UnixNanos::PER_MINUTE;
    let start = window.start.0 / minute * minute;
    let end = window.end.0.div_ceil(minute).saturating_mul(minute);
    Window { start: UnixNanos(start), end: UnixNanos(end) }
}

struct Run<'a> {
    state: &'a Reader<'a>,
    question: &'a LatencyQuery,
    /// The only series that are of interest, if some were chosen.
    only: Option<&'a HashSet<Labels>>,
    window: Window,
    /// What an operation is called, `None` for those not asked for.
    operations: HashMap<OperationId, Option<(Arc<str>, OperationEntry)>>,
    series: SeriesMap<'a>,
    share: &'a Share<'a>,
    portion: Portion<'a>,
    /// The widest rollup that was read.
    resolution: Option<Tier>,
    /// The widest rollup of which a bucket did not lie in one point.
    cut_points: Option<Tier>,
}

impl<'a> Run<'a> {
    fn new(
        state: &'a Reader<'a>,
        share: &'a Share<'a>,
        question: &'a LatencyQuery,
        only: Option<&'a HashSet<Labels>>,
        window: Window,
    ) -> Self {
        Self {
            state,
            question,
            only,
            window,
            operations: HashMap::new(),
            series: SeriesMap::new(only, state.sums.point_bytes_max()),
            share,
            portion: share.portion(),
            resolution: None,
            cut_points: None,
        }
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
        let point = self.question.step.map(|step| {
            let offset = at.since(self.window.start).0 / step.0.max(1) * step.0;
            self.window.start.0 + offset
        });
        self.series.add(labels, point, histogram, exemplars);
    }

    fn in_window(&self, minute: u32) -> bool {
        self.window.contains(Tier::Minute.start(minute))
    }

    fn rolled(&mut self, view: &View) -> Result<(), QueryError> {
        let (state, share, question) = (self.state, self.share, self.question);
        let (only, window) = (self.only, self.window);
        let parts = in_parts(&view.rollups, 1, |part| {
            let mut run = Run::new(state, share, question, only, window);
            part.iter().try_for_each(|rollup| run.rollup(rollup)).map(|()| run)
        });
        for part in parts {
            let part = part?;
            self.resolution = self.resolution.max(part.resolution);
            self.cut_points = self.cut_points.max(part.cut_points);
            self.series.merge(part.series);
        }
        Ok(())
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
            self.portion.set(self.series.memory_bytes());
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
        let (state, share, question) = (self.state, self.share, self.question);
        let (only, window) = (self.only, self.window);
        let parts = in_parts(&segments, state.segments_worth(), |part| {
            let mut run = Run::new(state, share, question, only, window);
            part.iter().try_for_each(|segment| run.segment(segment)).map(|()| run.series)
        });
        for part in parts {
            self.series.merge(part?);
        }
        Ok(())
    }

    fn segment(&mut self, segment: &SealedSegment) -> Result<(), QueryError> {
        let detail = {
            let _turn = self.state.scans.turn();
            self.state.blocks.detail_of_many(segment, &self.state.names)
        };
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
            // Before a turn is taken: whoever waits for room must not keep others from ending.
            self.portion.set(self.series.memory_bytes());
            let _turn = self.state.scans.turn();
            let rows = decode_minute(&segment.handle, minute, &fits);
            for row in self.state.readable(segment, rows)?.into_iter().flatten() {
                let id = detail.operation(row.operation);
                self.add(Tier::Minute.start(minute), id, row.status, &row.histogram, &row.exemplars);
            }
        }
        Ok(())
    }

    /// Adds what is live. It stays in memory for as long as this takes, so there is no waiting in it.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn question(limit: usize) -> LatencyQuery {
        LatencyQuery {
            service: None,
            operation: None,
            kind: None,
            status: None,
            window: Window::ALL,
            step: Some(NanoDuration::from_secs(60)),
            quantiles: vec![0.5],
            group_by: GroupBy::default(),
            limit,
        }
    }

    /// Series of which the points of no more than `fitting` fit.
    fn found(series: usize, fitting: usize, only: Option<&HashSet<Labels>>) -> Found {
        let all =
            (0..series).map(|n| ((Some(format!("service {n}").into()), None, None, None), Series::default()));
        let series: Vec<_> =
            all.filter(|(labels, _)| only.is_none_or(|only| only.contains(labels))).collect();
        let points_dropped = series.len() > fitting;
        Found { window: Window::ALL, resolution: None, series, points_dropped, incomplete: Vec::new() }
    }

    fn answered(series: usize, fitting: usize, limit: usize) -> Result<(usize, bool), String> {
        let found = first_series(&question(limit), 128 << 20, |only| Ok(found(series, fitting, only)));
        found.map(|(found, truncated)| (found.series.len(), truncated)).map_err(|error| error.to_string())
    }

    #[test]
    fn points_need_fit_for_the_series_that_are_answered_only() {
        assert_eq!(answered(5, 5, 10), Ok((5, false)));
        assert_eq!(answered(50, 50, 10), Ok((10, true)));
        assert_eq!(answered(50, 10, 10), Ok((10, true)));
        for (series, fitting, limit) in [(50, 9, 10), (10, 9, 10)] {
            let error = answered(series, fitting, limit).unwrap_err();
            assert_eq!(
                error,
                "the points of 10 series, one every 1m00s, take more than 128 MiB of histograms; make step \
                 wider, limit smaller or the window shorter"
            );
        }
    }
}
