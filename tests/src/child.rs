//! Ending a child process kindly, and addresses that no other process takes meanwhile.

use std::net::Ipv4Addr;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks a child to stop and waits until it has; kills it when it has not within `limit`.
pub(crate) fn terminate(mut child: Child, limit: Duration) -> Result<ExitStatus> {
    // `kill` the program, so that this package needs no unsafe code.
    let sent = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status()?;
    if !sent.success() {
        bail!("cannot signal process {}", child.id());
    }
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            bail!("still running {limit:?} after SIGTERM");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A loopback address at random, for a server that is started again on the same ports: on 127.0.0.1 another process
/// may be given them meanwhile.
pub fn own_address() -> Ipv4Addr {
    let [a, b, c]: [u8; 3] = rand::random();
    // Neither 127.0.0.1 nor its neighbours, which systems use for their own ends.
    Ipv4Addr::new(127, a | 64, b, c.clamp(1, 254))
}
