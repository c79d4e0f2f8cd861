//! What a segment is read from: each kind of value by itself.
//!
//! The first byte of an input says how the rest is meant: 0 as it is stored, 1 as the bytes inside the compression,
//! so that damage gets past the checks of the compressor.

mod sample;
mod values;

use segment::{
    Blocks, ChunkBlock, ContextBlock, Key, ReadError, RowBlock, SegmentMeta, TraceHeads, TracePaths,
    decode_minute, open_numbers, trace_hashes,
};
use trace_model::TraceId;

use crate::drive::{Draw, Shape, Target};
use sample::{Memory, sealed};
pub use values::{EXEMPLARS, HISTOGRAM};

const fn target(name: &'static str, run: fn(&[u8]) -> bool, draw: fn() -> Draw) -> Target {
    Target { name, shape: Shape::Bytes, inputs: 10_000, run, draw }
}

/// Chunk blocks, with the tables of their segment.
pub const CHUNKS: Target = target("chunks", chunks, drawn_chunk);
/// Row blocks.
pub const ROWS: Target = target("rows", rows, || drawn(Key::Rows(0)));
/// Heads of analysed traces.
pub const HEADS: Target = target("heads", heads, || drawn(Key::Traces(0)));
/// Critical-path shares.
pub const PATHS: Target = target("paths", paths, || drawn(Key::Paths(0)));
/// Contexts.
pub const CONTEXTS: Target = target("contexts", contexts, || drawn(Key::Contexts(0)));
/// Histograms of a minute.
pub const MINUTES: Target = target("minutes", minutes, || drawn(Key::Minute(sample::MINUTE)));
/// The hashes of trace ids.
pub const HASHES: Target = target("hashes", hashes, || drawn(Key::Hashes));
/// What a segment says about itself.
pub const META: Target =
    Target { shape: Shape::Protobuf, ..target("meta", meta, || drawn_as(Key::Meta, false)) };

/// Answers one key with the input and the others with a sound segment.
#[derive(Debug)]
struct Damaged {
    key: Key,
    value: Vec<u8>,
    rest: Memory,
}

impl Blocks for Damaged {
    fn get(&self, key: Key) -> Result<Option<Vec<u8>>, ReadError> {
        if key == self.key { Ok(Some(self.value.clone())) } else { self.rest.get(key) }
    }
}

/// The input as the value of a key; how many bytes it can hold at most when inflated.
fn damaged(key: Key, input: &[u8]) -> Damaged {
    let (mode, rest) = input.split_first().unwrap_or((&0, &[]));
    let value = if mode & 1 == 0 { rest.to_vec() } else { pack(rest) };
    Damaged { key, value, rest: Memory::default() }
}

/// Packs as segments do.
fn pack(raw: &[u8]) -> Vec<u8> {
    let mut packed = (raw.len() as u32).to_le_bytes().to_vec();
    packed.extend(zstd::bulk::compress(raw, 1).unwrap());
    packed
}

/// The inside of a stored value, `None` if it is not compressed that way.
fn unpack(stored: &[u8]) -> Option<Vec<u8>> {
    let (length, packed) = stored.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    zstd::bulk::decompress(packed, length.min(1 << 24)).ok().filter(|raw| raw.len() == length)
}

fn drawn(key: Key) -> Draw {
    drawn_as(key, true)
}

/// Values of a key out of sound segments; with the byte that says how they are meant.
fn drawn_as(key: Key, with_mode: bool) -> Draw {
    Box::new(move |dice| {
        let stored = sealed(dice).0.remove(&key.to_bytes()).unwrap();
        if !with_mode {
            return stored;
        }
        let raw = if dice.one_in(3) { None } else { unpack(&stored) };
        match raw {
            Some(raw) => [&[1][..], &raw].concat(),
            None => [&[0][..], &stored].concat(),
        }
    })
}

/// A block and the tables that it points to: u32 length of the tables, tables, block.
fn drawn_chunk() -> Draw {
    Box::new(|dice| {
        let mut values = sealed(dice).0;
        let tables = values.remove(&Key::Tables.to_bytes()).unwrap_or_default();
        let block = values.remove(&Key::Chunk(0).to_bytes()).unwrap();
        [&(tables.len() as u32).to_le_bytes()[..], &tables, &block].concat()
    })
}

