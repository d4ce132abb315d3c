//! Authentication and rate limit of the leads contract: a signature if the source has secrets, and
//! a limit for each client address.

use std::net::IpAddr;
use std::time::Duration;

use super::super::rate_limiter::RateLimiter;
use super::super::signature::SignatureVerifier;
use crate::config::{self, LeadSignatureLayout};

/// Leads source, ready to verify and limit requests.
#[derive(Debug)]
pub(in crate::edge) struct LeadsSource {
    pub(super) verifier: SignatureVerifier,
    pub(super) signed: LeadSignatureLayout,
    pub(super) tolerance: Duration,
    pub(super) client_limiter: RateLimiter<IpAddr>,
}

impl LeadsSource {
    /// Prepares the source that `config` describes.
    #[must_use]
    pub(in crate::edge) fn new(config: &config::LeadsConfig) -> Self {
        Self {
            verifier: SignatureVerifier::new(&config.secrets),
            signed: config.signed,
            tolerance: config.tolerance,
            client_limiter: RateLimiter::new(config.rate_per_minute),
        }
    }

    /// Prepares the source for a new `config`, with the requests that its limit has counted.
    #[must_use]
    pub(in crate::edge) fn succeed(&self, config: &config::LeadsConfig) -> Self {
        Self {
            client_limiter: self.client_limiter.with_limit(config.rate_per_minute),
            ..Self::new(config)
        }
    }
}
