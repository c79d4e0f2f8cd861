//! Making room: partitions that may go before their time, and those that hold nothing readable any more.

use std::collections::HashSet;

use trace_model::UnixNanos;

use crate::error::StoreError;
use crate::partition::{SegmentHandle, slice_of};
use crate::store::SpanStore;

impl SpanStore {
    /// The segments of the oldest partition, given all segments; none if there is only one partition.
    pub fn oldest_partition(&self, segments: &[SegmentHandle]) -> Vec<SegmentHandle> {
        let oldest = segments.iter().map(|handle| handle.partition.slice).min();
        let newest = segments.iter().map(|handle| handle.partition.slice).max();
        if oldest == newest {
            return Vec::new();
        }
        let of_oldest = segments.iter().filter(|handle| Some(handle.partition.slice) == oldest);
        of_oldest.cloned().collect()
    }

    /// Whether a text that names a partition names one that is not there any more.
    pub fn names_gone_partition(&self, text: &str) -> bool {
        let words = text.split_whitespace().map(|word| word.trim_end_matches(':'));
        let named = words.filter(|word| slice_of(word).is_some()).collect::<Vec<_>>();
        let partitions = self.partitions.read();
        !named.is_empty() && named.iter().all(|name| partitions.iter().all(|p| p.family != **name))
    }

    /// Drops partitions that are too old and of which nobody offers a segment, because all of them are damaged.
    /// Their names.
    ///
    /// # Errors
    /// If RocksDB fails.
    pub fn drop_forgotten(
        &self,
        offered: &[SegmentHandle],
        now: UnixNanos,
    ) -> Result<Vec<String>, StoreError> {
        let offered: HashSet<u64> = offered.iter().map(|handle| handle.partition.slice).collect();
        let too_old = |slice: u64| {
            let closed = (slice + 1).saturating_mul(self.options.slice());
            closed.saturating_add(self.options.retention.0) <= now.0
        };
        let mut gone = Vec::new();
        self.partitions.write().retain(|partition| {
            let stays = offered.contains(&partition.slice) || !too_old(partition.slice);
            if !stays {
                gone.push(partition.family.clone());
            }
            stays
        });
        for family in &gone {
            self.db.get()?.drop_cf(family)?;
        }
        Ok(gone)
    }
}
