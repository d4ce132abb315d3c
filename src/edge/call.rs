//! One request as the log and its sender know it: its id, its span, and the line that its answer leaves.

use std::cell::Cell;

use actix_web::dev::Payload;
use actix_web::http::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};
use actix_web::{HttpRequest, HttpResponse};
use tracing::Span;

use super::Edge;
use super::answer::REQUEST_ID;
use super::error::Error;
use super::unread;

/// The longest id that is taken over from a sender.
const ID_MAX_BYTES: usize = 128;

/// A request that is being handled.
#[derive(Debug)]
pub(super) struct Call {
    id: HeaderValue,
    span: Span,
}

impl Call {
    /// Begins handling `request` for `source`, under the sender's `X-Request-Id` if that is a sane one, else under a new id.
    #[must_use]
    pub(super) fn begin(request: &HttpRequest, source: &'static str) -> Self {
        let given = request.headers().get(REQUEST_ID).filter(|id| is_sane(id.as_bytes()));
        let id = given.cloned().unwrap_or_else(new_id);
        let span = tracing::info_span!("request", request_id = id.to_str().unwrap_or_default(), source);
        Self { id, span }
    }

    /// The request's span.
    #[must_use]
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Ends it: logs what became of it, and gives the answer its id. `payload` is what was not read of the request.
    #[must_use]
    pub(super) fn end(
        self,
        request: &HttpRequest,
        payload: Payload,
        edge: &Edge,
        result: Result<HttpResponse, Error>,
    ) -> HttpResponse {
        let mut response = match result {
            Ok(response) => {
                tracing::debug!(parent: &self.span, status = response.status().as_u16(), "request answered");
                response
            }
            Err(error) => {
                let client = edge.client(request);
                tracing::info!(parent: &self.span, code = error.code(), %client, "request refused");
                HttpResponse::from_error(error)
            }
        };
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, self.id);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        unread::hold(request, payload, response)
    }
}

/// Printable and without quotes, spaces or separators, so that it stays one word in any log.
fn is_sane(id: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
    (1..=ID_MAX_BYTES).contains(&id.len()) && id.iter().all(plain)
}

fn new_id() -> HeaderValue {
    let mut text = [0; 16];
    hex::encode_to_slice(random().to_be_bytes(), &mut text).expect("8 bytes are 16 digits");
    HeaderValue::from_bytes(&text).expect("hex digits may stand in a header")
}

thread_local! {
    static RANDOM: Cell<u64> = Cell::new(seed());
}

fn seed() -> u64 {
    let mut seed = [0; 8];
    // Ids are for telling requests apart, not secrets: a node without randomness still counts them.
    let _ = getrandom::fill(&mut seed);
    u64::from_ne_bytes(seed)
}

/// The next number of the SplitMix64 generator (Steele, Lea, Flood 2014): distinct for 2^64 calls, no system call.
fn random() -> u64 {
    const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
    let state = RANDOM.get().wrapping_add(GOLDEN_GAMMA);
    RANDOM.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_sane_id_is_taken_over_and_any_other_replaced() {
        for (given, taken) in [("req-42.a:b/c", true), ("with space", false), ("quote\"", false), ("", false)] {
            let request = TestRequest::default().insert_header((REQUEST_ID, given)).to_http_request();
            let call = Call::begin(&request, "support");
            assert_eq!(call.id == given, taken, "{given}");
        }
        let long = "x".repeat(ID_MAX_BYTES + 1);
        let request = TestRequest::default().insert_header((REQUEST_ID, long)).to_http_request();
        assert_eq!(Call::begin(&request, "support").id.len(), 16);
    }

    #[test]
    fn new_ids_differ() {
        assert_ne!(new_id(), new_id());
    }
}
