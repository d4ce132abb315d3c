//! One HTTP/1.1 connection to a subscriber, and one exchange on it.
//!
//! An attempt drives its connection itself, in its own task. A task for each connection would cost
//! two changes of task for each delivery, and an idle connection needs none: its end is noticed when
//! it is next taken.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::RETRY_AFTER;
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::io::InspectReader;

use super::classify::{AttemptError, SubscriberResponse};
use super::connector::SubscriberStream;

/// Bytes of a response that are read at most. Only the status matters to the delivery; the body
/// helps an operator to find the fault.
pub(super) const RESPONSE_READ_MAX_BYTES: usize = 16 * 1024;

/// Headers of a response at most. Some servers send well over the 100 that parsers usually allow.
const RESPONSE_HEADERS_MAX: usize = 256;

/// Bytes of a response's head at most, and of the buffer that it is read into.
const RESPONSE_HEAD_MAX_BYTES: usize = 64 * 1024;

/// Function that is shown the bytes that arrive.
type ByteObserver = Box<dyn FnMut(&[u8]) + Send>;

/// Future that reads and writes a connection. It has to be polled for anything to happen on it.
type ConnectionDriver =
    http1::Connection<TokioIo<InspectReader<SubscriberStream, ByteObserver>>, Full<Bytes>>;

/// An open connection, which closes when it is dropped.
pub(super) struct SubscriberConnection {
    sender: SendRequest<Full<Bytes>>,
    /// `None` as soon as the connection is closed. hyper ends a waiting exchange when it is dropped.
    driver: Option<Pin<Box<ConnectionDriver>>>,
    /// True if a byte has arrived since the current exchange began.
    has_received: Arc<AtomicBool>,
    /// Slot in the pool; dropped last, after the stream is closed.
    _slot: OwnedSemaphorePermit,
}

impl SubscriberConnection {
    /// Begins to speak HTTP on `stream`.
    pub(super) async fn start(
        stream: SubscriberStream,
        slot: OwnedSemaphorePermit,
    ) -> Result<Self, hyper::Error> {
        let has_received = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&has_received);
        let note_bytes: ByteObserver = Box::new(move |bytes| {
            // There are none at the end of the stream.
            if !bytes.is_empty() {
                noted.store(true, Ordering::Relaxed);
            }
        });
        let stream = InspectReader::new(stream, note_bytes);

        // A response with odd lines says all the same that the subscriber has accepted, and a
        // delivery that is repeated for a stray blank in a header does harm.
        let (sender, driver) = http1::Builder::new()
            .max_headers(RESPONSE_HEADERS_MAX)
            .max_buf_size(RESPONSE_HEAD_MAX_BYTES)
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .ignore_invalid_headers_in_responses(true)
            .handshake(TokioIo::new(stream))
            .await?;
        Ok(Self {
            sender,
            driver: Some(Box::pin(driver)),
            has_received,
            _slot: slot,
        })
    }

    /// Sends `request` and reads the response into `received` and `body`, at most
    /// [`RESPONSE_READ_MAX_BYTES`] of the body. After an error both hold the part that arrived.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        received: &mut SubscriberResponse,
        body: &mut Vec<u8>,
    ) -> Result<(), AttemptError> {
        self.has_received.store(false, Ordering::Relaxed);
        let response = self.sender.send_request(request);
        let response = self.drive(response).await.map_err(broken_off_error)?;
        received.status = Some(response.status().as_u16());
        let retry_after = response.headers().get(RETRY_AFTER);
        received.retry_after = retry_after
            .and_then(|value| value.to_str().ok())
            .map(ToOwned::to_owned);

        let mut incoming = response.into_body();
        while body.len() < RESPONSE_READ_MAX_BYTES
            && let Some(frame) = self.drive(incoming.frame()).await
        {
            let frame = frame.map_err(broken_off_error)?;
            if let Some(piece) = frame.data_ref() {
                let room = RESPONSE_READ_MAX_BYTES - body.len();
                body.extend_from_slice(&piece[..piece.len().min(room)]);
            }
        }
        Ok(())
    }

    /// True if a byte has arrived since the last exchange began.
    pub(super) fn has_received(&self) -> bool {
        self.has_received.load(Ordering::Relaxed)
    }

    /// Returns true if the connection is open and waits for a request.
    pub(super) async fn is_ready(&mut self) -> bool {
        poll_fn(|context| {
            self.poll_driver(context);
            Poll::Ready(())
        })
        .await;
        self.driver.is_some() && self.sender.is_ready()
    }

    /// Awaits `work`, which waits for something that happens on this connection.
    async fn drive<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            self.poll_driver(context);
            work.as_mut().poll(context)
        })
        .await
    }

    fn poll_driver(&mut self, context: &mut Context<'_>) {
        let driver = self.driver.as_mut().map(|driver| driver.as_mut());
        // The waiting exchange gets the error, too.
        if let Some(Poll::Ready(_)) = driver.map(|driver| driver.poll(context)) {
            self.driver = None;
        }
    }
}

/// Describes the end of a connection by its root cause, which names no URL.
fn broken_off_error(error: hyper::Error) -> AttemptError {
    let mut root: &dyn std::error::Error = &error;
    while let Some(inner) = root.source() {
        root = inner;
    }
    AttemptError::broken_off(root.to_string())
}