fn chunks(input: &[u8]) -> bool {
    let (length, rest) = input.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
    let (tables, block) = rest.split_at((u32::from_le_bytes(*length) as usize).min(rest.len()));
    let mut rest = Memory::default();
    rest.0.insert(Key::Tables.to_bytes(), tables.to_vec());
    let blocks = Damaged { key: Key::Chunk(0), value: block.to_vec(), rest };
    let Ok(block) = ChunkBlock::read(&blocks, 0) else { return false };
    assert!(block.trace_at(u32::MAX).is_err());
    let mut sound = true;
    // Every trace that it names can be looked up.
    for nth in 0..64 {
        let Ok(id) = block.trace_at(nth) else { break };
        match block.spans(&id) {
            Ok(spans) => assert!(spans.len() <= block.bytes()),
            Err(_) => sound = false,
        }
    }
    if let Ok(ids) = block.trace_ids() {
        let looked_up = (0..ids.len().min(64) as u32).map(|nth| block.trace_at(nth).unwrap());
        assert!(looked_up.eq(ids.iter().copied().take(64)));
    }
    let absent = TraceId::new([0xee; 16]).unwrap();
    sound & block.spans(&absent).is_ok()
}

fn rows(input: &[u8]) -> bool {
    let Ok(block) = RowBlock::read(&damaged(Key::Rows(0), input), 0) else { return false };
    let count = block.len();
    assert_eq!(block.is_empty(), count == 0);
    assert_eq!([block.starts.len(), block.flags.len()], [count; 2]);
    assert_eq!([block.traces.len(), block.spans.len(), block.operations.len()], [count; 3]);
    assert!(block.durations.is_sorted_by(|a, b| a >= b));
    (0..count).for_each(|row| assert!((block.status(row) as u8) < 3));
    true
}

fn heads(input: &[u8]) -> bool {
    let Ok(heads) = TraceHeads::read(&damaged(Key::Traces(0), input), 0) else { return false };
    assert!(heads.rows.iter().all(|row| row.shares.is_empty()));
    true
}

fn paths(input: &[u8]) -> bool {
    TracePaths::read(&damaged(Key::Paths(0), input), 0).is_ok()
}

fn contexts(input: &[u8]) -> bool {
    let Ok(block) = ContextBlock::read(&damaged(Key::Contexts(0), input), 0) else { return false };
    let found: Vec<&[u8]> = (0..64).map_while(|number| block.get(number).ok()).collect();
    assert_eq!(found.iter().map(|context| context.len()).sum::<usize>(), block.bytes());
    true
}

fn minutes(input: &[u8]) -> bool {
    let blocks = damaged(Key::Minute(9), input);
    let none = decode_minute(&blocks, 9, &|_, _| false);
    let Ok(rows) = decode_minute(&blocks, 9, &|_, _| true) else { return false };
    assert!(none.is_ok_and(|none| none.is_empty()), "what can be read can be skipped");
    for row in &rows {
        values::use_histogram(&row.histogram);
        values::use_exemplars(&row.exemplars);
    }
    true
}

fn hashes(input: &[u8]) -> bool {
    let blocks = damaged(Key::Hashes, input);
    let Ok(hashes) = trace_hashes(&blocks, 0) else { return false };
    assert!(hashes.is_sorted());
    let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect();
    assert_eq!(bytes, blocks.value);
    // The traces that were open are read from a value of the same look, and any bytes are one.
    let open = open_numbers(&damaged(Key::Open, input)).unwrap();
    assert!(open.is_sorted_by(|a, b| a < b));
    assert_eq!(open.len() as u32, blocks.value.iter().map(|byte| byte.count_ones()).sum::<u32>());
    true
}

fn meta(input: &[u8]) -> bool {
    let Ok(meta) = <SegmentMeta as prost::Message>::decode(input) else { return false };
    let again = prost::Message::encode_to_vec(&meta);
    assert_eq!(<SegmentMeta as prost::Message>::decode(&again[..]).unwrap(), meta);
    true
}
