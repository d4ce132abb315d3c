//! Stream of one connection that nobody can hold for nothing: whoever sends no whole head of a
//! request, or takes no answer, is disconnected.
//!
//! ```text
//!  idle ──first byte──> head ──request parsed──> busy ──answer written──> idle
//!    │ keep-alive         │ request timeout        │ answer is not taken
//!    └────────────────────┴────────────────────────┴──────────────────────> closed
//! ```
//!
//! actix-http clears its timer on the first byte of a later head, so that one request and then a
//! single byte held a connection for ever. A byte of the next head may arrive with the request
//! before it and is not seen here; so an idle connection also has a deadline of both times together.
//! The time of a body is limited where it is read (`body.rs`).

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::ServiceRequest;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::connection_counts::ConnectionSlot;

/// Bytes of an answer that each second beyond the first ones must take: a tenth of a slow mobile
/// line.
const ANSWER_BYTES_PER_SECOND: f64 = 16.0 * 1024.0;

/// Longest times that one connection may be held for nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamLimits {
    /// Time from the first byte of a head to its end, and for a reader that takes nothing.
    pub(super) request_timeout: Duration,
    /// Time without any byte between two requests.
    pub(super) keep_alive: Duration,
}

/// Requests of one connection, as its stream sees them.
#[derive(Debug, Default)]
pub(super) struct ConnectionWatch {
    /// Number of requests in progress, from the parsed head to the last byte of the answer.
    in_progress: Cell<usize>,
    /// Number of requests so far. One that is answered at once is never seen in progress.
    begun: Cell<u64>,
}

impl ConnectionWatch {
    fn begin_request(&self) {
        self.in_progress.set(self.in_progress.get() + 1);
        self.begun.set(self.begun.get() + 1);
    }

    fn end_request(&self) {
        self.in_progress
            .set(self.in_progress.get().saturating_sub(1));
    }
}

/// Mark of a request in progress.
#[derive(Debug)]
struct RequestMark(Option<Rc<ConnectionWatch>>);

impl Drop for RequestMark {
    fn drop(&mut self) {
        if let Some(watch) = &self.0 {
            watch.end_request();
        }
    }
}

/// Stream with the deadlines of its head and its answer.
#[derive(Debug)]
pub(super) struct GuardedStream<S> {
    io: S,
    watch: Rc<ConnectionWatch>,
    limits: StreamLimits,
    /// Moment until which the next head must be complete; `None` while a request is in progress.
    head_deadline: Option<Instant>,
    has_head_begun: bool,
    /// Requests that had begun when the deadline was set.
    seen_requests: u64,
    /// Answer that its reader does not take as fast as it is written.
    waiting_answer: Option<WaitingAnswer>,
    timer: Pin<Box<Sleep>>,
    _slot: ConnectionSlot,
}

#[derive(Clone, Copy, Debug)]
struct WaitingAnswer {
    since: Instant,
    bytes: f64,
}

impl<S> GuardedStream<S> {
    pub(super) fn new(io: S, limits: StreamLimits, slot: ConnectionSlot) -> Self {
        let deadline = Instant::now() + limits.request_timeout + limits.keep_alive;
        Self {
            io,
            watch: Rc::default(),
            limits,
            head_deadline: Some(deadline),
            has_head_begun: false,
            seen_requests: 0,
            waiting_answer: None,
            timer: Box::pin(sleep_until(deadline)),
            _slot: slot,
        }
    }

    /// Returns the stream that is guarded.
    pub(super) const fn stream(&self) -> &S {
        &self.io
    }

    /// Returns what the requests of this connection share with it.
    pub(super) fn watch(&self) -> Rc<ConnectionWatch> {
        Rc::clone(&self.watch)
    }

    /// Follows the requests of the connection: an idle one waits for a head.
    fn update_head_deadline(&mut self) {
        let begun = self.watch.begun.get();
        // An answer in one piece has left its request before its reader has taken it.
        let is_busy = self.watch.in_progress.get() > 0 || self.waiting_answer.is_some();
        if is_busy || begun != self.seen_requests {
            self.seen_requests = begun;
            (self.head_deadline, self.has_head_begun) = (None, false);
        }
        if !is_busy && self.head_deadline.is_none() {
            let limits = self.limits;
            self.head_deadline = Some(Instant::now() + limits.keep_alive + limits.request_timeout);
        }
    }

    fn note_bytes_of_head(&mut self) {
        if let Some(deadline) = self.head_deadline
            && !self.has_head_begun
        {
            self.has_head_begun = true;
            self.head_deadline = Some(deadline.min(Instant::now() + self.limits.request_timeout));
        }
    }

