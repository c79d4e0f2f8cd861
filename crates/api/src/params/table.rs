//! The parameters of every route: one table for reading, for telling the unknown from the known, and for OpenAPI.

use query::TracePage;
use trace_model::{SpanKind, StatusCode};

/// How the text of a parameter is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Any text that is not empty.
    Text,
    /// An instant.
    Time,
    /// A duration.
    Duration,
    /// One of some words; those that are described but not built yet apart.
    Word { built: &'static [&'static str], later: &'static [&'static str] },
    /// Some of these words, with commas between; `none` for none.
    Words(&'static [&'static str]),
    /// A whole number in a range.
    Integer { least: u64, most: u64 },
    /// Quantiles from 0 to 1, with commas between.
    Quantiles,
    /// A part from 0 to 1 with at most three decimals.
    Permille,
    /// What an earlier answer gave as `next_cursor`.
    Cursor,
    /// `true` or `false`.
    Flag,
    /// Described but not built yet: always refused, with this reason.
    Later(&'static str),
}

/// One parameter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Param {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// What its absence means, as the client would write it.
    pub(crate) default: Option<&'static str>,
    pub(crate) about: &'static str,
}

/// One route under `/api/v1`.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) path: &'static str,
    pub(crate) id: &'static str,
    pub(crate) about: &'static str,
    pub(crate) params: &'static [Param],
    /// The name of the answer's schema.
    pub(crate) answer: &'static str,
}

impl Route {
    /// The names of the path's parameters.
    pub(crate) fn path_params(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }
}

const fn param(name: &'static str, kind: Kind, about: &'static str) -> Param {
    Param { name, kind, default: None, about }
}

const fn with_default(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Param {
    Param { name, kind, default: Some(default), about }
}

const fn words(built: &'static [&'static str]) -> Kind {
    Kind::Word { built, later: &[] }
}

const fn kind_words() -> [&'static str; 6] {
    let mut words = [""; 6];
    let mut at = 0;
    while at < words.len() {
        words[at] = SpanKind::ALL[at].as_str();
        at += 1;
    }
    words
}

const fn status_words() -> [&'static str; 3] {
    let mut words = [""; 3];
    let mut at = 0;
    while at < words.len() {
        words[at] = StatusCode::ALL[at].as_str();
        at += 1;
    }
    words
}

const KINDS: &[&str] = &kind_words();
const STATUSES: &[&str] = &status_words();
const LIMIT_KIND: Kind = Kind::Integer { least: 1, most: 1_000 };

const PRETTY: Param = with_default("pretty", Kind::Flag, "false", "Indent the JSON.");
const START: Param = with_default("start", Kind::Time, "end-1h", "The first instant of the window.");
const END: Param = with_default("end", Kind::Time, "now", "The first instant after the window.");
const SERVICE: Param = param("service", Kind::Text, "`service.name` of the span.");
const OPERATION: Param = param("operation", Kind::Text, "The span's name.");
const KIND: Param = param("kind", words(KINDS), "The span's kind.");
const STATUS: Param = param("status", words(STATUSES), "The span's status.");
const LIMIT: Param = with_default("limit", LIMIT_KIND, "20", "At most this many items.");
const LONG_LIMIT: Param = with_default("limit", LIMIT_KIND, "1000", "At most this many items.");
const CURSOR: Param = param("cursor", Kind::Cursor, "`next_cursor` of the page before.");

/// `GET /api/v1/services`.
pub(crate) static SERVICES: Route = Route {
    path: "/api/v1/services",
    id: "listServices",
    about: "The services that were seen, by name.",
    params: &[
        param(
            "start",
            Kind::Time,
            "The first instant of the window; all that is stored if no window is given.",
        ),
        param("end", Kind::Time, "The first instant after the window."),
        LONG_LIMIT,
        CURSOR,
        PRETTY,
    ],
    answer: "Services",
};

/// `GET /api/v1/services/{service}/operations`.
pub(crate) static OPERATIONS: Route = Route {
    path: "/api/v1/services/{service}/operations",
    id: "listOperations",
    about: "The operations of a service, by name and kind.",
    params: &[KIND, LONG_LIMIT, CURSOR, PRETTY],
    answer: "Operations",
};

/// `GET /api/v1/traces`.
pub(crate) static TRACES: Route = Route {
    path: "/api/v1/traces",
    id: "searchTraces",
    about: "Search for traces. With a span-level filter (service, operation, kind, status), min_duration, \
            max_duration and the order speak of the matching span, else of the trace. Each trace appears once.",
    params: &[
        SERVICE,
        OPERATION,
        KIND,
        STATUS,
        param("min_duration", Kind::Duration, "Least duration of the matching span, else of the trace."),
        param("max_duration", Kind::Duration, "Greatest duration of the matching span, else of the trace."),
        param("min_trace_duration", Kind::Duration, "Least duration of the trace."),
        param("max_trace_duration", Kind::Duration, "Greatest duration of the trace."),
        param("attr", Kind::Later("attribute search is not built yet"), "A condition on an attribute."),
        param("q", Kind::Later("the filter language is not built yet"), "A filter."),
        START,
        END,
        with_default("order", words(&["slowest", "newest"]), "slowest", "The order of the answer."),
        LIMIT,
        param(
            "cursor",
            Kind::Cursor,
            "`next_cursor` of the page before. The window stays that of the first page.",
        ),
        PRETTY,
    ],
    answer: "Traces",
};

