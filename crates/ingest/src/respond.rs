//! Answers: partial success, and refusals that clients know how to retry.

use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::admit::Prepared;

/// Why the log could not take a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The write failed; nothing was stored and the client may try again.
    #[error("the log cannot be written: {0}")]
    Log(String),
    /// The process is stopping.
    #[error("the server is shutting down")]
    Stopping,
}

/// The answer to a request that was stored.
pub(crate) fn stored(prepared: &Prepared) -> Bytes {
    if prepared.rejected == 0 {
        // An ExportTraceServiceResponse without fields.
        return Bytes::new();
    }
    let partial_success = Some(ExportTracePartialSuccess {
        rejected_spans: i64::try_from(prepared.rejected).unwrap_or(i64::MAX),
        error_message: prepared.reason.clone().unwrap_or_default(),
    });
    ExportTraceServiceResponse { partial_success }.encode_to_vec().into()
}

/// The answer to a request that came while too much was on the way. OTLP clients retry it only if it says when.
pub(crate) fn overloaded(retry_after: Duration) -> Status {
    let details = ErrorDetails::with_retry_info(Some(retry_after));
    Status::with_error_details(Code::ResourceExhausted, "too much is on its way to the log", details)
}

/// The answer to a request that the log did not take.
pub(crate) fn not_stored(error: &CommitError) -> Status {
    let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
    Status::with_error_details(Code::Unavailable, error.to_string(), details)
}
