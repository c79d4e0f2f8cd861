//! The stored forms: varints, and the encoding of histograms.
//!
//! ```text
//! histogram   format byte 1 | count | errors | zeros | overflow | sum | min | max
//!             | buckets | (bucket less the one before | count)*
//! ```
//!
//! All but the format byte are LEB128 varints. An empty histogram is its format byte and a zero. Decoding
//! checks that the parts agree, so a decoded histogram is one that could have been recorded.

use trace_model::{InvalidId, NanoDuration};

use crate::buckets::{BUCKETS, LONGEST, index_of};
use crate::counts::Counts;
use crate::histogram::LatencyHistogram;

const HISTOGRAM_FORMAT: u8 = 1;

/// Why some bytes are not an encoded histogram or exemplar set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("the bytes end in the middle of a value")]
    Truncated,
    /// The format byte is not one that is known.
    #[error("unknown format {0}")]
    Format(u8),
    /// A number is too large for its field.
    #[error("a number does not fit its field")]
    TooLarge,
    /// The parts contradict each other.
    #[error("{0}")]
    Inconsistent(&'static str),
    /// An exemplar's id is not one.
    #[error(transparent)]
    Id(#[from] InvalidId),
}

/// Appends a LEB128 varint.
pub(crate) fn put(out: &mut Vec<u8>, value: impl Into<u128>) {
    let mut value: u128 = value.into();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Likewise; most numbers are short, and these are written a lot.
pub(crate) fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes one byte off the front.
pub(crate) fn take_byte(bytes: &mut &[u8]) -> Result<u8, DecodeError> {
    let (first, rest) = bytes.split_first().ok_or(DecodeError::Truncated)?;
    *bytes = rest;
    Ok(*first)
}

/// Takes `n` bytes off the front.
pub(crate) fn take_bytes<'a>(bytes: &mut &'a [u8], n: usize) -> Result<&'a [u8], DecodeError> {
    let (taken, rest) = bytes.split_at_checked(n).ok_or(DecodeError::Truncated)?;
    *bytes = rest;
    Ok(taken)
}

/// Takes a varint off the front.
#[inline]
pub(crate) fn take<T: TryFrom<u128>>(bytes: &mut &[u8]) -> Result<T, DecodeError> {
    // Most are short: nine bytes fit 63 bits, whatever they are.
    let mut value = 0u64;
    for (at, &byte) in bytes.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            *bytes = &bytes[at + 1..];
            return T::try_from(u128::from(value)).map_err(|_| DecodeError::TooLarge);
        }
    }
    take_long(bytes)
}

#[cold]
fn take_long<T: TryFrom<u128>>(bytes: &mut &[u8]) -> Result<T, DecodeError> {
    let mut value = 0u128;
    for shift in (0..128).step_by(7) {
        let byte = take_byte(bytes)?;
        let bits = u128::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return Err(DecodeError::TooLarge);
        }
        value |= bits << shift;
        if byte < 0x80 {
            return T::try_from(value).map_err(|_| DecodeError::TooLarge);
        }
    }
    Err(DecodeError::TooLarge)
}

impl LatencyHistogram {
    /// Appends the histogram's encoding: 2 bytes if it is empty, about 20 for one duration, about 2 per
    /// bucket for many.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_with(self.counts.iter().count(), self.counts.iter(), out);
    }

    /// Likewise, but with `buckets` buckets, ascending, that are kept elsewhere.
    pub(crate) fn encode_with(
        &self,
        buckets: usize,
        counts: impl Iterator<Item = (u16, u64)>,
        out: &mut Vec<u8>,
    ) {
        out.push(HISTOGRAM_FORMAT);
        put_u64(out, self.count);
        if self.count == 0 {
            return;
        }
        for number in [self.errors, self.zeros, self.overflow] {
            put_u64(out, number);
        }
        put(out, self.sum);
        put_u64(out, self.min.0);
        put_u64(out, self.max.0);
        put_u64(out, buckets as u64);
        let mut last = 0;
        for (bucket, count) in counts {
            put_u64(out, u64::from(bucket - last));
            put_u64(out, count);
            last = bucket;
        }
    }

    /// Takes an encoded histogram off the front of `bytes`.
    ///
    /// # Errors
    /// If the bytes are not an encoded histogram; `bytes` is left as it was.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        let mut rest = *bytes;
        let histogram = decode(&mut rest)?;
        *bytes = rest;
        Ok(histogram)
    }
}

