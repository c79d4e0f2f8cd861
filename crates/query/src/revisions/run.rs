//! Last analyses in memory.

use span_store::SegmentId;
use trace_model::TraceId;

/// An id with its halves exchanged, as whole numbers of the highest byte first: the lower half is random in all systems
/// that give ids, the upper one is a time in some and nothing in others.
pub(super) type Key = [u8; 16];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) segment: SegmentId,
}

/// Sorted entries, one a trace.
#[derive(Debug)]
pub(super) struct Run {
    entries: Vec<Entry>,
    /// Where the entries with the same highest bits begin; one more than there are such bits.
    starts: Vec<u32>,
    bits: u32,
}

impl Run {
    /// Of several entries of a trace the last segment counts.
    pub(super) fn of(mut entries: Vec<Entry>) -> Self {
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

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn find(&self, key: &Key) -> Option<SegmentId> {
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

pub(super) fn key_of(id: &TraceId) -> Key {
    u128::from_be_bytes(*id.as_bytes()).rotate_left(64).to_be_bytes()
}

pub(super) fn id_of(key: &Key) -> Option<TraceId> {
    TraceId::new(u128::from_be_bytes(*key).rotate_left(64).to_be_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_takes_twenty_bytes() {
        assert_eq!(size_of::<Entry>(), 20);
    }
}
