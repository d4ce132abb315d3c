//! Reader of request bodies, bounded in size and time; a body that arrives in one piece is not
//! copied.

use std::cell::Cell;
use std::error::Error as StdError;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::str;
use std::task::Poll;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::body::{BodyStream, MessageBody};
use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, timeout_at};

use super::error::ApiError;
use super::unproven_bodies::BodyShare;
use crate::event::{NESTING_MAX, check_nesting};
use crate::provider::BYTE_ORDER_MARK;

/// Limits of a request's body.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Largest accepted size in bytes.
    pub bytes_max: usize,
    /// Longest time for the whole body to arrive.
    pub timeout: Duration,
    /// Time in which a body may come as slowly as it likes.
    pub grace: Duration,
    /// Bytes that each second beyond the grace must bring on average; 0 for any number.
    pub bytes_per_second_min: u32,
}

impl BodyLimits {
    /// Time that a body has of which `received` bytes are there: each byte earns a part of a second.
    fn time_for(self, received: usize) -> Duration {
        if self.bytes_per_second_min == 0 {
            return self.timeout;
        }
        let earned = received as f64 / f64::from(self.bytes_per_second_min);
        let earned = Duration::try_from_secs_f64(earned).unwrap_or(self.timeout);
        self.grace.saturating_add(earned).min(self.timeout)
    }
}

/// Checks the `Content-Length` of `request` before its body is read.
///
/// # Errors
/// [`ApiError::BodyTooLarge`].
pub fn check_declared_length(request: &HttpRequest, limits: BodyLimits) -> Result<(), ApiError> {
    let is_too_large =
        declared_length(request).is_some_and(|length| length > limits.bytes_max as u64);
    if is_too_large {
        Err(ApiError::BodyTooLarge {
            limit: limits.bytes_max,
        })
    } else {
        Ok(())
    }
}

/// Returns the media type of the `Content-Type` header without its parameters; `None` without the
/// header.
#[must_use]
pub fn media_type(headers: &HeaderMap) -> Option<&[u8]> {
    let content_type = headers.get(CONTENT_TYPE)?;
    Some(
        content_type
            .as_bytes()
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default()
            .trim_ascii(),
    )
}

/// Checks that the content type is JSON: `application/json`, `…+json`, or none.
///
/// # Errors
/// [`ApiError::UnsupportedMediaType`].
pub fn check_json_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let is_json = media_type(headers).is_none_or(|media_type| {
        let suffix = media_type
            .len()
            .checked_sub(5)
            .map(|start| &media_type[start..]);
        media_type.eq_ignore_ascii_case(b"application/json")
            || media_type.len() > 5
                && suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(b"+json"))
    });
    if is_json {
        Ok(())
    } else {
        Err(ApiError::UnsupportedMediaType)
    }
}

/// Decodes a JSON body as text.
///
/// # Errors
/// [`ApiError::InvalidJson`] if the body is not UTF-8, or nests too deep.
pub fn body_text(body: &[u8]) -> Result<&str, ApiError> {
    let text =
        str::from_utf8(body).map_err(|_| ApiError::InvalidJson("body is not UTF-8".into()))?;
    check_nesting(text, NESTING_MAX).map_err(|error| ApiError::InvalidJson(error.to_string()))?;
    Ok(text)
}

/// Returns `body` without a byte order mark at its beginning: RFC 8259 forbids it in JSON, and some
/// senders write and sign it all the same.
#[must_use]
pub fn strip_byte_order_mark(body: Bytes) -> Bytes {
    match body.starts_with(BYTE_ORDER_MARK) {
        true => body.slice(BYTE_ORDER_MARK.len()..),
        false => body,
    }
}

/// Returns the encoding of a body that is encoded in any way, such as `gzip`.
#[must_use]
pub fn content_encoding(headers: &HeaderMap) -> Option<&[u8]> {
    let encodings = headers.get_all(CONTENT_ENCODING);
    encodings
        .map(|value| value.as_bytes().trim_ascii())
        .find(|value| !value.is_empty() && !value.eq_ignore_ascii_case(b"identity"))
}

/// Reads the whole body of `request`, which is not compressed.
///
/// # Errors
/// [`ApiError::EncodedBody`] before anything is read, and as for [`read_encoded_body`].
pub(super) async fn read_body(
    request: &HttpRequest,
    payload: &mut Payload,
    limits: BodyLimits,
    share: BodyShare,
) -> Result<Bytes, ApiError> {
    if content_encoding(request.headers()).is_some() {
        let accepted = "identity";
        return Err(ApiError::EncodedBody { accepted });
    }
    read_encoded_body(request, payload, limits, share).await
}

/// Reads the whole body of `request` as it was sent, compressed or not.
///
/// # Errors
/// [`ApiError::BodyTooLarge`] as soon as the limit is passed, [`ApiError::RequestTimeout`],
/// [`ApiError::BodyIncomplete`], or [`ApiError::BodiesOverBudget`] if `share` cannot grow.
pub(super) async fn read_encoded_body(
    request: &HttpRequest,
    payload: &mut Payload,
    limits: BodyLimits,
    share: BodyShare,
) -> Result<Bytes, ApiError> {
    check_declared_length(request, limits)?;
    read_within_timeout(limits, share, pin!(BodyStream::new(payload))).await
}

