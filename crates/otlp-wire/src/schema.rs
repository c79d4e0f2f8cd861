//! The OTLP trace messages as tables: what JSON needs to know to go either way.

use Kind::{Base64, Bool, Double, Enum, Fixed32, Fixed64, Hex, Int64, Text, Uint32};
use Presence::{Kept, KeptList, List, Plain};

/// A message type.
#[derive(Debug)]
pub(crate) struct Message {
    /// The fields in the order of their numbers.
    pub(crate) fields: &'static [FieldType],
    /// Whether all fields belong to one oneof: at most one is set, and a default value is kept.
    pub(crate) oneof: bool,
}

/// A field of a message type.
#[derive(Debug)]
pub(crate) struct FieldType {
    pub(crate) number: u32,
    /// The name in lowerCamelCase, which OTLP/JSON is written with.
    pub(crate) name: &'static str,
    /// The name in the .proto file, which protobuf's JSON mapping also accepts.
    pub(crate) snake: &'static str,
    pub(crate) kind: Kind,
    pub(crate) presence: Presence,
}

/// How often a field occurs in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Absent when it has its default value.
    Plain,
    /// Written even with its default value.
    Kept,
    /// An array, absent when empty.
    List,
    /// An array, written even when empty.
    KeptList,
}

/// The type of a field's value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Text,
    /// Bytes that OTLP/JSON writes as hex: ids.
    Hex,
    /// Bytes that JSON writes as base64.
    Base64,
    Bool,
    /// `uint32` as a varint.
    Uint32,
    Fixed32,
    Fixed64,
    Int64,
    Double,
    /// An enum, by the names of its numbers from 0 on.
    Enum(&'static [&'static str]),
    Message(&'static Message),
}

impl FieldType {
    pub(crate) fn is_list(&self) -> bool {
        matches!(self.presence, List | KeptList)
    }

    pub(crate) fn is_kept(&self) -> bool {
        matches!(self.presence, Kept | KeptList)
    }
}

/// No message has more fields than this: a span has as many.
pub(crate) const FIELDS_MAX: usize = 16;

impl Message {
    /// The field of either name, with its index and the name it was found by. Looks from index `from` on first,
    /// because fields mostly come in one order.
    #[inline]
    pub(crate) fn find(
        &'static self,
        name: &[u8],
        from: usize,
    ) -> Option<(usize, &'static FieldType, &'static str)> {
        let (before, behind) = self.fields.split_at_checked(from)?;
        let in_order = || (from..).zip(behind).chain((0..).zip(before));
        let camel = in_order().find(|(_, field)| field.name.as_bytes() == name);
        let found = camel.map(|(index, field)| (index, field, field.name));
        found.or_else(|| {
            let snake = in_order().find(|(_, field)| field.snake.as_bytes() == name);
            snake.map(|(index, field)| (index, field, field.snake))
        })
    }

    /// `AnyValue` is the one message that contains itself, so depth is counted there.
    pub(crate) fn is_any_value(&self) -> bool {
        self.oneof
    }
}

const fn field(
    number: u32,
    name: &'static str,
    snake: &'static str,
    kind: Kind,
    presence: Presence,
) -> FieldType {
    FieldType { number, name, snake, kind, presence }
}

/// `TracesData`, and `ExportTraceServiceRequest` too: they are the same on the wire and in JSON.
pub(crate) static TRACES: Message = Message {
    fields: &[field(1, "resourceSpans", "resource_spans", Kind::Message(&RESOURCE_SPANS), KeptList)],
    oneof: false,
};

static RESOURCE_SPANS: Message = Message {
    fields: &[
        field(1, "resource", "resource", Kind::Message(&RESOURCE), Plain),
        field(2, "scopeSpans", "scope_spans", Kind::Message(&SCOPE_SPANS), List),
        field(3, "schemaUrl", "schema_url", Text, Plain),
    ],
    oneof: false,
};

static RESOURCE: Message = Message {
    fields: &[
        field(1, "attributes", "attributes", Kind::Message(&KEY_VALUE), List),
        field(2, "droppedAttributesCount", "dropped_attributes_count", Uint32, Plain),
        field(3, "entityRefs", "entity_refs", Kind::Message(&ENTITY_REF), List),
    ],
    oneof: false,
};

static ENTITY_REF: Message = Message {
    fields: &[
        field(1, "schemaUrl", "schema_url", Text, Plain),
        field(2, "type", "type", Text, Plain),
        field(3, "idKeys", "id_keys", Text, List),
        field(4, "descriptionKeys", "description_keys", Text, List),
    ],
    oneof: false,
};

