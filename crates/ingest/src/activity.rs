//! What a connection is doing: the watch over clients that connect and then do nothing, or little.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::counters::{IngestCounter, IngestCounters};
use crate::refused_streams::OutgoingFrames;

/// What a client of HTTP/2 begins with.
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is known of one connection. Times are milliseconds since it was accepted.
#[derive(Debug)]
pub(crate) struct Activity {
    accepted: Instant,
    requests: AtomicU32,
    in_flight: AtomicU32,
    idle_since: AtomicU64,
    /// When the first bytes of a request came whose headers are not there yet, and one; 0 if there are none.
    head_since: AtomicU64,
    is_h2: AtomicBool,
}

/// Why a connection should end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// Headers are not there in time.
    Head,
    /// No request for long.
    Idle,
}

impl Activity {
    /// Of a connection that was just accepted. Its first request is waited for from now on.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            accepted: Instant::now(),
            requests: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(1),
            is_h2: AtomicBool::new(false),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.accepted.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// While a request is under way they are taken for its body's. So the beginning of a next head which comes that early, and
    /// then nothing, is held to the time of an idle connection: whoever sends no byte at all has as long.
    fn bytes_came(&self) {
        if !self.is_busy() && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.now() + 1, Ordering::Relaxed);
        }
    }

    /// A request's headers are there; it is under way until what is returned is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        self.head_since.store(0, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Whether a request is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) > 0
    }

    /// Whether a request has come and all that came have been answered.
    pub(crate) fn has_answered(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0 && !self.is_busy()
    }

    /// Whether it should end. Frames of HTTP/2 may come without a request, so there only idleness counts.
    pub(crate) fn overdue(&self, head: Duration, idle: Duration) -> Option<Overdue> {
        if self.is_busy() {
            return None;
        }
        let now = self.now();
        let since = |then: u64| Duration::from_millis(now.saturating_sub(then));
        let head_since = self.head_since.load(Ordering::Relaxed);
        if !self.is_h2.load(Ordering::Relaxed) && head_since > 0 && since(head_since - 1) >= head {
            return Some(Overdue::Head);
        }
        (since(self.idle_since.load(Ordering::Relaxed)) >= idle).then_some(Overdue::Idle)
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

pin_project! {
    /// A stream that notes when bytes come, and what goes out that only HTTP/2 itself knows of.
    #[derive(Debug)]
    pub(crate) struct Watched<S> {
        #[pin]
        stream: S,
        activity: Arc<Activity>,
        counters: Arc<IngestCounters>,
        preface: usize,
        outgoing: OutgoingFrames,
    }
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S, activity: Arc<Activity>, counters: Arc<IngestCounters>) -> Self {
        Self { stream, activity, counters, preface: 0, outgoing: OutgoingFrames::default() }
    }

    /// Looks through the bytes that were written of these.
    fn went_out(self: Pin<&mut Self>, bufs: &[io::IoSlice<'_>], written: &Poll<io::Result<usize>>) {
        let this = self.project();
        // Nothing is written before the whole preface was read.
        let Poll::Ready(Ok(mut left)) = *written else { return };
        if !this.activity.is_h2.load(Ordering::Relaxed) {
            return;
        }
        for buf in bufs {
            let part = buf.get(..left.min(buf.len())).unwrap_or_default();
            let refused = this.outgoing.refused_in(part);
            if refused > 0 {
                this.counters.add(IngestCounter::RefusedStreams, refused);
            }
            left -= part.len();
        }
    }
}

impl<S: AsyncRead> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        let read = this.stream.poll_read(cx, buf);
        let new = buf.filled().get(before..).unwrap_or_default();
        if new.is_empty() {
            return read;
        }
        this.activity.bytes_came();
        if let Some(rest) = H2_PREFACE.get(*this.preface..).filter(|rest| !rest.is_empty()) {
            let n = rest.len().min(new.len());
            // Whoever differs in one byte never gets to the end.
            *this.preface = if rest.get(..n) == new.get(..n) { *this.preface + n } else { usize::MAX };
            if *this.preface == H2_PREFACE.len() {
                this.activity.is_h2.store(true, Ordering::Relaxed);
            }
        }
        read
    }
}

impl<S: AsyncWrite> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.as_mut().project().stream.poll_write(cx, buf);
        self.went_out(&[io::IoSlice::new(buf)], &written);
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.as_mut().project().stream.poll_write_vectored(cx, bufs);
        self.went_out(bufs, &written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

pin_project! {
    /// A body of an answer; its request is under way until it is dropped.
    #[derive(Debug)]
    pub(crate) struct Answer<B> {
        #[pin]
        body: B,
        in_flight: InFlight,
    }
}

impl<B> Answer<B> {
    pub(crate) fn new(body: B, in_flight: InFlight) -> Self {
        Self { body, in_flight }
    }
}

impl<B: Body> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.project().body.poll_frame(cx)
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
    use tokio::io::AsyncReadExt;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_request_under_way_is_never_overdue() {
        let activity = Activity::new();
        assert_eq!(activity.overdue(Duration::ZERO, HOUR), Some(Overdue::Head));
        let first = activity.begin();
        assert_eq!(activity.overdue(Duration::ZERO, Duration::ZERO), None);
        assert!(!activity.has_answered());
        drop(first);
        assert!(activity.has_answered());
        assert_eq!(activity.overdue(Duration::ZERO, HOUR), None, "no bytes of a second one have come");
        assert_eq!(activity.overdue(HOUR, Duration::ZERO), Some(Overdue::Idle));
        activity.bytes_came();
        assert_eq!(activity.overdue(Duration::ZERO, HOUR), Some(Overdue::Head));
    }

    #[tokio::test]
    async fn http2_is_known_by_its_preface_however_it_comes() {
        for (parts, is_h2) in [
            (&[H2_PREFACE][..], true),
            (&[b"PR", b"I * HTTP/2.0\r\n\r\nSM\r\n\r\n and more"], true),
            (&[b"POST /v1/traces HTTP/1.1\r\n"], false),
            (&[b"PRI", b"NT / HTTP/1.1 it is not"], false),
        ] {
            let activity = Activity::new();
            for_each_part(&activity, parts).await;
            assert_eq!(activity.is_h2.load(Ordering::Relaxed), is_h2, "{parts:?}");
        }
    }

    async fn for_each_part(activity: &Arc<Activity>, parts: &[&[u8]]) {
        let mut builder = ChainReader { parts: parts.iter().map(|part| part.to_vec()).collect() };
        let mut watched = Watched::new(&mut builder, Arc::clone(activity), Arc::default());
        let mut all = Vec::new();
        watched.read_to_end(&mut all).await.unwrap();
        assert!(all == parts.concat());
    }

    /// Hands out one part a read.
    struct ChainReader {
        parts: std::collections::VecDeque<Vec<u8>>,
    }

    impl AsyncRead for ChainReader {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if let Some(part) = self.parts.pop_front() {
                buf.put_slice(&part);
            }
            Poll::Ready(Ok(()))
        }
    }
}
