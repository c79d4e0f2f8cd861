//! Where the blocks of a rollup begin and end.

use crate::rollup::{RollupMeta, Tier};

/// The first format with critical paths of all roots together.
const OF_ALL: u32 = 3;

/// A stored block of histograms or of critical paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollupBlock {
    /// By what it is stored.
    pub(crate) number: u32,
    /// The first bucket that it may have.
    pub first: u32,
    /// The first bucket behind it.
    pub end: u32,
    /// Whether the sums of its critical paths say how many bytes they have, as from format 2 on.
    pub(crate) is_sized: bool,
    /// Whether its critical paths are not told apart by their roots, and have items of services only.
    pub(crate) is_of_all: bool,
}

impl RollupBlock {
    /// The blocks with histograms, rising.
    pub fn of_histograms(tier: Tier, meta: &RollupMeta) -> Vec<Self> {
        blocks(tier, meta.format, &meta.histogram_blocks, &meta.histogram_buckets)
    }

    /// The blocks with critical paths, rising.
    pub fn of_paths(tier: Tier, meta: &RollupMeta) -> Vec<Self> {
        blocks(tier, meta.format, &meta.path_blocks, &meta.path_buckets)
    }

    /// The blocks with critical paths that are not told apart by their roots, rising; `None` if the rollup has none such.
    /// They have no items of operations.
    pub fn of_paths_of_all(tier: Tier, meta: &RollupMeta) -> Option<Vec<Self>> {
        let of_all = |block| Self { is_of_all: true, ..block };
        (meta.format >= OF_ALL).then(|| Self::of_paths(tier, meta).into_iter().map(of_all).collect())
    }

    /// Those of these buckets, which rise, that are in it.
    pub fn of<'a>(&self, buckets: &'a [u32]) -> &'a [u32] {
        let from = buckets.partition_point(|bucket| *bucket < self.first);
        let rest = &buckets[from..];
        &rest[..rest.partition_point(|bucket| *bucket < self.end)]
    }
}

fn blocks(tier: Tier, format: u32, firsts: &[u32], buckets: &[u32]) -> Vec<RollupBlock> {
    let most = tier.per_block();
    if format > 1 {
        let ends = firsts.iter().skip(1).copied().chain([u32::MAX]);
        let block = |(&first, end): (&u32, u32)| {
            let end = end.min(first.saturating_add(most));
            RollupBlock { number: first, first, end, is_sized: true, is_of_all: false }
        };
        return firsts.iter().zip(ends).map(block).collect();
    }
    let mut numbers: Vec<u32> = buckets.iter().map(|bucket| bucket / most).collect();
    numbers.dedup();
    let block = |number: u32| {
        let first = number.saturating_mul(most);
        RollupBlock { number, first, end: first.saturating_add(most), is_sized: false, is_of_all: false }
    };
    numbers.into_iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(format: u32, firsts: &[u32]) -> Vec<(u32, u32, u32)> {
        let meta = RollupMeta {
            format,
            histogram_buckets: vec![59, 60, 61, 119, 240],
            histogram_blocks: firsts.to_vec(),
            ..RollupMeta::default()
        };
        let blocks = RollupBlock::of_histograms(Tier::Minute, &meta);
        blocks.into_iter().map(|block| (block.number, block.first, block.end)).collect()
    }

    #[test]
    fn a_block_ends_where_the_next_begins_and_has_an_hour_at_most() {
        assert_eq!(ranges(1, &[]), [(0, 0, 60), (1, 60, 120), (4, 240, 300)]);
        assert_eq!(ranges(2, &[59, 61, 240]), [(59, 59, 61), (61, 61, 121), (240, 240, 300)]);
        let block = RollupBlock { number: 59, first: 59, end: 61, is_sized: true, is_of_all: false };
        assert_eq!(block.of(&[59, 60, 61, 119]), [59, 60]);
        assert!(block.of(&[61]).is_empty() && block.of(&[]).is_empty());
    }
}
