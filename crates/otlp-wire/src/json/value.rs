//! Single values: read from the text, and written if they are not what their field has anyway.

use super::error::Wrong;
use super::quoted::Quoted;
use super::read::{Done, Transcoder};
use super::scalar::{Base64, Hex, decimal, float, integer, named_float};
use crate::encode::{close_message, open_message, put_bytes, put_key, put_varint};

pub(super) const UINT32: &str = "an integer from 0 to 4294967295";
pub(super) const NANOSECONDS: &str =
    "nanoseconds since 1970 as a decimal string or an integer from 0 to 18446744073709551615";
const ID: &str = "an id as a string of hex digits, two a byte";
const BYTES: &str = "bytes as a base64 string";

impl<'t> Transcoder<'t> {
    pub(super) fn put_number(&mut self, number: u32, explicit: bool, value: u64) {
        if explicit || value != 0 {
            put_key(&mut self.out, number, 0);
            put_varint(&mut self.out, value);
        }
    }

    pub(super) fn put_fixed(&mut self, number: u32, wire_type: u8, explicit: bool, bytes: &[u8]) {
        if explicit || bytes.iter().any(|byte| *byte != 0) {
            put_key(&mut self.out, number, wire_type);
            self.out.extend_from_slice(bytes);
        }
    }

    /// A string that is copied as it is.
    pub(super) fn text(&mut self, number: u32, explicit: bool) -> Done {
        let (_, text) = self.string("a string")?;
        if text.escaped {
            let start = open_message(&mut self.out, number);
            text.unescape(|piece| self.out.extend_from_slice(piece));
            close_message(&mut self.out, start);
        } else if explicit || !text.raw.is_empty() {
            put_bytes(&mut self.out, number, text.raw);
        }
        Ok(())
    }

    pub(super) fn hex(&mut self, number: u32, explicit: bool) -> Done {
        let (at, text) = self.string(ID)?;
        if !explicit && text.raw.is_empty() {
            return Ok(());
        }
        let start = open_message(&mut self.out, number);
        let (mut hex, mut good) = (Hex::default(), true);
        text.unescape(|digits| good &= hex.push(digits, &mut self.out));
        if !good || !hex.is_whole() {
            return Err(self.wrong(at, ID));
        }
        close_message(&mut self.out, start);
        Ok(())
    }

    pub(super) fn base64(&mut self, number: u32, explicit: bool) -> Done {
        let (at, text) = self.string(BYTES)?;
        if !explicit && text.raw.is_empty() {
            return Ok(());
        }
        let start = open_message(&mut self.out, number);
        let (mut base64, mut good) = (Base64::default(), true);
        text.unescape(|chars| good &= base64.push(chars, &mut self.out));
        if !good || !base64.finish(&mut self.out) {
            return Err(self.wrong(at, BYTES));
        }
        close_message(&mut self.out, start);
        Ok(())
    }

    pub(super) fn boolean(&mut self) -> Result<bool, Box<Wrong>> {
        match self.tokens.peek() {
            b't' => self.tokens.literal("true").map(|()| true),
            b'f' => self.tokens.literal("false").map(|()| false),
            _ => Err(self.tokens.mismatch("true or false")),
        }
    }

    /// An integer as a number or a decimal string.
    #[inline]
    pub(super) fn integer<T: TryFrom<i128>>(&mut self, want: &'static str) -> Result<T, Box<Wrong>> {
        let first = self.tokens.peek();
        let at = self.tokens.at();
        let value = match first {
            b'"' => {
                let text = self.tokens.string()?;
                self.unescaped(text, decimal)
            }
            b'-' | b'0'..=b'9' => integer(self.tokens.number()?),
            _ => None,
        };
        value.and_then(|value| T::try_from(value).ok()).ok_or_else(|| self.wrong(at, want))
    }

    /// An enum as a number or a name.
    pub(super) fn enumeration(&mut self, names: &[&str]) -> Result<i32, Box<Wrong>> {
        let first = self.tokens.peek();
        let at = self.tokens.at();
        let value = match first {
            b'"' => {
                let text = self.tokens.string()?;
                let named = |name: &[u8]| names.iter().position(|known| known.as_bytes() == name);
                self.unescaped(text, named).map(|index| index as i128)
            }
            b'-' | b'0'..=b'9' => integer(self.tokens.number()?),
            _ => None,
        };
        value.and_then(|value| i32::try_from(value).ok()).ok_or_else(|| {
            self.tokens.back_to(at);
            self.tokens.mismatch(format!(
                "a number from 0 to {} or one of {}",
                names.len() - 1,
                names.join(", ")
            ))
        })
    }

    pub(super) fn double(&mut self) -> Result<f64, Box<Wrong>> {
        let first = self.tokens.peek();
        let at = self.tokens.at();
        let value = match first {
            b'"' => {
                let text = self.tokens.string()?;
                self.unescaped(text, named_float)
            }
            b'-' | b'0'..=b'9' => float(self.tokens.number()?.raw),
            _ => None,
        };
        value.ok_or_else(|| self.wrong(at, "a number, \"NaN\", \"Infinity\" or \"-Infinity\""))
    }

    /// The next value, which must be a string, and where it begins.
    #[inline]
    fn string(&mut self, want: &'static str) -> Result<(usize, Quoted<'t>), Box<Wrong>> {
        if self.tokens.peek() != b'"' {
            return Err(self.tokens.mismatch(want));
        }
        Ok((self.tokens.at(), self.tokens.string()?))
    }

    /// Looks at what a string means. If there are escapes in it, it lies behind the output for the moment, where
    /// there is room for it.
    #[inline]
    pub(super) fn unescaped<R>(&mut self, text: Quoted<'_>, look: impl FnOnce(&[u8]) -> R) -> R {
        if !text.escaped {
            return look(text.raw);
        }
        let start = self.out.len();
        text.unescape(|piece| self.out.extend_from_slice(piece));
        let seen = look(self.out.get(start..).unwrap_or_default());
        self.out.truncate(start);
        seen
    }

    /// The value that begins at `at` is not what its field takes.
    #[cold]
    fn wrong(&mut self, at: usize, want: &'static str) -> Box<Wrong> {
        self.tokens.back_to(at);
        self.tokens.mismatch(want)
    }
}
