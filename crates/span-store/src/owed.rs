//! What the disk still owes the log: the room that sealing everything in it takes, which must stay free.

/// Frames are told apart to this much of need; sealing a part of such a run counts for nothing until all of it is.
const GRAIN: u64 = 64 << 10;
/// What is written besides the frames' own segments before their log can go: the switch of the WAL, families and the
/// list of options with all of them, the rollup of a partition that goes to make room.
const BASE: u64 = 4 << 20;

/// The room that sealing a frame takes at most, from its bytes in the log and inflated.
///
/// A segment was seen to take half of what its frames do: both leave out what repeats, and a segment looks further
/// for it. What repeats nowhere takes the same in both. The rest is for rows, heads and histograms: a span has few of
/// its bytes in them, and the smallest of messages have the most.
pub(crate) fn of_frame(stored: usize, inflated: usize) -> u64 {
    stored as u64 + inflated as u64 / 2
}

/// The room that a group takes which is not written yet, at most: in the log, and for its sealing.
pub(crate) fn of_group(inflated: usize) -> u64 {
    inflated as u64 + of_frame(inflated, inflated)
}

/// With nothing in the log.
pub(crate) const fn of_nothing() -> u64 {
    BASE
}

/// What consecutive frames need, so that what those above a number need is quickly known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Owed {
    /// The last frame of a run, and what all frames up to it need.
    runs: Vec<(u64, u64)>,
}

impl Owed {
    /// A frame with the next number needs so much.
    pub(crate) fn add(&mut self, seq: u64, need: u64) {
        let before = self.runs.len().checked_sub(2).and_then(|at| self.runs.get(at)).map_or(0, |run| run.1);
        let total = self.total() + need;
        match self.runs.last_mut() {
            Some(last) if last.1 - before < GRAIN => *last = (seq, total),
            _ => self.runs.push((seq, total)),
        }
    }

    fn total(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.1)
    }

    /// What the frames above a number need.
    pub(crate) fn above(&self, seq: u64) -> u64 {
        let sealed = self.runs.partition_point(|run| run.0 <= seq);
        let done = sealed.checked_sub(1).and_then(|at| self.runs.get(at)).map_or(0, |run| run.1);
        self.total() - done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_needs_nothing_and_the_rest_is_never_counted_short() {
        let mut owed = Owed::default();
        assert_eq!(owed.above(0), 0);
        let needs: Vec<u64> = (1..=1_000).map(|seq| seq * 7_919 % 30_000).collect();
        for (at, need) in needs.iter().enumerate() {
            owed.add(at as u64 + 1, *need);
        }
        assert!(owed.runs.len() < 300, "{} runs", owed.runs.len());
        for sealed in 0..=1_000 {
            let wanted: u64 = needs[sealed..].iter().sum();
            let found = owed.above(sealed as u64);
            assert!(
                found >= wanted && found < wanted + GRAIN + 30_000,
                "{found} for {wanted} above {sealed}"
            );
        }
        assert_eq!((owed.above(1_000), owed.above(0)), (0, needs.iter().sum()));
    }

    #[test]
    fn a_group_that_was_let_in_leaves_room_for_its_sealing() {
        // However well or badly it is compressed.
        for stored in [0, 10_000, 1 << 20] {
            assert!(of_group(1 << 20) >= stored as u64 + of_frame(stored, 1 << 20));
        }
    }
}
