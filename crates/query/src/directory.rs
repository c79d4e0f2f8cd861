//! Which segments may hold a trace: one list of hashes for many segments, so that looking a trace up costs a few
//! cache misses and not one for each segment.
//!
//! Segments are added in the order of their sealing. Neighbouring runs of similar size are merged, so there are
//! about log n of them. The lists are bounded; the oldest leave first, and what they held is then looked for in
//! the segments' own lists on disk.

use std::sync::Arc;

use span_store::SegmentId;

/// Entries of one run at most.
const RUN_MAX: usize = 4 << 20;
/// Bytes of memory an entry takes: hash, place, and its part of the index.
pub(crate) const ENTRY_BYTES: usize = 7;

/// A sorted list of hashes, each with the segment that it came from.
#[derive(Debug)]
struct Run {
    hashes: Vec<u32>,
    /// Index in `segments` of each hash.
    places: Vec<u16>,
    /// Where the hashes with the same highest bits begin; one more than there are such bits.
    starts: Vec<u32>,
    shift: u32,
    segments: Vec<SegmentId>,
    /// The latest arrival in any of the segments, unix nanoseconds.
    arrival_max: u64,
}

impl Run {
    fn new(hashes: Vec<u32>, places: Vec<u16>, segments: Vec<SegmentId>, arrival_max: u64) -> Self {
        // About eight hashes share their highest bits.
        let bits = hashes.len().max(16).ilog2() - 3;
        let shift = 32 - bits;
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        let mut at = 0;
        for high in 0..1_u32 << bits {
            starts.push(at as u32);
            while hashes.get(at).is_some_and(|hash| hash >> shift == high) {
                at += 1;
            }
        }
        starts.push(hashes.len() as u32);
        Self { hashes, places, starts, shift, segments, arrival_max }
    }

    fn find(&self, hash: u32, found: &mut Vec<SegmentId>) {
        let high = (hash >> self.shift) as usize;
        let range = self.starts[high] as usize..self.starts[high + 1] as usize;
        for at in range {
            if self.hashes[at] == hash {
                found.push(self.segments[self.places[at] as usize]);
            }
        }
    }

    fn has(&self, hash: u32) -> bool {
        let high = (hash >> self.shift) as usize;
        self.hashes[self.starts[high] as usize..self.starts[high + 1] as usize].contains(&hash)
    }

    fn merge(older: &Self, newer: &Self) -> Self {
        let shift = older.segments.len() as u16;
        let length = older.hashes.len() + newer.hashes.len();
        let (mut hashes, mut places) = (Vec::with_capacity(length), Vec::with_capacity(length));
        let mut left = older.hashes.iter().zip(&older.places).peekable();
        let mut right = newer.hashes.iter().zip(&newer.places).peekable();
        loop {
            let from_left = match (left.peek(), right.peek()) {
                (Some((a, _)), Some((b, _))) => a <= b,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => break,
            };
            let next = if from_left { left.next() } else { right.next() };
            if let Some((hash, place)) = next {
                hashes.push(*hash);
                places.push(if from_left { *place } else { place + shift });
            }
        }
        let segments = older.segments.iter().chain(&newer.segments).copied().collect();
        Self::new(hashes, places, segments, older.arrival_max.max(newer.arrival_max))
    }
}

/// Hashes of the traces of many segments.
#[derive(Debug, Clone)]
pub struct TraceDirectory {
    /// Oldest first.
    runs: Vec<Arc<Run>>,
    /// Segments whose hashes are not in memory, oldest first.
    unlisted: Vec<SegmentId>,
    entries: usize,
    entries_max: usize,
}

impl Default for TraceDirectory {
    fn default() -> Self {
        Self::with_memory(64 << 20)
    }
}

impl TraceDirectory {
    /// An empty directory that takes about this many bytes at most.
    pub fn with_memory(bytes: usize) -> Self {
        Self { runs: Vec::new(), unlisted: Vec::new(), entries: 0, entries_max: bytes / ENTRY_BYTES }
    }

