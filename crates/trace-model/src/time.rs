//! Instants and durations: whole nanoseconds, never a float.

use std::fmt;

/// An instant: nanoseconds since the Unix epoch. Range: 1970 to 2554.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixNanos(pub u64);

/// A length of time in nanoseconds. Range: 0 to 584 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NanoDuration(pub u64);

impl UnixNanos {
    /// Nanoseconds in a minute, the width of a histogram's time bucket.
    pub const PER_MINUTE: u64 = 60_000_000_000;

    /// The time from `earlier` to `self`, zero if `earlier` is later.
    #[inline]
    pub const fn since(self, earlier: Self) -> NanoDuration {
        NanoDuration(self.0.saturating_sub(earlier.0))
    }

    /// `self + duration`, at most the last representable instant.
    #[inline]
    pub const fn saturating_add(self, duration: NanoDuration) -> Self {
        Self(self.0.saturating_add(duration.0))
    }

    /// `self - duration`, at least the epoch.
    #[inline]
    pub const fn saturating_sub(self, duration: NanoDuration) -> Self {
        Self(self.0.saturating_sub(duration.0))
    }

    /// The number of whole minutes since the epoch.
    #[inline]
    pub const fn minute(self) -> u32 {
        // u64::MAX nanoseconds are 307,445,734 minutes, which fits.
        (self.0 / Self::PER_MINUTE) as u32
    }
}

impl NanoDuration {
    /// A duration of whole milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// A duration of whole seconds.
    pub const fn from_secs(s: u64) -> Self {
        Self(s.saturating_mul(1_000_000_000))
    }
}

impl fmt::Display for NanoDuration {
    /// Three significant digits or so, for people: `870ns`, `12.3µs`, `4.56ms`, `1.20s`, `2m05s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0;
        let (unit, per) = match ns {
            0..1_000 => return f.pad(&format!("{ns}ns")),
            1_000..1_000_000 => ("µs", 1_000),
            1_000_000..1_000_000_000 => ("ms", 1_000_000),
            1_000_000_000..60_000_000_000 => ("s", 1_000_000_000),
            _ => return f.pad(&format!("{}m{:02}s", ns / 60_000_000_000, ns / 1_000_000_000 % 60)),
        };
        let whole = ns / per;
        let hundredths = ns % per * 100 / per;
        let text = match whole {
            0..10 => format!("{whole}.{hundredths:02}{unit}"),
            10..100 => format!("{whole}.{}{unit}", hundredths / 10),
            _ => format!("{whole}{unit}"),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_for_people() {
        let written = |ns| NanoDuration(ns).to_string();
        assert_eq!(written(870), "870ns");
        assert_eq!(written(12_345), "12.3µs");
        assert_eq!(written(4_560_000), "4.56ms");
        assert_eq!(written(981_000_000), "981ms");
        assert_eq!(written(1_204_000_000), "1.20s");
        assert_eq!(written(125_000_000_000), "2m05s");
        assert_eq!(format!("{:>8}", NanoDuration(5)), "     5ns");
    }

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(UnixNanos(5).since(UnixNanos(9)), NanoDuration(0));
        assert_eq!(UnixNanos(u64::MAX).saturating_add(NanoDuration(1)), UnixNanos(u64::MAX));
        assert_eq!(UnixNanos(u64::MAX).minute(), 307_445_734);
    }
}