/// `GET /api/v1/traces/{trace_id}`.
pub(crate) static TRACE: Route = Route {
    path: "/api/v1/traces/{trace_id}",
    id: "getTrace",
    about: "A whole trace, as OTLP/JSON or, by Accept, as the bytes of OTLP TracesData. A large one comes in pages; \
            the next cursor is also in the header longpole-next-cursor.",
    params: &[
        with_default(
            "limit",
            Kind::Integer { least: 1, most: TracePage::LIMIT_MAX as u64 },
            "100000",
            "At most this many spans, and 32 MiB of protobuf.",
        ),
        CURSOR,
        PRETTY,
    ],
    answer: "Trace",
};

/// `GET /api/v1/traces/{trace_id}/critical-path`.
pub(crate) static CRITICAL_PATH: Route = Route {
    path: "/api/v1/traces/{trace_id}/critical-path",
    id: "getCriticalPath",
    about: "What the duration of a trace is made of.",
    params: &[
        with_default(
            "extent",
            words(&["response", "trace"]),
            "response",
            "Up to the root's response, or to the last end.",
        ),
        with_default(
            "overrun",
            words(&["clip", "auto", "exclude"]),
            "clip",
            "What becomes of a child that ends after its parent.",
        ),
        with_default(
            "max_segments",
            Kind::Integer { least: 1, most: 100_000 },
            "1000",
            "At most this many segments; sums stay exact.",
        ),
        PRETTY,
    ],
    answer: "CriticalPath",
};

/// `GET /api/v1/latency`.
pub(crate) static LATENCY: Route = Route {
    path: "/api/v1/latency",
    id: "getLatency",
    about: "Latency percentiles by the end of spans, in whole minutes.",
    params: &[
        SERVICE,
        OPERATION,
        KIND,
        STATUS,
        START,
        END,
        param(
            "step",
            Kind::Duration,
            "The width of a point, in whole minutes; no points without it. Refused if the points take more than an eighth of `memory`.",
        ),
        with_default("quantiles", Kind::Quantiles, "0.5,0.9,0.95,0.99", "Up to 20 quantiles from 0 to 1."),
        with_default(
            "group_by",
            Kind::Words(&["service", "operation", "kind", "status"]),
            "service,operation,kind",
            "The labels of a series; what is left out is merged. `none` merges all.",
        ),
        with_default("limit", LIMIT_KIND, "1000", "At most this many series, those with most spans first."),
        PRETTY,
    ],
    answer: "Latency",
};

/// `GET /api/v1/bottlenecks`.
pub(crate) static BOTTLENECKS: Route = Route {
    path: "/api/v1/bottlenecks",
    id: "getBottlenecks",
    about: "What the critical paths of the traces with this entry are made of, greatest share first.",
    params: &[
        param("service", Kind::Text, "`service.name` of the traces' root."),
        param("operation", Kind::Text, "The name of the traces' root."),
        START,
        END,
        with_default(
            "band",
            Kind::Word { built: &["all"], later: &["p50", "p95", "p99", "tail"] },
            "all",
            "Which traces, by the duration of their root.",
        ),
        with_default(
            "group_by",
            Kind::Word { built: &["service", "operation"], later: &["call_path"] },
            "service",
            "How items are merged.",
        ),
        with_default(
            "what_if",
            Kind::Permille,
            "0.5",
            "How much faster an item is assumed to become, 0 to 1.",
        ),
        with_default("limit", LIMIT_KIND, "20", "At most this many items; the rest is other_share."),
        PRETTY,
    ],
    answer: "Bottlenecks",
};

/// `GET /api/v1/status`.
pub(crate) static STATUS_ROUTE: Route = Route {
    path: "/api/v1/status",
    id: "getStatus",
    about: "Build, store, open traces, and what is being refused and why.",
    params: &[PRETTY],
    answer: "Status",
};

/// `GET /api/v1/openapi.json`. It is the description of the others, and has no schema of its own.
pub(crate) static DOCUMENT: Route = Route {
    path: "/api/v1/openapi.json",
    id: "getDescription",
    about: "This document.",
    params: &[with_default("pretty", Kind::Flag, "true", "Indent the JSON.")],
    answer: "",
};

/// All of the others, in the order in which they are described.
pub(crate) static ROUTES: [&Route; 8] =
    [&SERVICES, &OPERATIONS, &TRACES, &TRACE, &CRITICAL_PATH, &LATENCY, &BOTTLENECKS, &STATUS_ROUTE];

/// Paths that are described but not built yet.
pub(crate) const LATER: [&str; 10] = [
    "/api/v1/attributes",
    "/api/v1/attributes/{key}/values",
    "/api/v1/heatmap",
    "/api/v1/compare",
    "/api/v1/dependencies",
    "/api/v1/slos",
    "/api/v1/slos/{name}",
    "/api/v1/alerts",
    "/api/v1/incidents",
    "/api/v1/incidents/{id}",
];
