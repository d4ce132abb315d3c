//! Tests of the decoder: accepted bodies of the 12 events, and the field errors of the others.

use serde_json::{Value, json};

use super::*;

use crate::config::Secret;
use crate::edge::signature::SignatureVerifier;
use crate::edge::support::signature::sign_support_body;
use crate::entity::ticket;
use crate::entity::ticket::TicketAction::*;

/// Marker of a member that the test leaves out.
const ABSENT: &str = "(absent)";

fn verified(body: &str) -> VerifiedBody {
    let secret = Secret::new("s");
    let signature = sign_support_body(&secret, body.as_bytes(), "t");
    let body = bytes::Bytes::copy_from_slice(body.as_bytes());
    SignatureVerifier::new(&[secret])
        .verify(&body, b"t", signature.as_bytes())
        .expect("signed just now")
}

fn decoded(body: &str, key: Option<&[u8]>) -> Result<Command, ApiError> {
    let given = SupportRequestContext {
        idempotency_key: key,
        at: None,
        unknown_entity: UnknownEntityPolicy::Create,
    };
    decode_support_event(&verified(body), given, Span::none())
}

fn body(event: &str, data: Value) -> Value {
    json!({"event": event, "support_uid": "SUP-1042", "idempotency_key": "k", "data": data})
}

fn action(event: &str, data: Value) -> ticket::TicketAction {
    let command = decoded(&body(event, data).to_string(), None).expect("valid");
    let EntityAction::Ticket(action) = command.action else {
        panic!("a ticket's: {command:?}")
    };
    action
}

fn wrong_fields(body: &str) -> Vec<String> {
    match decoded(body, None) {
        Err(ApiError::InvalidFields(faults)) => faults
            .into_iter()
            .map(|fault| fault.field.into_owned())
            .collect(),
        other => panic!("{body}: {other:?}"),
    }
}

