//! State that all handlers share: the configuration, the clock, the gate to the core, and the
//! checks of each source. A reload makes a new one; requests in progress keep theirs.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::dev::Payload;
use bytes::Bytes;

use super::backup_streams::BackupStreams;
use super::body::BodyLimits;
use super::c2s::source::C2sSource;
use super::configured::source::ConfiguredSource;
use super::crm::decode::BusEventCatalogue;
use super::dashboard::state::DashboardState;
use super::error::ApiError;
use super::gate::{CoreGate, NodeCore};
use super::instagram::source::InstagramSource;
use super::leads::source::LeadsSource;
use super::proven_networks::ProvenNetworks;
use super::rate_limiter::RateLimiter;
use super::refusal_lines::{AUDIT_ENTRIES_PER_MINUTE, LINES_PER_MINUTE, RefusalLines};
use super::request_forwarder::{self, RequestForwarder};
use super::storage_sizes::StorageReader;
use super::support::source::SupportSource;
use super::unproven_bodies::{BodyShare, UnprovenBodies};
use super::{body, client_address};
use crate::clock::{CheckedClock, Clock};
use crate::config::{Config, CustomSourceConfig, LiveConfig, Secret};
use crate::event::check_nesting;
use crate::metrics::NodeMetrics;
use crate::subscription::EventVocabulary;
use crate::traces::TraceSink;

/// State of one configuration, shared by all worker threads.
pub struct Edge {
    pub(super) config: Arc<Config>,
    /// Holder of the configuration, for its reload.
    pub(super) live_config: Arc<LiveConfig>,
    pub(super) clock: Arc<dyn Clock>,
    /// The same clock, for its jumps.
    pub(super) checked_clock: Arc<CheckedClock>,
    pub(super) metrics: Arc<NodeMetrics>,
    /// Sink of the spans of accepted calls.
    pub(super) traces: TraceSink,
    pub(super) gate: CoreGate,
    pub(super) dashboard: Arc<DashboardState>,
    pub(super) storage: StorageReader,
    /// Failed authentications of each client network.
    auth_failures: RateLimiter<IpAddr>,
    support: SupportSource,
    leads: LeadsSource,
    pub(super) configured_sources: Vec<ConfiguredSource>,
    bus_events: BusEventCatalogue,
    instagram: InstagramSource,
    c2s: C2sSource,
    vocabulary: EventVocabulary,
    pub(super) backups: Arc<BackupStreams>,
    pub(super) refusal_lines: Arc<RefusalLines>,
    /// Entries of refused calls in the audit log.
    pub(super) audited_refusals: Arc<RefusalLines>,
    /// Networks of those who have proved who they are.
    pub(super) proven_networks: Arc<ProvenNetworks>,
    unproven_bodies: Arc<UnprovenBodies>,
    /// Way to the leader of the cluster; `None` for a node on its own.
    pub(super) forwarder: Option<Arc<RequestForwarder>>,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge")
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}

impl Edge {
    /// Builds the checks of each source from `live_config`; accepted events pass through `gate`, and
    /// calls are counted in `metrics` and reported to `traces`.
    #[must_use]
    pub fn new(
        live_config: Arc<LiveConfig>,
        clock: Arc<CheckedClock>,
        (metrics, traces): (Arc<NodeMetrics>, TraceSink),
        gate: CoreGate,
    ) -> Self {
        let config = live_config.current();
        let (server, sources) = (&config.server, &config.sources);
        let proven_networks = Arc::<ProvenNetworks>::default();
        Self {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            checked_clock: clock,
            metrics,
            traces,
            gate,
            dashboard: Arc::new(DashboardState::new(&config.dashboard)),
            storage: StorageReader::default(),
            auth_failures: RateLimiter::new(server.auth_failures_per_minute),
            support: SupportSource::new(&sources.support),
            leads: LeadsSource::new(&sources.leads),
            configured_sources: sources.custom.iter().map(ConfiguredSource::new).collect(),
            bus_events: BusEventCatalogue::new(&sources.crm),
            instagram: InstagramSource::new(&sources.instagram),
            c2s: C2sSource::new(&sources.c2s),
            vocabulary: EventVocabulary::new(sources),
            backups: Arc::default(),
            refusal_lines: Arc::new(RefusalLines::new(LINES_PER_MINUTE)),
            audited_refusals: Arc::new(RefusalLines::new(AUDIT_ENTRIES_PER_MINUTE)),
            unproven_bodies: UnprovenBodies::new(
                server.unproven_bytes_max,
                Arc::clone(&proven_networks),
            ),
            proven_networks,
            forwarder: config.cluster.as_ref().map(|cluster| {
                // TLS with built-in certificates: nothing of it depends on the configuration.
                let forwarder = RequestForwarder::new(cluster);
                Arc::new(forwarder.expect("a client with built-in certificates can be built"))
            }),
            live_config,
            config,
        }
    }