fn decode(bytes: &mut &[u8]) -> Result<LatencyHistogram, DecodeError> {
    match take_byte(bytes)? {
        HISTOGRAM_FORMAT => {}
        other => return Err(DecodeError::Format(other)),
    }
    let count = take(bytes)?;
    if count == 0 {
        return Ok(LatencyHistogram::new());
    }
    let parts = HistogramParts {
        count,
        errors: take(bytes)?,
        zeros: take(bytes)?,
        overflow: take(bytes)?,
        sum: take(bytes)?,
        min: NanoDuration(take(bytes)?),
        max: NanoDuration(take(bytes)?),
    };
    let mut bucket = 0u16;
    let steps = (0..take::<u16>(bytes)?).map(|_| {
        let (step, count) = (take::<u16>(bytes)?, take::<u64>(bytes)?);
        bucket = bucket.checked_add(step).ok_or(DecodeError::TooLarge)?;
        Ok((bucket, count))
    });
    LatencyHistogram::from_parts(&parts, steps)
}

/// The numbers of a histogram that is not empty; with its buckets they are all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistogramParts {
    /// How many durations there are.
    pub count: u64,
    /// How many of them belong to spans that failed.
    pub errors: u64,
    /// How many of them are exactly zero.
    pub zeros: u64,
    /// How many of them are longer than 24 hours.
    pub overflow: u64,
    /// The exact sum in nanoseconds.
    pub sum: u128,
    /// The exact least.
    pub min: NanoDuration,
    /// The exact greatest.
    pub max: NanoDuration,
}

impl LatencyHistogram {
    /// The histogram's numbers; `None` if it is empty.
    pub fn parts(&self) -> Option<HistogramParts> {
        let Self { count, errors, zeros, overflow, sum, min, max, counts: _ } = *self;
        (count > 0).then_some(HistogramParts { count, errors, zeros, overflow, sum, min, max })
    }

    /// A histogram of stored numbers and buckets with their counts, rising.
    ///
    /// # Errors
    /// If they contradict each other, or with the first error of the buckets.
    pub fn from_parts(
        parts: &HistogramParts,
        buckets: impl Iterator<Item = Result<(u16, u64), DecodeError>>,
    ) -> Result<Self, DecodeError> {
        let mut counts = Counts::default();
        let mut last = 0;
        for entry in buckets {
            let (bucket, count) = entry?;
            if bucket >= BUCKETS {
                return Err(DecodeError::TooLarge);
            }
            if bucket <= last || count == 0 {
                return Err(DecodeError::Inconsistent("an empty or repeated bucket"));
            }
            counts.push(bucket, count);
            last = bucket;
        }
        let HistogramParts { count, errors, zeros, overflow, sum, min, max } = *parts;
        let histogram = Self { counts, count, errors, zeros, overflow, sum, min, max };
        match contradiction(&histogram) {
            Some(what) => Err(DecodeError::Inconsistent(what)),
            None => Ok(histogram),
        }
    }
}

/// What is wrong with the parts of a histogram that should not be empty.
fn contradiction(h: &LatencyHistogram) -> Option<&'static str> {
    if h.count == 0 {
        return Some("no durations");
    }
    let in_buckets = h.counts.iter().try_fold(0u64, |sum, (_, count)| sum.checked_add(count));
    // Saturated numbers need not add up.
    if in_buckets.unwrap_or(u64::MAX) != h.count {
        return Some("the buckets do not add up to the count");
    }
    if h.errors.max(h.zeros).max(h.overflow) > h.count {
        return Some("a part exceeds the count");
    }
    if (h.zeros > 0) != (h.min.0 == 0) || (h.overflow > 0) != (h.max > LONGEST) {
        return Some("zeros or overflow contradict the extremes");
    }
    let (first, last) = (h.counts.iter().next(), h.counts.iter().last());
    let lies_in =
        |end: Option<(u16, u64)>, duration| end.is_some_and(|(bucket, _)| bucket == index_of(duration));
    if h.min > h.max || !lies_in(first, h.min) || !lies_in(last, h.max) {
        return Some("the extremes are not in the outer buckets");
    }
    let mean = h.sum / u128::from(h.count);
    if h.count < u64::MAX && !(u128::from(h.min.0)..=u128::from(h.max.0)).contains(&mean) {
        return Some("the sum contradicts the extremes");
    }
    None
}
