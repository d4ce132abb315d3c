//! One configured source: its configuration, its rate limit, and the header that the call log
//! redacts.

use std::net::IpAddr;

use actix_web::http::header::HeaderName;

use super::super::rate_limiter::RateLimiter;
use crate::config::CustomSourceConfig;
use crate::event::InternedName;
use crate::provider::ProviderHandshake;

/// Configured source, ready to verify and limit requests.
#[derive(Debug)]
pub(in crate::edge) struct ConfiguredSource {
    pub(super) custom: CustomSourceConfig,
    pub(super) client_limiter: RateLimiter<IpAddr>,
    /// Header with the signature or secret, whose name alone may not tell the call log to redact
    /// it.
    pub(in crate::edge) redacted_header: Option<HeaderName>,
}

impl ConfiguredSource {
    /// Prepares the source that `custom` describes.
    pub(in crate::edge) fn new(custom: &CustomSourceConfig) -> Self {
        let redacted_header = custom
            .source
            .signing
            .scheme_header()
            .and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok());
        Self {
            custom: custom.clone(),
            client_limiter: RateLimiter::new(custom.rate_per_minute),
            redacted_header,
        }
    }

    /// Prepares the source of the same name for a new `custom`, with the requests that its limit has
    /// counted.
    pub(in crate::edge) fn succeed(&self, custom: &CustomSourceConfig) -> Self {
        Self {
            client_limiter: self.client_limiter.with_limit(custom.rate_per_minute),
            ..Self::new(custom)
        }
    }

    /// Name of the source in the configuration.
    pub(in crate::edge) const fn name(&self) -> InternedName {
        self.custom.name
    }

    /// Returns true if the source answers Meta's handshake by `GET`: its preset has that handshake,
    /// and a verify token is configured.
    pub(in crate::edge) fn has_subscription_handshake(custom: &CustomSourceConfig) -> bool {
        let has_handshake = matches!(
            custom.source.signing.handshake(),
            ProviderHandshake::Subscription
        );
        has_handshake && !custom.verify_token.is_empty()
    }
}
