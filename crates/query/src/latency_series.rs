//! The series of one question for percentiles. Their points take bounded memory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet, hash_map};
use latency::{ExemplarSet, LatencyHistogram};
use trace_model::{SpanKind, StatusCode};

/// What a series takes besides its counts, bytes: its labels, its exemplars, its place in the map.
const SERIES_BYTES: usize = 1 << 10;

/// What tells a series from others: service, operation, kind and status, as far as they are asked for.
pub(crate) type Labels = (Option<Arc<str>>, Option<Arc<str>>, Option<SpanKind>, Option<StatusCode>);

/// What is known of a series.
#[derive(Debug, Default)]
pub(crate) struct Series {
    pub(crate) histogram: LatencyHistogram,
    pub(crate) exemplars: ExemplarSet,
    /// By their start.
    pub(crate) points: BTreeMap<u64, LatencyHistogram>,
}

/// Series by their labels. Points are kept while all of them fit; once they do not, none is, and the rest stays exact.
#[derive(Debug)]
pub(crate) struct SeriesMap<'a> {
    by_labels: HashMap<Labels, Series>,
    /// The only ones that are kept, if some were chosen.
    only: Option<&'a HashSet<Labels>>,
    /// Bytes of the series without their points.
    series_bytes: usize,
    point_bytes: usize,
    point_bytes_max: usize,
    points_dropped: bool,
}

impl<'a> SeriesMap<'a> {
    /// Keeps `only` these, or all, and points of so many bytes.
    pub(crate) fn new(only: Option<&'a HashSet<Labels>>, point_bytes_max: usize) -> Self {
        Self {
            by_labels: HashMap::new(),
            only,
            series_bytes: 0,
            point_bytes: 0,
            point_bytes_max,
            points_dropped: false,
        }
    }

    /// Adds to a series, and to the point of it that starts at `point`.
    pub(crate) fn add(
        &mut self,
        labels: Labels,
        point: Option<u64>,
        histogram: &LatencyHistogram,
        exemplars: &ExemplarSet,
    ) {
        if self.only.is_some_and(|only| !only.contains(&labels)) {
            return;
        }
        let series = match self.by_labels.entry(labels) {
            hash_map::Entry::Occupied(entry) => entry.into_mut(),
            hash_map::Entry::Vacant(entry) => {
                self.series_bytes += SERIES_BYTES;
                entry.insert(Series::default())
            }
        };
        self.series_bytes += grown_by(&mut series.histogram, histogram);
        series.exemplars.merge(exemplars);
        if let Some(start) = point.filter(|_| !self.points_dropped) {
            self.point_bytes += add_point(&mut series.points, start, Cow::Borrowed(histogram));
            self.bound_points();
        }
    }

    /// About the bytes that it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.series_bytes + self.point_bytes
    }

    /// Adds all of another.
    pub(crate) fn merge(&mut self, other: Self) {
        if other.points_dropped {
            self.drop_points();
        }
        for (labels, more) in other.by_labels {
            let series = self.by_labels.entry(labels).or_default();
            series.histogram.merge(&more.histogram);
            series.exemplars.merge(&more.exemplars);
            if !self.points_dropped {
                let points = more.points.into_iter();
                self.point_bytes += points
                    .map(|(start, point)| add_point(&mut series.points, start, Cow::Owned(point)))
                    .sum::<usize>();
                self.bound_points();
            }
        }
    }

    fn bound_points(&mut self) {
        if self.point_bytes > self.point_bytes_max {
            self.drop_points();
        }
    }

    fn drop_points(&mut self) {
        self.points_dropped = true;
        self.point_bytes = 0;
        self.by_labels.values_mut().for_each(|series| series.points = BTreeMap::new());
    }

    /// The series, most spans first, then by labels; and whether their points did not fit.
    pub(crate) fn into_sorted(self) -> (Vec<(Labels, Series)>, bool) {
        let mut series: Vec<_> = self.by_labels.into_iter().collect();
        series.sort_by(|(a_labels, a), (b_labels, b)| {
            b.histogram.count().cmp(&a.histogram.count()).then_with(|| a_labels.cmp(b_labels))
        });
        (series, self.points_dropped)
    }
}

