//! How many threads may read segments for sums over many of them.
//!
//! Such a question takes seconds of all processors, and a server may be asked several at a time. They take turns, segment
//! by segment, so that a short one need not wait for a long one; and while a segment is being sealed one thread goes on,
//! because then load waits for the sealer.

use std::num::NonZero;
use std::thread::available_parallelism;

use parking_lot::{Condvar, Mutex};

/// Lets so many through as there are processors, or one while a segment is being sealed.
#[derive(Debug)]
pub struct Scans {
    turns: Mutex<Turns>,
    changed: Condvar,
    most: usize,
}

#[derive(Debug, Default)]
struct Turns {
    taken: usize,
    sealing: usize,
}

/// For as long as there is one, a segment is being sealed.
#[derive(Debug)]
pub struct Sealing<'a>(&'a Scans);

/// A turn; dropping it lets the next one.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Scans);

impl Default for Scans {
    fn default() -> Self {
        Self::with_threads(available_parallelism().map_or(1, NonZero::get))
    }
}

impl Scans {
    fn with_threads(most: usize) -> Self {
        Self { turns: Mutex::default(), changed: Condvar::new(), most: most.max(1) }
    }

    /// A segment is being sealed, until what this returns is dropped.
    pub fn sealing(&self) -> Sealing<'_> {
        self.turns.lock().sealing += 1;
        Sealing(self)
    }

    /// Waits until there is a turn for one more segment.
    pub(crate) fn turn(&self) -> Turn<'_> {
        let mut turns = self.turns.lock();
        while turns.taken >= if turns.sealing > 0 { 1 } else { self.most } {
            self.changed.wait(&mut turns);
        }
        turns.taken += 1;
        Turn(self)
    }
}

impl Drop for Sealing<'_> {
    fn drop(&mut self) {
        self.0.turns.lock().sealing -= 1;
        self.0.changed.notify_all();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.turns.lock().taken -= 1;
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// The most that were through at one time, of eight that take many turns.
    fn most_at_once(scans: &Scans) -> usize {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let _turn = scans.turn();
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        most.into_inner()
    }

    #[test]
    fn there_are_as_many_turns_as_processors_and_one_while_a_segment_is_sealed() {
        let scans = Scans::with_threads(3);
        assert!(most_at_once(&scans) <= 3);
        let (one, other) = (scans.sealing(), scans.sealing());
        drop(one);
        assert_eq!(most_at_once(&scans), 1);
        let turn = scans.turn();
        std::thread::scope(|scope| {
            scope.spawn(|| drop(scans.turn()));
            drop(other);
        });
        drop(turn);
    }
}
