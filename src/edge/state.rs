//! State that all handlers share: the configuration, the clock, the gate to the core, and the checks of each source.

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::HttpRequest;

use super::c2s::callers::C2s;
use super::configured::custom::Configured;
use super::crm::decode::Catalogue;
use super::error::Error;
use super::gate::{Core, Gate};
use super::instagram::app::Instagram;
use super::leads::callers::Leads;
use super::limiter::Limiter;
use super::support::senders::Support;
use super::{address, body};
use crate::clock::Clock;
use crate::config::Config;
use crate::subscription::Vocabulary;

/// State that all handlers share.
pub struct Edge {
    pub(super) config: Arc<Config>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) gate: Gate,
    failures: Limiter<IpAddr>,
    support: Support,
    leads: Leads,
    pub(super) configured: Vec<Configured>,
    published: Catalogue,
    instagram: Instagram,
    c2s: C2s,
    vocabulary: Vocabulary,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge").field("gate", &self.gate).finish_non_exhaustive()
    }
}

impl Edge {
    /// An edge that sends what it takes in through `gate`.
    #[must_use]
    pub fn new(config: Arc<Config>, clock: Arc<dyn Clock>, gate: Gate) -> Self {
        let failures = Limiter::new(config.server.auth_failures_per_minute);
        let support = Support::new(&config.sources.support);
        let leads = Leads::new(&config.sources.leads);
        let configured = config.sources.custom.iter().map(Configured::new).collect();
        let published = Catalogue::new(&config.sources.crm);
        let instagram = Instagram::new(&config.sources.instagram);
        let c2s = C2s::new(&config.sources.c2s);
        let vocabulary = Vocabulary::new(&config.sources);
        Self { config, clock, gate, failures, support, leads, configured, published, instagram, c2s, vocabulary }
    }

    pub(super) fn support(&self) -> &Support {
        &self.support
    }

    pub(super) fn leads(&self) -> &Leads {
        &self.leads
    }

    pub(super) fn published(&self) -> &Catalogue {
        &self.published
    }

    pub(super) fn instagram(&self) -> &Instagram {
        &self.instagram
    }

    pub(super) fn c2s(&self) -> &C2s {
        &self.c2s
    }

    pub(super) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    pub(super) fn core(&self) -> Result<Arc<Core>, Error> {
        self.gate.current().ok_or(Error::Unavailable)
    }

    pub(super) fn bounds(&self) -> body::Bounds {
        body::Bounds { bytes_max: self.config.server.body_limit_bytes, time: self.config.server.request_timeout }
    }

    pub(super) fn client(&self, request: &HttpRequest) -> IpAddr {
        address::client(request, &self.config.server.trusted_proxies)
    }

    /// Counts a failed authentication of the client of `request`: `error`, unless that client failed too often.
    pub(super) fn count_failure(&self, request: &HttpRequest, error: Error) -> Error {
        let counted = self.failures.admit(address::network(self.client(request)), self.clock.monotonic());
        counted.err().map_or(error, Error::RateLimited)
    }
}
