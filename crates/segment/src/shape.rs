//! Shapes: what spans of one kind of call have in common, as a program that puts a span message together again.
//!
//! [`Parsed::parse`] takes a message apart into a program and the values that vary: numbers and strings. It never
//! guesses: what it would not put together to the bit (an overlong varint, a group, a length that does not fit)
//! it does not take apart, and then the message is kept as it is.

use trace_model::TraceId;

use crate::codec::{Cursor, ReadError, put};
use crate::follow::{Step, steps};

/// `0A 10` and the trace's id.
const TRACE_ID: u8 = 1;
/// `12 08` and the span's id, out of the column of ids.
const SPAN_ID: u8 = 2;
/// `22 08` and the parent's id.
const PARENT: u8 = 3;
/// `39` and the start.
const START: u8 = 4;
/// `41` and the end.
const END: u8 = 5;
/// A tag follows: length-delimited, the content a string.
const TEXT: u8 = 6;
/// A tag follows: varint.
const VARINT: u8 = 7;
/// A tag follows: fixed32.
const FIXED32: u8 = 8;
/// A tag follows: fixed64.
const FIXED64: u8 = 9;
/// `09` and a time, told from the span's start: the time of an event.
const TIME: u8 = 10;
/// A tag follows: a message begins.
const BEGIN: u8 = 11;
/// It ends.
const CLOSE: u8 = 12;
/// The outer tag, the value's tag, and the sized key of a key and value follow.
const ATTRIBUTE: u8 = 13;
/// `30` and a kind, by the difference from here.
const KIND: u8 = 0x20;

/// The kinds of span there are.
const KINDS: u8 = 6;
/// Values that vary in one span; a span with more is kept as it is.
const SLOTS_MAX: usize = 1_024;
/// Bytes of one program.
pub(crate) const PROGRAM_MAX: usize = 16 << 10;

/// What has columns of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) span_id: Option<[u8; 8]>,
    pub(crate) parent: Option<[u8; 8]>,
    pub(crate) start: Option<u64>,
    pub(crate) end: Option<u64>,
}

/// A message taken apart. Reuse it.
#[derive(Debug, Default)]
pub(crate) struct Parsed<'a> {
    pub(crate) program: Vec<u8>,
    pub(crate) numbers: Vec<u64>,
    pub(crate) texts: Vec<&'a [u8]>,
    pub(crate) fields: Fields,
}

impl<'a> Parsed<'a> {
    /// Takes a message apart; false if it must be kept as it is.
    pub(crate) fn parse(&mut self, id: &TraceId, message: &'a [u8]) -> bool {
        self.program.clear();
        self.numbers.clear();
        self.texts.clear();
        self.fields = Fields::default();
        self.span(id, message).is_some()
            && self.program.len() <= PROGRAM_MAX
            && self.numbers.len() + self.texts.len() <= SLOTS_MAX
    }

    fn span(&mut self, id: &TraceId, message: &'a [u8]) -> Option<()> {
        let mut rest = message;
        if let [0x0a, 0x10, after @ ..] = rest
            && let Some(after) = after.strip_prefix(id.as_bytes())
        {
            self.program.push(TRACE_ID);
            rest = after;
        }
        while let Some(&tag) = rest.first() {
            rest = match tag {
                0x4a => self.attribute(rest)?,
                0x12 if self.fields.span_id.is_none() && rest.get(1) == Some(&8) => {
                    self.fields.span_id = Some(*rest[2..].first_chunk()?);
                    self.program.push(SPAN_ID);
                    &rest[10..]
                }
                0x22 if self.fields.parent.is_none() && rest.get(1) == Some(&8) => {
                    self.fields.parent = Some(*rest[2..].first_chunk()?);
                    self.program.push(PARENT);
                    &rest[10..]
                }
                0x30 if rest.get(1).is_some_and(|kind| *kind < KINDS) => {
                    self.program.push(KIND + rest[1]);
                    &rest[2..]
                }
                0x39 if self.fields.start.is_none() => {
                    self.fields.start = Some(u64::from_le_bytes(*rest[1..].first_chunk()?));
                    self.program.push(START);
                    &rest[9..]
                }
                0x41 if self.fields.end.is_none() => {
                    self.fields.end = Some(u64::from_le_bytes(*rest[1..].first_chunk()?));
                    self.program.push(END);
                    &rest[9..]
                }
                0x5a => self.event(rest)?,
                _ => self.field(rest)?,
            };
        }
        Some(())
    }

