//! What a connection is doing: the watch over clients that connect and then do nothing, or little, or read nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

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
    /// Bodies of requests that are being read, of answered ones as well.
    bodies: AtomicU32,
    idle_since: AtomicU64,
    /// How much waits for the client to read: answers, and what is to be written.
    unsent: AtomicU32,
    /// When something of that last went on.
    sent_at: AtomicU64,
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
    /// Nothing of its answers was read for long.
    Unread,
}

impl Activity {
    /// Of a connection that was just accepted. Its first request is waited for from now on.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            accepted: Instant::now(),
            requests: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            bodies: AtomicU32::new(0),
            idle_since: AtomicU64::new(0),
            unsent: AtomicU32::new(0),
            sent_at: AtomicU64::new(0),
            head_since: AtomicU64::new(1),
            is_h2: AtomicBool::new(false),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.accepted.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// While a request is under way or its body is read they are taken for its body's. So the beginning of a next head which comes
    /// that early, and then nothing, is held to the time of an idle connection: whoever sends no byte at all has as long.
    fn bytes_came(&self) {
        let of_a_body = self.is_busy() || self.bodies.load(Ordering::Acquire) > 0;
        if !of_a_body && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.now() + 1, Ordering::Relaxed);
        }
    }

    /// Of HTTP/1.1 only answers go out; of HTTP/2 also what says nothing about how a client reads.
    fn bytes_went(&self) {
        if !self.is_h2.load(Ordering::Relaxed) {
            let now = self.now();
            self.idle_since.store(now, Ordering::Relaxed);
            self.sent_at.store(now, Ordering::Relaxed);
        }
    }

    /// A request's headers are there; it is under way until what is returned is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        self.head_since.store(0, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// The body of a request is read until what is returned is dropped.
    pub(crate) fn body(self: &Arc<Self>) -> Coming {
        self.bodies.fetch_add(1, Ordering::AcqRel);
        Coming(Arc::clone(self))
    }

    /// Something waits for the client until what is returned is dropped.
    fn unsent(self: &Arc<Self>) -> Unsent {
        // Before it counts, or else it might seem to have waited since the last one did.
        if self.unsent.load(Ordering::Acquire) == 0 {
            self.sent_at.store(self.now(), Ordering::Release);
        }
        self.unsent.fetch_add(1, Ordering::AcqRel);
        Unsent(Arc::clone(self))
    }

    /// Whether a request is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) > 0
    }

    /// Whether a request has come and all that came have been answered.
    pub(crate) fn has_answered(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0 && !self.is_busy()
    }

    /// Whether it should end: after so long for a head, without a request, without reading on in answers. Frames of
    /// HTTP/2 may come without a request, so there heads are not looked at.
    pub(crate) fn overdue(&self, head: Duration, idle: Duration, unread: Duration) -> Option<Overdue> {
        let unsent = self.unsent.load(Ordering::Acquire);
        let now = self.now();
        let since = |then: u64| Duration::from_millis(now.saturating_sub(then));
        if unsent > 0 && since(self.sent_at.load(Ordering::Acquire)) >= unread {
            return Some(Overdue::Unread);
        }
        if self.is_busy() {
            return None;
        }
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

impl InFlight {
    /// Something of its answer waits for the client until what is returned is dropped.
    pub(crate) fn unsent(&self) -> Unsent {
        self.0.unsent()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A request's body that is being read.
#[derive(Debug)]
pub(crate) struct Coming(Arc<Activity>);

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
        self.0.bodies.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Something that waits for the client to read.
#[derive(Debug)]
pub(crate) struct Unsent(Arc<Activity>);

impl Drop for Unsent {
    fn drop(&mut self) {
        self.0.sent_at.store(self.0.now(), Ordering::Release);
        self.0.unsent.fetch_sub(1, Ordering::AcqRel);
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
        // While bytes are to be written and there is no room for them.
        unsent: Option<Unsent>,
    }
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S, activity: Arc<Activity>, counters: Arc<IngestCounters>) -> Self {
        Self { stream, activity, counters, preface: 0, outgoing: OutgoingFrames::default(), unsent: None }
    }

    /// Looks through the bytes that were written of these.
    fn went_out(self: Pin<&mut Self>, bufs: &[io::IoSlice<'_>], written: &Poll<io::Result<usize>>) {
        let this = self.project();
        if written.is_pending() {
            this.unsent.get_or_insert_with(|| this.activity.unsent());
            return;
        }
        *this.unsent = None;
        this.activity.bytes_went();
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

#[cfg(test)]
mod tests {
    use std::future::Future as _;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_request_under_way_is_never_overdue() {
        let activity = Activity::new();
        let overdue = |head, idle| activity.overdue(head, idle, HOUR);
        assert_eq!(overdue(Duration::ZERO, HOUR), Some(Overdue::Head));
        let first = activity.begin();
        assert_eq!(overdue(Duration::ZERO, Duration::ZERO), None);
        assert!(!activity.has_answered());
        drop(first);
        assert!(activity.has_answered());
        assert_eq!(overdue(Duration::ZERO, HOUR), None, "no bytes of a second one have come");
        assert_eq!(overdue(HOUR, Duration::ZERO), Some(Overdue::Idle));
        activity.bytes_came();
        assert_eq!(overdue(Duration::ZERO, HOUR), Some(Overdue::Head));
    }

    #[test]
    fn bytes_of_the_body_of_an_answered_request_begin_no_head() {
        let activity = Activity::new();
        let overdue = || activity.overdue(Duration::ZERO, HOUR, HOUR);
        let body = activity.body();
        drop(activity.begin());
        activity.bytes_came();
        assert_eq!(overdue(), None);
        drop(body);
        assert_eq!(overdue(), None);
        activity.bytes_came();
        assert_eq!(overdue(), Some(Overdue::Head));
    }

    #[test]
    fn an_answer_that_nobody_reads_is_overdue_although_its_request_is_under_way() {
        let activity = Activity::new();
        let request = activity.begin();
        let overdue = || activity.overdue(HOUR, HOUR, Duration::ZERO);
        assert_eq!(overdue(), None, "there is no answer yet");
        let unsent = request.unsent();
        assert_eq!(overdue(), Some(Overdue::Unread));
        assert_eq!(activity.overdue(HOUR, HOUR, HOUR), None);
        drop(unsent);
        assert_eq!(overdue(), None);
    }

    #[tokio::test]
    async fn bytes_that_cannot_be_written_wait_for_the_client_and_those_that_can_are_no_idleness() {
        let (stream, mut client) = tokio::io::duplex(4);
        let activity = Activity::new();
        let mut watched = Watched::new(stream, Arc::clone(&activity), Arc::default());
        tokio::time::sleep(Duration::from_millis(5)).await;
        watched.write_all(b"1234").await.unwrap();
        assert!(activity.idle_since.load(Ordering::Relaxed) >= 5);
        let overdue = || activity.overdue(HOUR, HOUR, Duration::ZERO);
        assert_eq!(overdue(), None);
        let mut more = Box::pin(watched.write_all(b"5678"));
        let once = std::future::poll_fn(|cx| Poll::Ready(more.as_mut().poll(cx).is_ready()));
        assert!(!once.await);
        assert_eq!(overdue(), Some(Overdue::Unread));
        client.read_exact(&mut [0; 4]).await.unwrap();
        more.await.unwrap();
        assert_eq!(overdue(), None);
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
