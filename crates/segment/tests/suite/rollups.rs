//! A rollup reads back as what it was made of, and damage is an error and no panic.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use segment::{
    HistogramRows, HistogramTable, Key, Part, PathGrouping, PathRows, PathSumming, PathSums, ReadError,
    RollupBlock, RollupInput, RollupMeta, RollupSource, Tier, TraceRow, build_rollup, decode_meta,
    rolled_histograms, rolled_paths,
};
use trace_model::{NanoDuration, OperationId, ServiceId, StatusCode, UnixNanos};

use crate::sample::{Memory, Numbered, Sample, analyses, batch, samples};

type Histograms = BTreeMap<u32, HistogramRows>;
type Paths = BTreeMap<u32, PathRows>;

/// What a rollup is made of, by bucket.
struct Given {
    tier: Tier,
    histograms: Histograms,
    paths: Paths,
}

impl RollupSource for Given {
    fn histograms(&mut self, bucket: u32) -> Result<HistogramRows, ReadError> {
        Ok(self.histograms.get(&bucket).cloned().unwrap_or_default())
    }

    fn paths(&mut self, bucket: u32) -> Result<PathRows, ReadError> {
        Ok(self.paths.get(&bucket).cloned().unwrap_or_default())
    }
}

fn given(tier: Tier, samples: &[Sample], rows: &[Arc<TraceRow>]) -> Given {
    let mut table = HistogramTable::default();
    batch(1, samples).rows.iter().for_each(|row| table.record(row));
    let mut histograms = Histograms::new();
    for (minute, operation, status, histogram, exemplars) in table.iter() {
        let bucket = tier.bucket(Tier::Minute.start(minute));
        let row = histograms.entry(bucket).or_default().entry((operation, status)).or_default();
        row.0.merge(histogram);
        row.1.merge(exemplars);
    }
    let mut summing: BTreeMap<(u32, Option<OperationId>), PathSumming> = BTreeMap::new();
    for (nth, row) in rows.iter().enumerate() {
        let mut shares = row.shares.clone();
        shares.iter_mut().for_each(|share| {
            share.service = ServiceId(share.operation.0 % 4);
            share.exclusive.0 >>= 8;
        });
        let bucket = tier.bucket(UnixNanos(nth as u64 * 9 * Tier::Minute.width()));
        let of_root = summing.entry((bucket, row.root));
        of_root.or_insert_with(|| PathSumming::new(PathGrouping::Both)).add(row, &shares);
    }
    let mut paths = Paths::new();
    for ((bucket, root), summing) in summing {
        paths.entry(bucket).or_default().insert(root, summing.finish());
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
        // A source may turn out to have nothing of a bucket.
        histogram_buckets: given.histograms.keys().copied().chain([7_000_000]).collect(),
        path_buckets: given.paths.keys().copied().chain([7_000_000]).collect(),
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

fn read(memory: &Memory, tier: Tier, meta: &RollupMeta) -> Result<(Histograms, Paths), ReadError> {
    let (mut histograms, mut paths) = (Histograms::new(), Paths::new());
    for block in RollupBlock::of_histograms(tier, meta) {
        rolled_histograms(memory, block, &|_, _, _| true, &mut |row| {
            let operation = meta.operations.get(row.operation as usize).map_or(0, |o| number(&o.name));
            let of_bucket = histograms.entry(row.bucket).or_default();
            of_bucket.insert((OperationId(operation), row.status), (row.histogram, row.exemplars));
        })?;
    }
    for block in RollupBlock::of_paths(tier, meta) {
        rolled_paths(memory, block, PathGrouping::Both, &|_, _| true, &mut |row| {
            let root = row.root.and_then(|root| meta.operations.get(root as usize));
            let root = root.map(|operation| OperationId(number(&operation.name)));
            paths.entry(row.bucket).or_default().insert(root, row.sums);
        })?;
    }
    Ok((histograms, paths))
}

/// As format 1 had it: blocks of all the buckets that they can have, by number.
fn downgraded(memory: &Memory, tier: Tier, meta: &RollupMeta) -> (Memory, RollupMeta) {
    let width = match tier {
        Tier::Minute => 60,
        Tier::Hour => 24,
        Tier::Day => 32,
    };
    let mut old = Memory::default();
    let mut blocks: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    for part in &meta.histogram_parts {
        let stored = &memory.0[&Key::RolledHistogramsOf(part.first, part.of).to_bytes()];
        let length = u32::from_le_bytes(stored[..4].try_into().unwrap()) as usize;
        let raw = zstd::bulk::decompress(&stored[4..], length).unwrap();
        assert_eq!(part.first % width, 0, "a test of whole blocks");
        blocks.entry(part.first / width).or_default().extend(raw);
    }
    for (number, raw) in blocks {
        let mut stored = (raw.len() as u32).to_le_bytes().to_vec();
        stored.extend(zstd::bulk::compress(&raw, 1).unwrap());
        old.0.insert(Key::Minute(number).to_bytes(), stored);
    }
    assert!(meta.path_blocks.is_empty(), "their rows would have no length");
    let (histogram_blocks, histogram_parts) = (Vec::new(), Vec::new());
    (old, RollupMeta { format: 1, histogram_blocks, histogram_parts, ..meta.clone() })
}

/// Many series in each of `buckets`.
fn large(tier: Tier, buckets: &[u32], series: u32) -> Given {
    let mut histograms = Histograms::new();
    for bucket in buckets {
        let rows = histograms.entry(*bucket).or_default();
        for n in 0..series {
            let mut histogram = latency::LatencyHistogram::new();
            (0..20).for_each(|k| histogram.record(NanoDuration(u64::from(n * k + bucket) << 9), k == 7));
            rows.insert((OperationId(n), StatusCode::Unset), (histogram, latency::ExemplarSet::default()));
        }
    }
    Given { tier, histograms, paths: Paths::new() }
}

#[test]
fn a_block_of_many_bytes_ends_after_its_bucket() {
    let tier = Tier::Minute;
    let mut given = large(tier, &[120, 121, 122, 123, 170], 6_000);
    let (memory, meta) = built(&mut given);
    assert!(
        meta.histogram_blocks.len() > 1 && meta.histogram_blocks.len() < 5,
        "{:?}",
        meta.histogram_blocks
    );
    assert_eq!(read(&memory, tier, &meta).unwrap().0, given.histograms);
    let mut small = large(tier, &[120, 121, 179, 180, 400], 2);
    let (memory, meta) = built(&mut small);
    assert_eq!(meta.histogram_blocks, [120, 180, 400], "an hour at most");
    assert_eq!(read(&memory, tier, &meta).unwrap().0, small.histograms);
}

#[test]
fn rollups_of_format_1_are_read() {
    for tier in Tier::ALL {
        let mut given = large(tier, &[960, 961, 1920], 5);
        let (memory, meta) = built(&mut given);
        let (memory, meta) = downgraded(&memory, tier, &meta);
        assert_eq!(read(&memory, tier, &meta).unwrap().0, given.histograms);
    }
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
        let globalize = |rows: PathRows| -> PathRows {
            rows.into_iter().map(|(root, sums)| (root, globalized(&meta, sums))).collect()
        };
        let paths: Paths = paths.into_iter().map(|(bucket, rows)| (bucket, globalize(rows))).collect();
        prop_assert_eq!(paths, given.paths);
    }

    /// Of what is read for one grouping nothing is missing, and nothing is there that it does not tell apart.
    #[test]
    fn one_grouping_reads_its_part_of_both(rows in analyses(), by_service in any::<bool>()) {
        let by = if by_service { PathGrouping::Service } else { PathGrouping::Operation };
        let (memory, meta) = built(&mut given(Tier::Hour, &[], &rows));
        for block in RollupBlock::of_paths(Tier::Hour, &meta) {
            let all = |by| {
                let mut all = Vec::new();
                let mut each = |row: segment::RolledPaths| all.push((row.bucket, row.root, row.sums));
                rolled_paths(&memory, block, by, &|_, _| true, &mut each).unwrap();
                all
            };
            let mut both = all(PathGrouping::Both);
            both.iter_mut().for_each(|(.., sums)| sums.items.retain(|key, _| key.operation.is_none() == by_service));
            prop_assert_eq!(all(by), both);
        }
    }

    #[test]
    fn all_roots_together_are_the_sum_of_each(rows in analyses(), width in 0..3_usize) {
        let tier = Tier::ALL[width];
        let (memory, meta) = built(&mut given(tier, &[], &rows));
        let summed = |blocks: Vec<RollupBlock>| {
            let (mut sums, mut roots) = (BTreeMap::<u32, PathSums>::new(), 0);
            for block in blocks {
                let mut each = |row: segment::RolledPaths| {
                    roots += usize::from(row.root.is_some());
                    sums.entry(row.bucket).or_default().merge(row.sums, |key| key);
                };
                rolled_paths(&memory, block, PathGrouping::Service, &|_, _| true, &mut each).unwrap();
            }
            (sums, roots)
        };
        let (by_root, _) = summed(RollupBlock::of_paths(tier, &meta));
        let (of_all, roots) = summed(RollupBlock::of_paths_together(tier, &meta).unwrap());
        prop_assert_eq!((of_all, roots), (by_root, 0));
        let older = RollupMeta { format: 2, ..meta };
        prop_assert_eq!(RollupBlock::of_paths_together(tier, &older), None);
    }

    #[test]
    fn what_is_of_a_service_is_in_its_part(samples in samples(), rows in analyses(), width in 0..3_usize) {
        let tier = Tier::ALL[width];
        let (memory, meta) = built(&mut given(tier, &samples, &rows));
        let service = |operation: u32| meta.operations[operation as usize].service;
        for block in RollupBlock::of_histograms(tier, &meta) {
            let mut found = 0;
            rolled_histograms(&memory, block, &|_, _, _| true, &mut |row| {
                found += 1;
                assert_eq!(Part::Service(service(row.operation)), block.part);
            }).unwrap();
            prop_assert!(found > 0);
        }
        for block in RollupBlock::of_paths(tier, &meta) {
            let mut found = 0;
            let mut each = |row: segment::RolledPaths| {
                found += 1;
                assert_eq!(row.root.map_or(Part::Rootless, |root| Part::Service(service(root))), block.part);
            };
            rolled_paths(&memory, block, PathGrouping::Both, &|_, _| true, &mut each).unwrap();
            prop_assert!(found > 0);
        }
    }

    #[test]
    fn sums_do_not_depend_on_how_they_are_split(rows in analyses(), cut in 0..30_usize) {
        let all = given(Tier::Day, &[], &rows).paths;
        let (left, right) = rows.split_at(cut.min(rows.len()));
        // The bucket is by place in the list; a day holds all of them.
        let mut merged = given(Tier::Day, &[], right).paths;
        for (bucket, rows) in given(Tier::Day, &[], left).paths {
            for (root, sums) in rows {
                let of_bucket = merged.entry(bucket).or_default();
                of_bucket.entry(root).or_default().merge(sums, |key| key);
            }
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
