//! Reads a little ahead. In the order of traces, spans lie scattered over all requests, so every one would be
//! waited for, line after line; asking for the lines of a later span now lets memory work meanwhile.

use crate::live::SpanRow;
use crate::order::Placed;

/// Spans between the one at work and the one whose message is asked for; its row is asked for as far ahead again.
const SPANS: usize = 6;
/// Lines of a message that are asked for, and their length. The processor fetches what follows on its own.
const LINES: usize = 6;
const LINE: usize = 64;

/// Asks for spans ahead of the one at work.
pub(crate) struct Ahead<'a> {
    order: &'a [Placed<'a>],
    done: usize,
    has_messages: bool,
}

impl<'a> Ahead<'a> {
    /// For work on the rows alone.
    pub(crate) fn rows(order: &'a [Placed<'a>]) -> Self {
        Self { order, done: 0, has_messages: false }
    }

    /// For work on the spans' messages.
    pub(crate) fn messages(order: &'a [Placed<'a>]) -> Self {
        Self { order, done: 0, has_messages: true }
    }

    /// The next span is at work.
    #[inline]
    pub(crate) fn fetch_next(&mut self) {
        self.done += 1;
        if let Some((_, _, row)) = self.order.get(self.done + 2 * SPANS) {
            let row: *const SpanRow = *row;
            prefetch(row.cast());
            prefetch(row.cast::<u8>().wrapping_add(LINE));
        }
        let at_work = if self.has_messages { self.order.get(self.done + SPANS) } else { None };
        if let Some((_, batch, row)) = at_work {
            let message = batch.span_bytes(row);
            for line in (0..message.len().min(LINES * LINE)).step_by(LINE) {
                prefetch(message.as_ptr().wrapping_add(line));
            }
        }
    }
}

/// Asks for the line at an address. A read would do as well, were it not that the processor waits for reads in their
/// order.
#[inline(always)]
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "there is no safe call for it")]
fn prefetch(at: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a hint, which reads nothing and may name any address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
}

#[inline(always)]
#[cfg(not(target_arch = "x86_64"))]
fn prefetch(_: *const u8) {}
