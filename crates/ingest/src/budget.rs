//! The one bound on bytes that are being received or on their way to the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::drain::DrainRate;

/// Bytes that may be on the way at a time, and how fast the log takes them.
#[derive(Debug)]
pub(crate) struct Budget {
    max: usize,
    used: AtomicUsize,
    drain: Mutex<DrainRate>,
}

impl Budget {
    /// A budget of so many bytes.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        let drain = Mutex::new(DrainRate::new(Instant::now()));
        Arc::new(Self { max, used: AtomicUsize::new(0), drain })
    }

    /// Bytes charged at this moment.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// A charge of nothing, to be grown.
    pub(crate) fn charge(self: &Arc<Self>) -> Charge {
        Charge { budget: Arc::clone(self), bytes: 0 }
    }

    /// Whether so much could be charged now. One larger than the whole budget passes when it is alone.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.used() + bytes.min(self.max) <= self.max
    }

    /// So many bytes wait for the log until what is returned is dropped.
    pub(crate) fn queue(self: &Arc<Self>, bytes: usize) -> Queued {
        let bytes = bytes as u64;
        self.drain.lock().enter(bytes, Instant::now());
        Queued { budget: Arc::clone(self), bytes, taken: false }
    }

    /// When it is worth trying again: after what is queued has gone, at the rate of late.
    pub(crate) fn wait(&self) -> Duration {
        self.drain.lock().wait(self.used() as u64, Instant::now())
    }

    /// Bytes that wait for the log.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> u64 {
        self.drain.lock().waiting()
    }

    /// Bytes that the log took of late, for as long as they are measured.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> u64 {
        self.drain.lock().taken()
    }

    fn take(&self, bytes: usize) -> bool {
        let room = |used: usize| used.checked_add(bytes).filter(|&total| total <= self.max);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, room).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// Bytes that wait for the log.
#[derive(Debug)]
pub(crate) struct Queued {
    budget: Arc<Budget>,
    bytes: u64,
    taken: bool,
}

impl Queued {
    /// The log has them.
    pub(crate) fn taken(mut self) {
        self.taken = true;
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.budget.drain.lock().leave(self.bytes, self.taken, Instant::now());
    }
}

/// One request's share of the budget; given back when it is dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    /// A charge against no budget but its own, for requests that do not come through a server.
    pub fn apart() -> Self {
        Budget::new(usize::MAX).charge()
    }

    /// What is charged, beyond the whole budget as well.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Charges so many bytes more. False if there is no room; nothing has changed then. What is beyond the whole
    /// budget costs nothing, so that one large request alone can pass.
    #[must_use]
    pub(crate) fn grow(&mut self, by: usize) -> bool {
        let wanted = self.bytes.saturating_add(by);
        let max = self.budget.max;
        if self.budget.take(wanted.min(max) - self.bytes.min(max)) {
            self.bytes = wanted;
            return true;
        }
        false
    }

    /// Gives bytes back.
    pub(crate) fn shrink(&mut self, by: usize) {
        let left = self.bytes.saturating_sub(by);
        let max = self.budget.max;
        self.budget.give_back(self.bytes.min(max) - left.min(max));
        self.bytes = left;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_add_up_and_are_given_back() {
        let budget = Budget::new(100);
        let mut a = budget.charge();
        let mut b = budget.charge();
        assert!(a.grow(60) && b.grow(40) && !a.grow(1));
        assert!(!budget.has_room(1));
        b.shrink(30);
        assert!(budget.has_room(30) && !budget.has_room(31));
        assert!(a.grow(30));
        drop(a);
        assert_eq!(budget.used(), 10);
        drop(b);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn one_larger_than_everything_passes_alone_and_only_alone() {
        let budget = Budget::new(100);
        let mut small = budget.charge();
        assert!(small.grow(1));
        let mut large = budget.charge();
        assert!(!large.grow(500) && !budget.has_room(500));
        drop(small);
        assert!(budget.has_room(500) && large.grow(300) && large.grow(200));
        assert_eq!(budget.used(), 100);
        large.shrink(450);
        assert_eq!(budget.used(), 50);
        drop(large);
        assert_eq!(budget.used(), 0);
    }
}
