//! Memory for sums under way: what questions over many segments have gathered until they answer.
//!
//! Every such question grows with the series or items that it finds, and a server is asked several at a time. Together they
//! take no more than their part of memory, but for one: the elder, who goes on when there is no room, so that somebody
//! always ends. The others wait where they are, with what they have, until it does. Small ones need no room.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};

/// Bytes that a question may have without asking, but no more than a part of the room.
const SMALL: usize = 256 << 10;
const SMALL_PART: usize = 32;

/// Room for the sums of all questions together.
#[derive(Debug)]
pub struct SumsRoom {
    shares: Mutex<Shares>,
    changed: Condvar,
    most: usize,
    small: usize,
    point_bytes_max: usize,
}

#[derive(Debug, Default)]
struct Shares {
    taken: usize,
    /// Memory is short: only the elder goes on.
    is_short: bool,
    elder: Option<u64>,
    /// Threads that wait, by the number of their question.
    waiting: BTreeMap<u64, usize>,
    next: u64,
}

/// What one question has of the room; dropping it gives all of it back.
#[derive(Debug)]
pub(crate) struct Share<'a> {
    room: &'a SumsRoom,
    number: u64,
    bytes: AtomicUsize,
}

/// What one part of a question takes, as it grows. It stays with the question when the part ends, since so do its sums.
#[derive(Debug)]
pub(crate) struct Portion<'a> {
    share: &'a Share<'a>,
    bytes: usize,
}

impl Default for SumsRoom {
    fn default() -> Self {
        Self::with_bytes(32 << 20, 64 << 20)
    }
}

impl SumsRoom {
    /// Room of so many bytes, with a bound on the histograms that the points of one answer are made of, bytes as well. A
    /// point takes about a hundred, and up to 16 KiB where many different durations are in it.
    pub fn with_bytes(most: usize, point_bytes_max: usize) -> Self {
        Self {
            shares: Mutex::default(),
            changed: Condvar::new(),
            most,
            small: SMALL.min(most / SMALL_PART),
            point_bytes_max,
        }
    }

    /// Bytes of histograms that the points of one answer are made of at most.
    pub(crate) const fn point_bytes_max(&self) -> usize {
        self.point_bytes_max
    }

    /// Says whether memory is short altogether. While it is, questions that need room go on one at a time.
    pub fn set_short(&self, is_short: bool) {
        let mut shares = self.shares.lock();
        if std::mem::replace(&mut shares.is_short, is_short) && !is_short {
            self.changed.notify_all();
        }
    }

    /// Whether memory is short.
    pub(crate) fn is_short(&self) -> bool {
        self.shares.lock().is_short
    }

    /// The share of a question that begins: nothing yet.
    pub(crate) fn share(&self) -> Share<'_> {
        let mut shares = self.shares.lock();
        shares.next += 1;
        Share { room: self, number: shares.next, bytes: AtomicUsize::new(0) }
    }
}

impl Share<'_> {
    /// What a part of the question takes: nothing yet.
    pub(crate) fn portion(&self) -> Portion<'_> {
        Portion { share: self, bytes: 0 }
    }

    /// Gives everything back; for a question that begins anew.
    pub(crate) fn reset(&self) {
        self.shrink(self.bytes.load(Ordering::Relaxed));
    }

    /// Waits until there is room for so many bytes more. Whoever waits must hold nothing that others need to go on.
    fn grow(&self, more: usize) {
        let has = self.bytes.fetch_add(more, Ordering::Relaxed) + more;
        let mut shares = self.room.shares.lock();
        if has > self.room.small && !self.fits(&shares, more) {
            *shares.waiting.entry(self.number).or_default() += 1;
            self.become_elder(&mut shares);
            while !self.fits(&shares, more) {
                self.room.changed.wait(&mut shares);
                self.become_elder(&mut shares);
            }
            self.leave(&mut shares);
        }
        shares.taken += more;
    }

    fn fits(&self, shares: &Shares, more: usize) -> bool {
        shares.elder == Some(self.number) || !shares.is_short && shares.taken + more <= self.room.most
    }

    /// If there is none, whoever waits and began first is the elder, with all of its threads: those that sleep are woken.
    fn become_elder(&self, shares: &mut Shares) {
        let is_first = shares.waiting.first_key_value().is_some_and(|(first, _)| *first == self.number);
        if shares.elder.is_none() && is_first {
            shares.elder = Some(self.number);
            self.room.changed.notify_all();
        }
    }

    /// A thread of this share waits no more. Whoever is first now may have slept through that there is no elder.
    fn leave(&self, shares: &mut Shares) {
        if let Some(threads) = shares.waiting.get_mut(&self.number) {
            *threads -= 1;
            if *threads == 0 {
                shares.waiting.remove(&self.number);
            }
        }
        self.room.changed.notify_all();
    }

    fn shrink(&self, less: usize) {
        if less == 0 {
            return;
        }
        self.bytes.fetch_sub(less, Ordering::Relaxed);
        self.room.shares.lock().taken -= less;
        self.room.changed.notify_all();
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut shares = self.room.shares.lock();
        shares.taken -= *self.bytes.get_mut();
        if shares.elder == Some(self.number) {
            shares.elder = None;
        }
        drop(shares);
        self.room.changed.notify_all();
    }
}

