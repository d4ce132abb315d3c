//! OpenAPI descriptions of the endpoints of subscriptions.

use serde_json::{Value, json};

use super::super::docs::endpoint::{EndpointAccess, EndpointDoc};
use super::super::docs::schemas;
use super::actions::PingResult;
use super::attempts::AttemptView;
use super::pull::{LIMIT_MAX, PulledPageView, WAIT_MAX_S};
use super::request_schema::{
    UID_PATTERN, new_subscription_schema, rotation_schema, subscription_schema,
};
use super::view::SubscriptionView;

const TAG: &str = "Subscriptions";
/// Form of the cursors of answers.
const CURSOR_PATTERN: &str = "^[1-9][0-9]{0,18}$";
/// Id of the subscription in the examples.
const ID: u64 = 1;
const AT: &str = "2025-10-18T09:42:31.120Z";
const MASK: &str = "whsec_…5ldA==";

const MEMBERS: &str = "\
`events` lists event names (`organisation.created`), prefixes (`lead.*`) or `*`; a kind of entity in \
front (`ticket:*`) limits a pattern to that kind. `filter` and `transform` are CEL expressions over \
`event`, `timestamp`, `user_id`, `data`, `entity` and `late`: `filter` selects events, and \
`transform` makes the body to send. `ordering` is `entity` (the events of each entity one after \
another), `subscription` (all events one after another) or `none`. `signing` is a list of `crm`, `standard`, `hub` and `v1a`; receivers verify \
`v1a` signatures with `public_key`. `null` in `concurrency`, `timeout_s`, `retry_schedule_s` or \
`on_exhausted` means the value in `[delivery]` of the configuration, and in `rate_limit` no limit. \
`signature_header` names the header of the body's signature, in the form of `hub` if that is in \
`signing`, else of `crm`. `delivery` is `push` (to `url`) or `pull` (without `url`: the subscriber reads its events by \
`GET …/events`), and stays. `uid` is an id of the client's choice, which stays; `metadata` holds up to \
20 texts of the client's own.";

const SECRETS: &str = "\
Answers mask secrets and values of headers with a `…`. Only the answers to creation and rotation \
show the secret.";

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
        "on_exhausted": "halt", "signature_header": null, "uid": "helpdesk", "metadata": {"team": "support"},
    })
}

