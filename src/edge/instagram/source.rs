//! Settings of the Instagram app: its verify token, and its secrets ready to verify with.

use super::super::signature::SignatureVerifier;
use crate::config;

/// Instagram source, ready to verify requests.
#[derive(Debug)]
pub(in crate::edge) struct InstagramSource {
    pub(super) config: config::InstagramConfig,
    pub(super) verifier: SignatureVerifier,
}

impl InstagramSource {
    /// Prepares the source that `config` describes.
    #[must_use]
    pub(in crate::edge) fn new(config: &config::InstagramConfig) -> Self {
        Self {
            verifier: SignatureVerifier::new(&config.app_secrets),
            config: config.clone(),
        }
    }
}