impl Portion<'_> {
    /// Says how many bytes this part of the question has now, and waits until there is room for what is new.
    pub(crate) fn set(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        if bytes > before {
            self.share.grow(bytes - before);
        } else if bytes < before {
            self.share.shrink(before - bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use super::*;

    const UNIT: usize = SMALL;

    fn room_of(units: usize) -> SumsRoom {
        SumsRoom { small: UNIT, ..SumsRoom::with_bytes(units * UNIT, 0) }
    }

    fn taken(room: &SumsRoom) -> usize {
        room.shares.lock().taken
    }

    fn waiting(room: &SumsRoom) -> usize {
        room.shares.lock().waiting.len()
    }

    fn until(done: impl Fn() -> bool) {
        while !done() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let room = room_of(4);
        let share = room.share();
        let (mut one, mut other) = (share.portion(), share.portion());
        one.set(2 * UNIT);
        other.set(2 * UNIT);
        one.set(UNIT);
        assert_eq!(taken(&room), 3 * UNIT);
        drop(share);
        assert_eq!(taken(&room), 0);
    }

    #[test]
    fn the_elder_goes_beyond_and_others_wait_until_it_has_ended() {
        let room = room_of(4);
        let (elder, other) = (room.share(), room.share());
        elder.portion().set(3 * UNIT);
        other.portion().set(UNIT);
        elder.portion().set(2 * UNIT);
        assert_eq!(taken(&room), 6 * UNIT, "somebody always goes on");
        let went_on = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                other.portion().set(UNIT);
                went_on.store(true, Ordering::SeqCst);
            });
            until(|| room.shares.lock().waiting.contains_key(&other.number));
            assert!(!went_on.load(Ordering::SeqCst));
            let small = room.share();
            small.portion().set(UNIT);
            drop(small);
            elder.portion().set(UNIT);
            drop(elder);
        });
        assert!(went_on.into_inner());
        drop(other);
        assert_eq!((taken(&room), waiting(&room)), (0, 0));
    }

    #[test]
    fn while_memory_is_short_one_goes_on() {
        let room = room_of(100);
        room.set_short(true);
        let (first, second) = (room.share(), room.share());
        first.portion().set(2 * UNIT);
        std::thread::scope(|scope| {
            scope.spawn(|| second.portion().set(2 * UNIT));
            until(|| room.shares.lock().waiting.contains_key(&second.number));
            first.portion().set(2 * UNIT);
            assert_eq!(taken(&room), 4 * UNIT);
            room.set_short(false);
        });
        assert_eq!(taken(&room), 6 * UNIT);
    }

    /// Each takes in two threads until it has what it needs; together that is many times the room.
    #[test]
    fn however_many_there_are_all_come_to_an_end() {
        let room = room_of(20);
        std::thread::scope(|scope| {
            for number in 0..16_usize {
                let room = &room;
                scope.spawn(move || {
                    let share = room.share();
                    std::thread::scope(|parts| {
                        for _ in 0..2 {
                            parts.spawn(|| {
                                let mut portion = share.portion();
                                (0..40).for_each(|n| portion.set((n + number) * UNIT / 4));
                            });
                        }
                    });
                });
            }
        });
        assert_eq!((taken(&room), waiting(&room)), (0, 0));
        assert_eq!(room.shares.lock().elder, None);
    }

    /// Where the elder ends, two threads of the next one may have been put off by a third that then goes on without being
    /// the elder: whatever order they wake in, all come to an end.
    #[test]
    fn whoever_sleeps_when_its_question_becomes_the_elder_is_woken() {
        for _ in 0..200 {
            let room = room_of(100);
            let (elder, first, second) = (room.share(), room.share(), room.share());
            elder.portion().set(110 * UNIT);
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    let grow = |portion: &mut Portion<'_>| (1..4).for_each(|n| portion.set(n * 70 * UNIT));
                    std::thread::scope(|parts| {
                        parts.spawn(|| grow(&mut second.portion()));
                        parts.spawn(|| grow(&mut second.portion()));
                    });
                    drop(second);
                });
                scope.spawn(move || {
                    (1..12).for_each(|n| first.portion().set(n * UNIT));
                    drop(first);
                });
                until(|| waiting(&room) >= 1);
                drop(elder);
            });
            assert_eq!((taken(&room), waiting(&room)), (0, 0));
        }
    }
}
