//! Cursors: opaque text that says where a list goes on.
//!
//! Versioned bytes in base64url. A cursor for traces carries the window of the first page, so that a walk whose
//! window moves with the clock (`now-1h`) still sees one fixed set; a check value binds it to the order and filters
//! of its search.

use std::cmp::Reverse;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use query::{Cursor, Order, SpanPlace, TraceSearch, Window};
use trace_model::{SpanId, TraceId, UnixNanos};

const TRACES_VERSION: u8 = 1;
const NAMES_VERSION: u8 = 2;
const SPANS_VERSION: u8 = 3;
const TRACES_LEN: usize = 1 + 1 + 8 + 8 + 16 + 8 + 8 + 8;

/// What a cursor for traces says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceCursor {
    pub(crate) order: Order,
    pub(crate) at: Cursor,
    pub(crate) window: Window,
    check: u64,
}

/// The text of the place `at` in the answers to `search`.
pub(crate) fn write_traces(search: &TraceSearch, at: &Cursor) -> String {
    let mut bytes = Vec::with_capacity(TRACES_LEN);
    bytes.extend([TRACES_VERSION, order_byte(search.order)]);
    bytes.extend(at.rank.to_be_bytes());
    bytes.extend(at.start.0.to_be_bytes());
    bytes.extend(at.trace_id.as_bytes());
    bytes.extend(search.window.start.0.to_be_bytes());
    bytes.extend(search.window.end.0.to_be_bytes());
    let check = check_value(&bytes, search);
    bytes.extend(check.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The cursor that a text means, unless it is none.
pub(crate) fn read_traces(text: &str) -> Option<TraceCursor> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == TRACES_LEN)?;
    let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    if bytes[0] != TRACES_VERSION {
        return None;
    }
    let order = [Order::Slowest, Order::Newest].into_iter().find(|order| order_byte(*order) == bytes[1])?;
    let trace_id = TraceId::try_from(bytes.get(18..34)?).ok()?;
    let at = Cursor { rank: number(2)?, start: UnixNanos(number(10)?), trace_id };
    let window = Window { start: UnixNanos(number(34)?), end: UnixNanos(number(42)?) };
    let cursor = TraceCursor { order, at, window, check: number(50)? };
    (window.start < window.end).then_some(cursor)
}

impl TraceCursor {
    /// Whether it was given out for `search`, whose window and order must be those of the cursor by now.
    pub(crate) fn belongs_to(&self, search: &TraceSearch) -> bool {
        read_traces(&write_traces(search, &self.at)).is_some_and(|own| own.check == self.check)
    }
}

fn order_byte(order: Order) -> u8 {
    match order {
        Order::Slowest => 0,
        Order::Newest => 1,
    }
}

/// FNV-1a over the cursor's bytes and the filters: not against forgery, only against mistakes.
fn check_value(bytes: &[u8], search: &TraceSearch) -> u64 {
    let filters = (
        (&search.service, &search.operation, search.kind, search.status),
        (search.min_duration, search.max_duration, search.min_trace_duration, search.max_trace_duration),
    );
    let filters = format!("{filters:?}");
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().chain(filters.as_bytes()).fold(0xcbf2_9ce4_8422_2325, mix)
}

/// The text of a place in a list sorted by name and kind.
pub(crate) fn write_name(name: &str, kind: u8) -> String {
    let mut bytes = vec![NAMES_VERSION, kind];
    bytes.extend(name.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The name and kind that a text means, unless it is no such cursor.
pub(crate) fn read_name(text: &str) -> Option<(String, u8)> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (version, rest) = bytes.split_first()?;
    let (kind, name) = rest.split_first()?;
    let name = std::str::from_utf8(name).ok()?;
    (*version == NAMES_VERSION).then(|| (name.to_owned(), *kind))
}

/// The text of a span's place in its trace.
pub(crate) fn write_span(at: &SpanPlace) -> String {
    let mut bytes = vec![SPANS_VERSION];
    bytes.extend(at.start.0.to_be_bytes());
    bytes.extend(at.end.0.0.to_be_bytes());
    bytes.extend(at.span_id.as_bytes());
    bytes.extend(at.content.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The place in a trace that a text means, unless it is no such cursor.
pub(crate) fn read_span(text: &str) -> Option<SpanPlace> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == 33)?;
    let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let place = SpanPlace {
        start: UnixNanos(number(1)?),
        end: Reverse(UnixNanos(number(9)?)),
        span_id: SpanId::try_from(bytes.get(17..25)?).ok()?,
        content: number(25)?,
    };
    (bytes[0] == SPANS_VERSION).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    #[test]
    fn a_trace_cursor_comes_back_as_it_went() {
        let search = fake::search();
        let at = Cursor { rank: 7, start: UnixNanos(9), trace_id: fake::trace_id() };
        let text = write_traces(&search, &at);
        let read = read_traces(&text).unwrap();
        assert_eq!((read.order, read.at, read.window), (search.order, at, search.window));
        assert!(read.belongs_to(&search));
    }

    #[test]
    fn a_trace_cursor_is_bound_to_order_and_filters() {
        let search = fake::search();
        let at = Cursor { rank: 7, start: UnixNanos(9), trace_id: fake::trace_id() };
        let read = read_traces(&write_traces(&search, &at)).unwrap();
        assert!(!read.belongs_to(&TraceSearch { order: Order::Newest, ..search.clone() }));
        assert!(!read.belongs_to(&TraceSearch { service: Some("other".into()), ..search.clone() }));
        assert!(read.belongs_to(&TraceSearch { limit: 3, ..search }));
    }

    #[test]
    fn garbage_is_no_cursor() {
        for text in ["", "x", "????", "AAAA", &"A".repeat(78), &"A".repeat(100_000)] {
            assert_eq!(read_traces(text), None, "{text:.20}");
            assert_eq!(read_name(text), None, "{text:.20}");
            assert_eq!(read_span(text), None, "{text:.20}");
        }
    }

    #[test]
    fn a_span_cursor_comes_back_as_it_went() {
        let end = Reverse(UnixNanos(u64::MAX));
        let at = SpanPlace { start: UnixNanos(7), end, span_id: fake::span_id(), content: 9 };
        assert_eq!(read_span(&write_span(&at)), Some(at));
    }

    #[test]
    fn a_name_cursor_comes_back_as_it_went() {
        assert_eq!(read_name(&write_name("größe", 3)), Some(("größe".to_owned(), 3)));
    }
}
