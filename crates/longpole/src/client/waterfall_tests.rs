use super::*;
use crate::client::model::{PathService, PathSpan, SpanName};

fn bar(id: &str, parent: Option<&str>, service: &str, operation: &str, start: u64, end: u64) -> Bar {
    Bar {
        span_id: id.to_owned(),
        parent: parent.map(str::to_owned),
        service: service.to_owned(),
        operation: operation.to_owned(),
        start: start * 1_000_000,
        end: end * 1_000_000,
        error: false,
        message: String::new(),
    }
}

fn segment(id: &str, start: u64, end: u64) -> Segment {
    Segment { span_id: id.to_owned(), start_unix_nano: start * 1_000_000, end_unix_nano: end * 1_000_000 }
}

fn waterfall(bars: Vec<Bar>, critical_path: Option<CriticalPath>) -> Waterfall {
    Waterfall {
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
        open: false,
        incomplete: false,
        missing_parents: 0,
        bars,
        critical_path,
        max_spans: 200,
    }
}

fn drawn(waterfall: &Waterfall) -> String {
    let mut out = Vec::new();
    waterfall.write(&Screen::plain(90, 60_000_000_000), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_small_trace_is_drawn_with_its_path() {
    let mut charge = bar("3", Some("1"), "payment", "Charge", 50, 90);
    charge.error = true;
    charge.message = "card declined".to_owned();
    let bars =
        vec![charge, bar("1", None, "frontend", "GET /", 0, 100), bar("2", Some("1"), "cart", "Get", 10, 40)];
    let span = |id: &str, ms: u64| PathSpan { span_id: id.to_owned(), exclusive_nanos: ms * 1_000_000 };
    let service = |name: &str, ms: u64| PathService {
        service: name.to_owned(),
        edge: None,
        exclusive_nanos: ms * 1_000_000,
        share: ms as f64 / 100.0,
    };
    let path = CriticalPath {
        root: Some(SpanName { service: "frontend".to_owned(), operation: "GET /".to_owned() }),
        duration_nanos: 100_000_000,
        segments: vec![
            segment("1", 0, 10),
            segment("2", 10, 40),
            segment("1", 40, 50),
            segment("3", 50, 90),
            segment("1", 90, 100),
        ],
        spans: vec![span("1", 30), span("2", 30), span("3", 40)],
        by_service: vec![service("payment", 40), service("frontend", 30), service("cart", 30)],
        flags: Vec::new(),
        truncated: false,
    };
    let want = "
  Trace 4bf92f3577b34da6a3ce929d0e0e4736
  100ms · 3 spans · 3 services · 1 error · 1970-01-01 00:00:00.000 UTC · 1m ago

                                0           25.0ms      50.0ms      75.0ms         CRITICAL
    frontend GET /       100ms  ████░░░░░░░░░░░░░░░█████░░░░░░░░░░░░░░░░░░░░█████    30.0ms
    ├ cart Get          30.0ms      ███████████████                                  30.0ms
  ✗ └ payment Charge    40.0ms                          ████████████████████         40.0ms
      card declined

  Critical path of frontend GET /, 100ms
  payment     40.0ms   40.0 %  ████████████
  frontend    30.0ms   30.0 %  █████████
  cart        30.0ms   30.0 %  █████████

  █ on the critical path   ░ running, not waited for alone   ✗ error
";
    assert_eq!(drawn(&waterfall(bars, Some(path))), want);
}

#[test]
fn what_is_hidden_is_counted() {
    let mut bars = vec![bar("r", None, "a", "root", 0, 1000)];
    for i in 0..500 {
        bars.push(bar(&format!("c{i}"), Some("r"), "b", "call", i, i + 1));
    }
    let text = drawn(&waterfall(bars, None));
    assert!(text.contains("… 301 spans not shown"), "{text}");
    assert!(text.contains("no critical path"));
}

#[test]
fn a_chain_of_a_hundred_thousand_is_drawn_without_recursion() {
    let id = |i: u64| format!("{i:016x}");
    let bars = (0..100_000_u64)
        .map(|i| {
            let parent = i.checked_sub(1).map(id);
            bar(&id(i), parent.as_deref(), "deep", "down", i, 200_000 - i)
        })
        .collect();
    let text = drawn(&waterfall(bars, None));
    assert!(text.contains("99,800 spans not shown"), "{}", &text[..400]);
    assert!(text.lines().all(|line| text::columns(line) <= 100));
}

#[test]
fn circles_and_twins_do_not_hang() {
    let bars = vec![
        bar("a", Some("b"), "x", "a", 0, 5),
        bar("b", Some("a"), "x", "b", 1, 5),
        bar("c", Some("b"), "x", "c", 2, 5),
        bar("s", Some("s"), "x", "self", 3, 5),
        bar("s", None, "x", "twin", 3, 5),
    ];
    let text = drawn(&waterfall(bars, None));
    for name in ["x a", "x b", "x c", "x self", "x twin"] {
        assert!(text.contains(name), "{name} is missing in {text}");
    }
}

#[test]
fn an_empty_trace_says_so() {
    assert!(drawn(&waterfall(Vec::new(), None)).contains("no spans"));
}
