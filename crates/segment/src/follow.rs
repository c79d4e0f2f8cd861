//! Takes messages of a known shape apart: they are only compared with it, and nothing is looked up.
//!
//! Nearly every span has the shape of one before it, so this is where most of the time of building a chunk goes.

use trace_model::TraceId;

use crate::codec::same;
use crate::shape::{Fields, Op, Shape, sized, take_field, take_value, varint};

/// What a message is compared with next. Parts of a fixed length that encoders write one after the other are one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// `0A 10`, the trace's id, `12 08` and the span's.
    Ids,
    /// Likewise, then `22 08` and the parent's.
    IdsAndParent,
    /// `30` and the kind, `39` and the start, `41` and the end.
    KindAndTimes(u8),
    /// A string whose tag is one byte.
    Text(u8),
    /// Anything else.
    One(Op),
}

/// What a message of these parts is compared with.
pub(crate) fn steps(ops: &[Op]) -> Vec<Step> {
    let mut steps = Vec::with_capacity(ops.len());
    let mut rest = ops;
    while let [first, after @ ..] = rest {
        (rest, _) = match rest {
            [Op::TraceId, Op::SpanId, Op::Parent, after @ ..] => (after, steps.push(Step::IdsAndParent)),
            [Op::TraceId, Op::SpanId, after @ ..] => (after, steps.push(Step::Ids)),
            [Op::Kind(kind), Op::Start, Op::End, after @ ..] => {
                (after, steps.push(Step::KindAndTimes(*kind)))
            }
            [Op::Text(tag @ 0..0x80), ..] => (after, steps.push(Step::Text(*tag as u8))),
            _ => (after, steps.push(Step::One(*first))),
        };
    }
    steps
}

impl Shape {
    /// Takes a message of this shape apart: what [`Parsed::parse`](crate::shape::Parsed::parse) would find, at less
    /// cost. `None`, with `numbers` and `texts` as they were, if it has another shape, or may have.
    pub(crate) fn follow<'a>(
        &self,
        id: &TraceId,
        message: &'a [u8],
        numbers: &mut Vec<u64>,
        texts: &mut Vec<&'a [u8]>,
    ) -> Option<Fields> {
        let before = (numbers.len(), texts.len());
        let fields = self.try_follow(id, message, numbers, texts);
        if fields.is_none() {
            numbers.truncate(before.0);
            texts.truncate(before.1);
        }
        fields
    }

    fn try_follow<'a>(
        &self,
        id: &TraceId,
        message: &'a [u8],
        numbers: &mut Vec<u64>,
        texts: &mut Vec<&'a [u8]>,
    ) -> Option<Fields> {
        let mut fields = Fields::default();
        let mut rest = message;
        for step in &self.steps {
            rest = match step {
                Step::One(Op::Attribute(outer, inner, (from, to))) => {
                    let literal = self.literals.get(*from as usize..*to as usize)?;
                    pair(*outer, *inner, literal, rest, numbers, texts)?
                }
                Step::Ids => ids(id, rest, &mut fields)?,
                Step::IdsAndParent => parent(ids(id, rest, &mut fields)?, &mut fields)?,
                Step::KindAndTimes(kind) => times(*kind, rest, &mut fields)?,
                Step::Text(tag) => text(*tag, rest, texts)?,
                Step::One(op) => one(*op, id, rest, &mut fields, numbers, texts)?,
            };
        }
        rest.is_empty().then_some(fields)
    }
}

#[inline(always)]
fn ids<'a>(id: &TraceId, message: &'a [u8], fields: &mut Fields) -> Option<&'a [u8]> {
    let (head, rest) = message.split_first_chunk::<28>()?;
    let [0x0a, 0x10, trace @ .., 0x12, 8, a, b, c, d, e, f, g, h] = head else { return None };
    fields.span_id = Some([*a, *b, *c, *d, *e, *f, *g, *h]);
    (trace == id.as_bytes()).then_some(rest)
}

#[inline(always)]
fn parent<'a>(message: &'a [u8], fields: &mut Fields) -> Option<&'a [u8]> {
    let ([0x22, 8, id @ ..], rest) = message.split_first_chunk::<10>()? else { return None };
    fields.parent = Some(*id);
    Some(rest)
}

