//! What is asked before a request is read: may anything be taken at all?

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::drain::jittered;
use crate::refusal::{Reason, Refused};

/// While nothing can be stored, one request in this time is let through: some failures are only known to be over
/// once a write has worked.
const PROBE: Duration = Duration::from_secs(1);
/// What clients are told to wait while nothing can be stored.
const WAIT_CANNOT_STORE: Duration = Duration::from_secs(5);
/// What clients are told to wait while the server stops; the next one may be up by then.
const WAIT_DRAINING: Duration = Duration::from_secs(2);

pub(crate) type Refusing = Box<dyn Fn() -> Option<String> + Send + Sync>;
pub(crate) type Ready = Box<dyn Fn() -> bool + Send + Sync>;

/// Opens and closes the intake as a whole.
pub(crate) struct Gate {
    draining: AtomicBool,
    refusing: Refusing,
    is_ready: Ready,
    epoch: Instant,
    /// When a request was last let through while nothing could be stored, in milliseconds since `epoch` and one;
    /// 0 while all is well.
    probed: AtomicU64,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("draining", &self.draining).finish_non_exhaustive()
    }
}

impl Gate {
    /// `refusing` says why nothing can be stored, `None` if all is well. It is asked for every request. `is_ready` says
    /// what health checkers are told until the end.
    pub(crate) fn new(refusing: Refusing, is_ready: Ready) -> Self {
        let (draining, probed) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { draining, refusing, is_ready, epoch: Instant::now(), probed }
    }

    /// Refuses everything from now on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether spans are taken and all that is stored is there.
    pub(crate) fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::Acquire) && (self.is_ready)()
    }

    /// # Errors
    /// If a request must not even be read.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        if self.draining.load(Ordering::Acquire) {
            let wait = jittered(WAIT_DRAINING);
            return Err(Refused::until(Reason::Draining, "the server is shutting down", wait));
        }
        let Some(why) = (self.refusing)() else {
            self.probed.store(0, Ordering::Relaxed);
            return Ok(());
        };
        if self.may_probe() {
            return Ok(());
        }
        Err(Refused::until(Reason::CannotStore, why, jittered(WAIT_CANNOT_STORE)))
    }

    fn may_probe(&self) -> bool {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        let last = self.probed.load(Ordering::Relaxed);
        if last != 0 && now - last.min(now) < PROBE.as_millis() as u64 {
            return false;
        }
        let won = self.probed.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        // The first refusal only starts the clock.
        won && last != 0
    }
}
