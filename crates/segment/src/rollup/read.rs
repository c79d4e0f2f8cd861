//! Reads a rollup's values. In what is read, services and operations are the rollup's own numbers.

use hashbrown::{HashMap, HashSet};
use latency::{BucketSums, ExemplarSet, LatencyHistogram};
use prost::Message;
use trace_model::{NanoDuration, OperationId, ServiceId, StatusCode, TraceId};

use crate::codec::{Blocks, Cursor, ReadError, fetch, unpack};
use crate::keys::Key;
use crate::rollup::blocks::RollupBlock;
use crate::rollup::paths::{ItemKey, ItemSums, PathExemplar, PathGrouping, PathSums};
use crate::rollup::{ROLLUP_FORMAT, RollupMeta, Tier};

/// One stored histogram.
#[derive(Debug)]
pub struct RolledHistogram {
    /// The bucket of the spans' ends.
    pub bucket: u32,
    /// Number of the operation within the rollup.
    pub operation: u32,
    /// The status of the counted spans.
    pub status: StatusCode,
    /// What was counted.
    pub histogram: LatencyHistogram,
    /// Spans that stand for it. They themselves may be gone.
    pub exemplars: ExemplarSet,
}

/// What the critical paths of some traces are made of.
#[derive(Debug)]
pub struct RolledPaths {
    /// The bucket of the traces' starts.
    pub bucket: u32,
    /// Number of their root's operation within the rollup, `None` for traces without one and for all together.
    pub root: Option<u32>,
    /// The sums, with the items that were asked for.
    pub sums: PathSums,
}

/// Reads a rollup's meta, and the width of its buckets.
///
/// # Errors
/// If it is damaged or of a newer format.
pub fn decode_meta(bytes: &[u8]) -> Result<(Tier, RollupMeta), ReadError> {
    let damaged = || ReadError::Damaged("rollup meta");
    let meta = RollupMeta::decode(bytes).map_err(|_| damaged())?;
    if meta.format == 0 || meta.format > ROLLUP_FORMAT {
        return Err(damaged());
    }
    Ok((Tier::from_stored(meta.tier).ok_or_else(damaged)?, meta))
}

/// Tells `each` the histograms of a block, for the buckets, operations and statuses that `wanted` says, one at a time.
///
/// # Errors
/// If the store fails or the block is damaged; `each` may have been told some of it.
pub fn rolled_histograms(
    blocks: &dyn Blocks,
    block: RollupBlock,
    wanted: &dyn Fn(u32, u32, StatusCode) -> bool,
    each: &mut dyn FnMut(RolledHistogram),
) -> Result<(), ReadError> {
    const WHAT: &str = "rolled up histograms";
    let key = match block.part.stored() {
        Some(part) => Key::RolledHistogramsOf(block.number, part),
        None => Key::Minute(block.number),
    };
    let raw = unpack(&fetch(blocks, key)?, None, WHAT)?;
    let mut cursor = Cursor::new(&raw, WHAT);
    while !cursor.is_empty() {
        let bucket = read_bucket(&mut cursor, block)?;
        let operation = cursor.u32()?;
        let status = StatusCode::from_wire(u64::from(cursor.array::<1>()?[0]));
        let (mut histogram, mut exemplars) = (cursor.sized()?, cursor.sized()?);
        if wanted(bucket, operation, status) {
            let histogram = LatencyHistogram::decode(&mut histogram).map_err(|_| cursor.damaged())?;
            let exemplars = ExemplarSet::decode(&mut exemplars).map_err(|_| cursor.damaged())?;
            each(RolledHistogram { bucket, operation, status, histogram, exemplars });
        }
    }
    Ok(())
}

fn read_bucket(cursor: &mut Cursor<'_>, block: RollupBlock) -> Result<u32, ReadError> {
    let bucket = block.first.checked_add(cursor.u32()?).filter(|bucket| *bucket < block.end);
    bucket.ok_or_else(|| cursor.damaged())
}

