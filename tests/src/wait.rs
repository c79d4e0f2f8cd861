//! Bounded waits, and the seed of everything random.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Calls `attempt` until it returns a value. When it has not after `limit`, fails with the reason it gave last.
pub fn eventually<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(reason) if Instant::now() >= deadline => {
                bail!("{what}: not within {limit:?}; last: {reason:#}");
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// The seed of this run: `LONGPOLE_SEED`, or a new one. Printed, so that a failure can be repeated.
#[allow(clippy::print_stdout)]
pub fn seed() -> u64 {
    let given = std::env::var("LONGPOLE_SEED").ok().and_then(|s| s.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("LONGPOLE_SEED={seed}");
    seed
}
