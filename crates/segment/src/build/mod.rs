//! Builds a segment: sorts a stretch of the log by trace, derives everything, and hands the values out in key
//! order. The meta comes last and commits the rest.
//!
//! The spans' messages are about half of the work and everything else the other half; they are done side by side, since
//! full load waits for sealing.

mod derived;
mod layout;
mod spans;

use std::sync::Arc;

use derived::Derived;
use layout::Layout;
use longpole_proto::segment as proto;
use spans::write_chunks;
use trace_model::{TraceId, UnixNanos};

use crate::codec::{Packer, SMALL_BYTES};
use crate::contexts::ContextTable;
use crate::dictionary::Dictionary;
use crate::hashes::{self, trace_hash};
use crate::keys::Key;
use crate::live::LiveBatch;
use crate::meta;
use crate::names::{LocalNames, Names};
use crate::order::in_trace_order;
use crate::traces::TraceRow;

/// What a segment is made of.
#[derive(Clone, Copy)]
pub struct SegmentInput<'a> {
    /// The live batches, in order of arrival, repeated spans left out.
    pub batches: &'a [Arc<LiveBatch>],
    /// The log frames that become superfluous, both inclusive; `None` for a segment of analyses alone.
    pub frames: Option<(u64, u64)>,
    /// Traces that were analysed since the last cut.
    pub analysed: &'a [Arc<TraceRow>],
    /// Traces with spans in this segment whose analysis is still to come.
    pub open: &'a [TraceId],
    /// Segments that took arrivals from here on name every trace that was open at this cut; `None` if none was.
    pub open_since: Option<UnixNanos>,
    /// The names behind the numbers.
    pub names: &'a dyn Names,
    /// What a small segment's texts are compressed with.
    pub dictionary: Option<&'a Dictionary>,
    /// Stands for the arrival of a segment without spans.
    pub now: UnixNanos,
}

impl std::fmt::Debug for SegmentInput<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SegmentInput({} batches, {} traces)", self.batches.len(), self.analysed.len())
    }
}

/// Why a segment could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The compressor failed.
    #[error("cannot compress a block: {0}")]
    Compress(#[from] std::io::Error),
    /// There is no thread to be had.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
    /// Whoever takes the values failed.
    #[error("{0}")]
    Sink(String),
    /// What it is made of cannot be read.
    #[error(transparent)]
    Source(#[from] crate::ReadError),
}

/// Takes values in rising key order.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(Key, &[u8]) -> Result<(), String>;

/// Builds a segment, handing each value to `sink` in rising key order.
///
/// # Errors
/// If the compressor or the sink fails. What the sink took so far is not a segment.
pub fn build(input: &SegmentInput<'_>, sink: Sink<'_>) -> Result<proto::SegmentMeta, BuildError> {
    let raw_bytes: usize = input.batches.iter().map(|batch| batch.request.len()).sum();
    let packing = Packing { is_small: raw_bytes < SMALL_BYTES };
    let dictionary = input.dictionary.filter(|_| packing.is_small);
    let text_packer = match dictionary {
        Some(dictionary) => Packer::of_small(Some(dictionary.bytes()))?,
        None => packing.packer()?,
    };
    let mut writer = Writer { sink, bytes: 0, text_packer };
    let mut names = LocalNames::new(input.names);
    let order = in_trace_order(input.batches);
    let mut meta = head(input, order.len());
    meta.dictionary = dictionary.map_or(0, Dictionary::id);

    let traces = order.chunk_by(|a, b| a.2.trace_id == b.2.trace_id);
    let hashes = traces.map(|spans| trace_hash(&spans[0].2.trace_id)).collect();
    writer.put(Key::Hashes, &hashes::encode(hashes))?;
    let Layout { rows, counted, kinds_of_call, open } = Layout::of(&order, input.open, &mut names, &mut meta);
    let mut contexts = ContextTable::default();
    let derive = || Derived::of(rows, &counted, &order, input.analysed, names, packing);
    let write = || write_chunks(&order, &kinds_of_call, &mut contexts, &mut meta, &mut writer);
    let (derived, written) = beside(derive, write)?;
    let derived = derived?;
    written?;
    writer.put_all(&derived.sorted)?;
    for (number, block) in contexts.blocks(&mut writer.text_packer)?.iter().enumerate() {
        writer.put(Key::Contexts(number as u32), block)?;
    }
    writer.put_all(&derived.minutes)?;
    if !open.as_bytes().is_empty() {
        writer.put(Key::Open, open.as_bytes())?;
    }
    derived.describe(&mut meta);
    if meta.spans == 0 {
        meta.start_min = 0;
    }
    meta.bytes = writer.bytes;
    let stored = meta::encode(&meta, &mut packing.packer()?)?;
    writer.put(Key::Meta, &stored)?;
    Ok(meta)
}

/// Runs both, the first in a thread of its own.
fn beside<A: Send, B>(
    first: impl FnOnce() -> A + Send,
    second: impl FnOnce() -> B,
) -> Result<(A, B), BuildError> {
    std::thread::scope(|scope| {
        let named = std::thread::Builder::new().name("deriving".to_owned());
        let first = named.spawn_scoped(scope, first).map_err(BuildError::Thread)?;
        let second = second();
        let first = first.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((first, second))
    })
}

/// How values are compressed.
#[derive(Clone, Copy)]
struct Packing {
    is_small: bool,
}

impl Packing {
    fn packer(self) -> std::io::Result<Packer> {
        if self.is_small { Packer::of_small(None) } else { Packer::new() }
    }
}

struct Writer<'a> {
    sink: Sink<'a>,
    bytes: u64,
    /// With the dictionary, if there is one.
    text_packer: Packer,
}

impl Writer<'_> {
    fn put(&mut self, key: Key, value: &[u8]) -> Result<(), BuildError> {
        self.bytes += value.len() as u64;
        (self.sink)(key, value).map_err(BuildError::Sink)
    }

    fn put_all(&mut self, values: &[(Key, Vec<u8>)]) -> Result<(), BuildError> {
        values.iter().try_for_each(|(key, value)| self.put(*key, value))
    }
}

fn head(input: &SegmentInput<'_>, spans: usize) -> proto::SegmentMeta {
    let (seq_low, seq_high) = input.frames.unwrap_or((0, 0));
    let arrivals = || input.batches.iter().map(|batch| batch.arrival.0);
    proto::SegmentMeta {
        format: crate::FORMAT,
        seq_low,
        seq_high,
        spans: spans as u64,
        arrival_min: arrivals().min().unwrap_or(input.now.0),
        arrival_max: arrivals().max().unwrap_or(input.now.0),
        start_min: u64::MAX,
        open_since: input.open_since.map_or(0, |since| since.0),
        revised_traces: input
            .analysed
            .iter()
            .filter(|row| row.revised)
            .flat_map(|row| *row.trace_id.as_bytes())
            .collect(),
        ..proto::SegmentMeta::default()
    }
}
