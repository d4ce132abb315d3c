//! The support contract: `POST /api/v0/crm/webhooks/support/`, its checks in their order, and its answers.
//!
//! ```text
//! size ─> API key ─> signature ─> timestamp ─> rate limit ─> JSON, fields ─> duplicate ─> stored ─> 202
//!  413      401         401          401          429         415, 400         409          503
//! ```

use std::str;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderValue};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse, dev};
use bytes::Bytes;
use parking_lot::Mutex;

use super::call::Call;
use super::error::Error;
use super::limit::{Quota, Window};
use super::signature::{Verified, Verifier};
use super::{Edge, body, intake};
use crate::config;
use crate::event::{Name, Timestamp};

mod data;
mod decode;
pub mod samples;
pub mod signature;
mod spec;

pub use decode::{Given, decode};
pub(super) use spec::endpoints;

/// The source's name, in records and logs.
pub const SOURCE: Name = Name::from_static("support");

const API_KEY: &str = "x-crm-api-key";
const SIGNATURE: &str = "x-crm-signature";
const TIMESTAMP: &str = "x-crm-timestamp";
const IDEMPOTENCY_KEYS: [&str; 2] = ["idempotency-key", "x-idempotency-key"];

/// What the endpoint checks requests against.
#[derive(Debug)]
pub struct Support {
    config: config::Support,
    verifier: Verifier,
    /// One for each API key; `None` without a limit.
    windows: Vec<Option<Mutex<Window>>>,
}

/// A request that proved who sent it.
struct Authentic {
    body: Verified,
    /// When its sender signed it.
    at: Timestamp,
    /// Which API key it came with.
    key: usize,
}

/// Takes one event in.
pub async fn receive(request: HttpRequest, payload: Payload, edge: Data<Edge>) -> HttpResponse {
    let mut payload = payload.into_inner();
    let call = Call::begin(&request, SOURCE.as_str());
    let mut quota = None;
    let result = answer(&request, &mut payload, &edge, &call, &mut quota).await;
    call.end_limited(&request, payload, &edge, result, quota)
}

/// The checks in their order; `quota` is what the sender has left, once it is known who that is.
async fn answer(
    request: &HttpRequest,
    payload: &mut dev::Payload,
    edge: &Edge,
    call: &Call,
    quota: &mut Option<Quota>,
) -> Result<HttpResponse, Error> {
    let headers = request.headers();
    let support = edge.support();
    body::check_declared(request, edge.bounds())?;
    // Known senders only: nobody else's body is worth memory.
    let key = support.api_key(headers).map_err(|error| edge.count_failure(request, error))?;
    let body = body::read(request, payload, edge.bounds()).await?;
    let authentic = support.authenticate(key, headers, body, edge.clock.wall());
    let authentic = authentic.map_err(|error| edge.count_failure(request, error))?;
    *quota = support.admit(authentic.key, edge.clock.monotonic())?;
    body::check_is_json(headers)?;
    let given = Given {
        idempotency_key: IDEMPOTENCY_KEYS.iter().find_map(|name| headers.get(*name)).map(HeaderValue::as_bytes),
        at: Some(authentic.at),
        unknown_entity: support.config.unknown_entity,
    };
    let command = decode(&authentic.body, given, call.span().clone())?;
    intake::submit(edge, command, StatusCode::ACCEPTED).await
}

impl Support {
    /// What `config` asks for.
    #[must_use]
    pub fn new(config: &config::Support) -> Self {
        let window = || Window::try_new(config.rate_per_minute).map(Mutex::new);
        Self {
            verifier: Verifier::new(&config.secrets),
            windows: config.api_keys.iter().map(|_| window()).collect(),
            config: config.clone(),
        }
    }

    /// What happens to an event of a ticket that does not exist.
    #[must_use]
    pub fn unknown_entity(&self) -> config::UnknownEntity {
        self.config.unknown_entity
    }

    fn api_key(&self, headers: &HeaderMap) -> Result<usize, Error> {
        let api_key = headers.get(API_KEY).ok_or(Error::InvalidApiKey)?;
        self.find_key(api_key.as_bytes()).ok_or(Error::InvalidApiKey)
    }

    fn authenticate(&self, key: usize, headers: &HeaderMap, body: Bytes, now: Timestamp) -> Result<Authentic, Error> {
        let signature = headers.get(SIGNATURE).ok_or(Error::InvalidSignature)?.as_bytes();
        let in_body;
        let timestamp = match headers.get(TIMESTAMP) {
            Some(timestamp) => timestamp.as_bytes(),
            None => {
                in_body = decode::unverified_timestamp(&body).ok_or(Error::InvalidSignature)?;
                in_body.as_bytes()
            }
        };
        let body = self.verifier.verify(&body, timestamp, signature).ok_or(Error::InvalidSignature)?;
        let at = str::from_utf8(timestamp).ok().and_then(Timestamp::parse).ok_or(Error::StaleTimestamp)?;
        if at.distance(now) > self.config.tolerance {
            return Err(Error::StaleTimestamp);
        }
        Ok(Authentic { body, at, key })
    }

    /// Which API key `candidate` is. All are compared, whichever fits.
    fn find_key(&self, candidate: &[u8]) -> Option<usize> {
        let mut found = None;
        for (index, key) in self.config.api_keys.iter().enumerate() {
            if key.matches(candidate) && !key.is_empty() {
                found = Some(index);
            }
        }
        found
    }

    /// Asks the window of API key `key` for room; there is no quota to tell where there is no limit.
    fn admit(&self, key: usize, now: Duration) -> Result<Option<Quota>, Error> {
        let Some(window) = &self.windows[key] else { return Ok(None) };
        let answer = window.lock().admit(now);
        answer.map(Some).map_err(Error::RateLimited)
    }
}
