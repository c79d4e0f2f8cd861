//! The bytes of a body as they came, charged as they come.

use std::collections::VecDeque;
use std::io::{BufRead, Read};

use bytes::{Buf, Bytes, BytesMut};

use crate::budget::Charge;

/// A shorter chunk is copied behind the one before it, so that many tiny chunks cost no more than their bytes.
const CHUNK_MIN: usize = 4 << 10;
/// A body that came as one chunk at least this long is not copied; a shorter one might hold on to a larger buffer
/// of the connection.
const KEEP_MIN: usize = 64 << 10;
/// A shorter body is not given room for all of it before it is there.
const LARGE: usize = 256 << 10;
/// Room for all that was announced is taken once so much of it is there, one part in so many: who only announces gets
/// nothing.
const THERE: usize = 8;

/// A body, or the part of it that is there.
#[derive(Debug)]
pub(crate) struct Received {
    /// What came before `whole` was taken.
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    /// The body in one piece, as far as it is there.
    whole: Option<Vec<u8>>,
    /// The length that the body will have in one piece; `None` if it is not known, or is not wanted so.
    announced: Option<usize>,
    len: usize,
    /// What it holds of the budget: the length.
    pub(crate) charge: Charge,
}

impl Received {
    pub(crate) fn new(charge: Charge) -> Self {
        Self { chunks: VecDeque::new(), tail: BytesMut::new(), whole: None, announced: None, len: 0, charge }
    }

    /// It will be wanted in one piece, of this length if that is known.
    pub(crate) fn in_one_piece(mut self, announced: Option<usize>) -> Self {
        self.announced = announced.filter(|&length| length >= LARGE);
        self
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Takes a chunk. False if the budget has no room for it.
    #[must_use]
    pub(crate) fn push(&mut self, chunk: Bytes) -> bool {
        if !self.charge.grow(chunk.len()) {
            return false;
        }
        self.len += chunk.len();
        if self.whole.is_none()
            && let Some(length) = self.announced
            && self.len >= length / THERE
            && self.len < length
        {
            self.whole = Some(self.gathered(length));
        }
        if let Some(whole) = &mut self.whole {
            whole.extend_from_slice(&chunk);
            return true;
        }
        if chunk.len() < CHUNK_MIN {
            self.tail.extend_from_slice(&chunk);
            return true;
        }
        self.end_tail();
        self.chunks.push_back(chunk);
        true
    }

    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
    }

    /// Moves what is there into one piece with room for so much.
    fn gathered(&mut self, length: usize) -> Vec<u8> {
        self.end_tail();
        let mut whole = Vec::with_capacity(length);
        while let Some(chunk) = self.chunks.pop_front() {
            whole.extend_from_slice(&chunk);
        }
        whole
    }

    /// All of it in one piece: as it came if it came so, else copied once.
    pub(crate) fn into_bytes(mut self) -> (Bytes, Charge) {
        self.end_tail();
        if self.whole.is_none()
            && self.chunks.len() == 1
            && self.len >= KEEP_MIN
            && let Some(only) = self.chunks.pop_front()
        {
            return (only, self.charge);
        }
        let whole = match self.whole.take() {
            Some(whole) => whole,
            None => self.gathered(self.len),
        };
        (whole.into(), self.charge)
    }

    /// A reader that lets go of chunks as it goes, and the charge.
    pub(crate) fn into_reader(mut self) -> (ChunkReader, Charge) {
        self.end_tail();
        self.chunks.extend(self.whole.take().map(Bytes::from));
        (ChunkReader(self.chunks), self.charge)
    }
}

/// Reads chunk by chunk.
#[derive(Debug)]
pub(crate) struct ChunkReader(VecDeque<Bytes>);

impl Read for ChunkReader {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let chunk = self.fill_buf()?;
        let n = chunk.len().min(into.len());
        let (Some(from), Some(to)) = (chunk.get(..n), into.get_mut(..n)) else { return Ok(0) };
        to.copy_from_slice(from);
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        while self.0.front().is_some_and(Bytes::is_empty) {
            self.0.pop_front();
        }
        Ok(self.0.front().map_or(&[], |chunk| chunk.as_ref()))
    }

    fn consume(&mut self, n: usize) {
        if let Some(front) = self.0.front_mut() {
            front.advance(n.min(front.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    fn empty() -> Received {
        Received::new(Budget::new(1 << 30).charge())
    }

    fn received(lengths: &[usize]) -> (Received, Vec<u8>) {
        fill(empty(), lengths)
    }

    fn fill(mut received: Received, lengths: &[usize]) -> (Received, Vec<u8>) {
        let mut all = Vec::new();
        for (at, &length) in lengths.iter().enumerate() {
            let chunk = vec![at as u8; length];
            all.extend_from_slice(&chunk);
            assert!(received.push(chunk.into()));
        }
        (received, all)
    }

    #[test]
    fn chunks_of_any_size_stay_in_order() {
        for lengths in [&[][..], &[1], &[5_000], &[1, 5_000, 2, 3, 70_000, 4], &[100_000]] {
            let (whole, all) = received(lengths);
            assert_eq!(whole.len(), all.len());
            assert!(whole.into_bytes().0 == all, "{lengths:?}");
            let mut read = Vec::new();
            received(lengths).0.into_reader().0.read_to_end(&mut read).unwrap();
            assert!(read == all, "{lengths:?}");
        }
    }

    #[test]
    fn a_large_body_in_one_piece_is_not_copied() {
        let body = Bytes::from(vec![7; KEEP_MIN]);
        let at = body.as_ptr();
        let mut received = empty();
        assert!(received.push(body));
        assert_eq!(received.into_bytes().0.as_ptr(), at);
    }

    #[test]
    fn a_body_whose_length_is_known_is_written_where_it_stays() {
        let length = 2 * LARGE;
        let pieces = [length / 16, 100, length / 16 - 100, 1, length / 2, length / 4 + length / 8 - 1];
        let (received, all) = fill(empty().in_one_piece(Some(length)), &pieces);
        let at = received.whole.as_ref().map(|whole| whole.as_ptr());
        let whole = received.into_bytes().0;
        assert!(whole == all);
        assert_eq!(Some(whole.as_ptr()), at);
        let mut read = Vec::new();
        let (received, all) = fill(empty().in_one_piece(Some(length)), &pieces);
        received.into_reader().0.read_to_end(&mut read).unwrap();
        assert!(read == all);
    }

    #[test]
    fn what_is_only_announced_takes_no_room() {
        let length = 4 * LARGE;
        let received = fill(empty().in_one_piece(Some(length)), &[length / THERE - 1]).0;
        assert!(received.whole.is_none());
        let received = fill(received, &[1]).0;
        assert!(received.whole.is_some());
        // More than was announced is no reason to lose any of it.
        let (received, all) = fill(empty().in_one_piece(Some(length)), &[length / 2, length]);
        assert!(received.into_bytes().0 == all);
    }

    #[test]
    fn what_the_budget_has_no_room_for_is_not_taken() {
        let budget = Budget::new(10);
        let mut other = budget.charge();
        assert!(other.grow(5));
        let mut received = Received::new(budget.charge());
        assert!(received.push(Bytes::from_static(b"12345")));
        assert!(!received.push(Bytes::from_static(b"6")));
        drop(received);
        assert_eq!(budget.used(), 5);
    }
}
