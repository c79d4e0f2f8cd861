//! Windows over rollups: whole buckets or nothing.

use segment::RollupBlock;
use trace_model::{NanoDuration, UnixNanos};

use crate::answer::Incomplete;
use crate::request::Window;
use crate::rollups::Rollup;
use crate::view::View;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Histograms,
    Paths,
    /// Critical paths whose roots and operations do not matter.
    PathsOfAll,
}

impl Kind {
    pub(crate) fn buckets(self, rollup: &Rollup) -> &[u32] {
        match self {
            Self::Histograms => &rollup.meta.histogram_buckets,
            Self::Paths | Self::PathsOfAll => &rollup.meta.path_buckets,
        }
    }

    pub(crate) fn blocks(self, rollup: &Rollup) -> Vec<RollupBlock> {
        match self {
            Self::Histograms => RollupBlock::of_histograms(rollup.tier, &rollup.meta),
            Self::Paths => RollupBlock::of_paths(rollup.tier, &rollup.meta),
            Self::PathsOfAll => RollupBlock::of_paths_together(rollup.tier, &rollup.meta)
                .unwrap_or_else(|| RollupBlock::of_paths(rollup.tier, &rollup.meta)),
        }
    }
}

/// The least window around the one asked for that cuts no bucket of a rollup, and what to say about it.
pub(crate) fn widen(view: &View, asked: Window, kind: Kind) -> (Window, Vec<Incomplete>) {
    let mut window = asked;
    for rollup in view.rollups.iter() {
        let buckets = kind.buckets(rollup);
        let start_of = |bucket| rollup.tier.start(bucket);
        let cut = |at: UnixNanos| {
            let bucket = rollup.tier.bucket(at);
            (start_of(bucket) != at && buckets.binary_search(&bucket).is_ok()).then_some(bucket)
        };
        if let Some(bucket) = cut(asked.start) {
            window.start = window.start.min(start_of(bucket));
        }
        if let Some(bucket) = cut(asked.end) {
            window.end = window.end.max(start_of(bucket.saturating_add(1)));
        }
    }
    (window, note(asked, window))
}

fn note(asked: Window, window: Window) -> Vec<Incomplete> {
    if window == asked {
        return Vec::new();
    }
    let detail = format!(
        "spans of that time are not kept any more, only sums over whole buckets: answered for {} to {} (unix \
         nanoseconds)",
        window.start.0, window.end.0
    );
    vec![Incomplete { reason: "resolution", detail }]
}

/// What to say of points that are narrower than the buckets they are made of, or cut them.
pub(crate) fn coarse_points(width: NanoDuration) -> Incomplete {
    let minutes = width.0 / UnixNanos::PER_MINUTE;
    let detail = format!("some points hold all of a bucket of {minutes} minutes that begins in them");
    Incomplete { reason: "resolution", detail }
}
