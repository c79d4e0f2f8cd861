//! One large trace at a time: whoever reads more spans of one trace than is usual waits for the one before, so that
//! memory for it is taken once however many ask.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

/// Lets one through at a time.
#[derive(Debug, Default)]
pub struct Gate {
    busy: Mutex<bool>,
    free: Condvar,
}

/// Whoever has it is through; dropping it lets the next one.
#[derive(Debug)]
pub struct Pass(Arc<Gate>);

impl Gate {
    /// Waits until nobody else is through.
    pub fn enter(self: &Arc<Self>) -> Pass {
        let mut busy = self.busy.lock();
        while *busy {
            self.free.wait(&mut busy);
        }
        *busy = true;
        Pass(Arc::clone(self))
    }

    /// Goes through if nobody else is.
    pub fn try_enter(self: &Arc<Self>) -> Option<Pass> {
        let mut busy = self.busy.lock();
        let free = !std::mem::replace(&mut *busy, true);
        free.then(|| Pass(Arc::clone(self)))
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        *self.0.busy.lock() = false;
        self.0.free.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_through_at_a_time() {
        let gate = Arc::new(Gate::default());
        let pass = gate.enter();
        assert!(gate.try_enter().is_none());
        let other = Arc::clone(&gate);
        let waits = std::thread::spawn(move || drop(other.enter()));
        drop(pass);
        waits.join().unwrap();
        assert!(gate.try_enter().is_some());
    }
}
