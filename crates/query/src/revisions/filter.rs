//! What is surely not in a file, told without reading it.

/// Bits that a key sets.
const PROBES: u32 = 4;
/// Bits of a line.
const LINE: u64 = 512;
/// Bytes of a line.
const LINE_BYTES: usize = LINE as usize / 8;

/// A Bloom filter of which a key uses one line of a processor's cache. With a byte a key, about 3 of 100 keys that are not in
/// it seem to be; with half a byte 18.
#[derive(Debug, Default)]
pub(super) struct Filter {
    lines: Vec<[u64; 8]>,
}

impl Filter {
    /// A filter for so many keys that takes no more than this room, bytes. Where that is much less than a byte a key it
    /// would tell nearly nothing: then it has no lines, and may have everything.
    pub(super) fn new(keys: usize, room: usize) -> Self {
        let wanted = keys.div_ceil(LINE_BYTES);
        let lines = wanted.min(room / LINE_BYTES);
        Self { lines: if lines < wanted.div_ceil(4) { Vec::new() } else { vec![[0; 8]; lines] } }
    }

    pub(super) fn insert(&mut self, hash: u64) {
        let line = self.line(hash);
        if let Some(line) = self.lines.get_mut(line) {
            probes(hash).for_each(|(word, bit)| line[word] |= bit);
        }
    }

    pub(super) fn may_have(&self, hash: u64) -> bool {
        self.lines
            .get(self.line(hash))
            .is_none_or(|line| probes(hash).all(|(word, bit)| line[word] & bit != 0))
    }

    /// By the highest bits of the hash; probes are by the lowest.
    fn line(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.lines.len() as u128) >> 64) as usize
    }

    pub(super) fn bytes(&self) -> usize {
        self.lines.len() * LINE_BYTES
    }
}

fn probes(hash: u64) -> impl Iterator<Item = (usize, u64)> {
    (0..PROBES).map(move |nth| {
        let bit = (hash >> (9 * nth)) % LINE;
        ((bit / 64) as usize, 1 << (bit % 64))
    })
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    #[test]
    fn what_is_in_it_may_be_and_most_else_is_surely_not() {
        for (room, most) in [(1 << 20, 400), (5_000, 2_200), (2_000, 10_000), (0, 10_000)] {
            let mut filter = Filter::new(10_000, room);
            assert!(filter.bytes() <= room);
            let hash = |n: u64| xxh3_64(&n.to_le_bytes());
            (0..10_000).for_each(|n| filter.insert(hash(n)));
            assert!((0..10_000).all(|n| filter.may_have(hash(n))));
            let wrong = (10_000..20_000).filter(|n| filter.may_have(hash(*n))).count();
            assert!(wrong <= most, "{wrong} with {room}");
            assert_eq!(filter.bytes() == 0, most == 10_000);
        }
    }
}
