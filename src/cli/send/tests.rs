//! Tests of the requests that `send` builds, source by source, without a node.

use clap::Parser;
use serde_json::{Value, json};

use super::*;
use crate::config::Secret;
use crate::edge::{leads, support};

#[derive(Parser)]
struct SendCommandLine {
    #[command(flatten)]
    send: SendCommand,
}

const NOW: &str = "2025-12-04T10:30:00.000Z";

const ENV: [(&str, &str); 7] = [
    ("HOOKYARD_SOURCES__SUPPORT__API_KEYS", "test-key"),
    ("HOOKYARD_SOURCES__SUPPORT__SECRETS", "test-secret"),
    ("HOOKYARD_SOURCES__LEADS__SECRETS", "test-secret"),
    ("HOOKYARD_SOURCES__C2S__TOKENS", "test-token"),
    ("HOOKYARD_SOURCES__INSTAGRAM__APP_SECRETS", "test-secret"),
    ("HOOKYARD_SOURCES__CRM__TOKENS", "test-publisher"),
    ("HOOKYARD_SOURCES__CRM__EVENTS", "invoice.paid"),
];

fn made(words: &[&str], env: &[(&str, &str)]) -> Result<SignedEventRequest, SendCommandError> {
    let line = SendCommandLine::try_parse_from([&["send"], words].concat())
        .unwrap_or_else(|error| panic!("{error}"));
    let config = ConfigDraft::from_toml(None, env.iter().copied())
        .finish(ConfigPurpose::Tool)
        .expect("valid");
    let now = Timestamp::parse(NOW).expect("a time");
    line.send
        .into_options(&config, now, "random".into())?
        .build_request(&config)
}

/// Returns path, request and body for the arguments `words`.
fn sent(words: &[&str]) -> (String, SignedEventRequest, Value) {
    let request = made(words, &ENV).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    let body = serde_json::from_slice(&request.body).expect("JSON");
    (request.path.clone(), request, body)
}

fn wrong(words: &[&str]) -> String {
    made(words, &ENV).err().expect("wrong").to_string()
}

impl SignedEventRequest {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(given, _)| *given == name);
        found.map_or("", |(_, value)| value.expose())
    }
}

#[test]
fn a_plain_send_is_the_first_sample_signed_now() {
    let (path, request, body) = sent(&[]);
    assert_eq!(path, "/api/v0/crm/webhooks/support/");
    assert_eq!(
        (
            request.header("X-CRM-Timestamp"),
            request.header("Idempotency-Key")
        ),
        (NOW, "random")
    );
    let signature =
        support::signature::sign_support_body(&Secret::new("test-secret"), &request.body, NOW);
    assert_eq!(request.header("X-CRM-Signature"), signature);
    assert_eq!(
        (&body["event"], &body["support_uid"]),
        (&json!("message.created"), &json!("SUP-1042"))
    );
    assert_eq!(
        (&body["data"]["message_id"], &body["timestamp"]),
        (&json!("msg-1"), &json!(NOW))
    );
}

