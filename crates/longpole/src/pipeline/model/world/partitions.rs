//! Partitions of a world: they are merged, and go.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use query::{RollupOptions, drop_partition};
use span_store::{Expired, SegmentId};
use trace_model::{NanoDuration, TraceId};

use super::{SECOND, Sealed, World, image};
use crate::pipeline::keeper::{KeepOptions, Keeper};

/// What went with a partition.
#[derive(Debug, Default)]
pub(in super::super) struct Gone {
    /// Content hashes of its spans.
    pub(in super::super) spans: HashSet<u64>,
    /// Traces whose analysis was in it.
    pub(in super::super) analysed: HashSet<TraceId>,
}

impl World {
    /// Width of a partition: a 24th of the retention, ten minutes to a day.
    pub(super) fn slice(&self) -> u64 {
        (self.outer.setting.store.retention.0 / 24).clamp(600 * SECOND, 86_400 * SECOND)
    }

    /// One that looks after this world's sealed segments.
    pub(in super::super) fn keeper(&self) -> Keeper {
        let watch = Arc::new(self.watch());
        let options = KeepOptions {
            merge_bytes: 1 << 20,
            rollup: RollupOptions { minute: NanoDuration::from_secs(3_600), ..RollupOptions::default() },
            slice: self.outer.setting.store.width(),
        };
        let stopping = Arc::new(AtomicBool::new(false));
        let of_keeper = (Arc::clone(&self.state), Arc::clone(&self.store), self.clock.clone());
        Keeper::new(of_keeper.0, of_keeper.1, watch, of_keeper.2, stopping, options)
    }

    /// The keeper merges the partitions that are over. With `replaced`, what was merged stays until later.
    pub(in super::super) fn merge(&mut self, replaced: bool) {
        let before = self.state.housekeeping.lock().merged;
        let mut keeper = self.keeper();
        keeper.merge();
        if !replaced {
            keeper.drop_replaced();
        }
        let after = self.state.housekeeping.lock().merged;
        assert_eq!(after.failed, before.failed);
        assert_eq!(after.partitions > before.partitions, self.note_merged(), "told and done");
    }

    /// What is known of segments goes to those that took their place: each has the number of its last source. Whether there
    /// are any.
    fn note_merged(&mut self) -> bool {
        let view = self.state.snapshot_of_stored();
        let known = std::mem::take(&mut self.outer.sealed);
        let (before, mut left) = (known.len(), known.into_iter().peekable());
        for segment in view.sealed.iter() {
            let (bytes, spans, analysed) = (segment.handle.disk_bytes(), HashSet::new(), HashSet::new());
            let mut merged = Sealed { slice: u64::MAX, bytes, spans, analysed };
            while let Some((id, source)) = left.next_if(|(id, _)| *id <= segment.id) {
                assert!(
                    merged.slice == u64::MAX || merged.slice == source.slice,
                    "{id:?} is of another partition"
                );
                merged.slice = source.slice;
                merged.spans.extend(source.spans);
                merged.analysed.extend(source.analysed);
            }
            assert_eq!(segment.meta.spans, merged.spans.len() as u64, "spans in {:?}", segment.id);
            self.outer.sealed.insert(segment.id, merged);
        }
        assert!(left.next().is_none(), "a segment is in none that were merged");
        self.outer.sealed.len() < before
    }

    /// As [`Self::merge`], while somebody reads, and then the process is killed: what was merged is still there at the start.
    pub(in super::super) fn merge_and_die(mut self) -> Self {
        let reader = self.state.snapshot();
        self.merge(true);
        let image = image::of(self.dir());
        drop(reader);
        self.begin_anew(Some(image))
    }

    /// The keeper takes partitions that are too old or too much, until a trace is in the way. What went with each.
    pub(in super::super) fn retire(&mut self) -> Vec<Gone> {
        let mut gone = Vec::new();
        while let Some(expired) = self.may_retire() {
            let ids = self.oldest();
            if !self.retire_one(&expired) {
                break;
            }
            gone.push(self.take_out(&ids));
        }
        let left: Vec<SegmentId> = self.state.snapshot_of_stored().sealed.iter().map(|one| one.id).collect();
        assert!(left.iter().eq(self.outer.sealed.keys()), "{left:?} are left");
        gone
    }

    /// The keeper takes the oldest partition while somebody reads, and then the process is killed: the partition is still there
    /// at the start, and the rollup that had taken its place does not count.
    pub(in super::super) fn retire_and_die(mut self) -> Self {
        let reader = self.state.snapshot();
        if let Some(expired) = self.may_retire() {
            self.retire_one(&expired);
        }
        let image = image::of(self.dir());
        drop(reader);
        self.begin_anew(Some(image))
    }

    /// The oldest partition, if retention takes it and it is promised what becomes of its traces.
    fn may_retire(&mut self) -> Option<Expired> {
        self.take_all();
        // What is due is analysed long before retention takes its spans.
        if self.is_held_in_part_of_what_goes() {
            self.tick();
            self.seal_all();
        }
        if self.repeats_what_goes() {
            self.seal_all();
        }
        self.retire_empty();
        let expired = self.store.expired(self.now());
        assert_eq!(
            expired.is_empty(),
            self.expired().is_empty(),
            "{expired:?}, should be {:?}",
            self.expired()
        );
        expired.into_iter().next().filter(|_| !self.is_held_in_part_of_what_goes())
    }