    /// Builds the state for a new `config`. Counters, sessions and whatever else callers rely on are
    /// those of this one.
    pub(super) fn succeed(&self, config: Arc<Config>) -> Self {
        let (server, sources) = (&config.server, &config.sources);
        let known: HashMap<_, _> = self
            .configured_sources
            .iter()
            .map(|source| (source.name(), source))
            .collect();
        let configured_sources = sources.custom.iter();
        let configured_sources = configured_sources.map(|custom| match known.get(&custom.name) {
            Some(source) => source.succeed(custom),
            None => ConfiguredSource::new(custom),
        });
        Self {
            clock: Arc::clone(&self.clock),
            checked_clock: Arc::clone(&self.checked_clock),
            metrics: Arc::clone(&self.metrics),
            traces: self.traces.clone(),
            gate: self.gate.clone(),
            dashboard: Arc::clone(&self.dashboard),
            storage: self.storage.clone(),
            auth_failures: self
                .auth_failures
                .with_limit(server.auth_failures_per_minute),
            support: self.support.succeed(&sources.support),
            leads: self.leads.succeed(&sources.leads),
            configured_sources: configured_sources.collect(),
            bus_events: BusEventCatalogue::new(&sources.crm),
            instagram: InstagramSource::new(&sources.instagram),
            c2s: self.c2s.succeed(&sources.c2s),
            vocabulary: EventVocabulary::new(sources),
            backups: Arc::clone(&self.backups),
            refusal_lines: Arc::clone(&self.refusal_lines),
            audited_refusals: Arc::clone(&self.audited_refusals),
            proven_networks: Arc::clone(&self.proven_networks),
            unproven_bodies: self.unproven_bodies.with_limit(server.unproven_bytes_max),
            forwarder: self.forwarder.clone(),
            live_config: Arc::clone(&self.live_config),
            config,
        }
    }

    /// Makes the path of a link that logs one person in to the dashboard, once and within ten
    /// minutes; `None` if the dashboard is switched off.
    #[must_use]
    pub fn login_link(&self) -> Option<Secret> {
        let sessions = &self.dashboard.sessions;
        let token = sessions.issue_login_link(self.clock.monotonic());
        let path = format!("/dashboard/login?link={}", token.expose());
        self.config.dashboard.enabled.then(|| Secret::new(path))
    }

    /// Ends the answers that take long, so that they do not hold up the stop of the node.
    pub fn end_streams(&self) {
        self.backups.end();
        if let Some(core) = self.gate.current() {
            core.subscribers.end_pulls();
        }
    }

    pub(super) fn support(&self) -> &SupportSource {
        &self.support
    }

    pub(super) fn leads(&self) -> &LeadsSource {
        &self.leads
    }

    pub(super) fn bus_events(&self) -> &BusEventCatalogue {
        &self.bus_events
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

    pub(super) fn core(&self) -> Result<Arc<NodeCore>, ApiError> {
        self.gate.current().ok_or(ApiError::Unavailable)
    }

    pub(super) fn body_limits(&self) -> BodyLimits {
        BodyLimits {
            bytes_max: self.config.server.body_limit_bytes,
            timeout: self.config.server.request_timeout,
            grace: self.config.server.body_grace,
            bytes_per_second_min: self.config.server.body_bytes_per_s_min,
        }
    }

    /// Limits of the bodies of a configured source.
    pub(super) fn body_limits_of(&self, custom: &CustomSourceConfig) -> BodyLimits {
        BodyLimits {
            bytes_max: self.config.body_limit_of(custom),
            ..self.body_limits()
        }
    }

    /// Limits of the largest body that any source may send.
    pub(super) fn largest_body_limits(&self) -> body::BodyLimits {
        let sources = self.config.sources.custom.iter();
        let largest = sources
            .map(|custom| self.config.body_limit_of(custom))
            .max();
        let limits = self.body_limits();
        body::BodyLimits {
            bytes_max: limits.bytes_max.max(largest.unwrap_or_default()),
            ..limits
        }
    }

    pub(super) fn client_address(&self, request: &HttpRequest) -> IpAddr {
        if let Some(origin) = request_forwarder::forwarded_origin(request) {
            return origin.client;
        }
        client_address::resolve_client_address(request, &self.config.server.trusted_proxies)
    }

    /// Network of the client of `request`, by which limits count.
    pub(super) fn client_network(&self, request: &HttpRequest) -> IpAddr {
        client_address::client_network(self.client_address(request))
    }

    /// Reads the whole body of `request`, which is not compressed.
    ///
    /// # Errors
    /// As for [`body::read_body`].
    pub(super) async fn read_body(
        &self,
        request: &HttpRequest,
        payload: &mut Payload,
        limits: BodyLimits,
    ) -> Result<Bytes, ApiError> {
        body::read_body(request, payload, limits, self.body_share(request, limits)).await
    }

    /// Reads the whole body of `request` as it was sent, compressed or not.
    ///
    /// # Errors
    /// As for [`body::read_encoded_body`].
    pub(super) async fn read_encoded_body(
        &self,
        request: &HttpRequest,
        payload: &mut Payload,
        limits: BodyLimits,
    ) -> Result<Bytes, ApiError> {
        body::read_encoded_body(request, payload, limits, self.body_share(request, limits)).await
    }

    fn body_share(&self, request: &HttpRequest, limits: BodyLimits) -> BodyShare {
        let network = self.client_network(request);
        self.unproven_bodies.share(network, limits.bytes_max)
    }

    /// Checks that the JSON `body` of an event nests no deeper than the operator allows. Bytes that are
    /// no text are refused when they are decoded.
    ///
    /// # Errors
    /// [`ApiError::InvalidJson`].
    pub(super) fn check_nesting(&self, body: &[u8]) -> Result<(), ApiError> {
        let text = std::str::from_utf8(body).unwrap_or_default();
        let checked = check_nesting(text, self.config.server.nesting_max);
        checked.map_err(|error| ApiError::InvalidJson(error.to_string()))
    }

    /// Remembers that `request` has proved who sent it: its network is no stranger's from now on.
    pub(super) fn note_proof(&self, request: &HttpRequest) {
        self.proven_networks.note(self.client_network(request));
    }

    /// Counts a failed authentication against the client of `request`. Returns `error`, or
    /// [`ApiError::TooManyFailures`] once the client has failed too often.
    pub(super) fn count_auth_failure(&self, request: &HttpRequest, error: ApiError) -> ApiError {
        let counted = self
            .auth_failures
            .admit(self.client_network(request), self.clock.monotonic());
        counted.err().map_or(error, ApiError::TooManyFailures)
    }
}
