//! What the description of the API says of subscriptions.

use serde_json::{Value, json};

use super::super::docs::endpoint::{EndpointAccess, EndpointDoc};

const TAG: &str = "Subscriptions";
/// The number of the first one.
const ID: u64 = 1;
const AT: &str = "2025-10-18T09:42:31.120Z";
const MASK: &str = "whsec_…5ldA==";

/// Those of its members that the configuration decides may also be null.
const FREE: &[&str] = &["headers"];

const MEMBERS: &str = "\
`events` are names (`organisation.created`), beginnings of names (`lead.*`) or `*`, each of one kind of entity only with that \
before it (`ticket:*`). `filter` and `transform` are CEL expressions over `event`, `timestamp`, `user_id`, `data`, `entity` and \
`late`: which of the events are wanted, and the body that is sent. `ordering` is `entity` (one after another for each entity) or \
`none`. `signing` is a list of `crm`, `standard`, `hub` and `v1a`; with `v1a`, `public_key` is what its signatures are \
checked with. `null` in `concurrency`, `timeout_s`, `retry_schedule_s` or `on_exhausted` means as `[delivery]` of the configuration \
says, in `rate_limit` no limit.";

const SECRETS: &str = "Secrets and values of headers are shown masked, with a `…` in them, except where they are made.";

fn example_request() -> Value {
    json!({
        "url": "https://integration.example/crm-webhook", "events": ["organisation.created", "task.completed"],
        "description": "Synchronisation HubSpot", "is_active": true,
    })
}

fn example_full_request() -> Value {
    json!({
        "url": "https://integration.example/tickets", "events": ["ticket:*", "lead.*"], "description": null, "is_active": true,
        "secret": "whsec_Zm9yIHRoZSBleGFtcGxlIG9ubHksIG5vdCBhIHNlY3JldA==", "filter": "entity.kind == 'ticket'",
        "transform": "{'text': event, 'of': entity.id}", "ordering": "entity", "concurrency": 4, "signing": ["standard", "v1a"],
        "headers": {"Authorization": "Bearer 4711"}, "rate_limit": 50, "timeout_s": 5, "retry_schedule_s": [0.5, 60, 3600],
        "on_exhausted": "halt",
    })
}

fn example_subscription() -> Value {
    json!({
        "id": ID, "url": "https://integration.example/crm-webhook", "events": ["organisation.created", "task.completed"],
        "is_active": true, "description": "Synchronisation HubSpot", "secret": MASK, "created_at": AT, "updated_at": AT,
        "state": "active", "state_reason": null, "filter": null, "transform": null, "ordering": "entity", "concurrency": null,
        "signing": ["crm", "standard"], "public_key": null, "previous_secret_until": null, "headers": {}, "rate_limit": null,
        "timeout_s": null, "retry_schedule_s": null, "on_exhausted": null,
        "stats": {
            "delivered": 1042, "failed_attempts": 3, "dead_letters": 0, "dropped": 0, "in_flight": 0, "waiting": 0, "stopped_lanes": 0,
            "behind": 0, "breaker": "closed", "last_success_at": AT, "failing_since": null,
        },
    })
}

fn example_with_secret() -> Value {
    let mut subscription = example_subscription();
    subscription["secret"] = "whsec_Zm9yIHRoZSBleGFtcGxlIG9ubHksIG5vdCBhIHNlY3JldA==".into();
    subscription
}

fn attempt() -> Value {
    json!({
        "id": 1043, "event": "organisation.created", "event_id": "evt_3f9a2c41_9",
        "entity": {"kind": "organisation", "id": "51", "sequence": 1}, "attempt": 1, "status": 503, "code": "status",
        "is_successful": false, "duration_ms": 12.5, "answer": "try later", "at": AT, "next_attempt_at": AT,
    })
}

fn example_ping() -> Value {
    json!({
        "is_successful": false, "status": 401, "code": "status", "detail": "answered 401", "duration_ms": 12.5,
        "answer": "wrong signature",
    })
}

fn page(item: &Value) -> Value {
    json!({"items": [item], "total": 1, "page": 1, "page_size": 20, "pages": 1})
}

fn add_id_parameter(endpoint: EndpointDoc) -> EndpointDoc {
    endpoint
        .access(EndpointAccess::Admin)
        .part("id", "The subscription's number.", ID)
        .refuses(404, "not_found", "there is no such subscription")
        .refuses_when_not_ready()
        .free(FREE)
}

/// What takes a subscription's members.
fn add_body_refusals(endpoint: EndpointDoc) -> EndpointDoc {
    endpoint
        .refuses_bodies()
        .refuses_field("events[0]", "events[0] cannot be followed: \"lead.creatd\" matches no known event; did you mean \"lead.created\"?")
        .refuses_field("filters", "filters is no member of a subscription, did you mean filter?")
        .refuses(400, "subscription_too_large", "the subscription needs 13000 bytes, and at most 12000 are kept; shorten its expressions, headers or events")
}

