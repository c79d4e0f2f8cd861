//! A span as the analysis sees it: ids, times, service, operation, kind and status.

use crate::{NanoDuration, SpanId, UnixNanos};

/// A service (`service.name` of the resource), interned. The number means something only
/// beside the table that it was interned in; never order by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u32);

/// An operation (service, span name and kind), interned. The number means something only
/// beside the table that it was interned in; never order by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u32);

/// OTLP `Span.SpanKind`. The discriminants are OTLP's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum SpanKind {
    /// Not given, or a number outside the enum.
    #[default]
    Unspecified = 0,
    /// Work inside one process.
    Internal = 1,
    /// The receiving side of a synchronous call.
    Server = 2,
    /// The calling side of a synchronous call.
    Client = 3,
    /// The sending side of a message.
    Producer = 4,
    /// The receiving side of a message.
    Consumer = 5,
}

impl SpanKind {
    /// All kinds, in the order of their discriminants.
    pub const ALL: [Self; 6] =
        [Self::Unspecified, Self::Internal, Self::Server, Self::Client, Self::Producer, Self::Consumer];

    /// The kind of a wire value; anything outside the enum is `Unspecified`.
    #[inline]
    pub const fn from_wire(value: u64) -> Self {
        match value {
            1 => Self::Internal,
            2 => Self::Server,
            3 => Self::Client,
            4 => Self::Producer,
            5 => Self::Consumer,
            _ => Self::Unspecified,
        }
    }

    /// The API's word: `server client producer consumer internal unspecified`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Internal => "internal",
            Self::Server => "server",
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }

    /// The kind of an API word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// OTLP `Status.StatusCode`. The discriminants are OTLP's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum StatusCode {
    /// Not given, or a number outside the enum.
    #[default]
    Unset = 0,
    /// The application said that it went well.
    Ok = 1,
    /// The operation failed.
    Error = 2,
}

impl StatusCode {
    /// All codes, in the order of their discriminants.
    pub const ALL: [Self; 3] = [Self::Unset, Self::Ok, Self::Error];

    /// The code of a wire value; anything outside the enum is `Unset`.
    #[inline]
    pub const fn from_wire(value: u64) -> Self {
        match value {
            1 => Self::Ok,
            2 => Self::Error,
            _ => Self::Unset,
        }
    }

    /// The API's word: `ok error unset`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unset => "unset",
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }

    /// The code of an API word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == word)
    }
}

/// One span of a trace, without its payload: what assembly and analysis need to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanNode {
    /// The span's id, unique within the trace unless a client broke that rule.
    pub span_id: SpanId,
    /// The parent's id; `None` for a root.
    pub parent: Option<SpanId>,
    /// When it began.
    pub start: UnixNanos,
    /// When it ended. May lie before `start`: clocks do that.
    pub end: UnixNanos,
    /// xxh3-64 of the span's bytes as the client sent them: tells a repeated span from another one with
    /// the same id, and breaks ties without looking at the order of arrival.
    pub content: u64,
    /// The service that made it.
    pub service: ServiceId,
    /// Service, name and kind.
    pub operation: OperationId,
    /// What side of which call it is.
    pub kind: SpanKind,
    /// How it went.
    pub status: StatusCode,
}

impl SpanNode {
    /// `end - start`, zero where the end lies before the start.
    #[inline]
    pub const fn duration(&self) -> NanoDuration {
        self.end.since(self.start)
    }
}
