use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

/// Few different ids, some of which differ in their upper half alone.
fn id(n: u8) -> TraceId {
    let half = u64::from(n % 16).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    TraceId::new((u128::from(n / 16 + 1) << 64 | u128::from(half)).to_be_bytes()).unwrap()
}

fn known(revisions: &Revisions) -> HashMap<TraceId, SegmentId> {
    (0..=255).filter_map(|n| Some((id(n), revisions.last(&id(n)).unwrap()?))).collect()
}

/// Revisions with room in memory for so many entries.
fn with_room(dir: &Path, entries: usize) -> Revisions {
    Revisions::open(dir, entries * 4 * 21).unwrap()
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

/// Revisions, and a map of what they must know.
struct Both {
    revisions: Revisions,
    map: HashMap<TraceId, SegmentId>,
    room: Option<usize>,
}

impl Both {
    fn add(&mut self, first: u32, segments: &[Vec<u8>]) {
        for (segment, traces) in (first..).map(SegmentId).zip(segments) {
            self.revisions.add(segment, traces.iter().map(|n| id(*n))).unwrap();
            self.map.extend(traces.iter().map(|n| (id(*n), segment)));
            let lengths: Vec<usize> = self.revisions.runs.iter().map(|run| run.len()).collect();
            assert!(lengths.len() <= 9, "{lengths:?}");
            let Some(room) = self.room else { continue };
            assert!(lengths.iter().sum::<usize>() <= room);
            let files = self.revisions.files.as_ref().unwrap();
            assert!(files.filter_bytes() <= room * 3 * 21 && files.paths().len() <= 9);
        }
        self.check();
    }

    fn check(&self) {
        assert_eq!(known(&self.revisions), self.map);
    }

    fn since(&self, segment: SegmentId) {
        let newer = self.map.iter().filter(|(_, last)| **last > segment).map(|(id, _)| *id);
        let mut found: HashSet<TraceId> = self.revisions.since(Some(segment)).collect();
        found.extend(self.revisions.since_in_files(Some(segment)).unwrap());
        assert_eq!(found, newer.collect());
        let newest = self.map.values().max().copied();
        assert!(!self.revisions.has_files_since(newest));
    }
}

impl Clone for Both {
    fn clone(&self) -> Self {
        Self { revisions: self.revisions.clone(), map: self.map.clone(), room: self.room }
    }
}

fn segments() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..60)
}

proptest! {
    #[test]
    fn it_knows_what_a_map_knows(
        (first, second, third) in (segments(), segments(), segments()),
        merged in 0_u32..60, oldest in 0_u32..170, room in prop::option::of(0_usize..80),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let revisions = room.map_or_else(Revisions::default, |room| with_room(dir.path(), room));
        let mut both = Both { revisions, map: HashMap::new(), room };
        both.add(0, &first);
        both.since(SegmentId(oldest));
        let mut older = vec![both.clone()];

        let into: HashMap<_, _> = (0..60).filter(|id| id / 4 == merged / 4 && *id != merged | 3)
            .map(|id| (SegmentId(id), SegmentId(merged | 3))).collect();
        both.revisions.rename(&into.iter().map(|(from, number)| (*from, *number)).collect());
        both.map.values_mut().for_each(|id| *id = into.get(id).copied().unwrap_or(*id));
        both.check();
        both.since(SegmentId(oldest));
        older.push(both.clone());

        both.add(100, &second);
        both.since(SegmentId(oldest));
        older.push(both.clone());

        both.revisions.forget_before(Some(SegmentId(oldest)));
        both.map.retain(|_, id| *id >= SegmentId(oldest));
        both.check();
        older.push(both.clone());
        both.add(200, &third);
        both.since(SegmentId(oldest));

        both.revisions.forget_before(None);
        prop_assert!(both.revisions.runs.is_empty() && known(&both.revisions).is_empty());
        // Who looks at an older state sees that.
        older.iter().for_each(Both::check);
        drop(older);
        prop_assert_eq!(files(dir.path()), 0, "files go with their last user");
    }
}

#[test]
fn a_start_begins_with_an_empty_folder() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("00000000.run"), "of an earlier process").unwrap();
    let mut revisions = with_room(dir.path(), 0);
    assert_eq!((files(dir.path()), known(&revisions).len()), (0, 0));
    revisions.add(SegmentId(1), [id(1)].into_iter()).unwrap();
    assert_eq!((files(dir.path()), revisions.last(&id(1)).unwrap()), (1, Some(SegmentId(1))));
}

#[test]
fn files_that_are_merged_keep_the_last_of_each_trace_under_the_number_of_now() {
    let dir = tempfile::tempdir().unwrap();
    let mut revisions = with_room(dir.path(), 0);
    revisions.add(SegmentId(1), (0..4).map(id)).unwrap();
    revisions.rename(&[(SegmentId(1), SegmentId(2))].into_iter().collect());
    revisions.add(SegmentId(3), (2..6).map(id)).unwrap();
    assert_eq!(files(dir.path()), 1);
    let lasts: Vec<_> = (0..6).map(|n| revisions.last(&id(n)).unwrap().unwrap().0).collect();
    assert_eq!(lasts, [2, 2, 3, 3, 3, 3]);
    assert!(revisions.has_files_since(Some(SegmentId(2))) && !revisions.has_files_since(Some(SegmentId(3))));
    // All of them are gone, and so is the file.
    revisions.forget_before(Some(SegmentId(4)));
    assert_eq!(files(dir.path()), 0);
}

#[test]
fn a_damaged_block_is_an_error_and_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let mut revisions = with_room(dir.path(), 0);
    revisions.add(SegmentId(1), (0..200).map(id)).unwrap();
    let path = revisions.files.as_ref().unwrap().paths().remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4_000] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(revisions.is_whole(), "nobody has looked");
    let error = revisions.last(&id(1)).unwrap_err().to_string();
    assert!(error.ends_with("00000000.run: damaged block"), "{error}");
    assert!(revisions.since_in_files(None).is_err() && !revisions.is_whole());
    // Merging brings no damage into another file.
    revisions.add(SegmentId(2), (0..200).map(id)).unwrap();
    assert_eq!((files(dir.path()), revisions.is_whole()), (2, false));
    assert_eq!(revisions.last(&id(1)).unwrap(), Some(SegmentId(2)));
    let anew = revisions.emptied();
    assert!(anew.is_whole() && known(&anew).is_empty());
}

#[test]
fn what_cannot_be_written_stays_in_memory_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("revisions");
    let mut revisions = with_room(&folder, 2);
    std::fs::remove_dir(&folder).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    for n in 1..4_u8 {
        let added = revisions.add(SegmentId(n.into()), [id(n), id(n + 100)].into_iter());
        assert_eq!(added.is_err(), n > 1, "{n}");
    }
    assert_eq!(known(&revisions).len(), 6);
    std::fs::remove_file(&folder).unwrap();
    std::fs::create_dir(&folder).unwrap();
    // Also by a segment in which none was analysed again.
    revisions.add(SegmentId(4), std::iter::empty()).unwrap();
    assert_eq!((known(&revisions).len(), files(&folder)), (6, 1));
    assert!(revisions.runs.iter().map(|run| run.len()).sum::<usize>() <= 2);
}