    /// An event, or if it cannot be taken apart, its bytes as a string.
    fn event(&mut self, message: &'a [u8]) -> Option<&'a [u8]> {
        let (mut rest, after) = sized(&message[1..])?;
        let before = (self.program.len(), self.numbers.len(), self.texts.len());
        self.program.extend_from_slice(&[BEGIN, message[0]]);
        while let Some(&tag) = rest.first() {
            let time = rest.get(1..).and_then(<[u8]>::first_chunk);
            let next = match (tag, self.fields.start.zip(time)) {
                (0x09, Some((start, time))) => {
                    let passed = u64::from_le_bytes(*time).wrapping_sub(start) as i64;
                    self.program.push(TIME);
                    self.numbers.push((passed << 1 ^ passed >> 63) as u64);
                    Some(&rest[9..])
                }
                (0x1a, _) => self.attribute(rest),
                _ => self.field(rest),
            };
            let Some(next) = next else {
                self.program.truncate(before.0);
                self.numbers.truncate(before.1);
                self.texts.truncate(before.2);
                return self.field(message);
            };
            rest = next;
        }
        self.program.push(CLOSE);
        Some(after)
    }

    /// A key and value, or if it is not as encoders write it, its bytes as a string.
    #[inline]
    fn attribute(&mut self, message: &'a [u8]) -> Option<&'a [u8]> {
        let (pair, after) = sized(&message[1..])?;
        match self.pair(message[0], pair) {
            Some(()) => {}
            None => self.text(message[0], pair),
        }
        Some(after)
    }

    /// Nothing is noted before it is clear that the whole pair can be put together again.
    #[inline]
    fn pair(&mut self, outer: u8, pair: &'a [u8]) -> Option<()> {
        let (&0x0a, keyed) = pair.split_first()? else { return None };
        let (key, rest) = sized(keyed)?;
        let (&0x12, valued) = rest.split_first()? else { return None };
        let (value, &[]) = sized(valued)? else { return None };
        let (&inner, content) = value.split_first()?;
        take_value(inner, content, &mut self.numbers, &mut self.texts)?;
        self.program.extend_from_slice(&[ATTRIBUTE, outer, inner]);
        // The key with its length, which is known to be of the shortest form.
        self.program.extend_from_slice(&keyed[..keyed.len() - rest.len()]);
        debug_assert!(self.program.ends_with(key));
        Some(())
    }

    fn text(&mut self, tag: u8, content: &'a [u8]) {
        self.program.extend_from_slice(&[TEXT, tag]);
        self.texts.push(content);
    }

    fn field(&mut self, message: &'a [u8]) -> Option<&'a [u8]> {
        let (tag, rest) = varint(message)?;
        let op = match tag & 7 {
            0 => VARINT,
            1 => FIXED64,
            2 => TEXT,
            5 => FIXED32,
            _ => return None,
        };
        let rest = take_field(tag & 7, rest, &mut self.numbers, &mut self.texts)?;
        self.program.push(op);
        put(&mut self.program, tag);
        Some(rest)
    }
}

/// The value of an attribute, without its tag.
#[inline]
pub(crate) fn take_value<'a>(
    inner: u8,
    content: &'a [u8],
    numbers: &mut Vec<u64>,
    texts: &mut Vec<&'a [u8]>,
) -> Option<()> {
    match inner {
        0x0a | 0x2a | 0x32 | 0x3a => {
            let (text, &[]) = sized(content)? else { return None };
            texts.push(text);
        }
        0x10 | 0x18 => {
            let (number, &[]) = varint(content)? else { return None };
            numbers.push(number);
        }
        0x21 => numbers.push(u64::from_le_bytes(content.try_into().ok()?)),
        _ => return None,
    }
    Some(())
}

/// The value of a field by its wire type; what follows it.
#[inline]
pub(crate) fn take_field<'a>(
    wire_type: u64,
    message: &'a [u8],
    numbers: &mut Vec<u64>,
    texts: &mut Vec<&'a [u8]>,
) -> Option<&'a [u8]> {
    let (number, rest) = match wire_type {
        0 => varint(message)?,
        1 => {
            let (number, rest) = message.split_first_chunk()?;
            (u64::from_le_bytes(*number), rest)
        }
        5 => {
            let (number, rest) = message.split_first_chunk()?;
            (u64::from(u32::from_le_bytes(*number)), rest)
        }
        _ => {
            let (text, rest) = sized(message)?;
            texts.push(text);
            return Some(rest);
        }
    };
    numbers.push(number);
    Some(rest)
}

