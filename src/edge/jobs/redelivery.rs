//! `POST /api/v1/webhooks/{id}/recover` and `…/replay`: what failed, or everything, of a time once
//! more.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use serde_json::value::RawValue;
use tracing::info;

use super::super::context::RequestContext;
use super::super::error::Error;
use super::super::fields::FieldErrors;
use super::super::state::Edge;
use super::super::{body, webhooks};
use super::{accepted_job_response, job_error};
use crate::event::Timestamp;
use crate::subscriber::SubscriberId;
use crate::subscription::Pattern;
use crate::subscription::limits::EVENTS_MAX;
use crate::subscription::pattern::PATTERN_MAX_BYTES;

/// `POST /api/v1/webhooks/{id}/recover`
pub(in crate::edge) async fn recover(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let id: String = context.parse_path()?;
    let body = context.read_json().await?;
    let core = context.edge.core()?;
    let id = webhooks::find_subscription(&core, &id)?.id;
    let RedeliveryRequest { since, until, .. } =
        RedeliveryRequest::parse(body::text(&body)?, &RECOVER_MEMBERS, &context.edge)?;
    let job = core
        .subscribers
        .jobs()
        .recover_failed_events(SubscriberId::Webhook(id), Some(since), until)
        .await
        .map_err(job_error)?;
    info!(
        subscription = id,
        job = job.id,
        "what failed is delivered again"
    );
    Ok(accepted_job_response(&job))
}

/// `POST /api/v1/webhooks/{id}/replay`
pub(in crate::edge) async fn replay(context: &mut RequestContext) -> Result<HttpResponse, Error> {
    let id: String = context.parse_path()?;
    let body = context.read_json().await?;
    let core = context.edge.core()?;
    let id = webhooks::find_subscription(&core, &id)?.id;
    let RedeliveryRequest {
        since,
        until,
        events,
    } = RedeliveryRequest::parse(body::text(&body)?, &REPLAY_MEMBERS, &context.edge)?;
    let jobs = core.subscribers.jobs();
    let job = jobs
        .replay_events(SubscriberId::Webhook(id), Some(since), until, events)
        .await
        .map_err(job_error)?;
    info!(
        subscription = id,
        job = job.id,
        "events are delivered again"
    );
    Ok(accepted_job_response(&job))
}

/// The members that say what failed is delivered again.
const RECOVER_MEMBERS: [&str; 2] = ["since", "until"];
/// Those that say the same of all events.
const REPLAY_MEMBERS: [&str; 3] = ["since", "until", "events"];

/// What is to be delivered again.
struct RedeliveryRequest {
    since: Timestamp,
    until: Option<Timestamp>,
    events: Vec<Pattern>,
}

impl RedeliveryRequest {
    /// Reads it from `json`, which has none but the members `known`.
    ///
    /// # Errors
    /// [`Error::InvalidJson`], or [`Error::Invalid`] with every wrong member.
    fn parse(json: &str, known: &[&str], edge: &Edge) -> Result<Self, Error> {
        let given: BTreeMap<String, &RawValue> =
            serde_json::from_str(json).map_err(|error| Error::from_json_error(&error))?;
        let [since, until, events] = REPLAY_MEMBERS.map(|name| given.get(name).copied());
        let mut faults = FieldErrors::default();
        // `untill` would deliver everything until now.
        faults.add_unknown_members(given.keys(), known);
        // Everything since the beginning is a wish that has to be spelt out.
        let given = faults.read_optional_time("since", since);
        if since.is_none_or(|raw| raw.get() == "null") {
            faults.add("since", "is required");
        }
        let until = faults.read_optional_time("until", until);
        if let (Some(since), Some(until)) = (given, until)
            && until <= since
        {
            faults.add("until", "must be later than since");
        }
        let texts = faults.texts("events", events, EVENTS_MAX, PATTERN_MAX_BYTES);
        let mut patterns = Vec::new();
        for (index, text) in texts
            .iter()
            .enumerate()
            .filter(|(_, text)| !text.is_empty())
        {
            match Pattern::parse(text, edge.vocabulary()) {
                Ok(pattern) => patterns.push(pattern),
                Err(refused) => faults.add(format!("events[{index}]"), refused.to_string()),
            }
        }
        faults.finish(Self {
            since: given.unwrap_or_default(),
            until,
            events: patterns,
        })
    }
}
