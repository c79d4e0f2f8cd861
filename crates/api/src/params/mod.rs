//! From a query string to checked values.

mod args;
mod nearest;
mod requests;
mod table;
pub(crate) mod time;

pub(crate) use args::Args;
pub(crate) use requests::{
    NamePage, bottlenecks, critical_path, latency, max_segments, name_page, operations_kind, search,
    services_window, trace_page,
};
pub(crate) use table::{
    BOTTLENECKS, CRITICAL_PATH, DOCUMENT, Kind, LATENCY, LATER, OPERATIONS, Param, ROUTES, Route, SERVICES,
    STATUS_ROUTE, TRACE, TRACES,
};
