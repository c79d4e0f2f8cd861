//! Which segment has the last analysis of a trace that was analysed more than once.
//!
//! This is asked for every analysis that an answer looks at, and kept for as long as spans are. So it is as small as
//! whole ids allow, and whoever holds an older state of it shares nearly all of it.

use std::sync::Arc;

use span_store::SegmentId;
use trace_model::TraceId;

/// An id with its halves exchanged, as whole numbers of the highest byte first: the lower half is random in all systems
/// that give ids, the upper one is a time in some and nothing in others.
type Key = [u8; 16];

/// The last analyses of traces.
#[derive(Debug, Clone, Default)]
pub struct Revisions {
    /// Oldest first, each less than half as long as the one before it.
    runs: Vec<Arc<Run>>,
}

impl Revisions {
    /// Adds a segment that is newer than all before it, by the traces that were analysed again in it.
    pub(crate) fn add(&mut self, segment: SegmentId, traces: impl Iterator<Item = TraceId>) {
        let entries: Vec<Entry> = traces.map(|id| Entry { key: key_of(&id), segment }).collect();
        if entries.is_empty() {
            return;
        }
        let mut run = Run::of(entries);
        while let Some(older) = self.runs.pop_if(|older| older.entries.len() <= 2 * run.entries.len()) {
            run = Run::of([&older.entries[..], &run.entries[..]].concat());
        }
        self.runs.push(Arc::new(run));
    }

    /// The segment with the last analysis of a trace, if it was analysed again.
    pub(crate) fn last(&self, id: &TraceId) -> Option<SegmentId> {
        if self.runs.is_empty() {
            return None;
        }
        let key = key_of(id);
        self.runs.iter().rev().find_map(|run| run.find(&key))
    }

    /// Traces that were analysed again in segments after this one.
    pub(crate) fn since(&self, segment: Option<SegmentId>) -> impl Iterator<Item = TraceId> + '_ {
        let entries = self.runs.iter().flat_map(|run| &run.entries);
        entries.filter(move |entry| Some(entry.segment) > segment).filter_map(|entry| id_of(&entry.key))
    }

    /// Segments take the place of others, as `into` says of each.
    pub(crate) fn rename(&mut self, into: impl Fn(SegmentId) -> SegmentId) {
        self.map(|entry| Some(Entry { segment: into(entry.segment), ..entry }));
    }

    /// Forgets all segments before this one.
    pub(crate) fn forget_before(&mut self, oldest: Option<SegmentId>) {
        self.map(|entry| oldest.is_some_and(|oldest| entry.segment >= oldest).then_some(entry));
    }

    fn map(&mut self, change: impl Fn(Entry) -> Option<Entry>) {
        for run in &mut self.runs {
            if !run.entries.iter().all(|entry| change(*entry) == Some(*entry)) {
                *run = Arc::new(Run::of(run.entries.iter().copied().filter_map(&change).collect()));
            }
        }
        self.runs.retain(|run| !run.entries.is_empty());
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    key: Key,
    segment: SegmentId,
}

/// Sorted entries, one a trace.
#[derive(Debug)]
struct Run {
    entries: Vec<Entry>,
    /// Where the entries with the same highest bits begin; one more than there are such bits.
    starts: Vec<u32>,
    bits: u32,
}

impl Run {
    /// Of several entries of a trace the last segment counts.
    fn of(mut entries: Vec<Entry>) -> Self {
        // Two runs one after the other are merged by this, and not sorted anew.
        entries.sort_by_key(|entry| (entry.key, std::cmp::Reverse(entry.segment)));
        entries.dedup_by_key(|entry| entry.key);
        entries.shrink_to_fit();
        // About eight entries share their highest bits.
        let bits = entries.len().max(16).ilog2() - 3;
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        let mut at = 0;
        for high in 0..1_usize << bits {
            starts.push(at as u32);
            at += entries[at..].iter().take_while(|entry| highest(&entry.key, bits) == high).count();
        }
        starts.push(entries.len() as u32);
        Self { entries, starts, bits }
    }

    fn find(&self, key: &Key) -> Option<SegmentId> {
        let high = highest(key, self.bits);
        let range = *self.starts.get(high)? as usize..*self.starts.get(high + 1)? as usize;
        let near = self.entries.get(range)?;
        // Ids that are not random may all be near each other.
        let at = near.binary_search_by_key(key, |entry| entry.key).ok()?;
        near.get(at).map(|entry| entry.segment)
    }
}

fn highest(key: &Key, bits: u32) -> usize {
    let [a, b, c, d, ..] = *key;
    (u32::from_be_bytes([a, b, c, d]) >> (32 - bits)) as usize
}

fn key_of(id: &TraceId) -> Key {
    u128::from_be_bytes(*id.as_bytes()).rotate_left(64).to_be_bytes()
}

fn id_of(key: &Key) -> Option<TraceId> {
    TraceId::new(u128::from_be_bytes(*key).rotate_left(64).to_be_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Few different ids, some of which differ in their upper half alone.
    fn id(n: u8) -> TraceId {
        let half = u64::from(n % 16).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        TraceId::new((u128::from(n / 16 + 1) << 64 | u128::from(half)).to_be_bytes()).unwrap()
    }

    fn known(revisions: &Revisions) -> HashMap<TraceId, SegmentId> {
        (0..=255).filter_map(|n| Some((id(n), revisions.last(&id(n))?))).collect()
    }

    proptest! {
        #[test]
        fn it_knows_what_a_map_knows(
            segments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..60),
            merged in 0_u32..60, oldest in 0_u32..70,
        ) {
            let (mut revisions, mut map) = (Revisions::default(), HashMap::new());
            for (segment, traces) in (0..).map(SegmentId).zip(&segments) {
                revisions.add(segment, traces.iter().map(|n| id(*n)));
                map.extend(traces.iter().map(|n| (id(*n), segment)));
                let lengths: Vec<usize> = revisions.runs.iter().map(|run| run.entries.len()).collect();
                prop_assert!(lengths.windows(2).all(|pair| pair[0] > 2 * pair[1]), "{:?}", lengths);
            }
            prop_assert_eq!(known(&revisions), map.clone());

            let into = |id: SegmentId| if id.0 / 4 == merged / 4 { SegmentId(merged | 3) } else { id };
            let older = revisions.clone();
            revisions.rename(into);
            prop_assert_eq!(known(&older), map.clone(), "who looks at an older state sees that");
            map.values_mut().for_each(|id| *id = into(*id));
            prop_assert_eq!(known(&revisions), map.clone());

            let newer = map.iter().filter(|(_, last)| **last > SegmentId(oldest)).map(|(id, _)| *id);
            let found: std::collections::HashSet<TraceId> = revisions.since(Some(SegmentId(oldest))).collect();
            prop_assert_eq!(found, newer.collect());

            revisions.forget_before(Some(SegmentId(oldest)));
            map.retain(|_, id| *id >= SegmentId(oldest));
            prop_assert_eq!(known(&revisions), map);
            revisions.forget_before(None);
            prop_assert!(revisions.runs.is_empty());
        }
    }

    #[test]
    fn an_entry_takes_twenty_bytes() {
        assert_eq!(size_of::<Entry>(), 20);
    }
}
