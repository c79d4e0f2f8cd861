//! From checked values to the questions of [`query`].

use query::{
    BottleneckGroup, BottleneckQuery, CriticalPathQuery, GroupBy, LatencyQuery, Order, TracePage,
    TraceSearch, Window,
};
use trace_analyze::{Extent, Overrun, PathOptions};
use trace_model::{NanoDuration, SpanKind, StatusCode, TraceId, UnixNanos};

use super::Args;
use crate::ApiError;
use crate::cursor::{read_name, read_span, read_traces};

const HOUR: NanoDuration = NanoDuration::from_secs(3_600);
/// At most this many points a series.
const MOST_POINTS: u64 = 11_000;

/// The window that was asked for; the last hour before its end by default.
fn window(args: &Args) -> Result<Window, ApiError> {
    let end = args.time("end").unwrap_or(args.now());
    let start = args.time("start").unwrap_or(end.saturating_sub(HOUR));
    checked(Window { start, end })
}

fn checked(window: Window) -> Result<Window, ApiError> {
    if window.start < window.end {
        return Ok(window);
    }
    let Window { start, end } = window;
    Err(ApiError::invalid(
        "start",
        format!("start ({}) must lie before end ({}), in unix nanoseconds", start.0, end.0),
    ))
}

/// The window for services: all that is stored unless one end is given.
pub(crate) fn services_window(args: &Args) -> Result<Option<Window>, ApiError> {
    let (start, end) = (args.time("start"), args.time("end"));
    if start.is_none() && end.is_none() {
        return Ok(None);
    }
    let all = Window::ALL;
    checked(Window { start: start.unwrap_or(all.start), end: end.unwrap_or(all.end) }).map(Some)
}

/// The kind that operations are asked for by.
pub(crate) fn operations_kind(args: &Args) -> Option<SpanKind> {
    args.word("kind").and_then(SpanKind::from_word)
}

/// A page of a list sorted by name and kind.
#[derive(Debug, Clone)]
pub(crate) struct NamePage {
    pub(crate) after: Option<(String, u8)>,
    pub(crate) limit: usize,
}

/// The page that was asked for.
pub(crate) fn name_page(args: &Args) -> Result<NamePage, ApiError> {
    let after = args.text("cursor").map(|text| read_name(text).ok_or_else(garbage_cursor)).transpose()?;
    Ok(NamePage { after, limit: limit(args) })
}

fn garbage_cursor() -> ApiError {
    ApiError::invalid(
        "cursor",
        "this is not a cursor that was given out here; use next_cursor of the page before",
    )
}