fn example_subscription() -> Value {
    json!({
        "id": ID, "url": "https://integration.example/crm-webhook", "events": ["organisation.created", "task.completed"],
        "is_active": true, "description": "Synchronisation HubSpot", "secret": MASK, "created_at": AT, "updated_at": AT,
        "state": "active", "state_reason": null, "filter": null, "transform": null, "ordering": "entity", "concurrency": null,
        "signing": ["crm", "standard"], "public_key": null, "previous_secret_until": null, "headers": {}, "rate_limit": null,
        "timeout_s": null, "retry_schedule_s": null, "on_exhausted": null, "signature_header": null, "uid": null, "metadata": {},
        "stats": {
            "delivered": 1042, "failed_attempts": 3, "dead_letters": 0, "dropped": 0, "in_flight": 0, "waiting": 0, "deferred": 0,
            "stopped_lanes": 0, "behind": 0, "oldest_owed_at": null, "breaker": "closed", "last_success_at": AT, "failing_since": null,
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

fn add_id_parameter(endpoint: EndpointDoc) -> EndpointDoc {
    endpoint
        .access(EndpointAccess::Admin)
        .part("id", "The id of the subscription.", schemas::id(), ID)
        .refuses(404, "not_found", "there is no such subscription")
        .refuses_when_not_ready()
}

/// Adds the refusals of a body with members of a subscription.
fn add_body_refusals(endpoint: EndpointDoc) -> EndpointDoc {
    endpoint
        .refuses_bodies()
        .refuses_field(
            "events[0]",
            "events[0] is no valid pattern: \"lead.creatd\" matches no \
            known event; did you mean \"lead.created\"?",
        )
        .refuses_field(
            "filters",
            "filters is no member of a subscription, did you mean filter?",
        )
        .refuses(
            400,
            "subscription_too_large",
            "the subscription needs 13000 bytes, and at \
            most 12000 are kept; shorten its expressions, headers or events",
        )
}

/// Adds the refusal of a write whose outcome is unknown.
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
        "createWebhook",
        "Create a subscription",
    )))
    .about(format!(
        "Delivers events accepted from now on. {MEMBERS}\n\n{SECRETS} Without \
            `secret`, the node generates one."
    ))
    .access(EndpointAccess::Admin)
    .idempotency_key(
        "An id of the request: its repetition within 24 hours is answered with the same subscription.",
        "6f1c2a90-0002",
    )
    .refuses(
        409,
        "idempotency_key_reused",
        "the idempotency key was used by another request",
    )
    .refuses(409, "uid_taken", "subscription 1 has this uid already")
    .takes("a subscription", example_request())
    .takes("all members", example_full_request())
    .takes_type("NewSubscription", new_subscription_schema())
    .answers::<SubscriptionView<'_>>(
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

pub(in crate::edge) fn put_by_uid() -> EndpointDoc {
    let endpoint = EndpointDoc::new(
        TAG,
        "putWebhookByUid",
        "Create or change the subscription with a uid",
    );
    add_change_refusals(add_body_refusals(endpoint))
        .about(format!(
            "Creates the subscription that its client calls so, and answers with its secret; if \
             there is one, changes the members given. So a set-up that runs again and again keeps \
             one subscription.\n\n{MEMBERS}"
        ))
        .access(EndpointAccess::Admin)
        .part(
            "uid",
            "The id that the client chose.",
            schemas::matching(UID_PATTERN),
            "helpdesk",
        )
        .refuses(404, "not_found", "there is nothing at this path")
        .takes("a subscription", example_request())
        .takes_type("SubscriptionChange", subscription_schema())
        .answers::<SubscriptionView<'_>>(
            200,
            "The subscription; with its secret if it is new.",
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
    EndpointDoc::new(TAG, "listWebhooks", "List subscriptions, newest first")
        .about(SECRETS)
        .access(EndpointAccess::Admin)
        .query(
            "is_active",
            "true: only active subscriptions. false: only paused and disabled ones.",
            schemas::boolean(),
            true,
        )
        .paged()
        .answers_page::<SubscriptionView<'_>>(&[example_subscription()])
        .refuses_when_not_ready()
}

pub(in crate::edge) fn show() -> EndpointDoc {
    add_id_parameter(EndpointDoc::new(TAG, "getWebhook", "Show a subscription"))
        .about(SECRETS)
        .answers::<SubscriptionView<'_>>(200, "The subscription.", example_subscription())
}

pub(in crate::edge) fn change() -> EndpointDoc {
    let endpoint = add_id_parameter(EndpointDoc::new(
        TAG,
        "updateWebhook",
        "Change a subscription",
    ));
    add_change_refusals(add_body_refusals(endpoint))
        .about(format!(
            "Changes only the members given; null means the default. A new `secret` replaces \
             the old one at once; null or the masked secret keeps it, and `…` keeps the value \
             of a header. `is_active` pauses or resumes the subscription.\n\n{MEMBERS}"
        ))
        .takes(
            "change",
            json!({"events": ["organisation.*"], "filter": "has(data.name)"}),
        )
        .takes_type("SubscriptionChange", subscription_schema())
        .answers::<SubscriptionView<'_>>(200, "The subscription.", example_subscription())
}

pub(in crate::edge) fn remove() -> EndpointDoc {
    add_id_parameter(EndpointDoc::new(
        TAG,
        "deleteWebhook",
        "Delete a subscription",
    ))
    .about("Undelivered events of the subscription are dropped.")
    .answers_nothing(204, "The subscription is deleted.")
}

pub(in crate::edge) fn rotate() -> EndpointDoc {
    add_change_refusals(add_id_parameter(EndpointDoc::new(
        TAG,
        "rotateWebhookSecret",
        "Rotate the secret of a subscription",
    )))
    .about(
        "Without `secret`, the node generates one. For `overlap_h` hours (default \
            24, at most 168) deliveries are signed with both secrets.",
    )
    .refuses_bodies()
    .takes("rotation", json!({"overlap_h": 24}))
    .takes_type("SecretRotation", rotation_schema())
    .or_nothing()
    .answers::<SubscriptionView<'_>>(
        200,
        "The subscription, with its new secret.",
        example_with_secret(),
    )
    .refuses_field("overlap_h", "overlap_h must be a number from 0 to 168")
}