    /// Adds a segment that is newer than all before it, by its sorted hashes.
    pub(crate) fn add(&mut self, segment: SegmentId, hashes: Vec<u32>, arrival_max: u64) {
        if hashes.is_empty() {
            return;
        }
        self.entries += hashes.len();
        let places = vec![0; hashes.len()];
        self.runs.push(Arc::new(Run::new(hashes, places, vec![segment], arrival_max)));
        while let [.., older, newer] = &self.runs[..]
            && older.hashes.len() <= 2 * newer.hashes.len()
            && older.hashes.len() + newer.hashes.len() <= RUN_MAX
            && older.segments.len() + newer.segments.len() < usize::from(u16::MAX)
        {
            let merged = Arc::new(Run::merge(older, newer));
            self.runs.truncate(self.runs.len() - 2);
            self.runs.push(merged);
        }
        while self.entries > self.entries_max && self.runs.len() > 1 {
            let oldest = self.runs.remove(0);
            self.entries -= oldest.hashes.len();
            self.unlisted.extend(&oldest.segments);
        }
    }

    /// Adds a segment whose hashes there is no room for.
    pub(crate) fn add_unlisted(&mut self, segment: SegmentId) {
        self.unlisted.push(segment);
    }

    /// Whether there is room for more entries.
    pub(crate) fn has_room(&self, entries: usize) -> bool {
        self.entries + entries <= self.entries_max
    }

    /// Forgets segments that are gone.
    pub(crate) fn remove(&mut self, is_gone: &dyn Fn(SegmentId) -> bool) {
        self.unlisted.retain(|id| !is_gone(*id));
        self.runs.retain(|run| !run.segments.iter().all(|id| is_gone(*id)));
        self.entries = self.runs.iter().map(|run| run.hashes.len()).sum();
    }

    /// The listed segments that may hold a trace with this hash and took arrivals since then, newest first.
    pub(crate) fn find(&self, hash: u32, since: u64) -> Vec<SegmentId> {
        let mut found = Vec::new();
        for run in self.runs.iter().rev().filter(|run| run.arrival_max >= since) {
            run.find(hash, &mut found);
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        found
    }

    /// Whether any listed segment with arrivals since then may hold a trace with this hash.
    pub(crate) fn may_hold(&self, hash: u32, since: u64) -> bool {
        self.runs.iter().rev().any(|run| run.arrival_max >= since && run.has(hash))
    }

    /// Segments whose hashes are not in memory, oldest first.
    pub(crate) fn unlisted(&self) -> &[SegmentId] {
        &self.unlisted
    }

    /// Bytes of memory in use, about.
    pub fn bytes(&self) -> usize {
        self.entries * ENTRY_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spread as a hash function spreads, and the same on every run.
    fn hashes(segment: u32, count: u32) -> Vec<u32> {
        let mut all: Vec<u32> =
            (0..count).map(|n| (segment * 1_000_003 + n).wrapping_mul(0x9e37_79b9)).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn every_hash_is_found_in_its_segment_and_in_no_other() {
        let mut directory = TraceDirectory::default();
        for segment in 0..100 {
            directory.add(SegmentId(segment), hashes(segment, 50 + segment), u64::from(segment));
        }
        assert!(directory.runs.len() <= 8, "{} runs", directory.runs.len());
        for segment in 0..100 {
            for hash in hashes(segment, 50 + segment) {
                assert_eq!(directory.find(hash, 0), [SegmentId(segment)]);
                assert!(directory.may_hold(hash, u64::from(segment)));
            }
        }
        assert!(directory.find(1, 0).is_empty() && !directory.may_hold(1, 0));
        let newest = hashes(99, 1)[0];
        assert!(directory.find(newest, 100).is_empty(), "nothing arrived since");
    }

    #[test]
    fn a_trace_in_two_segments_is_found_in_both_newest_first() {
        let mut directory = TraceDirectory::default();
        for segment in 0..5 {
            directory.add(SegmentId(segment), vec![7, 1 << 31, u32::MAX], 0);
        }
        assert_eq!(directory.find(u32::MAX, 0), [4, 3, 2, 1, 0].map(SegmentId));
        directory.remove(&|id| id < SegmentId(5));
        assert!(directory.runs.is_empty() && directory.bytes() == 0);
    }

    #[test]
    fn the_oldest_leave_when_there_is_no_more_room() {
        let mut directory = TraceDirectory::with_memory(1_000 * ENTRY_BYTES);
        for segment in 0..50 {
            directory.add(SegmentId(segment), hashes(segment, 100), 0);
            assert!(directory.entries <= 1_000);
        }
        let unlisted = directory.unlisted().to_vec();
        assert!(unlisted.len() >= 40 && unlisted.is_sorted());
        for segment in (0..50).map(SegmentId).filter(|id| !unlisted.contains(id)) {
            assert_eq!(directory.find(hashes(segment.0, 1)[0], 0), [segment]);
        }
    }
}
