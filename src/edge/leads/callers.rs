//! Callers of the leads contract: known by a signature, if there are secrets, and limited by their
//! address.

use std::net::IpAddr;

use super::super::rate_limiter::RateLimiter;
use super::super::signature::SignatureVerifier;
use crate::config;

/// Rules that callers have to meet.
#[derive(Debug)]
pub(in crate::edge) struct LeadsSource {
    pub(super) verifier: SignatureVerifier,
    pub(super) callers: RateLimiter<IpAddr>,
}

impl LeadsSource {
    /// The rules of `config`.
    #[must_use]
    pub(in crate::edge) fn new(config: &config::LeadsConfig) -> Self {
        Self {
            verifier: SignatureVerifier::new(&config.secrets),
            callers: RateLimiter::new(config.rate_per_minute),
        }
    }
}
