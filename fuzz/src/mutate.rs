//! Changes to an input that keep most of its structure, so that they get past the first check.

use serde_json::Value as Json;

use crate::{Dice, Shape};

/// Inputs grow no larger than this, bytes.
const LARGEST: usize = 64 << 10;
/// Messages are entered no deeper than this.
const DEEPEST: usize = 80;

/// Numbers on the edges of what a field can hold.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    15,
    16,
    127,
    128,
    255,
    65_535,
    u32::MAX as u64,
    u32::MAX as u64 + 1,
    i64::MAX as u64,
    u64::MAX - 1,
    u64::MAX,
];

/// `base`, changed in one to four places. `other` is an input to take pieces from.
pub(crate) fn mutate(base: Vec<u8>, shape: Shape, other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut input = base;
    for _ in 0..=dice.below(4) {
        input = match shape {
            Shape::Protobuf if !dice.one_in(3) => message(&input, dice, 0),
            Shape::Json if !dice.one_in(4) => json(&input, dice),
            _ => bytes(input, other, dice),
        };
        input.truncate(LARGEST);
    }
    input
}

pub(crate) fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn some_varint(dice: &mut Dice) -> Vec<u8> {
    match dice.below(5) {
        0 => vec![0xff; 9 + dice.below(3)],
        // Longer than it need be.
        1 => vec![0x80 | dice.any() as u8, 0x80, 0],
        2 => varint(dice.any() >> dice.below(64)),
        _ => varint(dice.pick(&EDGES)),
    }
}

fn bytes(mut input: Vec<u8>, other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let at = dice.below(input.len() + 1);
    let end = (at + 1 + dice.below(16)).min(input.len());
    match dice.below(9) {
        0 if at < input.len() => input[at] ^= 1 << dice.below(8),
        1 if at < input.len() => input[at] = dice.any() as u8,
        2 => drop(input.drain(at..end)),
        3 => {
            let piece = input[at..end].to_vec();
            let to = dice.below(input.len() + 1);
            input.splice(to..to, piece);
        }
        4 => {
            let from = dice.below(other.len() + 1);
            let to = (from + dice.below(64)).min(other.len());
            input.splice(at..end, other[from..to].iter().copied());
        }
        5 => input.truncate(at),
        6 => drop(input.splice(at..(at + 1).min(end), some_varint(dice))),
        7 => {
            let count = 1 + dice.below(8);
            input.splice(at..at, dice.bytes(count));
        }
        _ => input[at..end].fill(dice.pick(&[0, 0x7f, 0x80, 0xff])),
    }
    input
}

/// A field of a message, key and all.
enum Field<'a> {
    /// Key with wire type 2, payload.
    Payload(u64, &'a [u8]),
    /// Anything else, as it is.
    Other(&'a [u8]),
}

pub(crate) fn take_varint(input: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in input.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return Some((value, &input[at + 1..]));
        }
    }
    None
}