#[inline(always)]
fn times<'a>(kind: u8, message: &'a [u8], fields: &mut Fields) -> Option<&'a [u8]> {
    let (head, rest) = message.split_first_chunk::<20>()?;
    let ([0x30, found, 0x39], [0x41, end @ ..]) = (head.first_chunk::<3>()?, head.last_chunk::<9>()?) else {
        return None;
    };
    fields.start = Some(u64::from_le_bytes(*head[3..].first_chunk()?));
    fields.end = Some(u64::from_le_bytes(*end));
    (*found == kind).then_some(rest)
}

/// A pair of this key and type of value.
#[inline(always)]
fn pair<'a>(
    outer: u8,
    inner: u8,
    literal: &[u8],
    message: &'a [u8],
    numbers: &mut Vec<u64>,
    texts: &mut Vec<&'a [u8]>,
) -> Option<&'a [u8]> {
    let [tag, length, body @ ..] = message else { return None };
    if *tag != outer {
        return None;
    }
    if *length >= 0x80 {
        return long_pair(inner, literal, &message[1..], numbers, texts);
    }
    // Nearly always: all lengths of one byte, of which one tells the others.
    let (pair, after) = body.split_at_checked(*length as usize)?;
    let (head, rest) = pair.split_at_checked(literal.len())?;
    let [length, found, content @ ..] = rest else { return None };
    if *length as usize != content.len() + 1 || *found != inner || !same(head, literal) {
        return None;
    }
    match (inner, content) {
        (0x0a, [length, text @ ..]) if *length as usize == text.len() => texts.push(text),
        (0x10 | 0x18, [number]) if *number < 0x80 => numbers.push(u64::from(*number)),
        _ => take_value(inner, content, numbers, texts)?,
    }
    Some(after)
}

fn long_pair<'a>(
    inner: u8,
    literal: &[u8],
    sized_pair: &'a [u8],
    numbers: &mut Vec<u64>,
    texts: &mut Vec<&'a [u8]>,
) -> Option<&'a [u8]> {
    let (pair, after) = sized(sized_pair)?;
    let (value, &[]) = sized(pair.strip_prefix(literal)?)? else { return None };
    take_value(inner, value.strip_prefix(&[inner])?, numbers, texts)?;
    Some(after)
}

/// A field that is a string.
#[inline(always)]
fn text<'a>(tag: u8, message: &'a [u8], texts: &mut Vec<&'a [u8]>) -> Option<&'a [u8]> {
    let [found, sized_text @ ..] = message else { return None };
    if *found != tag {
        return None;
    }
    let (text, after) = sized(sized_text)?;
    texts.push(text);
    Some(after)
}

fn one<'a>(
    op: Op,
    id: &TraceId,
    message: &'a [u8],
    fields: &mut Fields,
    numbers: &mut Vec<u64>,
    texts: &mut Vec<&'a [u8]>,
) -> Option<&'a [u8]> {
    match op {
        Op::TraceId => message.strip_prefix(&[0x0a, 0x10])?.strip_prefix(id.as_bytes()),
        Op::SpanId => {
            let (id, rest) = message.strip_prefix(&[0x12, 8])?.split_first_chunk()?;
            fields.span_id = Some(*id);
            Some(rest)
        }
        Op::Parent => parent(message, fields),
        Op::Start => {
            let (time, rest) = message.strip_prefix(&[0x39])?.split_first_chunk()?;
            fields.start = Some(u64::from_le_bytes(*time));
            Some(rest)
        }
        Op::End => {
            let (time, rest) = message.strip_prefix(&[0x41])?.split_first_chunk()?;
            fields.end = Some(u64::from_le_bytes(*time));
            Some(rest)
        }
        Op::Kind(kind) => message.strip_prefix(&[0x30, kind]),
        Op::Text(tag) | Op::Varint(tag) | Op::Fixed32(tag) | Op::Fixed64(tag) => {
            let (found, value) = varint(message)?;
            if found != tag {
                return None;
            }
            take_field(tag & 7, value, numbers, texts)
        }
        Op::Attribute(..) | Op::Time | Op::Begin(_) | Op::Close => None,
    }
}
