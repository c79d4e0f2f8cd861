//! Bytes that are not what was written end in an error or in other values, never in a panic.

use proptest::prelude::*;
use proptest::sample::Index;
use segment::{
    Blocks, ChunkBlock, ChunkTables, ContextBlock, Key, ReadError, RowBlock, TraceHeads, TracePaths,
    decode_minute, decode_segment_meta, open_numbers, trace_hashes,
};
use trace_model::TraceId;

use crate::messages::messages;
use crate::sample::{Memory, analyses, batch, samples, sealed};
use crate::v1::downgraded;

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
        Key::Tables => drop(ChunkTables::read(memory)?),
        Key::Rows(number) => {
            let block = RowBlock::read(memory, number)?;
            (0..block.len()).for_each(|row| assert!((block.status(row) as u8) < 3));
        }
        Key::Traces(number) => drop(TraceHeads::read(memory, number)?),
        Key::Paths(number) => drop(TracePaths::read(memory, number)?),
        Key::Contexts(number) => drop(ContextBlock::read(memory, number)?.get(63)),
        Key::Minute(minute) => drop(decode_minute(memory, minute, &|_, _| true)?),
        // Not in a segment.
        Key::RolledHistogramsOf(..) | Key::RolledPaths(_) | Key::RolledPathsOf(..) => {}
        Key::Open => drop(open_numbers(memory)?),
        Key::Meta => {
            drop(decode_segment_meta(&memory.get(key)?.ok_or(ReadError::Missing(key))?)?);
        }
    }
    Ok(())
}

const MARK: [u8; 4] = [2, b'L', b'P', 0xff];

fn varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> usize {
    let end = bytes.iter().position(|byte| *byte < 0x80).unwrap() + 1;
    let (head, tail) = bytes.split_at(end);
    *bytes = tail;
    head.iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f))
}

/// What is inside a value: one zstd frame, or three streams and packed bits.
fn unpack(stored: &[u8]) -> Vec<Vec<u8>> {
    let inflate = |packed: &[u8], length| zstd::bulk::decompress(packed, length).unwrap();
    let Some(mut rest) = stored.strip_prefix(&MARK) else {
        let length = u32::from_le_bytes(stored[..4].try_into().unwrap());
        return vec![inflate(&stored[4..], length as usize)];
    };
    let mut parts = Vec::new();
    for _ in 0..3 {
        let (length, packed) = (take_varint(&mut rest), take_varint(&mut rest));
        let stream = &rest[..packed];
        parts.push(if packed == length { stream.to_vec() } else { inflate(stream, length) });
        rest = &rest[packed..];
    }
    parts.push(rest.to_vec());
    parts
}

/// Packs as segments do, so that damage gets past the checks of the compressor.
fn pack(parts: &[Vec<u8>]) -> Vec<u8> {
    let [streams @ .., bits] = parts else { panic!("no parts") };
    if streams.is_empty() {
        let mut packed = (bits.len() as u32).to_le_bytes().to_vec();
        packed.extend(zstd::bulk::compress(bits, 1).unwrap());
        return packed;
    }
    let mut packed = MARK.to_vec();
    for stream in streams {
        varint(&mut packed, stream.len());
        varint(&mut packed, stream.len());
        packed.extend_from_slice(stream);
    }
    packed.extend_from_slice(bits);
    packed
}

/// The smallest block of contexts has a byte for each, and a context in memory has many.
#[test]
fn a_context_block_holds_no_more_than_is_written_into_one() {
    let mut memory = Memory::default();
    for (contexts, sound) in [(64, true), (65, false), (100_000, false)] {
        memory.0.insert(Key::Contexts(0).to_bytes(), pack(&[vec![0; contexts]]));
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
            memory.0.insert(key.to_bytes(), pack(std::slice::from_ref(&raw)));
            let id = TraceId::new([1; 16]).unwrap();
            assert_eq!(read(&memory, key, &id).is_ok(), sound, "{key:?} {raw:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn damage_is_an_error_and_not_a_panic(
        samples in prop_oneof![samples(), messages()],
        rows in analyses(),
        at in any::<Index>(),
        byte in any::<u8>(),
        old in any::<bool>(),
    ) {
        let (mut whole, meta) = sealed(&[batch(1, &samples)], &rows);
        let mut keys = vec![Key::Hashes, Key::Chunk(0), Key::Rows(0), Key::Contexts(0), Key::Meta];
        if old {
            whole = downgraded(&whole, &meta, &samples);
        } else {
            keys.push(Key::Tables);
        }
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
            let parts = unpack(&stored);
            prop_assert!(put(pack(&parts)).is_ok(), "{:?} packed again", key);
            for part in 0..parts.len() {
                if parts[part].is_empty() {
                    continue;
                }
                let at = at.index(parts[part].len());
                let mut put = |change: &dyn Fn(&mut Vec<u8>)| {
                    let mut parts = parts.clone();
                    change(&mut parts[part]);
                    put(pack(&parts))
                };
                let result = put(&|raw| raw.truncate(at));
                // Contexts, and histograms and chunks of format 1, end wherever one of theirs does.
                let ends_anywhere = matches!(key, Key::Contexts(_)) || old;
                prop_assert!(ends_anywhere || result.is_err(), "{:?} part {} cut to {}", key, part, at);
                let _ = put(&|raw| raw[at] ^= byte | 1);
                let _ = put(&|raw| raw[at..].fill(0xff));
            }
        }
    }
}