#[test]
fn every_part_of_an_event_can_be_given() {
    let at = "2020-01-01T00:00:00+02:00";
    let words = [
        "status.changed",
        "--entity",
        "T",
        "--key",
        "k",
        "--data",
        r#"{"a":1.50}"#,
        "--at",
        at,
    ];
    let (_, request, body) = sent(&words);
    assert_eq!(
        (
            request.header("X-CRM-Timestamp"),
            request.header("Idempotency-Key")
        ),
        (NOW, "k")
    );
    assert_eq!(
        (&body["timestamp"], &body["support_uid"]),
        (&json!(at), &json!("T"))
    );
    let text = String::from_utf8(request.body).expect("text");
    assert!(
        text.contains(r#""data":{"a":1.50}"#),
        "its digits are kept: {text}"
    );
}

#[test]
fn events_of_leads_go_to_their_paths_with_the_entity_in_them() {
    let (path, request, body) = sent(&["lead.updated", "--entity", "7"]);
    assert_eq!(
        (path.as_str(), &body["event"]),
        (
            "/api/v1/webhooks/incoming/lead/7/update",
            &json!("lead_update")
        )
    );
    let signature = leads::signature::sign_lead_body(&Secret::new("test-secret"), &request.body);
    assert_eq!(request.header("X-Webhook-Signature"), signature);
    assert_eq!(
        sent(&["pre_lead.created"]).0,
        "/api/v1/webhooks/incoming/pre-lead/create"
    );

    let customer = |words: &[&str]| {
        let (path, _, body) = sent(&[&["customer.order_created"], words].concat());
        assert_eq!(path, "/api/v1/webhooks/incoming");
        (
            body["data"]["customer_id"].clone(),
            body["data"]["customer_code"].clone(),
        )
    };
    assert_eq!(
        customer(&[]),
        (Value::Null, json!("CUST-XYZ-001")),
        "the one that the sample of lead.converted makes"
    );
    assert_eq!(customer(&["--entity", "9"]), (json!(9), Value::Null));
    assert_eq!(customer(&["--entity", "C-9"]), (Value::Null, json!("C-9")));

    let unsigned = made(&["lead.created"], &[]).expect("no secrets, no signature");
    assert_eq!(unsigned.header("X-Webhook-Signature"), "");
    let missing = "pre_lead.updated needs an existing pre_lead: give its id with --entity";
    assert!(wrong(&["pre_lead.updated"]).starts_with(missing));
    assert!(wrong(&["pre_lead.updated", "--entity", "../x"]).starts_with(missing));
    assert!(wrong(&["lead.created", "--entity", "7"]).ends_with("leave out --entity"));
}

#[test]
fn an_event_of_c2s_is_sent_bare_with_an_instant_of_its_own() {
    let event = |words: &[&str]| sent(&[&["c2s_lead.received"], words].concat()).2;
    let sample = json!({"lead_id": "7f3a", "hook_action": "lead.created", "updated_at": NOW});
    assert_eq!(event(&[]), sample);
    assert_eq!(
        event(&["--entity", "8", "--at", "2020-01-01T00:00:00Z"])["updated_at"],
        "2020-01-01T00:00:00Z"
    );
    assert_eq!(
        event(&["--data", r#"{"x": 1}"#]),
        json!({"lead_id": "7f3a", "x": 1, "updated_at": NOW})
    );
    let own = r#"{"lead_id": 8, "attributes": {"updated_at": "2020-01-01T00:00:00Z"}}"#;
    assert_eq!(
        event(&["--data", own]),
        serde_json::from_str::<Value>(own).expect("JSON")
    );
    assert_eq!(
        sent(&["c2s_lead.received"]).1.header("X-Webhook-Token"),
        "test-token"
    );
    assert!(wrong(&["c2s_lead.received", "--key", "k"]).contains("because --at identifies it"));
}

#[test]
fn an_update_of_instagram_has_a_mid_and_a_time_of_its_own() {
    let item = |words: &[&str]| sent(words).2["entry"][0]["messaging"][0].clone();
    let millis = 1_764_844_200_000_u64;
    let message = item(&["message.received"]);
    assert_eq!(
        (&message["message"]["mid"], &message["timestamp"]),
        (&json!("mid_random"), &json!(millis))
    );
    let echo = sent(&["message.echo", "--entity", "42", "--key", "m"]).2["entry"][0].clone();
    assert_eq!(
        (&echo["id"], &echo["messaging"][0]["recipient"]["id"]),
        (&json!("0987654321"), &json!("42"))
    );
    assert_eq!(echo["messaging"][0]["message"]["mid"], "m");
    assert_eq!(
        item(&["message.reaction"])["reaction"]["mid"],
        "mid_abc124",
        "the message that is reacted to"
    );
    assert_eq!(
        item(&["message.reaction", "--key", "m"])["reaction"]["mid"],
        "m"
    );
    let own = item(&[
        "message.received",
        "--data",
        r#"{"message": {"text": "hi"}, "recipient": {"id": "9"}}"#,
    ]);
    let expected = json!({
        "message": {"text": "hi", "mid": "mid_random"}, "recipient": {"id": "9"}, "sender": {"id": "1234567890"},
        "timestamp": millis,
    });
    assert_eq!(own, expected);
    let change = sent(&["message.unknown"]).2["entry"][0]["changes"][0].clone();
    assert_eq!(
        (&change["field"], &change["value"]["id"]),
        (&json!("comments"), &json!("random"))
    );
    assert!(wrong(&["message.unknown", "--entity", "7"]).ends_with("leave out --entity"));
    assert!(wrong(&["message.referral", "--key", "7"]).ends_with("leave out --key"));
}

#[test]
fn an_event_of_the_bus_names_its_entity_by_its_kind() {
    let data = |words: &[&str]| sent(words).2["data"].clone();
    assert_eq!(data(&["person.deleted"]), json!({"person_id": 204}));
    assert_eq!(
        data(&["person.deleted", "--entity", "5"]),
        json!({"person_id": 5})
    );
    assert_eq!(
        data(&["person.deleted", "--data", r#"{"id": "P-1"}"#]),
        json!({"id": "P-1"})
    );
    assert_eq!(
        data(&["invoice.paid", "--entity", "I-1"]),
        json!({"invoice_id": "I-1"})
    );
    assert_eq!(data(&["invoice.paid"]), json!({"invoice_id": 1}));
    assert_eq!(
        sent(&["person.deleted"]).1.header("Authorization"),
        "Bearer test-publisher"
    );
    let admin = made(
        &["person.deleted"],
        &[("HOOKYARD_ADMIN__TOKEN", "test-admin")],
    )
    .expect("the admin may publish");
    assert_eq!(admin.header("Authorization"), "Bearer test-admin");
}

#[test]
fn wrong_arguments_are_refused_with_the_right_ones() {
    assert!(wrong(&["message.creatd"]).contains("the nearest is `message.created`"));
    assert!(wrong(&["invoice.payed"]).contains("the nearest is `invoice.paid`"));
    assert!(
        wrong(&["new_inquiry"]).contains("the nearest is `pre_lead.created`"),
        "its name on the wire"
    );
    assert_eq!(
        wrong(&["x"]),
        r#"unknown event "x"; `hookyard send --help` lists all of them"#
    );
    for own in [
        "customer.created",
        "c2s_lead.enriched",
        "message.reply",
        "breaker.opened",
    ] {
        assert!(
            wrong(&[own]).starts_with(&format!("`{own}` cannot be sent")),
            "{own}"
        );
    }
    let refused = |words: &[&str]| {
        SendCommandLine::try_parse_from([&["send"], words].concat())
            .err()
            .expect("wrong")
            .to_string()
    };
    assert!(refused(&["--data", "[]"]).contains("expected a JSON object"));
    let not_json = refused(&["--data", "notjson"]);
    assert!(
        not_json.contains("is not JSON: ") && not_json.contains("line 1 column 2"),
        "{not_json}"
    );
    for url in ["ftp://h", "localhost:8080", "127.0.0.1:8080", ""] {
        assert!(
            refused(&["--url", url]).contains("begins with http:// or https://"),
            "{url}"
        );
    }
    assert!(refused(&["--at", "noon"]).contains("expected an RFC 3339 time"));
}

#[test]
fn without_secrets_the_error_says_where_to_get_them() {
    let error = made(&[], &ENV[..1]).err().expect("no secret").to_string();
    assert!(
        error.contains("hookyard serve --dev") && error.contains("--config"),
        "{error}"
    );
    assert!(
        error.contains("sources.support.secrets")
            && error.contains("HOOKYARD_SOURCES__SUPPORT__SECRETS"),
        "{error}"
    );
}

#[test]
fn the_help_names_the_ticket_of_the_samples() {
    assert!(event::format_help("").contains(&format!("[default: {SAMPLE_TICKET}]")));
}
