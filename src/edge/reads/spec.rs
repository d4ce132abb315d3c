//! OpenAPI descriptions of the admin's reads.

use serde_json::{Value, json};

use super::super::docs::endpoint::{EndpointAccess, EndpointDoc};
use super::super::docs::schemas;
use super::super::submit::AcceptedEvent;
use super::entities::{EntityView, TimelineList};
use super::events::{EventsAfterView, ReceivedEventView, statuses};
use super::logs::{CallLogDetails, CallLogItem, directions};

const TAG: &str = "Reads";

fn entity() -> Value {
    let event = |id: &str| json!({"event_id": id, "type": "status.changed", "at": "2025-12-04T10:30:00.000Z", "received_at": "2025-12-04T10:30:00.120Z"});
    json!({"kind": "ticket", "id": "SUP-1042", "sequence": 3, "first_event": event("evt_3f9a2c41_7"), "last_event": event("evt_3f9a2c41_9")})
}

fn event() -> Value {
    json!({
        "event_id": "evt_3f9a2c41_9", "source": "support", "type": "status.changed",
        "entity": {"kind": "ticket", "id": "SUP-1042", "sequence": 3},
        "status": "completed", "code": null, "error_message": null,
        "received_at": "2025-12-04T10:30:00.120Z", "processing_at": "2025-12-04T10:30:00.120Z", "processed_at": "2025-12-04T10:30:00.121Z",
        "payload": {"event": "status.changed", "support_uid": "SUP-1042", "data": {"status": "pending"}},
    })
}

fn entry() -> Value {
    json!({
        "sequence": 3, "type": "status.changed", "summary": "status changed to pending", "actor": {"id": "op-7", "name": "Grace"},
        "at": "2025-12-04T10:30:00.000Z", "received_at": "2025-12-04T10:30:00.120Z", "late": false,
        "event_id": "evt_3f9a2c41_9", "data": {"status": "pending"},
    })
}

fn entity_with_state_example() -> Value {
    let mut entity = entity();
    entity["state"] = json!({
        "status": "pending", "priority": null, "category": null, "assignee": null, "tags": [], "messages": [],
        "attachments": [], "sla_breaches": [], "rating": null,
    });
    entity
}

fn get(id: &str, summary: &str) -> EndpointDoc {
    EndpointDoc::new(TAG, id, summary)
        .access(EndpointAccess::Admin)
        .refuses_when_not_ready()
}

fn add_kind_parameter(endpoint: EndpointDoc) -> EndpointDoc {
    endpoint
        .part("kind", "Kind of the entity.", schemas::kind(), "ticket")
        .refuses(404, "not_found", "there is no such kind of entity")
}

fn add_entity_parameters(endpoint: EndpointDoc) -> EndpointDoc {
    add_kind_parameter(endpoint)
        .part(
            "id",
            "The entity's id, percent-encoded.",
            schemas::string(),
            "SUP-1042",
        )
        .refuses(404, "not_found", "there is no such entity")
}

fn add_event_parameter(endpoint: EndpointDoc) -> EndpointDoc {
    endpoint
        .part(
            "event_id",
            "The event's id.",
            schemas::event_id(),
            "evt_3f9a2c41_9",
        )
        .refuses(404, "not_found", "there is no such event")
        .refuses(
            410,
            "removed_by_retention",
            "the event was removed; events are kept from 2025-12-04T10:30:00.000Z on",
        )
        .refuses(
            410,
            "removed_by_retention",
            "the content of this event was removed at 2025-12-04T10:30:00.000Z by the retention of its source",
        )
}

fn log() -> Value {
    json!({
        "id": 1042, "at": "2025-12-04T10:30:00.118Z", "direction": "incoming", "source": "support", "method": "POST",
        "path": "/api/v0/crm/webhooks/support/", "status": 202, "code": null, "is_successful": true, "duration_ms": 1.834,
        "client_address": "198.51.100.7", "event_ids": ["evt_3f9a2c41_9"],
    })
}

fn log_with_details() -> Value {
    let mut log = log();
    log["headers"] = json!({"user-agent": "crm/4.2", "x-crm-api-key": "…", "x-crm-signature": "…", "idempotency-key": "k-1"});
    log["body"] = json!({"bytes": 412, "event_ids": ["evt_3f9a2c41_9"]});
    log["answer"] = json!({"status": "accepted", "event_id": "evt_3f9a2c41_9"});
    log["answer_bytes"] = json!(113);
    log
}

pub(in crate::edge) fn entities() -> EndpointDoc {
    add_kind_parameter(get(
        "listEntities",
        "List the entities of a kind, newest first",
    ))
    .paged()
    .answers_page::<EntityView<'_>>(&[entity()])
}

pub(in crate::edge) fn entity_with_state() -> EndpointDoc {
    add_entity_parameters(get("getEntity", "Show an entity with its state"))
        .answers::<EntityView<'_>>(200, "The entity.", entity_with_state_example())
}