/// What is kept, and may fail to be.
fn add_change_refusals(endpoint: EndpointDoc) -> EndpointDoc {
    endpoint.refuses(
        503,
        "unavailable",
        "it is not known whether the subscription was stored, look at it and try again",
    )
}

pub(in crate::edge) fn create() -> EndpointDoc {
    add_change_refusals(add_body_refusals(EndpointDoc::new(
        TAG,
        "Make a subscription",
    )))
    .about(format!(
        "It gets what is accepted from now on. {MEMBERS}\n\n{SECRETS} Without `secret` one is made."
    ))
    .access(EndpointAccess::Admin)
    .takes("a subscription", example_request())
    .takes("all that can be said of one", example_full_request())
    .requires(&["url", "events"])
    .free(FREE)
    .answers(
        200,
        "The subscription, with its secret.",
        example_with_secret(),
    )
    .refuses(
        409,
        "too_many_subscriptions",
        "there are 20000 subscriptions already; delivery.subscriptions_max allows no more",
    )
    .refuses_when_not_ready()
}

pub(in crate::edge) fn list() -> EndpointDoc {
    EndpointDoc::new(TAG, "List subscriptions, newest first")
        .about(SECRETS)
        .access(EndpointAccess::Admin)
        .query(
            "is_active",
            "true: only those to which events are delivered. false: only the others.",
            "true",
        )
        .paged()
        .free(FREE)
        .answers(200, "One page.", page(&example_subscription()))
        .refuses_when_not_ready()
}

pub(in crate::edge) fn show() -> EndpointDoc {
    add_id_parameter(EndpointDoc::new(TAG, "Show a subscription"))
        .about(SECRETS)
        .answers(200, "The subscription.", example_subscription())
}

pub(in crate::edge) fn change() -> EndpointDoc {
    add_change_refusals(add_body_refusals(add_id_parameter(EndpointDoc::new(TAG, "Change a subscription"))))
        .about(format!(
            "Changes the members given, null means the default. `secret` takes the place of the old one at once; null or what \
             is shown leaves it as it is, and so does `…` for a header. `is_active` pauses and resumes.\n\n{MEMBERS}"
        ))
        .takes("change", json!({"events": ["organisation.*"], "filter": "has(data.name)"}))
        .answers(200, "The subscription.", example_subscription())
}

pub(in crate::edge) fn remove() -> EndpointDoc {
    add_id_parameter(EndpointDoc::new(TAG, "Remove a subscription"))
        .about("What is owed to it is not delivered any more.")
        .answers_nothing(204, "It is gone.")
}

pub(in crate::edge) fn rotate() -> EndpointDoc {
    add_change_refusals(add_id_parameter(EndpointDoc::new(TAG, "Replace a subscription's secret")))
        .about("Without `secret` one is made. Deliveries are signed with both for `overlap_h` hours, 24 by default, at most 168.")
        .refuses_bodies()
        .takes("rotation", json!({"overlap_h": 24}))
        .or_nothing()
        .answers(200, "The subscription, with its new secret.", example_with_secret())
        .refuses_field("overlap_h", "overlap_h must be a number from 0 to 168")
}

pub(in crate::edge) fn pause() -> EndpointDoc {
    add_change_refusals(add_id_parameter(EndpointDoc::new(TAG, "Pause a subscription")))
        .about("Its events are kept for it until it is resumed, for `delivery.hold_days` at most. One that is disabled stays so.")
        .answers(200, "The subscription.", example_subscription())
}

pub(in crate::edge) fn resume() -> EndpointDoc {
    add_change_refusals(add_id_parameter(EndpointDoc::new(TAG, "Resume a subscription")))
        .about("What was kept for it is delivered first. One that was disabled gets what is accepted from now on. One whose breaker is open is tried at once.")
        .answers(200, "The subscription.", example_subscription())
}

pub(in crate::edge) fn test() -> EndpointDoc {
    add_id_parameter(EndpointDoc::new(TAG, "Test a subscription's target"))
        .about("Sends it a signed event `ping`, whatever its state is, and tells what it said. If it accepts that, it need not wait until its breaker lets deliveries through again. `code` is one of those that deliveries fail with.")
        .answers(200, "What it said.", example_ping())
}

pub(in crate::edge) fn deliveries() -> EndpointDoc {
    add_id_parameter(EndpointDoc::new(TAG, "List the attempts at deliveries to a subscription, newest first"))
        .about("Out of the log of calls, which is bounded. `next_attempt_at` is that of the newest attempt at a delivery that is to be tried again.")
        .query("is_successful", "true: answered with a 2xx. false: anything else.", "true")
        .paged()
        .answers(200, "One page.", page(&attempt()))
}
