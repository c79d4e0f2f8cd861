//! The fuzz targets of what a client writes into a URL: parameters of every route, and cursors.

use axum::http::Uri;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use longpole_fuzz::{Dice, Draw, Shape, Target};
use query::Cursor;
use trace_model::UnixNanos;

use crate::ApiError;
use crate::cursor::{read_name, read_traces, write_name, write_traces};
use crate::fake;
use crate::params::{self, Args, ROUTES, Route};

const NOW: UnixNanos = UnixNanos(1_700_000_000_000_000_000);

/// Query strings. The first byte of an input says of which route.
const PARAMS: Target =
    Target { name: "params", shape: Shape::Text, inputs: 40_000, run: query_string, draw: || drawn_params() };

/// Cursors, as text; the first byte of an input says whether it is already text or bytes to be written as such.
const CURSOR: Target = Target {
    name: "cursor",
    shape: Shape::Bytes,
    inputs: 40_000,
    run: cursor,
    draw: || Box::new(drawn_cursor),
};

/// Values that some parameter takes.
const VALUES: [&str; 30] = [
    "a",
    "check%20out",
    "server",
    "error",
    "newest",
    "slowest",
    "250ms",
    "1m30s",
    "1.5s",
    "2h",
    "0.001us",
    "now",
    "now-1h",
    "1600000000",
    "1600000000000000000",
    "2023-11-14T22:13:20Z",
    "2023-11-15T00:13:20+02:00",
    "5",
    "1000",
    "0.5",
    "0.5,0.99,1",
    "service,kind",
    "none",
    "true",
    "0",
    "trace",
    "clip",
    "operation",
    "1m",
    "%C3%A4",
];

fn route(byte: u8) -> &'static Route {
    ROUTES[usize::from(byte) % ROUTES.len()]
}

fn drawn_params() -> Draw {
    // Some of the drawn are refused; only those that are taken are valid.
    Box::new(|dice| {
        loop {
            let mut input = vec![dice.below(ROUTES.len()) as u8];
            let params = route(input[0]).params;
            for nth in 0..dice.below(4).min(params.len()) {
                let joint = if nth == 0 { "" } else { "&" };
                let name = params[dice.below(params.len())].name;
                input.extend(format!("{joint}{name}={}", dice.pick(&VALUES)).bytes());
            }
            if query_string(&input) {
                return input;
            }
        }
    })
}

fn drawn_cursor(dice: &mut Dice) -> Vec<u8> {
    let at = Cursor { rank: dice.any(), start: UnixNanos(dice.any()), trace_id: fake::trace_id() };
    let text = if dice.one_in(2) {
        write_traces(&fake::search(), &at)
    } else {
        write_name("größe", dice.any() as u8)
    };
    if dice.one_in(2) {
        return [&[0], text.as_bytes()].concat();
    }
    [&[1][..], &URL_SAFE_NO_PAD.decode(text).unwrap()].concat()
}

/// A refusal says what is wrong, in a few words, however long the input was.
fn refused(error: &ApiError) -> bool {
    assert!((8..1_000).contains(&error.message().len()), "{}", error.message());
    false
}

fn query_string(input: &[u8]) -> bool {
    let (first, rest) = input.split_first().unwrap_or((&0, &[]));
    let route = route(*first);
    let Ok(text) = std::str::from_utf8(rest) else { return false };
    let Ok(uri) = format!("/x?{text}").parse::<Uri>() else { return false };
    let args = match Args::read(route, &uri, NOW) {
        Ok(args) => args,
        Err(error) => return refused(&error),
    };
    // Every question is made of every route's parameters: what is not given must do no harm.
    let outcomes = [
        params::search(&args).map(|search| {
            assert!(search.window.start < search.window.end && search.limit > 0);
        }),
        params::latency(&args).map(|latency| assert!(latency.window.start < latency.window.end)),
        params::bottlenecks(&args).map(|question| assert!(question.faster_permille <= 1_000)),
        params::services_window(&args).map(drop),
        params::name_page(&args).map(drop),
    ];
    let _ = (params::operations_kind(&args), params::max_segments(&args));
    let _ = params::critical_path(&args, fake::trace_id());
    outcomes.iter().all(|outcome| match outcome {
        Ok(()) => true,
        Err(error) => refused(error),
    })
}

fn cursor(input: &[u8]) -> bool {
    let (mode, rest) = input.split_first().unwrap_or((&0, &[]));
    let text = match mode & 1 {
        0 => String::from_utf8_lossy(rest).into_owned(),
        _ => URL_SAFE_NO_PAD.encode(rest),
    };
    let name = read_name(&text);
    if let Some((name, kind)) = &name {
        assert_eq!(read_name(&write_name(name, *kind)), Some((name.clone(), *kind)));
    }
    let Some(traces) = read_traces(&text) else { return name.is_some() };
    assert!(name.is_none(), "one cursor is not two");
    let mut search = fake::search();
    (search.window, search.order) = (traces.window, traces.order);
    // If it is taken as given out for a search, it is the one that would be.
    if traces.belongs_to(&search) {
        assert_eq!(write_traces(&search, &traces.at), text);
    }
    true
}

#[test]
fn parameters() {
    longpole_fuzz::drive(&PARAMS, &longpole_fuzz::corpus_dir());
}

#[test]
fn cursors() {
    longpole_fuzz::drive(&CURSOR, &longpole_fuzz::corpus_dir());
}
