//! Answers that are the same for everyone: made once, shared by all connections, compressed, and
//! with an entity tag, so that strangers who read the documentation cost senders nothing.

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::StatusCode;
use actix_web::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderValue, IF_NONE_MATCH, VARY,
};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// Content security policy of all pages: only scripts and styles of this node. Swagger UI sets
/// inline styles and embeds small images as `data:` URLs.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; \
    style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Bytes that one connection holds of an answer beyond what all share.
const PIECE_BYTES: usize = 16 * 1024;

/// Answer that never changes while the process runs.
#[derive(Debug)]
pub(super) struct StaticAnswer {
    media_type: HeaderValue,
    plain: Representation,
    /// Compressed form, if it is smaller.
    gzip: Option<Representation>,
}

/// Bytes of an answer in one encoding, with their entity tag (RFC 9110, section 8.8.3).
#[derive(Debug)]
struct Representation {
    bytes: Bytes,
    tag: HeaderValue,
}

impl StaticAnswer {
    /// Makes the answer, and compresses it.
    pub(super) fn new(media_type: &'static str, content: impl Into<Bytes>) -> Self {
        let plain = Representation::new(content.into());
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let gzip = encoder
            .write_all(&plain.bytes)
            .and_then(|()| encoder.finish())
            .ok()
            .filter(|gzip| gzip.len() < plain.bytes.len());
        Self {
            media_type: HeaderValue::from_static(media_type),
            plain,
            gzip: gzip.map(|bytes| Representation::new(bytes.into())),
        }
    }

    /// Answers `request`: with the bytes in an encoding that it accepts, or without any if the
    /// client has them.
    pub(super) fn respond(&self, request: &HttpRequest) -> HttpResponse {
        let gzip = self.gzip.as_ref();
        let gzip = gzip.filter(|_| accepts_gzip(request.headers()));
        let chosen = gzip.unwrap_or(&self.plain);

        let mut response = if is_known(request.headers(), &chosen.tag) {
            HttpResponse::new(StatusCode::NOT_MODIFIED)
        } else {
            let body = BoxBody::new(SharedBody(chosen.bytes.clone()));
            HttpResponse::with_body(StatusCode::OK, body)
        };
        let headers = response.headers_mut();
        headers.insert(ETAG, chosen.tag.clone());
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        // Another version of the node serves other files under the same names.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(CONTENT_TYPE, self.media_type.clone());
        headers.insert(
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(CONTENT_POLICY),
        );
        if gzip.is_some() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

impl Representation {
    fn new(bytes: Bytes) -> Self {
        let digest = Sha256::digest(&bytes);
        let tag = format!("\"{}\"", hex::encode(&digest[..12]));
        Self {
            bytes,
            tag: HeaderValue::from_str(&tag).expect("hex digits may stand in a header"),
        }
    }
}

/// Returns true if the client takes gzip: `gzip` or `*`, without the weight zero.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT_ENCODING);
    let mut codings = lines.flat_map(|line| line.to_str().unwrap_or_default().split(','));
    codings.any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
        let is_gzip = ["gzip", "*"].contains(&name.trim().to_ascii_lowercase().as_str());
        is_gzip && weight.parse::<f32>().is_ok_and(|weight| weight > 0.0)
    })
}

/// Returns true if the client names `tag` as one that it has.
fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let lines = headers.get_all(IF_NONE_MATCH);
    let mut known = lines.flat_map(|line| line.to_str().unwrap_or_default().split(','));
    known.any(|known| {
        let known = known.trim();
        known == "*" || known.strip_prefix("W/").unwrap_or(known).as_bytes() == tag.as_bytes()
    })
}

/// Body of shared bytes. A body in one piece would be copied whole into the buffer of each
/// connection.
struct SharedBody(Bytes);

impl MessageBody for SharedBody {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0.len() as u64)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.0.is_empty() {
            return Poll::Ready(None);
        }
        let count = self.0.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(self.0.split_to(count))))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;
    use actix_web::test::TestRequest;

    use super::*;

    const TEXT: &str = "a page with the same words, the same words, the same words, the same words";

    fn respond(headers: &[(&'static str, &str)]) -> HttpResponse {
        let answer = StaticAnswer::new("text/plain", TEXT.repeat(1_000));
        let request = headers
            .iter()
            .fold(TestRequest::default(), |request, header| {
                request.insert_header(*header)
            });
        answer.respond(&request.to_http_request())
    }

    #[tokio::test]
    async fn a_client_gets_the_encoding_that_it_takes() {
        for (accepted, is_gzip) in [
            ("gzip, deflate, br", true),
            ("br;q=1.0, GZIP;q=0.5", true),
            ("*", true),
            ("gzip;q=0", false),
            ("br", false),
            ("", false),
        ] {
            let response = respond(&[("accept-encoding", accepted)]);
            assert_eq!(
                response.headers().contains_key(CONTENT_ENCODING),
                is_gzip,
                "{accepted}"
            );
            let bytes = to_bytes(response.into_body()).await.expect("in memory");
            let plain = match is_gzip {
                true => crate::provider::decompress_gzip(&bytes, 1 << 20).expect("gzip"),
                false => bytes.to_vec(),
            };
            assert_eq!(plain, TEXT.repeat(1_000).as_bytes());
        }
    }

    #[tokio::test]
    async fn a_client_that_has_the_answer_gets_none() {
        let first = respond(&[]);
        let tag = first
            .headers()
            .get(ETAG)
            .expect("a tag")
            .to_str()
            .expect("text")
            .to_owned();
        for known in [tag.as_str(), &format!("\"x\", W/{tag}"), "*"] {
            let again = respond(&[("if-none-match", known)]);
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(again.headers().get(ETAG), first.headers().get(ETAG));
            assert!(
                to_bytes(again.into_body())
                    .await
                    .expect("in memory")
                    .is_empty()
            );
        }
        let other = respond(&[("if-none-match", &tag), ("accept-encoding", "gzip")]);
        assert_eq!(
            other.status(),
            StatusCode::OK,
            "the compressed bytes have a tag of their own"
        );
    }
}
