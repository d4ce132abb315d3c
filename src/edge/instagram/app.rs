//! The Instagram app whose updates are taken in: its verify token and its secrets.

use super::super::signature::SignatureVerifier;
use crate::config;

/// The app as the configuration has it, with its secrets keyed.
#[derive(Debug)]
pub(in crate::edge) struct InstagramSource {
    pub(super) config: config::InstagramConfig,
    pub(super) verifier: SignatureVerifier,
}

impl InstagramSource {
    /// The app of `config`.
    #[must_use]
    pub(in crate::edge) fn new(config: &config::InstagramConfig) -> Self {
        Self {
            verifier: SignatureVerifier::new(&config.app_secrets),
            config: config.clone(),
        }
    }
}
