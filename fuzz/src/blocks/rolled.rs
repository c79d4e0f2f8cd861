//! What rollups are read from: histograms and critical paths by bucket.

use std::collections::BTreeSet;

use segment::{
    HistogramRows, HistogramTable, Key, PathGrouping, PathRows, ReadError, RollupInput, RollupSource, Tier,
    build_rollup, decode_meta, rolled_histograms, rolled_paths,
};
use trace_model::UnixNanos;

use super::sample::{BASE, MINUTE, Memory, Numbered, analysis, batch};
use super::{damaged, target, unpack, values};
use crate::Dice;
use crate::drive::{Draw, Shape, Target};

/// Histograms of a rollup's block.
pub const ROLLED_HISTOGRAMS: Target = target("rolled_histograms", histograms, || drawn(Key::Minute(block())));
/// Critical paths of a rollup's block.
pub const ROLLED_PATHS: Target = target("rolled_paths", paths, || drawn(Key::RolledPaths(block())));
/// What a rollup says about itself.
pub const ROLLUP_META: Target = Target {
    shape: Shape::Protobuf,
    ..target("rollup_meta", meta, || Box::new(|dice: &mut Dice| value(dice, Key::Meta)))
};

const TIER: Tier = Tier::Minute;

/// The block that all drawn spans lie in.
fn block() -> u32 {
    TIER.block(MINUTE)
}

struct Given {
    histograms: HistogramRows,
    paths: PathRows,
}

impl RollupSource for Given {
    fn histograms(&mut self, _: u32) -> Result<HistogramRows, ReadError> {
        Ok(self.histograms.clone())
    }

    fn paths(&mut self, _: u32) -> Result<PathRows, ReadError> {
        Ok(self.paths.clone())
    }
}

fn given(dice: &mut Dice) -> Given {
    let mut table = HistogramTable::default();
    batch(dice).rows.iter().for_each(|row| table.record(row));
    let rows = table.iter().map(|(minute, operation, status, histogram, exemplars)| {
        ((minute, operation, status), (histogram.clone(), exemplars.clone()))
    });
    let histograms = rows.collect();
    let mut paths = PathRows::new();
    for nth in 0..1 + dice.below(6) as u8 {
        let row = analysis(dice, nth);
        paths.entry((MINUTE, row.root)).or_default().add(&row, &row.shares, PathGrouping::Operation);
    }
    Given { histograms, paths }
}

fn value(dice: &mut Dice, key: Key) -> Vec<u8> {
    let input = RollupInput {
        tier: TIER,
        begin: UnixNanos(BASE),
        end: UnixNanos(BASE + 1),
        segments: vec![1, 2],
        sources: vec![3],
        histogram_blocks: BTreeSet::from([block()]),
        path_blocks: BTreeSet::from([block()]),
        names: &Numbered,
    };
    let mut memory = Memory::default();
    build_rollup(&input, &mut given(dice), &mut |key, value| {
        memory.0.insert(key.to_bytes(), value.to_vec());
        Ok(())
    })
    .unwrap();
    memory.0.remove(&key.to_bytes()).unwrap()
}

fn drawn(key: Key) -> Draw {
    Box::new(move |dice| {
        let stored = value(dice, key);
        match unpack(&stored).filter(|_| !dice.one_in(3)) {
            Some(raw) => [&[1][..], &raw].concat(),
            None => [&[0][..], &stored].concat(),
        }
    })
}

fn histograms(input: &[u8]) -> bool {
    let blocks = damaged(Key::Minute(block()), input);
    let Ok(rows) = rolled_histograms(&blocks, TIER, block(), &|_, _, _| true) else { return false };
    for row in &rows {
        assert!(TIER.buckets(block()).contains(&row.bucket));
        values::use_histogram(&row.histogram);
        values::use_exemplars(&row.exemplars);
    }
    true
}

fn paths(input: &[u8]) -> bool {
    let blocks = damaged(Key::RolledPaths(block()), input);
    let Ok(rows) = rolled_paths(&blocks, TIER, block(), &|_, _| true) else { return false };
    for row in &rows {
        assert!(TIER.buckets(block()).contains(&row.bucket));
        values::use_histogram(&row.sums.latency);
        // As a question over many buckets does.
        let mut twice = row.sums.clone();
        twice.merge(&row.sums, PathGrouping::Operation);
        twice.merge(&row.sums, PathGrouping::Service);
    }
    true
}

fn meta(input: &[u8]) -> bool {
    let Ok((_, meta)) = decode_meta(input) else { return false };
    let again = prost::Message::encode_to_vec(&meta);
    assert_eq!(decode_meta(&again).unwrap().1, meta);
    true
}
