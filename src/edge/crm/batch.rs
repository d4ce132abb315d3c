//! A list of published events: each stands by itself, and the answer says what became of which.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use bytes::Bytes;
use serde::Serialize;

use super::super::call::Call;
use super::super::error::Error;
use super::super::fault::Fault;
use super::super::fields::Faults;
use super::super::gate::Core;
use super::super::state::Edge;
use super::super::{answer, intake, raw};
use super::decode::decode;
use crate::entity::{Command, Outcome};
use crate::event::{EntityKey, EventId};
use crate::router::Refusal;

/// The most events of one list.
pub const EVENTS_MAX: usize = 1_000;
/// The most faults that the refusal of a whole list names.
const FAULTS_MAX: usize = 100;

#[derive(Serialize)]
struct Answer<'a> {
    status: &'static str,
    received: usize,
    accepted: usize,
    duplicates: usize,
    failed: usize,
    events: Vec<Accepted<'a>>,
    errors: Vec<Wrong>,
}

#[derive(Serialize)]
struct Accepted<'a> {
    index: usize,
    event_id: String,
    entity: intake::AcceptedEntity<'a>,
}

/// Something wrong with one event; `field` is null when it is wrong as a whole.
#[derive(Serialize)]
struct Wrong {
    index: usize,
    field: Option<String>,
    detail: String,
}

/// A valid event of the list and its place there.
struct Valid {
    index: usize,
    entity: EntityKey,
    command: Command,
}

/// Takes the list `text` in, which is all of `body`. A key that came outside of it becomes one for each event that has
/// none of its own: the key and the event's place, so that repeating the call repeats no event.
///
/// # Errors
/// [`Error::Invalid`] when there are no events, too many, or none that is valid; [`Error::Overloaded`] or
/// [`Error::Unknown`] when that became of any of them.
pub(super) async fn publish(
    edge: &Edge,
    body: &Bytes,
    text: &str,
    key: Option<&[u8]>,
    call: &Call,
) -> Result<HttpResponse, Error> {
    let raw::Items { first, count } = raw::items(text, EVENTS_MAX).map_err(|error| Error::not_json(&error))?;
    let mut faults = Faults::default();
    if !(1..=EVENTS_MAX).contains(&count) {
        faults.add("body", format!("must hold 1 to {EVENTS_MAX} events, not {count}"));
    }
    let key = super::decode::key(key, None, &mut faults);
    faults.finish(())?;
    let (mut valid, mut errors) = (Vec::new(), Vec::new());
    for (index, item) in first.into_iter().enumerate() {
        match decode(edge.published(), body, item.get(), None, call.span().clone()) {
            Ok(mut command) => {
                let place = |key: &String| format!("{key}\u{1}{index}");
                command.idempotency_key = command.idempotency_key.or_else(|| key.as_ref().map(place));
                valid.push(Valid { index, entity: command.entity.clone(), command });
            }
            Err(error) => errors.extend(wrong(index, error)),
        }
    }
    if valid.is_empty() {
        return Err(none_valid(errors));
    }
    let core = edge.core()?;
    let (places, commands): (Vec<_>, Vec<_>) =
        valid.into_iter().map(|valid| ((valid.index, valid.entity), valid.command)).unzip();
    let outcomes = core.router.submit_all(commands).await;
    answer(&core, call, count, &places, outcomes, errors)
}

/// What is wrong with the event at `index`.
fn wrong(index: usize, error: Error) -> Vec<Wrong> {
    match error {
        Error::Invalid(faults) => {
            let wrong = |fault: Fault| Wrong { index, field: Some(fault.field.into_owned()), detail: fault.detail };
            faults.into_iter().map(wrong).collect()
        }
        Error::UnknownEvent(_) => vec![Wrong { index, field: Some("event".into()), detail: error.to_string() }],
        Error::InvalidJson(_) => vec![Wrong { index, field: None, detail: "event must be a JSON object".into() }],
        other => vec![Wrong { index, field: None, detail: other.to_string() }],
    }
}

fn none_valid(errors: Vec<Wrong>) -> Error {
    let fault = |wrong: Wrong| {
        let (index, dot) = (wrong.index, if wrong.field.is_some() { "." } else { "" });
        Fault { field: format!("[{index}]{dot}{}", wrong.field.unwrap_or_default()).into(), detail: wrong.detail }
    };
    Error::Invalid(errors.into_iter().take(FAULTS_MAX).map(fault).collect())
}

fn answer(
    core: &Core,
    call: &Call,
    received: usize,
    places: &[(usize, EntityKey)],
    outcomes: Vec<Result<Outcome, Refusal>>,
    mut errors: Vec<Wrong>,
) -> Result<HttpResponse, Error> {
    let event_id = |position| intake::event_id(core, position);
    // What was stored is named even if the rest makes the call fail.
    call.note_events(outcomes.iter().flatten().map(|outcome| event_id(outcome.position)));
    let mut accepted: Vec<(usize, EventId, &EntityKey, Option<u64>)> = Vec::new();
    let mut duplicates = 0;
    for ((index, entity), outcome) in places.iter().zip(outcomes) {
        match outcome {
            Ok(outcome) => accepted.push((*index, event_id(outcome.position), entity, outcome.sequence)),
            Err(Refusal::Duplicate { .. }) => duplicates += 1,
            // Of these nobody can say that the rest of the list is settled: the whole of it is to be sent again.
            Err(refusal @ (Refusal::Overloaded | Refusal::Unknown)) => {
                return Err(Error::from_refusal(refusal, event_id));
            }
            Err(refusal @ (Refusal::Rejected(_) | Refusal::Known { .. } | Refusal::Quarantined { .. })) => {
                errors.extend(wrong(*index, Error::from_refusal(refusal, event_id)));
            }
        }
    }
    errors.sort_by_key(|wrong| wrong.index);
    let body = Answer {
        status: "accepted",
        received,
        accepted: accepted.len(),
        duplicates,
        failed: received - accepted.len() - duplicates,
        events: accepted
            .iter()
            .map(|(index, event_id, entity, sequence)| Accepted {
                index: *index,
                event_id: event_id.to_string(),
                entity: intake::AcceptedEntity::new(entity, *sequence),
            })
            .collect(),
        errors,
    };
    let mut response = answer::json(StatusCode::ACCEPTED, &body);
    if let [(_, event_id, _, sequence)] = accepted[..] {
        intake::write_event(&mut response, event_id, sequence);
    }
    Ok(response)
}
