//! How fast the log takes bytes, and so how long a refused client should wait.

use std::time::{Duration, Instant};

/// One measurement lasts at least this long.
const WINDOW: Duration = Duration::from_millis(250);
/// Windows of silence that count at most: enough to forget nearly everything.
const WINDOWS_MAX: u128 = 16;
/// Assumed until something has been measured, in bytes a second.
const FIRST_GUESS: u64 = 32 << 20;
/// No client is told to come back sooner.
const WAIT_MIN: Duration = Duration::from_millis(100);
/// No client is told to stay away longer.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A moving average over the time in which something waited for the log. Each new window counts a quarter.
#[derive(Debug)]
pub(crate) struct DrainRate {
    bytes_per_second: u64,
    /// Bytes that wait for the log now.
    waiting: u64,
    /// Taken in this window.
    taken: u64,
    /// Time in this window in which something waited, up to `since`.
    busy: Duration,
    since: Instant,
}

impl DrainRate {
    pub(crate) fn new(now: Instant) -> Self {
        Self { bytes_per_second: FIRST_GUESS, waiting: 0, taken: 0, busy: Duration::ZERO, since: now }
    }

    /// So many bytes wait for the log from now on.
    pub(crate) fn enter(&mut self, bytes: u64, now: Instant) {
        self.pass(now);
        self.waiting += bytes;
    }

    /// So many bytes wait no longer; the log has them, or does not.
    pub(crate) fn leave(&mut self, bytes: u64, taken: bool, now: Instant) {
        self.pass(now);
        self.waiting = self.waiting.saturating_sub(bytes);
        self.taken += if taken { bytes } else { 0 };
        self.fold();
    }

    /// How long until so many bytes have gone, between 100 ms and 30 s.
    pub(crate) fn wait(&mut self, bytes: u64, now: Instant) -> Duration {
        self.pass(now);
        self.fold();
        let millis = bytes.saturating_mul(1_000) / self.bytes_per_second.max(1);
        Duration::from_millis(millis).clamp(WAIT_MIN, WAIT_MAX)
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting
    }

    #[cfg(test)]
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    fn pass(&mut self, now: Instant) {
        if self.waiting > 0 {
            self.busy += now.saturating_duration_since(self.since);
        }
        self.since = now;
    }

    fn fold(&mut self) {
        if self.busy < WINDOW {
            return;
        }
        let measured = u128::from(self.taken) * 1_000_000 / self.busy.as_micros().max(1);
        let measured = u64::try_from(measured).unwrap_or(u64::MAX / 4);
        for _ in 0..(self.busy.as_millis() / WINDOW.as_millis()).min(WINDOWS_MAX) {
            self.bytes_per_second = self.bytes_per_second - self.bytes_per_second / 4 + measured / 4;
        }
        self.busy = Duration::ZERO;
        self.taken = 0;
    }
}

/// Spreads clients out: up to a fifth less or more.
pub(crate) fn jittered(wait: Duration) -> Duration {
    wait * rand::random_range(80..=120) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Some seconds in which the log always has work and takes so much of it.
    fn busy(rate: &mut DrainRate, start: Instant, seconds: u32, bytes_per_second: u64) -> Instant {
        rate.enter(bytes_per_second / 4, start);
        for step in 1..=seconds * 4 {
            let now = start + WINDOW * step;
            rate.enter(bytes_per_second / 4, now);
            rate.leave(bytes_per_second / 4, true, now);
        }
        let end = start + WINDOW * (seconds * 4);
        rate.leave(bytes_per_second / 4, false, end);
        end
    }

    #[test]
    fn the_wait_follows_the_rate() {
        let start = Instant::now();
        let mut rate = DrainRate::new(start);
        let now = busy(&mut rate, start, 30, 8 * MIB);
        let wait = rate.wait(64 * MIB, now);
        assert!((7_900..=8_200).contains(&wait.as_millis()), "{wait:?}");
        let now = busy(&mut rate, now, 30, 128 * MIB);
        let wait = rate.wait(64 * MIB, now);
        assert!((480..=520).contains(&wait.as_millis()), "{wait:?}");
        assert_eq!(rate.wait(1, now), WAIT_MIN);
    }

    #[test]
    fn a_log_that_stands_still_means_a_long_wait_and_idle_time_means_nothing() {
        let start = Instant::now();
        let mut rate = DrainRate::new(start);
        let now = busy(&mut rate, start, 30, 64 * MIB);
        // Nothing waited for an hour, then much at once.
        let now = now + Duration::from_secs(3_600);
        rate.enter(64 * MIB, now);
        let wait = rate.wait(64 * MIB, now);
        assert!((900..=1_100).contains(&wait.as_millis()), "{wait:?}");
        assert_eq!(rate.wait(64 * MIB, now + Duration::from_secs(20)), WAIT_MAX);
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        for _ in 0..1_000 {
            let wait = jittered(Duration::from_secs(10));
            assert!((8_000..=12_000).contains(&wait.as_millis()), "{wait:?}");
        }
    }
}