async fn read_within_timeout<B>(
    limits: BodyLimits,
    mut share: BodyShare,
    body: Pin<&mut B>,
) -> Result<Bytes, ApiError>
where
    B: MessageBody,
    B::Error: Into<Box<dyn StdError>>,
{
    let received = Cell::new(0);
    let mut collected = pin!(collect_pieces(body, limits.bytes_max, &received));
    // Bytes that wait for more of their body take room of all such bytes.
    let mut reading = poll_fn(|context| match collected.as_mut().poll(context) {
        Poll::Pending if !share.grow_to(received.get()) => {
            Poll::Ready(Err(ApiError::BodiesOverBudget))
        }
        polled => polled,
    });
    // Most bodies arrive together with the head; a timer is set only for the others.
    let ready = poll_fn(|context| match Pin::new(&mut reading).poll(context) {
        Poll::Ready(body) => Poll::Ready(Some(body)),
        Poll::Pending => Poll::Ready(None),
    });

    if let Some(body) = ready.await {
        return body;
    }
    let begun = Instant::now();
    loop {
        let allowed = limits.time_for(received.get());
        if let Ok(body) = timeout_at(begun + allowed, &mut reading).await {
            return body;
        }
        // Bytes that came meanwhile have earned more time.
        if limits.time_for(received.get()) <= allowed {
            return Err(ApiError::RequestTimeout);
        }
    }
}

/// Joins the pieces of `body`, and counts in `received` what has come so far.
async fn collect_pieces<B>(
    mut body: Pin<&mut B>,
    bytes_max: usize,
    received: &Cell<usize>,
) -> Result<Bytes, ApiError>
where
    B: MessageBody,
    B::Error: Into<Box<dyn StdError>>,
{
    let first = next_piece(&mut body, 0, bytes_max)
        .await?
        .unwrap_or_default();
    received.set(first.len());
    let Some(second) = next_piece(&mut body, first.len(), bytes_max).await? else {
        return Ok(first);
    };
    let mut joined = BytesMut::with_capacity((first.len() + second.len()) * 2);
    joined.extend_from_slice(&first);
    joined.extend_from_slice(&second);
    // The pieces share memory with the connection's read buffer, which is free after this.
    drop((first, second));
    received.set(joined.len());
    while let Some(piece) = next_piece(&mut body, joined.len(), bytes_max).await? {
        joined.extend_from_slice(&piece);
        received.set(joined.len());
    }
    Ok(joined.freeze())
}

/// Reads the next piece of a body of which `read` bytes have arrived.
async fn next_piece<B>(
    body: &mut Pin<&mut B>,
    read: usize,
    bytes_max: usize,
) -> Result<Option<Bytes>, ApiError>
where
    B: MessageBody,
    B::Error: Into<Box<dyn StdError>>,
{
    match poll_fn(|context| body.as_mut().poll_next(context)).await {
        None => Ok(None),
        Some(Ok(piece)) if read + piece.len() <= bytes_max => Ok(Some(piece)),
        Some(Ok(_)) => Err(ApiError::BodyTooLarge { limit: bytes_max }),
        Some(Err(_)) => Err(ApiError::BodyIncomplete),
    }
}

