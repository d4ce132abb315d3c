//! `POST /api/v1/webhooks/{id}/recover` and `…/replay`: start jobs that deliver the failed events,
//! or all events, of a time range again.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tracing::info;

use super::super::context::RequestContext;
use super::super::error::ApiError;
use super::super::fields::FieldErrors;
use super::super::state::Edge;
use super::super::{body, webhooks};
use super::{accepted_job_response, job_error};
use crate::event::Timestamp;
use crate::subscriber::SubscriberId;
use crate::subscriber::dead_letters::DeadLetterFilter;
use crate::subscriber::jobs::{JobKind, RedeliveryJob};
use crate::subscription::Pattern;
use crate::subscription::limits::EVENTS_MAX;
use crate::subscription::pattern::PATTERN_MAX_BYTES;

/// Handles `POST /api/v1/webhooks/{id}/recover`: delivers the dead letters of a time range again.
pub(in crate::edge) async fn recover(
    context: &mut RequestContext,
) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    let body = context.read_json().await?;
    let job = start_recovery(&context.edge, &id, body::body_text(&body)?).await?;
    Ok(accepted_job_response(&job))
}

/// Starts a job that delivers the dead letters of the subscription with the number `id` again, of
/// the time range in `json`.
///
/// # Errors
/// As for [`RedeliveryRequest::parse`], [`ApiError::NotFound`], and the errors of starting a job.
pub(in crate::edge) async fn start_recovery(
    edge: &Edge,
    id: &str,
    json: &str,
) -> Result<RedeliveryJob, ApiError> {
    let core = edge.core()?;
    let id = webhooks::find_push_subscription(&core, id)?.id;
    let RedeliveryRequest { since, until, .. } =
        RedeliveryRequest::parse(json, &RECOVER_MEMBERS, edge)?;
    let filter = DeadLetterFilter {
        subscriber: Some(SubscriberId::Webhook(id)),
        since: Some(since),
        until,
        ..DeadLetterFilter::default()
    };
    let jobs = core.subscribers.jobs();
    let recovering = jobs.retry_dead_letters(JobKind::Recover, filter);
    let job = recovering.await.map_err(job_error)?;
    info!(subscription = id, job = job.id, "recovery job started");
    Ok(job)
}

/// Handles `POST /api/v1/webhooks/{id}/replay`: delivers all events of a time range again.
pub(in crate::edge) async fn replay(
    context: &mut RequestContext,
) -> Result<HttpResponse, ApiError> {
    let id: String = context.parse_path()?;
    let body = context.read_json().await?;
    let job = start_replay(&context.edge, &id, body::body_text(&body)?).await?;
    Ok(accepted_job_response(&job))
}

/// Starts a job that delivers all events of the time range in `json` again to the subscription with
/// the number `id`.
///
/// # Errors
/// As for [`start_recovery`].
pub(in crate::edge) async fn start_replay(
    edge: &Edge,
    id: &str,
    json: &str,
) -> Result<RedeliveryJob, ApiError> {
    let core = edge.core()?;
    let id = webhooks::find_push_subscription(&core, id)?.id;
    let RedeliveryRequest {
        since,
        until,
        events,
    } = RedeliveryRequest::parse(json, &REPLAY_MEMBERS, edge)?;
    let jobs = core.subscribers.jobs();
    let job = jobs
        .replay_events(SubscriberId::Webhook(id), Some(since), until, events)
        .await
        .map_err(job_error)?;
    info!(subscription = id, job = job.id, "replay job started");
    Ok(job)
}

/// Members of a request to recover.
const RECOVER_MEMBERS: [&str; 2] = ["since", "until"];
/// Members of a request to replay.
const REPLAY_MEMBERS: [&str; 3] = ["since", "until", "events"];

/// Makes the schema of a request to recover.
pub(super) fn time_range_schema() -> Value {
    let until = json!({"type": ["string", "null"], "format": "date-time"});
    json!({
        "type": "object", "required": ["since"], "additionalProperties": false,
        "properties": {"since": {"type": "string", "format": "date-time"}, "until": until},
    })
}

/// Makes the schema of a request to replay.
pub(super) fn replay_schema() -> Value {
    let mut schema = time_range_schema();
    schema["properties"]["events"] = json!({
        "type": ["array", "null"], "maxItems": EVENTS_MAX,
        "items": {"type": "string", "maxLength": PATTERN_MAX_BYTES},
    });
    schema
}

/// Time range and patterns of the events to deliver again.
struct RedeliveryRequest {
    since: Timestamp,
    until: Option<Timestamp>,
    events: Vec<Pattern>,
}

impl RedeliveryRequest {
    /// Parses `json`, which may have the members `known` only.
    ///
    /// # Errors
    /// [`ApiError::InvalidJson`], or [`ApiError::InvalidFields`] with every wrong member.
    fn parse(json: &str, known: &[&str], edge: &Edge) -> Result<Self, ApiError> {
        let members: BTreeMap<String, &RawValue> =
            serde_json::from_str(json).map_err(|error| ApiError::from_json_error(&error))?;
        let [since, until, events] = REPLAY_MEMBERS.map(|name| members.get(name).copied());
        let mut errors = FieldErrors::default();

        // An ignored `untill` would deliver everything until now.
        errors.add_unknown_members(members.keys(), known);
        // A replay from the beginning of the store must be asked for explicitly.
        let since_time = errors.read_optional_time("since", since);
        if since.is_none_or(|raw| raw.get() == "null") {
            errors.add("since", "is required");
        }
        let until = errors.read_optional_time("until", until);
        if let (Some(since), Some(until)) = (since_time, until)
            && until <= since
        {
            errors.add("until", "must be later than since");
        }

        let texts = errors.read_text_list("events", events, EVENTS_MAX, PATTERN_MAX_BYTES);
        let mut patterns = Vec::new();
        for (index, text) in texts
            .iter()
            .enumerate()
            .filter(|(_, text)| !text.is_empty())
        {
            match Pattern::parse(text, edge.vocabulary()) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => errors.add(format!("events[{index}]"), error.to_string()),
            }
        }
        errors.finish(Self {
            since: since_time.unwrap_or_default(),
            until,
            events: patterns,
        })
    }
}
