//! OTLP/JSON to protobuf, in one pass and without a document in between.
//!
//! Protobuf is written as the text is read. A message's length is written when its end has come, and a member that
//! comes after one of a greater number is moved before it; what is open is as deep as the schema. So the memory is
//! that of the protobuf, whatever the text is.

use super::error::{JsonError, Step, Wrong};
use super::quoted::Quoted;
use super::tokens::Tokens;
use super::value::{NANOSECONDS, UINT32};
use crate::encode::{close_message, open_message, put_bytes};
use crate::error::WireLimits;
use crate::schema::{FIELDS_MAX, FieldType, Kind, Message, TRACES};

/// Turns an OTLP/JSON `ExportTraceServiceRequest` into its protobuf bytes, fields in the order of their numbers.
///
/// Takes what the Collector's file exporter and the SDKs write, and what protobuf's JSON mapping
/// allows besides: names in lowerCamelCase or as in the .proto file, ids in hex of any case,
/// integers as numbers or decimal strings, enums as numbers or names, base64 of either alphabet
/// with or without padding. Unknown names are ignored; `null` means absent. A field may be given once only.
///
/// Takes [`protobuf_len_max`] bytes of memory for the result and next to nothing besides.
///
/// The lengths of ids are not checked here: [`walk`](crate::walk) rejects the spans concerned.
///
/// # Errors
/// If the text is not JSON, or a value is not what its field takes; the error names place and path. If values nest
/// deeper than [`WireLimits::MAX_DEPTH`].
pub fn json_to_traces(json: &[u8]) -> Result<Vec<u8>, JsonError> {
    transcode(json).map_err(|wrong| wrong.into_error(json))
}

/// The most bytes that the protobuf of so many bytes of OTLP/JSON can have.
///
/// Nothing grows more than a span of which there is only a negative kind: 12 bytes of text, `{"kind":-1},`, are 13.
pub const fn protobuf_len_max(json: usize) -> usize {
    json.saturating_add(json / 12).saturating_add(16)
}

pub(super) type Done = Result<(), Box<Wrong>>;

fn transcode(json: &[u8]) -> Result<Vec<u8>, Box<Wrong>> {
    let tokens = Tokens::new(json)?;
    // All at once: a vector that grows is there twice while it moves, and pages without bytes cost nothing.
    let out = Vec::with_capacity(protobuf_len_max(json.len()));
    let mut transcoder = Transcoder { tokens, out };
    transcoder.message(&TRACES, WireLimits::MAX_DEPTH)?;
    transcoder.tokens.end()?;
    Ok(transcoder.out)
}

/// The text on one side and the protobuf on the other.
#[derive(Debug)]
pub(super) struct Transcoder<'t> {
    pub(super) tokens: Tokens<'t>,
    pub(super) out: Vec<u8>,
}

/// The members of an object so far.
struct Members {
    /// A bit for the index of every field that was given.
    seen: u32,
    /// The index behind that of the last: the next member is likely there.
    next: usize,
    /// Where the fields that were given begin in the output.
    starts: [usize; FIELDS_MAX],
}

impl Members {
    #[inline]
    fn new() -> Self {
        Self { seen: 0, next: 0, starts: [0; FIELDS_MAX] }
    }

    #[inline]
    fn has(&self, index: usize) -> bool {
        self.seen >> index & 1 == 1
    }

    /// Notes the field that was just written from `start` on, and moves it before those of greater numbers.
    #[inline]
    fn put_in_order(&mut self, index: usize, start: usize, out: &mut [u8]) {
        let behind = self.seen >> index;
        self.seen |= 1 << index;
        self.next = index + 1;
        let mut start = start;
        if behind != 0 {
            start = self.move_up(index + behind.trailing_zeros() as usize, start, out);
        }
        if let Some(place) = self.starts.get_mut(index) {
            *place = start;
        }
    }

    /// Moves what begins at `start` before the field `first`, and all the fields from there on behind it.
    fn move_up(&mut self, first: usize, start: usize, out: &mut [u8]) -> usize {
        let length = out.len() - start;
        let to = self.starts.get(first).copied().unwrap_or(start);
        if let Some(moved) = out.get_mut(to..) {
            moved.rotate_right(length);
        }
        // Those that were not given have no place yet, and get one when they are.
        self.starts.iter_mut().skip(first).for_each(|place| *place += length);
        to
    }
}

