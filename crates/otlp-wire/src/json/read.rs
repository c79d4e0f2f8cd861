//! OTLP/JSON to protobuf.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value as Json};

use crate::encode::{put_bytes, put_key, put_varint};
use crate::error::WireLimits;
use crate::schema::{FieldType, Kind, Message, TRACES};

/// Why OTLP/JSON was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text is not JSON, or nests deeper than 128 levels.
    #[error("not valid JSON: {0}")]
    Syntax(String),
    /// A value is not what its field takes.
    #[error("`{path}` must be {want}, got {got}")]
    Value {
        /// Where: `resourceSpans[0].scopeSpans[0].spans[2].kind`. The document itself is `$`.
        path: String,
        /// What would be right.
        want: String,
        /// What is there, shortened.
        got: String,
    },
}

/// Turns an OTLP/JSON `ExportTraceServiceRequest` into its protobuf bytes.
///
/// Takes what the Collector's file exporter and the SDKs write, and what protobuf's JSON mapping
/// allows besides: names in lowerCamelCase or as in the .proto file, ids in hex of any case,
/// integers as numbers or decimal strings, enums as numbers or names, base64 of either alphabet
/// with or without padding. Unknown names are ignored; `null` means absent.
///
/// The lengths of ids are not checked here: [`walk`](crate::walk) rejects the spans concerned.
///
/// # Errors
/// If the text is not JSON, or a value is not what its field takes; the error names the path.
pub fn json_to_traces(json: &[u8]) -> Result<Vec<u8>, JsonError> {
    let json: Json = serde_json::from_slice(json).map_err(|error| JsonError::Syntax(error.to_string()))?;
    let mut out = Vec::new();
    put_message(&TRACES, &json, WireLimits::MAX_DEPTH, &mut out).map_err(|wrong| wrong.into_error())?;
    Ok(out)
}

/// A wrong value. The path is collected on the way out, innermost step first, so that a good
/// document pays nothing for it.
struct Wrong {
    path: Vec<Step>,
    want: Cow<'static, str>,
    got: String,
}

enum Step {
    Field(&'static str),
    Index(usize),
}

impl Wrong {
    fn new(want: impl Into<Cow<'static, str>>, got: &Json) -> Box<Self> {
        Box::new(Self { path: Vec::new(), want: want.into(), got: describe(got) })
    }

    fn under(mut self: Box<Self>, step: Step) -> Box<Self> {
        self.path.push(step);
        self
    }

    fn into_error(self) -> JsonError {
        let mut path = String::new();
        for step in self.path.iter().rev() {
            // Writing to a string cannot fail.
            let _ = match step {
                Step::Field(name) if path.is_empty() => write!(path, "{name}"),
                Step::Field(name) => write!(path, ".{name}"),
                Step::Index(index) => write!(path, "[{index}]"),
            };
        }
        if path.is_empty() {
            path.push('$');
        }
        JsonError::Value { path, want: self.want.into_owned(), got: self.got }
    }
}

/// A value for an error message: short, whatever the client sent.
fn describe(json: &Json) -> String {
    match json {
        Json::Array(_) => "an array".to_owned(),
        Json::Object(_) => "an object".to_owned(),
        Json::String(text) if text.chars().nth(64).is_some() => {
            format!("the string {:?}...", text.chars().take(64).collect::<String>())
        }
        other => other.to_string(),
    }
}

/// Appends the fields of a message. The depth of the calls is that of the schema, plus what
/// `depth` allows where the schema is recursive.
fn put_message(
    message: &'static Message,
    json: &Json,
    depth: u32,
    out: &mut Vec<u8>,
) -> Result<(), Box<Wrong>> {
    let Json::Object(object) = json else { return Err(Wrong::new("an object", json)) };
    let Some(depth) = depth.checked_sub(u32::from(message.is_any_value())) else {
        return Err(Wrong::new("nested at most 32 deep", json));
    };
    let mut set = None;
    for field in message.fields {
        let Some((name, value)) = lookup(object, field) else { continue };
        if message.oneof
            && let Some(first) = set.replace(name)
        {
            return Err(Wrong::new(format!("of one type only: `{first}` or `{name}`"), json));
        }
        put_field(message, field, value, depth, out).map_err(|wrong| wrong.under(Step::Field(name)))?;
    }
    Ok(())
}

/// The value of a field under either of its names; `null` counts as absent.
fn lookup<'j>(object: &'j Map<String, Json>, field: &FieldType) -> Option<(&'static str, &'j Json)> {
    let get = |name| object.get(name).filter(|value| !value.is_null()).map(|value| (name, value));
    get(field.name).or_else(|| get(field.snake))
}

fn put_field(
    message: &Message,
    field: &FieldType,
    json: &Json,
    depth: u32,
    out: &mut Vec<u8>,
) -> Result<(), Box<Wrong>> {
    if !field.is_list() {
        return put_value(field, json, message.oneof, depth, out);
    }
    let Json::Array(list) = json else { return Err(Wrong::new("an array", json)) };
    for (index, element) in list.iter().enumerate() {
        put_element(field, element, depth, out).map_err(|wrong| wrong.under(Step::Index(index)))?;
    }
    Ok(())
}

/// `null` in an array of values is an empty value; in any other array it is nothing.
fn put_element(field: &FieldType, json: &Json, depth: u32, out: &mut Vec<u8>) -> Result<(), Box<Wrong>> {
    if !json.is_null() {
        return put_value(field, json, true, depth, out);
    }
    if matches!(field.kind, Kind::Message(inner) if inner.is_any_value()) {
        put_bytes(out, field.number, &[]);
    }
    Ok(())
}

