//! The HTTP API: routes, parameters, JSON shapes, OpenAPI and metrics.
//!
//! A request passes through three layers, each in its own folder. `params` checks the query string against the
//! route's table and turns it into values of [`query`]; `routes` asks the [`Backend`] on a blocking thread; `shape`
//! writes the answer as JSON. The tables of `params` are also what [`openapi()`] is made of, so that what is
//! described and what is accepted cannot drift apart.

mod accept;
mod backend;
mod cursor;
mod engine;
mod error;
mod metrics;
mod openapi;
mod params;
mod respond;
mod routes;
mod schema;
mod shape;
mod state;
mod unread;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod fuzz;

pub use backend::{Backend, Rows};
pub use error::ApiError;
pub use metrics::{Counter, CounterKind};
pub use openapi::openapi;
pub use routes::router;
pub use state::{ApiState, BuildInfo};