static SCOPE_SPANS: Message = Message {
    fields: &[
        field(1, "scope", "scope", Kind::Message(&SCOPE), Plain),
        field(2, "spans", "spans", Kind::Message(&SPAN), List),
        field(3, "schemaUrl", "schema_url", Text, Plain),
    ],
    oneof: false,
};

static SCOPE: Message = Message {
    fields: &[
        field(1, "name", "name", Text, Plain),
        field(2, "version", "version", Text, Plain),
        field(3, "attributes", "attributes", Kind::Message(&KEY_VALUE), List),
        field(4, "droppedAttributesCount", "dropped_attributes_count", Uint32, Plain),
    ],
    oneof: false,
};

static SPAN: Message = Message {
    fields: &[
        field(1, "traceId", "trace_id", Hex, Plain),
        field(2, "spanId", "span_id", Hex, Plain),
        field(3, "traceState", "trace_state", Text, Plain),
        field(4, "parentSpanId", "parent_span_id", Hex, Plain),
        field(5, "name", "name", Text, Plain),
        field(6, "kind", "kind", Enum(SPAN_KINDS), Kept),
        field(7, "startTimeUnixNano", "start_time_unix_nano", Fixed64, Plain),
        field(8, "endTimeUnixNano", "end_time_unix_nano", Fixed64, Plain),
        field(9, "attributes", "attributes", Kind::Message(&KEY_VALUE), List),
        field(10, "droppedAttributesCount", "dropped_attributes_count", Uint32, Plain),
        field(11, "events", "events", Kind::Message(&EVENT), List),
        field(12, "droppedEventsCount", "dropped_events_count", Uint32, Plain),
        field(13, "links", "links", Kind::Message(&LINK), List),
        field(14, "droppedLinksCount", "dropped_links_count", Uint32, Plain),
        field(15, "status", "status", Kind::Message(&STATUS), Plain),
        field(16, "flags", "flags", Fixed32, Plain),
    ],
    oneof: false,
};

static EVENT: Message = Message {
    fields: &[
        field(1, "timeUnixNano", "time_unix_nano", Fixed64, Plain),
        field(2, "name", "name", Text, Plain),
        field(3, "attributes", "attributes", Kind::Message(&KEY_VALUE), List),
        field(4, "droppedAttributesCount", "dropped_attributes_count", Uint32, Plain),
    ],
    oneof: false,
};

static LINK: Message = Message {
    fields: &[
        field(1, "traceId", "trace_id", Hex, Plain),
        field(2, "spanId", "span_id", Hex, Plain),
        field(3, "traceState", "trace_state", Text, Plain),
        field(4, "attributes", "attributes", Kind::Message(&KEY_VALUE), List),
        field(5, "droppedAttributesCount", "dropped_attributes_count", Uint32, Plain),
        field(6, "flags", "flags", Fixed32, Plain),
    ],
    oneof: false,
};

static STATUS: Message = Message {
    fields: &[
        field(2, "message", "message", Text, Plain),
        field(3, "code", "code", Enum(STATUS_CODES), Plain),
    ],
    oneof: false,
};

/// Key and values are kept: readers commonly take an attribute without key, or an array without
/// values, for an error.
static KEY_VALUE: Message = Message {
    fields: &[
        field(1, "key", "key", Text, Kept),
        field(2, "value", "value", Kind::Message(&ANY_VALUE), Plain),
    ],
    oneof: false,
};

static ANY_VALUE: Message = Message {
    fields: &[
        field(1, "stringValue", "string_value", Text, Plain),
        field(2, "boolValue", "bool_value", Bool, Plain),
        field(3, "intValue", "int_value", Int64, Plain),
        field(4, "doubleValue", "double_value", Double, Plain),
        field(5, "arrayValue", "array_value", Kind::Message(&ARRAY), Plain),
        field(6, "kvlistValue", "kvlist_value", Kind::Message(&KEY_VALUES), Plain),
        field(7, "bytesValue", "bytes_value", Base64, Plain),
    ],
    oneof: true,
};

static ARRAY: Message =
    Message { fields: &[field(1, "values", "values", Kind::Message(&ANY_VALUE), KeptList)], oneof: false };

static KEY_VALUES: Message =
    Message { fields: &[field(1, "values", "values", Kind::Message(&KEY_VALUE), KeptList)], oneof: false };

static SPAN_KINDS: &[&str] = &[
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];

static STATUS_CODES: &[&str] = &["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];
