//! Reads JSON token by token, strictly by RFC 8259. Tokens are slices of the text: nothing is copied.

use super::error::Wrong;
use super::quoted::{Quoted, escape_len, plain_len};

/// How deep a value may nest that is skipped.
const SKIPPED_DEPTH: u32 = u128::BITS;
/// How much of a wrong value an error repeats, in characters.
const SHOWN: usize = 64;

/// A text and how far it has been read.
#[derive(Debug)]
pub(super) struct Tokens<'t> {
    text: &'t [u8],
    at: usize,
}

/// A number as it is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number<'t> {
    pub(super) raw: &'t [u8],
    /// Whether it has neither fraction nor exponent.
    pub(super) whole: bool,
}

type Read<T> = Result<T, Box<Wrong>>;

impl<'t> Tokens<'t> {
    /// Starts at the beginning of a text.
    ///
    /// # Errors
    /// If it is not UTF-8: no string in it needs to be checked again.
    pub(super) fn new(text: &'t [u8]) -> Read<Self> {
        if let Err(error) = std::str::from_utf8(text) {
            let at = error.valid_up_to();
            let byte = text.get(at).copied().unwrap_or_default();
            return Err(Wrong::syntax(at, "UTF-8", format!("the byte 0x{byte:02x}")));
        }
        Ok(Self { text, at: 0 })
    }

    /// Offset of the next byte.
    #[inline]
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Goes back to where a token began.
    pub(super) fn back_to(&mut self, at: usize) {
        self.at = at;
    }

    /// The first byte of the next token; 0, which begins none, at the end.
    #[inline]
    pub(super) fn peek(&mut self) -> u8 {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(&byte) => return byte,
                None => return 0,
            }
        }
    }

    /// Takes a token of one byte, if it is the next.
    #[inline]
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == byte;
        self.at += usize::from(is_next);
        is_next
    }

    /// A member's name and the colon behind it.
    #[inline]
    pub(super) fn name(&mut self) -> Read<Quoted<'t>> {
        if self.peek() != b'"' {
            return Err(self.unexpected("a name in double quotes"));
        }
        let name = self.string()?;
        if self.eat(b':') { Ok(name) } else { Err(self.unexpected("`:`")) }
    }

    /// Behind an element or member: whether there is another, or else the end.
    #[inline]
    pub(super) fn another(&mut self, end: u8) -> Read<bool> {
        match self.peek() {
            b',' => {
                self.at += 1;
                Ok(true)
            }
            byte if byte == end => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.unexpected(if end == b'}' { "`,` or `}`" } else { "`,` or `]`" })),
        }
    }

    /// A string, whose quote is the next byte.
    #[inline]
    pub(super) fn string(&mut self) -> Read<Quoted<'t>> {
        let start = self.at + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            let rest = self.text.get(at..).unwrap_or_default();
            at += plain_len(rest);
            match self.text.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    let rest = self.text.get(at..).unwrap_or_default();
                    let Some(length) = escape_len(rest) else {
                        self.at = at;
                        return Err(self.unexpected(
                            "an escape: `\\\"`, `\\\\`, `\\/`, `\\b`, `\\f`, `\\n`, `\\r`, `\\t` or `\\u` with \
                             four hex digits, surrogates in pairs",
                        ));
                    };
                    at += length;
                }
                _ => {
                    self.at = at;
                    return Err(
                        self.unexpected("the string to go on, control characters escaped, or to end in `\"`")
                    );
                }
            }
        }
        self.at = at + 1;
        Ok(Quoted { raw: self.text.get(start..at).unwrap_or_default(), escaped })
    }

    /// A number, whose first byte is the next.
    #[inline]
    pub(super) fn number(&mut self) -> Read<Number<'t>> {
        let start = self.at;
        self.at += usize::from(self.text.get(start) == Some(&b'-'));
        if self.text.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        let whole = self.at;
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            self.at += usize::from(matches!(self.text.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        let raw = self.text.get(start..self.at).unwrap_or_default();
        Ok(Number { raw, whole: whole == self.at })
    }

    /// One digit or more.
    #[inline]
    fn digits(&mut self) -> Read<()> {
        let start = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(self.unexpected("a digit")) }
    }

    /// `true`, `false` or `null`, whose first byte is the next.
    #[inline]
    pub(super) fn literal(&mut self, word: &'static str) -> Read<()> {
        if !self.text.get(self.at..).unwrap_or_default().starts_with(word.as_bytes()) {
            return Err(self.unexpected("a value"));
        }
        self.at += word.len();
        Ok(())
    }

    /// A string, number or word.
    fn leaf(&mut self) -> Read<()> {
        match self.peek() {
            b'"' => self.string().map(drop),
            b'-' | b'0'..=b'9' => self.number().map(drop),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            _ => Err(self.unexpected("a value")),
        }
    }

    /// Passes over a value of any kind without recursion: one bit a level says what is open there.
    pub(super) fn skip(&mut self) -> Read<()> {
        // 1 for an object, 0 for an array, the innermost in the lowest bit.
        let mut open = 0_u128;
        let mut depth = 0;
        loop {
            let first = self.peek();
            if first == b'{' || first == b'[' {
                if depth == SKIPPED_DEPTH {
                    return Err(self.unexpected("a value that nests at most 128 deep"));
                }
                self.at += 1;
                let is_object = first == b'{';
                if !self.eat(if is_object { b'}' } else { b']' }) {
                    open = open << 1 | u128::from(is_object);
                    depth += 1;
                    if is_object {
                        self.name()?;
                    }
                    continue;
                }
            } else {
                self.leaf()?;
            }
            while depth > 0 {
                let is_object = open & 1 == 1;
                if self.another(if is_object { b'}' } else { b']' })? {
                    if is_object {
                        self.name()?;
                    }
                    break;
                }
                open >>= 1;
                depth -= 1;
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// Nothing but white space may be left.
    pub(super) fn end(&mut self) -> Read<()> {
        self.peek();
        if self.at == self.text.len() { Ok(()) } else { Err(self.unexpected("the end of the text")) }
    }

    /// The next token is not what the grammar wants there.
    #[cold]
    pub(super) fn unexpected(&self, want: &'static str) -> Box<Wrong> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let shown = String::from_utf8_lossy(rest.get(..SHOWN).unwrap_or(rest));
        let word: String = shown.chars().take_while(|char| char.is_ascii_alphanumeric()).collect();
        let got = match shown.chars().next() {
            None => "the end of the text".to_owned(),
            Some(_) if !word.is_empty() => format!("`{word}`"),
            Some(char) if char.is_control() => format!("the control character U+{:04X}", u32::from(char)),
            Some(char) => format!("`{char}`"),
        };
        Wrong::syntax(self.at, want, got)
    }

    /// The next value is not what its field takes.
    #[cold]
    pub(super) fn mismatch(&mut self, want: impl Into<std::borrow::Cow<'static, str>>) -> Box<Wrong> {
        let first = self.peek();
        let at = self.at;
        let got = match first {
            b'{' => "an object".to_owned(),
            b'[' => "an array".to_owned(),
            _ => match self.leaf() {
                Ok(()) => shorten(self.text.get(at..self.at).unwrap_or_default()),
                Err(wrong) => return wrong,
            },
        };
        Wrong::value(at, want, got)
    }
}

/// A value for an error message: short, whatever the client sent.
fn shorten(value: &[u8]) -> String {
    // No character is longer than four bytes.
    let head = String::from_utf8_lossy(value.get(..SHOWN * 4).unwrap_or(value));
    match head.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", head.get(..end).unwrap_or_default()),
        None => head.into_owned(),
    }
}
