//! OpenAPI endpoints of the leads contract.

use serde_json::{Value, json};

use super::super::docs::endpoint::{EndpointAccess, EndpointDoc};
use super::super::docs::schemas;
use super::catalogue::{LEAD_EVENTS, LeadEvent, LeadEventSubject};
use crate::event::{Kind, catalogue};

const TAG: &str = "Leads";

const ABOUT: &str = "\
The event is decided and stored before the answer. The signature is required if the source has \
secrets, and ignored if it has none. A request with the `Idempotency-Key` of an earlier request \
gets the answer of that request again, with `Idempotent-Replay: true`.";

const ABOUT_ALL: &str = "\
Accepts each of the 18 events by its name, with the id of the pre-lead, lead or customer in \
`data`; a customer may be named by its code instead. Orders and payments are accepted at this path \
only. An order or payment with a repeated id counts once.";

const ABOUT_STATUS: &str = "\
`new_status` repeats the status of the request. An update that is older (by `status_date`, else \
`timestamp`) than the current status is recorded as late: it enters the history, and the entity \
keeps its newer status.";

const HEADERS: &[(&str, &str)] = &[
    ("X-Event-Id", "Id of the event."),
    (
        "X-Entity-Sequence",
        "Sequence number of the event in its entity.",
    ),
    (
        "Idempotent-Replay",
        "`true` if the answer repeats the answer to an earlier request.",
    ),
    (
        "RateLimit-Limit",
        "Limit of requests a minute for this address (for IPv6, its /64 network).",
    ),
    ("RateLimit-Remaining", "Requests that are left now."),
    (
        "RateLimit-Reset",
        "Seconds until the oldest request leaves the window.",
    ),
];

/// Endpoint that accepts every event.
pub(in crate::edge) fn any_event() -> EndpointDoc {
    let all = EndpointDoc::new(
        TAG,
        "receiveLeadEvent",
        "Receive any event of a pre-lead, lead or customer",
    );
    let all = add_common_answers(all, &format!("{ABOUT_ALL}\n\n{ABOUT}"));
    let all = LEAD_EVENTS.iter().fold(all, |endpoint, event| {
        endpoint.takes(event.name, body(event, true))
    });
    let names = LEAD_EVENTS.map(|event| event.name).join(", ");
    let all = all
        .answers_like(
            200,
            "The event is stored.",
            answer("Lead created successfully", json!({"lead_id": 789})),
            HEADERS,
        )
        .answers_like(
            200,
            "The event of a pre-lead is stored.",
            answer("Pre-lead created successfully", json!({"pre_lead_id": 789})),
            &[],
        )
        .answers_like(
            200,
            "The event of a customer is stored.",
            answer(
                "Order recorded successfully",
                json!({"customer_id": 789, "customer_code": "CUST-0042"}),
            ),
            &[],
        )
        .refuses_field("event", &format!("event must be one of {names}"))
        .refuses(404, "not_found", "Customer not found");
    add_conflicts(all, None)
}

/// Endpoint that accepts only `event`.
pub(in crate::edge) fn one_event(event: &LeadEvent) -> EndpointDoc {
    let id = event.id_name();
    let not_found = match event.subject {
        LeadEventSubject::Known(Kind::PreLead) => Some("Pre-lead not found"),
        LeadEventSubject::Known(_) | LeadEventSubject::Customer => Some("Lead not found"),
        LeadEventSubject::New(_) => None,
    };
    let endpoint = add_common_answers(
        EndpointDoc::new(TAG, operation_id(event), summary(event)),
        &about(event),
    )
    .takes(event.name, body(event, false))
    .answers_like(
        200,
        "The event is stored.",
        answer(event.message, sample_answer_data(event, id)),
        HEADERS,
    )
    .refuses_field("event", &format!("event must be {} here", event.name));
    let Some(not_found) = not_found else {
        return add_key_reused(endpoint);
    };
    let endpoint = endpoint
        .part(
            id,
            "Id that the node allocated to the entity.",
            schemas::id(),
            789,
        )
        .refuses(404, "not_found", not_found);
    add_conflicts(endpoint, Some(event))
}

