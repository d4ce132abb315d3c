//! Tests of the default places: published payloads, shortened to what the places read, and the
//! events that have no usual id.

use super::*;
use crate::provider::body::{BodyRules, CharsetRule, RequestDocument};
use crate::provider::extract::{ExtractedFields, FieldLocators};
use crate::provider::form::FormCharset;
use crate::provider::items::ItemPaths;
use crate::provider::locator::FieldAlternatives;
use crate::provider::request::RequestView;

/// Headers, body, and the entity, event name and key that a preset finds in them.
type EventCase = (
    &'static [(&'static str, &'static str)],
    &'static str,
    [&'static str; 3],
);

/// Entity, event name, key and time of an event, each empty if not found, and its warnings.
type FoundEvent = ([String; 4], Vec<String>);

/// Reads the single event `body`.
fn read_event(preset: &str, headers: &[(&str, &str)], body: &str) -> FoundEvent {
    let mut events = read_call(preset, headers, body);
    let event = events.pop().expect("an event");
    assert!(events.is_empty(), "{body}");
    event
}

/// Reads the events of a call.
fn read_call(preset: &str, headers: &[(&str, &str)], body: &str) -> Vec<FoundEvent> {
    let preset = find_preset(preset).expect("a preset");
    let is_form = body.contains('=') && !body.starts_with(['{', '[']);
    let content_type = match is_form {
        true => "application/x-www-form-urlencoded",
        false => "application/json",
    };
    let mut headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_bytes()))
        .collect();
    headers.push(("content-type", content_type.as_bytes()));
    let request = RequestView {
        method: "POST",
        url: "",
        headers,
        body: body.as_bytes(),
    };
    let rules = BodyRules {
        json_fields: preset.defaults.json_fields,
        charset: CharsetRule::Fixed(FormCharset::Utf8),
        judges_content: true,
    };
    let document = RequestDocument::parse_with(&request, rules).expect("a body");
    let places = FieldAlternatives::from_preset;
    let locators = FieldLocators {
        entity: places(preset.defaults.entity),
        event: places(preset.defaults.event),
        idempotency_key: places(preset.defaults.idempotency_key),
        occurred_at: places(preset.defaults.occurred_at),
        expects_time: false,
        has_preset_key: true,
    };
    let paths = ItemPaths::from_preset(preset.defaults.items);
    let items = paths.split(document.json()).expect("few");
    let found = match &items {
        None => vec![locators.extract_whole(&request, &document)],
        Some(items) => locators.extract_items(&request, &document, items),
    };
    let describe = |found: ExtractedFields| {
        let time = found.occurred_at.map(|at| at.to_string());
        let key = found.idempotency_key.unwrap_or_default();
        let is_own = found.is_key_of_item || key.is_empty() || items.is_none();
        assert!(is_own, "a key of the call: {body}");
        (
            [found.entity, found.event, key, time.unwrap_or_default()],
            found.warnings,
        )
    };
    found.into_iter().map(describe).collect()
}

/// Checks entity, name, key and time of each event of a call, which must have no warnings but that
/// of a missing key.
fn check_call(preset: &str, body: &str, expected: &[[&str; 4]]) {
    let found = read_call(preset, &[], body);
    let fields: Vec<_> = found.iter().map(|(fields, _)| fields.each_ref()).collect();
    assert_eq!(fields, expected, "{preset}: {body}");
    for ([_, _, key, _], warnings) in &found {
        assert_eq!(warnings.len(), usize::from(key.is_empty()), "{warnings:?}");
        assert!(
            warnings
                .iter()
                .all(|text| text.contains("is not at") || text.contains("is not as"))
        );
    }
}

/// Keys of all events of the calls `bodies`.
fn read_keys(preset: &str, bodies: &[&str]) -> Vec<String> {
    let found = bodies.iter().flat_map(|body| read_call(preset, &[], body));
    found.map(|([_, _, key, _], _)| key).collect()
}

fn check_events(preset: &str, cases: &[EventCase]) {
    for (headers, body, expected) in cases {
        let ([entity, event, key, _], warnings) = read_event(preset, headers, body);
        assert_eq!([&entity, &event, &key], *expected, "{preset}: {body}");
        let is_keyed = !key.is_empty() || warnings.len() == 1;
        assert!(
            is_keyed && (key.is_empty() || warnings.is_empty()),
            "{warnings:?}"
        );
    }
}

fn check_time(preset: &str, body: &str, expected: &str) {
    let ([_, _, _, time], _) = read_event(preset, &[], body);
    assert_eq!(time, expected, "{preset}: {body}");
}

#[test]
fn every_preset_finds_entity_and_event_by_itself() {
    for preset in ALL {
        let fields = &preset.defaults;
        assert!(!fields.entity.is_empty(), "{}", preset.name);
        assert!(!fields.event.is_empty(), "{}", preset.name);
        assert!(!fields.idempotency_key.is_empty(), "{}", preset.name);
    }
}

