//! Builds a rollup, a bucket at a time, so that memory depends on what is in a bucket and a block, and not in the whole.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use latency::{ExemplarSet, LatencyHistogram};
use longpole_proto::rollup as proto;
use prost::Message;
use trace_model::{OperationId, StatusCode, UnixNanos};

use crate::ReadError;
use crate::build::{BuildError, Sink};
use crate::codec::{Packer, put};
use crate::histograms::write_sized;
use crate::keys::Key;
use crate::names::{LocalNames, Names};
use crate::rollup::paths::{ItemKey, ItemSums, PathGrouping, PathSums};
use crate::rollup::{Part, ROLLUP_FORMAT, RollupMeta, Tier};

/// A block of more bytes ends, so that who reads one bucket does not inflate many.
const BLOCK_BYTES: usize = 512 << 10;

/// The histograms of a bucket, by operation and status.
pub type HistogramRows = BTreeMap<(OperationId, StatusCode), (LatencyHistogram, ExemplarSet)>;
/// The critical paths of a bucket by root operation; no root for traces without one.
pub type PathRows = BTreeMap<Option<OperationId>, PathSums>;

/// What a rollup is made of.
pub trait RollupSource {
    /// All histograms of a bucket. Buckets are asked for in rising order.
    ///
    /// # Errors
    /// If what they are made of cannot be read.
    fn histograms(&mut self, bucket: u32) -> Result<HistogramRows, ReadError>;

    /// All critical paths of a bucket. Buckets are asked for in rising order.
    ///
    /// # Errors
    /// If what they are made of cannot be read.
    fn paths(&mut self, bucket: u32) -> Result<PathRows, ReadError>;
}

/// What a rollup says of itself, and which buckets its source has.
#[derive(Clone)]
pub struct RollupInput<'a> {
    /// The width of its buckets.
    pub tier: Tier,
    /// When what it is made of arrived, first instant.
    pub begin: UnixNanos,
    /// The first instant after it.
    pub end: UnixNanos,
    /// Numbers of the segments that it is made of.
    pub segments: Vec<u32>,
    /// Numbers of the rollups that it is made of.
    pub sources: Vec<u64>,
    /// Buckets with histograms.
    pub histogram_buckets: BTreeSet<u32>,
    /// Buckets with critical paths.
    pub path_buckets: BTreeSet<u32>,
    /// The names behind the numbers.
    pub names: &'a dyn Names,
}

impl std::fmt::Debug for RollupInput<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RollupInput({} of {} to {})", self.tier.as_str(), self.begin.0, self.end.0)
    }
}

/// Builds a rollup, handing each value to `sink` in rising key order.
///
/// # Errors
/// If the source, the compressor or the sink fails. What the sink took so far is not a rollup.
pub fn build_rollup(
    input: &RollupInput<'_>,
    source: &mut dyn RollupSource,
    sink: Sink<'_>,
) -> Result<RollupMeta, BuildError> {
    let mut names = LocalNames::new(input.names);
    let mut meta = RollupMeta {
        format: ROLLUP_FORMAT,
        tier: input.tier as u32,
        begin: input.begin.0,
        end: input.end.0,
        segments: input.segments.clone(),
        sources: input.sources.clone(),
        ..RollupMeta::default()
    };
    let mut blocks = BlockWriter::new(input.tier, Key::RolledHistogramsOf)?;
    for &bucket in &input.histogram_buckets {
        let rows = source.histograms(bucket)?;
        if rows.is_empty() {
            continue;
        }
        meta.histogram_buckets.push(bucket);
        meta.spans += rows.values().map(|(histogram, _)| histogram.count()).sum::<u64>();
        blocks.begin(bucket, sink)?;
        write_histograms(&rows, &mut blocks, bucket, &mut names);
    }
    blocks.write(sink)?;
    (meta.histogram_blocks, meta.histogram_parts) = (blocks.firsts, blocks.written);
    let mut blocks = BlockWriter::new(input.tier, Key::RolledPathsOf)?;
    for &bucket in &input.path_buckets {
        let rows = source.paths(bucket)?;
        if rows.is_empty() {
            continue;
        }
        meta.path_buckets.push(bucket);
        meta.traces += rows.values().map(|sums| sums.traces + sums.excluded).sum::<u64>();
        blocks.begin(bucket, sink)?;
        write_paths(rows, &mut blocks, bucket, &mut names);
    }
    blocks.write(sink)?;
    (meta.path_blocks, meta.path_parts) = (blocks.firsts, blocks.written);
    meta.services = names.service_list.iter().map(ToString::to_string).collect();
    let operation = |(service, kind, name): &(u32, trace_model::SpanKind, std::sync::Arc<str>)| {
        proto::Operation { service: *service, kind: *kind as u32, name: name.to_string() }
    };
    meta.operations = names.operation_list.iter().map(operation).collect();
    sink(Key::Meta, &meta.encode_to_vec()).map_err(BuildError::Sink)?;
    Ok(meta)
}

/// The block that is being written, in parts.
struct BlockWriter {
    packer: Packer,
    tier: Tier,
    /// The key of the block with this first bucket, and of a part of it.
    key: fn(u32, u32) -> Key,
    parts: BTreeMap<u32, Vec<u8>>,
    /// The first buckets of all blocks.
    firsts: Vec<u32>,
    /// The parts that were written.
    written: Vec<proto::Part>,
}

