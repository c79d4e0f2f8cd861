//! What the terminal is: its width, and whether it wants colour.

use std::io::{IsTerminal, stdout};

/// Columns to assume where there is no terminal to ask.
const FALLBACK_COLUMNS: usize = 120;
const MIN_COLUMNS: usize = 60;
const MAX_COLUMNS: usize = 220;

/// Columns of standard output, within what the tables can use.
pub(crate) fn columns() -> usize {
    let from_env = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    from_env.or_else(window_columns).unwrap_or(FALLBACK_COLUMNS).clamp(MIN_COLUMNS, MAX_COLUMNS)
}

/// Rows of standard output, if it is a terminal.
pub(crate) fn rows() -> Option<usize> {
    window_size().map(|size| usize::from(size.ws_row)).filter(|rows| *rows > 0)
}

/// Whether standard output is a terminal whose user has not asked for plain text.
pub(crate) fn wants_colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    stdout().is_terminal() && !refused && !dumb
}

/// Whether standard output can be drawn over.
pub(crate) fn is_live() -> bool {
    stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn window_columns() -> Option<usize> {
    window_size().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

#[cfg(unix)]
#[allow(unsafe_code)]
fn window_size() -> Option<libc::winsize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one `winsize` to the pointer, which is valid for the call.
    let answer = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (answer == 0).then_some(size)
}
