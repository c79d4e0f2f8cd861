//! Rollups grow coarser with age: minutes become hours, hours days, and days go.

use std::sync::Arc;

use segment::{BuildError, RollupInput, RollupMeta, Tier, build_rollup};
use span_store::{SpanStore, StoreError};
use trace_model::{NanoDuration, UnixNanos};

use crate::rollups::sources::{RollupsSource, arrival};
use crate::rollups::{Kind, Rollup};
use crate::state::State;

const DAY: u64 = 24 * 60 * UnixNanos::PER_MINUTE;

/// How long rollups are kept.
#[derive(Debug, Clone, Copy)]
pub struct RollupOptions {
    /// Age at which minutes become hours. Default 30 days.
    pub minute: NanoDuration,
    /// Age at which hours become days. Default 400 days.
    pub hour: NanoDuration,
    /// Age at which days go. Default 5 years.
    pub day: NanoDuration,
    /// Bytes of all rollups above which the oldest of the finest become coarser before their time. Default 5 GiB.
    pub bytes_max: u64,
}

impl Default for RollupOptions {
    fn default() -> Self {
        Self {
            minute: NanoDuration(30 * DAY),
            hour: NanoDuration(400 * DAY),
            day: NanoDuration(5 * 365 * DAY),
            bytes_max: 5 << 30,
        }
    }
}

impl RollupOptions {
    fn age(&self, tier: Tier) -> NanoDuration {
        match tier {
            Tier::Minute => self.minute,
            Tier::Hour => self.hour,
            Tier::Day => self.day,
        }
    }
}

/// What becomes one rollup of the next width: minutes of a day's arrivals, hours of 32 days'. Days are by
/// themselves.
fn epoch(tier: Tier, begin: u64) -> u64 {
    match tier {
        Tier::Minute => begin / DAY,
        Tier::Hour => begin / (32 * DAY),
        Tier::Day => begin,
    }
}

/// The first instant after an epoch.
fn epoch_end(tier: Tier, epoch: u64) -> UnixNanos {
    match tier {
        Tier::Minute => UnixNanos((epoch + 1).saturating_mul(DAY)),
        Tier::Hour => UnixNanos((epoch + 1).saturating_mul(32 * DAY)),
        Tier::Day => UnixNanos(epoch),
    }
}

/// Makes the next rollups coarser that are due at `now`, or lets the oldest go. True if something was done, and then
/// there may be more to do.
///
/// # Errors
/// If a rollup cannot be read or the store fails. Then all is as it was.
pub fn keep_rollups(
    state: &State,
    store: &SpanStore,
    options: &RollupOptions,
    now: UnixNanos,
) -> Result<bool, StoreError> {
    let _keeping = state.keeping.lock();
    let view = state.snapshot_of_stored();
    let present = view.sealed.iter().map(|segment| segment.handle.partition().begin).min();
    let bytes: u64 = view.rollups.iter().map(|rollup| rollup.handle.disk_bytes()).sum();
    for tier in Tier::ALL {
        let of_tier = || view.rollups.iter().filter(move |rollup| rollup.tier == tier);
        let Some(oldest) = of_tier().map(|rollup| epoch(tier, rollup.meta.begin)).min() else { continue };
        let rollups: Vec<Arc<Rollup>> =
            of_tier().filter(|rollup| epoch(tier, rollup.meta.begin) == oldest).cloned().collect();
        let (_, end) = arrival(&rollups);
        let end = end.max(epoch_end(tier, oldest));
        // An epoch is closed when all of its partitions are rollups.
        let closed = present.is_none_or(|begin| begin >= epoch_end(tier, oldest));
        let due = end.saturating_add(options.age(tier)) <= now || bytes > options.bytes_max;
        if closed && due {
            become_coarser(state, store, tier, oldest, rollups, now)?;
            return Ok(true);
        }
    }
    Ok(false)
}

fn become_coarser(
    state: &State,
    store: &SpanStore,
    tier: Tier,
    oldest: u64,
    mut rollups: Vec<Arc<Rollup>>,
    now: UnixNanos,
) -> Result<(), StoreError> {
    let folded = match tier.coarser() {
        None => None,
        Some(coarser) => {
            let view = state.snapshot_of_stored();
            // A clock that went back may have brought more of an epoch that was folded before.
            let earlier = view.rollups.iter().filter(|rollup| rollup.tier == coarser);
            rollups.extend(earlier.filter(|rollup| epoch(tier, rollup.meta.begin) == oldest).cloned());
            Some(Arc::new(fold(state, store, coarser, &rollups)?))
        }
    };
    let gone: Vec<u64> = rollups.iter().map(|rollup| rollup.handle.number()).collect();
    state.exchange_rollups(&gone, folded.as_ref());
    let mut housekeeping = state.housekeeping.lock();
    for rollup in &rollups {
        let freed = &mut housekeeping.rollups[rollup.tier as usize - 1];
        freed.partitions += 1;
        freed.spans += rollup.meta.spans;
        freed.bytes += rollup.handle.disk_bytes();
        freed.last = Some(now);
        store.retire_rollup(&rollup.handle);
    }
    Ok(())
}

/// The numbers of these, and of all that they are made of: somebody may still read from those when it ends.
fn sources(rollups: &[Arc<Rollup>]) -> Vec<u64> {
    let earlier = rollups.iter().flat_map(|rollup| rollup.meta.sources.iter().copied());
    let mut numbers: Vec<u64> = earlier.chain(rollups.iter().map(|rollup| rollup.handle.number())).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// One rollup of all these, stored. From its ingestion on they do not count, whatever happens next.
fn fold(state: &State, store: &SpanStore, tier: Tier, rollups: &[Arc<Rollup>]) -> Result<Rollup, StoreError> {
    let mut source = RollupsSource { state, tier, rollups };
    let (begin, end) = arrival(rollups);
    let input = RollupInput {
        tier,
        begin,
        end,
        segments: Vec::new(),
        sources: sources(rollups),
        histogram_buckets: source.buckets(Kind::Histograms),
        path_buckets: source.buckets(Kind::Paths),
        names: &*state.names,
    };
    let mut meta = RollupMeta::default();
    let handle = store.publish_rollup(&mut |sink| {
        meta = build_rollup(&input, &mut source, sink)?;
        Ok::<(), BuildError>(())
    })?;
    Ok(Rollup::of_meta(handle, tier, meta, &state.names))
}
