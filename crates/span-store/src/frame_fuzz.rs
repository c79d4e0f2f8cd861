//! The fuzz target of log frames. It has no folder of its own beside the others because frames live in this crate,
//! which brings RocksDB with it; `fuzz/guided` includes both files as they are.

use bytes::Bytes;
use longpole_fuzz::{Dice, Shape, Target};
use trace_model::UnixNanos;

use crate::frame::{Frame, FrameWriter};

/// Frames. The first byte of an input says how the rest is meant: 0 as it is stored, 1 with length and checksum
/// set right, so that damage gets past them.
pub(crate) const FRAME: Target =
    Target { name: "frame", shape: Shape::Bytes, inputs: 20_000, run: frame, draw: || Box::new(drawn) };

fn drawn(dice: &mut Dice) -> Vec<u8> {
    let count = dice.below(5);
    let requests: Vec<Bytes> = (0..count)
        .map(|_| {
            let length = dice.pick(&[0, 1, 30, 200]);
            if dice.one_in(2) { dice.bytes(length).into() } else { vec![7; length].into() }
        })
        .collect();
    let arrival = UnixNanos(dice.any());
    let mut writer = FrameWriter::default();
    let frame = writer.write(&requests, arrival).unwrap_or_default();
    [&[dice.below(2) as u8], frame].concat()
}

fn frame(input: &[u8]) -> bool {
    let (mode, rest) = input.split_first().unwrap_or((&0, &[]));
    let mut stored = rest.to_vec();
    if mode & 1 == 1 {
        reseal(&mut stored);
    }
    let Ok(frame) = Frame::read(&stored) else { return false };
    let mut writer = FrameWriter::default();
    let again = Frame::read(writer.write(&frame.requests, frame.arrival).unwrap_or_default());
    let again = again.unwrap_or_else(|error| panic!("what was read cannot be written and read: {error}"));
    assert_eq!((again.requests, again.arrival), (frame.requests, frame.arrival));
    true
}

/// Sets checksum and length of a frame right for what is in it.
fn reseal(frame: &mut [u8]) {
    if frame.first() == Some(&1) {
        return reseal_v1(frame);
    }
    let Some((head, checked)) = frame.split_at_mut_checked(9) else { return };
    head[1..].copy_from_slice(&xxhash_rust::xxh3::xxh3_64(checked).to_le_bytes());
}

fn reseal_v1(frame: &mut [u8]) {
    let Some((header, packed)) = frame.split_at_mut_checked(26) else { return };
    let length = u32::from_le_bytes([header[2], header[3], header[4], header[5]]).min(1 << 20);
    let payload = match header[1] & 1 {
        1 => lz4_flex::block::decompress(packed, length as usize).unwrap_or_default(),
        _ => packed.to_vec(),
    };
    header[2..6].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[10..18].copy_from_slice(&xxhash_rust::xxh3::xxh3_64(&payload).to_le_bytes());
}

#[cfg(test)]
#[test]
fn frames() {
    longpole_fuzz::drive(&FRAME, &longpole_fuzz::corpus_dir());
}
