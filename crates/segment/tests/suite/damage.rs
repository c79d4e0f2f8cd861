//! Bytes that are not what was written end in an error or in other values, never in a panic.

use proptest::prelude::*;
use proptest::sample::Index;
use segment::{
    Blocks, ChunkBlock, ContextBlock, Key, ReadError, RowBlock, TraceHeads, TracePaths, decode_minute,
    open_numbers, trace_hashes,
};
use trace_model::TraceId;

use crate::sample::{Memory, analyses, batch, samples, sealed};

/// Reads the value of a key and everything in it.
fn read(memory: &Memory, key: Key, id: &TraceId) -> Result<(), ReadError> {
    match key {
        Key::Hashes => drop(trace_hashes(memory, 0)?),
        Key::Chunk(number) => {
            let block = ChunkBlock::read(memory, number)?;
            block.trace_at(u32::MAX).unwrap_err();
            block.trace_at(0)?;
            block.spans(id)?;
        }
        Key::Rows(number) => {
            let block = RowBlock::read(memory, number)?;
            (0..block.len()).for_each(|row| assert!((block.status(row) as u8) < 3));
        }
        Key::Traces(number) => drop(TraceHeads::read(memory, number)?),
        Key::Paths(number) => drop(TracePaths::read(memory, number)?),
        Key::Contexts(number) => drop(ContextBlock::read(memory, number)?.get(63)),
        Key::Minute(minute) => drop(decode_minute(memory, minute, &|_, _| true)?),
        Key::Open => drop(open_numbers(memory)?),
        Key::Meta => {
            let bytes = memory.get(key)?.ok_or(ReadError::Missing(key))?;
            let meta: segment::SegmentMeta =
                prost::Message::decode(&*bytes).map_err(|_| ReadError::Damaged("meta"))?;
            drop(meta);
        }
    }
    Ok(())
}

/// Packs as segments do, so that damage gets past the checks of the compressor.
fn pack(raw: &[u8]) -> Vec<u8> {
    let mut packed = (raw.len() as u32).to_le_bytes().to_vec();
    packed.extend(zstd::bulk::compress(raw, 1).unwrap());
    packed
}

fn unpack(packed: &[u8]) -> Vec<u8> {
    let length = u32::from_le_bytes(packed[..4].try_into().unwrap());
    zstd::bulk::decompress(&packed[4..], length as usize).unwrap()
}

/// The smallest block of contexts has a byte for each, and a context in memory has many.
#[test]
fn a_context_block_holds_no_more_than_is_written_into_one() {
    let mut memory = Memory::default();
    for (contexts, sound) in [(64, true), (65, false), (100_000, false)] {
        memory.0.insert(Key::Contexts(0).to_bytes(), pack(&vec![0; contexts]));
        assert_eq!(ContextBlock::read(&memory, 0).is_ok(), sound, "{contexts} contexts");
    }
}

/// Bytes behind the last value are not what was written.
#[test]
fn a_block_ends_where_its_last_value_does() {
    let mut memory = Memory::default();
    for key in [Key::Rows(0), Key::Traces(0), Key::Paths(0)] {
        let empty: &[u8] = if matches!(key, Key::Rows(_)) { &[0, 0, 0] } else { &[0] };
        for (raw, sound) in [(empty.to_vec(), true), ([empty, &[0]].concat(), false)] {
            memory.0.insert(key.to_bytes(), pack(&raw));
            let id = TraceId::new([1; 16]).unwrap();
            assert_eq!(read(&memory, key, &id).is_ok(), sound, "{key:?} {raw:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn damage_is_an_error_and_not_a_panic(
        samples in samples(),
        rows in analyses(),
        at in any::<Index>(),
        byte in any::<u8>(),
    ) {
        let (whole, meta) = sealed(&[batch(1, &samples)], &rows);
        let mut keys = vec![Key::Hashes, Key::Chunk(0), Key::Rows(0), Key::Contexts(0), Key::Meta];
        keys.push(Key::Minute(meta.minutes[0]));
        if !rows.is_empty() {
            keys.extend([Key::Traces(0), Key::Paths(0)]);
        }
        for key in keys {
            let name = key.to_bytes();
            let stored = whole.0[&name].clone();
            prop_assert!(read(&whole, key, &samples[0].trace_id).is_ok(), "{:?}", key);
            let plain = matches!(key, Key::Hashes | Key::Meta);
            let mut memory = whole.clone();
            let mut put = |bytes: Vec<u8>| {
                memory.0.insert(name.clone(), bytes);
                read(&memory, key, &samples[0].trace_id)
            };
            let cut = at.index(stored.len());
            let result = put(stored[..cut].to_vec());
            // Part of a protobuf message may be one, and part of a list of hashes is one.
            prop_assert!(plain || result.is_err(), "{:?} cut to {}", key, cut);
            let mut flipped = stored.clone();
            flipped[cut] ^= byte | 1;
            let _ = put(flipped);
            if plain {
                continue;
            }
            let raw = unpack(&stored);
            let at = at.index(raw.len());
            let result = put(pack(&raw[..at]));
            // Contexts and histograms end wherever one of theirs does.
            let ends_anywhere = matches!(key, Key::Contexts(_) | Key::Minute(_) | Key::Chunk(_));
            prop_assert!(ends_anywhere || result.is_err(), "{:?} raw cut to {}", key, at);
            let mut flipped = raw.clone();
            flipped[at] ^= byte | 1;
            let _ = put(pack(&flipped));
            let mut filled = raw;
            filled[at..].fill(0xff);
            let _ = put(pack(&filled));
        }
    }
}
