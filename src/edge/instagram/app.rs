//! The Instagram app whose updates are taken in: its verify token and its secrets.

use super::super::signature::Verifier;
use crate::config;

/// What the endpoint checks requests against.
#[derive(Debug)]
pub struct Instagram {
    pub(super) config: config::Instagram,
    pub(super) verifier: Verifier,
}

impl Instagram {
    /// What `config` asks for.
    #[must_use]
    pub fn new(config: &config::Instagram) -> Self {
        Self { verifier: Verifier::new(&config.app_secrets), config: config.clone() }
    }
}
