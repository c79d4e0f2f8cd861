//! The fuzz target of files of trace hashes.

use longpole_fuzz::{Dice, Shape, Target};

use super::*;

/// Files of trace hashes. The first byte of an input says how the rest is meant: 0 as it is stored; 1 as header and entries
/// alone, to which blocks and checksums are made, so that damage gets past them.
const HASH_FILE: Target =
    Target { name: "hash_file", shape: Shape::Bytes, inputs: 4_000, run: file, draw: || Box::new(drawn) };

fn drawn_run(dice: &mut Dice, segment: u32) -> Run {
    let count = if dice.one_in(20) { 700 } else { 1 + dice.below(40) };
    let mut hashes: Vec<u32> = (0..count).map(|_| dice.any() as u32).collect();
    hashes.sort_unstable();
    hashes.dedup();
    Run::of(SegmentId(segment), hashes, dice.any())
}

fn drawn(dice: &mut Dice) -> Vec<u8> {
    let mut run = drawn_run(dice, 5);
    for segment in 0..dice.below(3) as u32 {
        run = Run::merge(&run, &drawn_run(dice, 6 + segment));
    }
    let entries: Vec<(u32, u16)> = run.entries().collect();
    let head = header(&run);
    if dice.one_in(2) {
        let blocks = entries.chunks(ENTRIES).flat_map(encode);
        return [0].into_iter().chain(head).chain(blocks).collect();
    }
    let flat =
        entries.iter().flat_map(|(hash, place)| hash.to_le_bytes().into_iter().chain(place.to_le_bytes()));
    [1].into_iter().chain(head[..head.len() - 8].iter().copied()).chain(flat).collect()
}

fn file(input: &[u8]) -> bool {
    let (mode, rest) = input.split_first().unwrap_or((&0, &[]));
    let stored = if mode & 1 == 1 { sealed(rest) } else { rest.to_vec() };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("00000005-00000007.run");
    std::fs::write(&path, &stored).unwrap();
    let Ok(run) = FileRun::open(&path) else { return false };
    let asked = run.firsts.iter().flat_map(|first| [*first, first.wrapping_add(1)]);
    for hash in asked.chain([0, u32::MAX]) {
        let mut found = Vec::new();
        run.find(hash, &mut found);
        assert!(found.iter().all(|id| run.segments.contains(id)), "{found:?} of {:?}", run.segments);
    }
    true
}

/// A whole file of a header without its checksum and the entries behind it.
fn sealed(raw: &[u8]) -> Vec<u8> {
    let length = HEADER.saturating_add((u32_at(raw, 12) as usize).saturating_mul(4));
    let Some((head, entries)) = raw.split_at_checked(length) else { return raw.to_vec() };
    let entries: Vec<(u32, u16)> = entries
        .chunks_exact(ENTRY)
        .map(|entry| (u32_at(entry, 0), u16::from_le_bytes([entry[4], entry[5]])))
        .collect();
    let blocks = entries.chunks(ENTRIES).flat_map(encode);
    head.iter().copied().chain(xxh3_64(head).to_le_bytes()).chain(blocks).collect()
}

#[test]
fn files_of_trace_hashes() {
    longpole_fuzz::drive(&HASH_FILE, &longpole_fuzz::corpus_dir());
}