/// A varint of the shortest form, and what follows.
#[inline(always)]
pub(crate) fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 { Some((u64::from(first), rest)) } else { long_varint(bytes) }
}

fn long_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            let shortest = byte != 0 && (at < 9 || byte == 1);
            return shortest.then_some((value, &bytes[at + 1..]));
        }
    }
    None
}

#[inline(always)]
pub(crate) fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = varint(bytes)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    TraceId,
    SpanId,
    Parent,
    Start,
    End,
    Kind(u8),
    Text(u64),
    Varint(u64),
    Fixed32(u64),
    Fixed64(u64),
    Time,
    Begin(u64),
    Close,
    /// Outer tag, value's tag; range, in the literals, of the key as a field and the tag of the value.
    Attribute(u8, u8, (u32, u32)),
}

/// A program that was read back.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) literals: Vec<u8>,
    ops: Vec<Op>,
    pub(crate) steps: Vec<Step>,
    pub(crate) numbers: usize,
    pub(crate) texts: usize,
    /// Whether a message of it has one start and one id, which are those of the block's columns.
    pub(crate) is_placed: bool,
}

/// Where a span's values come from.
pub(crate) trait Values {
    /// The `slot`th number.
    fn number(&self, slot: usize) -> u64;
    /// Appends the `slot`th string.
    fn text(&self, slot: usize, out: &mut Vec<u8>) -> Result<(), ReadError>;
}

