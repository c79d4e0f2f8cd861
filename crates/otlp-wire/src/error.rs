//! What can be wrong with a request, and the limits it is held to.

/// Limits of [`walk`](crate::walk) that the wire format does not set itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireLimits {
    /// How deep an `AnyValue` may nest; a plain attribute value has depth 1.
    /// Values over [`WireLimits::MAX_DEPTH`] mean `MAX_DEPTH`.
    pub depth: u32,
    /// How many spans a request may hold, counting those rejected one by one; and how many `ScopeSpans`, counting
    /// those without spans, of which a few bytes make one.
    pub spans: u32,
    /// How many attributes a span may have, those of its events and links apart. One that has more is
    /// rejected alone.
    pub span_attributes: u32,
    /// How many bytes a span's message may have. A longer one is rejected alone.
    pub span_bytes: u32,
    /// How many bytes a span's resource and scope may have together. Spans with more are rejected.
    pub context_bytes: u32,
    /// How many bytes the resources and scopes of a request may have, a resource counted once for each of its scopes
    /// that has spans: what they take when each is kept with its resource.
    pub contexts_bytes: u32,
}

impl WireLimits {
    /// No limit lets `AnyValue` nest deeper than this, so that the stack needed stays small.
    pub const MAX_DEPTH: u32 = 32;

    /// Only what the wire format and the stack demand: for bytes that were accepted before, whatever the limits
    /// were then.
    pub const STORED: Self = Self {
        depth: Self::MAX_DEPTH,
        spans: u32::MAX,
        span_attributes: u32::MAX,
        span_bytes: u32::MAX,
        context_bytes: u32::MAX,
        // So that each can be told by 32 bits where it begins among them.
        contexts_bytes: u32::MAX / 2,
    };

    /// The depth in force.
    #[inline]
    pub(crate) const fn depth(&self) -> u32 {
        if self.depth < Self::MAX_DEPTH { self.depth } else { Self::MAX_DEPTH }
    }
}

impl Default for WireLimits {
    /// 32 levels, a million spans, a thousand attributes, 4 MiB and a context of 64 KiB a span, contexts of 64 MiB.
    fn default() -> Self {
        Self {
            depth: Self::MAX_DEPTH,
            spans: 1_000_000,
            span_attributes: 1_000,
            span_bytes: 4 << 20,
            context_bytes: 64 << 10,
            contexts_bytes: 64 << 20,
        }
    }
}

/// Why a message was refused as a whole, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed OTLP at byte {offset}: {fault}")]
pub struct WireError {
    /// The offset in bytes from the start of the message given.
    pub offset: u64,
    /// What is wrong there.
    pub fault: WireFault,
}

/// What is wrong at the offset of a [`WireError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireFault {
    /// A varint of more than ten bytes, or one that does not fit 64 bits.
    #[error("the varint does not fit 64 bits")]
    VarintTooLong,
    /// The enclosing message ends inside a varint.
    #[error("the message ends inside a varint")]
    VarintTruncated,
    /// Field number 0.
    #[error("field number 0 is not allowed")]
    FieldZero,
    /// A field number over 2^29 - 1.
    #[error("the field number is over 536870911")]
    FieldTooLarge,
    /// A length that reaches past the end of the enclosing message.
    #[error("a length of {length} bytes reaches past the end of its message, {left} bytes away")]
    LengthPastParent {
        /// The length that the field announces, in bytes.
        length: u64,
        /// How many bytes the enclosing message has left.
        left: u32,
    },
    /// Wire type 3 or 4.
    #[error("groups (wire types 3 and 4) are not supported")]
    Group,
    /// Wire type 6 or 7.
    #[error("wire type {0} does not exist")]
    WireType(u8),
    /// The enclosing message ends inside a fixed32.
    #[error("the message ends inside a fixed32")]
    Fixed32Truncated,
    /// The enclosing message ends inside a fixed64.
    #[error("the message ends inside a fixed64")]
    Fixed64Truncated,
    /// `AnyValue` nests deeper than the limit.
    #[error("attribute values nest deeper than {limit}")]
    TooDeep {
        /// The depth that is allowed.
        limit: u32,
    },
    /// More spans than the limit.
    #[error("more than {limit} spans in one request")]
    TooManySpans {
        /// How many are allowed.
        limit: u32,
    },
    /// More `ScopeSpans` than the limit, those without spans counted as well.
    #[error("more than {limit} ScopeSpans in one request")]
    TooManyScopes {
        /// How many are allowed.
        limit: u32,
    },
    /// Resources and scopes of more bytes than the limit, a resource counted once for each of its scopes.
    #[error(
        "the resources and scopes of one request have more than {limit} bytes, each resource counted once a scope"
    )]
    TooMuchContext {
        /// How many bytes are allowed.
        limit: u32,
    },
    /// More bytes than 32-bit offsets can address.
    #[error("the message has {length} bytes, more than {} can be addressed", u32::MAX)]
    TooLarge {
        /// Its length in bytes.
        length: u64,
    },
    /// A span that was asked for alone has bad ids. (Within a request, such a span is rejected
    /// alone and is no `WireError`.)
    #[error(transparent)]
    Span(SpanFault),
}

/// Why one span was rejected while the rest of its request is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SpanFault {
    /// `trace_id` has another length than 16 bytes; an absent one has 0.
    #[error("trace_id must be 16 bytes, got {0}")]
    TraceIdLength(u32),
    /// `trace_id` is all zeros.
    #[error("trace_id must not be all zeros")]
    TraceIdZero,
    /// `span_id` has another length than 8 bytes; an absent one has 0.
    #[error("span_id must be 8 bytes, got {0}")]
    SpanIdLength(u32),
    /// `span_id` is all zeros.
    #[error("span_id must not be all zeros")]
    SpanIdZero,
    /// `parent_span_id` is neither absent nor 8 bytes long.
    #[error("parent_span_id must be 8 bytes or absent, got {0} bytes")]
    ParentLength(u32),
    /// More attributes than the limit.
    #[error("a span may have {limit} attributes, got {count}")]
    TooManyAttributes {
        /// How many it has.
        count: u32,
        /// How many are allowed.
        limit: u32,
    },
    /// A longer message than the limit.
    #[error("a span may have {limit} bytes, got {length}")]
    TooLong {
        /// Its length in bytes.
        length: u32,
        /// How many are allowed.
        limit: u32,
    },
    /// A longer resource and scope than the limit.
    #[error("a span's resource and scope may have {limit} bytes, got {length}")]
    ContextTooLong {
        /// Their length in bytes.
        length: u32,
        /// How many are allowed.
        limit: u32,
    },
}

impl WireError {
    /// Errors are made off the hot path, so the check that finds them stays a compare and a jump.
    #[cold]
    #[inline(never)]
    pub(crate) fn at(offset: usize, fault: WireFault) -> Self {
        Self { offset: offset as u64, fault }
    }
}
