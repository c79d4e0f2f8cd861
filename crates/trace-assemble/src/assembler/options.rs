//! When traces are finished, and how much of them is held.

use trace_model::NanoDuration;

/// When traces are finished, and how much may be held.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long to wait after the root came. Default 5 s.
    pub root_wait: NanoDuration,
    /// How long a trace with a root must be quiet. Default 5 s.
    pub idle_short: NanoDuration,
    /// How long a trace without a root must be quiet. Default 60 s.
    pub idle_long: NanoDuration,
    /// The age at which a trace is analysed whatever it waits for. Default 15 min.
    pub max_age: NanoDuration,
    /// Spans held at most (about 80 B each); above it the traces due next are finished early. Default 4 million; the server divides it from `memory`.
    pub spans_max: usize,
    /// Spans of one trace that are held at most, besides those that are not sealed. Default 500,000; the server takes an eighth of the above.
    pub trace_held_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            root_wait: NanoDuration::from_secs(5),
            idle_short: NanoDuration::from_secs(5),
            idle_long: NanoDuration::from_secs(60),
            max_age: NanoDuration::from_secs(15 * 60),
            spans_max: 4_000_000,
            trace_held_max: 500_000,
        }
    }
}
