//! OpenAPI endpoint of the CRM's event bus.

use serde_json::{Value, json};

use super::super::docs::endpoint::{EndpointAccess, EndpointDoc};
use super::super::submit::AcceptedEvent;
use super::batch::PublishSummary;
use crate::event::catalogue;

const ABOUT: &str = "\
One event, or a list of at most 1,000, from a publisher (with a token of `[sources.crm]`) or the \
admin. `data.<kind>_id` or `data.id` names the entity. With an `idempotency_key` (or the header \
`Idempotency-Key`) a repeated event gets a 409 that names the first event.\n\n\
The events of a list are independent: the answer names the accepted events, the number of \
duplicates, and the errors of the others. The list is refused as a whole if no event is valid. \
After a 503, send the whole list again.";

const HEADERS: &[(&str, &str)] = &[
    ("X-Event-Id", "Id of the event, if exactly one was stored."),
    (
        "X-Entity-Sequence",
        "Sequence number of the event in its entity.",
    ),
];

pub(in crate::edge) fn publish() -> EndpointDoc {
    let data = |entry: &catalogue::CatalogueEntry| {
        serde_json::from_str::<Value>(entry.data).unwrap_or_default()
    };
    let endpoint = EndpointDoc::new("Event bus", "publishEvents", "Publish events of the CRM")
        .about(ABOUT)
        .access(EndpointAccess::Publisher)
        .requires(&["event", "data"])
        .idempotency_key("The publisher's own id of the event.", "6f1c2a90-0001");
    let endpoint =
        catalogue::entries_of_source(catalogue::CRM_SOURCE).fold(endpoint, |endpoint, entry| {
            endpoint.takes(
                entry.name,
                json!({"event": entry.name, "user_id": 12, "data": data(&entry)}),
            )
        });
    let created = catalogue::find_entry("organisation.created")
        .map(|entry| data(&entry))
        .unwrap_or_default();
    let known = json!({
        "event": "organisation.created", "user_id": 12, "idempotency_key": "org-51-1",
        "data": created,
    });
    let wrong = json!({"event": "task.completed", "data": {"title": "Call back"}});
    let endpoint = endpoint.takes("list of events", json!([known, known, wrong]));
    let entity = json!({"kind": "organisation", "id": "51", "sequence": 3});
    let single = json!({"status": "accepted", "event_id": "evt_3f9a2c41_1042", "entity": entity});
    let several = json!({
        "status": "accepted", "received": 3, "accepted": 1, "duplicates": 1, "failed": 1,
        "events": [{"index": 0, "event_id": "evt_3f9a2c41_1042", "entity": entity}],
        "errors": [{
            "index": 2, "field": "data.task_id", "detail": "data.task_id is required, or data.id",
        }],
    });
    let names: Vec<_> = catalogue::entries_of_source(catalogue::CRM_SOURCE)
        .map(|entry| entry.name)
        .collect();
    endpoint
        .answers_with::<AcceptedEvent<'_>>(202, "The event is stored.", single, HEADERS)
        .answers::<PublishSummary<'_>>(202, "Outcome of each event of the list.", several)
        .refuses_bodies()
        .refuses(
            400,
            "unknown_event",
            &format!("event must be one of {}", names.join(", ")),
        )
        .refuses_field("data", "data is required")
        .refuses_field("[0].data.task_id", "data.task_id is required, or data.id")
        .refuses(
            409,
            "duplicate_event",
            "an event with this idempotency key was accepted before, as evt_3f9a2c41_7",
        )
        .refuses(
            409,
            "idempotency_key_reused",
            "the idempotency key \"7\" was used before for another event, evt_3f9a2c41_7; send this one under a key of its own",
        )
        .refuses_when_busy()
}
