//! A rollup reads back as what it was made of, and damage is an error and no panic.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use segment::{
    HistogramRows, HistogramTable, PathGrouping, PathRows, PathSums, ReadError, RollupInput, RollupMeta,
    RollupSource, Tier, TraceRow, build_rollup, decode_meta, rolled_histograms, rolled_paths,
};
use trace_model::{OperationId, ServiceId, UnixNanos};

use crate::sample::{Memory, Numbered, Sample, analyses, batch, samples};

/// What a rollup is made of, all of it at hand.
struct Given {
    tier: Tier,
    histograms: HistogramRows,
    paths: PathRows,
}

impl RollupSource for Given {
    fn histograms(&mut self, block: u32) -> Result<HistogramRows, ReadError> {
        let buckets = self.tier.buckets(block);
        let of_block = self.histograms.iter().filter(|((bucket, ..), _)| buckets.contains(bucket));
        Ok(of_block.map(|(key, row)| (*key, row.clone())).collect())
    }

    fn paths(&mut self, block: u32) -> Result<PathRows, ReadError> {
        let buckets = self.tier.buckets(block);
        let of_block = self.paths.iter().filter(|((bucket, _), _)| buckets.contains(bucket));
        Ok(of_block.map(|(key, row)| (*key, row.clone())).collect())
    }
}

fn given(tier: Tier, samples: &[Sample], rows: &[Arc<TraceRow>]) -> Given {
    let mut table = HistogramTable::default();
    batch(1, samples).rows.iter().for_each(|row| table.record(row));
    let mut histograms = HistogramRows::new();
    for (minute, operation, status, histogram, exemplars) in table.iter() {
        let bucket = tier.bucket(Tier::Minute.start(minute));
        let row = histograms.entry((bucket, operation, status)).or_default();
        row.0.merge(histogram);
        row.1.merge(exemplars);
    }
    let mut paths = PathRows::new();
    for (nth, row) in rows.iter().enumerate() {
        let mut shares = row.shares.clone();
        shares.iter_mut().for_each(|share| {
            share.service = ServiceId(share.operation.0 % 4);
            share.exclusive.0 >>= 8;
        });
        let bucket = tier.bucket(UnixNanos(nth as u64 * 9 * Tier::Minute.width()));
        paths.entry((bucket, row.root)).or_default().add(row, &shares, PathGrouping::Both);
    }
    Given { tier, histograms, paths }
}

fn built(given: &mut Given) -> (Memory, RollupMeta) {
    let tier = given.tier;
    let input = RollupInput {
        tier,
        begin: UnixNanos(5),
        end: UnixNanos(6),
        segments: vec![1, 2],
        sources: vec![7],
        histogram_blocks: given.histograms.keys().map(|(bucket, ..)| tier.block(*bucket)).collect(),
        path_blocks: given.paths.keys().map(|(bucket, _)| tier.block(*bucket)).collect::<BTreeSet<_>>(),
        names: &Numbered,
    };
    let (mut memory, mut last) = (Memory::default(), Vec::new());
    let meta = build_rollup(&input, given, &mut |key, value| {
        let key = key.to_bytes();
        assert!(last < key, "keys do not rise");
        last.clone_from(&key);
        memory.0.insert(key, value.to_vec());
        Ok(())
    });
    (memory, meta.unwrap())
}

/// The number that a name ends with.
fn number(name: &str) -> u32 {
    name.rsplit(' ').next().unwrap().parse().unwrap()
}

fn globalized(meta: &RollupMeta, sums: PathSums) -> PathSums {
    let service = |local: ServiceId| ServiceId(number(&meta.services[local.0 as usize]));
    let items = sums.items.into_iter().map(|(mut key, item)| {
        key.service = service(key.service);
        key.operation =
            key.operation.map(|local| OperationId(number(&meta.operations[local.0 as usize].name)));
        key.edge = key.edge.map(|(client, server)| (service(client), service(server)));
        (key, item)
    });
    PathSums { items: items.collect(), ..sums }
}

fn read(memory: &Memory, tier: Tier, meta: &RollupMeta) -> Result<(HistogramRows, PathRows), ReadError> {
    let blocks = |buckets: &[u32]| buckets.iter().map(|bucket| tier.block(*bucket)).collect::<BTreeSet<_>>();
    let (mut histograms, mut paths) = (HistogramRows::new(), PathRows::new());
    for block in blocks(&meta.histogram_buckets) {
        for row in rolled_histograms(memory, tier, block, &|_, _, _| true)? {
            let operation = meta.operations.get(row.operation as usize).map_or(0, |o| number(&o.name));
            histograms
                .insert((row.bucket, OperationId(operation), row.status), (row.histogram, row.exemplars));
        }
    }
    for block in blocks(&meta.path_buckets) {
        for row in rolled_paths(memory, tier, block, &|_, _| true)? {
            let root = row.root.and_then(|root| meta.operations.get(root as usize));
            let root = root.map(|operation| OperationId(number(&operation.name)));
            paths.insert((row.bucket, root), row.sums);
        }
    }
    Ok((histograms, paths))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_rollup_reads_back_as_what_it_was_made_of(samples in samples(), rows in analyses(), width in 0..3_usize) {
        let tier = Tier::ALL[width];
        let mut given = given(tier, &samples, &rows);
        let (memory, meta) = built(&mut given);
        let stored = &memory.0[&vec![0xff]];
        prop_assert_eq!(decode_meta(stored).unwrap(), (tier, meta.clone()));
        prop_assert_eq!((meta.spans, meta.traces), (samples.len() as u64, rows.len() as u64));
        let (histograms, paths) = read(&memory, tier, &meta).unwrap();
        prop_assert_eq!(histograms, given.histograms);
        let paths: PathRows = paths.into_iter().map(|(key, sums)| (key, globalized(&meta, sums))).collect();
        prop_assert_eq!(paths, given.paths);
    }

    #[test]
    fn sums_do_not_depend_on_how_they_are_split(rows in analyses(), cut in 0..30_usize) {
        let all = given(Tier::Day, &[], &rows).paths;
        let (left, right) = rows.split_at(cut.min(rows.len()));
        // The bucket is by place in the list; a day holds all of them.
        let mut merged = given(Tier::Day, &[], right).paths;
        for (key, sums) in given(Tier::Day, &[], left).paths {
            merged.entry(key).or_default().merge(&sums, PathGrouping::Both);
        }
        prop_assert_eq!(merged, all);
    }

    #[test]
    fn a_damaged_rollup_is_no_panic(
        samples in samples(), rows in analyses(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()
    ) {
        let tier = Tier::Hour;
        let (mut memory, meta) = built(&mut given(tier, &samples, &rows));
        let total: usize = memory.0.values().map(Vec::len).sum();
        let mut place = at.index(total);
        for value in memory.0.values_mut() {
            if place < value.len() {
                value[place] ^= byte | 1;
                if cut {
                    value.truncate(place);
                }
                break;
            }
            place -= value.len();
        }
        let _ = read(&memory, tier, &meta);
        let _ = decode_meta(&memory.0[&vec![0xff]]);
    }
}