pub(in crate::edge) fn export() -> EndpointDoc {
    let (mut entity, mut event) = (entity_with_state_example().to_string(), entry());
    event["source"] = json!("support");
    entity = format!("{entity}\n{event}\n");
    add_entity_parameters(get("exportEntity", "Export everything that is stored of an entity"))
        .about(
            "One JSON object on each line: the entity with its state, then its events in the order of \
             acceptance, those that failed too. An answer that ends in the middle of a line is incomplete.",
        )
        .answers_lines(200, "The entity and its events.", &entity)
}

pub(in crate::edge) fn timeline() -> EndpointDoc {
    let page = json!({"items": [entry()], "total": 1, "page": 1, "page_size": 20, "pages": 1});
    add_entity_parameters(get(
        "listEntityEvents",
        "List an entity's events, newest first",
    ))
    .about(
        "If retention removed the entity's first events, first_sequence is the number of the \
             first one that is left.",
    )
    .paged()
    .answers::<TimelineList<'_>>(200, "One page of the list.", page)
}

pub(in crate::edge) fn events() -> EndpointDoc {
    get("listEvents", "List events, newest first")
        .about(
            "An event of a configured source in which a field was missing or odd has `warnings` \
             also: one sentence for each such field. One with a key has `idempotency_key`.",
        )
        .query(
            "source",
            "Only events of this source.",
            schemas::string(),
            "support",
        )
        .query(
            "type",
            "Only events of this name.",
            schemas::string(),
            "status.changed",
        )
        .query(
            "kind",
            "Only events of entities of this kind.",
            schemas::kind(),
            "ticket",
        )
        .query(
            "entity",
            "Only events of entities with this id.",
            schemas::string(),
            "SUP-1042",
        )
        .query(
            "status",
            "Only events with this status.",
            statuses(),
            "completed",
        )
        .query(
            "has_warnings",
            "true: only events with a warning. false: only the others.",
            schemas::boolean(),
            false,
        )
        .between("Received")
        .query(
            "after",
            "Only events after the one with this id, or from the first one on that is kept (`start`), oldest first. The answer has the \
             value for the next call as `cursor`, and neither total nor pages. 410 if retention removed events after that one: \
             `start` goes on behind the gap.",
            schemas::string(),
            "start",
        )
        .paged()
        .answers_page::<ReceivedEventView<'_>>(&[event()])
        .answers::<EventsAfterView<'_>>(
            200,
            "The events after `after`.",
            json!({"items": [event()], "cursor": "evt_3f9a2c41_9", "has_more": false}),
        )
        .refuses(404, "not_found", "there is no such event")
        .refuses(
            410,
            "removed_by_retention",
            "the event was removed; events are kept from 2025-12-04T10:30:00.000Z on",
        )
}

pub(in crate::edge) fn event_with_outcome() -> EndpointDoc {
    add_event_parameter(get("getEvent", "Show an event and its outcome"))
        .about(
            "An event whose payload is a part of its call, or another form of it, may have \
             `call_body` also: the body of the call as it was received, or of a call with several \
             events all but these.",
        )
        .answers::<ReceivedEventView<'_>>(200, "The event.", event())
}

pub(in crate::edge) fn reprocess() -> EndpointDoc {
    add_event_parameter(EndpointDoc::new(TAG, "reprocessEvent", "Reprocess a failed event"))
        .access(EndpointAccess::Admin)
        .answers::<AcceptedEvent<'_>>(202, "The event was processed again.", json!({"status": "accepted", "event_id": "evt_3f9a2c41_9", "entity": {"kind": "ticket", "id": "SUP-1042", "sequence": 4}}))
        .refuses(409, "not_failed", "only a failed event can be reprocessed")
        .refuses(410, "erased", "the content of this event was erased")
        .refuses(409, "reprocess_in_progress", "event is being reprocessed by another request")
        .refuses_when_busy()
}

pub(in crate::edge) fn logs() -> EndpointDoc {
    get("listCalls", "List the call log, newest first")
        .query(
            "direction",
            "incoming (calls of senders) or outgoing (deliveries).",
            directions(),
            "incoming",
        )
        .query(
            "is_successful",
            "true: only calls answered with 2xx. false: only the others.",
            schemas::boolean(),
            true,
        )
        .paged()
        .answers_page::<CallLogItem<'_>>(&[log()])
        .refuses_field("direction", "direction must be one of incoming, outgoing")
}

pub(in crate::edge) fn log_with_answer() -> EndpointDoc {
    get("getCall", "Show a call with its headers and its answer")
        .about("Secrets and signatures are masked. The body is kept in the events made of it.")
        .part("log_id", "The id of the row.", schemas::id(), 1)
        .answers::<CallLogDetails<'_>>(200, "The row of the call log.", log_with_details())
        .refuses(
            404,
            "not_found",
            "there is no such row in the call log, or it was deleted",
        )
}
