//! Where it matters that something is damaged, as far as that is known, and which questions look there.
//!
//! What a question meets on its way is told in its answer in any case. This is for what it does not meet, and what may be
//! wrong all the same: spans that came again and were counted again, for they could not be compared with those that
//! are damaged, and analyses of traces that were made without their damaged spans.

use segment::Tier;

use crate::request::Window;
use crate::rollups::Rollup;
use crate::sealed::SealedSegment;

/// From the first to the last moment, both inclusive, unix nanoseconds; nothing if the first is after the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Extent {
    pub(crate) const ALL: Self = Self { first: 0, last: u64::MAX };
    const NONE: Self = Self { first: u64::MAX, last: 0 };

    /// All of these buckets.
    fn of_buckets(tier: Tier, buckets: &[u32]) -> Self {
        let (Some(&first), Some(&last)) = (buckets.iter().min(), buckets.iter().max()) else {
            return Self::NONE;
        };
        let last = tier.start(last).0.saturating_add(tier.width() - 1);
        Self { first: tier.start(first).0, last }
    }

    fn overlaps(self, window: Window) -> bool {
        self.first <= self.last && self.first < window.end.0 && self.last >= window.start.0
    }
}

/// Where it matters that something is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Nobody knows: everywhere.
    Unknown,
    /// In a segment that is there but for blocks of it.
    Segment {
        /// When its spans started.
        starts: Extent,
        /// When its spans ended, by whole minutes.
        ends: Extent,
        /// The last moment of its spans, and of the traces that it has analyses of.
        last: u64,
        /// Whether traces were analysed since without spans of theirs in it: these may seem to start at any time.
        analysed_without: bool,
    },
    /// In sums over what is not kept any more.
    Sums {
        /// When spans ended.
        ends: Extent,
        /// When traces started.
        traces: Extent,
    },
}

/// What an answer is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked {
    /// One trace, whose spans are all read.
    Trace,
    /// Spans that started in a window, and the traces of these, whose spans are all read.
    Spans(Window),
    /// Sums of spans that ended in a window.
    Durations(Window),
    /// Analyses of traces that started in a window.
    Traces(Window),
    /// Sums of critical paths of traces that started in a window.
    Paths(Window),
}

impl Reach {
    /// Of a segment of which a block is damaged.
    pub(crate) fn of_segment(segment: &SealedSegment) -> Self {
        let meta = &segment.meta;
        let starts = match meta.spans {
            0 => Extent::NONE,
            _ => Extent { first: meta.start_min, last: meta.start_max },
        };
        let ends = Extent::of_buckets(Tier::Minute, &meta.minutes);
        let traces = segment.traces.start_max.saturating_add(segment.traces.longest);
        let last = starts.last.max(ends.last).max(traces);
        Self::Segment { starts, ends, last, analysed_without: false }
    }

    /// Of a segment of which something was left out of the rollup that took its place.
    pub(crate) fn of_sums_over(segment: &SealedSegment) -> Self {
        let traces = match segment.traces.rows {
            0 => Extent::NONE,
            _ => Extent { first: segment.traces.start_min, last: segment.traces.start_max },
        };
        Self::Sums { ends: Extent::of_buckets(Tier::Minute, &segment.meta.minutes), traces }
    }

    /// Of a rollup of which a block is damaged.
    pub(crate) fn of_rollup(rollup: &Rollup) -> Self {
        let of = |buckets| Extent::of_buckets(rollup.tier, buckets);
        Self::Sums { ends: of(&rollup.meta.histogram_buckets), traces: of(&rollup.meta.path_buckets) }
    }

    /// Whether an answer may lack something of it, or have something wrong, that the question did not meet on its way.
    pub(crate) fn concerns(&self, asked: Asked) -> bool {
        match (*self, asked) {
            (Self::Unknown, _) => true,
            (Self::Segment { starts, .. }, Asked::Spans(window)) => starts.overlaps(window),
            (Self::Segment { ends, .. } | Self::Sums { ends, .. }, Asked::Durations(window)) => {
                ends.overlaps(window)
            }
            // A trace that starts in the window may lack later spans, however late.
            (Self::Segment { last, analysed_without, .. }, Asked::Traces(window) | Asked::Paths(window)) => {
                analysed_without || last >= window.start.0
            }
            (Self::Sums { traces, .. }, Asked::Paths(window)) => traces.overlaps(window),
            // Whoever reads spans does not read sums.
            (Self::Segment { .. }, Asked::Trace)
            | (Self::Sums { .. }, Asked::Trace | Asked::Spans(_) | Asked::Traces(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use trace_model::UnixNanos;

    use super::*;

    const MINUTE: u64 = UnixNanos::PER_MINUTE;

    fn window(start: u64, end: u64) -> Window {
        Window { start: UnixNanos(start), end: UnixNanos(end) }
    }

    /// Whether questions about spans, durations, traces and paths of a window are concerned.
    fn concerned(reach: Reach, window: Window) -> [bool; 4] {
        [Asked::Spans(window), Asked::Durations(window), Asked::Traces(window), Asked::Paths(window)]
            .map(|asked| reach.concerns(asked))
    }

    #[test]
    fn buckets_reach_to_the_end_of_the_last() {
        let extent = Extent::of_buckets(Tier::Minute, &[7, 5]);
        assert_eq!(extent, Extent { first: 5 * MINUTE, last: 8 * MINUTE - 1 });
        assert!(
            extent.overlaps(window(8 * MINUTE - 1, u64::MAX)) && extent.overlaps(window(0, 5 * MINUTE + 1))
        );
        assert!(!extent.overlaps(window(8 * MINUTE, u64::MAX)) && !extent.overlaps(window(0, 5 * MINUTE)));
        assert!(!Extent::of_buckets(Tier::Day, &[]).overlaps(Window::ALL));
        assert_eq!(Extent::of_buckets(Tier::Day, &[u32::MAX]).last, u64::MAX);
    }

    #[test]
    fn a_segment_concerns_questions_about_its_time_and_traces_from_before_it() {
        let (starts, ends) = (Extent { first: 100, last: 200 }, Extent { first: 300, last: 400 });
        let reach = Reach::Segment { starts, ends, last: 500, analysed_without: false };
        assert_eq!(concerned(reach, window(0, 100)), [false, false, true, true]);
        assert_eq!(concerned(reach, window(200, 201)), [true, false, true, true]);
        assert_eq!(concerned(reach, window(400, 401)), [false, true, true, true]);
        assert_eq!(concerned(reach, window(500, 501)), [false, false, true, true]);
        assert_eq!(concerned(reach, window(501, u64::MAX)), [false; 4]);
        assert!(!reach.concerns(Asked::Trace));
        let reach = Reach::Segment { starts, ends, last: 500, analysed_without: true };
        assert_eq!(concerned(reach, window(501, u64::MAX)), [false, false, true, true]);
    }

    #[test]
    fn sums_concern_sums_of_their_time_alone() {
        let reach =
            Reach::Sums { ends: Extent { first: 100, last: 200 }, traces: Extent { first: 50, last: 90 } };
        assert_eq!(concerned(reach, window(0, 100)), [false, false, false, true]);
        assert_eq!(concerned(reach, window(91, 300)), [false, true, false, false]);
        assert!(!reach.concerns(Asked::Trace));
    }

    #[test]
    fn what_is_not_known_concerns_everything() {
        assert_eq!(concerned(Reach::Unknown, window(7, 7)), [true; 4]);
        assert!(Reach::Unknown.concerns(Asked::Trace));
    }
}
