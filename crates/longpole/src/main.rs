//! The `longpole` binary: `serve`, `demo`, `import`, and questions to a running server.

pub mod client;
mod command;
mod config;
mod copies;
pub mod demo;
pub mod import;
mod memory;
mod pipeline;
mod serve;

use std::process::ExitCode;

/// Requests are large and short-lived; this allocator is half as fast again as glibc's on them. Without huge pages:
/// with them the system zeroed 2 MiB wherever a little was touched, a tenth of all time and a fifth of all memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    command::run()
}
