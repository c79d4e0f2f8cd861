//! The fuzz target of write-ahead files.

use longpole_fuzz::{Dice, Shape, Target};

use super::tests::{batch, mask, put};
use super::{BLOCK, Fragment, HEADER, RECYCLED_HEADER, Scan, batch_header, frame_number, frame_value};

/// Write-ahead files. The first byte of an input says how the rest is meant: 0 as it is stored, 1 with the checksums of
/// all fragments set right, so that damage gets past them.
const WAL: Target =
    Target { name: "wal", shape: Shape::Bytes, inputs: 10_000, run: file, draw: || Box::new(drawn) };

fn drawn(dice: &mut Dice) -> Vec<u8> {
    let mut file = Vec::new();
    let first = dice.any() >> 1;
    for nth in 0..1 + dice.below(5) as u64 {
        let size = if dice.one_in(8) { 40_000 } else { dice.pick(&[0, 1, 30, 200]) };
        put(&mut file, &batch(first + nth, 1 + nth, size));
    }
    if dice.one_in(4) {
        // Room that was preallocated.
        file.resize(file.len() + 100, 0);
    }
    [&[dice.below(2) as u8], &file[..]].concat()
}

fn file(input: &[u8]) -> bool {
    let (mode, rest) = input.split_first().unwrap_or((&0, &[]));
    let mut stored = rest.to_vec();
    if mode & 1 == 1 {
        reseal(&mut stored);
    }
    let (scan, batches) = read(&stored);
    assert!(batches.iter().map(Vec::len).sum::<usize>() <= stored.len(), "no byte is in two records");
    assert!(scan.bad.is_sorted_by_key(|bad| bad.offset), "{:?}", scan.bad);
    assert!(scan.bad.iter().all(|bad| bad.offset <= stored.len() as u64), "{:?}", scan.bad);
    let entries = batches.iter().filter_map(|batch| Some(batch_header(batch)?.2));
    assert_eq!(scan.last_frame, entries.clone().filter_map(frame_number).max());
    entries.filter_map(frame_value).for_each(|value| assert!(value.len() <= stored.len()));
    // What a crash cuts off costs the records that it hits and none before.
    let (_, of_half) = read(&stored[..stored.len() / 2]);
    assert_eq!(of_half, batches[..of_half.len()]);
    !batches.is_empty()
}

fn read(file: &[u8]) -> (Scan, Vec<Vec<u8>>) {
    let (mut scan, mut batches) = (Scan::default(), Vec::new());
    scan.records("000001.log", file, &mut |batch| batches.push(batch.to_vec()));
    (scan, batches)
}

/// Sets the checksum of every fragment right, as far as lengths lead from one to the next.
fn reseal(file: &mut [u8]) {
    for block in file.chunks_mut(BLOCK) {
        let mut at = 0;
        while let Some(head) = block.get(at..at + HEADER) {
            let header = if (5..=8).contains(&head[6]) { RECYCLED_HEADER } else { HEADER };
            let length = header + usize::from(u16::from_le_bytes([head[4], head[5]]));
            let Some(checked) = block.get(at + 6..at + length) else { break };
            let crc = mask(crc32c::crc32c(checked));
            block[at..at + 4].copy_from_slice(&crc.to_le_bytes());
            at += Fragment::read(&block[at..]).map_or(length, |fragment| fragment.length);
        }
    }
}

#[test]
fn write_ahead_files() {
    longpole_fuzz::drive(&WAL, &longpole_fuzz::corpus_dir());
}
