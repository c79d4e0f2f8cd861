//! Protobuf to OTLP/JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json};

use crate::cursor::{Cursor, Value};
use crate::error::{WireError, WireLimits};
use crate::nested::Depth;
use crate::schema::{FieldType, Kind, Message, TRACES};

/// Writes a `TracesData` message as OTLP/JSON: `{"resourceSpans": [...]}`.
///
/// Names are in lowerCamelCase, ids in lower-case hex, 64-bit integers decimal strings, enums
/// numbers, bytes base64. Fields with their default value are left out, except `kind`, `key` and
/// the `values` of arrays and key-value lists. Invalid UTF-8 is replaced by U+FFFD; doubles that
/// JSON has no number for are `"NaN"`, `"Infinity"` and `"-Infinity"`. Unknown fields are ignored.
///
/// # Errors
/// If the message is malformed or its attribute values nest deeper than 32.
pub fn traces_to_json(traces_data: &[u8]) -> Result<Json, WireError> {
    let mut out = Map::new();
    merge(&TRACES, Cursor::new(traces_data), Depth::new(WireLimits::MAX_DEPTH), &mut out)?;
    Ok(Json::Object(out))
}

/// Merges an occurrence of a message into `out`, which holds the occurrences before it. The depth
/// of the calls is that of the schema, plus what `depth` allows where the schema is recursive.
fn merge(
    message: &'static Message,
    mut cursor: Cursor<'_>,
    depth: Depth,
    out: &mut Map<String, Json>,
) -> Result<(), WireError> {
    let depth = if message.is_any_value() { depth.enter(cursor.pos())? } else { depth };
    put_kept(message, out);
    while let Some(field) = cursor.next()? {
        let Some(kind) = message.field(field.number) else { continue };
        if !fits(kind.kind, field.value) {
            continue;
        }
        if message.oneof {
            out.retain(|name, _| name == kind.name);
        }
        match (kind.kind, field.value) {
            (Kind::Message(inner), Value::Bytes(payload)) if kind.is_list() => {
                let mut element = Map::new();
                merge(inner, payload, depth, &mut element)?;
                push(out, kind, Json::Object(element));
            }
            (Kind::Message(inner), Value::Bytes(payload)) => {
                let mut object = take_object(out, kind);
                merge(inner, payload, depth, &mut object)?;
                out.insert(kind.name.to_owned(), Json::Object(object));
            }
            (_, value) => put_scalar(message, kind, value, out),
        }
    }
    Ok(())
}

/// Gives the fields that are always written their default value.
fn put_kept(message: &'static Message, out: &mut Map<String, Json>) {
    for kind in message.fields.iter().filter(|kind| kind.is_kept()) {
        if !out.contains_key(kind.name) {
            out.insert(kind.name.to_owned(), default(kind));
        }
    }
}

fn default(kind: &FieldType) -> Json {
    match kind.kind {
        _ if kind.is_list() => Json::Array(Vec::new()),
        Kind::Text => Json::from(""),
        _ => Json::from(0),
    }
}

fn put_scalar(message: &Message, kind: &FieldType, value: Value<'_>, out: &mut Map<String, Json>) {
    if kind.is_list() {
        push(out, kind, scalar(kind.kind, value));
    } else if message.oneof || kind.is_kept() || !is_default(value) {
        out.insert(kind.name.to_owned(), scalar(kind.kind, value));
    } else {
        // The last occurrence wins, also when it sets the field back to its default.
        out.remove(kind.name);
    }
}

fn push(out: &mut Map<String, Json>, kind: &FieldType, element: Json) {
    let list = out.entry(kind.name).or_insert_with(|| Json::Array(Vec::new()));
    if let Json::Array(list) = list {
        list.push(element);
    }
}

/// Takes the earlier occurrences of a sub-message out, for the next one to be merged into.
fn take_object(out: &mut Map<String, Json>, kind: &FieldType) -> Map<String, Json> {
    match out.remove(kind.name) {
        Some(Json::Object(object)) => object,
        _ => Map::new(),
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

fn is_default(value: Value<'_>) -> bool {
    match value {
        Value::Varint(number) | Value::Fixed64(number) => number == 0,
        Value::Fixed32(number) => number == 0,
        Value::Bytes(bytes) => bytes.rest().is_empty(),
    }
}

fn scalar(kind: Kind, value: Value<'_>) -> Json {
    match (kind, value) {
        (Kind::Text, Value::Bytes(text)) => Json::from(String::from_utf8_lossy(text.rest())),
        (Kind::Hex, Value::Bytes(id)) => Json::from(hex(id.rest())),
        (_, Value::Bytes(bytes)) => Json::from(STANDARD.encode(bytes.rest())),
        (Kind::Bool, Value::Varint(number)) => Json::from(number != 0),
        (Kind::Int64, Value::Varint(number)) => Json::from((number as i64).to_string()),
        // 32-bit fields keep the low half of their varint, as protobuf has it.
        (Kind::Enum(_), Value::Varint(number)) => Json::from(number as i32),
        (_, Value::Varint(number)) => Json::from(number as u32),
        (Kind::Double, Value::Fixed64(bits)) => double(f64::from_bits(bits)),
        (_, Value::Fixed64(number)) => Json::from(number.to_string()),
        (_, Value::Fixed32(number)) => Json::from(number),
    }
}

fn double(number: f64) -> Json {
    if number.is_finite() {
        Json::from(number)
    } else if number.is_nan() {
        Json::from("NaN")
    } else if number > 0.0 {
        Json::from("Infinity")
    } else {
        Json::from("-Infinity")
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}
