//! What rollups are read from: histograms and critical paths by bucket.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use longpole_proto::rollup::Part;
use segment::{
    HistogramRows, HistogramTable, ItemKey, Key, PathGrouping, PathRows, PathSumming, ReadError, RollupBlock,
    RollupInput, RollupMeta, RollupSource, Tier, build_rollup, decode_meta, rolled_histograms, rolled_paths,
};
use trace_model::UnixNanos;

use super::sample::{BASE, MINUTE, Memory, Numbered, analysis, batch};
use super::{damaged, target, unpack, values};
use crate::Dice;
use crate::drive::{Draw, Shape, Target};

/// Histograms of a rollup's block.
pub const ROLLED_HISTOGRAMS: Target =
    target("rolled_histograms", histograms, || drawn(Key::RolledHistogramsOf(MINUTE, PART)));
/// Critical paths of a rollup's block.
pub const ROLLED_PATHS: Target =
    target("rolled_paths", paths, || drawn(Key::RolledPathsOf(MINUTE, TOGETHER)));
/// What a rollup says about itself.
pub const ROLLUP_META: Target = Target {
    shape: Shape::Protobuf,
    ..target("rollup_meta", meta, || Box::new(|dice: &mut Dice| value(dice, Key::Meta)))
};

const TIER: Tier = Tier::Minute;
/// The number of the part with the first service's histograms, and of that with all critical paths together.
const PART: u32 = 2;
const TOGETHER: u32 = 0;

/// What says of itself that it has the block that all drawn spans lie in.
fn said() -> RollupMeta {
    RollupMeta {
        format: 3,
        histogram_blocks: vec![MINUTE],
        path_blocks: vec![MINUTE],
        histogram_parts: vec![Part { first: MINUTE, of: PART }],
        path_parts: vec![Part { first: MINUTE, of: TOGETHER }],
        ..RollupMeta::default()
    }
}

struct Given {
    histograms: BTreeMap<u32, HistogramRows>,
    paths: PathRows,
}

impl RollupSource for Given {
    fn histograms(&mut self, bucket: u32) -> Result<HistogramRows, ReadError> {
        Ok(self.histograms.get(&bucket).cloned().unwrap_or_default())
    }

    fn paths(&mut self, _: u32) -> Result<PathRows, ReadError> {
        Ok(self.paths.clone())
    }
}

fn given(dice: &mut Dice) -> Given {
    let mut table = HistogramTable::default();
    batch(dice).rows.iter().for_each(|row| table.record(row));
    let mut histograms: BTreeMap<u32, HistogramRows> = BTreeMap::new();
    for (minute, operation, status, histogram, exemplars) in table.iter() {
        let rows = histograms.entry(minute).or_default();
        rows.insert((operation, status), (histogram.clone(), exemplars.clone()));
    }
    let mut summing: HashMap<_, PathSumming> = HashMap::new();
    for nth in 0..1 + dice.below(6) as u8 {
        let row = analysis(dice, nth);
        let of_root = summing.entry(row.root);
        of_root.or_insert_with(|| PathSumming::new(PathGrouping::Operation)).add(&row, &row.shares);
    }
    let paths = summing.into_iter().map(|(root, summing)| (root, summing.finish())).collect();
    Given { histograms, paths }
}

fn value(dice: &mut Dice, key: Key) -> Vec<u8> {
    let input = RollupInput {
        tier: TIER,
        begin: UnixNanos(BASE),
        end: UnixNanos(BASE + 1),
        segments: vec![1, 2],
        sources: vec![3],
        histogram_buckets: BTreeSet::from([MINUTE]),
        path_buckets: BTreeSet::from([MINUTE]),
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
    let key = Key::RolledHistogramsOf(MINUTE, PART);
    let (blocks, block) = (damaged(key, input), RollupBlock::of_histograms(TIER, &said())[0]);
    let read = rolled_histograms(&blocks, block, &|_, _, _| true, &mut |row| {
        assert!((block.first..block.end).contains(&row.bucket));
        values::use_histogram(&row.histogram);
        values::use_exemplars(&row.exemplars);
    });
    read.is_ok()
}

fn paths(input: &[u8]) -> bool {
    let blocks = damaged(Key::RolledPathsOf(MINUTE, TOGETHER), input);
    let block = RollupBlock::of_paths_together(TIER, &said()).unwrap()[0];
    let mut rows = 0;
    let read = rolled_paths(&blocks, block, PathGrouping::Both, &|_, _| true, &mut |row| {
        assert!((block.first..block.end).contains(&row.bucket));
        values::use_histogram(&row.sums.latency);
        // As a question over many buckets does.
        let mut twice = row.sums.clone();
        twice.merge(row.sums, |key| ItemKey { operation: None, ..key });
        rows += 1;
    });
    // Whoever wants less finds as many rows, and no damage where there was none.
    for by in [PathGrouping::Service, PathGrouping::Operation] {
        let mut fewer = 0;
        let part = rolled_paths(&blocks, block, by, &|_, _| true, &mut |_| fewer += 1);
        assert!(part.is_ok() || read.is_err());
        assert!(read.is_err() || fewer == rows);
    }
    read.is_ok()
}

fn meta(input: &[u8]) -> bool {
    let Ok((_, meta)) = decode_meta(input) else { return false };
    let again = prost::Message::encode_to_vec(&meta);
    assert_eq!(decode_meta(&again).unwrap().1, meta);
    true
}
