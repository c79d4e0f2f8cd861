//! A streamed answer that ends when the server stops: a health watch would keep its connection open for ever.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::HeaderMap;
use http_body::{Body, Frame};
use pin_project_lite::pin_project;
use tokio::sync::watch;
use tonic::Status;

pin_project! {
    /// What the body says until the server stops; then what it still has to say, and UNAVAILABLE.
    pub(crate) struct Ending<B> {
        #[pin]
        body: B,
        stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
        has_ended: bool,
    }
}

impl<B> Ending<B> {
    pub(crate) fn new(body: B, mut stopped: watch::Receiver<bool>) -> Self {
        let stopped = Box::pin(async move {
            // An error means that the server is gone, which is a stop as well.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        });
        Self { body, stopped, has_ended: false }
    }
}

impl<B: Body> Body for Ending<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        if *this.has_ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = this.body.poll_frame(cx) {
            return Poll::Ready(frame);
        }
        if this.stopped.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        *this.has_ended = true;
        let mut trailers = HeaderMap::new();
        // Fails only for a message that is no header value.
        let _ = Status::unavailable("the server is shutting down").add_header(&mut trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    /// An answer of headers alone must end with them: to some clients of gRPC an empty frame of data after them is an error.
    fn is_end_stream(&self) -> bool {
        self.has_ended || self.body.is_end_stream()
    }
}
