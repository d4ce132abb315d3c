//! Callers of the C2S contract: known by a token and an address, and limited by that address and by the leads they write of.

use std::collections::HashSet;
use std::net::IpAddr;

use actix_web::http::header::HeaderMap;
use bytes::Bytes;
use tracing::Span;

use super::super::fault::Fault;
use super::super::limiter::Limiter;
use super::bucket::Buckets;
use super::decode::Event;
use crate::clock::Clock;
use crate::config;
use crate::entity::c2s_lead::{self, RECEIVED, SOURCE};
use crate::entity::{Action, Command};
use crate::event::{Record, Shape, fingerprint};

const TOKEN: &str = "x-webhook-token";

/// Rules that callers and their requests have to meet.
#[derive(Debug)]
pub(in crate::edge) struct C2s {
    config: config::C2s,
    pub(super) callers: Limiter<IpAddr>,
    pub(super) leads: Buckets,
}

/// Result of one pass over the events of a list.
pub(super) struct Pass {
    /// Those that got a token.
    pub(super) taken: Vec<Event>,
    /// Their leads.
    pub(super) leads: Vec<u64>,
    /// Those that got none, in their order.
    pub(super) refused: Vec<(usize, Event)>,
}

impl C2s {
    /// The rules of `config`.
    #[must_use]
    pub(in crate::edge) fn new(config: &config::C2s) -> Self {
        let (callers, leads) = (Limiter::new(config.rate_per_minute), Buckets::new(config.lead_rate_per_minute));
        Self { config: config.clone(), callers, leads }
    }

    pub(super) fn command(&self, event: Event, span: &Span) -> Command {
        let Event { entity, action, at, payload } = event;
        Command {
            at: Some(at),
            shape: Shape::Bare,
            owes: self.config.enriches(),
            span: span.clone(),
            ..Command::new(SOURCE, entity, Action::C2sLead(action), RECEIVED, payload)
        }
    }

    /// The command that opens the failed event of `record` anew: its enrichment begins again, or, without any, it is completed.
    pub(in crate::edge) fn reopen(&self, record: &Record, span: Span) -> Command {
        let action = Action::C2sLead(c2s_lead::Action::Reopened);
        Command {
            shape: Shape::Bare,
            may_create: false,
            owes: self.config.enriches(),
            span,
            ..Command::new(SOURCE, record.entity.clone(), action, RECEIVED, Bytes::new())
        }
    }

    pub(super) fn may_call(&self, client: IpAddr) -> bool {
        let listed = &self.config.ip_allowlist;
        listed.is_empty() || listed.iter().any(|network| network.contains(&client))
    }

    /// Compares the token of a request with all configured ones, whichever fits.
    pub(super) fn is_authentic(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(TOKEN).map(|given| given.as_bytes()).unwrap_or_default();
        let fits = |found, token: &config::Secret| found | (token.matches(given) && !token.is_empty());
        self.config.tokens.iter().fold(false, fits)
    }

    /// Takes a token for each of `events`, as far as there are any. A lead of which one got none gets none in this pass any
    /// more, so that its events stay in order even if a token comes up meanwhile.
    pub(super) fn take_tokens(&self, events: Vec<(usize, Event)>, clock: &dyn Clock) -> Pass {
        let mut pass = Pass { taken: Vec::new(), leads: Vec::new(), refused: Vec::new() };
        let mut empty = HashSet::new();
        for (index, event) in events {
            let lead = lead(&event);
            if empty.contains(&lead) || self.leads.take(lead, clock.monotonic()).is_err() {
                empty.insert(lead);
                pass.refused.push((index, event));
            } else {
                pass.leads.push(lead);
                pass.taken.push(event);
            }
        }
        pass
    }

    pub(super) fn no_token(&self) -> Vec<Fault> {
        let limit = self.config.lead_rate_per_minute;
        let detail = format!("rate limit of {limit} a minute is used up for this lead_id, send the event again");
        vec![Fault { field: "lead_id".into(), detail }]
    }
}

/// Number of the lead of `event` among the buckets.
pub(super) fn lead(event: &Event) -> u64 {
    fingerprint("", event.entity.id())
}