/// Events of repositories, organizations, enterprises, apps, accounts and the marketplace.
#[test]
fn each_scope_of_githubs_events_has_an_entity() {
    const HEADERS: &[(&str, &str)] = &[("x-github-event", "e"), ("x-github-delivery", "d")];
    let entities = [
        (
            r#"{"repository": {"full_name": "o/r"}, "discussion": {"number": 7}}"#,
            "o/r#7",
        ),
        (
            r#"{"repository": {"full_name": "o/r"}, "organization": {"login": "o"}}"#,
            "o/r",
        ),
        (
            r#"{"organization": {"login": "o"}, "membership": {}}"#,
            "organization:o",
        ),
        (
            r#"{"enterprise": {"slug": "big"}, "installation": {"id": 1}}"#,
            "enterprise:big",
        ),
        (
            r#"{"marketplace_purchase": {"account": {"login": "buyer"}}, "sender": {"login": "s"}}"#,
            "account:buyer",
        ),
        (
            r#"{"sponsorship": {"sponsorable": {"login": "artist"}}, "sender": {"login": "s"}}"#,
            "account:artist",
        ),
        (
            r#"{"action": "created", "installation": {"account": {"login": "o"}}, "sender": {"login": "s"}}"#,
            "account:o",
        ),
        (
            r#"{"security_advisory": {"ghsa_id": "GHSA-1"}}"#,
            "advisory:GHSA-1",
        ),
        (
            r#"{"zen": "Design for failure.", "hook": {"type": "App", "app_id": 3}}"#,
            "app:3",
        ),
        (
            r#"{"action": "revoked", "sender": {"login": "s"}}"#,
            "account:s",
        ),
        (r#"{"zen": "Speak like a human."}"#, "account"),
    ];
    for (body, entity) in entities {
        let ([found, event, key, _], _) = read_event("github", HEADERS, body);
        assert_eq!([found.as_str(), &event, &key], [entity, "e", "d"], "{body}");
    }
}

#[test]
fn stripes_events_without_an_id_have_an_entity() {
    check_events(
        "stripe",
        &[
            (
                &[],
                r#"{"id": "evt_0", "type": "invoice.paid", "data": {"object": {"id": "in_1", "object": "invoice"}}}"#,
                ["in_1", "invoice.paid", "evt_0"],
            ),
            (
                &[],
                r#"{"id": "evt_1", "type": "balance.available", "data": {"object": {"object": "balance"}}}"#,
                ["balance", "balance.available", "evt_1"],
            ),
            (
                &[],
                r#"{"id": "evt_2", "type": "balance.available", "account": "acct_1", "data": {"object": {"object": "balance"}}}"#,
                ["balance:acct_1", "balance.available", "evt_2"],
            ),
            (
                &[],
                r#"{"id": "evt_3", "type": "invoice.upcoming", "data": {"object": {"object": "invoice", "customer": "cus_1"}}}"#,
                ["invoice:cus_1", "invoice.upcoming", "evt_3"],
            ),
            (
                &[],
                r#"{"id": "evt_4", "object": "v2.core.event", "type": "v1.billing.meter.error_report_triggered", "related_object": {"id": "mtr_1"}}"#,
                ["mtr_1", "v1.billing.meter.error_report_triggered", "evt_4"],
            ),
        ],
    );
    check_time(
        "stripe",
        r#"{"created": 1764374400}"#,
        "2025-11-29T00:00:00.000Z",
    );
}

#[test]
fn shopifys_privacy_and_inventory_topics_have_an_entity_and_a_key() {
    check_events(
        "shopify",
        &[
            (
                &[
                    ("x-shopify-topic", "orders/paid"),
                    ("x-shopify-event-id", "e1"),
                ],
                r#"{"id": 820982911946154508, "admin_graphql_api_id": "gid://shopify/Order/1"}"#,
                ["820982911946154508", "orders/paid", "e1:orders/paid"],
            ),
            (
                &[
                    ("x-shopify-topic", "customers/redact"),
                    ("x-shopify-webhook-id", "w1"),
                ],
                r#"{"shop_id": 1, "shop_domain": "shop.example.com", "customer": {"id": 2}, "orders_to_redact": [3]}"#,
                ["customer:2", "customers/redact", "w1"],
            ),
            (
                &[
                    ("x-shopify-topic", "shop/redact"),
                    ("x-shopify-webhook-id", "w2"),
                ],
                r#"{"shop_id": 1, "shop_domain": "shop.example.com"}"#,
                ["shop:1", "shop/redact", "w2"],
            ),
            (
                &[
                    ("x-shopify-topic", "inventory_levels/update"),
                    ("x-shopify-event-id", "e3"),
                ],
                r#"{"inventory_item_id": 271878346596884015, "location_id": 24826418, "available": 0}"#,
                [
                    "inventory:271878346596884015",
                    "inventory_levels/update",
                    "e3:inventory_levels/update",
                ],
            ),
            (
                &[
                    ("x-shopify-topic", "bulk_operations/finish"),
                    ("x-shopify-event-id", "e4"),
                ],
                r#"{"admin_graphql_api_id": "gid://shopify/BulkOperation/147595010"}"#,
                [
                    "gid://shopify/BulkOperation/147595010",
                    "bulk_operations/finish",
                    "e4:bulk_operations/finish",
                ],
            ),
            (
                &[
                    ("x-shopify-topic", "locales/create"),
                    ("x-shopify-event-id", "e5"),
                    ("x-shopify-shop-domain", "shop.example.com"),
                ],
                r#"{"locale": "en", "published": true}"#,
                [
                    "shop:shop.example.com",
                    "locales/create",
                    "e5:locales/create",
                ],
            ),
        ],
    );
}

#[test]
fn slacks_events_commands_and_limits_have_an_entity() {
    check_events(
        "slack",
        &[
            (
                &[],
                r#"{"type": "event_callback", "event_id": "Ev1", "event": {"type": "message", "channel": "C1", "user": "U1"}}"#,
                ["C1", "message", "Ev1"],
            ),
            (
                &[],
                r#"{"type": "event_callback", "event_id": "Ev2", "event": {"type": "channel_created", "channel": {"id": "C2"}}}"#,
                ["C2", "channel_created", "Ev2"],
            ),
            (
                &[],
                r#"{"type": "event_callback", "event_id": "Ev3", "event": {"type": "reaction_added", "user": "U1", "item": {"channel": "C3"}}}"#,
                ["C3", "reaction_added", "Ev3"],
            ),
            (
                &[],
                r#"{"type": "event_callback", "event_id": "Ev4", "event": {"type": "team_join", "user": {"id": "U4"}}}"#,
                ["U4", "team_join", "Ev4"],
            ),
            (
                &[],
                r#"{"type": "event_callback", "event_id": "Ev5", "team_id": "T5", "event": {"type": "tokens_revoked", "tokens": {}}}"#,
                ["T5", "tokens_revoked", "Ev5"],
            ),
            (
                &[],
                "command=%2Fweather&channel_id=C6&user_id=U6&team_id=T6&trigger_id=13.7",
                ["C6", "/weather", "13.7"],
            ),
            (
                &[],
                "payload=%7B%22type%22%3A%22shortcut%22%2C%22trigger_id%22%3A%2212.2%22%2C%22user%22%3A%7B%22id%22%3A%22U0%22%7D%7D",
                ["U0", "shortcut", "12.2"],
            ),
            (
                &[],
                r#"{"type": "block_actions", "trigger_id": "12.3", "user": {"id": "U7"}, "channel": {"id": "C7"}}"#,
                ["C7", "block_actions", "12.3"],
            ),
            (
                &[],
                r#"{"type": "view_submission", "trigger_id": "12.4", "user": {"id": "U8"}, "team": {"id": "T8"}}"#,
                ["U8", "view_submission", "12.4"],
            ),
            (
                &[],
                r#"{"type": "app_rate_limited", "team_id": "T9", "minute_rate_limited": 1518467820}"#,
                ["T9", "app_rate_limited", "app_rate_limited:T9::1518467820"],
            ),
        ],
    );
    check_time(
        "slack",
        r#"{"event_time": 1764374400}"#,
        "2025-11-29T00:00:00.000Z",
    );
}

#[test]
fn gitlabs_numbered_things_and_groups_have_an_entity() {
    const PUSH: &[(&str, &str)] = &[("x-gitlab-event", "Push Hook"), ("idempotency-key", "i1")];
    const OLD: &[(&str, &str)] = &[
        ("x-gitlab-event", "Issue Hook"),
        ("x-gitlab-event-uuid", "u1"),
    ];
    check_events(
        "gitlab",
        &[
            (
                PUSH,
                r#"{"object_kind": "push", "project_id": 15, "project": {"path_with_namespace": "mike/diaspora"}}"#,
                ["mike/diaspora", "Push Hook", "i1"],
            ),
            (
                OLD,
                r#"{"object_kind": "issue", "project": {"path_with_namespace": "g/t"}, "object_attributes": {"iid": 23}}"#,
                ["g/t/issue/23", "Issue Hook", "u1:Issue Hook"],
            ),
            (
                PUSH,
                r#"{"object_kind": "note", "project": {"path_with_namespace": "g/t"}, "object_attributes": {"id": 1}, "issue": {"iid": 23}}"#,
                ["g/t/issue/23", "Push Hook", "i1"],
            ),
            (
                PUSH,
                r#"{"object_kind": "merge_request", "project": {"path_with_namespace": "g/t"}, "object_attributes": {"iid": 4}}"#,
                ["g/t/merge_request/4", "Push Hook", "i1"],
            ),
            (
                PUSH,
                r#"{"object_kind": "build", "project_id": 380, "project_name": "g / t"}"#,
                ["project:380", "Push Hook", "i1"],
            ),
            (
                PUSH,
                r#"{"event_name": "user_add_to_group", "group_path": "web", "group_id": 7, "user_id": 1}"#,
                ["group:web", "Push Hook", "i1"],
            ),
        ],
    );
    check_time(
        "gitlab",
        r#"{"object_attributes": {"updated_at": "2015-05-17 18:08:09 UTC"}}"#,
        "2015-05-17T18:08:09.000Z",
    );
}

#[test]
fn the_events_of_other_providers_have_an_entity_a_name_and_a_key() {
    check_events(
        "gitea",
        &[(
            &[("x-gitea-event", "issues"), ("x-gitea-delivery", "d")],
            r#"{"action": "opened", "issue": {"number": 2}, "repository": {"full_name": "gitea/webhooks"}}"#,
            ["gitea/webhooks#2", "issues", "d"],
        )],
    );
    check_events(
        "trello",
        &[(
            &[],
            r#"{"action": {"id": "51f9", "type": "voteOnCard", "data": {"board": {"id": "4eea"}, "card": {"id": "51a7"}}}, "model": {"id": "4eea"}}"#,
            ["51a7", "voteOnCard", "51f9"],
        )],
    );
    check_events(
        "discord",
        &[
            (
                &[],
                r#"{"type": 1, "application_id": "9", "event": {"type": "APPLICATION_AUTHORIZED", "timestamp": "2024-10-18T14:42:53.064834", "data": {"user": {"id": "191"}}}}"#,
                [
                    "user:191",
                    "APPLICATION_AUTHORIZED",
                    "APPLICATION_AUTHORIZED:191:2024-10-18T14:42:53.064834",
                ],
            ),
            (
                &[],
                r#"{"type": 1, "application_id": "9", "event": {"type": "ENTITLEMENT_CREATE", "timestamp": "2024-10-18T18:41:21.109604", "data": {"id": "1019", "user_id": "771"}}}"#,
                [
                    "user:771",
                    "ENTITLEMENT_CREATE",
                    "ENTITLEMENT_CREATE:1019:2024-10-18T18:41:21.109604",
                ],
            ),
        ],
    );
    check_events(
        "calendly",
        &[(
            &[],
            r#"{"event": "invitee.created", "created_at": "2020-11-23T17:51:19Z", "payload": {"uri": "u", "scheduled_event": {"uri": "s"}}}"#,
            [
                "s",
                "invitee.created",
                "invitee.created:u:2020-11-23T17:51:19Z",
            ],
        )],
    );
    check_events(
        "paddle",
        &[(
            &[],
            r#"{"event_id": "evt_1", "event_type": "subscription.activated", "data": {"id": "sub_1"}}"#,
            ["sub_1", "subscription.activated", "evt_1"],
        )],
    );
    const ORDER: &[(&str, &str)] = &[
        ("x-wc-webhook-resource", "order"),
        ("x-wc-webhook-topic", "order.updated"),
        ("x-wc-webhook-delivery-id", "d"),
    ];
    check_events(
        "woocommerce",
        &[(
            ORDER,
            r#"{"id": 727}"#,
            ["order:727", "order.updated", "d:order:727:"],
        )],
    );
    check_events(
        "xero",
        &[(
            &[],
            r#"{"resourceId": "r", "tenantId": "t", "eventCategory": "INVOICE", "eventType": "UPDATE", "eventDateUtc": "2017-06-21T01:15:39.902"}"#,
            ["r", "INVOICE.UPDATE", "t:r:UPDATE:2017-06-21T01:15:39.902"],
        )],
    );
    check_events(
        "sendgrid",
        &[(
            &[],
            r#"{"email": "a@b", "event": "dropped", "sg_event_id": "e", "sg_message_id": "m"}"#,
            ["m", "dropped", "e"],
        )],
    );
    check_events(
        "linear",
        &[(
            &[("linear-delivery", "d"), ("linear-event", "Comment")],
            r#"{"action": "create", "type": "Comment", "data": {"id": "2174"}}"#,
            ["2174", "Comment.create", "d"],
        )],
    );
    check_events(
        "zendesk",
        &[(
            &[],
            r#"{"type": "zen:event-type:user.created", "id": "cb", "time": "2022-02-21T22:50:26Z", "subject": "zen:user:447", "zendesk_event_version": "2022-06-20", "detail": {"id": "447"}}"#,
            ["447", "zen:event-type:user.created", "2022-06-20:cb"],
        )],
    );
    check_events(
        "intercom",
        &[(
            &[],
            r#"{"topic": "contact.tag.created", "id": "notif_1", "data": {"item": {"type": "contact_tag", "contact": {"id": "c1"}}}}"#,
            ["c1", "contact.tag.created", "notif_1"],
        )],
    );
    check_events(
        "twilio",
        &[
            (
                &[("i-twilio-idempotency-token", "t")],
                "MessageSid=SM1&SmsStatus=received&AccountSid=AC1",
                ["SM1", "message.received", "t"],
            ),
            (
                &[("i-twilio-idempotency-token", "t")],
                "CallSid=CA1&CallStatus=completed",
                ["CA1", "call.completed", "t"],
            ),
        ],
    );
}

/// In version 1 the id of the entity stands where version 2 has the id of the event. As a key it
/// would make every later event of the entity a duplicate.
#[test]
fn both_versions_of_pipedrives_webhooks_are_told_apart() {
    check_events(
        "pipedrive",
        &[
            (
                &[],
                r#"{"meta": {"version": "2.0", "action": "change", "entity": "deal", "entity_id": "4", "id": "a-uuid"}}"#,
                ["deal:4", "deal.change", "a-uuid:4"],
            ),
            (
                &[],
                r#"{"v": 1, "event": "updated.deal", "meta": {"action": "updated", "object": "deal", "id": 4}}"#,
                ["deal:4", "updated.deal", ""],
            ),
        ],
    );
}

#[test]
fn times_in_utc_that_do_not_say_so_are_read_as_utc() {
    let expected = "2017-06-21T01:15:39.902Z";
    check_time(
        "xero",
        r#"{"eventDateUtc": "2017-06-21T01:15:39.902"}"#,
        expected,
    );
    check_time(
        "xero",
        r#"{"eventDateUtc": "2017-06-21T01:15:39.902Z"}"#,
        expected,
    );
    check_time(
        "woocommerce",
        r#"{"date_modified_gmt": "2017-06-21T01:15:39.902"}"#,
        expected,
    );
    check_time(
        "discord",
        r#"{"event": {"timestamp": "2017-06-21T01:15:39.902000"}}"#,
        expected,
    );
}

/// Only the first changed field of the first entry became an event.
#[test]
fn metas_entries_of_changed_fields_are_taken_apart_beside_others() {
    check_call(
        "meta",
        r#"{"object": "user", "entry": [
            {"id": "1", "time": 1700000000, "changed_fields": ["photos", "feed"]},
            {"id": "2", "time": 1700000001, "changes": [{"field": "email", "value": {"leadgen_id": "l"}}]},
            {"id": "3", "time": 1700000002, "changed_fields": ["photos"]}]}"#,
        &[
            [
                "1",
                "user.photos",
                "1:photos:1700000000",
                "2023-11-14T22:13:20.000Z",
            ],
            [
                "1",
                "user.feed",
                "1:feed:1700000000",
                "2023-11-14T22:13:20.000Z",
            ],
            ["2", "user.email", "l", "2023-11-14T22:13:21.000Z"],
            [
                "3",
                "user.photos",
                "3:photos:1700000002",
                "2023-11-14T22:13:22.000Z",
            ],
        ],
    );
}

