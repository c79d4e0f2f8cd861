//! Writing answers.

use std::io;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use query::TracePage;
use serde::Serialize;

use crate::ApiError;

/// The media type of JSON.
pub(crate) const JSON: &str = "application/json";
/// The media type of OTLP protobuf.
pub(crate) const PROTOBUF: &str = "application/x-protobuf";

/// Bytes of an answer as JSON at most: eight times those of a page of a trace. Usual spans take three times their protobuf,
/// and six times indented; made for it, they take a hundred times that.
const JSON_BYTES_MAX: usize = 8 * TracePage::BYTES_MAX;

/// `value` as JSON, indented if asked for.
pub(crate) fn json<T: Serialize>(value: &T, pretty: bool) -> Result<Response, ApiError> {
    let body = written(value, pretty, JSON_BYTES_MAX)?;
    Ok(([(header::CONTENT_TYPE, JSON)], body).into_response())
}

fn written<T: Serialize>(value: &T, pretty: bool, most: usize) -> Result<Vec<u8>, ApiError> {
    let mut bounded = Bounded { body: Vec::with_capacity(128), most };
    let done = if pretty {
        let done = serde_json::to_writer_pretty(&mut bounded, value);
        bounded.body.push(b'\n');
        done
    } else {
        serde_json::to_writer(&mut bounded, value)
    };
    match done {
        Ok(()) => Ok(bounded.body),
        // Writing fails for the bound alone.
        Err(error) if error.is_io() => Err(ApiError::answer_too_large(most)),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written");
            Err(ApiError::internal("internal", "the answer could not be written"))
        }
    }
}

/// A body that takes so many bytes and no more.
struct Bounded {
    body: Vec<u8>,
    most: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.most.saturating_sub(self.body.len()) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.body.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// OTLP protobuf bytes.
pub(crate) fn protobuf(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, PROTOBUF)], body).into_response()
}

#[cfg(test)]
mod tests {
    use otlp_wire::TracesJson;

    use super::*;

    /// `TracesData` of one span with so many empty attributes, two bytes each.
    fn empty_attributes(count: u8) -> Vec<u8> {
        let span: Vec<u8> = (0..count).flat_map(|_| [9 << 3 | 2, 0]).collect();
        [2, 2, 1].into_iter().fold(span, |inner, field| {
            let length = inner.len();
            let mut message = vec![field << 3 | 2];
            if length >= 128 {
                message.push((length & 127) as u8 | 128);
                message.push((length >> 7) as u8);
            } else {
                message.push(length as u8);
            }
            message.extend(inner);
            message
        })
    }

    #[test]
    fn json_that_grows_beyond_the_bound_is_refused_and_said_how_to_ask_instead() {
        let spans = empty_attributes(200);
        for pretty in [false, true] {
            let whole = written(&TracesJson(&spans), pretty, usize::MAX).unwrap();
            assert!(whole.len() > 5 * spans.len(), "{}", whole.len());
            let length = whole.len() - usize::from(pretty);
            assert_eq!(written(&TracesJson(&spans), pretty, length), Ok(whole));
            let error = written(&TracesJson(&spans), pretty, length - 1).unwrap_err();
            assert_eq!((error.status().as_u16(), error.code()), (400, "answer_too_large"));
            for way_out in ["limit", "pretty", "application/x-protobuf"] {
                assert!(error.message().contains(way_out), "{}", error.message());
            }
        }
    }

    #[test]
    fn what_cannot_be_written_is_a_fault_of_the_server() {
        let error = written(&TracesJson(&[0xff]), false, usize::MAX).unwrap_err();
        assert_eq!(error.status().as_u16(), 500);
    }
}
