//! Frames as they were written until version 2: the payload in a single LZ4 block, or as it is.
//!
//! ```text
//! 0      u8  version = 1
//! 1      u8  flags (bit 0: lz4)
//! 2..6   u32 inflated length of the payload
//! 6..10  u32 number of requests
//! 10..18 u64 xxh3-64 of the inflated payload
//! 18..26 u64 arrival, unix nanoseconds
//! 26..   payload, as in version 2
//! ```

use bytes::Bytes;
use trace_model::UnixNanos;
use xxhash_rust::xxh3::xxh3_64;

use super::{Frame, FrameError, inflates_to, split, u32_at, u64_at};

pub(super) const VERSION: u8 = 1;
pub(super) const LENGTH_AT: usize = 2;
const LZ4: u8 = 1;
const HEADER: usize = 26;

pub(super) fn read(bytes: &[u8]) -> Result<Frame, FrameError> {
    let (header, packed) = bytes.split_at_checked(HEADER).ok_or(FrameError::Short)?;
    let length = inflates_to(packed, u32_at(header, LENGTH_AT)).ok_or(FrameError::Damaged)?;
    let payload = if header[1] & LZ4 != 0 {
        lz4_flex::block::decompress(packed, length).map_err(|_| FrameError::Damaged)?
    } else {
        packed.to_vec()
    };
    if payload.len() != length || xxh3_64(&payload) != u64_at(header, 10) {
        return Err(FrameError::Damaged);
    }
    let requests = split(&Bytes::from(payload), u32_at(header, 6))?;
    Ok(Frame { arrival: UnixNanos(u64_at(header, 18)), requests })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_the_first_version_is_read_and_its_damage_is_noticed() {
        let payload = [&[200, 1][..], &[7; 200], &[3], b"abc"].concat();
        let mut frame = vec![VERSION, LZ4];
        frame.extend((payload.len() as u32).to_le_bytes());
        frame.extend(2u32.to_le_bytes());
        frame.extend(xxh3_64(&payload).to_le_bytes());
        frame.extend(42u64.to_le_bytes());
        frame.extend(lz4_flex::block::compress(&payload));
        let read = Frame::read(&frame).unwrap();
        assert_eq!(
            (read.arrival, read.requests.len(), &read.requests[1][..]),
            (UnixNanos(42), 2, &b"abc"[..])
        );
        for cut in 0..frame.len() {
            assert!(Frame::read(&frame[..cut]).is_err(), "cut at {cut}");
        }
        // The arrival and the unused flag bits were not covered by the checksum.
        for at in (0..18).chain(26..frame.len()).filter(|&at| at != 1) {
            let mut damaged = frame.clone();
            damaged[at] ^= 0x55;
            assert!(Frame::read(&damaged).is_err(), "flipped at {at}");
        }
    }
}
