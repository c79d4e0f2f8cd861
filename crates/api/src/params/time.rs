//! The grammar of instants and durations in parameters.

use jiff::Timestamp;
use trace_model::{NanoDuration, UnixNanos};

/// What an instant may look like.
pub(crate) const TIME_FORMS: &str = "RFC 3339 (2026-01-31T12:00:00Z), unix seconds, milliseconds, microseconds or nanoseconds, `now` or `now-15m`";
/// What a duration may look like.
pub(crate) const DURATION_FORMS: &str =
    "a duration such as 250ms, 1.5s, 1m30s or 2h (units ns, us, ms, s, m, h, d)";

/// Units with their nanoseconds, longest first.
const UNITS: [(&str, u64); 9] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ns", 1),
];

/// Reads an instant. `now` is what `now` means.
pub(crate) fn instant(text: &str, now: UnixNanos) -> Result<UnixNanos, String> {
    if let Some(rest) = text.strip_prefix("now") {
        return relative(rest, now)
            .ok_or_else(|| format!("`{}` is not an instant: use {TIME_FORMS}", clip(text)));
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return unix(text).ok_or_else(|| format!("`{}` lies after the year 2554", clip(text)));
    }
    rfc3339(text)
}

/// What follows `now`: nothing, or a minus and a duration.
fn relative(rest: &str, now: UnixNanos) -> Option<UnixNanos> {
    match rest.strip_prefix('-') {
        None => rest.is_empty().then_some(now),
        Some(back) => Some(now.saturating_sub(duration(back).ok()?)),
    }
}

/// Unix time, its unit told by its magnitude: seconds below 10^11 (the year 5138), then milliseconds,
/// microseconds and nanoseconds, each a thousand times further.
fn unix(digits: &str) -> Option<UnixNanos> {
    let number: u64 = digits.parse().ok()?;
    let scale = match number {
        0..100_000_000_000 => 1_000_000_000,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        _ => 1,
    };
    number.checked_mul(scale).map(UnixNanos)
}

fn rfc3339(text: &str) -> Result<UnixNanos, String> {
    // A plus sign that was not percent-encoded arrives as a space: `12:00:00 02:00`.
    let repaired = match text.len().checked_sub(6) {
        Some(at) if text.as_bytes()[at] == b' ' => format!("{}+{}", &text[..at], &text[at + 1..]),
        _ => text.to_owned(),
    };
    let timestamp: Timestamp =
        repaired.parse().map_err(|_| format!("`{}` is not an instant: use {TIME_FORMS}", clip(text)))?;
    u64::try_from(timestamp.as_nanosecond())
        .map(UnixNanos)
        .map_err(|_| format!("`{}` lies outside the years 1970 to 2554", clip(text)))
}

/// Reads a duration: one or more numbers, each with its unit, longest unit first. Exact, never a float.
pub(crate) fn duration(text: &str) -> Result<NanoDuration, String> {
    let wrong = || format!("`{}` is not a duration: use {DURATION_FORMS}", clip(text));
    let mut rest = text;
    let mut total: u64 = 0;
    let mut shorter_than = u64::MAX;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(prefix(rest, |c| c.is_ascii_digit() || c == '.'));
        let (unit, after) = after.split_at(prefix(after, |c| !c.is_ascii_digit() && c != '.'));
        let (_, per) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        if *per >= shorter_than {
            return Err(wrong());
        }
        let part = scaled(number, *per).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        shorter_than = *per;
        rest = after;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(NanoDuration(total)) }
}

/// How many bytes of `text` are made of characters that `belongs` takes.
fn prefix(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// A decimal number times `per`; `None` if it is none, too large, or finer than one.
fn scaled(number: &str, per: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole = digits(whole)?.checked_mul(per)?;
    // The longest unit has 14 digits: a fraction that is exact in it needs no more.
    let significant = fraction.trim_end_matches('0');
    if significant.len() > 14 || (significant.is_empty() && digits(fraction).is_none()) {
        return None;
    }
    if significant.is_empty() {
        return Some(whole);
    }
    let parts = u128::from(digits(significant)?) * u128::from(per);
    let one = 10u128.pow(u32::try_from(significant.len()).ok()?);
    if !parts.is_multiple_of(one) {
        return None;
    }
    whole.checked_add(u64::try_from(parts / one).ok()?)
}

fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) { None } else { text.parse().ok() }
}

/// The beginning of what a client sent, for a message.
pub(crate) fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixNanos = UnixNanos(1_700_000_000_000_000_000);

    #[test]
    fn durations_are_exact() {
        let good = [
            ("250ms", 250_000_000),
            ("1.5s", 1_500_000_000),
            ("1m30s", 90_000_000_000),
            ("2h", 7_200_000_000_000),
            ("1d", 86_400_000_000_000),
            ("0s", 0),
            ("0.000000001s", 1),
            ("1.000000000000s", 1_000_000_000),
            ("7us", 7_000),
            ("7µs", 7_000),
            ("0.1ms", 100_000),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
            ("18446744073709551615ns", u64::MAX),
        ];
        for (text, nanos) in good {
            assert_eq!(duration(text), Ok(NanoDuration(nanos)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        let bad = [
            "",
            "5",
            "ms",
            "-5s",
            "+5s",
            "1.s",
            ".5s",
            "1.5.0s",
            "1s1s",
            "1ms1s",
            "1x",
            "1 s",
            "1e3s",
            "0.5ns",
            "0.0000000001s",
            "300000d",
            "18446744073709551616ns",
            "99999999999999999999s",
            "1us1µs",
            "١s",
        ];
        for text in bad {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn instants_are_told_apart() {
        let good = [
            ("now", NOW.0),
            ("now-15m", NOW.0 - 900_000_000_000),
            ("now-100000d", 0),
            ("0", 0),
            ("1700000000", NOW.0),
            ("1700000000000", NOW.0),
            ("1700000000000000", NOW.0),
            ("1700000000000000001", NOW.0 + 1),
            ("2023-11-14T22:13:20Z", NOW.0),
            ("2023-11-14T22:13:20.000000001Z", NOW.0 + 1),
            ("2023-11-15T00:13:20+02:00", NOW.0),
            ("2023-11-15T00:13:20 02:00", NOW.0),
        ];
        for (text, nanos) in good {
            assert_eq!(instant(text, NOW), Ok(UnixNanos(nanos)), "{text}");
        }
    }

    #[test]
    fn what_is_no_instant_is_refused() {
        let bad = [
            "",
            "now+1h",
            "now-",
            "now-5",
            "nowish",
            "-5",
            "1.5",
            "yesterday",
            "2023-11-14",
            "2023-13-14T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2600-01-01T00:00:00Z",
            "99999999999",
            "18446744073709551616",
            "äöü ß2:00",
        ];
        for text in bad {
            assert!(instant(text, NOW).is_err(), "{text}");
        }
    }
}
