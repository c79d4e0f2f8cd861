//! Text for a terminal: made harmless, measured in columns, cut and padded.

/// Columns that a character takes: none for marks that combine, two for East Asian and emoji.
pub(crate) fn char_columns(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f | 0x200b..=0x200d | 0x20d0..=0x20ff | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff => 2,
        0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 => 2,
        0x1f300..=0x1f64f | 0x1f680..=0x1f6ff | 0x1f900..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Columns that a text takes.
pub(crate) fn columns(text: &str) -> usize {
    text.chars().map(char_columns).sum()
}

/// Names come from outside: control characters and direction overrides become `·`, so that no
/// name can drive the terminal.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|c| if is_harmful(c) { '·' } else { c }).collect()
}

fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The text in at most `width` columns, with `…` where it was cut.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += char_columns(c);
        if used + 1 > width {
            break;
        }
        kept.push(c);
    }
    if width > 0 {
        kept.push('…');
    }
    kept
}

/// The text in exactly `width` columns, to the left.
pub(crate) fn left(text: &str, width: usize) -> String {
    let text = cut(text, width);
    let gap = width.saturating_sub(columns(&text));
    text + &" ".repeat(gap)
}

/// The text in exactly `width` columns, to the right.
pub(crate) fn right(text: &str, width: usize) -> String {
    let text = cut(text, width);
    " ".repeat(width.saturating_sub(columns(&text))) + &text
}

/// A whole number with its thousands apart: `18,230`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `count noun`, with an `s` unless there is one.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// A share as percent, with the digits that matter: `43.1 %`, `0.17 %`.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        p if !p.is_finite() => "–".to_owned(),
        0.0 => "0 %".to_owned(),
        p if p.abs() < 0.01 => "<0.01 %".to_owned(),
        p if p.abs() < 1.0 => format!("{p:.2} %"),
        p => format!("{p:.1} %"),
    }
}

/// A rate per second: `5.06/s`, `1,840/s`.
pub(crate) fn rate(per_second: f64) -> String {
    match per_second {
        r if !r.is_finite() || r < 0.0 => "–".to_owned(),
        r if r < 10.0 => format!("{r:.2}/s"),
        r if r < 100.0 => format!("{r:.1}/s"),
        r => format!("{}/s", grouped(r.round() as u64)),
    }
}

/// How long ago `then` was, in one unit: `12s ago`, `3m ago`, `2d ago`.
pub(crate) fn ago(then_nanos: u64, now_nanos: u64) -> String {
    let seconds = now_nanos.saturating_sub(then_nanos) / 1_000_000_000;
    match seconds {
        0 => "now".to_owned(),
        1..60 => format!("{seconds}s ago"),
        60..3_600 => format!("{}m ago", seconds / 60),
        3_600..172_800 => format!("{}h ago", seconds / 3_600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// An instant in UTC with milliseconds: `2026-03-01 12:00:07.250`.
pub(crate) fn instant(unix_nanos: u64) -> String {
    let written = jiff::Timestamp::from_nanosecond(i128::from(unix_nanos))
        .map(|t| t.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string());
    written.unwrap_or_else(|_| "outside the calendar".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn width_counts_columns_not_characters() {
        assert_eq!(columns("日本"), 4);
        assert_eq!(cut("checkout", 5), "chec…");
        assert_eq!(left("ab", 4), "ab  ");
        assert_eq!(right("日本", 5), " 日本");
        assert_eq!(cut("日本語", 4), "日…");
    }

    #[test]
    fn names_cannot_drive_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\n\u{202e}"), "a·[2Jb··");
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(counted(1, "span"), "1 span");
        assert_eq!(percent(0.431), "43.1 %");
        assert_eq!(percent(0.0017), "0.17 %");
        assert_eq!(percent(f64::NAN), "–");
        assert_eq!(rate(1840.4), "1,840/s");
        assert_eq!(ago(1_000_000_000, 200_000_000_000), "3m ago");
        assert_eq!(instant(1_772_366_407_250_000_000), "2026-03-01 12:00:07.250");
    }
}
