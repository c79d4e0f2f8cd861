//! OTLP/JSON takes memory for its protobuf and next to nothing besides, whatever the text is.
#![allow(clippy::unwrap_used)] // A test that cannot unwrap has failed.
#![allow(unsafe_code, reason = "an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use otlp_wire::{json_to_traces, protobuf_len_max};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Bytes that this thread holds, and the most that it held since that was reset.
    static HELD: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

fn count(change: impl FnOnce(usize) -> usize) {
    // A thread that ends has nothing to count any more.
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        let now = change(now);
        held.set((now, most.max(now)));
    });
}

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(|now| now + layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The old and the new are there at once while the bytes move.
        count(|now| now + size);
        count(|now| now.saturating_sub(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        count(|now| now.saturating_sub(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(old, layout) }
    }
}

/// The most memory that transcoding took at a time, and whether the text was taken.
fn peak(text: &[u8]) -> (usize, bool) {
    let (before, _) = HELD.get();
    HELD.set((before, before));
    let taken = json_to_traces(text).is_ok();
    let (after, most) = HELD.get();
    assert_eq!(after, before, "all is given back");
    (most - before, taken)
}

/// Bytes of a text at least.
const SIZE: usize = 1 << 20;
/// For errors: their words and their path.
const BESIDES: usize = 16 << 10;

fn fill(begin: &str, piece: &str, end: &str) -> String {
    format!("{begin}{}{end}", piece.repeat(SIZE.div_ceil(piece.len())))
}

const SPAN: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"#;
const SPAN_END: &str = "}]}]}]}";
const VALUE: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"value":"#;
const VALUE_END: &str = "}]}}]}";

fn in_span(begin: &str, piece: &str, end: &str) -> String {
    fill(&format!("{SPAN}{begin}"), piece, &format!("{end}{SPAN_END}"))
}

fn in_value(begin: &str, piece: &str, end: &str) -> String {
    fill(&format!("{VALUE}{begin}"), piece, &format!("{end}{VALUE_END}"))
}

#[test]
fn memory_follows_the_length_of_the_text_and_nothing_in_it() {
    let nested = |n: usize| {
        let (open, close) = (r#"{"arrayValue":{"values":["#.repeat(n), "]}}".repeat(n));
        in_value(&format!(r#"{open}{{"stringValue":""#), "x", &format!(r#""}}{close}"#))
    };
    let taken = [
        fill(r#"{"x":["#, "[],", "0]}"),
        fill(r#"{"x":["#, "{},", "0]}"),
        fill("{", r#""x":0,"#, r#""x":0}"#),
        fill("{", r#""resourceSpans":null,"#, r#""resourceSpans":[]}"#),
        fill(r#"{"x":""#, "\\n", r#""}"#),
        fill(r#"{""#, "\\u0061", r#"":0}"#),
        fill(r#"{"x":"#, "7", "}"),
        fill("{", " ", "}"),
        fill(r#"{"resourceSpans":["#, "{},", "{}]}"),
        fill(r#"{"resourceSpans":["#, "null,", "null]}"),
        fill(&format!("{SPAN}}}"), r#",{"kind":-1}"#, "]}]}]}"),
        fill(&format!("{SPAN}}}"), r#",{"flags":1,"kind":-1,"status":{"code":-1},"traceId":"00"}"#, "]}]}]}"),
        in_span(r#""events":["#, "{},", "{}]"),
        in_span(r#""name":""#, "x", r#"""#),
        in_span(r#""name":""#, "\\u20ac", r#"""#),
        in_span(r#""traceId":""#, "00", r#"""#),
        in_span(r#""traceId":"\u00300"#, "00", r#"""#),
        in_span(r#""startTimeUnixNano":"\u0030"#, "0", r#"""#),
        in_span(r#""startTimeUnixNano":0."#, "0", ""),
        in_value(r#"{"arrayValue":{"values":["#, "null,", "null]}}"),
        in_value(r#"{"arrayValue":{"values":["#, r#"{"intValue":-1},"#, "{}]}}"),
        in_value(r#"{"doubleValue":1."#, "1", "}"),
        in_value(r#"{"doubleValue":"\u0031."#, "1", r#""}"#),
        in_value(r#"{"bytesValue":"\/AA"#, "AAAA", r#"A"}"#),
        nested(31),
    ];
    let refused = [
        "[".repeat(SIZE),
        fill("{\"x\":", "[", ""),
        fill("", r#"{"x":"#, ""),
        fill(r#"{"resourceSpans":"#, "[", ""),
        fill(VALUE, r#"{"arrayValue":{"values":["#, ""),
        fill("{", r#""resourceSpans":[],"#, "}"),
        fill("", "7", ""),
        fill("\"", "\\u0061", "\""),
        fill(r#"{"resourceSpans":""#, "\\\"", "\"}"),
        in_span(r#""kind":""#, "x", r#"""#),
        in_span(r#""kind":"\u0061"#, "x", r#"""#),
        in_span(r#""startTimeUnixNano":"#, "9", ""),
        in_span(r#""traceId":""#, "\\u0030", "x\""),
        in_value(r#"{"bytesValue":"AAAA"#, "====", r#""}"#),
        in_value(r#"{"doubleValue":"#, "1", "}"),
    ];
    for (texts, want) in [(&taken[..], true), (&refused[..], false)] {
        for text in texts {
            let (peak, taken) = peak(text.as_bytes());
            let (start, end) = (&text[..60], &text[text.len() - 30..]);
            assert_eq!(taken, want, "{start} ... {end}: {:?}", json_to_traces(text.as_bytes()).err());
            let most = protobuf_len_max(text.len()) + BESIDES;
            assert!(
                peak <= most,
                "{peak} bytes for {} of text, {most} at most: {start} ... {end}",
                text.len()
            );
        }
    }
}
