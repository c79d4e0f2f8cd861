//! Keeps resident memory within its bound by giving freed pages back to the system, but only then.
//!
//! At full load a segment's requests, rows and columns are freed and wanted again seven times a second. Were their pages
//! given back at once, having them zeroed by the system each time would cost a tenth of all time; were they kept for
//! good, what was needed once would stay. The allocator, which Rust and C share, keeps them for a second; whoever comes near
//! the bound earlier has them taken.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often resident memory is looked at: it grows by some MiB in this time.
const TICK: Duration = Duration::from_millis(20);
/// The wait after pages were given back, so that it costs little even if it does not help.
const PAUSE: Duration = Duration::from_millis(100);
/// The part of the bound from which pages are given back, in sixteenths.
const NEAR: usize = 15;

pub(super) struct Resident {
    /// Bytes.
    near: usize,
    stopping: Arc<AtomicBool>,
}

impl Resident {
    /// `memory` is the bound, in bytes.
    pub(super) fn new(memory: usize, stopping: Arc<AtomicBool>) -> Self {
        Self { near: memory / 16 * NEAR, stopping }
    }

    pub(super) fn run(self) {
        let mut sizes = match Sizes::open() {
            Ok(sizes) => sizes,
            Err(error) => {
                tracing::debug!(%error, "this system does not tell resident memory; freed pages go after a second");
                return;
            }
        };
        while !self.stopping.load(Ordering::Acquire) {
            let is_near = sizes.resident().is_ok_and(|resident| resident > self.near);
            if is_near {
                give_back();
            }
            std::thread::sleep(if is_near { PAUSE } else { TICK });
        }
    }
}

/// Gives freed pages back to the system.
fn give_back() {
    #[allow(unsafe_code, reason = "mimalloc has no safe call for it")]
    // SAFETY: without conditions; it works on pages that are free.
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}

/// `/proc/self/status`.
struct Sizes(File);

impl Sizes {
    fn open() -> io::Result<Self> {
        let mut sizes = Self(File::open("/proc/self/status")?);
        sizes.resident()?;
        Ok(sizes)
    }

    /// Resident memory of this process, bytes.
    fn resident(&mut self) -> io::Result<usize> {
        let mut text = [0; 4096];
        self.0.rewind()?;
        let length = self.0.read(&mut text)?;
        resident_in(&String::from_utf8_lossy(&text[..length]))
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

fn resident_in(status: &str) -> Option<usize> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: usize = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_what_the_system_says() {
        assert_eq!(resident_in("Name:\tlongpole\nVmHWM:\t  300 kB\nVmRSS:\t  216 kB\n"), Some(216 << 10));
        assert_eq!(resident_in("Name:\tlongpole\n"), None);
    }

    #[test]
    fn freed_pages_are_given_back() {
        let Ok(mut sizes) = Sizes::open() else { return };
        let taken = vec![1_u8; 256 << 20];
        let with_it = sizes.resident().unwrap();
        drop(std::hint::black_box(taken));
        give_back();
        let without = sizes.resident().unwrap();
        assert!(without + (200 << 20) < with_it, "{with_it} bytes, then {without}");
    }
}
