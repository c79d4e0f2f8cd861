//! Spreads the wait for the sealer over all frames of a segment.
//!
//! At full load the next segment is gathered faster than the last one is sealed. If frames were taken until it is
//! whole, the last of them would wait for the sealer alone, and the clients that sent it with them. Instead each frame
//! waits a little: the segment fills as the sealing gets on, judged by how long the last one took.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// One part in so many of a segment is taken without a wait, so that short bursts meet none.
const FREE: usize = 4;

/// Shared by the sealer, which tells when it works, and assembling, which asks how long to wait.
#[derive(Debug, Default)]
pub(super) struct Pace {
    sealing: Mutex<Sealing>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Sealing {
    began: Option<Instant>,
    /// What the last one took.
    last: Duration,
}

impl Pace {
    /// A segment is being sealed.
    pub(super) fn begin(&self) {
        self.sealing.lock().began = Some(Instant::now());
    }

    /// It is sealed.
    pub(super) fn end(&self) {
        let mut sealing = self.sealing.lock();
        if let Some(began) = sealing.began.take() {
            sealing.last = began.elapsed();
        }
        drop(sealing);
        self.ended.notify_all();
    }

    /// Waits until the sealing should have got as far as the next segment, of which `gathered` of `whole` bytes are
    /// there; no longer than `most` and than the sealing goes on.
    pub(super) fn keep(&self, gathered: usize, whole: usize, most: Duration) {
        let mut sealing = self.sealing.lock();
        let Some(wait) = sealing.wait(gathered, whole, Instant::now()) else { return };
        let until = Instant::now() + wait.min(most);
        while sealing.began.is_some() && !self.ended.wait_until(&mut sealing, until).timed_out() {}
    }
}

impl Sealing {
    fn wait(&self, gathered: usize, whole: usize, now: Instant) -> Option<Duration> {
        let began = self.began.filter(|_| gathered > whole / FREE)?;
        let nanos = self.last.as_nanos() * gathered.min(whole) as u128 / whole.max(1) as u128;
        let due = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        due.checked_sub(now.saturating_duration_since(began))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_fills_as_the_last_one_is_sealed() {
        let began = Instant::now();
        let sealing = Sealing { began: Some(began), last: Duration::from_millis(200) };
        let after = |ms| began + Duration::from_millis(ms);
        assert_eq!(sealing.wait(20, 100, began), None, "a short burst");
        assert_eq!(sealing.wait(50, 100, after(40)), Some(Duration::from_millis(60)));
        assert_eq!(sealing.wait(50, 100, after(140)), None, "it is further than what is gathered");
        assert_eq!(sealing.wait(300, 100, after(150)), Some(Duration::from_millis(50)), "one giant request");
    }

    #[test]
    fn nothing_waits_for_a_sealer_that_has_nothing_to_do_or_has_just_ended() {
        let pace = Pace::default();
        assert_eq!(pace.sealing.lock().wait(1, 1, Instant::now()), None);
        *pace.sealing.lock() = Sealing { began: Some(Instant::now()), last: Duration::from_secs(3600) };
        std::thread::scope(|threads| {
            threads.spawn(|| pace.keep(1, 1, Duration::from_secs(3600)));
            pace.end();
        });
        assert!(pace.sealing.lock().began.is_none());
    }
}
