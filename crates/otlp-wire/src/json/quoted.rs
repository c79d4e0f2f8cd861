//! Strings of JSON as they stand between their quotes, and what their escapes mean.

use super::word;

/// A string whose escapes have been checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quoted<'t> {
    /// What is between the quotes.
    pub(super) raw: &'t [u8],
    /// Whether there is an escape in it.
    pub(super) escaped: bool,
}

impl Quoted<'_> {
    /// Hands out what the string means, piece by piece.
    pub(super) fn unescape(self, mut piece: impl FnMut(&[u8])) {
        let mut rest = self.raw;
        if !self.escaped {
            return piece(rest);
        }
        while let Some(plain) = rest.iter().position(|byte| *byte == b'\\') {
            let (before, escape) = rest.split_at(plain);
            piece(before);
            let length = escape_len(escape).unwrap_or(escape.len());
            let (escape, behind) = escape.split_at(length);
            piece(meaning(escape).encode_utf8(&mut [0; 4]).as_bytes());
            rest = behind;
        }
        piece(rest);
    }
}

/// How many bytes the escape has that the text begins with, that of a surrogate pair both halves. `None` if it is none.
pub(super) fn escape_len(text: &[u8]) -> Option<usize> {
    match text.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' => match unit(text)? {
            0xd800..=0xdbff => matches!(unit(text.get(6..)?)?, 0xdc00..=0xdfff).then_some(12),
            0xdc00..=0xdfff => None,
            _ => Some(6),
        },
        _ => None,
    }
}

/// The number of a `\uXXXX`.
fn unit(text: &[u8]) -> Option<u32> {
    let (head, digits) = text.get(..6)?.split_at(2);
    if head != b"\\u" {
        return None;
    }
    digits.iter().try_fold(0, |number, digit| Some(number << 4 | char::from(*digit).to_digit(16)?))
}

/// The character of an escape that [`escape_len`] took.
fn meaning(escape: &[u8]) -> char {
    match escape.get(1) {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => {
            let high = unit(escape).unwrap_or_default();
            let low = escape.get(6..).and_then(unit);
            let number = low.map_or(high, |low| 0x1_0000 + ((high & 0x3ff) << 10 | low & 0x3ff));
            char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
        other => other.map_or(char::REPLACEMENT_CHARACTER, |byte| char::from(*byte)),
    }
}

/// How many bytes come before the first quote, backslash or control character, or the end.
#[inline]
pub(super) fn plain_len(text: &[u8]) -> usize {
    let (words, rest) = text.as_chunks::<8>();
    for (nth, word) in words.iter().enumerate() {
        let plain = word::plain_len(u64::from_le_bytes(*word));
        if plain < 8 {
            return nth * 8 + plain;
        }
    }
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    words.len() * 8 + rest.iter().position(special).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_special_byte_is_found_wherever_it_stands() {
        for byte in 0..=255_u8 {
            let special = byte < 0x20 || byte == b'"' || byte == b'\\';
            for (length, fill) in (0..40).flat_map(|length| [(length, b'a'), (length, 0x20), (length, 0xff)])
            {
                for at in 0..length {
                    let mut text = vec![fill; length];
                    text[at] = byte;
                    if let Some(later) = text.get_mut(at + 1) {
                        *later = b'"';
                    }
                    let want = if special { at } else { (at + 1).min(length) };
                    assert_eq!(plain_len(&text), want, "{byte:#x} at {at} of {length}, {fill:#x} around");
                }
            }
        }
    }

    fn unescaped(raw: &str) -> String {
        let mut out = Vec::new();
        Quoted { raw: raw.as_bytes(), escaped: true }.unescape(|piece| out.extend_from_slice(piece));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes_mean_what_rfc_8259_says() {
        assert_eq!(unescaped(r#"a\"\\\/\b\f\n\r\tz"#), "a\"\\/\u{8}\u{c}\n\r\tz");
        assert_eq!(unescaped(r"\u0041\u00e9\u20AC\ud83d\ude00!"), "A\u{e9}\u{20ac}\u{1f600}!");
        for wrong in
            [r"\x", r"\", r"\u12", r"\u12g4", r"\ud800", r"\ud800\u0041", r"\ud800\n", r"\udc00", r"\u+123"]
        {
            assert_eq!(escape_len(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