pub(in crate::edge) fn pause() -> EndpointDoc {
    add_change_refusals(add_id_parameter(EndpointDoc::new(
        TAG,
        "pauseWebhook",
        "Pause a subscription",
    )))
    .about(
        "Events are kept until the subscription is resumed, for at most \
            `delivery.hold_days`. A disabled subscription stays disabled.",
    )
    .answers::<SubscriptionView<'_>>(200, "The subscription.", example_subscription())
}

pub(in crate::edge) fn resume() -> EndpointDoc {
    add_change_refusals(add_id_parameter(EndpointDoc::new(
        TAG,
        "resumeWebhook",
        "Resume a subscription",
    )))
    .about(
        "Events kept during a pause are delivered first. A disabled subscription \
            continues with events accepted from now on. If the circuit breaker is open, \
            one delivery is tried at once.",
    )
    .answers::<SubscriptionView<'_>>(200, "The subscription.", example_subscription())
}

pub(in crate::edge) fn test() -> EndpointDoc {
    add_id_parameter(EndpointDoc::new(
        TAG,
        "testWebhook",
        "Send a test event to a subscription",
    ))
    .about(
        "Sends a signed event `ping` in any state of the subscription, and shows \
            the answer of its target. An accepted ping lets an open circuit breaker try a \
            delivery at once. `code` is a failure code of deliveries.",
    )
    .answers::<PingResult>(200, "The answer of the target.", example_ping())
    .refuses(
        409,
        "not_delivered",
        "the subscriber reads its events itself; there is no url to deliver to",
    )
}

pub(in crate::edge) fn pull() -> EndpointDoc {
    add_id_parameter(EndpointDoc::new(
        TAG,
        "pullWebhookEvents",
        "Read the events of a subscription with delivery: pull",
    ))
    .about(
        "Returns the next events in the order in which they were accepted, with the same filter, transform and \
         bodies as deliveries. `cursor` acknowledges all events before it: it is the `cursor` of the last answer, \
         once its items are dealt with. Without it the answer begins at the first event that is not acknowledged, \
         so each event comes at least once. Events are owed for `delivery.hold_days`.",
    )
    .query("cursor", "The cursor of the last answer.", schemas::matching(CURSOR_PATTERN), "1043")
    .query("limit", "Most events of the answer; 100 if absent.", schemas::integer(1, LIMIT_MAX), 100)
    .query(
        "wait",
        "Seconds for which the answer waits for an event if there is none.",
        schemas::integer(0, WAIT_MAX_S),
        30,
    )
    .answers::<PulledPageView<'_>>(200, "The next events.", pulled_page())
    .refuses_field("cursor", "cursor must be the cursor of an answer")
    .refuses(
        409,
        "not_pulled",
        "the events of this subscription are delivered to its url; create one with delivery: pull",
    )
    .refuses(
        409,
        "not_active",
        "the subscription is paused or disabled; resume it to read its events",
    )
    .refuses(
        409,
        "cursor_past_end",
        "there is no event at this cursor yet",
    )
}

fn pulled_page() -> Value {
    json!({
        "items": [{
            "id": "evt_3f9a2c41_1042", "event": "organisation.created",
            "entity": {"kind": "organisation", "id": "31", "sequence": 12},
            "body": {
                "event": "organisation.created", "timestamp": AT, "user_id": 7, "data": {"organisation_id": 31},
                "entity": {"kind": "organisation", "id": "31", "sequence": 12}, "late": false,
            },
            "error": null,
        }],
        "cursor": "1043",
        "has_more": false,
    })
}

pub(in crate::edge) fn deliveries() -> EndpointDoc {
    add_id_parameter(EndpointDoc::new(
        TAG,
        "listWebhookDeliveries",
        "List the delivery attempts of a subscription, newest first",
    ))
    .about(
        "Read from the call log, which keeps a bounded number of rows. \
            `next_attempt_at` is set on the newest attempt of a delivery that will be \
            retried.",
    )
    .query(
        "is_successful",
        "true: only calls answered with 2xx. false: only the others.",
        schemas::boolean(),
        true,
    )
    .paged()
    .answers_page::<AttemptView<'_>>(&[attempt()])
}
