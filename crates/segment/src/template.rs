//! Strings with their numbers cut out: `/api/v1/items/4711` is the template `/api/v·/items/·` with 1 and 4711.

/// Stands for a number; strings that have it themselves are not taken apart.
pub(crate) const HOLE: u8 = 0;
/// Numbers of one string; digits after them stay in the template.
pub(crate) const HOLES_MAX: usize = 12;
/// Digits of one number: they fit in 64 bits.
const DIGITS_MAX: usize = 18;

/// Takes a string apart, appending to `template` and `numbers`; false if it cannot be.
pub(crate) fn split(text: &[u8], template: &mut Vec<u8>, numbers: &mut Vec<u64>) -> bool {
    let (mut at, first) = (0, numbers.len());
    while at < text.len() {
        let byte = text[at];
        // Zeros in front of a number stay in the template, so that the number alone gives its digits back.
        if !byte.is_ascii_digit() || leads(text, at) || numbers.len() - first == HOLES_MAX {
            if byte == HOLE {
                return false;
            }
            template.push(byte);
            at += 1;
            continue;
        }
        let Some((number, after)) = leading_number(&text[at..]) else { return false };
        at = text.len() - after.len();
        numbers.push(number);
        template.push(HOLE);
    }
    true
}

/// A template cut at its holes.
#[derive(Debug, Default)]
pub(crate) struct Literals {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Literals {
    pub(crate) fn set(&mut self, template: &[u8]) {
        self.bytes.clear();
        self.ends.clear();
        for literal in template.split(|byte| *byte == HOLE) {
            self.bytes.extend_from_slice(literal);
            self.ends.push(self.bytes.len());
        }
    }

    /// Takes a string of this template apart; false, with `numbers` as they were, if it has another one.
    pub(crate) fn follow(&self, text: &[u8], numbers: &mut Vec<u64>) -> bool {
        let before = numbers.len();
        if self.try_follow(text, numbers).is_some() {
            return true;
        }
        numbers.truncate(before);
        false
    }

    fn try_follow(&self, text: &[u8], numbers: &mut Vec<u64>) -> Option<()> {
        let (mut rest, mut begin) = (text, 0);
        for (nth, &end) in self.ends.iter().enumerate() {
            if nth > 0 {
                let (number, after) = leading_number(rest)?;
                numbers.push(number);
                rest = after;
            }
            rest = rest.strip_prefix(self.bytes.get(begin..end)?)?;
            begin = end;
        }
        rest.is_empty().then_some(())
    }
}

/// The number that [`join`] would write as these digits.
fn leading_number(text: &[u8]) -> Option<(u64, &[u8])> {
    if leads(text, 0) {
        return None;
    }
    let (mut number, mut at) = (0, 0);
    while let Some(digit) = text.get(at).filter(|byte| byte.is_ascii_digit())
        && at < DIGITS_MAX
    {
        number = number * 10 + u64::from(digit - b'0');
        at += 1;
    }
    (at > 0).then(|| (number, &text[at..]))
}

/// Whether a zero is followed by another digit.
fn leads(text: &[u8], at: usize) -> bool {
    text.get(at) == Some(&b'0') && text.get(at + 1).is_some_and(u8::is_ascii_digit)
}

/// How many numbers a template takes.
pub(crate) fn holes(template: &[u8]) -> usize {
    template.iter().filter(|byte| **byte == HOLE).count()
}

/// Puts a string together.
pub(crate) fn join(template: &[u8], mut number: impl FnMut(usize) -> u64, out: &mut Vec<u8>) {
    let mut nth = 0;
    for &byte in template {
        if byte == HOLE {
            put_decimal(number(nth), out);
            nth += 1;
        } else {
            out.push(byte);
        }
    }
}

fn put_decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(text: &[u8]) -> Option<(Vec<u8>, Vec<u64>)> {
        let (mut template, mut numbers, mut out) = (Vec::new(), Vec::new(), Vec::new());
        if !split(text, &mut template, &mut numbers) {
            return None;
        }
        assert_eq!(holes(&template), numbers.len());
        join(&template, |nth| numbers[nth], &mut out);
        assert_eq!(out, text);
        let mut followed = Vec::new();
        let mut literals = Literals::default();
        literals.set(&template);
        assert!(literals.follow(text, &mut followed));
        assert_eq!(followed, numbers);
        Some((template, numbers))
    }

    #[test]
    fn numbers_are_cut_out_and_zeros_in_front_stay() {
        assert_eq!(round_trip(b"/v1/items/4711"), Some((b"/v\0/items/\0".to_vec(), vec![1, 4711])));
        assert_eq!(round_trip(b"0070"), Some((b"00\0".to_vec(), vec![70])));
        assert_eq!(round_trip(b"000"), Some((b"00\0".to_vec(), vec![0])));
        assert_eq!(round_trip(b"a\0b"), None);
        let (_, numbers) = round_trip(b"99999999999999999999").unwrap();
        assert_eq!(numbers, [999_999_999_999_999_999, 99]);
        for other in ["/v/items/4711", "/v01/items/4711", "/v1/items/", "/v1/items/4711/", "/v1/items/47x"] {
            let mut numbers = vec![5];
            let mut literals = Literals::default();
            literals.set(b"/v\0/items/\0");
            assert!(!literals.follow(other.as_bytes(), &mut numbers), "{other}");
            assert_eq!(numbers, [5]);
        }
    }

    proptest! {
        #[test]
        fn strings_come_back(text in "[0-9a/.]{0,60}", bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            round_trip(text.as_bytes());
            round_trip(&bytes);
        }
    }
}