/// Tells `each` the critical paths of a block, for the buckets and roots that `wanted` says, one at a time, with the items
/// that `by` tells apart. Of all roots together there is one without a root for each bucket.
///
/// # Errors
/// If the store fails or the block is damaged; `each` may have been told some of it.
pub fn rolled_paths(
    blocks: &dyn Blocks,
    block: RollupBlock,
    by: PathGrouping,
    wanted: &dyn Fn(u32, Option<u32>) -> bool,
    each: &mut dyn FnMut(RolledPaths),
) -> Result<(), ReadError> {
    const WHAT: &str = "rolled up critical paths";
    let key = match block.part.stored() {
        Some(part) => Key::RolledPathsOf(block.number, part),
        None => Key::RolledPaths(block.number),
    };
    let raw = unpack(&fetch(blocks, key)?, None, WHAT)?;
    let mut cursor = Cursor::new(&raw, WHAT);
    while !cursor.is_empty() {
        let bucket = read_bucket(&mut cursor, block)?;
        let root = cursor.u32()?.checked_sub(1);
        let is_wanted = wanted(bucket, root);
        let sums = if block.is_sized {
            let mut sized = Cursor::new(cursor.sized()?, WHAT);
            if !is_wanted {
                continue;
            }
            let sums = read_sums(&mut sized, by)?;
            sized.end()?;
            sums
        } else {
            // Where it ends is known only when it is read.
            read_sums(&mut cursor, by)?
        };
        if is_wanted {
            each(RolledPaths { bucket, root, sums });
        }
    }
    Ok(())
}

/// Sums with the items that `by` tells apart.
fn read_sums(cursor: &mut Cursor<'_>, by: PathGrouping) -> Result<PathSums, ReadError> {
    let mut sums = PathSums {
        traces: cursor.u64()?,
        excluded: cursor.u64()?,
        flagged: cursor.u64()?,
        ..PathSums::default()
    };
    let mut latency = cursor.sized()?;
    sums.latency = LatencyHistogram::decode(&mut latency).map_err(|_| cursor.damaged())?;
    let mut items = Items { found: HashMap::new(), services: HashSet::new() };
    for _ in 0..cursor.count()? {
        items.add(&StoredItem::read(cursor)?, by)?;
    }
    sums.items = items.found;
    Ok(sums)
}

/// The items that are wanted. Those of services that were left out because they repeat their only operation's are put
/// back: of a service, its own items come first.
struct Items {
    found: HashMap<ItemKey, ItemSums>,
    /// Services that have an item of their own.
    services: HashSet<ItemKey>,
}

impl Items {
    fn add(&mut self, item: &StoredItem<'_>, by: PathGrouping) -> Result<(), ReadError> {
        let service = ItemKey { operation: None, ..item.key };
        let is_own = item.key.operation.is_none();
        if is_own && !self.services.insert(service) {
            return Err(item.damaged());
        }
        let stands_for_service = !is_own && !self.services.contains(&service);
        let (own, of_service) = (by.takes(&item.key), stands_for_service && by.takes(&service));
        if !own && !of_service {
            return Ok(());
        }
        let sums = item.decode()?;
        if of_service {
            self.found.entry(service).or_default().merge(&sums);
        }
        if own && self.found.insert(item.key, sums).is_some() {
            return Err(item.damaged());
        }
        Ok(())
    }
}

/// An item before its histograms are decoded.
struct StoredItem<'a> {
    key: ItemKey,
    sum: u128,
    spans: u64,
    errors: u64,
    present: &'a [u8],
    by_root: &'a [u8],
    exemplars: Vec<PathExemplar>,
    what: &'static str,
}

impl<'a> StoredItem<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, ReadError> {
        let operation = cursor.u32()?.checked_sub(1).map(OperationId);
        let service = ServiceId(cursor.u32()?);
        let edge = match cursor.u32()?.checked_sub(1) {
            None => None,
            Some(client) => Some((ServiceId(client), ServiceId(cursor.u32()?))),
        };
        Ok(Self {
            key: ItemKey { service, operation, edge },
            sum: u128::from(cursor.u64()?) | u128::from(cursor.u64()?) << 64,
            spans: cursor.u64()?,
            errors: cursor.u64()?,
            present: cursor.sized()?,
            by_root: cursor.sized()?,
            exemplars: (0..cursor.count()?).map(|_| read_exemplar(cursor)).collect::<Result<_, _>>()?,
            what: cursor.what(),
        })
    }

    fn damaged(&self) -> ReadError {
        ReadError::Damaged(self.what)
    }

    fn decode(&self) -> Result<ItemSums, ReadError> {
        let (mut present, mut by_root) = (self.present, self.by_root);
        Ok(ItemSums {
            sum: self.sum,
            present: LatencyHistogram::decode(&mut present).map_err(|_| self.damaged())?,
            spans: self.spans,
            errors: self.errors,
            by_root: BucketSums::decode(&mut by_root).map_err(|_| self.damaged())?,
            exemplars: self.exemplars.clone(),
        })
    }
}

fn read_exemplar(cursor: &mut Cursor<'_>) -> Result<PathExemplar, ReadError> {
    Ok(PathExemplar {
        trace_id: TraceId::new(cursor.array()?).map_err(|_| cursor.damaged())?,
        root_duration: NanoDuration(cursor.u64()?),
        exclusive: NanoDuration(cursor.u64()?),
    })
}
