//! Answers that wait for their clients: how many bytes of them there may be at a time.
//!
//! A client that asks and does not read has its answer kept until its connection is given up. Without a bound it could ask
//! for any number of large ones meanwhile.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::ApiError;
use crate::state::PATIENCE;

/// Answers below this many bytes are not counted: connections and their streams bound how many of them there are.
const COUNTED: usize = 16 << 10;
/// Answers from this many bytes on have room of their own, so that a slow client of one holds up no others than such.
const LARGE: usize = 1 << 20;
/// Room is counted in units of so many bytes.
const UNIT: usize = 1 << 10;

/// Room for answers that are not read yet. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Unread {
    units: usize,
    large: Arc<Semaphore>,
    others: Arc<Semaphore>,
}

impl Unread {
    /// Room for so many bytes of large answers, and for as many of others.
    pub(crate) fn new(bytes: usize) -> Self {
        let units = bytes / UNIT;
        Self { units, large: Arc::new(Semaphore::new(units)), others: Arc::new(Semaphore::new(units)) }
    }

    /// The same answer, which takes room until the last of its bytes has gone. The largest take half of it, whatever they
    /// are: so two wait for their clients at a time, and one slow client holds up no others.
    ///
    /// # Errors
    /// If there is no room for long.
    pub(crate) async fn hold(&self, answer: Response) -> Result<Response, ApiError> {
        let bytes = usize::try_from(answer.body().size_hint().lower()).unwrap_or(usize::MAX);
        if bytes < COUNTED {
            return Ok(answer);
        }
        let room = if bytes < LARGE { &self.others } else { &self.large };
        let units = u32::try_from(bytes.div_ceil(UNIT).min(self.units / 2)).unwrap_or(u32::MAX);
        let room = tokio::time::timeout(PATIENCE, Arc::clone(room).acquire_many_owned(units)).await;
        let Ok(Ok(room)) = room else { return Err(ApiError::too_much_unread()) };
        Ok(answer.map(|body| Body::new(Held { body, room: Arc::new(room) })))
    }
}

/// A body that takes room.
struct Held {
    body: Body,
    room: Arc<OwnedSemaphorePermit>,
}

/// Bytes that take room: what is written holds on to them when the body has gone.
struct HeldBytes {
    bytes: Bytes,
    _room: Arc<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let held = |bytes| Bytes::from_owner(HeldBytes { bytes, _room: Arc::clone(&self.room) });
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(held))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn answer(bytes: usize) -> Response {
        Response::new(Body::from(vec![7; bytes]))
    }

    #[tokio::test]
    async fn an_answer_takes_room_until_its_last_byte_has_gone() {
        let unread = Unread::new(4 * LARGE);
        let room = || unread.large.available_permits() * UNIT;
        let held = unread.hold(answer(LARGE + 1)).await.unwrap();
        assert_eq!(held.body().size_hint().exact(), Some(LARGE as u64 + 1));
        assert_eq!(room(), 3 * LARGE - UNIT);
        let mut bytes = held.into_body().collect().await.unwrap().to_bytes();
        let last = bytes.split_off(LARGE);
        drop(bytes);
        assert_eq!((&last[..], room()), (&[7][..], 3 * LARGE - UNIT));
        drop(last);
        assert_eq!(room(), 4 * LARGE);
    }

    #[tokio::test]
    async fn without_room_an_answer_is_turned_away_and_smaller_ones_are_not() {
        let unread = Unread::new(2 * LARGE);
        let giant = unread.hold(answer(9 * LARGE)).await.unwrap();
        assert_eq!(unread.large.available_permits() * UNIT, LARGE);
        let giant = (giant, unread.hold(answer(9 * LARGE)).await.unwrap());
        assert_eq!(unread.large.available_permits(), 0);
        assert!(unread.hold(answer(LARGE)).await.is_err());
        let smaller = unread.hold(answer(COUNTED)).await.unwrap();
        assert_eq!(unread.others.available_permits() * UNIT, 2 * LARGE - COUNTED);
        assert!(unread.hold(answer(COUNTED - 1)).await.is_ok());
        drop((giant, smaller));
        assert!(unread.hold(answer(LARGE)).await.is_ok());
        assert_eq!(unread.large.available_permits() * UNIT, 2 * LARGE);
        assert_eq!(unread.others.available_permits() * UNIT, 2 * LARGE);
    }
}
