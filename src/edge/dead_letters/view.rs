//! Dead letters as answers show them.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::schema::Schema;

use super::super::docs::schemas;
use super::super::entity_reference::EntityReference;
use super::super::error::ApiError;
use super::super::gate::NodeCore;
use crate::event::{IncarnationHistory, Timestamp};
use crate::subscriber::SubscriberId;
use crate::subscriber::dead_letters::{DeadLetterCause, DeadLetterSubject, ListedDeadLetter};
use crate::subscription::envelope;

/// Dead letter, as answers show it. The members of a single event are null in a dead letter of many
/// events, and `range` is null in a dead letter of a single event.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetter)]
pub(super) struct DeadLetterView<'a> {
    id: u64,
    subscriber: String,
    webhook_id: Option<u64>,
    #[schema(schema_with = causes)]
    reason: &'static str,
    at: Timestamp,
    event_id: Option<String>,
    event: Option<&'a str>,
    entity: Option<EntityReference<'a>>,
    received_at: Option<Timestamp>,
    attempts: Option<u32>,
    last_attempt_at: Option<Timestamp>,
    status: Option<u16>,
    code: Option<&'a str>,
    detail: Option<&'a str>,
    answer: Option<&'a str>,
    halts: bool,
    range: Option<DeadLetterRange>,
    job_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = serde_json::Value)]
    payload: Option<Option<Box<RawValue>>>,
}

fn causes() -> Schema {
    schemas::choice(&DeadLetterCause::NAMED)
}

/// Events of a dead letter that covers many.
#[derive(Serialize, ToSchema)]
struct DeadLetterRange {
    first_event_id: String,
    last_event_id: String,
    count: u64,
}

impl<'a> DeadLetterView<'a> {
    pub(super) fn new(found: &'a ListedDeadLetter, incarnations: &IncarnationHistory) -> Self {
        let ListedDeadLetter { letter, job } = found;
        let event_id = |position| incarnations.event_id(position).to_string();
        let (single, range) = match &letter.subject {
            DeadLetterSubject::Event(delivery) => (Some(delivery), None),
            DeadLetterSubject::Range(missed) => {
                let range = missed.bounds().map(|(first, last)| DeadLetterRange {
                    first_event_id: event_id(first),
                    last_event_id: event_id(last),
                    count: missed.count(),
                });
                (None, range)
            }
        };
        Self {
            id: letter.id,
            subscriber: letter.subscriber.to_string(),
            webhook_id: match letter.subscriber {
                SubscriberId::Webhook(number) => Some(number),
                SubscriberId::Forward(_) | SubscriberId::Replies(_) | SubscriberId::AutoReply => {
                    None
                }
            },
            reason: letter.cause.as_str(),
            at: letter.at,
            event_id: single.map(|event| event_id(event.event)),
            event: single.map(|event| event.event_type.as_str()),
            entity: single.map(|event| EntityReference::new(&event.entity, Some(event.sequence))),
            received_at: single.map(|event| event.received_at),
            attempts: single.map(|event| event.attempts),
            last_attempt_at: single
                .filter(|event| event.attempts > 0)
                .map(|event| event.last_at),
            status: single.and_then(|event| event.status),
            code: single.map(|event| event.code.as_str()),
            detail: single.map(|event| event.detail.as_str()),
            answer: single
                .map(|event| event.answer.as_str())
                .filter(|answer| !answer.is_empty()),
            halts: single.is_some_and(|event| event.is_halting),
            range,
            job_id: *job,
            payload: None,
        }
    }

    /// Adds the body that a retry would deliver now.
    pub(super) fn with_payload(self, payload: Option<Box<RawValue>>) -> Self {
        Self {
            payload: Some(payload),
            ..self
        }
    }
}

/// Renders the body that a retry would deliver now: the result of the subscription's transform, or
/// the standard envelope. `None` if there is no body, as when the transform fails.
pub(in crate::edge) async fn render_payload(
    found: &ListedDeadLetter,
    core: &NodeCore,
) -> Result<Option<Box<RawValue>>, ApiError> {
    let DeadLetterSubject::Event(delivery) = &found.letter.subject else {
        return Ok(None);
    };
    let stored = match core.reads.await_record(delivery.position).await {
        Err(error) if error.is_removed() => None,
        found => found?,
    };
    let Some(stored) = stored.filter(|stored| stored.record.has_content()) else {
        return Ok(None);
    };
    let transform = match found.letter.subscriber {
        SubscriberId::Webhook(number) => core
            .subscriptions
            .snapshot()
            .get(number)
            .and_then(|entry| entry.subscription.transform.clone()),
        SubscriberId::Forward(_) | SubscriberId::Replies(_) | SubscriberId::AutoReply => None,
    };
    let body = match transform {
        Some(transform) => transform.render_body(&stored.record).ok(),
        None => Some(envelope::encode_envelope(&stored.record)),
    };
    let text = body.and_then(|body| String::from_utf8(body).ok());
    Ok(text.and_then(|text| RawValue::from_string(text).ok()))
}
