//! Publication of a list of events, which are independent: the answer gives the outcome of each.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::call::IncomingCall;
use super::super::caller::CallerIdentity;
use super::super::entity_reference::EntityReference;
use super::super::error::ApiError;
use super::super::field_error::FieldError;
use super::super::fields::FieldErrors;
use super::super::gate::NodeCore;
use super::super::proof_headers::RequestOrigin;
use super::super::source::CRM;
use super::super::state::Edge;
use super::super::{answer, raw_json, submit};
use super::decode::decode_bus_event;
use crate::entity::{Command, CommandOutcome};
use crate::event::{EntityKey, EventId};
use crate::router::Refusal;

/// Most events of one list.
pub const PUBLISHED_EVENTS_MAX: usize = 1_000;
/// Most field errors in the refusal of a whole list.
const BATCH_ERRORS_MAX: usize = 100;

#[derive(Serialize, ToSchema)]
#[schema(as = PublishedEvents)]
pub(super) struct PublishSummary<'a> {
    status: &'static str,
    received: usize,
    accepted: usize,
    duplicates: usize,
    failed: usize,
    events: Vec<PublishedEvent<'a>>,
    errors: Vec<BatchItemError>,
}

#[derive(Serialize, ToSchema)]
struct PublishedEvent<'a> {
    index: usize,
    event_id: String,
    entity: EntityReference<'a>,
}

/// Error of one event; `field` is null if the event as a whole is invalid.
#[derive(Serialize, ToSchema)]
#[schema(as = EventError)]
struct BatchItemError {
    index: usize,
    field: Option<String>,
    detail: String,
}

/// Values of the call that go with each of its events.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchPublisher<'a> {
    /// Identity of the publisher, with its scope.
    pub(super) caller: &'a CallerIdentity,
    /// Tag of the publisher's credential.
    pub(super) credential: u32,
    /// Way by which the events came here.
    pub(super) origin: RequestOrigin,
}

/// A valid event of the list and its index.
struct BatchItem {
    index: usize,
    entity: EntityKey,
    command: Command,
}

/// Publishes the list `text`, the whole of `body`. An idempotency `key` from a header applies to
/// each event without a key of its own, together with the event's index: a repeated call then
/// publishes no event twice. Keys belong to the credential of the publisher.
///
/// # Errors
/// [`ApiError::InvalidFields`] for an empty list, too many events, or no valid event;
/// [`ApiError::Overloaded`] or [`ApiError::OutcomeUnknown`] if this is the outcome of one of the
/// events.
pub(super) async fn publish_batch(
    edge: &Edge,
    body: &Bytes,
    text: &str,
    key: Option<&[u8]>,
    publisher: BatchPublisher<'_>,
    call: &IncomingCall,
) -> Result<HttpResponse, ApiError> {
    let raw_json::RawItems { first, count } = raw_json::first_items(text, PUBLISHED_EVENTS_MAX)
        .map_err(|error| ApiError::from_json_error(&error))?;
    let mut faults = FieldErrors::default();
    if !(1..=PUBLISHED_EVENTS_MAX).contains(&count) {
        faults.add(
            "body",
            format!("must hold 1 to {PUBLISHED_EVENTS_MAX} events, not {count}"),
        );
    }
    let key = super::decode::decode_idempotency_key(key, None, &mut faults);
    faults.finish(())?;

    let (mut valid, mut errors) = (Vec::new(), Vec::new());
    for (index, item) in first.into_iter().enumerate() {
        let span = call.span().clone();
        let decoded = decode_bus_event(edge.bus_events(), body, item.get(), None, span);
        let permitted = decoded.and_then(|command| {
            let kind = command.entity.kind();
            publisher.caller.check_scope(&CRM, kind.as_str())?;
            Ok(command)
        });
        match permitted {
            Ok(mut command) => {
                command.token = Some(Arc::clone(&publisher.caller.name));
                command.credential = Some(publisher.credential);
                publisher.origin.note_in(&mut command);
                let own_key = command.idempotency_key.take();
                let indexed = |key: &String| format!("{key}\u{1}{index}");
                command.idempotency_key = own_key.or_else(|| key.as_ref().map(indexed));
                valid.push(BatchItem {
                    index,
                    entity: command.entity.clone(),
                    command,
                });
            }
            // An event outside the scope is no mistake in the list: nothing of the list is taken.
            Err(error @ ApiError::OutOfScope(_)) => return Err(error),
            Err(error) => errors.extend(batch_item_errors(index, error)),
        }
    }
    if valid.is_empty() {
        return Err(no_valid_event_error(errors));
    }

    let core = edge.core()?;
    let (targets, commands): (Vec<_>, Vec<_>) = valid
        .into_iter()
        .map(|valid| ((valid.index, valid.entity), valid.command))
        .unzip();
    let outcomes = core.router.submit_batch(commands).await;
    batch_response(&core, call, count, &targets, outcomes, errors)
}

