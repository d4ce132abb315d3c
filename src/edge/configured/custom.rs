//! One configured source, ready to take requests: what it is, its limit, and the header that stays
//! out of the call log.

use std::net::IpAddr;

use actix_web::http::header::HeaderName;

use super::super::rate_limiter::RateLimiter;
use crate::config::CustomSourceConfig;
use crate::provider::ProviderHandshake;

/// One configured source, ready to take requests.
#[derive(Debug)]
pub(in crate::edge) struct Configured {
    pub(super) custom: CustomSourceConfig,
    pub(super) limiter: RateLimiter<IpAddr>,
    /// A header that may hold a secret without its name saying so.
    pub(in crate::edge) redacted_header: Option<HeaderName>,
}

impl Configured {
    /// The source that `custom` describes.
    pub(in crate::edge) fn new(custom: &CustomSourceConfig) -> Self {
        let redacted_header = custom
            .source
            .signing
            .scheme_header()
            .and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok());
        Self {
            custom: custom.clone(),
            limiter: RateLimiter::new(custom.rate_per_minute),
            redacted_header,
        }
    }

    /// Meta subscribes with a `GET` where there is a verify token to show.
    pub(in crate::edge) fn subscribes(custom: &CustomSourceConfig) -> bool {
        let knows = matches!(
            custom.source.signing.handshake(),
            ProviderHandshake::Subscription
        );
        knows && !custom.verify_token.is_empty()
    }
}
