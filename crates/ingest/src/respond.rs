//! What clients are told: stored, or how a commit failed.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message;

use crate::admit::Prepared;
use crate::refusal::Reason;

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

impl CommitError {
    /// The same as a reason to refuse.
    pub(crate) const fn reason(&self) -> Reason {
        match self {
            Self::Log(_) => Reason::NotCommitted,
            Self::Stopping => Reason::Draining,
        }
    }
}

/// What became of the spans of a request that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Spans that were left out.
    pub(crate) rejected: u64,
    /// Why, in words; empty if none was.
    pub(crate) reason: String,
}

impl Taken {
    pub(crate) fn of(prepared: &mut Prepared) -> Self {
        Self { rejected: prepared.rejected, reason: prepared.reason.take().unwrap_or_default() }
    }

    /// As an `ExportTraceServiceResponse`.
    pub(crate) fn to_protobuf(&self) -> Bytes {
        if self.rejected == 0 {
            // One without fields.
            return Bytes::new();
        }
        let partial_success = Some(ExportTracePartialSuccess {
            rejected_spans: i64::try_from(self.rejected).unwrap_or(i64::MAX),
            error_message: self.reason.clone(),
        });
        ExportTraceServiceResponse { partial_success }.encode_to_vec().into()
    }

    /// The same as OTLP/JSON.
    pub(crate) fn to_json(&self) -> String {
        if self.rejected == 0 {
            return "{}".to_owned();
        }
        serde_json::json!({"partialSuccess": {
            "rejectedSpans": self.rejected.to_string(),
            "errorMessage": self.reason,
        }})
        .to_string()
    }
}