/// Bytes that a histogram grew by when it took in another.
fn grown_by(histogram: &mut LatencyHistogram, more: &LatencyHistogram) -> usize {
    let before = histogram.memory_bytes();
    histogram.merge(more);
    histogram.memory_bytes().saturating_sub(before)
}

/// Bytes that the points grew by.
fn add_point(
    points: &mut BTreeMap<u64, LatencyHistogram>,
    start: u64,
    histogram: Cow<'_, LatencyHistogram>,
) -> usize {
    match points.entry(start) {
        Entry::Vacant(entry) => entry.insert(histogram.into_owned()).memory_bytes(),
        Entry::Occupied(mut entry) => grown_by(entry.get_mut(), &histogram),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trace_model::NanoDuration;

    fn labels(n: u64) -> Labels {
        (Some(format!("service {n}").into()), None, None, None)
    }

    fn histogram(durations: u64) -> LatencyHistogram {
        let mut histogram = LatencyHistogram::new();
        (0..durations).for_each(|n| histogram.record(NanoDuration::from_millis(n + 1), false));
        histogram
    }

    fn add(map: &mut SeriesMap<'_>, series: u64, points: u64) {
        for point in 0..points {
            map.add(labels(series), Some(point), &histogram(series + 1), &ExemplarSet::default());
        }
    }

    fn held(map: &SeriesMap<'_>) -> usize {
        let points = map.by_labels.values().flat_map(|series| series.points.values());
        points.map(LatencyHistogram::memory_bytes).sum()
    }

    #[test]
    fn points_that_do_not_fit_are_dropped_and_sums_stay() {
        let most = 20 * histogram(3).memory_bytes();
        let mut map = SeriesMap::new(None, most);
        add(&mut map, 2, 10);
        assert!(held(&map) > 0 && !map.points_dropped);
        for series in 3..40 {
            add(&mut map, series, 10);
            assert!(held(&map) <= most);
        }
        let (series, dropped) = map.into_sorted();
        assert!(dropped && series.iter().all(|(_, series)| series.points.is_empty()));
        let counts: Vec<u64> = series.iter().map(|(_, series)| series.histogram.count()).collect();
        assert_eq!(counts, (2..40).rev().map(|series| (series + 1) * 10).collect::<Vec<_>>());
    }

    #[test]
    fn points_that_do_not_fit_together_are_dropped_as_well() {
        let most = 15 * histogram(2).memory_bytes();
        let parts = [1, 2].map(|series| {
            let mut part = SeriesMap::new(None, most);
            add(&mut part, series, 10);
            assert!(!part.points_dropped);
            part
        });
        let mut all = SeriesMap::new(None, most);
        parts.into_iter().for_each(|part| all.merge(part));
        assert!(held(&all) <= most);
        let (series, dropped) = all.into_sorted();
        assert_eq!((series.len(), dropped), (2, true));

        let mut dropped = SeriesMap::new(None, 0);
        add(&mut dropped, 1, 1);
        let mut all = SeriesMap::new(None, most);
        all.merge(dropped);
        add(&mut all, 1, 1);
        assert!(all.into_sorted().1, "points of a part are missing");
    }

    #[test]
    fn of_those_chosen_alone_all_points_are_kept() {
        let chosen: HashSet<Labels> = [labels(7)].into_iter().collect();
        let mut map = SeriesMap::new(Some(&chosen), 11 * histogram(8).memory_bytes());
        (0..30).for_each(|series| add(&mut map, series, 10));
        let (series, dropped) = map.into_sorted();
        assert_eq!((series.len(), dropped), (1, false));
        assert_eq!((&series[0].0, series[0].1.points.len()), (&labels(7), 10));
    }
}
