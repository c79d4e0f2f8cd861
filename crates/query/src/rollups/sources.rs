//! What rollups are made of: the segments of a partition, or finer rollups. Bucket by bucket, because those of an hour of
//! full load do not fit into memory together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use segment::{
    HistogramRows, PathGrouping, PathRows, PathSumming, ReadError, RollupSource, Tier, TraceHeads,
    TracePaths, TraceRow, decode_minute, rolled_histograms, rolled_paths,
};
use trace_model::{OperationId, TraceId, UnixNanos};

use crate::reach::Reach;
use crate::rollups::{Kind, Rollup};
use crate::sealed::{Detail, SealedSegment};
use crate::search::{globalize, globalize_share};
use crate::state::State;
use crate::view::View;

/// Traces whose sums are held at one time, unless one minute has more.
const TRACES_HELD: u64 = 50_000;

/// The segments of a partition, by minute.
pub(super) struct PartitionSource<'a> {
    state: &'a State,
    /// Tells which analyses are replaced by later ones.
    view: &'a View,
    segments: &'a [Arc<SealedSegment>],
    /// Traces whose analyses are left out.
    left_out: HashSet<TraceId>,
    /// What cannot be read is left out and reported; not so while the store is being opened again.
    lenient: bool,
    /// Segments with histograms, by minute.
    minutes: BTreeMap<u32, Vec<&'a Arc<SealedSegment>>>,
    /// Traces by minute, or rather more.
    traces: BTreeMap<u32, u64>,
    /// Minutes that were read together with one that was asked for.
    ahead: BTreeMap<u32, PathRows>,
}

const MINUTE: Tier = Tier::Minute;

impl<'a> PartitionSource<'a> {
    pub(super) fn new(
        state: &'a State,
        view: &'a View,
        segments: &'a [Arc<SealedSegment>],
        left_out: HashSet<TraceId>,
        lenient: bool,
    ) -> Result<Self, ReadError> {
        let mut minutes: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for segment in segments {
            segment.meta.minutes.iter().for_each(|minute| minutes.entry(*minute).or_default().push(segment));
        }
        let (traces, ahead) = (BTreeMap::new(), BTreeMap::new());
        let mut source = Self { state, view, segments, left_out, lenient, minutes, traces, ahead };
        let mut traces: BTreeMap<u32, u64> = BTreeMap::new();
        for segment in segments {
            let Some(detail) = source.detail(segment)? else { continue };
            for (number, block) in detail.meta.trace_blocks.iter().enumerate() {
                let near = [block.start_min, block.start_max].map(|start| MINUTE.bucket(UnixNanos(start)));
                if near[1].saturating_sub(near[0]) <= 1 {
                    // At full load all blocks are like that, and need not be read for it.
                    (near[0]..=near[1])
                        .for_each(|minute| *traces.entry(minute).or_default() += u64::from(block.rows));
                    continue;
                }
                let heads = TraceHeads::read_without_services(&segment.handle, number as u32);
                let Some(heads) = source.kept(segment, heads)? else { continue };
                for row in &heads.rows {
                    let counts = source.counts(row, segment)?;
                    *traces.entry(MINUTE.bucket(row.start)).or_default() += u64::from(counts);
                }
            }
        }
        source.traces = traces;
        Ok(source)
    }

    pub(super) fn histogram_buckets(&self) -> BTreeSet<u32> {
        self.minutes.keys().copied().collect()
    }

    pub(super) fn path_buckets(&self) -> BTreeSet<u32> {
        self.traces.keys().copied().collect()
    }

    fn detail(&self, segment: &SealedSegment) -> Result<Option<Arc<Detail>>, ReadError> {
        self.kept(segment, self.state.blocks.detail_of_many(segment, &self.state.names))
    }

    /// Whether this analysis is not replaced; one of which that cannot be told is left out.
    fn counts(&self, row: &TraceRow, segment: &SealedSegment) -> Result<bool, ReadError> {
        let is_replaced = self.kept(segment, self.view.is_replaced(&row.trace_id, segment.id))?;
        Ok(is_replaced == Some(false) && !self.left_out.contains(&row.trace_id))
    }

