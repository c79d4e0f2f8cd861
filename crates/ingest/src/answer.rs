//! The body of an answer, watched while the client reads it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::activity::{InFlight, Unsent};

/// A longer chunk is handed on in pieces, bytes. hyper comes for the next when there is room for it, so a long chunk alone
/// would seem sent as soon as its sending began.
const PIECE: usize = 64 << 10;

pin_project! {
    /// A body of an answer; its request is under way until it is dropped.
    #[derive(Debug)]
    pub(crate) struct Answer<B> {
        #[pin]
        body: B,
        // What is left of the body's last chunk.
        rest: Bytes,
        // While it is hyper's turn.
        unsent: Option<Unsent>,
        in_flight: InFlight,
    }
}

/// A piece waits for the client until it is written, also when the answer is gone: of HTTP/2 it may wait for a window.
struct Piece {
    bytes: Bytes,
    _unsent: Unsent,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<B> Answer<B> {
    pub(crate) fn new(body: B, in_flight: InFlight) -> Self {
        Self { body, rest: Bytes::new(), unsent: Some(in_flight.unsent()), in_flight }
    }
}

impl<B: Body<Data = Bytes>> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        *this.unsent = None;
        if this.rest.is_empty() {
            let Some(frame) = ready!(this.body.poll_frame(cx)?) else { return Poll::Ready(None) };
            match frame.into_data() {
                Ok(data) => *this.rest = data,
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            }
        }
        *this.unsent = Some(this.in_flight.unsent());
        let bytes = this.rest.split_to(PIECE.min(this.rest.len()));
        let piece = Piece { bytes, _unsent: this.in_flight.unsent() };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (body, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;
    use crate::activity::Activity;

    #[tokio::test]
    async fn an_answer_goes_out_in_pieces_and_its_request_is_under_way_to_the_last() {
        let activity = Activity::new();
        let all: Bytes = (0..3 * PIECE + 7).map(|n| n as u8).collect();
        let mut answer = Answer::new(Full::new(all.clone()), activity.begin());
        let mut read = Vec::new();
        while !answer.is_end_stream() {
            assert_eq!(answer.size_hint().exact(), Some((all.len() - read.len()) as u64));
            let piece = answer.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(activity.is_busy() && piece.len() <= PIECE);
            read.extend_from_slice(&piece);
        }
        assert!(read == all);
        drop(answer);
        assert!(!activity.is_busy());
    }

    #[tokio::test]
    async fn an_answer_with_nothing_to_say_at_present_does_not_wait_for_its_client() {
        use std::time::Duration;
        let activity = Activity::new();
        let (mut sender, body) = http_body_util::channel::Channel::<Bytes>::new(1);
        let mut answer = Answer::new(body, activity.begin());
        let waits = || activity.overdue(Duration::MAX, Duration::MAX, Duration::ZERO).is_some();
        assert!(waits(), "hyper has not come for it");
        let next = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut answer).poll_frame(cx).is_ready()));
        assert!(!next.await);
        assert!(!waits());
        sender.send_data(Bytes::from_static(b"a")).await.unwrap();
        answer.frame().await.unwrap().unwrap();
        assert!(waits());
    }
}
