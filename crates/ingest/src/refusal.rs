//! Why a request is refused, and what each reason means to gRPC, to HTTP, and to the counters.

use std::time::Duration;

use http::StatusCode;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::counters::IngestCounter;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The server is stopping.
    Draining,
    /// Nothing can be stored at the moment.
    CannotStore,
    /// Too much is on the way.
    Overloaded,
    /// The connection is one too many.
    TooManyConnections,
    /// The log did not take it.
    NotCommitted,
    /// The body came too slowly.
    TooSlow,
    /// The client went away.
    HungUp,
    /// Over `ingest.wire_bytes`.
    WireBytes,
    /// Over `ingest.request_bytes`.
    RequestBytes,
    /// Over `ingest.json_bytes`.
    JsonBytes,
    /// Over `ingest.request_spans`.
    Spans,
    /// Over `ingest.value_depth`.
    Depth,
    /// Not OTLP.
    Unreadable,
    /// A compression that is not known.
    UnknownEncoding,
    /// Compressed wrongly.
    BrokenEncoding,
    /// Neither protobuf nor JSON.
    ContentType,
    /// No such path.
    Path,
    /// No such method.
    Method,
}

impl Reason {
    pub(crate) const fn counter(self) -> IngestCounter {
        match self {
            Self::Draining => IngestCounter::DrainingRequests,
            Self::CannotStore => IngestCounter::RefusedRequests,
            Self::Overloaded => IngestCounter::OverloadedRequests,
            Self::TooManyConnections => IngestCounter::OverConnectionsRequests,
            Self::NotCommitted => IngestCounter::FailedRequests,
            Self::TooSlow => IngestCounter::SlowRequests,
            Self::HungUp => IngestCounter::AbandonedRequests,
            Self::WireBytes => IngestCounter::WireBytesRequests,
            Self::RequestBytes => IngestCounter::RequestBytesRequests,
            Self::JsonBytes => IngestCounter::JsonBytesRequests,
            Self::Spans => IngestCounter::SpansRequests,
            Self::Depth => IngestCounter::DepthRequests,
            Self::Unreadable => IngestCounter::UnreadableRequests,
            Self::UnknownEncoding => IngestCounter::EncodingRequests,
            Self::BrokenEncoding => IngestCounter::InflateRequests,
            Self::ContentType => IngestCounter::ContentTypeRequests,
            Self::Path | Self::Method => IngestCounter::MisdirectedRequests,
        }
    }

    /// Clients send again what is UNAVAILABLE, and RESOURCE_EXHAUSTED if told when. So what will never be taken is
    /// INVALID_ARGUMENT, also where another code would describe it better: some SDKs retry OUT_OF_RANGE.
    const fn code(self) -> Code {
        match self {
            Self::Draining
            | Self::CannotStore
            | Self::TooManyConnections
            | Self::NotCommitted
            | Self::TooSlow => Code::Unavailable,
            Self::Overloaded => Code::ResourceExhausted,
            Self::HungUp => Code::Cancelled,
            Self::UnknownEncoding | Self::ContentType | Self::Path | Self::Method => Code::Unimplemented,
            _ => Code::InvalidArgument,
        }
    }

    pub(crate) const fn http(self) -> StatusCode {
        match self {
            Self::Draining
            | Self::CannotStore
            | Self::TooManyConnections
            | Self::NotCommitted
            // Not 408, which OTLP clients do not retry.
            | Self::TooSlow => StatusCode::SERVICE_UNAVAILABLE,
            Self::Overloaded => StatusCode::TOO_MANY_REQUESTS,
            Self::WireBytes | Self::RequestBytes | Self::JsonBytes | Self::Spans => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnknownEncoding | Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Path => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::HungUp | Self::Depth | Self::Unreadable | Self::BrokenEncoding => StatusCode::BAD_REQUEST,
        }
    }
}

/// A refusal: the reason, in words, and when to try again if that makes sense.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
}

impl Refused {
    /// For good: the same request will never be taken.
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), retry_after: None }
    }

    /// For now.
    pub(crate) fn until(reason: Reason, message: impl Into<String>, retry_after: Duration) -> Self {
        Self { reason, message: message.into(), retry_after: Some(retry_after) }
    }

    /// As gRPC has it, with `RetryInfo` if it is for now.
    pub(crate) fn status(&self) -> Status {
        let code = self.reason.code();
        match self.retry_after {
            None => Status::new(code, &self.message),
            wait => Status::with_error_details(code, &self.message, ErrorDetails::with_retry_info(wait)),
        }
    }
}