    /// Begins the deadline of an answer that is not taken, or follows it.
    fn wait_for_reader(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let since = Instant::now();
        let answer = WaitingAnswer { since, bytes: 0.0 };
        self.waiting_answer.get_or_insert(answer);
        self.update_head_deadline();
        self.poll_deadline(context)
    }

    /// Returns an error once a deadline has passed, and otherwise wakes the task of `context` then.
    fn poll_deadline(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let answer = self.waiting_answer.map(|answer| {
            let earned = Duration::from_secs_f64(answer.bytes / ANSWER_BYTES_PER_SECOND);
            answer.since + self.limits.request_timeout + earned
        });
        let Some(deadline) = [self.head_deadline, answer].into_iter().flatten().min() else {
            return Ok(());
        };

        // A timer that is due too early costs less than one that is set anew for each request.
        if self.timer.deadline() > deadline {
            self.timer.as_mut().reset(deadline);
        }
        while self.timer.as_mut().poll(context).is_ready() {
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.timer.as_mut().reset(deadline);
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GuardedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.update_head_deadline();
        let before = buffer.filled().len();
        let result = Pin::new(&mut this.io).poll_read(context, buffer);
        if result.is_pending() {
            this.poll_deadline(context)?;
        } else if buffer.filled().len() > before {
            this.note_bytes_of_head();
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GuardedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let result = Pin::new(&mut this.io).poll_write(context, bytes);
        match &result {
            Poll::Ready(Ok(count)) => {
                if let Some(answer) = &mut this.waiting_answer {
                    answer.bytes += *count as f64;
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => this.wait_for_reader(context)?,
        }
        result
    }

    /// The server flushes when it has written all that it has. TLS may hold a part of it then.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let result = Pin::new(&mut this.io).poll_flush(context);
        if result.is_pending() {
            this.wait_for_reader(context)?;
        } else {
            this.waiting_answer = None;
            this.update_head_deadline();
            this.poll_deadline(context)?;
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// Marks `request` as in progress on its connection, until its answer is written.
pub(super) fn mark_request(request: &ServiceRequest) -> impl FnOnce(BoxBody) -> BoxBody + use<> {
    let watch = request.conn_data::<Rc<ConnectionWatch>>().map(Rc::clone);
    if let Some(watch) = &watch {
        watch.begin_request();
    }
    let mark = RequestMark(watch);
    |body| BoxBody::new(MarkedBody { body, _mark: mark })
}

/// Body of an answer; dropped when its last byte is in the server's buffer.
struct MarkedBody {
    body: BoxBody,
    _mark: RequestMark,
}

impl MessageBody for MarkedBody {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.body.as_pin_mut().poll_next(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::task::ready;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::super::connection_counts::{ConnectionCounts, ConnectionLimits};
    use super::*;

    const LIMITS: StreamLimits = StreamLimits {
        request_timeout: Duration::from_secs(15),
        keep_alive: Duration::from_secs(75),
    };

    fn streams(buffer_bytes: usize) -> (DuplexStream, GuardedStream<DuplexStream>) {
        let (client, server) = duplex(buffer_bytes);
        (client, guard(server))
    }

    fn guard<S>(io: S) -> GuardedStream<S> {
        let address = "203.0.113.9".parse().expect("an address");
        let counts = ConnectionCounts::new(Arc::default());
        let slot = counts.try_open(address, ConnectionLimits::new(9, 1), &[]);
        GuardedStream::new(io, LIMITS, slot.expect("room"))
    }

    async fn expect_timeout(stream: &mut GuardedStream<DuplexStream>, after: Duration) {
        let begin = Instant::now();
        let error = stream.read_u8().await.expect_err("nothing comes");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed().as_secs(), after.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_and_a_head_that_does_not_end_are_closed() {
        let (_client, mut stream) = streams(64);
        expect_timeout(&mut stream, LIMITS.keep_alive + LIMITS.request_timeout).await;

        let (mut client, mut stream) = streams(64);
        client.write_all(b"G").await.expect("room");
        stream.read_u8().await.expect("a byte");
        expect_timeout(&mut stream, LIMITS.request_timeout).await;
    }

    /// One whole request and then a single byte held a connection for ever.
    #[tokio::test(start_paused = true)]
    async fn a_later_head_has_a_deadline_too_also_if_its_first_byte_came_before() {
        let (mut client, mut stream) = streams(64);
        for is_seen in [true, false] {
            stream.watch.begin_request();
            client.write_all(b"GG").await.expect("room");
            stream
                .read_u16()
                .await
                .expect("a request and a byte of the next");
            stream.watch.end_request();
            stream.flush().await.expect("the answer is written");
            if is_seen {
                client.write_all(b"E").await.expect("room");
                stream.read_u8().await.expect("a byte");
                expect_timeout(&mut stream, LIMITS.request_timeout).await;
            } else {
                expect_timeout(&mut stream, LIMITS.keep_alive + LIMITS.request_timeout).await;
            }
        }
    }

    /// The deadline of the first head stayed, and closed a connection that was in use.
    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_answered_at_once_ends_the_deadline_of_its_head() {
        let (mut client, mut stream) = streams(64);
        client.write_all(b"G").await.expect("room");
        stream.read_u8().await.expect("a byte");
        stream.watch.begin_request();
        stream.watch.end_request();
        stream.flush().await.expect("the answer is written");
        expect_timeout(&mut stream, LIMITS.keep_alive + LIMITS.request_timeout).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_in_progress_takes_its_time() {
        let (mut client, mut stream) = streams(64);
        client.write_all(b"G").await.expect("room");
        stream.read_u8().await.expect("a byte");
        stream.watch.begin_request();
        let read = tokio::time::timeout(LIMITS.keep_alive * 10, stream.read_u8()).await;
        assert!(read.is_err(), "it still waits");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_is_given_up_and_a_slow_reader_has_time() {
        let (_client, mut stream) = streams(64);
        stream.watch.begin_request();
        let error = stream.write_all(&[0; 65]).await.expect_err("no room");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let (mut client, mut stream) = streams(1024);
        stream.watch.begin_request();
        let reading = async {
            let mut piece = [0; 32 * 1024];
            let mut ticks = tokio::time::interval(Duration::from_secs(1));
            for _ in 0..40 {
                ticks.tick().await;
                client.read_exact(&mut piece).await.expect("bytes");
            }
        };
        let answer = vec![0; 40 * 32 * 1024];
        let (written, ()) = tokio::join!(stream.write_all(&answer), reading);
        written.expect("32 KiB a second are enough");
    }

    /// An answer in one piece was cut after the time of an idle connection, though its reader was fast
    /// enough: its request counted as answered.
    #[tokio::test(start_paused = true)]
    async fn an_answer_in_one_piece_may_take_longer_than_an_idle_connection() {
        const SECONDS: usize = 120;
        let (mut client, mut stream) = streams(1024);
        stream.watch.begin_request();
        stream.watch.end_request();
        let answer = vec![0; SECONDS * 32 * 1024];
        let serving = async {
            let mut left = &answer[..];
            poll_fn(|context| {
                // The server waits for the next request while it writes an answer.
                let mut byte = [0];
                let read = Pin::new(&mut stream).poll_read(context, &mut ReadBuf::new(&mut byte));
                if let Poll::Ready(ended) = read {
                    return Poll::Ready(ended);
                }
                while !left.is_empty() {
                    let written = ready!(Pin::new(&mut stream).poll_write(context, left))?;
                    left = &left[written..];
                }
                Pin::new(&mut stream).poll_flush(context)
            })
            .await
        };
        let reading = async {
            let mut piece = vec![0; 32 * 1024];
            let mut ticks = tokio::time::interval(Duration::from_secs(1));
            for _ in 0..SECONDS {
                ticks.tick().await;
                client.read_exact(&mut piece).await?;
            }
            Ok(())
        };
        let served = tokio::try_join!(serving, reading);
        served.expect("32 KiB a second are enough");
        let idle = LIMITS.keep_alive + LIMITS.request_timeout;
        expect_timeout(&mut stream, idle).await;
        drop(client);
    }

    /// Stream as TLS makes it: it takes all bytes, and holds them until its reader takes them.
    struct HoldingStream;

    impl AsyncRead for HoldingStream {
        fn poll_read(
            self: Pin<&mut Self>,
            _context: &mut Context<'_>,
            _buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for HoldingStream {
        fn poll_write(
            self: Pin<&mut Self>,
            _context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    /// By TLS, an answer that nobody took had no deadline: the flush of what TLS holds ended it.
    #[tokio::test(start_paused = true)]
    async fn an_answer_that_tls_holds_is_given_up() {
        let mut stream = guard(HoldingStream);
        stream.watch.begin_request();
        stream.write_all(&[0; 65]).await.expect("TLS takes it");
        let begin = Instant::now();
        let flushed = tokio::time::timeout(LIMITS.request_timeout * 2, stream.flush()).await;
        let error = flushed.expect("it ends").expect_err("nobody takes it");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed().as_secs(), LIMITS.request_timeout.as_secs());
    }
}
