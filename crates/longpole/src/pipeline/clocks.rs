//! Clients' clocks held against ours. Nothing that is stored or answered depends on it; it is counted, so that whoever looks
//! for spans where they are not sees why.

use trace_model::{NanoDuration, SpanNode, UnixNanos};

/// How far a client's clock may be ahead: a span cannot be stored from longer before it began than this.
pub(super) const CLOCK_SLACK: NanoDuration = NanoDuration::from_secs(60);

/// Spans whose times do not fit their arrival.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct OffClock {
    /// They start more than [`CLOCK_SLACK`] after they came.
    pub(super) ahead: u64,
    /// They ended more than that before they came.
    pub(super) behind: u64,
}

impl OffClock {
    /// Of spans that came at `arrival`. Those without times are neither.
    pub(super) fn of<'a>(nodes: impl Iterator<Item = &'a SpanNode>, arrival: UnixNanos) -> Self {
        let latest_start = arrival.saturating_add(CLOCK_SLACK);
        let earliest_end = arrival.saturating_sub(CLOCK_SLACK);
        let mut off = Self::default();
        for node in nodes {
            off.ahead += u64::from(node.start > latest_start);
            off.behind += u64::from(node.end < earliest_end && node.end > UnixNanos(0));
        }
        off
    }
}

#[cfg(test)]
mod tests {
    use trace_model::{OperationId, ServiceId, SpanId, SpanKind, StatusCode};

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const NOW: u64 = 1_700_000_000 * SECOND;

    fn off(start: u64, end: u64) -> (u64, u64) {
        let node = SpanNode {
            span_id: SpanId::new([1; 8]).unwrap(),
            parent: None,
            start: UnixNanos(start),
            end: UnixNanos(end),
            content: 1,
            service: ServiceId(1),
            operation: OperationId(1),
            kind: SpanKind::Internal,
            status: StatusCode::Unset,
        };
        let off = OffClock::of([node, node].iter(), UnixNanos(NOW));
        (off.ahead, off.behind)
    }

    #[test]
    fn a_minute_either_way_is_let_pass_and_more_is_counted() {
        let minute = 60 * SECOND;
        assert_eq!(off(NOW - SECOND, NOW), (0, 0));
        assert_eq!(off(NOW + minute, NOW + 2 * minute), (0, 0));
        assert_eq!(off(NOW + minute + 1, NOW + 2 * minute), (2, 0));
        assert_eq!(off(NOW - 2 * minute, NOW - minute), (0, 0));
        assert_eq!(off(NOW - 2 * minute, NOW - minute - 1), (0, 2));
        // A long span that has just ended.
        assert_eq!(off(NOW - 60 * minute, NOW), (0, 0));
        assert_eq!(off(0, 0), (0, 0));
        assert_eq!(off(u64::MAX, u64::MAX), (2, 0));
    }
}
