//! Eight characters at a time, in a machine word: the first character is the lowest byte.

/// A byte of 1 in every place.
const ONES: u64 = u64::from_le_bytes([1; 8]);
/// The top bit of every byte.
const TOPS: u64 = ONES << 7;

/// Every byte this one.
const fn all(byte: u8) -> u64 {
    ONES * byte as u64
}

/// How many bytes come before the first that is a quote, a backslash or a control character. 8 if none is.
#[inline]
pub(super) fn plain_len(word: u64) -> usize {
    // A byte below `n` borrows; one over 0x7f is none of the three. What is above a byte that has borrowed may be
    // wrong, but the lowest mark is right.
    let below = |word: u64, n: u8| word.wrapping_sub(all(n)) & !word;
    let marks = below(word, 0x20) | below(word ^ all(b'"'), 1) | below(word ^ all(b'\\'), 1);
    (marks & TOPS).trailing_zeros() as usize / 8
}

/// The top bit of every byte of `word` that is one of `from..to`. No byte of it may have that bit itself.
#[inline]
const fn within(word: u64, from: u8, to: u8) -> u64 {
    (word + all(0x80 - from)) & !(word + all(0x80 - to)) & TOPS
}

/// The four bytes that eight hex digits stand for. `None` if one of them is no such digit.
#[inline]
pub(super) fn hex(word: u64) -> Option<[u8; 4]> {
    let low = word & !TOPS;
    let digits = within(low, b'0', b'9' + 1) | within(low | all(0x20), b'a', b'f' + 1);
    if digits & !word != TOPS {
        return None;
    }
    // A letter has bit 6 set, and its low half begins at 1.
    let halves = (word & all(0x0f)) + (word >> 6 & ONES) * 9;
    let [a, _, b, _, c, _, d, _] = (halves << 4 | halves >> 8).to_le_bytes();
    Some([a, b, c, d])
}

/// The number that eight decimal digits stand for. `None` if one of them is no such digit.
#[inline]
pub(super) fn decimal(word: u64) -> Option<u64> {
    const PAIRS: u64 = 0x0000_00ff_0000_00ff;
    if within(word & !TOPS, b'0', b'9' + 1) & !word != TOPS {
        return None;
    }
    let digits = word - all(b'0');
    // Two digits a pair of bytes, then four products at once, of which the sum is in the high half.
    let pairs = (digits * 10).wrapping_add(digits >> 8);
    let first_and_third = (pairs & PAIRS).wrapping_mul(100 + (1_000_000 << 32));
    let second_and_fourth = (pairs >> 16 & PAIRS).wrapping_mul(1 + (10_000 << 32));
    Some(first_and_third.wrapping_add(second_and_fourth) >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A word of eight of these, another byte at every place in turn.
    fn words(fill: u8, byte: u8) -> impl Iterator<Item = (usize, [u8; 8])> {
        (0..8).map(move |at| {
            let mut word = [fill; 8];
            word[at] = byte;
            (at, word)
        })
    }

    #[test]
    fn every_byte_is_judged_right_in_every_place() {
        for (byte, fill) in
            (0..=255_u8).flat_map(|byte| [b'7', b'a', b'F', 0xff, 0x80].map(|fill| (byte, fill)))
        {
            for (at, text) in words(fill, byte) {
                let word = u64::from_le_bytes(text);
                let special = byte < 0x20 || byte == b'"' || byte == b'\\';
                assert_eq!(plain_len(word), if special { at } else { 8 }, "{text:x?}");
                let text = std::str::from_utf8(&text).ok();
                let want = text
                    .filter(|text| !text.contains('+'))
                    .and_then(|text| u32::from_str_radix(text, 16).ok());
                assert_eq!(hex(word), want.map(u32::to_be_bytes), "{text:?}");
                let want = text.filter(|text| !text.contains('+')).and_then(|text| text.parse().ok());
                assert_eq!(decimal(word), want, "{text:?}");
            }
        }
    }

    #[test]
    fn numbers_are_right_in_every_digit() {
        for number in (0..100_000_000_u64).step_by(9_973) {
            let text = format!("{number:08}");
            let word = u64::from_le_bytes(*text.as_bytes().first_chunk().unwrap());
            assert_eq!(decimal(word), Some(number));
            assert_eq!(hex(word), Some(u32::from_str_radix(&text, 16).unwrap().to_be_bytes()));
        }
    }
}
