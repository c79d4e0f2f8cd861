//! Reads a little ahead. In the order of traces, spans lie scattered over all requests, so every one would be
//! waited for, line after line; touching the lines of a later span now lets memory work meanwhile.

use crate::order::Placed;

/// Spans between the one at work and the one whose message is touched; its row is touched as far ahead again.
const SPANS: usize = 4;
/// Lines of a message that are touched, and their length. The processor fetches what follows on its own.
const LINES: usize = 4;
const LINE: usize = 64;

/// Touches spans ahead of the one at work.
pub(crate) struct Ahead<'a> {
    order: &'a [Placed<'a>],
    done: usize,
    /// What was read; kept so that the reads are.
    read: u8,
}

impl<'a> Ahead<'a> {
    pub(crate) fn new(order: &'a [Placed<'a>]) -> Self {
        Self { order, done: 0, read: 0 }
    }

    /// The next span is at work.
    #[inline]
    pub(crate) fn fetch_next(&mut self) {
        self.done += 1;
        if let Some((_, _, row)) = self.order.get(self.done + 2 * SPANS) {
            self.read ^= row.len as u8;
        }
        if let Some((_, batch, row)) = self.order.get(self.done + SPANS) {
            let message = batch.span_bytes(row);
            for line in 0..LINES {
                self.read ^= message.get(line * LINE).copied().unwrap_or(0);
            }
        }
        std::hint::black_box(self.read);
    }
}
