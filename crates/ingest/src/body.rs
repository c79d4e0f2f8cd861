//! Receiving bodies: bounded in bytes and in time, and let go of politely.

use std::pin::pin;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;

use crate::budget::Budget;
use crate::digest::overloaded;
use crate::drain::jittered;
use crate::received::Received;
use crate::refusal::{Reason, Refused};

/// How long the rest of a refused request is read and thrown away, so that the client gets to read the answer: one
/// that writes into a closed connection often sees only that.
const LINGER: Duration = Duration::from_secs(8);
/// How much of it, in requests of the greatest length: no client is so far over the limit by a little mistake.
const LINGER_REQUESTS: usize = 8;

/// What clients are told to wait whose body was too slow.
const WAIT_TOO_SLOW: Duration = Duration::from_secs(1);

/// What a body is held to while it comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    /// Bytes.
    pub(crate) bytes: usize,
    /// From the first look at the body to its end.
    pub(crate) time: Duration,
}

/// Reads a body chunk by chunk. It can be handed on while data is left in it.
#[derive(Debug)]
pub(crate) struct Chunks<B>(Option<B>);

impl<B> Chunks<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::fmt::Display,
{
    pub(crate) fn new(body: B) -> Self {
        Self(Some(body))
    }

    /// The next chunk of data, `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Refused> {
        let Some(body) = &mut self.0 else { return Ok(None) };
        loop {
            match body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => {
                    self.0 = None;
                    return Err(Refused::new(Reason::HungUp, format!("the request ended early: {error}")));
                }
            }
        }
    }

    /// Reads all of it into `received`, after the chunk that is there already.
    pub(crate) async fn collect(
        &mut self,
        mut chunk: Bytes,
        received: &mut Received,
        limits: BodyLimits,
        budget: &Budget,
    ) -> Result<(), Refused> {
        loop {
            if received.len() + chunk.len() > limits.bytes {
                return Err(too_long(limits.bytes));
            }
            if !received.push(chunk) {
                return Err(overloaded(budget));
            }
            match self.next().await? {
                Some(next) => chunk = next,
                None => return Ok(()),
            }
        }
    }

    /// All of a body that has no more than so many bytes. They are charged to nobody, so it must be few.
    pub(crate) async fn short(&mut self, most: usize) -> Result<Bytes, Refused> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.next().await? {
            if all.len() + chunk.len() > most {
                return Err(Refused::new(Reason::Unreadable, format!("the call has more than {most} bytes")));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// Reads until `n` bytes are there and hands out these and what came with them.
    pub(crate) async fn head<const N: usize>(&mut self) -> Result<Option<([u8; N], Bytes)>, Refused> {
        let mut head = [0; N];
        let mut have = 0;
        while let Some(mut chunk) = self.next().await? {
            let n = chunk.len().min(N - have);
            if let Some(room) = head.get_mut(have..have + n) {
                chunk.copy_to_slice(room);
            }
            have += n;
            if have == N {
                return Ok(Some((head, chunk)));
            }
        }
        if have == 0 {
            return Ok(None);
        }
        Err(Refused::new(
            Reason::Unreadable,
            format!("the request ends after {have} of {N} bytes of a frame's head"),
        ))
    }

    /// Reads on for a while, so that the client, which still sends, comes to read its answer.
    pub(crate) fn linger(mut self, limits: BodyLimits) {
        if self.0.as_ref().is_none_or(Body::is_end_stream) {
            return;
        }
        tokio::spawn(async move {
            let bytes = limits.bytes.saturating_mul(LINGER_REQUESTS);
            let limits = BodyLimits { bytes, time: LINGER.min(limits.time) };
            self.discard(limits).await;
        });
    }

    /// Reads and throws away up to the limits.
    pub(crate) async fn discard(&mut self, limits: BodyLimits) {
        let reading = pin!(async {
            let mut left = limits.bytes;
            while let Ok(Some(chunk)) = self.next().await {
                match left.checked_sub(chunk.len()) {
                    Some(rest) => left = rest,
                    None => return,
                }
            }
        });
        // At the end of its time the body is dropped, and the connection deals with the rest.
        let _ = tokio::time::timeout(limits.time, reading).await;
    }
}

/// Runs a reception against the clock.
pub(crate) async fn in_time<T>(
    time: Duration,
    reception: impl Future<Output = Result<T, Refused>>,
) -> Result<T, Refused> {
    tokio::time::timeout(time, reception).await.unwrap_or_else(|_| {
        let message = format!("the request's body took longer than {time:?} (ingest.body_timeout)");
        Err(Refused::until(Reason::TooSlow, message, jittered(WAIT_TOO_SLOW)))
    })
}

/// The refusal of a request over `ingest.wire_bytes`.
pub(crate) fn too_long(limit: usize) -> Refused {
    let message = format!("the request has more than {limit} bytes on the wire (ingest.wire_bytes)");
    Refused::new(Reason::WireBytes, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slow_clients_do_not_all_come_back_at_once() {
        let mut waits = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let never = std::future::pending::<Result<(), Refused>>();
            let refused = in_time(Duration::ZERO, never).await.unwrap_err();
            assert_eq!(refused.reason, Reason::TooSlow);
            waits.extend(refused.retry_after);
        }
        assert!(waits.len() > 1, "{waits:?}");
        assert!(waits.iter().all(|wait| (800..=1_200).contains(&wait.as_millis())), "{waits:?}");
    }
}