    /// A segment that could not be sealed may leave a partition without any.
    fn retire_empty(&self) {
        let is_known = |slice| self.outer.sealed.values().any(|one| one.slice == slice);
        let expired = self.store.expired(self.now()).into_iter();
        for empty in expired.take_while(|one| !is_known(one.partition.begin.0 / self.slice())) {
            assert!(empty.bytes == 0 && self.keeper().retire(&empty), "{empty:?}");
        }
    }

    /// A replay would count spans again that came again before their partition went.
    fn repeats_what_goes(&self) -> bool {
        let (sealed, going) = (self.store.sealed_seq(), self.spans_of(&self.oldest()));
        let in_log = self.outer.frames.iter().filter(|(seq, _)| *seq > sealed);
        in_log.flat_map(|(_, spans)| spans).any(|span| going.contains(span))
    }

    /// Whether a trace in memory has spans there and its analysis elsewhere, or none as yet: its next one is made with
    /// these spans, unless the process ends before.
    fn is_held_in_part_of_what_goes(&self) -> bool {
        let oldest = self.oldest();
        let (going, analysed) = (self.spans_of(&oldest), self.analysed_in(&oldest));
        let assembly = self.state.assembly.lock();
        let held = assembly.assembler.iter().map(|(id, _)| id).filter(|id| !analysed.contains(*id));
        let held: HashSet<TraceId> = held.copied().collect();
        drop(assembly);
        self.outer.contents.iter().any(|(content, id)| held.contains(id) && going.contains(content))
    }

    /// Whether the partition is gone. It stays while a trace of it may be analysed again.
    fn retire_one(&mut self, expired: &Expired) -> bool {
        let analysed = self.analysed_in(&self.oldest());
        let held = analysed.iter().filter(|id| self.state.assembly.lock().assembler.holds(id)).count();
        let gone = self.keeper().retire(expired);
        assert_eq!(gone, held == 0, "{held} traces of it are held");
        gone
    }

    fn take_out(&mut self, ids: &BTreeSet<SegmentId>) -> Gone {
        let gone = Gone { spans: self.spans_of(ids), analysed: self.analysed_in(ids) };
        self.outer.sealed.retain(|id, _| !ids.contains(id));
        gone
    }

    /// The segments of the oldest partition.
    fn oldest(&self) -> BTreeSet<SegmentId> {
        let slice = self.outer.sealed.values().map(|one| one.slice).min();
        let of_it = self.outer.sealed.iter().filter(|(_, one)| Some(one.slice) == slice);
        of_it.map(|(id, _)| *id).collect()
    }

    fn spans_of(&self, ids: &BTreeSet<SegmentId>) -> HashSet<u64> {
        ids.iter().flat_map(|id| &self.outer.sealed[id].spans).copied().collect()
    }

    /// Traces whose last analysis is in one of these.
    fn analysed_in(&self, ids: &BTreeSet<SegmentId>) -> HashSet<TraceId> {
        let mut found = HashSet::new();
        for (id, one) in &self.outer.sealed {
            match ids.contains(id) {
                true => found.extend(&one.analysed),
                false => found.retain(|trace| !one.analysed.contains(trace)),
            }
        }
        found
    }

    /// The keeper takes what it may and makes rollups coarser. What went.
    pub(in super::super) fn fold(&mut self) -> Vec<Gone> {
        let gone = self.retire();
        self.keeper().roll_up();
        gone
    }

    /// Seals everything, lets retention work, and checks that it took what it should. The spans that are gone.
    pub(in super::super) fn retain(&mut self) -> HashSet<u64> {
        self.seal_all();
        let expected = self.expired();
        // Without rollups: answers are those over what is left.
        for expired in self.store.expired(self.now()) {
            drop_partition(&self.state, &self.store, &expired, self.now()).unwrap();
        }
        let view = self.state.snapshot();
        let mut gone = HashSet::new();
        for id in &expected {
            gone.extend(self.outer.sealed.remove(id).unwrap().spans);
        }
        let left: Vec<SegmentId> = view.sealed.iter().map(|segment| segment.id).collect();
        assert!(
            left.iter().eq(self.outer.sealed.keys()),
            "retention left {left:?}, should take {expected:?}"
        );
        gone
    }

    /// Whole partitions, the oldest first, while they are too old or there is too much; the newest only by age.
    fn expired(&self) -> Vec<SegmentId> {
        let sealed = &self.outer.sealed;
        let (now, options) = (self.now().0, self.outer.setting.store);
        let mut slices: Vec<u64> = sealed.values().map(|one| one.slice).collect();
        slices.sort_unstable();
        slices.dedup();
        let newest = slices.last().copied();
        let mut stored: u64 = sealed.values().map(|one| one.bytes).sum();
        let mut gone = Vec::new();
        for slice in slices {
            let is_old = (slice + 1) * self.slice() + options.retention.0 <= now;
            if !is_old && (stored <= options.bytes_max || Some(slice) == newest) {
                break;
            }
            for (id, one) in sealed.iter().filter(|(_, one)| one.slice == slice) {
                stored -= one.bytes;
                gone.push(*id);
            }
        }
        gone
    }
}
