//! Where the text goes: how wide it is, whether it has colour, and the bars drawn on it.

use std::time::{SystemTime, UNIX_EPOCH};

use super::terminal;

/// What a piece of text is, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ink {
    Plain,
    Strong,
    Faint,
    Title,
    Path,
    Error,
    Warn,
    Good,
    /// One of a few colours for services, by a number.
    Service(usize),
}

const SERVICE_COLOURS: [u8; 10] = [75, 114, 180, 141, 79, 174, 110, 150, 216, 103];

/// The terminal, or the lack of one, as everything is drawn for it.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    /// Columns to fill.
    pub(crate) width: usize,
    /// Whether to use colour.
    pub(crate) colour: bool,
    /// The present, for `3m ago`: nanoseconds since the Unix epoch.
    pub(crate) now_unix_nanos: u64,
}

impl Screen {
    /// The screen that standard output is.
    pub(crate) fn stdout() -> Self {
        Self { width: terminal::columns(), colour: terminal::wants_colour(), now_unix_nanos: now() }
    }

    /// Plain text of a given width, at a given time.
    #[cfg(test)]
    pub(crate) const fn plain(width: usize, now_unix_nanos: u64) -> Self {
        Self { width, colour: false, now_unix_nanos }
    }

    /// The text in its colour.
    pub(crate) fn ink(&self, ink: Ink, text: &str) -> String {
        if !self.colour || text.trim().is_empty() {
            return text.to_owned();
        }
        let code = match ink {
            Ink::Plain => return text.to_owned(),
            Ink::Strong => "1".to_owned(),
            Ink::Faint => "38;5;244".to_owned(),
            Ink::Title => "1;38;5;255".to_owned(),
            Ink::Path => "38;5;208".to_owned(),
            Ink::Error => "38;5;203".to_owned(),
            Ink::Warn => "38;5;220".to_owned(),
            Ink::Good => "38;5;114".to_owned(),
            Ink::Service(i) => format!("38;5;{}", SERVICE_COLOURS[i % SERVICE_COLOURS.len()]),
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// The colour of a service, the same wherever its name stands.
    pub(crate) fn service(name: &str) -> Ink {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Ink::Service((hash >> 32) as usize % SERVICE_COLOURS.len())
    }

    /// A bar for `share` of `cells`, to the eighth of a cell, padded to its cells.
    pub(crate) fn bar(share: f64, cells: usize) -> String {
        const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        let mut eighths = (share * cells as f64 * 8.0).round() as usize;
        if share > 0.0 {
            eighths = eighths.max(1);
        }
        let (whole, rest) = (eighths / 8, eighths % 8);
        let mut bar = "█".repeat(whole);
        let mut used = whole;
        if rest > 0 && whole < cells {
            bar.push(EIGHTHS[rest]);
            used += 1;
        }
        bar + &" ".repeat(cells.saturating_sub(used))
    }

    /// A line of small columns, one per value, scaled to the largest.
    pub(crate) fn sparkline(values: &[f64]) -> String {
        const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let top = values.iter().copied().fold(0.0, f64::max);
        let step = |value: f64| {
            let share = if top > 0.0 { (value / top).clamp(0.0, 1.0) } else { 0.0 };
            STEPS[((share * 7.0).round() as usize).min(7)]
        };
        values.iter().map(|value| step(*value)).collect()
    }
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_fill_to_the_eighth_and_never_vanish() {
        assert_eq!(Screen::bar(1.0, 4), "████");
        assert_eq!(Screen::bar(0.5, 3), "█▌ ");
        assert_eq!(Screen::bar(0.0001, 3), "▏  ");
        assert_eq!(Screen::bar(0.0, 2), "  ");
        assert_eq!(Screen::bar(f64::NAN, 2), "  ");
        assert_eq!(Screen::bar(7.0, 2), "██");
    }

    #[test]
    fn sparklines_scale_to_the_largest() {
        assert_eq!(Screen::sparkline(&[0.0, 5.0, 10.0]), "▁▅█");
        assert_eq!(Screen::sparkline(&[0.0]), "▁");
    }

    #[test]
    fn plain_screens_have_no_escapes() {
        assert_eq!(Screen::plain(80, 0).ink(Ink::Error, "x"), "x");
    }
}