impl BlockWriter {
    fn new(tier: Tier, key: fn(u32, u32) -> Key) -> Result<Self, BuildError> {
        let (firsts, written) = (Vec::new(), Vec::new());
        Ok(Self { packer: Packer::new()?, tier, key, parts: BTreeMap::new(), firsts, written })
    }

    /// Rows of this bucket come next.
    fn begin(&mut self, bucket: u32, sink: Sink<'_>) -> Result<(), BuildError> {
        let is_full = self.parts.values().map(Vec::len).sum::<usize>() >= BLOCK_BYTES;
        let is_over = |first: u32| bucket - first >= self.tier.per_block() || is_full;
        if self.firsts.last().is_none_or(|first| is_over(*first)) {
            self.write(sink)?;
            self.firsts.push(bucket);
        }
        Ok(())
    }

    /// Begins a row in a part of the block.
    fn row(&mut self, part: Part, bucket: u32) -> &mut Vec<u8> {
        let first = self.firsts.last().copied().unwrap_or(bucket);
        let raw = self.parts.entry(part.stored().unwrap_or_default()).or_default();
        put(raw, u64::from(bucket - first));
        raw
    }

    fn write(&mut self, sink: Sink<'_>) -> Result<(), BuildError> {
        let Some(&first) = self.firsts.last() else { return Ok(()) };
        for (of, raw) in std::mem::take(&mut self.parts) {
            sink((self.key)(first, of), &self.packer.pack(&raw)?).map_err(BuildError::Sink)?;
            self.written.push(proto::Part { first, of });
        }
        Ok(())
    }
}

/// `{ bucket within the block, operation, status u8, sized histogram, sized exemplars } ...`
fn write_histograms(rows: &HistogramRows, blocks: &mut BlockWriter, bucket: u32, names: &mut LocalNames<'_>) {
    for ((operation, status), (histogram, exemplars)) in rows {
        let operation = names.operation(*operation);
        let raw = blocks.row(Part::Service(names.operation_list[operation as usize].0), bucket);
        put(raw, u64::from(operation));
        raw.push(*status as u8);
        write_sized(raw, |out| histogram.encode(out));
        write_sized(raw, |out| exemplars.encode(out));
    }
}

/// `{ bucket within the block, root operation + 1 or 0, length, traces, excluded, flagged, sized latency, items } ...`; the
/// length is that of what follows, so that other roots are passed over. Then all roots together, with the items of services and not of operations:
/// these take a twelfth more room, with operations it would be two fifths.
fn write_paths(rows: PathRows, blocks: &mut BlockWriter, bucket: u32, names: &mut LocalNames<'_>) {
    let mut all = PathSums::default();
    for (root, mut sums) in rows {
        let root = root.map(|root| names.operation(root));
        let part = root.map_or(Part::Rootless, |root| Part::Service(names.operation_list[root as usize].0));
        let raw = blocks.row(part, bucket);
        put(raw, root.map_or(0, |root| u64::from(root) + 1));
        write_sums(raw, &sums, names);
        sums.items.retain(|key, _| PathGrouping::Service.takes(key));
        all.merge(sums, |key| key);
    }
    let raw = blocks.row(Part::Together, bucket);
    put(raw, 0);
    write_sums(raw, &all, names);
}

fn write_sums(raw: &mut Vec<u8>, sums: &PathSums, names: &mut LocalNames<'_>) {
    write_sized(raw, |out| {
        for number in [sums.traces, sums.excluded, sums.flagged] {
            put(out, number);
        }
        write_sized(out, |out| sums.latency.encode(out));
        write_items(out, sums, names);
    });
}

/// A service's item that just repeats its only operation's is left out.
fn write_items(raw: &mut Vec<u8>, sums: &PathSums, names: &mut LocalNames<'_>) {
    let mut operations: HashMap<ItemKey, u32> = HashMap::new();
    for key in sums.items.keys().filter(|key| key.operation.is_some()) {
        *operations.entry(ItemKey { operation: None, ..*key }).or_default() += 1;
    }
    let repeats = |key: &ItemKey| key.operation.is_none() && operations.get(key) == Some(&1);
    let mut items: Vec<(&ItemKey, &ItemSums)> = sums.items.iter().filter(|(key, _)| !repeats(key)).collect();
    items.sort_unstable_by_key(|(key, _)| **key);
    put(raw, items.len() as u64);
    for (key, item) in items {
        write_item(raw, key, item, names);
    }
}

/// `operation + 1 or 0, service, client + 1 or 0, [server], sum low, sum high, spans, errors, sized times by trace,
/// sized times by root, exemplars, { trace id 16, root duration, time } ...`
fn write_item(raw: &mut Vec<u8>, key: &ItemKey, item: &ItemSums, names: &mut LocalNames<'_>) {
    put(raw, key.operation.map_or(0, |operation| u64::from(names.operation(operation)) + 1));
    put(raw, u64::from(names.service(key.service)));
    match key.edge {
        None => put(raw, 0),
        Some((client, server)) => {
            put(raw, u64::from(names.service(client)) + 1);
            put(raw, u64::from(names.service(server)));
        }
    }
    for number in [item.sum as u64, (item.sum >> 64) as u64, item.spans, item.errors] {
        put(raw, number);
    }
    write_sized(raw, |out| item.present.encode(out));
    write_sized(raw, |out| item.by_root.encode(out));
    put(raw, item.exemplars.len() as u64);
    for exemplar in &item.exemplars {
        raw.extend_from_slice(exemplar.trace_id.as_bytes());
        put(raw, exemplar.root_duration.0);
        put(raw, exemplar.exclusive.0);
    }
}
