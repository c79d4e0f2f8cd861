//! Reads a rollup's values. In what is read, services and operations are the rollup's own numbers.

use hashbrown::HashMap;
use latency::{BucketSums, ExemplarSet, LatencyHistogram};
use prost::Message;
use trace_model::{NanoDuration, OperationId, ServiceId, StatusCode, TraceId};

use crate::codec::{Blocks, Cursor, ReadError, fetch, unpack};
use crate::keys::Key;
use crate::rollup::paths::{ItemKey, ItemSums, PathExemplar, PathSums};
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
    /// Number of their root's operation within the rollup, `None` for traces without one.
    pub root: Option<u32>,
    /// The sums, with items by service and by operation.
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

/// The histograms of a block, for the buckets, operations and statuses that `wanted` says.
///
/// # Errors
/// If the store fails or the block is damaged.
pub fn rolled_histograms(
    blocks: &dyn Blocks,
    tier: Tier,
    block: u32,
    wanted: &dyn Fn(u32, u32, StatusCode) -> bool,
) -> Result<Vec<RolledHistogram>, ReadError> {
    const WHAT: &str = "rolled up histograms";
    let raw = unpack(&fetch(blocks, Key::Minute(block))?, None, WHAT)?;
    let mut cursor = Cursor::new(&raw, WHAT);
    let mut rows = Vec::new();
    while !cursor.is_empty() {
        let bucket = read_bucket(&mut cursor, tier, block)?;
        let operation = cursor.u32()?;
        let status = StatusCode::from_wire(u64::from(cursor.array::<1>()?[0]));
        let (mut histogram, mut exemplars) = (cursor.sized()?, cursor.sized()?);
        if wanted(bucket, operation, status) {
            let histogram = LatencyHistogram::decode(&mut histogram).map_err(|_| cursor.damaged())?;
            let exemplars = ExemplarSet::decode(&mut exemplars).map_err(|_| cursor.damaged())?;
            rows.push(RolledHistogram { bucket, operation, status, histogram, exemplars });
        }
    }
    Ok(rows)
}

fn read_bucket(cursor: &mut Cursor<'_>, tier: Tier, block: u32) -> Result<u32, ReadError> {
    let buckets = tier.buckets(block);
    let bucket = buckets.start.checked_add(cursor.u32()?).filter(|bucket| buckets.contains(bucket));
    bucket.ok_or_else(|| cursor.damaged())
}

/// The critical paths of a block, for the buckets and roots that `wanted` says.
///
/// # Errors
/// If the store fails or the block is damaged.
pub fn rolled_paths(
    blocks: &dyn Blocks,
    tier: Tier,
    block: u32,
    wanted: &dyn Fn(u32, Option<u32>) -> bool,
) -> Result<Vec<RolledPaths>, ReadError> {
    const WHAT: &str = "rolled up critical paths";
    let raw = unpack(&fetch(blocks, Key::RolledPaths(block))?, None, WHAT)?;
    let mut cursor = Cursor::new(&raw, WHAT);
    let mut rows = Vec::new();
    while !cursor.is_empty() {
        let bucket = read_bucket(&mut cursor, tier, block)?;
        let root = cursor.u32()?.checked_sub(1);
        let sums = read_sums(&mut cursor)?;
        if wanted(bucket, root) {
            rows.push(RolledPaths { bucket, root, sums });
        }
    }
    Ok(rows)
}

fn read_sums(cursor: &mut Cursor<'_>) -> Result<PathSums, ReadError> {
    let mut sums = PathSums {
        traces: cursor.u64()?,
        excluded: cursor.u64()?,
        flagged: cursor.u64()?,
        ..PathSums::default()
    };
    let mut latency = cursor.sized()?;
    sums.latency = LatencyHistogram::decode(&mut latency).map_err(|_| cursor.damaged())?;
    for _ in 0..cursor.count()? {
        let (key, item) = read_item(cursor)?;
        if sums.items.insert(key, item).is_some() {
            return Err(cursor.damaged());
        }
    }
    add_services(&mut sums);
    Ok(sums)
}

/// Puts the items of services back that were left out because they repeat their only operation's.
fn add_services(sums: &mut PathSums) {
    let mut only: HashMap<ItemKey, ItemSums> = HashMap::new();
    for (key, item) in &sums.items {
        let service = ItemKey { operation: None, ..*key };
        if !sums.items.contains_key(&service) {
            only.entry(service).or_default().merge(item);
        }
    }
    sums.items.extend(only);
}

fn read_item(cursor: &mut Cursor<'_>) -> Result<(ItemKey, ItemSums), ReadError> {
    let operation = cursor.u32()?.checked_sub(1).map(OperationId);
    let service = ServiceId(cursor.u32()?);
    let edge = match cursor.u32()?.checked_sub(1) {
        None => None,
        Some(client) => Some((ServiceId(client), ServiceId(cursor.u32()?))),
    };
    let sum = u128::from(cursor.u64()?) | u128::from(cursor.u64()?) << 64;
    let (spans, errors) = (cursor.u64()?, cursor.u64()?);
    let (mut present, mut by_root) = (cursor.sized()?, cursor.sized()?);
    let present = LatencyHistogram::decode(&mut present).map_err(|_| cursor.damaged())?;
    let by_root = BucketSums::decode(&mut by_root).map_err(|_| cursor.damaged())?;
    let exemplars = (0..cursor.count()?).map(|_| read_exemplar(cursor)).collect::<Result<_, _>>()?;
    let key = ItemKey { service, operation, edge };
    Ok((key, ItemSums { sum, present, spans, errors, by_root, exemplars }))
}

fn read_exemplar(cursor: &mut Cursor<'_>) -> Result<PathExemplar, ReadError> {
    Ok(PathExemplar {
        trace_id: TraceId::new(cursor.array()?).map_err(|_| cursor.damaged())?,
        root_duration: NanoDuration(cursor.u64()?),
        exclusive: NanoDuration(cursor.u64()?),
    })
}
