//! OpenAPI descriptions of the endpoints of dead letters.

use serde_json::{Value, json};

use super::super::docs::endpoint::{EndpointAccess, EndpointDoc};
use super::super::docs::schemas;
use super::super::jobs::spec::{TAG, add_job_answer};
use super::DiscardReport;
use super::filter::filter_schema;
use super::view::DeadLetterView;
use crate::subscriber::dead_letters::DeadLetterCause;

const AT: &str = "2025-12-05T10:31:04.310Z";

const ABOUT: &str = "\
`reason` is `exhausted` (every attempt failed), `too_old` (failing for too long), `refused` (an \
answer that no retry changes) or `expression` (the filter or the transform failed); dead letters of \
many events are `expired` (undelivered for longer than `delivery.hold_days`) or `disabled` (the \
subscription was disabled). `halts` is true if later events of the entity wait for the dead letter. \
Times in filters are the times at which events were received.";

fn dead_letter() -> Value {
    json!({
        "id": 7, "subscriber": "webhook:1", "webhook_id": 1, "reason": "exhausted", "at": AT, "event_id": "evt_3f9a2c41_9",
        "event": "status.changed", "entity": {"kind": "ticket", "id": "SUP-1042", "sequence": 3},
        "received_at": "2025-12-04T10:30:00.120Z", "attempts": 8, "last_attempt_at": AT, "status": 503, "code": "status",
        "detail": "the answer was 503", "answer": "down for maintenance", "halts": false, "range": null, "job_id": null,
    })
}

fn range_dead_letter() -> Value {
    json!({
        "id": 6, "subscriber": "webhook:1", "webhook_id": 1, "reason": "expired", "at": AT, "event_id": null,
        "event": null, "entity": null, "received_at": null, "attempts": null, "last_attempt_at": null, "status": null,
        "code": null, "detail": null, "answer": null, "halts": false,
        "range": {"first_event_id": "evt_3f9a2c41_2", "last_event_id": "evt_3f9a2c41_8", "count": 5}, "job_id": null,
    })
}

fn dead_letter_with_payload() -> Value {
    let mut letter = dead_letter();
    letter["payload"] = json!({
        "event": "status.changed", "timestamp": "2025-12-04T10:30:00.000Z", "user_id": null, "data": {"status": "pending"},
        "entity": {"kind": "ticket", "id": "SUP-1042", "sequence": 3}, "late": false,
    });
    letter
}

fn add_filter_parameters(endpoint: EndpointDoc, reason: &str) -> EndpointDoc {
    endpoint
        .query(
            "webhook_id",
            "Only dead letters of this subscription.",
            schemas::id(),
            1,
        )
        .query(
            "subscriber",
            "Only dead letters of this subscriber: `webhook:1`, `forward:acc_1`, \
                `replies:acc_1` or `auto_reply`.",
            schemas::string(),
            "webhook:1",
        )
        .query(
            "event",
            "Only dead letters of events with this name.",
            schemas::string(),
            "status.changed",
        )
        .query(
            "kind",
            "Only dead letters of entities of this kind.",
            schemas::kind(),
            "ticket",
        )
        .query(
            "entity",
            "Only dead letters of entities with this id.",
            schemas::string(),
            "SUP-1042",
        )
        .between("Received")
        .query(
            "reason",
            "Only dead letters with this reason.",
            schemas::choice(&DeadLetterCause::NAMED),
            reason,
        )
        .query(
            "before_id",
            "Only dead letters with ids below this one: those of a list that was read, without those \
             that came since.",
            schemas::id(),
            1_000,
        )
        .refuses_field("webhook_id", "webhook_id must be the id of a subscription")
        .refuses(404, "not_found", "there is no such subscriber")
}

fn add_id_parameter(endpoint: EndpointDoc) -> EndpointDoc {
    endpoint
        .access(EndpointAccess::Admin)
        .part(
            "dead_letter_id",
            "The id of the dead letter.",
            schemas::id(),
            7,
        )
        .refuses(404, "not_found", "there is no such dead letter")
        .refuses_when_not_ready()
}

pub(in crate::edge) fn list() -> EndpointDoc {
    add_filter_parameters(
        EndpointDoc::new(TAG, "listDeadLetters", "List dead letters, newest first"),
        "exhausted",
    )
    .about(ABOUT)
    .access(EndpointAccess::Admin)
    .paged()
    .answers_page::<DeadLetterView<'_>>(&[dead_letter(), range_dead_letter()])
    .refuses_when_not_ready()
}

pub(in crate::edge) fn show() -> EndpointDoc {
    add_id_parameter(EndpointDoc::new(
        TAG,
        "getDeadLetter",
        "Show a dead letter with the body of its delivery",
    ))
    .about(ABOUT)
    .answers::<DeadLetterView<'_>>(200, "The dead letter.", dead_letter_with_payload())
}

pub(in crate::edge) fn retry() -> EndpointDoc {
    add_job_answer(add_id_parameter(EndpointDoc::new(
        TAG,
        "retryDeadLetter",
        "Deliver a dead letter again",
    )))
    .about(
        "Sends the same `webhook-id`, and `X-Hookyard-Replay: true`. If a job is \
            already delivering the dead letter, the answer shows that job. A dead letter \
            that fails again stays a dead letter.",
    )
    .refuses(
        410,
        "removed_by_retention",
        "the event was removed; events are kept from 2025-12-04T10:30:00.000Z on",
    )
}

pub(in crate::edge) fn retry_all() -> EndpointDoc {
    add_job_answer(EndpointDoc::new(
        TAG,
        "retryDeadLetters",
        "Deliver dead letters again",
    ))
    .refuses(404, "not_found", "there is no such subscriber")
    .about(
        "Delivers all dead letters that match the members given, in order for each \
            entity; without members, all dead letters. A dead letter of many events can \
            only be retried by its id.",
    )
    .access(EndpointAccess::Admin)
    .takes(
        "filter",
        json!({"webhook_id": 1, "event": "status.changed", "since": "2025-12-04T00:00:00Z"}),
    )
    .or_nothing()
    .takes_type("DeadLetterFilter", filter_schema())
    .refuses_bodies()
    .refuses_field("webhook_id", "webhook_id must be the id of a subscription")
    .refuses_when_not_ready()
}

pub(in crate::edge) fn discard() -> EndpointDoc {
    add_id_parameter(EndpointDoc::new(
        TAG,
        "discardDeadLetter",
        "Discard a dead letter",
    ))
    .about("Later events of the entity that waited for the dead letter are delivered.")
    .answers_nothing(204, "The dead letter is discarded.")
    .refuses(
        409,
        "retry_in_progress",
        "job 3 is delivering it again; cancel the job first, or wait for it",
    )
}

pub(in crate::edge) fn discard_all() -> EndpointDoc {
    add_filter_parameters(
        EndpointDoc::new(TAG, "discardDeadLetters", "Discard dead letters"),
        "expired",
    )
    .about(
        "Discards all dead letters that match the parameters and that no job is \
            delivering. Without other parameters, `all=true` is required.",
    )
    .access(EndpointAccess::Admin)
    .query(
        "all",
        "true: required without other parameters.",
        schemas::one_of(["true"]),
        "true",
    )
    .answers::<DiscardReport>(
        200,
        "The number of discarded dead letters.",
        json!({"discarded": 12}),
    )
    .refuses_when_not_ready()
}
