//! Requests that are rewritten where they lie, so that sending costs the generator no copy and no fresh memory.

use std::sync::Mutex;

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::encode::{Encoded, Spot};
use crate::pool::{shift, span_mask, trace_mask, xor};

/// Bytes of gRPC in front of a message: not compressed, and the length.
pub const PREFIX: usize = 5;

/// The requests of a pool, each with its gRPC prefix.
#[derive(Debug)]
pub struct Recycled {
    slots: Vec<Mutex<Slot>>,
}

#[derive(Debug)]
struct Slot {
    message: Bytes,
    spots: Vec<Spot>,
    /// The pass it was last rewritten for.
    masks: ([u8; 16], [u8; 8]),
    base: u64,
}

impl Recycled {
    /// Takes encoded requests, whose ids are not masked and whose times begin at zero.
    pub fn new(requests: Vec<Encoded>) -> Self {
        let slots = requests.into_iter().map(|request| {
            let mut message = BytesMut::with_capacity(PREFIX + request.bytes.len());
            message.put_u8(0);
            message.put_u32(request.bytes.len() as u32);
            message.put_slice(&request.bytes);
            let masks = ([0; 16], [0; 8]);
            Mutex::new(Slot { message: message.freeze(), spots: request.spots, masks, base: 0 })
        });
        Self { slots: slots.collect() }
    }

    /// A request with the ids of the pass and with times that begin at `base_nanos`. Copies it only if what was
    /// sent before is still in use. None if there is no such request, or a sender panicked.
    pub fn message(&self, request: usize, pass: u64, base_nanos: u64) -> Option<Bytes> {
        let mut slot = self.slots.get(request)?.lock().ok()?;
        let mut message = match std::mem::take(&mut slot.message).try_into_mut() {
            Ok(message) => message,
            Err(in_use) => BytesMut::from(&in_use[..]),
        };
        slot.rewrite(&mut message[PREFIX..], pass, base_nanos);
        slot.message = message.freeze();
        Some(slot.message.clone())
    }
}

impl Slot {
    /// From the last pass's ids and times to this one's.
    fn rewrite(&mut self, bytes: &mut [u8], pass: u64, base: u64) {
        let (mut trace, mut span) = (trace_mask(pass), span_mask(pass));
        let masks = (trace, span);
        xor(&mut trace, &self.masks.0);
        xor(&mut span, &self.masks.1);
        let by = base.wrapping_sub(self.base);
        for spot in &self.spots {
            rewrite(bytes, spot, &trace, &span, by);
        }
        (self.masks, self.base) = (masks, base);
    }
}

/// Changes the ids and times of one span.
pub(crate) fn rewrite(bytes: &mut [u8], spot: &Spot, trace_mask: &[u8; 16], span_mask: &[u8; 8], by: u64) {
    xor(&mut bytes[spot.trace_id as usize..][..16], trace_mask);
    xor(&mut bytes[spot.span_id as usize..][..8], span_mask);
    if spot.parent_id != 0 {
        xor(&mut bytes[spot.parent_id as usize..][..8], span_mask);
    }
    shift(bytes, spot.start, by);
    shift(bytes, spot.end, by);
    if spot.event != 0 {
        shift(bytes, spot.event, by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;

    #[test]
    fn rewriting_over_and_over_gives_what_a_fresh_copy_gives() {
        let pool = Pool::generate(5, 2_000, 512).unwrap();
        let recycled = Pool::generate(5, 2_000, 512).unwrap().recycle();
        let mut kept = Vec::new();
        for (pass, base) in [(3, 1_700_000_000_000_000_000), (4, 1_700_000_001_000_000_007), (9, 5)] {
            for request in 0..pool.requests() {
                let message = recycled.message(request, pass, base).unwrap();
                let fresh = pool.patched(request, pass, base);
                assert_eq!(message[0], 0);
                assert_eq!(message[1..PREFIX], (fresh.len() as u32).to_be_bytes());
                assert!(message[PREFIX..] == fresh[..], "pass {pass}, request {request}");
                // Some are still on their way when the next pass wants them; they must not change.
                if request % 2 == 0 {
                    kept.push((message, fresh));
                }
            }
        }
        assert!(kept.iter().all(|(message, fresh)| message[PREFIX..] == fresh[..]));
        assert!(recycled.message(pool.requests(), 0, 0).is_none());
    }
}
