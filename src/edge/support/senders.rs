//! Senders of the support contract: known by an API key and a signature, each key with a limit of
//! its own.

use parking_lot::Mutex;
use std::str;
use std::time::Duration;

use actix_web::http::header::HeaderMap;
use bytes::Bytes;

use super::super::error::ApiError;
use super::super::signature::{SignatureVerifier, VerifiedBody};
use super::super::sliding_window::{RateQuota, SlidingWindow};
use super::decode;
use crate::config;
use crate::event::Timestamp;

const API_KEY: &str = "x-crm-api-key";
const SIGNATURE: &str = "x-crm-signature";
const TIMESTAMP: &str = "x-crm-timestamp";

/// Rules that senders have to meet.
#[derive(Debug)]
pub(in crate::edge) struct SupportSource {
    config: config::SupportConfig,
    verifier: SignatureVerifier,
    /// One for each API key; `None` without a limit.
    windows: Vec<Option<Mutex<SlidingWindow>>>,
}

/// A request that proved who sent it.
pub(super) struct AuthenticatedRequest {
    pub(super) body: VerifiedBody,
    /// Time at which its sender signed it.
    pub(super) at: Timestamp,
    /// Place of its API key among the configured ones.
    pub(super) key: usize,
}

impl SupportSource {
    /// The rules of `config`.
    #[must_use]
    pub(in crate::edge) fn new(config: &config::SupportConfig) -> Self {
        let window = || SlidingWindow::try_new(config.rate_per_minute).map(Mutex::new);
        Self {
            verifier: SignatureVerifier::new(&config.secrets),
            windows: config.api_keys.iter().map(|_| window()).collect(),
            config: config.clone(),
        }
    }

    /// Fate of an event of a ticket that does not exist.
    #[must_use]
    pub(in crate::edge) fn unknown_entity(&self) -> config::UnknownEntityPolicy {
        self.config.unknown_entity
    }

    pub(super) fn check_api_key(&self, headers: &HeaderMap) -> Result<usize, ApiError> {
        let api_key = headers.get(API_KEY).ok_or(ApiError::InvalidApiKey)?;
        self.find_api_key(api_key.as_bytes())
            .ok_or(ApiError::InvalidApiKey)
    }

    pub(super) fn authenticate(
        &self,
        key: usize,
        headers: &HeaderMap,
        body: Bytes,
        now: Timestamp,
    ) -> Result<AuthenticatedRequest, ApiError> {
        let signature = headers
            .get(SIGNATURE)
            .ok_or(ApiError::InvalidSignature)?
            .as_bytes();
        let in_body;
        let timestamp = match headers.get(TIMESTAMP) {
            Some(timestamp) => timestamp.as_bytes(),
            None => {
                in_body = decode::unverified_timestamp(&body).ok_or(ApiError::InvalidSignature)?;
                in_body.as_bytes()
            }
        };
        let body = self
            .verifier
            .verify(&body, timestamp, signature)
            .ok_or(ApiError::InvalidSignature)?;
        let at = str::from_utf8(timestamp)
            .ok()
            .and_then(Timestamp::parse)
            .ok_or(ApiError::StaleTimestamp)?;
        if at.distance(now) > self.config.tolerance {
            return Err(ApiError::StaleTimestamp);
        }
        Ok(AuthenticatedRequest { body, at, key })
    }

    /// Place of `candidate` among the API keys. All are compared, whichever fits.
    fn find_api_key(&self, candidate: &[u8]) -> Option<usize> {
        let mut found = None;
        for (index, key) in self.config.api_keys.iter().enumerate() {
            if key.matches(candidate) && !key.is_empty() {
                found = Some(index);
            }
        }
        found
    }

    /// Asks the window of API key `key` for room; there is no quota to tell where there is no
    /// limit.
    pub(super) fn admit(&self, key: usize, now: Duration) -> Result<Option<RateQuota>, ApiError> {
        let Some(window) = &self.windows[key] else {
            return Ok(None);
        };
        let answer = window.lock().admit(now);
        answer.map(Some).map_err(ApiError::RateLimited)
    }
}
