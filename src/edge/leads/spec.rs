//! What the description of the API says of the leads contract.

use serde_json::{Value, json};

use super::super::docs::endpoint::{EndpointAccess, EndpointDoc};
use super::catalogue::{EVENTS, LeadEvent, LeadEventSubject};
use crate::event::{Kind, catalogue};

const TAG: &str = "Leads";

const ABOUT: &str = "\
Decided and stored before it is answered. The signature is needed if the source has secrets, and not looked at if it has none. \
A request with the `Idempotency-Key` of an earlier one is answered as that one was, with `Idempotent-Replay: true`.";

const ABOUT_ALL: &str = "\
Takes each of the 18 events by its name, with the id of the pre-lead, lead or customer in `data` (a customer's code will do \
instead). Orders and payments come this way only; one that came before counts once, by its id.";

const ABOUT_STATUS: &str = "\
`new_status` repeats what was sent. An update that is older (by `status_date`, else `timestamp`) than the status that the \
entity has is recorded as late: it enters the history, and the entity keeps its newer status.";

const HEADERS: &[(&str, &str)] = &[
    ("X-Event-Id", "The event's id."),
    ("X-Entity-Sequence", "Its number among the entity's events."),
    (
        "Idempotent-Replay",
        "`true` if this is the answer to an earlier request.",
    ),
    (
        "RateLimit-Limit",
        "Requests a minute for this address (for IPv6, its /64 network).",
    ),
    ("RateLimit-Remaining", "How many are left now."),
    (
        "RateLimit-Reset",
        "Seconds until the oldest of the minute no longer counts.",
    ),
];

/// The path that takes every event.
pub(in crate::edge) fn any_event() -> EndpointDoc {
    let all = EndpointDoc::new(TAG, "Take in any event of a pre-lead, lead or customer");
    let all = add_common_answers(all, &format!("{ABOUT_ALL}\n\n{ABOUT}"));
    let all = EVENTS.iter().fold(all, |endpoint, event| {
        endpoint.takes(event.name, body(event, true))
    });
    let names = EVENTS.map(|event| event.name).join(", ");
    let all = all
        .answers_with(
            200,
            "The event is stored.",
            answer("Lead created successfully", json!({"lead_id": 789})),
            HEADERS,
        )
        .answers(
            200,
            "The same of a pre-lead.",
            answer("Pre-lead created successfully", json!({"pre_lead_id": 789})),
        )
        .answers(
            200,
            "The same of a customer.",
            answer(
                "Order recorded successfully",
                json!({"customer_id": 789, "customer_code": "CUST-0042"}),
            ),
        )
        .refuses_field("event", &format!("event must be one of {names}"))
        .refuses(404, "not_found", "Customer not found");
    add_conflicts(all, None)
}

/// A path that takes only `event`.
pub(in crate::edge) fn one_event(event: &LeadEvent) -> EndpointDoc {
    let id = event.id_name();
    let found = match event.subject {
        LeadEventSubject::Known(Kind::PreLead) => Some("Pre-lead not found"),
        LeadEventSubject::Known(_) | LeadEventSubject::Customer => Some("Lead not found"),
        LeadEventSubject::New(_) => None,
    };
    let endpoint = add_common_answers(EndpointDoc::new(TAG, summary(event)), &about(event))
        .takes(event.name, body(event, false))
        .answers_with(
            200,
            "The event is stored.",
            answer(event.message, sample_answer_data(event, id)),
            HEADERS,
        )
        .refuses_field("event", &format!("event must be {} here", event.name));
    let Some(not_found) = found else {
        return add_key_reused(endpoint);
    };
    let endpoint = endpoint
        .part(id, "The number that the node gave it.", 789)
        .refuses(404, "not_found", not_found);
    add_conflicts(endpoint, Some(event))
}

/// What there is to say of `event` alone, and of all of them.
fn about(event: &LeadEvent) -> String {
    if event.name.ends_with("_status_update") {
        format!("{ABOUT_STATUS}\n\n{ABOUT}")
    } else {
        ABOUT.to_owned()
    }
}

/// What all of them have in common.
fn add_common_answers(endpoint: EndpointDoc, about: &str) -> EndpointDoc {
    endpoint
        .about(about)
        .access(EndpointAccess::Signed(&["leads_signature"]))
        .header(
            "Idempotency-Key",
            "The sender's own name for the request, if it may be repeated. On this page `{random}` is a new one each time.",
            "{random}",
        )
        .requires(&["event", "source", "data"])
        .refuses_bodies()
        .refuses(401, "invalid_signature", "Invalid signature")
        .limits(100, "Requests of one address (for IPv6, of its /64 network)")
        .refuses_when_busy()
}

/// The conflicts of `event`, or of any.
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

/// Its name as a person would say it: `Lead status update`.
fn summary(event: &LeadEvent) -> String {
    let words = event.name.replace("pre_lead", "pre-lead").replace('_', " ");
    let (first, rest) = words.split_at(1);
    first.to_uppercase() + rest
}

/// A request; with the id in its data where the path has none.
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

/// The `data` of the answer to `event`, about the entity whose id is called `id`.
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