/// The fields of a message, `None` if it is none.
fn fields(mut input: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut found = Vec::new();
    while !input.is_empty() {
        let (key, rest) = take_varint(input)?;
        let after = match key & 7 {
            0 => take_varint(rest)?.1,
            1 => rest.get(8..)?,
            5 => rest.get(4..)?,
            2 => {
                let (length, rest) = take_varint(rest)?;
                let (payload, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                found.push(Field::Payload(key, payload));
                input = after;
                continue;
            }
            _ => return None,
        };
        found.push(Field::Other(&input[..input.len() - after.len()]));
        input = after;
    }
    Some(found)
}

fn put(out: &mut Vec<u8>, field: &Field<'_>) {
    match field {
        Field::Payload(key, payload) => put_payload(out, *key, payload),
        Field::Other(whole) => out.extend_from_slice(whole),
    }
}

fn put_payload(out: &mut Vec<u8>, key: u64, payload: &[u8]) {
    out.extend(varint(key));
    out.extend(varint(payload.len() as u64));
    out.extend_from_slice(payload);
}

/// Changes one field of a message, or of one within it.
fn message(input: &[u8], dice: &mut Dice, depth: usize) -> Vec<u8> {
    let Some(mut fields) = fields(input).filter(|fields| !fields.is_empty() && depth < DEEPEST) else {
        return bytes(input.to_vec(), &[], dice);
    };
    let at = dice.below(fields.len());
    let mut out = Vec::with_capacity(input.len() + 16);
    let changed: Vec<u8> = match (&fields[at], dice.below(14)) {
        (Field::Payload(key, payload), 0..=7) if !payload.is_empty() => {
            let mut changed = Vec::new();
            put_payload(&mut changed, *key, &message(payload, dice, depth + 1));
            changed
        }
        (_, 8) => Vec::new(),
        (field, 9) => {
            let mut twice = Vec::new();
            put(&mut twice, field);
            put(&mut twice, field);
            twice
        }
        (Field::Payload(_, payload), 10) => {
            let mut renumbered = Vec::new();
            put_payload(&mut renumbered, (1 + dice.below(17) as u64) << 3 | 2, payload);
            renumbered
        }
        (Field::Payload(key, payload), 11) => {
            // The message wrapped in its own field: deeper by one.
            let (mut inner, mut outer) = (Vec::new(), Vec::new());
            put_payload(&mut inner, *key, payload);
            put_payload(&mut outer, *key, &inner);
            outer
        }
        (_, 12) => {
            let other = dice.below(fields.len());
            fields.swap(at, other);
            let mut same = Vec::new();
            put(&mut same, &fields[at]);
            same
        }
        _ => {
            let key = varint((1 + dice.below(17) as u64) << 3 | dice.pick(&[0, 1, 2, 5]));
            [key, some_varint(dice)].concat()
        }
    };
    for (nth, field) in fields.iter().enumerate() {
        if nth == at { out.extend_from_slice(&changed) } else { put(&mut out, field) }
    }
    out
}

/// Names that OTLP/JSON has, in both spellings, to rename to.
const NAMES: [&str; 16] = [
    "resourceSpans",
    "scope_spans",
    "spans",
    "traceId",
    "trace_id",
    "kind",
    "startTimeUnixNano",
    "attributes",
    "value",
    "stringValue",
    "intValue",
    "doubleValue",
    "bytesValue",
    "arrayValue",
    "kvlist_value",
    "values",
];

fn json(input: &[u8], dice: &mut Dice) -> Vec<u8> {
    let Ok(mut document) = serde_json::from_slice::<Json>(input) else {
        return bytes(input.to_vec(), &[], dice);
    };
    change(&mut document, dice);
    serde_json::to_vec(&document).unwrap_or_default()
}

/// Goes down to a random place and changes what is there. The parser allows 128 levels, so there are no more.
fn change(place: &mut Json, dice: &mut Dice) {
    let stop = dice.one_in(10);
    match place {
        Json::Array(list) if !list.is_empty() && !stop => change_array(list, dice),
        Json::Object(object) if !object.is_empty() && !stop => change_object(object, dice),
        _ => *place = some_json(place.take(), dice),
    }
}

fn change_array(list: &mut Vec<Json>, dice: &mut Dice) {
    let at = dice.below(list.len());
    match dice.below(24) {
        0 => drop(list.remove(at)),
        1 => list.push(list[at].clone()),
        _ => change(&mut list[at], dice),
    }
}

fn change_object(object: &mut serde_json::Map<String, Json>, dice: &mut Dice) {
    let Some(name) = object.keys().nth(dice.below(object.len())).cloned() else { return };
    match dice.below(24) {
        0 => drop(object.remove(&name)),
        1 => {
            let value = object.remove(&name).unwrap_or_default();
            object.insert(dice.pick(&NAMES).to_owned(), value);
        }
        _ => {
            if let Some(value) = object.get_mut(&name) {
                change(value, dice);
            }
        }
    }
}

fn some_json(old: Json, dice: &mut Dice) -> Json {
    match dice.below(12) {
        0 => Json::Null,
        1 => Json::from(dice.pick(&EDGES)),
        2 => Json::from(dice.pick(&EDGES).to_string()),
        3 => Json::from(-(dice.below(9) as i64)),
        4 => Json::from(f64::from_bits(dice.any())),
        5 => Json::from(dice.pick(&["NaN", "-Infinity", "1e3", "-0", "0x1", "", " 1", "+1", "1.0", "-_8"])),
        6 => Json::Array(vec![old]),
        7 => Json::Object([(dice.pick(&NAMES).to_owned(), old)].into_iter().collect()),
        8 => Json::Bool(dice.one_in(2)),
        9 => Json::from(dice.pick(&[
            "SPAN_KIND_SERVER",
            "STATUS_CODE_ERROR",
            "4bf9",
            "zz",
            "\u{0}",
            "\u{10ffff}",
        ])),
        10 => Json::Array(Vec::new()),
        _ => Json::Object(serde_json::Map::new()),
    }
}
