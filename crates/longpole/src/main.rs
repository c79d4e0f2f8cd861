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

/// Requests are large and short-lived; this allocator is half as fast again as glibc's on them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    memory::keep_freed_pages();
    command::run()
}
