//! What the strings and numbers of OTLP/JSON stand for.

use super::tokens::Number;
use super::word;

/// Decodes hex, two digits a byte, however its text is cut into pieces.
#[derive(Debug, Default)]
pub(super) struct Hex {
    /// The first digit of a byte whose second has not come.
    half: Option<u8>,
}

impl Hex {
    /// Appends the bytes of further digits. False if there is another character among them.
    #[must_use]
    pub(super) fn push(&mut self, digits: &[u8], out: &mut Vec<u8>) -> bool {
        let mut digits = digits;
        if let (Some(high), [low, rest @ ..]) = (self.half, digits) {
            self.half = None;
            digits = rest;
            if !pairs(&[[high, *low]], out) {
                return false;
            }
        }
        let (words, rest) = digits.as_chunks::<8>();
        for word in words {
            let Some(bytes) = word::hex(u64::from_le_bytes(*word)) else { return false };
            out.extend_from_slice(&bytes);
        }
        let (rest, odd) = rest.as_chunks::<2>();
        if let [high] = odd {
            self.half = Some(*high);
        }
        pairs(rest, out)
    }

    /// Whether the last byte is whole.
    #[must_use]
    pub(super) fn is_whole(&self) -> bool {
        self.half.is_none()
    }
}

/// Appends a byte for every two digits. False if one is none.
fn pairs(pairs: &[[u8; 2]], out: &mut Vec<u8>) -> bool {
    pairs.iter().all(|&[high, low]| {
        let (high, low) = (char::from(high).to_digit(16), char::from(low).to_digit(16));
        let byte = high.zip(low).map(|(high, low)| (high << 4 | low) as u8);
        out.extend(byte);
        byte.is_some()
    })
}

/// Decodes base64 of either alphabet, with its padding, a part of it, or none.
#[derive(Debug, Default)]
pub(super) struct Base64 {
    bits: u32,
    /// Characters in `bits`, 3 at most between two pushes.
    chars: u32,
    padding: u32,
}

impl Base64 {
    /// Appends the bytes of further characters. False if one of them cannot be there.
    #[must_use]
    pub(super) fn push(&mut self, text: &[u8], out: &mut Vec<u8>) -> bool {
        for char in text {
            let six = match char {
                b'A'..=b'Z' => char - b'A',
                b'a'..=b'z' => char - b'a' + 26,
                b'0'..=b'9' => char - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                b'=' if self.chars >= 2 && self.chars + self.padding < 4 => {
                    self.padding += 1;
                    continue;
                }
                _ => return false,
            };
            if self.padding > 0 {
                return false;
            }
            self.bits = self.bits << 6 | u32::from(six);
            self.chars += 1;
            if self.chars == 4 {
                let [_, a, b, c] = self.bits.to_be_bytes();
                out.extend_from_slice(&[a, b, c]);
                (self.bits, self.chars) = (0, 0);
            }
        }
        true
    }

    /// Appends the last bytes. False if the text ends within a byte, or has bits left that are not zero.
    #[must_use]
    pub(super) fn finish(self, out: &mut Vec<u8>) -> bool {
        let [_, a, b, c] = (self.bits << (6 * (4 - self.chars))).to_be_bytes();
        match self.chars {
            0 => true,
            2 => {
                out.push(a);
                b | c == 0
            }
            3 => {
                out.extend_from_slice(&[a, b]);
                c == 0
            }
            _ => false,
        }
    }
}

/// A decimal integer without anything around it. `None` also if it does not fit 64 bits.
#[inline]
pub(super) fn decimal(text: &[u8]) -> Option<i128> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut number = 0_u64;
    let (words, rest) = digits.as_chunks::<8>();
    for word in words {
        let eight = word::decimal(u64::from_le_bytes(*word))?;
        number = number.checked_mul(100_000_000)?.checked_add(eight)?;
    }
    for digit in rest {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    let number = i128::from(number);
    Some(if negative { -number } else { number })
}

/// A number as an integer. One with an exponent or a zero fraction counts, since JSON has no integers of its own.
#[inline]
pub(super) fn integer(number: Number<'_>) -> Option<i128> {
    if number.whole {
        return decimal(number.raw);
    }
    float(number.raw).filter(|float| float.fract() == 0.0).map(|float| float as i128)
}

/// The nearest double. `None` if the number is too large for one.
pub(super) fn float(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok().filter(|number: &f64| number.is_finite())
}

/// A double as a string. Rust also reads `inf` and `nan`, which the JSON mapping does not have.
pub(super) fn named_float(text: &[u8]) -> Option<f64> {
    match text {
        b"NaN" => Some(f64::NAN),
        b"Infinity" => Some(f64::INFINITY),
        b"-Infinity" => Some(f64::NEG_INFINITY),
        _ => float(text),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::alphabet;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    use proptest::prelude::*;

    use super::*;

    fn ours(text: &[u8], cut: usize) -> Option<Vec<u8>> {
        let (mut decoder, mut out) = (Base64::default(), Vec::new());
        let (head, tail) = text.split_at(cut.min(text.len()));
        let taken = decoder.push(head, &mut out) && decoder.push(tail, &mut out) && decoder.finish(&mut out);
        taken.then_some(out)
    }

    fn theirs(text: &str) -> Option<Vec<u8>> {
        const LENIENT: GeneralPurposeConfig =
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        const ENGINE: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
        ENGINE.decode(text.replace('-', "+").replace('_', "/")).ok()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn base64_is_what_the_crate_says(text in "[A-Za-z0-9+/_-]{0,9}(Q|g|A|=){0,4}", cut in 0..9_usize) {
            prop_assert_eq!(ours(text.as_bytes(), cut), theirs(&text), "{}", text);
        }

        #[test]
        fn hex_is_read_in_any_pieces(bytes in prop::collection::vec(any::<u8>(), 0..20), cut in 0..40_usize) {
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            for text in [text.to_uppercase(), text] {
                let (mut hex, mut out) = (Hex::default(), Vec::new());
                let (head, tail) = text.as_bytes().split_at(cut.min(text.len()));
                prop_assert!(hex.push(head, &mut out) && hex.push(tail, &mut out) && hex.is_whole());
                prop_assert_eq!(&out, &bytes);
            }
        }
    }

    #[test]
    fn only_hex_digits_are_hex_digits() {
        for byte in 0..=255_u8 {
            let want = char::from(byte).to_digit(16);
            for pair in [[byte, b'0'], [b'0', byte]] {
                let mut out = Vec::new();
                assert_eq!(Hex::default().push(&pair, &mut out), want.is_some(), "{byte:#x}");
                assert!(
                    want.is_none_or(|digit| out == [if pair[0] == byte { digit << 4 } else { digit } as u8])
                );
            }
        }
        assert!(!Hex { half: Some(b'0') }.is_whole());
    }

    #[test]
    fn integers_are_exact_to_the_edges_of_64_bits() {
        assert_eq!(decimal(b"18446744073709551615"), Some(i128::from(u64::MAX)));
        assert_eq!(decimal(b"-9223372036854775808"), Some(i128::from(i64::MIN)));
        assert_eq!(decimal(b"-0"), Some(0));
        assert_eq!(decimal(b"00000000000000000000000000000000000000000007"), Some(7));
        for wrong in [&b""[..], b"-", b"+1", b" 1", b"1 ", b"1.0", b"18446744073709551616", b"--1", b"1_0"] {
            assert_eq!(decimal(wrong), None, "{}", String::from_utf8_lossy(wrong));
        }
    }
}