/// The key of the first message or status was that of the whole change: the others made no event, and
/// a retry with more of them was refused for ever. Payloads as in Meta's reference of the webhook
/// `messages`, <https://developers.facebook.com/docs/whatsapp/cloud-api/webhooks/components>.
#[test]
fn each_message_and_status_of_whatsapp_is_an_event() {
    const A: &str = r#"{"from": "16315551181", "id": "wamid.A", "timestamp": "1504902988", "type": "text", "text": {"body": "a"}}"#;
    const B: &str = r#"{"from": "16315551181", "id": "wamid.B", "timestamp": "1504902989", "type": "reaction", "reaction": {"message_id": "wamid.A", "emoji": "x"}}"#;
    const SENT: &str = r#"{"id": "wamid.C", "status": "sent", "timestamp": "1504902990", "recipient_id": "16315551181"}"#;
    const READ: &str = r#"{"id": "wamid.C", "status": "read", "timestamp": "1504902991", "recipient_id": "16315551181"}"#;
    let call = |value: &str| {
        format!(
            r#"{{"object": "whatsapp_business_account", "entry": [{{"id": "8856996819413533", "changes": [{{"value": {{
            "messaging_product": "whatsapp", "metadata": {{"phone_number_id": "27681414235104944"}},
            "contacts": [{{"profile": {{"name": "N"}}, "wa_id": "16315551181"}}], {value}}}, "field": "messages"}}]}}]}}"#
        )
    };
    let event = |key: &'static str, time: &'static str| {
        [
            "8856996819413533",
            "whatsapp_business_account.messages",
            key,
            time,
        ]
    };
    let a = event("wamid.A", "2017-09-08T20:36:28.000Z");
    let b = event("wamid.B", "2017-09-08T20:36:29.000Z");
    let sent = event("wamid.C:sent", "2017-09-08T20:36:30.000Z");
    let read = event("wamid.C:read", "2017-09-08T20:36:31.000Z");
    check_call("meta", &call(&format!(r#""messages": [{A}]"#)), &[a]);
    check_call(
        "meta",
        &call(&format!(r#""messages": [{A}, {B}]"#)),
        &[a, b],
    );
    let both = format!(r#""statuses": [{SENT}, {READ}], "messages": [{B}]"#);
    check_call("meta", &call(&both), &[sent, read, b]);

    // In a group, each participant reads the message.
    let group = ["1", "2"].map(|person| {
        let status = format!(r#""status": "read", "recipient_participant_id": "{person}""#);
        call(&format!(r#""statuses": [{{"id": "wamid.G", {status}}}]"#))
    });
    let keys = read_keys("meta", &group.each_ref().map(String::as_str));
    assert_ne!(keys[0], keys[1]);

    // An error of the number itself has no list.
    check_call(
        "meta",
        &call(r#""errors": [{"code": 130429}]"#),
        &[event("", "")],
    );
}

/// All of them were named `meta.page`, and most had no key. Payloads as in
/// <https://developers.facebook.com/docs/messenger-platform/reference/webhook-events>.
#[test]
fn each_kind_of_messenger_event_has_its_name_and_key() {
    let kinds = [
        (
            r#""message": {"mid": "m_1", "text": "hi"}"#,
            "message",
            "m_1",
        ),
        (
            r#""message": {"mid": "m_2", "is_echo": true, "app_id": 1}"#,
            "message_echo",
            "m_2",
        ),
        (
            r#""message": {"mid": "m_3", "is_deleted": true}"#,
            "message",
            "m_3:deleted=true",
        ),
        (
            r#""message_edit": {"mid": "m_4", "text": "x", "num_edit": 2}"#,
            "message_edit",
            "m_4:edit=2",
        ),
        (
            r#""postback": {"mid": "m_5", "title": "t", "payload": "p"}"#,
            "postback",
            "postback:m_5",
        ),
        (
            r#""reaction": {"reaction": "love", "action": "react", "mid": "m_6"}"#,
            "reaction",
            "m_6:react:PSID:1458668856463",
        ),
        (
            r#""read": {"watermark": 1458668856253}"#,
            "read",
            "PSID:PAGE:read=1458668856253",
        ),
        (r#""read": {"mid": "m_7"}"#, "read", "m_7:read:PSID"),
        (
            r#""delivery": {"mids": ["m_8"], "watermark": 1458668856253}"#,
            "delivery",
            "PSID:PAGE:delivered=1458668856253:m_8",
        ),
        (
            r#""optin": {"type": "one_time_notif_req", "payload": "p"}"#,
            "optin",
            "",
        ),
        (
            r#""referral": {"ref": "r", "source": "SHORTLINK", "type": "OPEN_THREAD"}"#,
            "referral",
            "",
        ),
        (
            r#""account_linking": {"status": "unlinked"}"#,
            "account_linking",
            "",
        ),
        (
            r#""pass_thread_control": {"new_owner_app_id": "1"}"#,
            "pass_thread_control",
            "",
        ),
        (r#""something_new": {}"#, "messaging", ""),
    ];
    for (kind, name, key) in kinds {
        let item = format!(
            r#"{{"sender": {{"id": "PSID"}}, "recipient": {{"id": "PAGE"}}, "timestamp": 1458668856463, {kind}}}"#
        );
        for object in ["page", "instagram"] {
            let body = format!(
                r#"{{"object": "{object}", "entry": [{{"id": "PAGE", "time": 1458692752478, "messaging": [{item}], "standby": [{item}]}}]}}"#
            );
            let time = "2016-03-22T17:47:36.463Z";
            let (name, standby) = (format!("{object}.{name}"), format!("{object}.standby"));
            let events = [["PAGE", &name, key, time], ["PAGE", &standby, key, time]];
            check_call("meta", &body, &events);
        }
    }
}

/// The ids of comments and posts were not used. Payloads as in
/// <https://developers.facebook.com/docs/graph-api/webhooks/reference/page> and
/// <https://developers.facebook.com/docs/instagram-platform/webhooks/examples>.
#[test]
fn metas_comments_posts_and_mentions_have_keys() {
    let key_of = |object: &str, time: u32, field: &str, value: &str| {
        let body = format!(
            r#"{{"object": "{object}", "entry": [{{"id": "P", "time": {time}, "changes": [{{"field": "{field}", "value": {value}}}]}}]}}"#
        );
        let ([entity, event, key, _], _) = read_event("meta", &[], &body);
        assert_eq!(
            (entity, event),
            ("P".to_owned(), format!("{object}.{field}"))
        );
        key
    };
    let comment = |verb: &str, time| {
        let value = format!(
            r#"{{"item": "comment", "verb": "{verb}", "comment_id": "4_5", "post_id": "P_4", "from": {{"id": "7"}}, "created_time": 1520544816}}"#
        );
        key_of("page", time, "feed", &value)
    };
    let keys = [
        comment("add", 1),
        comment("edited", 2),
        comment("edited", 3),
        comment("remove", 4),
    ];
    assert_eq!(keys[0], "comment:4_5:add:7:1");
    assert!(
        (1..4).all(|index| !keys[index..].contains(&keys[index - 1])),
        "{keys:?}"
    );

    let table = [
        (
            "page",
            "feed",
            r#"{"item": "reaction", "verb": "add", "post_id": "P_4", "reaction_type": "like", "from": {"id": "7"}}"#,
            "reaction:P_4:add:7:9",
        ),
        (
            "page",
            "feed",
            r#"{"item": "comment", "verb": "add", "comment_id": "4_5"}"#,
            "comment:4_5:add:",
        ),
        // Sent twice, it was two events.
        (
            "page",
            "feed",
            r#"{"item": "status", "verb": "edited", "post_id": "P_4"}"#,
            "status:P_4:edited::9",
        ),
        (
            "page",
            "feed",
            r#"{"item": "comment", "verb": "add", "comment_id": "4_5", "post_id": "P_4"}"#,
            "comment:4_5:add:",
        ),
        (
            "page",
            "leadgen",
            r#"{"leadgen_id": "444", "page_id": "P", "created_time": 1}"#,
            "444",
        ),
        (
            "instagram",
            "comments",
            r#"{"id": "17865799348089039", "text": "This is an example."}"#,
            "17865799348089039",
        ),
        (
            "instagram",
            "mentions",
            r#"{"media_id": "17887498072083520", "comment_id": "17887498072083521"}"#,
            "mentions:17887498072083520:17887498072083521",
        ),
        (
            "instagram",
            "messages",
            r#"{"sender": {"id": "1"}, "timestamp": "1527459824", "message": {"mid": "m_9"}}"#,
            "m_9",
        ),
        (
            "page",
            "messaging_postbacks",
            r#"{"timestamp": "1527459824", "postback": {"mid": "m_9"}}"#,
            "postback:m_9",
        ),
        (
            "whatsapp_business_account",
            "message_template_status_update",
            r#"{"event": "APPROVED", "message_template_id": 594425479261596, "reason": "NONE"}"#,
            "message_template_status_update:594425479261596:APPROVED:9",
        ),
        (
            "page",
            "live_videos",
            r#"{"id": "8", "status": "live"}"#,
            "",
        ),
    ];
    for (object, field, value, key) in table {
        assert_eq!(key_of(object, 9, field, value), key, "{value}");
    }
}

/// Beside an entry with a known list, this one made neither an event nor a warning.
#[test]
fn an_entry_of_meta_without_a_known_list_is_an_event() {
    check_call(
        "meta",
        r#"{"object": "page", "entry": [
            {"id": "1", "time": 1700000000, "changes": [{"field": "feed", "value": {}}]},
            {"id": "2", "time": 1700000001, "new_list": [{"a": 1}]}]}"#,
        &[
            ["1", "page.feed", "", "2023-11-14T22:13:20.000Z"],
            ["2", "page", "", "2023-11-14T22:13:21.000Z"],
        ],
    );
}

/// The second of two such items was refused as a reused key, and with it the call. Payloads as in
/// <https://developers.hubspot.com/docs/api-reference/webhooks-webhooks-v3/guide>, which says that
/// `eventId` is not unique.
#[test]
fn hubspots_events_of_one_id_have_keys_of_their_own() {
    let event = |attempt: u32, more: &str| {
        format!(
            r#"{{"eventId": 1, "subscriptionId": 25, "portalId": 33, "appId": 160452, "occurredAt": 1462216307945, "attemptNumber": {attempt}, {more}}}"#
        )
    };
    let kinds = [
        r#""subscriptionType": "contact.creation", "objectId": 123, "changeFlag": "CREATED""#,
        r#""subscriptionType": "contact.propertyChange", "objectId": 123, "propertyName": "email", "propertyValue": "a@b.example""#,
        r#""subscriptionType": "contact.propertyChange", "objectId": 123, "propertyName": "phone", "propertyValue": "1""#,
        r#""subscriptionType": "contact.associationChange", "associationType": "CONTACT_TO_COMPANY", "fromObjectId": 123, "toObjectId": 7, "associationRemoved": false"#,
        r#""subscriptionType": "contact.associationChange", "associationType": "CONTACT_TO_COMPANY", "fromObjectId": 123, "toObjectId": 8, "associationRemoved": false"#,
        r#""subscriptionType": "contact.associationChange", "associationType": "CONTACT_TO_COMPANY", "fromObjectId": 12, "toObjectId": 37, "associationRemoved": false"#,
        r#""subscriptionType": "contact.merge", "primaryObjectId": 123, "mergedObjectIds": [4], "newObjectId": 9"#,
        r#""subscriptionType": "conversation.newMessage", "objectId": 123, "messageId": "a", "messageType": "MESSAGE""#,
        r#""subscriptionType": "conversation.newMessage", "objectId": 123, "messageId": "b", "messageType": "MESSAGE""#,
    ];
    let call = |attempt| {
        let events: Vec<_> = kinds.iter().map(|more| event(attempt, more)).collect();
        format!("[{}]", events.join(","))
    };
    let keys = read_keys("hubspot", &[&call(0)]);
    let unique: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(
        (unique.len(), unique.contains(&String::new())),
        (kinds.len(), false),
        "{keys:?}"
    );
    assert_eq!(keys, read_keys("hubspot", &[&call(1)]), "a retry");
}

/// They belonged to the entity `instance`, or had no time. Payloads of GitLab's documentation,
/// `doc/user/project/integrations/webhook_events.md` and `doc/administration/system_hooks.md`.
#[test]
fn gitlabs_groups_jobs_and_system_hooks_have_an_entity_and_a_time() {
    let table = [
        (
            r#"{"object_kind": "access_token", "group": {"group_name": "Twitter", "group_path": "twitter", "group_id": 35, "full_path": "big/twitter"}, "object_attributes": {"user_id": 90, "created_at": "2024-01-24 16:27:40 UTC", "id": 25}, "event_name": "expiring_access_token"}"#,
            "group:big/twitter",
            "2024-01-24T16:27:40.000Z",
        ),
        (
            r#"{"object_kind": "vulnerability", "object_attributes": {"title": "REXML DoS vulnerability", "project_id": 50, "created_at": "2025-01-08T00:46:14.413Z", "updated_at": "2025-01-08T00:46:14.413Z"}}"#,
            "project:50",
            "2025-01-08T00:46:14.413Z",
        ),
        (
            r#"{"object_kind": "deployment", "status": "success", "status_changed_at": "2021-04-28 21:50:00 +0200", "project": {"path_with_namespace": "root/test-deployment-webhooks"}}"#,
            "root/test-deployment-webhooks",
            "2021-04-28T19:50:00.000Z",
        ),
        (
            r#"{"object_kind": "build", "build_id": 1977, "build_created_at": "2021-02-23T02:41:37.886Z", "build_started_at": null, "build_finished_at": null, "project_id": 380}"#,
            "project:380",
            "2021-02-23T02:41:37.886Z",
        ),
        (
            r#"{"object_kind": "build", "build_id": 1977, "build_created_at": "2021-02-23T02:41:37.886Z", "build_started_at": "2021-02-23T02:41:38.886Z", "build_finished_at": "2021-02-23T02:41:39.886Z", "project_id": 380}"#,
            "project:380",
            "2021-02-23T02:41:39.886Z",
        ),
        (
            r#"{"object_kind": "pipeline", "object_attributes": {"id": 31, "iid": 3, "created_at": "2016-08-12 15:23:28 UTC", "finished_at": "2016-08-12 15:26:29 UTC"}, "project": {"path_with_namespace": "gitlab-org/gitlab-test"}}"#,
            "gitlab-org/gitlab-test/pipeline/3",
            "2016-08-12T15:26:29.000Z",
        ),
        (
            r#"{"id": 1, "created_at": "2020-11-02 12:55:12 UTC", "released_at": "2020-11-02 12:55:12 UTC", "tag": "v1.1", "object_kind": "release", "project": {"path_with_namespace": "gitlab-org/release-webhook-example"}, "action": "create"}"#,
            "gitlab-org/release-webhook-example",
            "2020-11-02T12:55:12.000Z",
        ),
        (
            r#"{"created_at": "2020-12-11T04:57:22Z", "updated_at": "2020-12-12T04:57:22Z", "group_name": "webhook-test", "group_path": "webhook-test", "group_id": 100, "user_id": 64, "event_name": "user_update_for_group"}"#,
            "group:webhook-test",
            "2020-12-12T04:57:22.000Z",
        ),
        (
            r#"{"event_name": "project_create", "created_at": "2024-10-07T10:43:48Z", "updated_at": "2024-10-07T10:43:48Z", "path_with_namespace": "group1/project1", "project_id": 22}"#,
            "group1/project1",
            "2024-10-07T10:43:48.000Z",
        ),
        (
            r#"{"created_at": "2021-01-20T09:40:12Z", "updated_at": "2021-01-20T09:40:12Z", "event_name": "subgroup_create", "full_path": "group1/subgroup1", "group_id": 10}"#,
            "group:group1/subgroup1",
            "2021-01-20T09:40:12.000Z",
        ),
        (
            r#"{"created_at": "2012-07-21T07:30:56Z", "updated_at": "2012-07-21T07:38:22Z", "event_name": "user_add_to_team", "project_id": 74, "project_path_with_namespace": "jsmith/storecloud", "user_id": 41}"#,
            "jsmith/storecloud",
            "2012-07-21T07:38:22.000Z",
        ),
        (
            r#"{"event_name": "key_create", "created_at": "2014-08-18 18:45:16 UTC", "updated_at": "2012-07-21T07:38:22Z", "username": "root", "id": 4}"#,
            "user:root",
            "2012-07-21T07:38:22.000Z",
        ),
    ];
    for (body, entity, time) in table {
        let headers = [("x-gitlab-event", "Hook"), ("idempotency-key", "i")];
        let (found, warnings) = read_event("gitlab", &headers, body);
        assert_eq!(found.each_ref(), [entity, "Hook", "i", time], "{body}");
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}

/// They had no time, and no key without a header that Twilio did not always send. Parameters as in
/// <https://www.twilio.com/docs/voice/api/call-resource>, `…/voice/twiml/conference`,
/// `…/messaging/guides/track-outbound-message-status`, `…/conversations/conversations-webhooks`,
/// `…/video/api/status-callbacks` and `…/events/webhook-quickstart`.
#[test]
fn twilios_callbacks_have_a_key_and_a_time() {
    let voice = "2025-11-25T10:00:00.000Z";
    let table = [
        (
            "CallSid=CA1&CallStatus=ringing&SequenceNumber=1&Timestamp=Tue%2C+25+Nov+2025+10%3A00%3A00+%2B0000&CallbackSource=call-progress-events",
            ["CA1", "call.ringing", "CA1:1:ringing", voice],
        ),
        (
            "CallSid=CA1&CallStatus=ringing",
            ["CA1", "call.ringing", "CA1:ringing:", ""],
        ),
        (
            "CallSid=CA1&CallStatus=in-progress&Digits=12",
            ["CA1", "call.in-progress", "CA1:in-progress:12", ""],
        ),
        (
            "ConferenceSid=CF1&CallSid=CA1&StatusCallbackEvent=participant-join&SequenceNumber=2&Timestamp=Tue%2C+25+Nov+2025+10%3A00%3A00+%2B0000",
            ["CF1", "participant-join", "CF1:2:participant-join", voice],
        ),
        (
            "RecordingSid=RE1&CallSid=CA1&RecordingStatus=completed",
            ["CA1", "recording.completed", "RE1:completed", ""],
        ),
        (
            "MessageSid=SM1&SmsSid=SM1&MessageStatus=sent&SmsStatus=sent",
            ["SM1", "message.sent", "SM1:sent", ""],
        ),
        (
            "MessageSid=SM2&SmsSid=SM2&SmsStatus=received&Body=Hi",
            ["SM2", "message.received", "SM2:received", ""],
        ),
        (
            "EventType=onMessageAdded&ConversationSid=CH1&MessageSid=IM1&ParticipantSid=MB1&DateCreated=2025-11-25T10%3A00%3A00.000Z",
            [
                "CH1",
                "onMessageAdded",
                "onMessageAdded:IM1:2025-11-25T10:00:00.000Z",
                voice,
            ],
        ),
        (
            "EventType=onMessageUpdated&ConversationSid=CH1&MessageSid=IM1&DateCreated=2025-11-24T10%3A00%3A00.000Z&DateUpdated=2025-11-25T10%3A00%3A00.000Z",
            [
                "CH1",
                "onMessageUpdated",
                "onMessageUpdated:IM1:2025-11-25T10:00:00.000Z2025-11-24T10:00:00.000Z",
                voice,
            ],
        ),
        (
            "EventType=onParticipantAdded&ConversationSid=CH1&ParticipantSid=MB1&DateCreated=2025-11-25T10%3A00%3A00.000Z",
            [
                "CH1",
                "onParticipantAdded",
                "onParticipantAdded:MB1:2025-11-25T10:00:00.000Z",
                voice,
            ],
        ),
        (
            "EventType=onDeliveryUpdated&ConversationSid=CH1&MessageSid=IM1&DeliveryReceiptSid=DY1&Status=read&DateUpdated=2025-11-25T10%3A00%3A00.000Z",
            [
                "CH1",
                "onDeliveryUpdated",
                "onDeliveryUpdated:DY1:read",
                voice,
            ],
        ),
        (
            "RoomSid=RM1&RoomName=a&StatusCallbackEvent=room-created&SequenceNumber=0&Timestamp=2025-11-25T10%3A00%3A00.000Z",
            ["RM1", "room-created", "RM1:0:room-created", voice],
        ),
        (
            "TranscriptionSid=GT1&CallSid=CA1&TranscriptionEvent=transcription-content&SequenceId=2&Timestamp=2025-11-25T10%3A00%3A00.000Z",
            ["CA1", "transcription-content", "GT1:2", voice],
        ),
        (
            "StreamSid=MZ1&CallSid=CA1&StreamEvent=stream-started&Timestamp=2025-11-25T10%3A00%3A00.000Z",
            ["CA1", "stream-started", "MZ1:stream-started", voice],
        ),
        (
            "CompositionSid=CJ1&RoomSid=RM1&StatusCallbackEvent=composition-available&Timestamp=2025-11-25T10%3A00%3A00.000Z",
            [
                "RM1",
                "composition-available",
                "CJ1:composition-available:",
                voice,
            ],
        ),
        (
            r#"[{"specversion": "1.0", "type": "com.twilio.messaging.message.sent", "source": "AB1", "id": "EZ1", "time": "2025-11-25T10:00:00.000Z", "data": {"messageSid": "SM1"}}]"#,
            ["SM1", "com.twilio.messaging.message.sent", "EZ1", voice],
        ),
    ];
    for (body, expected) in table {
        check_call("twilio", body, &[expected]);
    }
}

/// It was unmatched. Payload of <https://developers.facebook.com/docs/threads/webhooks>.
#[test]
fn a_change_of_threads_has_an_entity_a_name_and_a_key() {
    let change = r#"{"value": {"id": "8901234", "username": "test_username", "text": "Reply", "timestamp": "2024-08-07T10:33:16+0000"}, "field": "replies"}"#;
    for (values, key) in [
        (change.to_owned(), "replies:8901234"),
        (format!("[{change}]"), "8901234"),
    ] {
        let body = format!(
            r#"{{"app_id": "123456", "topic": "moderate", "target_id": "78901", "time": 1723226877, "subscription_id": "234567", "has_uid_field": false, "values": {values}}}"#
        );
        let expected = ["78901", "threads.replies", key, "2024-08-07T10:33:16.000Z"];
        check_call("meta", &body, &[expected]);
    }
}

/// They had no key although the provider documents one, no time, or an entity for everything.
/// Payloads of the pages that the presets name.
#[test]
fn documented_ids_and_times_of_other_events_are_found() {
    let headers = [("x-shopify-topic", "customers/data_request")];
    let body = r#"{"shop_id": 954889, "shop_domain": "shop.example.com", "orders_requested": [299938], "customer": {"id": 191167}, "data_request": {"id": 9999}}"#;
    let ([entity, _, key, _], _) = read_event("shopify", &headers, body);
    assert_eq!(
        [entity.as_str(), &key],
        ["customer:191167", "customers/data_request:9999"]
    );
    let headers = [
        ("x-shopify-topic", "fulfillment_orders/moved"),
        ("x-shopify-shop-domain", "shop.example.com"),
    ];
    let body = r#"{"original_fulfillment_order": {"id": "gid://shopify/FulfillmentOrder/1"}, "moved_fulfillment_order": {"id": "gid://shopify/FulfillmentOrder/2"}}"#;
    let ([entity, ..], _) = read_event("shopify", &headers, body);
    assert_eq!(entity, "gid://shopify/FulfillmentOrder/1");

    check_call(
        "slack",
        r#"{"type": "app_rate_limited", "team_id": "T9", "api_app_id": "A9", "minute_rate_limited": 1518467820}"#,
        &[[
            "T9",
            "app_rate_limited",
            "app_rate_limited:T9:A9:1518467820",
            "2018-02-12T20:37:00.000Z",
        ]],
    );
    check_call(
        "slack",
        r#"{"type": "view_closed", "team": {"id": "T1"}, "user": {"id": "U1"}, "view": {"id": "V1", "hash": "156"}, "is_cleared": false}"#,
        &[["U1", "view_closed", "view_closed:V1:156", ""]],
    );
    check_call(
        "slack",
        r#"{"type": "message_action", "trigger_id": "13.1", "action_ts": "1518467820.5", "user": {"id": "U1"}}"#,
        &[["U1", "message_action", "13.1", "2018-02-12T20:37:00.500Z"]],
    );
    check_call(
        "stripe",
        r#"{"id": "evt_5", "object": "v2.core.event", "type": "v2.core.health.event", "created": "2025-11-25T10:00:00.000Z", "context": "acct_1"}"#,
        &[[
            "context:acct_1",
            "v2.core.health.event",
            "evt_5",
            "2025-11-25T10:00:00.000Z",
        ]],
    );
    for (body, entity) in [
        (r#"{"type": "v2.core.health.event"}"#, "account"),
        ("{}", "unmatched"),
    ] {
        let ([found, ..], _) = read_event("stripe", &[], body);
        assert_eq!(found, entity, "{body}");
    }
    check_call(
        "pipedrive",
        r#"{"v": 1, "event": "updated.deal", "meta": {"action": "updated", "object": "deal", "id": 4, "timestamp": 1764374400, "timestamp_micro": 1764374400000001}}"#,
        &[[
            "deal:4",
            "updated.deal",
            "deal:4:updated:1764374400000001",
            "2025-11-29T00:00:00.000Z",
        ]],
    );
    check_call(
        "slack",
        r#"{"type": "event_callback", "event_id": "Ev6", "team_id": "T1", "event_time": 1518467820, "event": {"type": "assistant_thread_started", "assistant_thread": {"user_id": "U1", "channel_id": "D1"}}}"#,
        &[[
            "D1",
            "assistant_thread_started",
            "Ev6",
            "2018-02-12T20:37:00.000Z",
        ]],
    );
    let headers = [("svix-id", "m")];
    let body = r#"{"type": "endpoint.disabled", "data": {"appId": "app_1", "endpointId": "ep_1"}}"#;
    let ([entity, ..], _) = read_event("svix", &headers, body);
    assert_eq!(entity, "ep_1");
    let headers = [("linear-delivery", "d")];
    let body = r#"{"action": "breached", "type": "IssueSLA", "issueData": {"id": "i1"}, "organizationId": "o"}"#;
    let ([entity, event, ..], _) = read_event("linear", &headers, body);
    assert_eq!([entity.as_str(), &event], ["i1", "IssueSLA.breached"]);
}
