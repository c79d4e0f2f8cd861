//! The body of a request, watched while it is read.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::activity::Coming;

/// A body of a request. While it is there, bytes that come on its connection are taken for its own: the rest of a refused
/// request is read after the answer.
#[derive(Debug)]
pub struct RequestBody {
    body: Incoming,
    _coming: Coming,
}

impl RequestBody {
    pub(crate) fn new(body: Incoming, coming: Coming) -> Self {
        Self { body, _coming: coming }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
