//! Making room: the partition that may go before its time, and what is not worth naming any more.

use std::sync::atomic::Ordering;

use crate::partition::FamilyName;
use crate::retention::Expired;
use crate::store::SpanStore;

impl SpanStore {
    /// The oldest partition; none if there is only one.
    pub fn oldest_partition(&self) -> Option<Expired> {
        let partitions = self.partitions.read();
        let oldest = partitions.first().filter(|_| partitions.len() > 1)?;
        Some(Expired { partition: oldest.id, bytes: oldest.bytes.load(Ordering::Acquire) })
    }

    /// Whether a text that names a partition names one that is not there any more.
    pub fn names_gone_partition(&self, text: &str) -> bool {
        let words = text.split_whitespace().map(|word| word.trim_end_matches(':'));
        let named = words.filter(|word| FamilyName::parse(word).is_some()).collect::<Vec<_>>();
        let partitions = self.partitions.read();
        !named.is_empty() && named.iter().all(|name| partitions.iter().all(|p| p.family != **name))
    }
}
