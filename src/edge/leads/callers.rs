//! Callers of the leads contract: known by a signature, if there are secrets, and limited by their address.

use std::net::IpAddr;

use super::super::limiter::Limiter;
use super::super::signature::Verifier;
use crate::config;

/// Rules that callers have to meet.
#[derive(Debug)]
pub(in crate::edge) struct Leads {
    pub(super) verifier: Verifier,
    pub(super) callers: Limiter<IpAddr>,
}

impl Leads {
    /// The rules of `config`.
    #[must_use]
    pub(in crate::edge) fn new(config: &config::Leads) -> Self {
        Self { verifier: Verifier::new(&config.secrets), callers: Limiter::new(config.rate_per_minute) }
    }
}
