//! Open traces, as skeletons.
//!
//! Spans are told to [`Assembler::observe_rows`]; [`Assembler::poll`] names the traces that have been quiet for
//! long enough to be analysed. "Finished" is a state of the analysis and never gates storage: a late span
//! reopens its trace. The crate is pure: time is an argument, and it knows neither bytes nor a store.
//!
//! A trace is finished at
//! `min(first_seen + max_age, root seen ? max(root_seen + root_wait, last_seen + idle_short) : last_seen + idle_long)`,
//! by arrival time and never by the clients' clocks.

mod assembler;
mod by_trace;
mod open_trace;
mod skeleton;
mod totals;

pub use assembler::{Assembler, OpenAtCut, Options, Seen};
pub use by_trace::{ByTrace, Rows};
pub use open_trace::{OpenTrace, Phase};
pub use skeleton::{HeldSpan, Location};
pub use totals::Totals;
