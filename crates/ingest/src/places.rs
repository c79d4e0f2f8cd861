//! How many connections a server has, and what those beyond are told.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::drain::jittered;
use crate::refusal::{Reason, Refused};

/// Connections over the limit that get an answer before they are closed, at most; further ones are closed at once.
const SPARE_MAX: usize = 64;
/// The same as one part in so many of the limit, where that is less.
const SPARE_PART: usize = 4;

/// Bounds on the connections of one server.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Connections at a time. [`spare_connections`] more are told that they are too many.
    pub connections: usize,
    /// The configuration key of that number, for those who are told.
    pub key: &'static str,
    /// HTTP/2 streams of one connection at a time.
    pub streams: u32,
    /// From the first byte of an HTTP/1.1 request, or of a connection, until the headers are there.
    pub header_timeout: Duration,
    /// How long a connection may be without a request.
    pub idle_timeout: Duration,
    /// How long a client may read nothing of the answers that wait for it.
    pub answer_timeout: Duration,
}

/// How many connections over such a limit are accepted to be told so. Each takes a file as well.
pub fn spare_connections(connections: usize) -> usize {
    (connections / SPARE_PART).clamp(1, SPARE_MAX)
}

/// Marks the requests of a connection over the limit.
#[derive(Debug, Clone, Copy)]
pub struct OverLimit {
    connections: usize,
    key: &'static str,
}

impl OverLimit {
    /// Of a server with these limits.
    pub(crate) fn new(limits: &ConnectionLimits) -> Self {
        Self { connections: limits.connections, key: limits.key }
    }

    /// In words, if the request came on one connection too many: it is to be refused.
    pub fn message<B>(request: &Request<B>) -> Option<String> {
        let Self { connections, key } = request.extensions().get()?;
        Some(format!("more than {connections} connections ({key})"))
    }

    /// The same as a refusal of the intake's.
    pub(crate) fn of<B>(request: &Request<B>) -> Option<Refused> {
        let message = Self::message(request)?;
        Some(Refused::until(Reason::TooManyConnections, message, jittered(Duration::from_secs(5))))
    }
}

/// The places of one server's connections.
#[derive(Debug)]
pub(crate) struct Places {
    within: Arc<Semaphore>,
    spare: Arc<Semaphore>,
}

/// A place, free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    /// Whether it is one over the limit.
    pub(crate) is_over: bool,
}

impl Places {
    pub(crate) fn new(connections: usize) -> Self {
        let spare = Semaphore::new(spare_connections(connections));
        Self { within: Arc::new(Semaphore::new(connections)), spare: Arc::new(spare) }
    }

    /// A place within the limit, else a spare one; `None` if there is neither.
    pub(crate) fn take(&self) -> Option<Place> {
        let permit = Arc::clone(&self.within).try_acquire_owned();
        let is_over = permit.is_err();
        let permit = permit.or_else(|_| Arc::clone(&self.spare).try_acquire_owned()).ok()?;
        Some(Place { _permit: permit, is_over })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_run_out_and_come_back() {
        let places = Places::new(8);
        let mut taken: Vec<Place> = (0..8).filter_map(|_| places.take()).collect();
        assert!(taken.iter().all(|place| !place.is_over));
        let over: Vec<Place> = std::iter::from_fn(|| places.take()).collect();
        assert!(over.len() == spare_connections(8) && over.iter().all(|place| place.is_over));
        taken.pop();
        assert!(places.take().is_some_and(|place| !place.is_over));
        assert_eq!([0, 1, 100, 1_024].map(spare_connections), [1, 1, 25, 64]);
    }
}
