//! What a segment is read from: each kind of value by itself.
//!
//! The first byte of an input says how the rest is meant: 0 as it is stored; 1 as the bytes inside the compression,
//! so that damage gets past the checks of the compressor; 2 as the streams of a value that is made of several, after
//! the tables of its segment, each behind its length.

mod dictionary;
mod rolled;
mod sample;
mod values;

use segment::{
    Blocks, ChunkBlock, ChunkTables, ContextBlock, Key, ReadError, RowBlock, TraceHeads, TracePaths,
    decode_minute, decode_segment_meta, open_numbers, trace_hashes,
};
use trace_model::TraceId;

use crate::drive::{Draw, Shape, Target};
use crate::mutate::{take_varint, varint};
pub use dictionary::DICTIONARY;
pub use rolled::{ROLLED_HISTOGRAMS, ROLLED_PATHS, ROLLUP_META};
use sample::{Memory, sealed};
pub use values::{EXEMPLARS, HISTOGRAM};

const fn target(name: &'static str, run: fn(&[u8]) -> bool, draw: fn() -> Draw) -> Target {
    Target { name, shape: Shape::Bytes, inputs: 10_000, run, draw }
}

/// Chunk blocks.
pub const CHUNKS: Target = target("chunks", chunks, || drawn(Key::Chunk(0)));
/// What the chunk blocks of a segment share.
pub const TABLES: Target = target("tables", tables, || drawn(Key::Tables));
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
pub const META: Target = Target { shape: Shape::Protobuf, ..target("meta", meta, drawn_meta) };

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

/// The input as the value of a key.
fn damaged(key: Key, input: &[u8]) -> Damaged {
    let (mode, mut rest) = input.split_first().unwrap_or((&0, &[]));
    let mut others = Memory::default();
    let value = match mode % 3 {
        0 => rest.to_vec(),
        1 => pack(rest),
        _ => {
            others.0.insert(Key::Tables.to_bytes(), pack(take_part(&mut rest)));
            streams(rest)
        }
    };
    Damaged { key, value, rest: others }
}

/// Packs as segments pack a value that is one piece.
fn pack(raw: &[u8]) -> Vec<u8> {
    let mut packed = (raw.len() as u32).to_le_bytes().to_vec();
    packed.extend(zstd::bulk::compress(raw, 1).unwrap());
    packed
}

/// The inside of a stored value, `None` if it is not one piece.
fn unpack(stored: &[u8]) -> Option<Vec<u8>> {
    let (length, packed) = stored.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    zstd::bulk::decompress(packed, length.min(1 << 24)).ok().filter(|raw| raw.len() == length)
}

/// What values of several streams begin with.
const MARK: [u8; 4] = [2, b'L', b'P', 0xff];

/// A length and as many bytes, or as many as there are: a mutated length still leaves the rest to be read.
fn take_part<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let (length, after) = take_varint(rest).unwrap_or((0, &[]));
    let (part, after) = after.split_at(after.len().min(usize::try_from(length).unwrap_or(usize::MAX)));
    *rest = after;
    part
}

fn put_part(out: &mut Vec<u8>, part: &[u8]) {
    out.extend(varint(part.len() as u64));
    out.extend_from_slice(part);
}

/// Three parts and packed bits as a stored value, none of them compressed.
fn streams(mut rest: &[u8]) -> Vec<u8> {
    let mut stored = MARK.to_vec();
    for _ in 0..3 {
        let part = take_part(&mut rest);
        stored.extend(varint(part.len() as u64));
        put_part(&mut stored, part);
    }
    stored.extend_from_slice(rest);
    stored
}

/// The other way round, `None` if the value is one piece.
fn parts(stored: &[u8]) -> Option<Vec<u8>> {
    let mut rest = stored.strip_prefix(&MARK)?;
    let mut out = Vec::new();
    for _ in 0..3 {
        let (length, after) = take_varint(rest)?;
        rest = after;
        let packed = take_part(&mut rest);
        let length = usize::try_from(length).ok()?;
        match packed.len() == length {
            true => put_part(&mut out, packed),
            false => put_part(&mut out, &zstd::bulk::decompress(packed, length).ok()?),
        }
    }
    out.extend_from_slice(rest);
    Some(out)
}

/// As it is stored, and as it is without the compression.
fn drawn_meta() -> Draw {
    Box::new(|dice| {
        let stored = sealed(dice).0.remove(&Key::Meta.to_bytes()).unwrap();
        if dice.one_in(3) {
            return stored;
        }
        prost::Message::encode_to_vec(&decode_segment_meta(&stored).unwrap())
    })
}

/// Values of a key out of sound segments; with the byte that says how they are meant.
fn drawn(key: Key) -> Draw {
    Box::new(move |dice| {
        let mut values = sealed(dice).0;
        let stored = values.remove(&key.to_bytes()).unwrap();
        // A chunk block cannot be read without the tables of its segment.
        let is_chunk = matches!(key, Key::Chunk(_));
        if !is_chunk && dice.one_in(3) {
            return [&[0][..], &stored].concat();
        }
        if let Some(parts) = parts(&stored) {
            let tables = values.get(&Key::Tables.to_bytes()).and_then(|tables| unpack(tables));
            let mut input = vec![2];
            put_part(&mut input, &tables.filter(|_| is_chunk).unwrap_or_default());
            input.extend(parts);
            return input;
        }
        match unpack(&stored) {
            Some(raw) => [&[1][..], &raw].concat(),
            None => [&[0][..], &stored].concat(),
        }
    })
}

fn tables(input: &[u8]) -> bool {
    let Ok(tables) = ChunkTables::read(&damaged(Key::Tables, input)) else { return false };
    let _ = tables.bytes();
    true
}

fn chunks(input: &[u8]) -> bool {
    read_chunks(&damaged(Key::Chunk(0), input))
}

fn read_chunks(blocks: &dyn Blocks) -> bool {
    let Ok(block) = ChunkBlock::read(blocks, 0) else { return false };
    assert!(block.trace_at(u32::MAX).is_err());
    let mut sound = true;
    // Every trace that it names can be looked up.
    for nth in 0..64 {
        let Ok(id) = block.trace_at(nth) else { break };
        match block.spans(&id) {
            Ok(spans) => {
                assert!(spans.len() <= block.bytes(), "no more spans than bytes");
                assert!(spans.iter().all(|span| span.own_context.is_none() || span.context == u32::MAX));
            }
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
    assert_eq!(block.flags.len(), count);
    (0..count).for_each(|row| assert!(block.start_between(row).0 <= block.start_between(row).1));
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
    read_contexts(&damaged(Key::Contexts(0), input))
}

fn read_contexts(blocks: &dyn Blocks) -> bool {
    let Ok(block) = ContextBlock::read(blocks, 0) else { return false };
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
    let Ok(meta) = decode_segment_meta(input) else { return false };
    if meta.packed.is_empty() {
        let again = prost::Message::encode_to_vec(&meta);
        assert_eq!(decode_segment_meta(&again).unwrap(), meta);
    } else {
        assert!(meta.format > segment::FORMAT, "only what is not known is left packed");
    }
    true
}