/// Description of the endpoint of `event`.
fn about(event: &LeadEvent) -> String {
    if event.name.ends_with("_status_update") {
        format!("{ABOUT_STATUS}\n\n{ABOUT}")
    } else {
        ABOUT.to_owned()
    }
}

/// Adds the parameters and answers that all endpoints of the contract share.
fn add_common_answers(endpoint: EndpointDoc, about: &str) -> EndpointDoc {
    endpoint
        .about(about)
        .access(EndpointAccess::Signed(&["leads_signature"]))
        .idempotency_key(
            "The sender's own id of the request, if it may be repeated. \
             This page replaces `{random}` with a new value for each request.",
            "{random}",
        )
        .requires(&["event", "source", "data"])
        .refuses_bodies()
        .refuses(401, "invalid_signature", "Invalid signature")
        .limits(
            100,
            "Requests of one address (for IPv6, of its /64 network)",
        )
        .refuses_when_busy()
}

/// Adds the conflicts (409) of `event`, or of all events.
fn add_conflicts(endpoint: EndpointDoc, event: Option<&LeadEvent>) -> EndpointDoc {
    let endpoint = add_key_reused(endpoint).refuses(
        409,
        "closed",
        "Lead is discarded and takes no further change",
    );
    let converts = event.is_none_or(LeadEvent::is_conversion);
    let endpoint = if converts {
        endpoint.refuses(409, "already_converted", "Lead is already converted")
    } else {
        endpoint
    };
    if event.is_some_and(|event| event.name != "lead_convert") {
        return endpoint;
    }
    endpoint
        .refuses(409, "not_won", "Only a won lead can be converted")
        .refuses(
            409,
            "customer_code_taken",
            "customer_code is taken by another customer",
        )
}

fn add_key_reused(endpoint: EndpointDoc) -> EndpointDoc {
    endpoint.refuses(
        409,
        "idempotency_key_reused",
        "the idempotency key was used before with another path or body",
    )
}

/// Operation that receives `event`, such as `receiveLeadStatusUpdate`.
fn operation_id(event: &LeadEvent) -> String {
    let words = event.name.split('_').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    });
    std::iter::once("receive".to_owned()).chain(words).collect()
}

/// Summary of the event for people, such as `Lead status update`.
fn summary(event: &LeadEvent) -> String {
    let words = event.name.replace("pre_lead", "pre-lead").replace('_', " ");
    let (first, rest) = words.split_at(1);
    first.to_uppercase() + rest
}

/// Example request; `with_id` adds the entity's id to its data.
fn body(event: &LeadEvent, with_id: bool) -> Value {
    let example = catalogue::find_entry(event.event_type)
        .and_then(|entry| serde_json::from_str(entry.data).ok());
    let mut data: Value = example.unwrap_or_default();
    if with_id && let LeadEventSubject::Known(kind) = event.subject {
        data[if kind == Kind::PreLead {
            "pre_lead_id"
        } else {
            "lead_id"
        }] = json!(789);
    }
    json!({"event": event.name, "source": "crm", "data": data, "timestamp": "2025-12-04T10:30:00Z"})
}

fn answer(message: &str, data: Value) -> Value {
    json!({"status": "success", "message": message, "data": data})
}

/// Example `data` of the answer to `event`; `id` is the name of the entity's id.
fn sample_answer_data(event: &LeadEvent, id: &'static str) -> Value {
    match event.name {
        "pre_lead_contact_add" | "lead_contact_add" => json!({"contact_id": 456, id: 789}),
        "pre_lead_memo_add" | "lead_memo_add" => json!({"memo_id": 456, id: 789}),
        "pre_lead_status_update" | "lead_status_update" => {
            json!({id: 789, "old_status": "new", "new_status": "qualified"})
        }
        "pre_lead_convert" => json!({id: 789, "lead_id": 456}),
        "lead_activity_add" => json!({"activity_id": 456, id: 789}),
        "lead_qualified_profile_update" => json!({id: 789, "profile_id": 456}),
        "lead_convert" => json!({id: 789, "customer_id": 456, "customer_code": "CUST-0042"}),
        _ => json!({ id: 789 }),
    }
}
