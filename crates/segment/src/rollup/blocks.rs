//! Where the blocks of a rollup begin and end.

use longpole_proto::rollup as proto;

use crate::rollup::{RollupMeta, Tier};

/// The first format whose blocks are cut into parts.
const PARTED: u32 = 3;

/// What a stored block has of its buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All, as up to format 2.
    Whole,
    /// Critical paths of all roots together, without items of operations.
    Together,
    /// Critical paths of traces without a root.
    Rootless,
    /// Histograms of a service, or critical paths by root of those that are its; the number is that within the rollup.
    Service(u32),
}

impl Part {
    /// The number in keys and in the meta.
    pub(crate) const fn stored(self) -> Option<u32> {
        match self {
            Self::Whole => None,
            Self::Together => Some(0),
            Self::Rootless => Some(1),
            Self::Service(service) => Some(service.saturating_add(2)),
        }
    }

    const fn from_stored(number: u32) -> Self {
        match number {
            0 => Self::Together,
            1 => Self::Rootless,
            _ => Self::Service(number - 2),
        }
    }
}

/// A stored block of histograms or of critical paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollupBlock {
    /// By what it is stored.
    pub(crate) number: u32,
    /// The first bucket that it may have.
    pub first: u32,
    /// The first bucket behind it.
    pub end: u32,
    /// What it has of these buckets.
    pub part: Part,
    /// Whether the sums of its critical paths say how many bytes they have, as from format 2 on.
    pub(crate) is_sized: bool,
}

impl RollupBlock {
    /// The blocks with histograms, rising.
    pub fn of_histograms(tier: Tier, meta: &RollupMeta) -> Vec<Self> {
        let whole = blocks(tier, meta.format, &meta.histogram_blocks, &meta.histogram_buckets);
        if meta.format < PARTED { whole } else { parts(&whole, &meta.histogram_parts) }
    }

    /// The blocks with critical paths by root, rising.
    pub fn of_paths(tier: Tier, meta: &RollupMeta) -> Vec<Self> {
        let mut all = all_of_paths(tier, meta);
        all.retain(|block| block.part != Part::Together);
        all
    }

    /// The blocks with critical paths of all roots together, rising; `None` if the rollup has none such. They have no items
    /// of operations.
    pub fn of_paths_together(tier: Tier, meta: &RollupMeta) -> Option<Vec<Self>> {
        let mut all = (meta.format >= PARTED).then(|| all_of_paths(tier, meta))?;
        all.retain(|block| block.part == Part::Together);
        Some(all)
    }

    /// Those of these buckets, which rise, that are in it.
    pub fn of<'a>(&self, buckets: &'a [u32]) -> &'a [u32] {
        let from = buckets.partition_point(|bucket| *bucket < self.first);
        let rest = &buckets[from..];
        &rest[..rest.partition_point(|bucket| *bucket < self.end)]
    }
}

fn all_of_paths(tier: Tier, meta: &RollupMeta) -> Vec<RollupBlock> {
    let whole = blocks(tier, meta.format, &meta.path_blocks, &meta.path_buckets);
    if meta.format < PARTED { whole } else { parts(&whole, &meta.path_parts) }
}

/// The parts that these blocks are stored in.
fn parts(blocks: &[RollupBlock], stored: &[proto::Part]) -> Vec<RollupBlock> {
    let part = |part: &proto::Part| {
        let at = blocks.binary_search_by_key(&part.first, |block| block.first).ok()?;
        Some(RollupBlock { part: Part::from_stored(part.of), ..blocks[at] })
    };
    stored.iter().filter_map(part).collect()
}

fn blocks(tier: Tier, format: u32, firsts: &[u32], buckets: &[u32]) -> Vec<RollupBlock> {
    let most = tier.per_block();
    if format > 1 {
        let ends = firsts.iter().skip(1).copied().chain([u32::MAX]);
        let block = |(&first, end): (&u32, u32)| {
            let end = end.min(first.saturating_add(most));
            RollupBlock { number: first, first, end, part: Part::Whole, is_sized: true }
        };
        return firsts.iter().zip(ends).map(block).collect();
    }
    let mut numbers: Vec<u32> = buckets.iter().map(|bucket| bucket / most).collect();
    numbers.dedup();
    let block = |number: u32| {
        let first = number.saturating_mul(most);
        RollupBlock { number, first, end: first.saturating_add(most), part: Part::Whole, is_sized: false }
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
            histogram_parts: firsts.iter().map(|&first| proto::Part { first, of: 5 }).collect(),
            ..RollupMeta::default()
        };
        let blocks = RollupBlock::of_histograms(Tier::Minute, &meta);
        blocks.into_iter().map(|block| (block.number, block.first, block.end)).collect()
    }

    #[test]
    fn a_block_ends_where_the_next_begins_and_has_an_hour_at_most() {
        assert_eq!(ranges(1, &[]), [(0, 0, 60), (1, 60, 120), (4, 240, 300)]);
        for format in [2, 3] {
            assert_eq!(ranges(format, &[59, 61, 240]), [(59, 59, 61), (61, 61, 121), (240, 240, 300)]);
        }
        let block = RollupBlock { number: 59, first: 59, end: 61, part: Part::Whole, is_sized: true };
        assert_eq!(block.of(&[59, 60, 61, 119]), [59, 60]);
        assert!(block.of(&[61]).is_empty() && block.of(&[]).is_empty());
    }
}