    fn kept<T>(&self, segment: &SealedSegment, read: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(error) if self.lenient && !error.is_passing() => {
                // Without its partition, because this stays true when that is gone.
                let of = format!("segment {}, left out of its rollup", segment.id.0);
                self.state.note_damage(of, Reach::of_sums_over(segment), &error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The minutes from `first` on that are few enough to be read together.
    fn batch(&self, first: u32) -> std::ops::RangeInclusive<u32> {
        let (mut last, mut sum) = (first, 0);
        for (&minute, &traces) in self.traces.range(first..) {
            sum += traces;
            if minute > first && sum > TRACES_HELD {
                break;
            }
            last = minute;
        }
        first..=last
    }

    fn read_paths(&mut self, minutes: &std::ops::RangeInclusive<u32>) -> Result<(), ReadError> {
        let from = MINUTE.start(*minutes.start());
        let upto = MINUTE.start(minutes.end().saturating_add(1));
        let mut found: HashMap<(u32, Option<OperationId>), PathSumming> = HashMap::new();
        for segment in self.segments {
            let Some(detail) = self.detail(segment)? else { continue };
            for (number, meta) in detail.meta.trace_blocks.iter().enumerate() {
                if meta.start_min >= upto.0 || meta.start_max < from.0 {
                    continue;
                }
                let heads =
                    self.kept(segment, TraceHeads::read_without_services(&segment.handle, number as u32))?;
                let paths = self.kept(segment, TracePaths::read(&segment.handle, number as u32))?;
                let (Some(heads), Some(mut paths)) = (heads, paths) else { continue };
                for (at, mut row) in heads.rows.into_iter().enumerate() {
                    let minute = MINUTE.bucket(row.start);
                    if !minutes.contains(&minute) || !self.counts(&row, segment)? {
                        continue;
                    }
                    globalize(&mut row, segment, &detail);
                    let shares = paths.of(at);
                    shares.iter_mut().for_each(|share| globalize_share(share, segment, &detail));
                    let summing = found.entry((minute, row.root));
                    summing.or_insert_with(|| PathSumming::new(PathGrouping::Both)).add(&row, shares);
                }
            }
        }
        self.ahead.clear();
        for ((minute, root), summing) in found {
            self.ahead.entry(minute).or_default().insert(root, summing.finish());
        }
        Ok(())
    }
}

impl RollupSource for PartitionSource<'_> {
    fn histograms(&mut self, minute: u32) -> Result<HistogramRows, ReadError> {
        let mut rows = HistogramRows::new();
        for segment in self.minutes.get(&minute).into_iter().flatten() {
            let Some(detail) = self.detail(segment)? else { continue };
            let read = decode_minute(&segment.handle, minute, &|_, _| true);
            for row in self.kept(segment, read)?.into_iter().flatten() {
                let key = (detail.operation(row.operation), row.status);
                let (histogram, exemplars) = rows.entry(key).or_default();
                histogram.merge(&row.histogram);
                exemplars.merge(&row.exemplars);
            }
        }
        Ok(rows)
    }

    fn paths(&mut self, minute: u32) -> Result<PathRows, ReadError> {
        if !self.ahead.contains_key(&minute) {
            let batch = self.batch(minute);
            self.read_paths(&batch)?;
        }
        Ok(self.ahead.remove(&minute).unwrap_or_default())
    }
}

/// Rollups of any width, for one that is at least as coarse. What is damaged of them is left out and reported: it stays so,
/// and must not keep the rest from ever becoming coarser.
pub(super) struct RollupsSource<'a> {
    pub(super) state: &'a State,
    pub(super) tier: Tier,
    pub(super) rollups: &'a [Arc<Rollup>],
}

impl RollupsSource<'_> {
    pub(super) fn buckets(&self, kind: Kind) -> BTreeSet<u32> {
        let of = |rollup: &Arc<Rollup>| {
            let coarse = |&bucket: &u32| self.coarse(rollup, bucket);
            kind.buckets(rollup).iter().map(coarse).collect::<Vec<_>>()
        };
        self.rollups.iter().flat_map(of).collect()
    }

    fn coarse(&self, rollup: &Rollup, bucket: u32) -> u32 {
        self.tier.bucket(rollup.tier.start(bucket))
    }

    fn kept(&self, rollup: &Rollup, read: Result<(), ReadError>) -> Result<(), ReadError> {
        match read {
            Err(error) if error.is_damage() => {
                // Not as the rollup alone, because this stays true when that is gone.
                let of = format!("rollup {}, left out of a coarser one", rollup.handle.number());
                self.state.note_damage(of, Reach::of_rollup(rollup), &error);
                Ok(())
            }
            other => other,
        }
    }
}

impl RollupSource for RollupsSource<'_> {
    fn histograms(&mut self, bucket: u32) -> Result<HistogramRows, ReadError> {
        let mut rows = HistogramRows::new();
        for rollup in self.rollups {
            let fits = |finer| self.coarse(rollup, finer) == bucket;
            for block in rollup.blocks_with(Kind::Histograms, fits) {
                let read = rolled_histograms(&rollup.handle, block, &|finer, _, _| fits(finer), &mut |row| {
                    let key = (rollup.operation(row.operation), row.status);
                    let (histogram, exemplars) = rows.entry(key).or_default();
                    histogram.merge(&row.histogram);
                    exemplars.merge(&row.exemplars);
                });
                self.kept(rollup, read)?;
            }
        }
        Ok(rows)
    }

    fn paths(&mut self, bucket: u32) -> Result<PathRows, ReadError> {
        let mut rows = PathRows::new();
        for rollup in self.rollups {
            let fits = |finer| self.coarse(rollup, finer) == bucket;
            for block in rollup.blocks_with(Kind::Paths, fits) {
                let by = PathGrouping::Both;
                let read = rolled_paths(&rollup.handle, block, by, &|finer, _| fits(finer), &mut |row| {
                    let root = row.root.map(|root| rollup.operation(root));
                    rows.entry(root).or_default().merge(row.sums, |key| rollup.globalize(key));
                });
                self.kept(rollup, read)?;
            }
        }
        Ok(rows)
    }
}

/// When what these rollups are made of arrived.
pub(super) fn arrival(rollups: &[Arc<Rollup>]) -> (UnixNanos, UnixNanos) {
    let begin = rollups.iter().map(|rollup| rollup.meta.begin).min().unwrap_or_default();
    let end = rollups.iter().map(|rollup| rollup.meta.end).max().unwrap_or_default();
    (UnixNanos(begin), UnixNanos(end))
}
