//! What the critical paths of many traces are made of: sums that can be added to and merged in any order.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use latency::{BucketSums, LatencyHistogram};
use trace_model::{NanoDuration, OperationId, ServiceId, TraceId};

use crate::traces::TraceRow;

/// Exemplar traces of an item.
const EXEMPLARS_MAX: usize = 3;

/// To what the time on a critical path is put down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemKey {
    /// The service; for the way between two, the client.
    pub service: ServiceId,
    /// The operation; `None` for the service as a whole.
    pub operation: Option<OperationId>,
    /// Client and server, where the time belongs to the way between them.
    pub edge: Option<(ServiceId, ServiceId)>,
}

/// A trace in which an item cost much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathExemplar {
    /// The trace.
    pub trace_id: TraceId,
    /// Duration of its root.
    pub root_duration: NanoDuration,
    /// The item's time on its critical path.
    pub exclusive: NanoDuration,
}

/// What is known of an item.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ItemSums {
    /// Time on critical paths, nanoseconds. Like the other sums, it stops at the greatest number: only damage gets there.
    pub sum: u128,
    /// That time by trace, of traces that have any.
    pub present: LatencyHistogram,
    /// Spans, on the path or not.
    pub spans: u64,
    /// Of these, with status error.
    pub errors: u64,
    /// Time on critical paths by the duration of the trace's root.
    pub by_root: BucketSums,
    /// The traces in which it cost most, at most three.
    pub exemplars: Vec<PathExemplar>,
}

impl ItemSums {
    /// Adds what a trace has of it to all but `by_root`.
    pub(crate) fn add(&mut self, row: &TraceRow, exclusive: u64, spans: u64, errors: u64) {
        self.sum = self.sum.saturating_add(u128::from(exclusive));
        self.spans = self.spans.saturating_add(spans);
        self.errors = self.errors.saturating_add(errors);
        if exclusive > 0 {
            self.present.record(NanoDuration(exclusive), false);
            self.note(PathExemplar {
                trace_id: row.trace_id,
                root_duration: row.root_duration,
                exclusive: NanoDuration(exclusive),
            });
        }
    }

    /// The bytes of memory it takes, with its key and its place in a map.
    pub(crate) fn memory_bytes(&self) -> usize {
        const PLACE: usize = 2 * (size_of::<ItemKey>() + 16);
        PLACE
            + size_of::<Self>()
            + self.present.memory_bytes()
            + self.by_root.memory_bytes()
            + self.exemplars.capacity() * size_of::<PathExemplar>()
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        self.sum = self.sum.saturating_add(other.sum);
        self.present.merge(&other.present);
        self.spans = self.spans.saturating_add(other.spans);
        self.errors = self.errors.saturating_add(other.errors);
        self.by_root.merge(&other.by_root);
        other.exemplars.iter().for_each(|exemplar| self.note(*exemplar));
    }

    fn note(&mut self, exemplar: PathExemplar) {
        let key = |e: &PathExemplar| (std::cmp::Reverse(e.exclusive), e.trace_id, e.root_duration);
        let at = self.exemplars.partition_point(|other| key(other) < key(&exemplar));
        if at < EXEMPLARS_MAX {
            self.exemplars.insert(at, exemplar);
            self.exemplars.truncate(EXEMPLARS_MAX);
        }
    }
}

/// By what items are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathGrouping {
    /// One item a service, or edge.
    Service,
    /// One item an operation, or operation and edge.
    Operation,
    /// The items of both.
    Both,
}

impl PathGrouping {
    pub(crate) fn takes(self, key: &ItemKey) -> bool {
        match self {
            Self::Service => key.operation.is_none(),
            Self::Operation => key.operation.is_some(),
            Self::Both => true,
        }
    }
}

/// What the critical paths of some traces are made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathSums {
    /// Traces with a root.
    pub traces: u64,
    /// Traces without one.
    pub excluded: u64,
    /// Of the former, with something odd on the way.
    pub flagged: u64,
    /// Duration of the roots.
    pub latency: LatencyHistogram,
    /// By what the time is put down to.
    pub items: HashMap<ItemKey, ItemSums>,
}

impl PathSums {
    /// About the bytes of memory it takes.
    pub fn memory_bytes(&self) -> usize {
        self.latency.memory_bytes() + self.items.values().map(ItemSums::memory_bytes).sum::<usize>()
    }

    /// Adds all of another, whose items are called what `name` says.
    pub fn merge(&mut self, other: Self, name: impl Fn(ItemKey) -> ItemKey) {
        self.traces = self.traces.saturating_add(other.traces);
        self.excluded = self.excluded.saturating_add(other.excluded);
        self.flagged = self.flagged.saturating_add(other.flagged);
        self.latency.merge(&other.latency);
        for (key, sums) in other.items {
            match self.items.entry(name(key)) {
                Entry::Vacant(entry) => drop(entry.insert(sums)),
                Entry::Occupied(mut entry) => entry.get_mut().merge(&sums),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A damaged rollup may claim any number.
    #[test]
    fn sums_stop_at_the_greatest_number() {
        let item = ItemSums { sum: u128::MAX, spans: u64::MAX, errors: u64::MAX, ..ItemSums::default() };
        let key = ItemKey { service: ServiceId(1), operation: None, edge: None };
        let mut most = PathSums { traces: u64::MAX, excluded: u64::MAX, flagged: 1, ..PathSums::default() };
        most.items.insert(key, item.clone());
        let mut sums = most.clone();
        sums.merge(most, |key| key);
        assert_eq!((sums.traces, sums.excluded, sums.flagged), (u64::MAX, u64::MAX, 2));
        assert_eq!(sums.items[&key], item);
    }
}
