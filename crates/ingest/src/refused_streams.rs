//! Streams that HTTP/2 refuses by itself, counted where they can be seen: in the frames that go out.
//!
//! Over the limit that a client was told, `h2` answers `RST_STREAM` with `REFUSED_STREAM` and tells nobody. To be told
//! we would have to allow more streams, and clients that keep to what they are allowed would be refused where they
//! now wait.

/// A frame's length, type, flags and stream.
const HEADER: usize = 9;
/// A reset's code comes behind the header.
const RESET: usize = HEADER + 4;
const RST_STREAM: u8 = 3;
const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];

/// Looks through what a server of HTTP/2 writes, from its first byte on, in whatever pieces it is written.
#[derive(Debug, Default)]
pub(crate) struct OutgoingFrames {
    /// The beginning of a frame that is not whole yet.
    head: [u8; RESET],
    have: usize,
    /// Bytes of a frame that are still to come and say nothing.
    skip: usize,
}

impl OutgoingFrames {
    /// Takes the next bytes. Streams that they refuse.
    pub(crate) fn refused_in(&mut self, mut bytes: &[u8]) -> u64 {
        let mut refused = 0;
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let wanted = if self.have >= HEADER { RESET } else { HEADER };
            let taken = (wanted - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            let [l0, l1, l2, kind, ..] = self.head;
            let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
            let is_reset = kind == RST_STREAM && length == RESET - HEADER;
            match self.have {
                HEADER if !is_reset => (self.have, self.skip) = (0, length),
                RESET => {
                    refused += u64::from(self.head[HEADER..] == REFUSED_STREAM);
                    self.have = 0;
                }
                _ => {}
            }
        }
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, 0, 0, 0, 0, 9]);
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn refusals_are_counted_however_the_bytes_are_cut() {
        // What looks like a refusal within data is none.
        let decoy = frame(0, &frame(RST_STREAM, &REFUSED_STREAM));
        let frames = [
            frame(4, &[]),
            frame(RST_STREAM, &REFUSED_STREAM),
            decoy,
            frame(RST_STREAM, &[0, 0, 0, 8]),
            frame(1, &[7; 300]),
            frame(RST_STREAM, &REFUSED_STREAM),
        ];
        let bytes = frames.concat();
        for piece in [1, 2, 3, 8, 9, 10, 13, 14, 100, bytes.len()] {
            let mut outgoing = OutgoingFrames::default();
            let refused: u64 = bytes.chunks(piece).map(|piece| outgoing.refused_in(piece)).sum();
            assert_eq!(refused, 2, "in pieces of {piece}");
        }
    }
}
