//! What the stages know of the time.

use std::sync::Arc;

use trace_model::UnixNanos;

/// Tells the stages that a span passes the time: the server's clock, or one that somebody else moves. So that what they do
/// can be run again step by step, they read no other.
#[derive(Clone)]
pub(crate) struct Clock(Arc<dyn Fn() -> UnixNanos + Send + Sync>);

impl Clock {
    /// A clock that `read` tells.
    pub(crate) fn new(read: impl Fn() -> UnixNanos + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The time.
    pub(super) fn now(&self) -> UnixNanos {
        (self.0)()
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}
