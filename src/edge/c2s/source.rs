//! Authentication and rate limits of the C2S contract: token and address list, and limits for each
//! address and each lead.

use std::collections::HashSet;
use std::net::IpAddr;

use actix_web::http::header::HeaderMap;
use bytes::Bytes;
use tracing::Span;

use super::super::error::ApiError;
use super::super::field_error::FieldError;
use super::super::proof_headers::{self, RequestOrigin};
use super::super::rate_limiter::RateLimiter;
use super::decode::C2sEvent;
use super::lead_buckets::LeadTokenBuckets;
use crate::clock::Clock;
use crate::config;
use crate::entity::c2s_lead::{self, RECEIVED_EVENT, SOURCE};
use crate::entity::{Command, EntityAction};
use crate::event::{PayloadShape, Record, fingerprint_key};

const TOKEN_HEADER: &str = "x-webhook-token";

/// C2S source, ready to authenticate and limit requests.
#[derive(Debug)]
pub(in crate::edge) struct C2sSource {
    config: config::C2sConfig,
    pub(super) client_limiter: RateLimiter<IpAddr>,
    pub(super) lead_buckets: LeadTokenBuckets,
}

/// Result of one pass over the events of a list.
pub(super) struct BatchPass {
    /// Events that got a token.
    pub(super) admitted: Vec<C2sEvent>,
    /// Fingerprint of the lead of each admitted event.
    pub(super) leads: Vec<u64>,
    /// Events that got no token, with their index, in order.
    pub(super) refused: Vec<(usize, C2sEvent)>,
}

impl C2sSource {
    /// Prepares the source that `config` describes.
    #[must_use]
    pub(in crate::edge) fn new(config: &config::C2sConfig) -> Self {
        Self {
            config: config.clone(),
            client_limiter: RateLimiter::new(config.rate_per_minute),
            lead_buckets: LeadTokenBuckets::new(config.lead_rate_per_minute),
        }
    }

    /// Prepares the source for a new `config`, with what its limits have counted.
    #[must_use]
    pub(in crate::edge) fn succeed(&self, config: &config::C2sConfig) -> Self {
        Self {
            client_limiter: self.client_limiter.with_limit(config.rate_per_minute),
            lead_buckets: self.lead_buckets.with_limit(config.lead_rate_per_minute),
            ..Self::new(config)
        }
    }

    /// Builds the command of an event that came here as `origin` tells.
    pub(super) fn receive_command(
        &self,
        event: C2sEvent,
        origin: RequestOrigin,
        span: &Span,
    ) -> Command {
        let C2sEvent {
            entity,
            action,
            at,
            payload,
        } = event;
        Command {
            at: Some(at),
            shape: PayloadShape::Bare,
            pending: self.config.is_enrichment_enabled(),
            hops: origin.hops,
            trace: origin.trace,
            span: span.clone(),
            ..Command::new(
                SOURCE,
                entity,
                EntityAction::C2sLead(action),
                RECEIVED_EVENT,
                payload,
            )
        }
    }

    /// Builds the command that reopens the failed event of `record`: its enrichment starts again,
    /// or the event is completed if enrichment is off.
    pub(in crate::edge) fn reopen_command(&self, record: &Record, span: Span) -> Command {
        let action = EntityAction::C2sLead(c2s_lead::C2sLeadAction::Reopened);
        Command {
            shape: PayloadShape::Bare,
            may_create: false,
            pending: self.config.is_enrichment_enabled(),
            span,
            ..Command::new(
                SOURCE,
                record.entity.clone(),
                action,
                RECEIVED_EVENT,
                Bytes::new(),
            )
        }
    }

    pub(super) fn is_allowed_address(&self, client: IpAddr) -> bool {
        let allowlist = &self.config.ip_allowlist;
        allowlist.is_empty() || allowlist.iter().any(|network| network.contains(&client))
    }

    /// Checks that the request has a configured token. All tokens are compared, also after a match,
    /// so that the time taken does not tell which one matched.
    pub(super) fn check_token(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let token = proof_headers::read_credential(headers, TOKEN_HEADER)?;
        let compare = |is_match, configured: &config::Secret| {
            is_match | (configured.matches(token) && !configured.is_empty())
        };
        let is_valid = self.config.tokens.iter().fold(false, compare);
        is_valid.then_some(()).ok_or(ApiError::InvalidToken)
    }

    /// Takes a token for each of `events` whose lead has one left. After one event of a lead gets
    /// no token, later events of that lead get none in this pass either: even if a token becomes
    /// free meanwhile, the events of a lead stay in order.
    pub(super) fn take_tokens(
        &self,
        events: Vec<(usize, C2sEvent)>,
        clock: &dyn Clock,
    ) -> BatchPass {
        let mut pass = BatchPass {
            admitted: Vec::new(),
            leads: Vec::new(),
            refused: Vec::new(),
        };
        let mut empty = HashSet::new();
        for (index, event) in events {
            let lead = lead_fingerprint(&event);
            let now = clock.monotonic();
            if empty.contains(&lead) || self.lead_buckets.take_token(lead, now).is_err() {
                empty.insert(lead);
                pass.refused.push((index, event));
            } else {
                pass.leads.push(lead);
                pass.admitted.push(event);
            }
        }
        pass
    }

    pub(super) fn no_token_error(&self) -> Vec<FieldError> {
        let limit = self.config.lead_rate_per_minute;
        let detail = format!(
            "rate limit of {limit} a minute is used up for this lead_id, send the event again"
        );
        vec![FieldError {
            field: "lead_id".into(),
            detail,
        }]
    }
}

/// Returns the fingerprint under which the lead of `event` has its bucket.
pub(super) fn lead_fingerprint(event: &C2sEvent) -> u64 {
    fingerprint_key("", event.entity.id())
}
