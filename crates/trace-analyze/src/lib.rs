//! Self time, critical path, slack and bottleneck attribution of one trace.
//!
//! Everything here is a pure function of a [`trace_model::Trace`]: no clock, no I/O, whole nanoseconds
//! only, no recursion, and O(n log n) in the number of spans.
//!
//! - [`critical_path`]: who owns each moment between the start and the end of a request.
//! - [`self_times`]: how long each span did nothing but its own work.
//! - [`slack`]: how much later a span off the path may end before the request does.
//! - [`path_shares`]: the path summed by service, operation and network edge.
//! - [`what_if`]: how long the request would take if some spans were faster.

mod completion;
mod flags;
mod path;
mod policy;
mod self_time;
mod shares;
mod slack;
mod tree;
mod walk;
mod what_if;

pub use flags::Flags;
pub use path::{CriticalPath, Extent, PathOptions, PathSegment, critical_path};
pub use policy::Overrun;
pub use self_time::{exclusive, inclusive, self_times};
pub use shares::{PathShare, path_shares};
pub use slack::{UNLIMITED_SLACK, slack};
pub use what_if::what_if;
