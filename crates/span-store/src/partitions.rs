//! The partitions at start: which column families count, and which segments are in them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use trace_model::UnixNanos;

use crate::database::Database;
use crate::error::StoreError;
use crate::open;
use crate::options::StoreOptions;
use crate::partition::{FamilyName, Partition, PartitionId, SegmentId};
use crate::parts::in_parts;
use crate::store::StoredSegment;

/// What was found of the partitions.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// Oldest first.
    pub(crate) partitions: Vec<Arc<Partition>>,
    /// By number.
    pub(crate) segments: Vec<StoredSegment>,
    /// The number of the next segment.
    pub(crate) next_segment: u32,
    pub(crate) damaged: Vec<String>,
    /// Families that do not count and are to be dropped.
    pub(crate) left_behind: Vec<String>,
}

/// Reads the partitions among `families`, without those that an interrupted or finished merge left behind.
pub(crate) fn load(
    db: &Arc<Database>,
    families: &[String],
    options: &StoreOptions,
) -> Result<Loaded, StoreError> {
    let mut loaded = Loaded::default();
    let mut found = Vec::new();
    let named = |family: &String| Some((family.clone(), FamilyName::parse(family)?));
    let partitions: Vec<_> = families.iter().filter_map(named).collect();
    let parts = in_parts(&partitions, 1, |part| {
        let read = part.iter().map(|(family, name)| {
            let mut damaged = Vec::new();
            let (partition, segments, next) = read(db, family, *name, options, &mut damaged)?;
            Ok((next, (partition, segments, damaged)))
        });
        read.collect::<Result<Vec<_>, StoreError>>()
    });
    for part in parts {
        for (next, of_partition) in part? {
            loaded.next_segment = loaded.next_segment.max(next);
            found.push(of_partition);
        }
    }
    let left = left_behind(&found);
    for (at, (partition, segments, damaged)) in found.into_iter().enumerate() {
        if left.contains(&at) {
            loaded.left_behind.push(partition.family.clone());
            continue;
        }
        loaded.partitions.push(partition);
        loaded.segments.extend(segments);
        loaded.damaged.extend(damaged);
    }
    loaded.partitions.sort_unstable_by_key(|partition| partition.id);
    loaded.segments.sort_unstable_by_key(|stored| stored.handle.id);
    measure(db, &mut loaded)?;
    Ok(loaded)
}

type Found = (Arc<Partition>, Vec<StoredSegment>, Vec<String>);

/// A merge puts whole new families in the place of old ones and keeps the number of the last segment of each
/// group: of two families with a segment in common the later generation counts, and a later generation without
/// segments is one that a crash kept from getting any.
fn left_behind(found: &[Found]) -> Vec<usize> {
    let mut newest: HashMap<SegmentId, u32> = HashMap::new();
    for (partition, segments, _) in found {
        for stored in segments {
            let generation = newest.entry(stored.handle.id).or_default();
            *generation = partition.id.generation.max(*generation);
        }
    }
    let replaced = |partition: &Partition, segments: &[StoredSegment]| {
        let of = |stored: &StoredSegment| newest.get(&stored.handle.id).copied().unwrap_or_default();
        segments.iter().any(|stored| of(stored) > partition.id.generation)
    };
    let unfilled = |partition: &Partition, segments: &[StoredSegment], damaged: &[String]| {
        partition.id.generation > 0 && segments.is_empty() && damaged.is_empty()
    };
    let left = found.iter().enumerate().filter(|(_, (partition, segments, damaged))| {
        replaced(partition, segments) || unfilled(partition, segments, damaged)
    });
    left.map(|(at, _)| at).collect()
}

fn read(
    db: &Arc<Database>,
    family: &str,
    name: FamilyName,
    options: &StoreOptions,
    damaged: &mut Vec<String>,
) -> Result<(Arc<Partition>, Vec<StoredSegment>, u32), StoreError> {
    let id = match name {
        FamilyName::Whole(id) => id,
        FamilyName::Slice(number) => slice(number, options.slice()),
    };
    let mut partition = Arc::new(Partition::of_family(id, family.to_owned()));
    let (mut segments, next) = open::segments(db, &partition, damaged)?;
    if matches!(name, FamilyName::Slice(_))
        && let Some(id) = arrivals_outside(id, &segments)
    {
        partition = Arc::new(Partition::of_family(id, family.to_owned()));
        segments.iter_mut().for_each(|stored| stored.handle.partition = Arc::clone(&partition));
    }
    Ok((partition, segments, next))
}

/// The slice of this number.
pub(crate) fn slice(number: u64, width: u64) -> PartitionId {
    let begin = number.saturating_mul(width);
    PartitionId { begin: UnixNanos(begin), end: UnixNanos(begin.saturating_add(width)), generation: 0 }
}

/// If the slice was cut with another width than now, the range that its segments tell.
fn arrivals_outside(id: PartitionId, segments: &[StoredSegment]) -> Option<PartitionId> {
    let first = segments.iter().map(|stored| stored.meta.arrival_min).min()?;
    let last = segments.iter().map(|stored| stored.meta.arrival_max).max()?;
    let outside = first < id.begin.0 || last >= id.end.0;
    let (begin, end) = (UnixNanos(first), UnixNanos(last.saturating_add(1)));
    outside.then_some(PartitionId { begin, end, generation: id.generation })
}

/// Takes the bytes of the files: a segment is one.
fn measure(db: &Database, loaded: &mut Loaded) -> Result<(), StoreError> {
    let mut sizes: HashMap<(String, SegmentId), u64> = HashMap::new();
    for file in db.get()?.live_files()? {
        let number = file.start_key.as_ref().and_then(|key| key.first_chunk::<4>());
        let Some(number) = number.copied().map(u32::from_be_bytes) else { continue };
        *sizes.entry((file.column_family_name, SegmentId(number))).or_default() += file.size as u64;
    }
    for stored in &mut loaded.segments {
        let partition = &stored.handle.partition;
        let size = sizes.remove(&(partition.family.clone(), stored.handle.id)).unwrap_or_default();
        stored.handle.bytes = size;
    }
    for partition in &loaded.partitions {
        let of = loaded.segments.iter().filter(|stored| Arc::ptr_eq(&stored.handle.partition, partition));
        partition.bytes.store(of.map(|stored| stored.handle.bytes).sum(), Ordering::Release);
    }
    Ok(())
}
