//! Memory of large bodies, used again.
//!
//! A body lives until its segment is sealed, and then a whole segment's bodies are freed at once. Through the allocator
//! their pages would go back to the system, and be zeroed and mapped again for the next bodies: at full load a tenth of
//! all time.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// A shorter body's memory is the allocator's own business.
pub(crate) const LARGE: usize = 256 << 10;
/// Sizes of buffers are this fraction of a power of two apart, so that bodies of about the same length can share them.
const STEPS: usize = 8;
/// A buffer serves bodies down to this fraction of its size, in percent.
const FILLED: usize = 80;
/// How often buffers that nobody has needed are let go of.
const LET_GO: Duration = Duration::from_secs(1);

/// Buffers that no body lies in, up to so many bytes.
#[derive(Debug)]
pub(crate) struct BodyBuffers {
    max: usize,
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    /// The longest idle one first.
    buffers: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The fewest there were since the last look.
    fewest: usize,
}

impl BodyBuffers {
    /// Keeps up to `max` bytes for bodies to come.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, idle: Mutex::default() })
    }

    /// An empty buffer with room for a body of this length. Its memory is taken as bytes come.
    pub(crate) fn take(self: &Arc<Self>, length: usize) -> BodyBuffer {
        let bytes = self.idle.lock().take(length).unwrap_or_else(|| Vec::with_capacity(rounded(length)));
        BodyBuffer { bytes, home: Arc::clone(self) }
    }

    /// Lets go, every second, of the buffers that were not needed in it.
    pub(crate) async fn let_go_of_idle(&self) -> Infallible {
        loop {
            tokio::time::sleep(LET_GO).await;
            self.trim();
        }
    }

    fn trim(&self) {
        let unneeded = self.idle.lock().take_unneeded();
        // Outside the lock: the system takes its time with so many pages.
        drop(unneeded);
    }

    fn give_back(&self, mut bytes: Vec<u8>) {
        if bytes.capacity() < LARGE {
            return;
        }
        bytes.clear();
        let too_many = self.idle.lock().put(bytes, self.max);
        drop(too_many);
    }

    #[cfg(test)]
    fn idle_bytes(&self) -> usize {
        self.idle.lock().bytes
    }
}

impl Idle {
    /// The one used last that fits: its bytes are the likeliest to be in a cache.
    fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        let fits = |buffer: &Vec<u8>| {
            buffer.capacity() >= length && buffer.capacity() / 100 * FILLED <= rounded(length)
        };
        let at = self.buffers.iter().rposition(fits)?;
        let buffer = self.buffers.remove(at)?;
        self.bytes -= buffer.capacity();
        self.fewest = self.fewest.min(self.buffers.len());
        Some(buffer)
    }

    /// Puts one there, and takes those out that are too many then.
    fn put(&mut self, buffer: Vec<u8>, max: usize) -> Vec<Vec<u8>> {
        self.bytes += buffer.capacity();
        self.buffers.push_back(buffer);
        let mut out = Vec::new();
        while self.bytes > max {
            out.extend(self.pop());
        }
        out
    }

    fn take_unneeded(&mut self) -> Vec<Vec<u8>> {
        let out = (0..self.fewest).filter_map(|_| self.pop()).collect();
        self.fewest = self.buffers.len();
        out
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let oldest = self.buffers.pop_front()?;
        self.bytes -= oldest.capacity();
        self.fewest = self.fewest.min(self.buffers.len());
        Some(oldest)
    }
}

/// The size of a new buffer for a body of this length.
fn rounded(length: usize) -> usize {
    let step = (length.max(1).next_power_of_two() / 2 / STEPS).max(1);
    length.next_multiple_of(step)
}

/// Memory for one body. Another body gets it when nobody reads this one any more.
#[derive(Debug)]
pub(crate) struct BodyBuffer {
    bytes: Vec<u8>,
    home: Arc<BodyBuffers>,
}

impl BodyBuffer {
    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn freeze(self) -> bytes::Bytes {
        bytes::Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for BodyBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for BodyBuffer {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn filled(buffers: &Arc<BodyBuffers>, length: usize) -> bytes::Bytes {
        let mut buffer = buffers.take(length);
        buffer.extend_from_slice(&vec![1; length]);
        buffer.freeze()
    }

    #[test]
    fn a_body_gets_the_memory_of_one_that_nobody_reads_any_more() {
        let buffers = BodyBuffers::new(16 * MIB);
        let first = filled(&buffers, MIB);
        let at = first.as_ptr();
        let part = first.slice(10..20);
        drop(first);
        assert_ne!(filled(&buffers, MIB).as_ptr(), at, "a part of it is still read");
        drop(part);
        let again = buffers.take(MIB - 5_000);
        assert_eq!((again.as_ref().len(), again.as_ref().as_ptr()), (0, at));
    }

    #[test]
    fn much_shorter_and_longer_bodies_get_other_memory() {
        let buffers = BodyBuffers::new(16 * MIB);
        drop(filled(&buffers, 4 * MIB));
        assert!(buffers.take(2 * MIB).bytes.capacity() < 3 * MIB);
        assert!(buffers.take(5 * MIB).bytes.capacity() >= 5 * MIB);
        assert_eq!(buffers.take(4 * MIB - 300_000).bytes.capacity(), 4 * MIB);
    }

    #[test]
    fn no_more_is_kept_than_was_said_and_only_what_is_large() {
        let buffers = BodyBuffers::new(3 * MIB);
        drop(filled(&buffers, LARGE / 2));
        assert_eq!(buffers.idle_bytes(), 0);
        let bodies: Vec<_> = (0..5).map(|_| filled(&buffers, MIB)).collect();
        drop(bodies);
        assert_eq!(buffers.idle_bytes(), 3 * MIB);
        drop(filled(&buffers, 4 * MIB));
        assert_eq!(buffers.idle_bytes(), 0, "one larger than everything that may be kept");
    }

    #[test]
    fn what_was_not_needed_between_two_looks_is_let_go_of() {
        let buffers = BodyBuffers::new(16 * MIB);
        let bodies: Vec<_> = (0..4).map(|_| filled(&buffers, MIB)).collect();
        drop(bodies);
        buffers.trim();
        assert_eq!(buffers.idle_bytes(), 4 * MIB, "they came since the last look");
        let needed = (filled(&buffers, MIB), filled(&buffers, MIB), filled(&buffers, MIB));
        drop(needed);
        buffers.trim();
        assert_eq!(buffers.idle_bytes(), 3 * MIB);
        buffers.trim();
        assert_eq!(buffers.idle_bytes(), 0);
    }

    #[test]
    fn sizes_are_an_eighth_of_a_power_of_two_apart() {
        for (length, size) in [(MIB, MIB), (MIB + 1, MIB + MIB / 8), (3_500_000, 3_670_016), (1, 1)] {
            assert_eq!(rounded(length), size, "{length}");
        }
    }
}