impl Transcoder<'_> {
    /// Appends the fields of a message. The depth of the calls is that of the schema, plus what
    /// `depth` allows where the schema is recursive.
    fn message(&mut self, message: &'static Message, depth: u32) -> Done {
        if self.tokens.peek() != b'{' {
            return Err(self.tokens.mismatch("an object"));
        }
        let depth = self.enter(message, depth)?;
        self.tokens.eat(b'{');
        if self.tokens.eat(b'}') {
            return Ok(());
        }
        let mut members = Members::new();
        loop {
            let place = self.tokens.at();
            let name = self.tokens.name()?;
            match self.field_named(name, message, members.next) {
                None => self.tokens.skip()?,
                Some(_) if self.tokens.peek() == b'n' => self.tokens.literal("null")?,
                Some((index, field, name)) => {
                    if members.has(index) || message.oneof && members.seen != 0 {
                        return Err(self.repeated(place, message, &members, index, name));
                    }
                    let start = self.out.len();
                    self.field(message, field, depth).map_err(|wrong| wrong.under(Step::Field(name)))?;
                    members.put_in_order(index, start, &mut self.out);
                }
            }
            if !self.tokens.another(b'}')? {
                return Ok(());
            }
        }
    }

    /// How deep a value within this message may nest.
    fn enter(&self, message: &Message, depth: u32) -> Result<u32, Box<Wrong>> {
        depth.checked_sub(u32::from(message.is_any_value())).ok_or_else(|| Wrong::too_deep(self.tokens.at()))
    }

    /// The field under either of its names, and the name that it goes by.
    #[inline]
    fn field_named(
        &mut self,
        name: Quoted<'_>,
        message: &'static Message,
        from: usize,
    ) -> Option<(usize, &'static FieldType, &'static str)> {
        self.unescaped(name, |name| message.find(name, from))
    }

    /// The name at `place` is that of a field which was given, or whose oneof was.
    #[cold]
    fn repeated(
        &mut self,
        place: usize,
        message: &Message,
        members: &Members,
        index: usize,
        name: &'static str,
    ) -> Box<Wrong> {
        self.tokens.back_to(place);
        if members.has(index) {
            return self.tokens.mismatch("given once only").under(Step::Field(name));
        }
        let first =
            message.fields.get(members.seen.trailing_zeros() as usize).map_or(name, |field| field.name);
        self.tokens.mismatch(format!("of one type only: `{first}` or `{name}`"))
    }

    fn field(&mut self, message: &Message, field: &'static FieldType, depth: u32) -> Done {
        if !field.is_list() {
            return self.value(field, message.oneof, depth);
        }
        if self.tokens.peek() != b'[' {
            return Err(self.tokens.mismatch("an array"));
        }
        self.tokens.eat(b'[');
        if self.tokens.eat(b']') {
            return Ok(());
        }
        let mut index = 0;
        loop {
            self.element(field, depth).map_err(|wrong| wrong.under(Step::Index(index)))?;
            index += 1;
            if !self.tokens.another(b']')? {
                return Ok(());
            }
        }
    }

    /// `null` in an array of values is an empty value; in any other array it is nothing.
    #[inline]
    fn element(&mut self, field: &'static FieldType, depth: u32) -> Done {
        if self.tokens.peek() != b'n' {
            return self.value(field, true, depth);
        }
        if let Kind::Message(inner) = field.kind
            && inner.is_any_value()
        {
            self.enter(inner, depth)?;
            put_bytes(&mut self.out, field.number, &[]);
        }
        self.tokens.literal("null")
    }

    /// Appends one value with its key. A default value is written only if `explicit`.
    fn value(&mut self, field: &'static FieldType, explicit: bool, depth: u32) -> Done {
        let number = field.number;
        match field.kind {
            Kind::Message(inner) => {
                let start = open_message(&mut self.out, number);
                self.message(inner, depth)?;
                close_message(&mut self.out, start);
            }
            Kind::Text => self.text(number, explicit)?,
            Kind::Hex => self.hex(number, explicit)?,
            Kind::Base64 => self.base64(number, explicit)?,
            Kind::Bool => {
                let value = self.boolean()?;
                self.put_number(number, explicit, u64::from(value));
            }
            Kind::Uint32 => {
                let value: u32 = self.integer(UINT32)?;
                self.put_number(number, explicit, u64::from(value));
            }
            Kind::Int64 => {
                let value: i64 = self.integer("a 64-bit integer as a decimal string or a number")?;
                self.put_number(number, explicit, value as u64);
            }
            // A negative enum is a varint of ten bytes, like any negative int32.
            Kind::Enum(names) => {
                let value = self.enumeration(names)?;
                self.put_number(number, explicit, i64::from(value) as u64);
            }
            Kind::Fixed32 => {
                let value: u32 = self.integer(UINT32)?;
                self.put_fixed(number, 5, explicit, &value.to_le_bytes());
            }
            Kind::Fixed64 => {
                let value: u64 = self.integer(NANOSECONDS)?;
                self.put_fixed(number, 1, explicit, &value.to_le_bytes());
            }
            Kind::Double => {
                let value = self.double()?;
                self.put_fixed(number, 1, explicit, &value.to_le_bytes());
            }
        }
        Ok(())
    }
}
