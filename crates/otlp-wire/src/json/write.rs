//! Protobuf to OTLP/JSON, without a document in between.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Error as _, SerializeMap, SerializeSeq as _};
use serde::{Serialize, Serializer};

use crate::cursor::{Cursor, Field, Value};
use crate::error::{WireError, WireLimits};
use crate::nested::Depth;
use crate::schema::{FIELDS_MAX, FieldType, Kind, Message, TRACES};

/// A `TracesData` message, which serializes as OTLP/JSON: `{"resourceSpans": [...]}`.
///
/// Names are in lowerCamelCase, ids in lower-case hex, 64-bit integers decimal strings, enums
/// numbers, bytes base64. Fields with their default value are left out, except `kind`, `key` and
/// the `values` of arrays and key-value lists. Invalid UTF-8 is replaced by U+FFFD; doubles that
/// JSON has no number for are `"NaN"`, `"Infinity"` and `"-Infinity"`. Unknown fields are ignored.
///
/// Serializing fails if the message is malformed or its attribute values nest deeper than 32.
#[derive(Debug, Clone, Copy)]
pub struct TracesJson<'a>(pub &'a [u8]);

impl Serialize for TracesJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let depth = Depth::new(WireLimits::MAX_DEPTH);
        Object { message: &TRACES, body: Cursor::new(self.0), depth }.serialize(serializer)
    }
}

/// A message. The depth of the calls is that of the schema, plus what `depth` allows where the schema is recursive.
#[derive(Clone, Copy)]
struct Object<'a> {
    message: &'static Message,
    body: Cursor<'a>,
    depth: Depth,
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let inner = self.entered().map_err(S::Error::custom)?;
        let places = inner.places().map_err(S::Error::custom)?;
        let mut map = serializer.serialize_map(None)?;
        for (kind, place) in self.message.fields.iter().zip(&places) {
            match place.occurrences {
                0 => inner.write_absent(kind, &mut map)?,
                _ if kind.is_list() => {
                    map.serialize_entry(kind.name, &List { of: inner, kind, place: *place })?;
                }
                _ => inner.write_single(kind, *place, &mut map)?,
            }
        }
        map.end()
    }
}

impl<'a> Object<'a> {
    fn entered(self) -> Result<Self, WireError> {
        if !self.message.is_any_value() {
            return Ok(self);
        }
        Ok(Self { depth: self.depth.enter(self.body.pos())?, ..self })
    }

    /// Where each field occurs.
    fn places(&self) -> Result<[Place; FIELDS_MAX], WireError> {
        let mut places = [Place::default(); FIELDS_MAX];
        let mut body = self.body;
        loop {
            let at = body.pos();
            let Some(field) = body.next()? else { return Ok(places) };
            let kinds = self.message.fields.iter().zip(&mut places);
            let known = kinds.into_iter().find(|(kind, _)| kind.number == field.number);
            let Some((kind, place)) = known.filter(|(kind, _)| fits(kind.kind, field.value)) else {
                continue;
            };
            place.add(at);
            if self.message.oneof {
                // What is set last is all that is set.
                let others = self.message.fields.iter().zip(&mut places);
                let others = others.filter(|(other, _)| other.number != kind.number);
                others.for_each(|(_, place)| *place = Place::default());
            }
        }
    }

    fn write_absent<M: SerializeMap>(&self, kind: &FieldType, map: &mut M) -> Result<(), M::Error> {
        match kind.kind {
            _ if !kind.is_kept() => Ok(()),
            _ if kind.is_list() => map.serialize_entry(kind.name, &[(); 0]),
            Kind::Text => map.serialize_entry(kind.name, ""),
            _ => map.serialize_entry(kind.name, &0),
        }
    }

    /// Of a scalar the last occurrence counts, and the occurrences of a message are one after the other one message.
    fn write_single<M: SerializeMap>(
        &self,
        kind: &'static FieldType,
        place: Place,
        map: &mut M,
    ) -> Result<(), M::Error> {
        let (Kind::Message(_), true) = (kind.kind, place.occurrences > 1) else {
            let Some(value) = self.values(kind, place.last, 1).next() else { return Ok(()) };
            let written = self.message.oneof || kind.is_kept() || !is_default(kind.kind, value);
            return if written { map.serialize_entry(kind.name, &self.element(kind, value)) } else { Ok(()) };
        };
        let bodies = self.values(kind, place.first, place.occurrences).filter_map(Value::bytes);
        let body = bodies.collect::<Vec<_>>().concat();
        map.serialize_entry(kind.name, &self.element(kind, Value::Bytes(Cursor::new(&body))))
    }

