//! Counts per bucket: a short sorted list while few buckets are used, an array when many are.
//!
//! Most series see a handful of spans a minute, so most histograms hold a handful of buckets: 8 bytes for
//! each, where the array takes 15 KiB, of which there are thousands in a rollup. Counts beyond 32 bits widen the array to 64.

use crate::buckets::BUCKETS;

/// How many buckets the list holds before it becomes an array.
const LIST_MAX: usize = 256;

#[derive(Debug, Clone)]
pub(crate) enum Counts {
    /// Sorted by bucket; no count is zero.
    List(Vec<(u16, u32)>),
    /// One count per bucket.
    Array(Box<[u32]>),
    /// One count per bucket, some beyond 32 bits.
    Wide(Box<[u64]>),
}

impl Default for Counts {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Counts {
    /// Adds to the count of a bucket, up to `u64::MAX`. A bucket that does not exist counts as the last.
    pub(crate) fn add(&mut self, bucket: u16, more: u64) {
        let bucket = bucket.min(BUCKETS - 1);
        let fits = match self {
            Self::List(list) => add_to_list(list, bucket, more),
            Self::Array(array) => add_narrow(&mut array[bucket as usize], more),
            Self::Wide(array) => {
                let count = &mut array[bucket as usize];
                *count = count.saturating_add(more);
                true
            }
        };
        if !fits {
            self.grow();
            self.add(bucket, more);
        }
    }

    /// Adds a bucket that lies behind all there are.
    pub(crate) fn push(&mut self, bucket: u16, count: u64) {
        match (self, u32::try_from(count)) {
            (Self::List(list), Ok(count)) if list.len() < LIST_MAX && bucket < BUCKETS => {
                list.push((bucket, count));
            }
            (counts, _) => counts.add(bucket, count),
        }
    }

    /// Adds all counts of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        let merged = match (&mut *self, other) {
            (Self::List(list), Self::List(more)) => merge_lists(list, more),
            _ => 0,
        };
        other.iter().skip(merged).for_each(|(bucket, count)| self.add(bucket, count));
    }

    /// From the list to the array, from the array to the wide one.
    fn grow(&mut self) {
        *self = match self {
            Self::List(list) => {
                let mut array = vec![0; BUCKETS as usize].into_boxed_slice();
                for (bucket, count) in list {
                    array[*bucket as usize] = *count;
                }
                Self::Array(array)
            }
            Self::Array(array) => Self::Wide(array.iter().map(|count| u64::from(*count)).collect()),
            Self::Wide(array) => Self::Wide(std::mem::take(array)),
        };
    }

    /// The buckets in use, ascending, with their counts.
    pub(crate) fn iter(&self) -> Iter<'_> {
        match self {
            Self::List(list) => Iter::List(list.iter()),
            Self::Array(array) => Iter::Array(array.iter().enumerate()),
            Self::Wide(array) => Iter::Wide(array.iter().enumerate()),
        }
    }

    /// The bytes held on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::List(list) => list.capacity() * size_of::<(u16, u32)>(),
            Self::Array(array) => size_of_val(&**array),
            Self::Wide(array) => size_of_val(&**array),
        }
    }
}

/// False if the list is full or the count too large for it.
fn add_to_list(list: &mut Vec<(u16, u32)>, bucket: u16, more: u64) -> bool {
    match list.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
        Ok(at) => add_narrow(&mut list[at].1, more),
        Err(at) => match u32::try_from(more) {
            Ok(more) if list.len() < LIST_MAX => {
                list.insert(at, (bucket, more));
                true
            }
            _ => false,
        },
    }
}

/// Adds all of `more`, up to the first that is too much for a list; how many were added.
fn merge_lists(list: &mut Vec<(u16, u32)>, more: &[(u16, u32)]) -> usize {
    let mut at = 0;
    for (nth, &(bucket, count)) in more.iter().enumerate() {
        // Both rise, so the next is near.
        at += list[at..].iter().take_while(|(own, _)| *own < bucket).count();
        if list.get(at).is_some_and(|(own, _)| *own == bucket) {
            if !add_narrow(&mut list[at].1, u64::from(count)) {
                return nth;
            }
        } else if list.len() < LIST_MAX {
            list.insert(at, (bucket, count));
        } else {
            return nth;
        }
    }
    more.len()
}

/// False if the sum does not fit.
fn add_narrow(count: &mut u32, more: u64) -> bool {
    let sum = u32::try_from(more).ok().and_then(|more| count.checked_add(more));
    *count = sum.unwrap_or(*count);
    sum.is_some()
}

/// The buckets in use.
#[derive(Debug, Clone)]
pub(crate) enum Iter<'a> {
    List(std::slice::Iter<'a, (u16, u32)>),
    Array(std::iter::Enumerate<std::slice::Iter<'a, u32>>),
    Wide(std::iter::Enumerate<std::slice::Iter<'a, u64>>),
}

impl Iterator for Iter<'_> {
    type Item = (u16, u64);

    fn next(&mut self) -> Option<(u16, u64)> {
        match self {
            Self::List(list) => list.next().map(|(bucket, count)| (*bucket, u64::from(*count))),
            Self::Array(array) => {
                array.find(|(_, count)| **count > 0).map(|(bucket, count)| (bucket as u16, u64::from(*count)))
            }
            Self::Wide(array) => {
                array.find(|(_, count)| **count > 0).map(|(bucket, count)| (bucket as u16, *count))
            }
        }
    }
}

impl PartialEq for Counts {
    /// Equal counts, however they are held.
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Counts {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_survive_every_growth() {
        let mut counts = Counts::default();
        for bucket in (1..=400).rev() {
            counts.add(bucket, u64::from(bucket));
        }
        assert!(matches!(counts, Counts::Array(_)));
        counts.add(7, u64::from(u32::MAX));
        assert!(matches!(counts, Counts::Wide(_)));
        counts.add(u16::MAX, 3);
        let all: Vec<_> = counts.iter().collect();
        assert_eq!(all.len(), 401);
        assert_eq!((all[0], all[6]), ((1, 1), (7, 7 + u64::from(u32::MAX))));
        assert_eq!(all[400], (BUCKETS - 1, 3));
        counts.add(7, u64::MAX);
        assert_eq!(counts.iter().nth(6), Some((7, u64::MAX)));
    }

    proptest! {
        #[test]
        fn merging_is_adding_one_by_one(
            own in btree_map(0..BUCKETS, 1..u64::from(u32::MAX) + 9, 0..400),
            more in btree_map(0..BUCKETS, 1..u64::from(u32::MAX) + 9, 0..400),
        ) {
            let pushed = |of: &BTreeMap<u16, u64>| {
                let mut counts = Counts::default();
                of.iter().for_each(|(bucket, count)| counts.push(*bucket, *count));
                counts
            };
            let (mut merged, mut added) = (pushed(&own), Counts::default());
            own.iter().chain(&more).for_each(|(bucket, count)| added.add(*bucket, *count));
            merged.merge(&pushed(&more));
            prop_assert_eq!(merged, added);
        }
    }

    #[test]
    fn a_large_count_leaves_the_list_at_once() {
        let mut counts = Counts::default();
        counts.add(5, u64::MAX);
        assert_eq!(counts.iter().collect::<Vec<_>>(), [(5, u64::MAX)]);
    }
}
