//! Which chunk block of a segment holds a trace. Kept in memory for every segment, some 20 bytes a block: reading the
//! segment's meta for it was two fifths of what fetching a trace from a segment of many took.

use std::ops::Range;

use segment::SegmentMeta;
use trace_model::TraceId;

/// The first trace of each chunk block of a segment.
#[derive(Debug, Default)]
pub(crate) struct ChunkDirectory {
    /// Low and high half of its id.
    low: Box<[u64]>,
    high: Box<[u64]>,
    /// Its number within the segment.
    pub(crate) numbers: Box<[u32]>,
    /// Blocks whose first trace began in the block before, rising.
    continued: Box<[u32]>,
}

impl ChunkDirectory {
    /// Takes the directory out of a meta.
    pub(crate) fn take(meta: &mut SegmentMeta) -> Self {
        Self {
            low: std::mem::take(&mut meta.chunk_first_low).into(),
            high: std::mem::take(&mut meta.chunk_first_high).into(),
            numbers: std::mem::take(&mut meta.chunk_first_trace).into(),
            continued: std::mem::take(&mut meta.chunk_continued).into(),
        }
    }

    /// How many blocks there are.
    pub(crate) fn blocks(&self) -> u32 {
        self.numbers.len() as u32
    }

    /// The trace that a block begins with, or goes on with.
    pub(crate) fn first_of(&self, block: u32) -> Option<TraceId> {
        let at = block as usize;
        let whole = u128::from(*self.high.get(at)?) << 64 | u128::from(*self.low.get(at)?);
        TraceId::new(whole.to_be_bytes()).ok()
    }

    /// The only blocks that can hold a trace: one, unless the trace goes on in the next ones.
    pub(crate) fn blocks_of(&self, id: &TraceId) -> Range<u32> {
        let whole = u128::from_be_bytes(*id.as_bytes());
        let first = |at: usize| u128::from(self.high[at]) << 64 | u128::from(self.low[at]);
        let (mut low, mut high) = (0, self.low.len().min(self.high.len()));
        while low < high {
            let middle = (low + high) / 2;
            if first(middle) <= whole { low = middle + 1 } else { high = middle }
        }
        let end = low as u32;
        let mut begin = end.saturating_sub(1);
        // Blocks that go on with the trace they begin with.
        while begin > 0 && first(begin as usize) == whole && self.continued.binary_search(&begin).is_ok() {
            begin -= 1;
        }
        begin..end
    }

    /// The block of the trace of this number within the segment, and its place among the traces of that block. `None` for
    /// a damaged directory.
    pub(crate) fn place_of(&self, number: u32) -> Option<(u32, u32)> {
        let block = self.numbers.partition_point(|&first| first <= number).checked_sub(1)?;
        // Damaged firsts may not rise.
        let nth = number.checked_sub(*self.numbers.get(block)?)?;
        Some((block as u32, nth))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> TraceId {
        TraceId::try_from(&number.to_be_bytes()[..]).unwrap()
    }

    /// Blocks that begin with these traces, where `continued` says that one goes on from the block before.
    fn directory(firsts: &[(u128, u32)], continued: &[u32]) -> ChunkDirectory {
        ChunkDirectory::take(&mut SegmentMeta {
            chunk_first_low: firsts.iter().map(|(id, _)| *id as u64).collect(),
            chunk_first_high: firsts.iter().map(|(id, _)| (*id >> 64) as u64).collect(),
            chunk_first_trace: firsts.iter().map(|(_, number)| *number).collect(),
            chunk_continued: continued.to_vec(),
            ..SegmentMeta::default()
        })
    }

    #[test]
    fn a_trace_is_in_the_last_block_that_begins_at_or_before_it_and_in_those_it_goes_on_from() {
        let wide = 1 << 64;
        let directory = directory(&[(10, 0), (20, 3), (20, 3), (20, 3), (wide, 5)], &[2, 3]);
        assert_eq!(directory.blocks(), 5);
        assert_eq!([1, 4, 5].map(|block| directory.first_of(block)), [Some(id(20)), Some(id(wide)), None]);
        assert!(directory.blocks_of(&id(9)).is_empty());
        assert_eq!(directory.blocks_of(&id(10)), 0..1);
        assert_eq!(directory.blocks_of(&id(20)), 1..4);
        assert_eq!(directory.blocks_of(&id(21)), 3..4);
        assert_eq!(directory.blocks_of(&id(wide + 7)), 4..5);
        assert!(ChunkDirectory::default().blocks_of(&id(1)).is_empty());
    }

    #[test]
    fn numbers_lead_to_places_and_damaged_ones_nowhere() {
        let directory = directory(&[(10, 0), (20, 3), (30, 5)], &[]);
        assert_eq!(
            [0, 2, 3, 9].map(|number| directory.place_of(number)),
            [Some((0, 0)), Some((0, 2)), Some((1, 0)), Some((2, 4))]
        );
        assert_eq!(self::directory(&[(10, 4)], &[]).place_of(3), None);
        assert_eq!(ChunkDirectory::default().place_of(0), None);
    }
}
