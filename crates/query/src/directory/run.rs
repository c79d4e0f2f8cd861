//! Hashes of many segments in memory.

use span_store::SegmentId;

/// A sorted list of hashes, each with the segment that it came from.
#[derive(Debug)]
pub(super) struct Run {
    hashes: Vec<u32>,
    /// Index in `segments` of each hash.
    places: Vec<u16>,
    /// Where the hashes with the same highest bits begin; one more than there are such bits.
    starts: Vec<u32>,
    shift: u32,
    pub(super) segments: Vec<SegmentId>,
    /// The latest arrival in any of the segments, unix nanoseconds.
    pub(super) arrival_max: u64,
}

impl Run {
    /// The run of one segment.
    pub(super) fn of(segment: SegmentId, hashes: Vec<u32>, arrival_max: u64) -> Self {
        let places = vec![0; hashes.len()];
        Self::new(hashes, places, vec![segment], arrival_max)
    }

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

    pub(super) fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Hashes, rising, each with its index in `segments`.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u32, u16)> + '_ {
        self.hashes.iter().copied().zip(self.places.iter().copied())
    }

    pub(super) fn find(&self, hash: u32, found: &mut Vec<SegmentId>) {
        let high = (hash >> self.shift) as usize;
        let range = self.starts[high] as usize..self.starts[high + 1] as usize;
        for at in range {
            if self.hashes[at] == hash {
                found.push(self.segments[self.places[at] as usize]);
            }
        }
    }

    pub(super) fn has(&self, hash: u32) -> bool {
        let high = (hash >> self.shift) as usize;
        self.hashes[self.starts[high] as usize..self.starts[high + 1] as usize].contains(&hash)
    }

    pub(super) fn merge(older: &Self, newer: &Self) -> Self {
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