    /// So many values of a field, from a place on. All of it was read before.
    fn values(&self, kind: &'static FieldType, from: usize, count: usize) -> impl Iterator<Item = Value<'a>> {
        let mut body = self.body.at(from);
        let fields = std::iter::from_fn(move || body.next().ok().flatten());
        let of_kind = move |field: &Field<'_>| field.number == kind.number && fits(kind.kind, field.value);
        fields.filter(of_kind).map(|field| field.value).take(count)
    }

    fn element<'b>(&self, kind: &'static FieldType, value: Value<'b>) -> Element<'b> {
        Element { kind: kind.kind, value, depth: self.depth }
    }
}

/// How often a field occurs, and where: offsets of the first and the last.
#[derive(Clone, Copy, Default)]
struct Place {
    occurrences: usize,
    first: usize,
    last: usize,
}

impl Place {
    fn add(&mut self, at: usize) {
        if self.occurrences == 0 {
            self.first = at;
        }
        self.occurrences += 1;
        self.last = at;
    }
}

/// The values of a repeated field.
struct List<'a> {
    of: Object<'a>,
    kind: &'static FieldType,
    place: Place,
}

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { of, kind, place } = self;
        let mut list = serializer.serialize_seq(Some(place.occurrences))?;
        for value in of.values(kind, place.first, place.occurrences) {
            list.serialize_element(&of.element(kind, value))?;
        }
        list.end()
    }
}

/// One value.
struct Element<'a> {
    kind: Kind,
    value: Value<'a>,
    depth: Depth,
}

impl Serialize for Element<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.kind, self.value) {
            (Kind::Message(message), Value::Bytes(body)) => {
                Object { message, body, depth: self.depth }.serialize(serializer)
            }
            (Kind::Text, Value::Bytes(text)) => {
                serializer.serialize_str(&String::from_utf8_lossy(text.rest()))
            }
            (Kind::Hex, Value::Bytes(id)) => hex(id.rest(), serializer),
            (_, Value::Bytes(bytes)) => serializer.serialize_str(&STANDARD.encode(bytes.rest())),
            (Kind::Bool, Value::Varint(number)) => serializer.serialize_bool(number != 0),
            (Kind::Int64, Value::Varint(number)) => serializer.collect_str(&(number as i64)),
            // 32-bit fields keep the low half of their varint, as protobuf has it.
            (Kind::Enum(_), Value::Varint(number)) => serializer.serialize_i32(number as i32),
            (_, Value::Varint(number)) => serializer.serialize_u32(number as u32),
            (Kind::Double, Value::Fixed64(bits)) => double(f64::from_bits(bits), serializer),
            (_, Value::Fixed64(number)) => serializer.collect_str(&number),
            (_, Value::Fixed32(number)) => serializer.serialize_u32(number),
        }
    }
}

/// Whether a value has the wire type of its field. One that has not is an unknown field.
fn fits(kind: Kind, value: Value<'_>) -> bool {
    matches!(
        (kind, value),
        (Kind::Text | Kind::Hex | Kind::Base64 | Kind::Message(_), Value::Bytes(_))
            | (Kind::Bool | Kind::Uint32 | Kind::Int64 | Kind::Enum(_), Value::Varint(_))
            | (Kind::Fixed64 | Kind::Double, Value::Fixed64(_))
            | (Kind::Fixed32, Value::Fixed32(_))
    )
}

/// A message that is there has no default, even if it is empty.
fn is_default(kind: Kind, value: Value<'_>) -> bool {
    match (kind, value) {
        (Kind::Message(_), _) => false,
        (_, Value::Varint(number) | Value::Fixed64(number)) => number == 0,
        (_, Value::Fixed32(number)) => number == 0,
        (_, Value::Bytes(bytes)) => bytes.rest().is_empty(),
    }
}

fn double<S: Serializer>(number: f64, serializer: S) -> Result<S::Ok, S::Error> {
    if number.is_finite() {
        serializer.serialize_f64(number)
    } else if number.is_nan() {
        serializer.serialize_str("NaN")
    } else if number > 0.0 {
        serializer.serialize_str("Infinity")
    } else {
        serializer.serialize_str("-Infinity")
    }
}

/// Ids are mostly of 8 or 16 bytes, and for those nothing is allocated.
fn hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS[usize::from(nibble & 15)];
    let mut digits = [0; 32];
    let Some(digits) = digits.get_mut(..bytes.len() * 2) else {
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, *byte]).map(digit).map(char::from);
        return serializer.serialize_str(&digits.collect::<String>());
    };
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(*byte)]);
    }
    serializer.serialize_str(std::str::from_utf8(digits).unwrap_or_default())
}
