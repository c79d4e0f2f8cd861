//! Making room: what sealing needs, the partitions that may go before their time, the log that may go before its
//! generation is full, and what is not worth naming any more.

use std::sync::atomic::Ordering;

use crate::error::StoreError;
use crate::owed;
use crate::partition::FamilyName;
use crate::retention::Expired;
use crate::store::SpanStore;

impl SpanStore {
    /// Bytes that must be free so that everything in the log can be sealed, and the log let go of.
    pub fn sealing_needs(&self) -> u64 {
        owed::of_nothing() + self.log.lock().owed(self.sealed_seq())
    }

    /// Bytes that requests of so many bytes take besides, in the log and for their sealing.
    pub fn group_needs(&self, request_bytes: usize) -> u64 {
        owed::of_group(request_bytes)
    }

    /// The oldest partition; none if there is only one.
    pub fn oldest_partition(&self) -> Option<Expired> {
        let partitions = self.partitions.read();
        let oldest = partitions.first().filter(|_| partitions.len() > 1)?;
        Some(Expired { partition: oldest.id, bytes: oldest.bytes.load(Ordering::Acquire) })
    }

    /// Lets go of the log also of generations that are not full: on a disk with little room that is what sealing was for.
    /// One of which some frames are sealed is not written to any more, and goes once the others are: while frames come
    /// there is always one that is not.
    ///
    /// # Errors
    /// If RocksDB fails.
    pub fn give_up_sealed_log(&self) -> Result<(), StoreError> {
        let sealed = self.sealed_seq();
        {
            let mut log = self.log.lock();
            let is_sealed = |first: u64| first <= sealed;
            if log.generations.back().and_then(|newest| newest.first_seq).is_some_and(is_sealed)
                && let Some(spare) = log.spare.take()
            {
                log.generations.push_back(spare);
                log.switch_wal = true;
            }
        }
        self.keep_house()
    }

    /// Whether a text that names a partition names one that is not there any more.
    pub fn names_gone_partition(&self, text: &str) -> bool {
        let words = text.split_whitespace().map(|word| word.trim_end_matches(':'));
        let named = words.filter(|word| FamilyName::parse(word).is_some()).collect::<Vec<_>>();
        let partitions = self.partitions.read();
        !named.is_empty() && named.iter().all(|name| partitions.iter().all(|p| p.family != **name))
    }
}