fn limit(args: &Args) -> usize {
    args.integer("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or(20)
}

/// The search for traces. A cursor brings the window of its first page with it.
pub(crate) fn search(args: &Args) -> Result<TraceSearch, ApiError> {
    let order = if args.word("order") == Some("newest") { Order::Newest } else { Order::Slowest };
    let mut search = TraceSearch {
        service: args.text("service").map(str::to_owned),
        operation: args.text("operation").map(str::to_owned),
        kind: args.word("kind").and_then(SpanKind::from_word),
        status: args.word("status").and_then(StatusCode::from_word),
        min_duration: args.duration("min_duration"),
        max_duration: args.duration("max_duration"),
        min_trace_duration: args.duration("min_trace_duration"),
        max_trace_duration: args.duration("max_trace_duration"),
        window: window(args)?,
        order,
        limit: limit(args),
        cursor: None,
    };
    ordered("min_duration", search.min_duration, search.max_duration)?;
    ordered("min_trace_duration", search.min_trace_duration, search.max_trace_duration)?;
    if let Some(text) = args.text("cursor") {
        go_on(&mut search, text)?;
    }
    Ok(search)
}

fn ordered(name: &str, least: Option<NanoDuration>, most: Option<NanoDuration>) -> Result<(), ApiError> {
    match (least, most) {
        (Some(least), Some(most)) if least > most => {
            let message =
                format!("{name} ({least}) must not be above {} ({most})", name.replacen("min", "max", 1));
            Err(ApiError::invalid(name, message))
        }
        _ => Ok(()),
    }
}

fn go_on(search: &mut TraceSearch, text: &str) -> Result<(), ApiError> {
    let cursor = read_traces(text).ok_or_else(garbage_cursor)?;
    if cursor.order != search.order {
        let message = format!("this cursor belongs to order={}", cursor.order.as_str());
        return Err(ApiError::invalid("cursor", message));
    }
    search.window = cursor.window;
    if !cursor.belongs_to(search) {
        return Err(ApiError::invalid("cursor", "this cursor belongs to a search with other filters"));
    }
    search.cursor = Some(cursor.at);
    Ok(())
}

/// A trace, or the page of it that a cursor leads to.
pub(crate) fn trace_page(args: &Args, trace_id: TraceId) -> Result<TracePage, ApiError> {
    let after = args.text("cursor").map(|text| read_span(text).ok_or_else(garbage_cursor)).transpose()?;
    let limit = args.integer("limit").and_then(|limit| usize::try_from(limit).ok());
    Ok(TracePage { trace_id, limit: limit.unwrap_or(TracePage::LIMIT_MAX), after })
}

/// The critical path of `trace_id`.
pub(crate) fn critical_path(args: &Args, trace_id: TraceId) -> CriticalPathQuery {
    let extent = if args.word("extent") == Some("trace") { Extent::Trace } else { Extent::Response };
    let overrun = match args.word("overrun") {
        Some("auto") => Overrun::Auto,
        Some("exclude") => Overrun::Exclude,
        _ => Overrun::Clip,
    };
    CriticalPathQuery { trace_id, options: PathOptions { overrun, extent, ..PathOptions::default() } }
}

/// At most how many segments are shown.
pub(crate) fn max_segments(args: &Args) -> usize {
    args.integer("max_segments").and_then(|most| usize::try_from(most).ok()).unwrap_or(1_000)
}

/// The question for percentiles.
pub(crate) fn latency(args: &Args) -> Result<LatencyQuery, ApiError> {
    let group = |label| args.words("group_by").contains(&label);
    let window = window(args)?;
    Ok(LatencyQuery {
        service: args.text("service").map(str::to_owned),
        operation: args.text("operation").map(str::to_owned),
        kind: args.word("kind").and_then(SpanKind::from_word),
        status: args.word("status").and_then(StatusCode::from_word),
        window,
        step: step(args, window)?,
        quantiles: args.quantiles("quantiles").to_vec(),
        group_by: GroupBy {
            service: group("service"),
            operation: group("operation"),
            kind: group("kind"),
            status: group("status"),
        },
        limit: limit(args),
    })
}

fn step(args: &Args, window: Window) -> Result<Option<NanoDuration>, ApiError> {
    let Some(step) = args.duration("step") else { return Ok(None) };
    if step.0 == 0 || !step.0.is_multiple_of(UnixNanos::PER_MINUTE) {
        return Err(ApiError::invalid("step", "step must be a whole number of minutes, such as 1m or 1h"));
    }
    let points = window.end.since(window.start).0 / step.0;
    if points > MOST_POINTS {
        let message =
            format!("step gives {points} points; at most {MOST_POINTS} are accepted, so make it wider");
        return Err(ApiError::invalid("step", message));
    }
    Ok(Some(step))
}

/// The question for bottlenecks.
pub(crate) fn bottlenecks(args: &Args) -> Result<BottleneckQuery, ApiError> {
    let group_by = if args.word("group_by") == Some("operation") {
        BottleneckGroup::Operation
    } else {
        BottleneckGroup::Service
    };
    Ok(BottleneckQuery {
        service: args.text("service").map(str::to_owned),
        operation: args.text("operation").map(str::to_owned),
        window: window(args)?,
        group_by,
        faster_permille: args.integer("what_if").and_then(|part| u32::try_from(part).ok()).unwrap_or(500),
        limit: limit(args),
    })
}

#[cfg(test)]
mod tests {
    use query::Cursor;

    use super::super::table::{LATENCY, Route, SERVICES, TRACES};
    use super::*;
    use crate::cursor::write_traces;
    use crate::fake;

    const NOW: UnixNanos = UnixNanos(1_700_000_000_000_000_000);

    fn args(route: &Route, query: &str) -> Args {
        Args::read(route, &format!("/x?{query}").parse().unwrap(), NOW).unwrap()
    }

    #[test]
    fn the_window_is_the_last_hour_unless_given() {
        let hour_before = |end: u64| Window { start: UnixNanos(end - HOUR.0), end: UnixNanos(end) };
        assert_eq!(search(&args(&TRACES, "")).unwrap().window, hour_before(NOW.0));
        let end = 1_600_000_000_000_000_000;
        assert_eq!(search(&args(&TRACES, "end=1600000000")).unwrap().window, hour_before(end));
        assert_eq!(services_window(&args(&SERVICES, "")), Ok(None));
        let window = services_window(&args(&SERVICES, "end=1600000000")).unwrap().unwrap();
        assert_eq!(window, Window { start: UnixNanos(0), end: UnixNanos(end) });
        let error = search(&args(&TRACES, "start=now&end=now-1m")).unwrap_err();
        assert_eq!(error.parameter(), Some("start"));
    }

    #[test]
    fn a_cursor_keeps_the_window_of_its_first_page() {
        let first = search(&args(&TRACES, "service=a")).unwrap();
        let at = Cursor { rank: 5, start: UnixNanos(6), trace_id: fake::trace_id() };
        let text = write_traces(&first, &at);
        let later = Args::read(
            &TRACES,
            &format!("/x?service=a&cursor={text}").parse().unwrap(),
            UnixNanos(NOW.0 + HOUR.0),
        );
        let next = search(&later.unwrap()).unwrap();
        assert_eq!((next.window, next.cursor), (first.window, Some(at)));
        for other in ["service=b", "service=a&order=newest", "service=a&min_duration=1s"] {
            let error = search(&args(&TRACES, &format!("{other}&cursor={text}"))).unwrap_err();
            assert_eq!(error.parameter(), Some("cursor"), "{other}");
        }
        assert_eq!(search(&args(&TRACES, "cursor=rubbish")).unwrap_err().parameter(), Some("cursor"));
    }

    #[test]
    fn contradictions_are_refused() {
        let error = search(&args(&TRACES, "min_duration=2s&max_duration=1s")).unwrap_err();
        assert_eq!(error.message(), "min_duration (2.00s) must not be above max_duration (1.00s)");
        assert_eq!(latency(&args(&LATENCY, "step=90s")).unwrap_err().parameter(), Some("step"));
        assert_eq!(latency(&args(&LATENCY, "step=0m")).unwrap_err().parameter(), Some("step"));
        assert_eq!(latency(&args(&LATENCY, "step=1m&start=0")).unwrap_err().parameter(), Some("step"));
        let query = latency(&args(&LATENCY, "step=2m&group_by=status")).unwrap();
        assert_eq!(query.step, Some(NanoDuration::from_secs(120)));
        assert_eq!(query.group_by, GroupBy { service: false, operation: false, kind: false, status: true });
    }
}
