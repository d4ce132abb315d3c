//! The Instagram app whose updates are taken in: its verify token and its secrets.

use super::super::signature::Verifier;
use crate::config;

/// The app as the configuration has it, with its secrets keyed.
#[derive(Debug)]
pub(in crate::edge) struct Instagram {
    pub(super) config: config::Instagram,
    pub(super) verifier: Verifier,
}

impl Instagram {
    /// The app of `config`.
    #[must_use]
    pub(in crate::edge) fn new(config: &config::Instagram) -> Self {
        Self { verifier: Verifier::new(&config.app_secrets), config: config.clone() }
    }
}
