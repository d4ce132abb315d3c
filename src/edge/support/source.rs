//! Authentication and rate limit of the support contract: API key, signature and timestamp, and a
//! limit for each API key.

use std::str;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::HeaderMap;
use bytes::Bytes;
use parking_lot::Mutex;

use super::super::error::ApiError;
use super::super::proof_headers;
use super::super::signature::{SignatureVerifier, VerifiedBody};
use super::super::sliding_window::{RateQuota, SlidingWindow};
use super::super::source::SUPPORT;
use super::decode;
use crate::config;
use crate::event::{SignedRequest, SignedRequestTag, Timestamp, tag_credential};

const API_KEY_HEADER: &str = "x-crm-api-key";
const SIGNATURE_HEADER: &str = "x-crm-signature";
const TIMESTAMP_HEADER: &str = "x-crm-timestamp";

/// Support source, ready to authenticate and limit requests.
#[derive(Debug)]
pub(in crate::edge) struct SupportSource {
    config: config::SupportConfig,
    verifier: SignatureVerifier,
    /// Window of each API key; `None` without a limit.
    windows: Vec<Option<Arc<Mutex<SlidingWindow>>>>,
}

/// Request with a valid API key, signature and timestamp.
pub(super) struct AuthenticatedRequest {
    pub(super) body: VerifiedBody,
    /// Time at which the sender signed the request.
    pub(super) at: Timestamp,
    /// Index of the API key among the configured ones.
    pub(super) key: usize,
    /// Signed request, which is taken once.
    pub(super) request: SignedRequest,
}

impl SupportSource {
    /// Prepares the source that `config` describes.
    #[must_use]
    pub(in crate::edge) fn new(config: &config::SupportConfig) -> Self {
        let window = || {
            let window = SlidingWindow::try_new(config.rate_per_minute)?;
            Some(Arc::new(Mutex::new(window)))
        };
        Self {
            verifier: SignatureVerifier::new(&config.secrets),
            windows: config.api_keys.iter().map(|_| window()).collect(),
            config: config.clone(),
        }
    }

    /// Prepares the source for a new `config`: API keys that stay keep their windows.
    #[must_use]
    pub(in crate::edge) fn succeed(&self, config: &config::SupportConfig) -> Self {
        let mut source = Self::new(config);
        for (key, window) in config.api_keys.iter().zip(&mut source.windows) {
            let known = self.find_api_key(key.expose().as_bytes());
            let known = known.and_then(|index| self.windows[index].clone());
            if let (Some(window), Some(known)) = (window, known) {
                known.lock().set_limit(config.rate_per_minute);
                *window = known;
            }
        }
        source
    }

    /// Policy for an event of a ticket that does not exist.
    #[must_use]
    pub(in crate::edge) fn unknown_entity(&self) -> config::UnknownEntityPolicy {
        self.config.unknown_entity
    }

    pub(super) fn check_api_key(&self, headers: &HeaderMap) -> Result<usize, ApiError> {
        let api_key = proof_headers::read_credential(headers, API_KEY_HEADER)?;
        self.find_api_key(api_key).ok_or(ApiError::InvalidApiKey)
    }

    pub(super) fn authenticate(
        &self,
        key: usize,
        headers: &HeaderMap,
        body: Bytes,
        now: Timestamp,
    ) -> Result<AuthenticatedRequest, ApiError> {
        // Without the header, the body's own timestamp was signed.
        let body_timestamp;
        let timestamp = proof_headers::find_single_header(headers, TIMESTAMP_HEADER)?;
        let timestamp = match timestamp {
            Some(timestamp) => timestamp,
            None => {
                body_timestamp =
                    decode::unverified_timestamp(&body).ok_or(ApiError::InvalidSignature)?;
                body_timestamp.as_bytes()
            }
        };

        let verified = |signature| {
            Some((
                self.verifier.verify(&body, timestamp, signature)?,
                signature,
            ))
        };
        let (body, signature) = proof_headers::signature_lines(headers, SIGNATURE_HEADER)
            .find_map(verified)
            .ok_or(ApiError::InvalidSignature)?;

        let at = str::from_utf8(timestamp)
            .ok()
            .and_then(Timestamp::parse)
            .ok_or(ApiError::StaleTimestamp)?;
        if at.distance(now) > self.config.tolerance {
            return Err(ApiError::StaleTimestamp);
        }
        // Hex digits have two spellings, and a signature stands for all that is signed. The API key is
        // not signed, so it must not make another request of this one.
        let signature = signature.to_ascii_lowercase();
        let tag = SignedRequestTag::new(SUPPORT.as_str().as_bytes(), [&signature[..]]);
        let request = SignedRequest::taken_once(tag);
        Ok(AuthenticatedRequest {
            body,
            at,
            key,
            request,
        })
    }

    /// Returns the index of the API key `candidate`. All keys are compared, also after a match, so
    /// that the time taken does not tell which one matched.
    fn find_api_key(&self, candidate: &[u8]) -> Option<usize> {
        let mut found = None;
        for (index, key) in self.config.api_keys.iter().enumerate() {
            if key.matches(candidate) && !key.is_empty() {
                found = Some(index);
            }
        }
        found
    }

    /// Tag of the API key at index `key`, which the idempotency keys of its sender belong to.
    pub(super) fn credential(&self, key: usize) -> u32 {
        tag_credential(&SUPPORT, self.config.api_keys[key].expose().as_bytes())
    }

    /// Counts one request in the window of the API key at index `key`; returns the quota, or `None`
    /// without a limit.
    ///
    /// # Errors
    /// [`ApiError::RateLimited`] if the window is full.
    pub(super) fn admit(&self, key: usize, now: Duration) -> Result<Option<RateQuota>, ApiError> {
        let Some(window) = &self.windows[key] else {
            return Ok(None);
        };
        let quota = window.lock().admit(now);
        quota.map(Some).map_err(ApiError::RateLimited)
    }
}