/// Appends one value with its key. A default value is written only if `explicit`.
fn put_value(
    field: &FieldType,
    json: &Json,
    explicit: bool,
    depth: u32,
    out: &mut Vec<u8>,
) -> Result<(), Box<Wrong>> {
    let number = field.number;
    match field.kind {
        Kind::Message(inner) => {
            let mut payload = Vec::new();
            put_message(inner, json, depth, &mut payload)?;
            put_bytes(out, number, &payload);
        }
        Kind::Text => put_payload(out, number, explicit, text(json)?.as_bytes()),
        Kind::Hex => put_payload(out, number, explicit, &hex(json)?),
        Kind::Base64 => put_payload(out, number, explicit, &base64(json)?),
        Kind::Bool => {
            let Json::Bool(value) = json else { return Err(Wrong::new("true or false", json)) };
            put_number(out, number, explicit, u64::from(*value));
        }
        Kind::Uint32 => put_number(out, number, explicit, u64::from(uint32(json)?)),
        Kind::Int64 => put_number(out, number, explicit, int64(json)? as u64),
        // A negative enum is a varint of ten bytes, like any negative int32.
        Kind::Enum(names) => put_number(out, number, explicit, i64::from(enumeration(json, names)?) as u64),
        Kind::Fixed32 => put_fixed(out, number, 5, explicit, &uint32(json)?.to_le_bytes()),
        Kind::Fixed64 => put_fixed(out, number, 1, explicit, &uint64(json)?.to_le_bytes()),
        Kind::Double => put_fixed(out, number, 1, explicit, &double(json)?.to_le_bytes()),
    }
    Ok(())
}

fn put_payload(out: &mut Vec<u8>, number: u32, explicit: bool, payload: &[u8]) {
    if explicit || !payload.is_empty() {
        put_bytes(out, number, payload);
    }
}

fn put_number(out: &mut Vec<u8>, number: u32, explicit: bool, value: u64) {
    if explicit || value != 0 {
        put_key(out, number, 0);
        put_varint(out, value);
    }
}

fn put_fixed(out: &mut Vec<u8>, number: u32, wire_type: u8, explicit: bool, bytes: &[u8]) {
    if explicit || bytes.iter().any(|byte| *byte != 0) {
        put_key(out, number, wire_type);
        out.extend_from_slice(bytes);
    }
}

fn text(json: &Json) -> Result<&str, Box<Wrong>> {
    json.as_str().ok_or_else(|| Wrong::new("a string", json))
}

fn hex(json: &Json) -> Result<Vec<u8>, Box<Wrong>> {
    let wrong = || Wrong::new("an id as a string of hex digits, two a byte", json);
    let digits = json.as_str().ok_or_else(wrong)?.as_bytes();
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(wrong());
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    pairs
        .iter()
        .map(|&[high, low]| Some((digit(high)? << 4 | digit(low)?) as u8))
        .collect::<Option<_>>()
        .ok_or_else(wrong)
}

fn base64(json: &Json) -> Result<Vec<u8>, Box<Wrong>> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const ENGINE: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    let wrong = || Wrong::new("bytes as a base64 string", json);
    let text = json.as_str().ok_or_else(wrong)?;
    // Protobuf's JSON mapping accepts the URL-safe alphabet too.
    let standard = text.replace('-', "+").replace('_', "/");
    ENGINE.decode(standard).map_err(|_| wrong())
}

/// An integer as a number or a decimal string. A number with an exponent or a zero fraction
/// counts, since JSON has no integers of its own.
fn integer(json: &Json) -> Option<i128> {
    match json {
        Json::String(text) => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            if plain { text.parse().ok() } else { None }
        }
        Json::Number(number) => number
            .as_u64()
            .map(i128::from)
            .or_else(|| number.as_i64().map(i128::from))
            .or_else(|| number.as_f64().filter(|float| float.fract() == 0.0).map(|float| float as i128)),
        _ => None,
    }
}

fn bounded<T: TryFrom<i128>>(json: &Json, want: &'static str) -> Result<T, Box<Wrong>> {
    integer(json).and_then(|number| T::try_from(number).ok()).ok_or_else(|| Wrong::new(want, json))
}

fn uint32(json: &Json) -> Result<u32, Box<Wrong>> {
    bounded(json, "an integer from 0 to 4294967295")
}

fn uint64(json: &Json) -> Result<u64, Box<Wrong>> {
    bounded(json, "nanoseconds since 1970 as a decimal string or an integer from 0 to 18446744073709551615")
}

fn int64(json: &Json) -> Result<i64, Box<Wrong>> {
    bounded(json, "a 64-bit integer as a decimal string or a number")
}

fn enumeration(json: &Json, names: &[&str]) -> Result<i32, Box<Wrong>> {
    let by_name = json.as_str().and_then(|name| names.iter().position(|known| *known == name));
    let by_number = || if json.is_number() { integer(json) } else { None };
    by_name
        .map(|index| index as i128)
        .or_else(by_number)
        .and_then(|number| i32::try_from(number).ok())
        .ok_or_else(|| {
            Wrong::new(format!("a number from 0 to {} or one of {}", names.len() - 1, names.join(", ")), json)
        })
}

fn double(json: &Json) -> Result<f64, Box<Wrong>> {
    let wrong = || Wrong::new("a number, \"NaN\", \"Infinity\" or \"-Infinity\"", json);
    match json {
        Json::Number(number) => number.as_f64().ok_or_else(wrong),
        Json::String(text) => named_double(text).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

/// Rust also reads `inf` and `nan`, which the JSON mapping does not have.
fn named_double(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => text.parse().ok().filter(|number: &f64| number.is_finite()),
    }
}
