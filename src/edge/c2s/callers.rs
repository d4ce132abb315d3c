//! Callers of the C2S contract: known by a token and an address, and limited by that address and by
//! the leads they write of.

use std::collections::HashSet;
use std::net::IpAddr;

use actix_web::http::header::HeaderMap;
use bytes::Bytes;
use tracing::Span;

use super::super::field_error::FieldError;
use super::super::rate_limiter::RateLimiter;
use super::decode::C2sEvent;
use super::lead_buckets::LeadTokenBuckets;
use crate::clock::Clock;
use crate::config;
use crate::entity::c2s_lead::{self, RECEIVED_EVENT, SOURCE};
use crate::entity::{Command, EntityAction};
use crate::event::{PayloadShape, Record, fingerprint_key};

const TOKEN: &str = "x-webhook-token";

/// Rules that callers and their requests have to meet.
#[derive(Debug)]
pub(in crate::edge) struct C2sSource {
    config: config::C2sConfig,
    pub(super) callers: RateLimiter<IpAddr>,
    pub(super) leads: LeadTokenBuckets,
}

/// Result of one pass over the events of a list.
pub(super) struct BatchPass {
    /// Those that got a token.
    pub(super) taken: Vec<C2sEvent>,
    /// Their leads.
    pub(super) leads: Vec<u64>,
    /// Those that got none, in their order.
    pub(super) refused: Vec<(usize, C2sEvent)>,
}

impl C2sSource {
    /// The rules of `config`.
    #[must_use]
    pub(in crate::edge) fn new(config: &config::C2sConfig) -> Self {
        let (callers, leads) = (
            RateLimiter::new(config.rate_per_minute),
            LeadTokenBuckets::new(config.lead_rate_per_minute),
        );
        Self {
            config: config.clone(),
            callers,
            leads,
        }
    }

    pub(super) fn receive_command(&self, event: C2sEvent, span: &Span) -> Command {
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

    /// The command that opens the failed event of `record` anew: its enrichment begins again, or,
    /// without any, it is completed.
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
        let listed = &self.config.ip_allowlist;
        listed.is_empty() || listed.iter().any(|network| network.contains(&client))
    }

    /// Compares the token of a request with all configured ones, whichever fits.
    pub(super) fn has_valid_token(&self, headers: &HeaderMap) -> bool {
        let given = headers
            .get(TOKEN)
            .map(|given| given.as_bytes())
            .unwrap_or_default();
        let fits =
            |found, token: &config::Secret| found | (token.matches(given) && !token.is_empty());
        self.config.tokens.iter().fold(false, fits)
    }

    /// Takes a token for each of `events`, as far as there are any. A lead of which one got none
    /// gets none in this pass any more, so that its events stay in order even if a token comes up
    /// meanwhile.
    pub(super) fn take_tokens(
        &self,
        events: Vec<(usize, C2sEvent)>,
        clock: &dyn Clock,
    ) -> BatchPass {
        let mut pass = BatchPass {
            taken: Vec::new(),
            leads: Vec::new(),
            refused: Vec::new(),
        };
        let mut empty = HashSet::new();
        for (index, event) in events {
            let lead = lead_fingerprint(&event);
            if empty.contains(&lead) || self.leads.take_token(lead, clock.monotonic()).is_err() {
                empty.insert(lead);
                pass.refused.push((index, event));
            } else {
                pass.leads.push(lead);
                pass.taken.push(event);
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

/// Number of the lead of `event` among the buckets.
pub(super) fn lead_fingerprint(event: &C2sEvent) -> u64 {
    fingerprint_key("", event.entity.id())
}
