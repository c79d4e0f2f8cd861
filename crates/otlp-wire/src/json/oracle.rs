//! The oracle of the transcoder: the same mapping over a parsed document, which can look at its members in any order.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value as Json;

use crate::encode::{put_bytes, put_key, put_varint};
use crate::error::WireLimits;
use crate::schema::{FieldType, Kind, Message, TRACES};

/// The protobuf of a document, `None` if it is to be refused. It takes a field that is given twice.
pub(super) fn transcode(json: &[u8]) -> Option<Vec<u8>> {
    let json: Json = serde_json::from_slice(json).ok()?;
    let mut out = Vec::new();
    put_message(&TRACES, &json, WireLimits::MAX_DEPTH, &mut out)?;
    Some(out)
}

fn put_message(message: &'static Message, json: &Json, depth: u32, out: &mut Vec<u8>) -> Option<()> {
    let object = json.as_object()?;
    let depth = depth.checked_sub(u32::from(message.is_any_value()))?;
    let mut set = 0;
    for field in message.fields {
        let value = |name| object.get(name).filter(|value| !value.is_null());
        let Some(value) = value(field.name).or_else(|| value(field.snake)) else { continue };
        set += 1;
        put_field(message, field, value, depth, out)?;
    }
    (!message.oneof || set <= 1).then_some(())
}

fn put_field(message: &Message, field: &FieldType, json: &Json, depth: u32, out: &mut Vec<u8>) -> Option<()> {
    if !field.is_list() {
        return put_value(field, json, message.oneof, depth, out);
    }
    for element in json.as_array()? {
        match field.kind {
            Kind::Message(inner) if element.is_null() && inner.is_any_value() => {
                depth.checked_sub(1)?;
                put_bytes(out, field.number, &[]);
            }
            _ if element.is_null() => {}
            _ => put_value(field, element, true, depth, out)?,
        }
    }
    Some(())
}

fn put_value(field: &FieldType, json: &Json, explicit: bool, depth: u32, out: &mut Vec<u8>) -> Option<()> {
    let mut payload = Vec::new();
    let (wire_type, is_default) = match field.kind {
        Kind::Message(inner) => {
            put_message(inner, json, depth, &mut payload)?;
            put_bytes(out, field.number, &payload);
            return Some(());
        }
        Kind::Text => (2, put_text(json.as_str()?.as_bytes(), &mut payload)),
        Kind::Hex => (2, put_text(&hex(json.as_str()?)?, &mut payload)),
        Kind::Base64 => (2, put_text(&base64(json.as_str()?)?, &mut payload)),
        Kind::Bool => (0, put_number(u64::from(json.as_bool()?), &mut payload)),
        Kind::Uint32 => (0, put_number(u64::from(bounded::<u32>(json)?), &mut payload)),
        Kind::Int64 => (0, put_number(bounded::<i64>(json)? as u64, &mut payload)),
        Kind::Enum(names) => (0, put_number(i64::from(enumeration(json, names)?) as u64, &mut payload)),
        Kind::Fixed32 => (5, put_fixed(&bounded::<u32>(json)?.to_le_bytes(), &mut payload)),
        Kind::Fixed64 => (1, put_fixed(&bounded::<u64>(json)?.to_le_bytes(), &mut payload)),
        Kind::Double => (1, put_fixed(&double(json)?.to_le_bytes(), &mut payload)),
    };
    if explicit || !is_default {
        put_key(out, field.number, wire_type);
        out.extend(payload);
    }
    Some(())
}

fn put_text(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
    bytes.is_empty()
}

fn put_number(value: u64, out: &mut Vec<u8>) -> bool {
    put_varint(out, value);
    value == 0
}

fn put_fixed(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend(bytes);
    bytes.iter().all(|byte| *byte == 0)
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = digits.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
}

fn base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const ENGINE: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    ENGINE.decode(text.replace('-', "+").replace('_', "/")).ok()
}

fn integer(json: &Json) -> Option<i128> {
    match json {
        Json::String(text) => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            if plain { text.parse().ok() } else { None }
        }
        Json::Number(number) => {
            let float = || number.as_f64().filter(|float| float.fract() == 0.0).map(|float| float as i128);
            number.as_u64().map(i128::from).or_else(|| number.as_i64().map(i128::from)).or_else(float)
        }
        _ => None,
    }
}

fn bounded<T: TryFrom<i128>>(json: &Json) -> Option<T> {
    T::try_from(integer(json)?).ok()
}

fn enumeration(json: &Json, names: &[&str]) -> Option<i32> {
    match json {
        Json::String(name) => names.iter().position(|known| known == name).map(|index| index as i32),
        number => bounded(number),
    }
}

fn double(json: &Json) -> Option<f64> {
    match json {
        Json::Number(number) => number.as_f64(),
        Json::String(text) => match &text[..] {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => text.parse().ok().filter(|number: &f64| number.is_finite()),
        },
        _ => None,
    }
}
