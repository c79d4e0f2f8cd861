//! A connection to an OTLP/gRPC server by its address.

use std::time::Duration;

use anyhow::{Context, Result};
use tonic::Code;
use tonic::transport::Endpoint;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// A channel to `host:port`, `http://host:port` or `unix:/path` that connects when first used.
pub(crate) fn channel(address: &str) -> Result<Endpoint> {
    let is_whole = address.contains("://") || address.starts_with("unix:");
    let uri = if is_whole { address.to_owned() } else { format!("http://{address}") };
    // Not that of `Channel`, which knows no sockets.
    let endpoint = Endpoint::from_shared(uri).with_context(|| {
        format!("`{address}` is not an OTLP/gRPC address: expected host:port, such as 127.0.0.1:4317, or unix:/path")
    })?;
    Ok(endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(REQUEST_TIMEOUT).tcp_nodelay(true))
}

/// Whether the same request may be taken when it is sent again. (A broken connection is
/// `Unknown` or `Cancelled` to tonic.)
pub(crate) const fn is_worth_a_retry(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Cancelled
            | Code::Unknown
    )
}