/// One valid event of each name, with the members of its data that are required.
fn samples() -> [(&'static str, Value, &'static [&'static str]); 12] {
    [
        (
            "message.created",
            json!({"message_id": "m1", "text": "hello"}),
            &["message_id", "text"],
        ),
        (
            "message.updated",
            json!({"message_id": "m1", "text": "hello"}),
            &["message_id", "text"],
        ),
        (
            "message.deleted",
            json!({"message_id": "m1"}),
            &["message_id"],
        ),
        ("status.changed", json!({"status": "open"}), &["status"]),
        ("agent.assigned", json!({"agent_id": "a1"}), &["agent_id"]),
        ("agent.unassigned", json!({}), &[]),
        (
            "priority.changed",
            json!({"priority": "high"}),
            &["priority"],
        ),
        ("tags.updated", json!({"tags": ["vip"]}), &["tags"]),
        (
            "category.changed",
            json!({"category": "billing"}),
            &["category"],
        ),
        (
            "attachment.added",
            json!({"attachment_id": "f1", "file_name": "a.pdf"}),
            &["attachment_id", "file_name"],
        ),
        (
            "sla.breached",
            json!({"policy": "first answer"}),
            &["policy"],
        ),
        ("rating.submitted", json!({"score": 5}), &["score"]),
    ]
}

#[test]
fn each_of_the_twelve_events_is_decoded_from_what_it_requires() {
    for ((event, data, _), name) in samples().into_iter().zip(EVENT_NAMES) {
        let text = body(event, data).to_string();
        let command = decoded(&text, None).expect("valid");
        assert_eq!((event, command.event_type.as_ref()), (name, name));
        assert_eq!(
            (command.source.as_str(), command.entity.to_string().as_str()),
            ("support", "ticket:SUP-1042")
        );
        assert_eq!(
            (command.idempotency_key.as_deref(), command.at),
            (Some("k"), None)
        );
        assert_eq!(command.payload, text.as_bytes());
        assert!(command.may_create);
    }
}

/// Such a body was once answered with a 500, and later refused for ever.
#[test]
fn half_a_surrogate_in_the_name_of_a_member_is_no_fault() {
    for (event, data, _) in samples() {
        let text = body(event, data)
            .to_string()
            .replace(r#""data":{"#, r#""data":{"\ud800":1,"#)
            .replace(":1,}", ":1}");
        assert!(text.contains("ud800"), "{text}");
        let command = decoded(&text, Some(b"k")).expect("valid");
        assert_eq!(command.payload, text.as_bytes(), "{event}");
    }
}

#[test]
fn each_required_member_is_missed_when_missing_null_or_of_another_type() {
    for (event, data, required) in samples() {
        for member in required {
            for wrong in [
                json!(ABSENT),
                json!(null),
                json!({"x": 1}),
                json!(true),
                json!([[]]),
            ] {
                let mut data = data.clone();
                data[*member] = wrong.clone();
                if wrong == ABSENT {
                    data.as_object_mut().expect("an object").remove(*member);
                }
                let item = if wrong == json!([[]]) && *member == "tags" {
                    "[0]"
                } else {
                    ""
                };
                let fields = wrong_fields(&body(event, data).to_string());
                assert_eq!(fields, [format!("data.{member}{item}")], "{event} {wrong}");
            }
        }
    }
}

#[test]
fn optional_members_are_taken_and_may_be_null() {
    let at = Timestamp::parse("2025-12-04T10:30:00Z");
    let text = |text: &str| Some(text.to_owned());
    let cases = [
        (
            "message.created",
            json!({"message_id": "m", "text": "", "author": {"id": 7}, "is_internal": true}),
            MessageCreated {
                message_id: "m".into(),
                text: String::new(),
                author: Some(json!({"id": 7})),
                is_internal: true,
            },
        ),
        (
            "message.created",
            json!({"message_id": "m", "text": "ї", "author": null, "is_internal": null}),
            MessageCreated {
                message_id: "m".into(),
                text: "ї".into(),
                author: None,
                is_internal: false,
            },
        ),
        (
            "message.deleted",
            json!({"message_id": "m", "reason": "spam"}),
            MessageDeleted {
                message_id: "m".into(),
                reason: text("spam"),
            },
        ),
        (
            "status.changed",
            json!({"status": "on_hold", "reason": "w"}),
            StatusChanged {
                status: "on_hold".into(),
                reason: text("w"),
            },
        ),
        (
            "agent.assigned",
            json!({"agent_id": "a", "agent_name": "Ann"}),
            AgentAssigned {
                agent_id: "a".into(),
                agent_name: text("Ann"),
            },
        ),
        (
            "agent.unassigned",
            json!({"reason": null}),
            AgentUnassigned { reason: None },
        ),
        (
            "tags.updated",
            json!({"tags": []}),
            TagsReplaced { tags: vec![] },
        ),
        (
            "tags.updated",
            json!({"added": ["a"]}),
            TagsEdited {
                added: vec!["a".into()],
                removed: vec![],
            },
        ),
        (
            "tags.updated",
            json!({"removed": ["a"], "tags": null}),
            TagsEdited {
                added: vec![],
                removed: vec!["a".into()],
            },
        ),
        (
            "attachment.added",
            json!({"attachment_id": "f", "file_name": "n", "url": "https://x/f", "size": 0}),
            AttachmentAdded {
                attachment_id: "f".into(),
                file_name: "n".into(),
                url: text("https://x/f"),
                size: Some(0),
            },
        ),
        (
            "sla.breached",
            json!({"policy": "p", "due_at": "2025-12-04T12:30:00+02:00"}),
            SlaBreached {
                policy: "p".into(),
                due_at: at,
            },
        ),
        (
            "rating.submitted",
            json!({"score": 1, "comment": "meh"}),
            RatingSubmitted {
                score: 1,
                comment: text("meh"),
            },
        ),
    ];
    for (event, data, expected) in cases {
        assert_eq!(action(event, data.clone()), expected, "{event} {data}");
    }
}

#[test]
fn values_out_of_range_name_their_field() {
    let long = "x".repeat(257);
    let cases = [
        (
            "message.created",
            json!({"message_id": "", "text": "t"}),
            "data.message_id",
        ),
        (
            "message.created",
            json!({"message_id": long, "text": "t"}),
            "data.message_id",
        ),
        (
            "message.created",
            json!({"message_id": "m", "text": "t", "author": 7}),
            "data.author",
        ),
        (
            "message.created",
            json!({"message_id": "m", "text": "t", "is_internal": "yes"}),
            "data.is_internal",
        ),
        ("status.changed", json!({"status": "Open"}), "data.status"),
        (
            "status.changed",
            json!({"status": "open", "reason": 1}),
            "data.reason",
        ),
        ("priority.changed", json!({"priority": ""}), "data.priority"),
        ("tags.updated", json!({}), "data.tags"),
        ("tags.updated", json!({"tags": "vip"}), "data.tags"),
        (
            "tags.updated",
            json!({"tags": vec!["x"; 1_001]}),
            "data.tags",
        ),
        ("tags.updated", json!({"tags": ["a", ""]}), "data.tags[1]"),
        (
            "tags.updated",
            json!({"removed": [long]}),
            "data.removed[0]",
        ),
        ("category.changed", json!({"category": ""}), "data.category"),
        (
            "attachment.added",
            json!({"attachment_id": "f", "file_name": ""}),
            "data.file_name",
        ),
        (
            "attachment.added",
            json!({"attachment_id": "f", "file_name": "n", "size": -1}),
            "data.size",
        ),
        (
            "attachment.added",
            json!({"attachment_id": "f", "file_name": "n", "size": 1.5}),
            "data.size",
        ),
        (
            "sla.breached",
            json!({"policy": "p", "due_at": "tomorrow"}),
            "data.due_at",
        ),
        ("rating.submitted", json!({"score": 0}), "data.score"),
        ("rating.submitted", json!({"score": 6}), "data.score"),
        ("rating.submitted", json!({"score": 4.5}), "data.score"),
        ("rating.submitted", json!({"score": "5"}), "data.score"),
    ];
    for (event, data, field) in cases {
        assert_eq!(
            wrong_fields(&body(event, data.clone()).to_string()),
            [field],
            "{event} {data}"
        );
    }
}

#[test]
fn every_wrong_field_is_named_at_once() {
    assert_eq!(
        wrong_fields("{}"),
        ["event", "support_uid", "idempotency_key", "data"]
    );
    let text = json!({
        "event": "message.created", "support_uid": 7, "idempotency_key": "a\nb",
        "timestamp": "now", "actor": "me", "data": {"text": []},
    });
    let fields = [
        "support_uid",
        "idempotency_key",
        "timestamp",
        "actor",
        "data.message_id",
        "data.text",
    ];
    assert_eq!(wrong_fields(&text.to_string()), fields);
    for data in [json!(null), json!("text"), json!([])] {
        assert_eq!(
            wrong_fields(&body("status.changed", data).to_string()),
            ["data"]
        );
    }
}

#[test]
fn data_may_be_missing_where_nothing_in_it_is_required() {
    let text = r#"{"event": "agent.unassigned", "support_uid": "S", "idempotency_key": "k"}"#;
    assert!(decoded(text, None).is_ok());
}

#[test]
fn an_event_that_is_not_in_the_catalogue_is_answered_with_the_catalogue() {
    for event in ["status.change", "STATUS.CHANGED", ""] {
        let error = decoded(&body(event, json!({})).to_string(), None).expect_err("unknown");
        assert_eq!(error.code(), "unknown_event");
        assert!(
            EVENT_NAMES
                .iter()
                .all(|name| error.to_string().contains(name))
        );
    }
    let escaped = body("status.changed", json!({"status": "new"}))
        .to_string()
        .replace("status.", r"\u0073tatus.");
    assert_eq!(
        decoded(&escaped, None).expect("the same name").event_type,
        "status.changed"
    );
}

#[test]
fn the_signed_key_of_the_body_wins_and_a_headers_key_is_checked() {
    let mut value = body("agent.unassigned", json!({}));
    let signed = decoded(&value.to_string(), Some(b"h")).expect("valid");
    assert_eq!(signed.idempotency_key.as_deref(), Some("k"));
    value["idempotency_key"] = Value::Null;
    let text = value.to_string();
    assert_eq!(
        decoded(&text, Some(b"h"))
            .expect("valid")
            .idempotency_key
            .as_deref(),
        Some("h")
    );
    for key in [&b""[..], b"\xff", b"a\tb", &[b'x'; 257]] {
        let Err(ApiError::InvalidFields(faults)) = decoded(&text, Some(key)) else {
            panic!("{key:?}")
        };
        assert_eq!(faults[0].field, "idempotency_key");
    }
}

#[test]
fn the_time_of_the_body_wins_over_that_of_the_request() {
    let given = SupportRequestContext {
        idempotency_key: None,
        at: Some(Timestamp::from_micros(5)),
        unknown_entity: UnknownEntityPolicy::Reject,
    };
    let mut value = body("agent.unassigned", json!({}));
    let command =
        decode_support_event(&verified(&value.to_string()), given, Span::none()).expect("valid");
    assert_eq!((command.at, command.may_create), (given.at, false));
    value["timestamp"] = json!("2025-12-04T12:30:00+02:00");
    let command =
        decode_support_event(&verified(&value.to_string()), given, Span::none()).expect("valid");
    assert_eq!(command.at, Timestamp::parse("2025-12-04T10:30:00Z"));
}

#[test]
fn what_is_no_json_object_is_told_without_repeating_it() {
    for text in [
        "",
        "{",
        "[]",
        "\"secret words\"",
        "{\"event\": secret}",
        "null",
        "{} {}",
    ] {
        let error = decoded(text, None).expect_err("no object");
        assert_eq!(error.code(), "invalid_json", "{text}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn no_fault_repeats_what_was_sent() {
    let data = json!({"status": "secret words", "reason": ["secret words"]});
    let Err(ApiError::InvalidFields(faults)) =
        decoded(&body("status.changed", data).to_string(), None)
    else {
        panic!("two faults")
    };
    assert!(faults.len() == 2 && faults.iter().all(|fault| !fault.detail.contains("secret")));
}

#[test]
fn the_unverified_timestamp_is_unescaped() {
    let timestamp = |body: &str| unverified_timestamp(body.as_bytes());
    assert_eq!(
        timestamp(r#"{"timestamp": "2025\u002d12"}"#).as_deref(),
        Some("2025-12")
    );
    for body in [
        "{}",
        r#"{"timestamp": 7}"#,
        r#"{"timestamp": null}"#,
        "nonsense",
        "[]",
    ] {
        assert_eq!(timestamp(body), None, "{body}");
    }
}

/// Both ids were read as the same text, and became one ticket.
#[test]
fn ids_with_half_a_surrogate_pair_are_refused() {
    for field in ["support_uid", "idempotency_key"] {
        for half in [r"\ud800", r"\ud801", r"\ufffd"] {
            let mut body = serde_json::json!({"event": "agent.unassigned", "support_uid": "T", "idempotency_key": "k"});
            body[field] = "?".into();
            let body = VerifiedBody::unsigned(body.to_string().replace('?', half).into());
            let context = SupportRequestContext {
                idempotency_key: None,
                at: None,
                unknown_entity: UnknownEntityPolicy::Create,
            };
            let Err(ApiError::InvalidFields(faults)) =
                decode_support_event(&body, context, Span::none())
            else {
                panic!("{field} {half} is taken");
            };
            assert_eq!(faults[0].field, field);
        }
    }
}
