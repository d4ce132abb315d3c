//! State that all handlers share: the configuration, the clock, the gate to the core, and the
//! checks of each source.

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::HttpRequest;

use super::c2s::source::C2sSource;
use super::configured::source::ConfiguredSource;
use super::crm::decode::BusEventCatalogue;
use super::error::Error;
use super::gate::{Gate, NodeCore};
use super::instagram::source::InstagramSource;
use super::leads::source::LeadsSource;
use super::rate_limiter::RateLimiter;
use super::support::source::SupportSource;
use super::{body, client_address};
use crate::clock::Clock;
use crate::config::Config;
use crate::subscription::EventVocabulary;

/// State that all handlers share.
pub struct Edge {
    pub(super) config: Arc<Config>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) gate: Gate,
    failures: RateLimiter<IpAddr>,
    support: SupportSource,
    leads: LeadsSource,
    pub(super) configured: Vec<ConfiguredSource>,
    published: BusEventCatalogue,
    instagram: InstagramSource,
    c2s: C2sSource,
    vocabulary: EventVocabulary,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge")
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}

impl Edge {
    /// An edge that sends what it takes in through `gate`.
    #[must_use]
    pub fn new(config: Arc<Config>, clock: Arc<dyn Clock>, gate: Gate) -> Self {
        let failures = RateLimiter::new(config.server.auth_failures_per_minute);
        let support = SupportSource::new(&config.sources.support);
        let leads = LeadsSource::new(&config.sources.leads);
        let configured = config
            .sources
            .custom
            .iter()
            .map(ConfiguredSource::new)
            .collect();
        let published = BusEventCatalogue::new(&config.sources.crm);
        let instagram = InstagramSource::new(&config.sources.instagram);
        let c2s = C2sSource::new(&config.sources.c2s);
        let vocabulary = EventVocabulary::new(&config.sources);
        Self {
            config,
            clock,
            gate,
            failures,
            support,
            leads,
            configured,
            published,
            instagram,
            c2s,
            vocabulary,
        }
    }

    pub(super) fn support(&self) -> &SupportSource {
        &self.support
    }

    pub(super) fn leads(&self) -> &LeadsSource {
        &self.leads
    }

    pub(super) fn bus_events(&self) -> &BusEventCatalogue {
        &self.published
    }

    pub(super) fn instagram(&self) -> &InstagramSource {
        &self.instagram
    }

    pub(super) fn c2s(&self) -> &C2sSource {
        &self.c2s
    }

    pub(super) fn vocabulary(&self) -> &EventVocabulary {
        &self.vocabulary
    }

    pub(super) fn core(&self) -> Result<Arc<NodeCore>, Error> {
        self.gate.current().ok_or(Error::Unavailable)
    }

    pub(super) fn body_limits(&self) -> body::BodyLimits {
        body::BodyLimits {
            bytes_max: self.config.server.body_limit_bytes,
            timeout: self.config.server.request_timeout,
        }
    }

    pub(super) fn client(&self, request: &HttpRequest) -> IpAddr {
        client_address::resolve_client_address(request, &self.config.server.trusted_proxies)
    }

    /// Counts a failed authentication of the client of `request`: `error`, unless that client
    /// failed too often.
    pub(super) fn count_failure(&self, request: &HttpRequest, error: Error) -> Error {
        let counted = self.failures.admit(
            client_address::client_network(self.client(request)),
            self.clock.monotonic(),
        );
        counted.err().map_or(error, Error::RateLimited)
    }
}