/// What every span has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Core {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: [u8; 8],
    pub(crate) parent: [u8; 8],
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Shape {
    pub(crate) fn read(program: &[u8]) -> Result<Self, ReadError> {
        let mut cursor = Cursor::new(program, "span shape");
        let (mut ops, mut literals, mut open) = (Vec::new(), Vec::new(), false);
        while !cursor.is_empty() {
            let op = match cursor.array::<1>()?[0] {
                TRACE_ID => Op::TraceId,
                SPAN_ID => Op::SpanId,
                PARENT => Op::Parent,
                START => Op::Start,
                END => Op::End,
                TEXT => Op::Text(cursor.u64()?),
                VARINT => Op::Varint(cursor.u64()?),
                FIXED32 => Op::Fixed32(cursor.u64()?),
                FIXED64 => Op::Fixed64(cursor.u64()?),
                TIME => Op::Time,
                BEGIN if !open => Op::Begin(cursor.u64()?),
                CLOSE if open => Op::Close,
                ATTRIBUTE => {
                    let [outer, inner] = cursor.array()?;
                    let start = literals.len() as u32;
                    literals.push(0x0a);
                    put_sized(&mut literals, cursor.sized()?);
                    literals.push(0x12);
                    Op::Attribute(outer, inner, (start, literals.len() as u32))
                }
                kind if (KIND..KIND + KINDS).contains(&kind) => Op::Kind(kind - KIND),
                _ => return Err(cursor.damaged()),
            };
            open = matches!(op, Op::Begin(_)) || open && !matches!(op, Op::Close);
            ops.push(op);
        }
        if open {
            return Err(cursor.damaged());
        }
        let texts = ops.iter().filter(|op| op.is_text()).count();
        let numbers = ops.iter().filter(|op| op.is_number()).count();
        if numbers + texts > SLOTS_MAX {
            return Err(cursor.damaged());
        }
        let steps = steps(&ops);
        let has = |wanted: fn(&Op) -> bool| ops.iter().any(wanted);
        let is_placed = has(|op| matches!(op, Op::Start))
            && has(|op| matches!(op, Op::SpanId))
            // A second one, which counts instead of the first.
            && !has(|op| matches!(op, Op::Fixed64(0x39) | Op::Text(0x12)));
        Ok(Self { literals, ops, steps, numbers, texts, is_placed })
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.literals.len() + self.ops.len() * size_of::<Op>() + self.steps.len() * size_of::<Step>()
    }

    /// Puts a message together.
    pub(crate) fn write(
        &self,
        core: &Core,
        values: &dyn Values,
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        let (mut numbers, mut texts) = (0.., 0..);
        let mut number = || values.number(numbers.next().unwrap_or_default());
        let mut open = 0;
        for op in &self.ops {
            scratch.clear();
            if op.is_text() {
                values.text(texts.next().unwrap_or_default(), scratch)?;
            }
            match op {
                Op::TraceId => put_id(out, 0x0a, core.trace_id.as_bytes()),
                Op::SpanId => put_id(out, 0x12, &core.span_id),
                Op::Parent => put_id(out, 0x22, &core.parent),
                Op::Start => put_fixed(out, 0x39, core.start),
                Op::End => put_fixed(out, 0x41, core.end),
                Op::Kind(kind) => out.extend_from_slice(&[0x30, *kind]),
                Op::Text(tag) => put_text(out, *tag, scratch),
                Op::Varint(tag) => {
                    put(out, *tag);
                    put(out, number());
                }
                Op::Fixed32(tag) => {
                    put(out, *tag);
                    out.extend_from_slice(&(number() as u32).to_le_bytes());
                }
                Op::Fixed64(tag) => put_fixed(out, *tag, number()),
                Op::Time => {
                    let passed = number();
                    let passed = passed >> 1 ^ (passed & 1).wrapping_neg();
                    put_fixed(out, 0x09, core.start.wrapping_add(passed));
                }
                Op::Begin(tag) => {
                    put(out, *tag);
                    open = out.len();
                }
                Op::Close => put_length_at(out, open),
                Op::Attribute(outer, inner, (from, to)) => {
                    let literal = &self.literals[*from as usize..*to as usize];
                    put_attribute_value(*inner, &mut number, scratch);
                    let value =
                        1 + scratch.len() + if is_text(*inner) { varint_len(scratch.len()) } else { 0 };
                    out.push(*outer);
                    put(out, (literal.len() + varint_len(value) + value) as u64);
                    out.extend_from_slice(literal);
                    put(out, value as u64);
                    out.push(*inner);
                    if is_text(*inner) {
                        put(out, scratch.len() as u64);
                    }
                    out.extend_from_slice(scratch);
                }
            }
        }
        Ok(())
    }
}

impl Op {
    fn is_text(&self) -> bool {
        match self {
            Self::Text(_) => true,
            Self::Attribute(_, inner, _) => is_text(*inner),
            _ => false,
        }
    }

    fn is_number(&self) -> bool {
        match self {
            Self::Varint(_) | Self::Fixed32(_) | Self::Fixed64(_) | Self::Time => true,
            Self::Attribute(_, inner, _) => !is_text(*inner),
            _ => false,
        }
    }
}

const fn is_text(inner: u8) -> bool {
    inner & 7 == 2
}

/// A value's content without its tag, in `out`; a string's is there already.
fn put_attribute_value(inner: u8, number: &mut impl FnMut() -> u64, out: &mut Vec<u8>) {
    match inner & 7 {
        2 => {}
        1 => out.extend_from_slice(&number().to_le_bytes()),
        _ => put(out, number()),
    }
}

fn put_id(out: &mut Vec<u8>, tag: u8, id: &[u8]) {
    out.extend_from_slice(&[tag, id.len() as u8]);
    out.extend_from_slice(id);
}

fn put_fixed(out: &mut Vec<u8>, tag: u64, value: u64) {
    put(out, tag);
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, tag: u64, text: &[u8]) {
    put(out, tag);
    put_sized(out, text);
}

fn put_sized(out: &mut Vec<u8>, text: &[u8]) {
    put(out, text.len() as u64);
    out.extend_from_slice(text);
}

const fn varint_len(value: usize) -> usize {
    let bits = usize::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Puts the length of what begins at `start` before it.
fn put_length_at(out: &mut Vec<u8>, start: usize) {
    let length = out.len() - start;
    put(out, length as u64);
    out[start..].rotate_right(varint_len(length));
}
