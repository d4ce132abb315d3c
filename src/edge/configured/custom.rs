//! One configured source, ready to take requests: what it is, its limit, and the header that stays out of the call log.

use std::net::IpAddr;

use actix_web::http::header::HeaderName;

use super::super::limiter::Limiter;
use crate::config::Custom;
use crate::provider::Handshake;

/// One configured source, ready to take requests.
#[derive(Debug)]
pub(in crate::edge) struct Configured {
    pub(super) custom: Custom,
    pub(super) limiter: Limiter<IpAddr>,
    /// A header that may hold a secret without its name saying so.
    pub(in crate::edge) concealed: Option<HeaderName>,
}

impl Configured {
    /// The source that `custom` describes.
    pub(in crate::edge) fn new(custom: &Custom) -> Self {
        let concealed =
            custom.source.signing.own_header().and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok());
        Self { custom: custom.clone(), limiter: Limiter::new(custom.rate_per_minute), concealed }
    }

    /// Meta subscribes with a `GET` where there is a verify token to show.
    pub(in crate::edge) fn subscribes(custom: &Custom) -> bool {
        let knows = matches!(custom.source.signing.handshake(), Handshake::Subscription);
        knows && !custom.verify_token.is_empty()
    }
}
