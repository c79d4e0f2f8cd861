//! Keeps resident memory within its bound: when it comes near, freed pages are given back to the system, and questions that
//! gather much go on one at a time.
//!
//! At full load a segment's requests, rows and columns are freed and wanted again ten times a second. Were their pages
//! given back at once, having them zeroed by the system each time would cost a tenth of all time. So the allocator keeps
//! freed pages for a second, unless memory is short.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use query::State;

/// How often resident memory is looked at when it is not far from the bound: it grows by some MiB in this time.
const TICK: Duration = Duration::from_millis(20);
/// How often as long as it is less than half of that.
const CALM_TICK: Duration = Duration::from_millis(200);
/// The part of the bound from which memory is short, in sixteenths.
const NEAR: usize = 14;

pub(super) struct Resident {
    /// Bytes.
    near: usize,
    state: Arc<State>,
    stopping: Arc<AtomicBool>,
}

impl Resident {
    /// `memory` is the bound, in bytes.
    pub(super) fn new(memory: usize, state: Arc<State>, stopping: Arc<AtomicBool>) -> Self {
        Self { near: memory / 16 * NEAR, state, stopping }
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
            let resident = sizes.resident().unwrap_or(0);
            self.state.sums.set_short(resident > self.near);
            if resident > self.near {
                give_back();
            }
            std::thread::sleep(if resident > self.near / 2 { TICK } else { CALM_TICK });
        }
        // Nobody says when it is over from here on.
        self.state.sums.set_short(false);
    }
}

/// Gives freed pages back to the system.
fn give_back() {
    /// `arena.<i>.purge`, where this number, `MALLCTL_ARENAS_ALL`, stands for all arenas.
    const PURGE: &CStr = c"arena.4096.purge";
    #[allow(unsafe_code, reason = "there is no safe call for it")]
    // SAFETY: the name ends with a zero, and this control takes and gives no value.
    let refused =
        unsafe { tikv_jemalloc_sys::mallctl(PURGE.as_ptr(), null_mut(), null_mut(), null_mut(), 0) };
    debug_assert_eq!(refused, 0, "the allocator knows no {PURGE:?}");
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
    #[cfg(target_os = "linux")]
    fn the_allocator_has_read_its_settings() {
        let mut decay = 0_isize;
        let mut length = size_of_val(&decay);
        #[allow(unsafe_code, reason = "there is no safe call for it")]
        // SAFETY: the setting is an `ssize_t`, and so is what it is written to.
        let refused = unsafe {
            let to = (&raw mut decay).cast();
            tikv_jemalloc_sys::mallctl(c"opt.dirty_decay_ms".as_ptr(), to, &raw mut length, null_mut(), 0)
        };
        assert_eq!((refused, decay), (0, 1000));
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
