//! What an import says while it waits: it would be silent for most of a minute otherwise.

use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use parking_lot::Mutex;

/// Shorter pauses are over before anybody wonders.
const WORTH_TELLING: Duration = Duration::from_secs(1);

/// Tells of pauses, for all requests that are under way together: when the server takes nothing, all of them wait.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Where lines go above.
    bar: ProgressBar,
    /// When the pause ends that was told last.
    told_until: Mutex<Option<Instant>>,
}

impl Waiting {
    pub(super) fn new(bar: ProgressBar) -> Self {
        Self { bar, told_until: Mutex::new(None) }
    }

    /// Says on standard error why there is a pause, and how long it is, unless it is short or another request has just
    /// said so.
    pub(super) fn tell(&self, why: &str, pause: Duration) {
        if let Some(line) = self.line(why, pause, Instant::now()) {
            // If nobody can read it, the import goes on all the same.
            self.bar.suspend(|| {
                let _ = writeln!(std::io::stderr(), "{line}");
            });
        }
    }

    fn line(&self, why: &str, pause: Duration, now: Instant) -> Option<String> {
        let mut told_until = self.told_until.lock();
        if pause < WORTH_TELLING || told_until.is_some_and(|end| now < end) {
            return None;
        }
        *told_until = Some(now + pause);
        // A tenth of a second says nothing of one.
        let seconds = (pause.as_millis() as u64).div_ceil(1_000);
        Some(format!("{why}; sending again in {seconds} s"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_of_some_seconds_is_told_once_however_many_requests_wait() {
        let waiting = Waiting::new(ProgressBar::hidden());
        let start = Instant::now();
        let line = |after: u64, pause: u64| {
            let (after, pause) = (Duration::from_millis(after), Duration::from_millis(pause));
            waiting.line("the server said Unavailable: the disk is too full", pause, start + after)
        };
        assert_eq!((line(0, 100), line(300, 800)), (None, None), "too short");
        let told = "the server said Unavailable: the disk is too full; sending again in 2 s";
        assert_eq!(line(1_500, 1_600).as_deref(), Some(told));
        assert_eq!((line(1_501, 1_600), line(3_000, 5_000)), (None, None), "another request waits as well");
        assert!(line(3_100, 3_200).is_some_and(|line| line.ends_with("in 4 s")));
        assert!(line(6_300, 5_000).is_some_and(|line| line.ends_with("in 5 s")));
        assert_eq!(line(11_299, 5_000), None);
        assert!(line(11_300, 5_000).is_some());
    }
}