/// Converts the error of the event at `index` into members of the answer.
fn batch_item_errors(index: usize, error: ApiError) -> Vec<BatchItemError> {
    match error {
        ApiError::InvalidFields(faults) => {
            let wrong = |fault: FieldError| BatchItemError {
                index,
                field: Some(fault.field.into_owned()),
                detail: fault.detail,
            };
            faults.into_iter().map(wrong).collect()
        }
        ApiError::UnknownEvent(_) => {
            vec![BatchItemError {
                index,
                field: Some("event".into()),
                detail: error.to_string(),
            }]
        }
        ApiError::InvalidJson(_) => {
            vec![BatchItemError {
                index,
                field: None,
                detail: "event must be a JSON object".into(),
            }]
        }
        other => vec![BatchItemError {
            index,
            field: None,
            detail: other.to_string(),
        }],
    }
}

fn no_valid_event_error(errors: Vec<BatchItemError>) -> ApiError {
    let fault = |wrong: BatchItemError| {
        let (index, dot) = (wrong.index, if wrong.field.is_some() { "." } else { "" });
        FieldError {
            field: format!("[{index}]{dot}{}", wrong.field.unwrap_or_default()).into(),
            detail: wrong.detail,
        }
    };
    ApiError::InvalidFields(
        errors
            .into_iter()
            .take(BATCH_ERRORS_MAX)
            .map(fault)
            .collect(),
    )
}

fn batch_response(
    core: &NodeCore,
    call: &IncomingCall,
    received: usize,
    targets: &[(usize, EntityKey)],
    outcomes: Vec<Result<CommandOutcome, Refusal>>,
    mut errors: Vec<BatchItemError>,
) -> Result<HttpResponse, ApiError> {
    let event_id = |position| submit::public_event_id(core, position);
    // The call log names the stored events also if the call fails.
    call.note_events(
        outcomes
            .iter()
            .flatten()
            .map(|outcome| event_id(outcome.position)),
    );

    let mut accepted: Vec<(usize, EventId, &EntityKey, Option<u64>)> = Vec::new();
    let mut duplicates = 0;
    for ((index, entity), outcome) in targets.iter().zip(outcomes) {
        match outcome {
            Ok(outcome) => {
                accepted.push((*index, event_id(outcome.position), entity, outcome.sequence))
            }
            Err(Refusal::Duplicate { .. }) => duplicates += 1,
            // The outcome of the list is incomplete, so the publisher must send the whole list
            // again; the stored events then count as duplicates.
            Err(refusal @ (Refusal::Overloaded | Refusal::Unknown)) => {
                return Err(ApiError::from_refusal(refusal, event_id));
            }
            Err(
                refusal @ (Refusal::KeyReused { .. }
                | Refusal::OtherReading
                | Refusal::Rejected(_)
                | Refusal::AlreadyApplied { .. }
                | Refusal::Quarantined { .. }),
            ) => {
                errors.extend(batch_item_errors(
                    *index,
                    ApiError::from_refusal(refusal, event_id),
                ));
            }
        }
    }
    errors.sort_by_key(|wrong| wrong.index);
    let body = PublishSummary {
        status: "accepted",
        received,
        accepted: accepted.len(),
        duplicates,
        failed: received - accepted.len() - duplicates,
        events: accepted
            .iter()
            .map(|(index, event_id, entity, sequence)| PublishedEvent {
                index: *index,
                event_id: event_id.to_string(),
                entity: EntityReference::new(entity, *sequence),
            })
            .collect(),
        errors,
    };
    let mut response = answer::json_response(StatusCode::ACCEPTED, &body);
    if let [(_, event_id, _, sequence)] = accepted[..] {
        submit::set_event_headers(&mut response, event_id, sequence);
    }
    Ok(response)
}
