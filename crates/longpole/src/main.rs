//! The `longpole` binary: `serve`, `demo`, `import`, and questions to a running server.

mod client;
mod command;
mod config;
mod copies;
mod demo;
mod files;
mod import;
mod memory;
mod pipeline;
mod query_port;
mod serve;

use std::process::ExitCode;

/// The allocator of Rust and, where it can take the place of `malloc`, of RocksDB and zstd.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What it reads at start: one arena a processor, since each keeps what it freed for itself; freed pages stay for a second,
/// a few segments long, and go to the system from a thread of the allocator's own; no huge pages, with which the system
/// zeroes 2 MiB wherever a little is touched.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, non_upper_case_globals, reason = "the allocator looks for this name")]
// SAFETY: nothing else has the name, and the allocator takes the first word as a pointer to a string that ends with a zero.
#[unsafe(export_name = "malloc_conf")]
pub static malloc_conf: &[u8] =
    b"narenas_ratio:1,dirty_decay_ms:1000,muzzy_decay_ms:0,background_thread:true,thp:never\0";

fn main() -> ExitCode {
    command::run()
}