/// Returns the `Content-Length` of `request`.
pub(super) fn declared_length(request: &HttpRequest) -> Option<u64> {
    request
        .headers()
        .get(CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::task::Context;

    use actix_web::body::BodySize;
    use actix_web::test::TestRequest;

    use super::super::unproven_bodies::UnprovenBodies;
    use super::*;

    const LIMITS: BodyLimits = BodyLimits {
        bytes_max: 6,
        timeout: Duration::from_secs(15),
        grace: Duration::from_secs(5),
        bytes_per_second_min: 0,
    };

    enum BodyPiece {
        Bytes(&'static str),
        Broken,
        Never,
    }

    /// A body that comes in pieces, each after a pause.
    struct PiecewiseBody(VecDeque<BodyPiece>, bool);

    impl PiecewiseBody {
        fn new(pieces: impl IntoIterator<Item = BodyPiece>) -> Self {
            Self(pieces.into_iter().collect(), false)
        }
    }

    impl MessageBody for PiecewiseBody {
        type Error = io::Error;

        fn size(&self) -> BodySize {
            BodySize::Stream
        }

        fn poll_next(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<io::Result<Bytes>>> {
            self.1 = !self.1;
            if self.1 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.0.pop_front() {
                None => Poll::Ready(None),
                Some(BodyPiece::Bytes(text)) => {
                    Poll::Ready(Some(Ok(Bytes::from_static(text.as_bytes()))))
                }
                Some(BodyPiece::Broken) => {
                    Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())))
                }
                Some(BodyPiece::Never) => Poll::Pending,
            }
        }
    }

    /// Share of a body in a budget of `bytes_max` bytes.
    fn share(bytes_max: usize) -> BodyShare {
        let network = IpAddr::from([203, 0, 113, 9]);
        UnprovenBodies::new(bytes_max, Arc::default()).share(network, LIMITS.bytes_max)
    }

    async fn read_pieces(pieces: impl IntoIterator<Item = BodyPiece>) -> Result<Bytes, ApiError> {
        read_within_timeout(LIMITS, share(1_000), pin!(PiecewiseBody::new(pieces))).await
    }

    #[tokio::test]
    async fn pieces_are_joined_up_to_the_limit() {
        use BodyPiece::Bytes;
        assert_eq!(read_pieces([]).await.expect("empty"), "");
        assert_eq!(read_pieces([Bytes("ab")]).await.expect("small"), "ab");
        assert_eq!(
            read_pieces(["ab", "cd", "ef"].map(Bytes))
                .await
                .expect("just fits"),
            "abcdef"
        );
        for pieces in [&["abcdefg"][..], &["abcdef", "g"], &["ab", "cd", "efg"]] {
            let error = read_pieces(pieces.iter().copied().map(Bytes))
                .await
                .expect_err("too large");
            assert!(
                matches!(error, ApiError::BodyTooLarge { limit: 6 }),
                "{pieces:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_coming_is_given_up() {
        let started = tokio::time::Instant::now();
        let error = read_pieces([BodyPiece::Bytes("ab"), BodyPiece::Never])
            .await
            .expect_err("too slow");
        assert!(matches!(error, ApiError::RequestTimeout));
        assert_eq!(started.elapsed(), LIMITS.timeout);
    }

    #[test]
    fn each_byte_earns_its_time_up_to_the_limit_of_the_whole() {
        let limits = BodyLimits {
            bytes_per_second_min: 100,
            ..LIMITS
        };
        for (received, seconds) in [(0, 5), (200, 7), (1_000, 15), (usize::MAX, 15)] {
            assert_eq!(limits.time_for(received), Duration::from_secs(seconds));
        }
        assert_eq!(LIMITS.time_for(0), LIMITS.timeout, "without a lowest rate");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_slower_than_its_lowest_rate_is_given_up() {
        let started = tokio::time::Instant::now();
        let limits = BodyLimits {
            bytes_per_second_min: 1,
            ..LIMITS
        };
        let come = [BodyPiece::Bytes("ab"), BodyPiece::Bytes("c")];
        // One for each time that the timer looks for more.
        let pieces = come.into_iter().chain([(); 6].map(|()| BodyPiece::Never));
        let body = pin!(PiecewiseBody::new(pieces));
        let error = read_within_timeout(limits, share(1_000), body).await;
        assert!(matches!(error, Err(ApiError::RequestTimeout)));
        assert_eq!(started.elapsed(), Duration::from_secs(5 + 3));
    }

    #[tokio::test]
    async fn a_body_is_given_up_when_its_share_cannot_grow_and_takes_none_if_it_is_whole() {
        let bodies = UnprovenBodies::new(12, Arc::default());
        let network = IpAddr::from([203, 0, 113, 9]);
        let mut others = bodies.share(network, LIMITS.bytes_max);
        assert!(others.grow_to(5));
        let read = async |pieces: &[&'static str], has_come: bool| {
            let pieces = pieces.iter().copied().map(BodyPiece::Bytes);
            let mut body = PiecewiseBody::new(pieces);
            body.1 = has_come;
            let share = bodies.share(network, LIMITS.bytes_max);
            read_within_timeout(LIMITS, share, pin!(body)).await
        };
        let error = read(&["ab", "c"], false)
            .await
            .expect_err("one byte is left");
        assert!(matches!(error, ApiError::BodiesOverBudget));
        assert_eq!(read(&["a"], false).await.expect("it fits"), "a");
        drop(others);
        assert_eq!(
            read(&["ab", "c"], false).await.expect("there is room"),
            "abc"
        );
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_not_taken_for_whole() {
        let error = read_pieces([BodyPiece::Bytes("ab"), BodyPiece::Broken])
            .await
            .expect_err("broken off");
        assert!(matches!(error, ApiError::BodyIncomplete));
    }

    #[tokio::test]
    async fn a_compressed_body_is_refused_unread() {
        for (encoding, is_refused) in [("gzip", true), ("br", true), ("Identity", false)] {
            let request = TestRequest::default()
                .insert_header((CONTENT_ENCODING, encoding))
                .to_http_request();
            let read = read_body(&request, &mut Payload::None, LIMITS, share(1_000)).await;
            let accepted = "identity";
            let is_encoded =
                matches!(read, Err(ApiError::EncodedBody { accepted: named }) if named == accepted);
            assert_eq!(is_encoded, is_refused, "{encoding}");
        }
    }

    #[tokio::test]
    async fn a_declared_length_over_the_limit_is_refused_unread() {
        let request = TestRequest::default()
            .insert_header((CONTENT_LENGTH, "7"))
            .to_http_request();
        let error = read_body(&request, &mut Payload::None, LIMITS, share(1_000))
            .await
            .expect_err("too large");
        assert!(matches!(error, ApiError::BodyTooLarge { limit: 6 }));
    }
}
