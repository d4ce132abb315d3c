//! Instagram's contract: the handshake, signed calls with many updates, and the resulting
//! conversations.

use hookyard::config::Secret;
use hookyard::edge::instagram::signature::sign_instagram_body;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::failures::{DiskFailure, FailurePlace, until_readyz_is};
use crate::test_node::{TestAnswer, TestClient, TestEnv, expect_soon, run_async, run_together};

pub const APP_SECRET: &str = "test-app-secret-long-enough";
pub const VERIFY_TOKEN: &str = "test-verify-token";

const WEBHOOK: &str = "/webhooks/instagram";
const BUSINESS: &str = "0987654321";
const CUSTOMER: &str = "1234567890";
const CONVERSATION: &str = "conv_1234567890_0987654321";

pub fn test_env(keys: &[(&str, &str)]) -> TestEnv {
    let own = [
        ("sources.instagram.enabled", "true"),
        (
            "sources.instagram.app_secrets",
            "test-old-secret-long-enough,test-app-secret-long-enough",
        ),
        ("sources.instagram.verify_token", VERIFY_TOKEN),
    ];
    TestEnv::new(&[&own, keys].concat())
}

fn signed(client: &TestClient, body: &str, secret: &str) -> RequestBuilder {
    let request = client
        .client
        .post(format!("{}{WEBHOOK}", client.base))
        .header("content-type", "application/json");
    request
        .header(
            "x-hub-signature-256",
            sign_instagram_body(&Secret::new(secret), body.as_bytes()),
        )
        .body(body.to_owned())
}

pub async fn call(client: &TestClient, body: &Value) -> TestAnswer {
    client
        .send_request(signed(client, &body.to_string(), APP_SECRET))
        .await
}

/// Call with `items` for the business account.
pub fn with(items: &[Value]) -> Value {
    json!({"object": "instagram", "entry": [{"id": BUSINESS, "time": 1_762_597_800_000_u64, "messaging": items}]})
}

/// Update by the customer, `second` seconds after the start of the story.
pub fn item(second: u64, member: &str, value: Value) -> Value {
    let timestamp = 1_762_597_800_000 + second * 1_000;
    json!({"sender": {"id": CUSTOMER}, "recipient": {"id": BUSINESS}, "timestamp": timestamp, member: value})
}

pub fn message(second: u64, mid: &str, text: &str) -> Value {
    item(second, "message", json!({"mid": mid, "text": text}))
}

pub fn echo(second: u64, mid: &str, text: &str) -> Value {
    let mut echo = item(
        second,
        "message",
        json!({"mid": mid, "text": text, "is_echo": true}),
    );
    echo["sender"]["id"] = BUSINESS.into();
    echo["recipient"]["id"] = CUSTOMER.into();
    echo
}

pub async fn state(client: &TestClient) -> Value {
    client
        .get(&format!("/api/v1/entities/conversation/{CONVERSATION}"))
        .await
        .body["state"]
        .clone()
}

async fn total(client: &TestClient) -> u64 {
    client.get("/api/v1/events").await.body["total"]
        .as_u64()
        .expect("a total")
}

fn code(answer: &TestAnswer) -> (u16, &str) {
    (
        answer.status,
        answer.body["code"].as_str().unwrap_or_default(),
    )
}

fn counts(answer: &TestAnswer) -> [u64; 3] {
    ["received", "accepted", "duplicates"].map(|name| {
        answer.body[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{answer:?}"))
    })
}

/// Message of the contract's source document, as Instagram sends it.
const FROM_THE_SEED: &str = r#"{"object": "instagram", "entry": [{"id": "0987654321", "time": 1762597800000, "messaging": [
  {"sender": {"id": "1234567890"}, "recipient": {"id": "0987654321"}, "timestamp": 1762597800000,
   "message": {"mid": "mid_abc123", "text": "Hello! When will my order ship?"}}]}]}"#;

#[test]
fn a_message_begins_its_conversation_and_can_be_read() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let answer = node
            .send_request(signed(&node, FROM_THE_SEED, APP_SECRET))
            .await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.body,
            json!({"status": "accepted", "received": 1, "accepted": 1, "duplicates": 0})
        );
        assert_eq!(answer.header("x-entity-sequence"), Some("1"));
        let expected = json!({
            "account_id": null, "instagram_account_id": BUSINESS, "participants": [CUSTOMER, BUSINESS],
            "messages": [{
                "message_id": "mid_abc123", "sender_id": CUSTOMER, "text": "Hello! When will my order ship?",
                "message_type": "text", "attachments": [], "timestamp": "2025-11-08T10:30:00.000Z",
                "is_echo": false, "is_deleted": false,
            }],
            "reactions": [], "read": null,
        });
        assert_eq!(state(&node).await, expected);
        let event = node
            .get(&format!(
                "/api/v1/events/{}",
                answer.header("x-event-id").expect("an id")
            ))
            .await
            .body;
        assert_eq!(
            (&event["source"], &event["type"]),
            (&json!("instagram"), &json!("message.received"))
        );
        let sent: Value = serde_json::from_str(FROM_THE_SEED).expect("JSON");
        assert_eq!(
            event["payload"], sent["entry"][0]["messaging"][0],
            "the item alone"
        );
        let path = format!("/api/v1/entities/conversation/{CONVERSATION}/timeline");
        let entry = node.get(&path).await.body["items"][0].clone();
        assert_eq!(
            (&entry["summary"], &entry["data"]),
            (&json!("message mid_abc123 received"), &event["payload"])
        );
        node.stop().await;
    });
}

#[test]
fn the_handshake_returns_the_challenge_to_callers_with_the_token() {
    run_async(async {
        let test_env = test_env(&[("server.auth_failures_per_minute", "9")]);
        let node = test_env.start().await;
        let get = |path: &str, query: &str| {
            node.send_request(node.client.get(format!("{}{path}?{query}", node.base)))
        };
        for path in [WEBHOOK, "/webhooks/instagram/"] {
            let query = format!(
                "hub.mode=subscribe&hub.verify_token={VERIFY_TOKEN}&hub.challenge=%3Cb%3E%26+1158201444"
            );
            let answer = get(path, &query).await;
            assert_eq!(
                (answer.status, &answer.body),
                (200, &json!("<b>& 1158201444"))
            );
            assert_eq!(
                answer.header("content-type"),
                Some("text/plain; charset=utf-8")
            );
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        }
        for query in [
            "hub.mode=subscribe&hub.verify_token=wrong&hub.challenge=1",
            "hub.mode=subscribe&hub.verify_token=&hub.challenge=1",
            "hub.mode=subscribe&hub.challenge=1",
            "hub.mode=unsubscribe&hub.verify_token=test-verify-token&hub.challenge=1",
            "hub.verify_token=test-verify-token&hub.challenge=1",
            "hub.mode=subscribe&hub.verify_token=test-verify-token",
            "",
            "%",
            "hub.mode=subscribe&hub.verify_token=test-verify-tokens&hub.challenge=1",
        ] {
            let answer = get(WEBHOOK, query).await;
            assert_eq!(code(&answer), (403, "forbidden"), "{query}");
            assert!(!answer.body.to_string().contains(VERIFY_TOKEN));
        }
        assert_eq!(
            code(&get(WEBHOOK, "").await),
            (429, "rate_limited"),
            "who guesses too often has to wait"
        );
        node.stop().await;
    });
}

#[test]
fn only_calls_signed_by_the_app_are_accepted() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let plain = || {
            node.client
                .post(format!("{}{WEBHOOK}", node.base))
                .body(FROM_THE_SEED)
        };
        let signature = sign_instagram_body(&Secret::new(APP_SECRET), FROM_THE_SEED.as_bytes());
        let wrong = [
            plain(),
            signed(&node, FROM_THE_SEED, "another-secret"),
            plain().header("x-hub-signature-256", &signature[7..]),
            plain().header("x-hub-signature-256", signature.replace("sha256", "sha1")),
            plain().header("x-hub-signature", &signature),
            plain()
                .header("x-hub-signature-256", &signature)
                .body(FROM_THE_SEED.replace("Hello", "hello")),
        ];
        for (number, request) in wrong.into_iter().enumerate() {
            let answer = node.send_request(request).await;
            assert_eq!(code(&answer), (401, "invalid_signature"), "{number}");
        }
        assert_eq!(total(&node).await, 0);
        let rotated = node
            .send_request(signed(&node, FROM_THE_SEED, "test-old-secret-long-enough"))
            .await;
        assert_eq!(rotated.status, 200, "any active secret");
        node.stop().await;
    });
}

#[test]
fn unreadable_calls_are_refused() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        for (body, expected) in [
            ("{", (400, "invalid_json")),
            ("[]", (400, "invalid_json")),
            (
                r#"{"object": "page", "entry": []}"#,
                (400, "validation_failed"),
            ),
            (
                r#"{"object": "instagram", "entry": 7}"#,
                (400, "validation_failed"),
            ),
        ] {
            assert_eq!(
                code(&node.send_request(signed(&node, body, APP_SECRET)).await),
                expected,
                "{body}"
            );
        }
        let typed = node
            .client
            .post(format!("{}{WEBHOOK}", node.base))
            .header("content-type", "text/plain");
        let typed = typed
            .header(
                "x-hub-signature-256",
                sign_instagram_body(&Secret::new(APP_SECRET), b"{}"),
            )
            .body("{}");
        assert_eq!(
            code(&node.send_request(typed).await),
            (415, "unsupported_media_type")
        );
        let large = "x".repeat(1_000_001);
        assert_eq!(
            code(&node.send_request(signed(&node, &large, APP_SECRET)).await),
            (413, "body_too_large")
        );
        let put = node
            .send_request(node.client.put(format!("{}{WEBHOOK}", node.base)))
            .await;
        assert_eq!(
            (code(&put), put.header("allow")),
            ((405, "method_not_allowed"), Some("GET, HEAD, POST"))
        );
        let none = call(&node, &json!({"object": "instagram", "entry": []})).await;
        assert_eq!(
            (none.status, counts(&none)),
            (200, [0, 0, 0]),
            "nothing is no mistake"
        );
        node.stop().await;
    });
}

#[test]
fn state_and_timeline_show_a_whole_conversation() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let picture = json!({"mid": "m-3", "attachments": [
            {"type": "image", "payload": {"url": "https://cdn.example/1.jpg"}}, {"type": "file"},
        ]});
        let items = [
            message(0, "m-1", "Hello"),
            echo(1, "m-2", "Hi!"),
            item(2, "message", picture),
            item(
                3,
                "reaction",
                json!({"mid": "m-2", "action": "react", "reaction": "love", "emoji": "❤️"}),
            ),
            item(4, "read", json!({"mid": "m-2"})),
            item(
                5,
                "postback",
                json!({"mid": "m-4", "title": "Track", "payload": "TRACK"}),
            ),
            item(6, "referral", json!({"ref": "spring"})),
            item(7, "message_edit", json!({"mid": "m-1", "text": "Hello!"})),
            item(8, "message", json!({"mid": "m-1", "is_deleted": true})),
        ];
        let answer = call(&node, &with(&items)).await;
        assert_eq!((answer.status, counts(&answer)), (200, [9, 9, 0]));
        assert_eq!(answer.header("x-event-id"), None);
        let timeline = node
            .get(&format!(
                "/api/v1/entities/conversation/{CONVERSATION}/timeline"
            ))
            .await
            .body;
        let entries = timeline["items"].as_array().expect("a list");
        let told: Vec<_> = entries
            .iter()
            .rev()
            .map(|entry| entry["type"].as_str().expect("a name"))
            .collect();
        let expected = [
            "received", "echo", "received", "reaction", "read", "postback", "referral", "unknown",
            "received",
        ];
        assert_eq!(told, expected.map(|name| format!("message.{name}")));
        let state = state(&node).await;
        let shown = |index: usize| {
            ["message_id", "is_echo", "is_deleted"]
                .map(|name| state["messages"][index][name].clone())
        };
        assert_eq!(shown(0), [json!("m-1"), json!(false), json!(true)]);
        assert_eq!(shown(1), [json!("m-2"), json!(true), json!(false)]);
        assert_eq!(state["messages"][1]["sender_id"], BUSINESS);
        let picture = &state["messages"][2];
        assert_eq!(
            (&picture["text"], &picture["message_type"]),
            (&Value::Null, &json!("image"))
        );
        let attachments = json!([{"type": "image", "url": "https://cdn.example/1.jpg"}, {"type": "file", "url": null}]);
        assert_eq!(picture["attachments"], attachments);
        let reaction = json!({
            "message_id": "m-2", "sender_id": CUSTOMER, "reaction": "love", "emoji": "❤️",
            "timestamp": "2025-11-08T10:30:03.000Z",
        });
        assert_eq!(state["reactions"], json!([reaction]));
        assert_eq!(
            state["read"],
            json!({"message_id": "m-2", "timestamp": "2025-11-08T10:30:04.000Z"})
        );
        let unreact = item(9, "reaction", json!({"mid": "m-2", "action": "unreact"}));
        call(&node, &with(&[unreact])).await;
        assert_eq!(self::state(&node).await["reactions"], json!([]));
        node.stop().await;
    });
}

#[test]
fn an_update_is_taken_once_also_across_a_restart() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let items = [
            message(0, "m-1", "Hello"),
            echo(0, "m-1", "the echo has a key of its own"),
            item(1, "read", json!({"mid": "m-1"})),
            item(1, "message", json!({"mid": "m-1", "is_deleted": true})),
            message(0, "m-1", "twice in one call"),
        ];
        assert_eq!(counts(&call(&node, &with(&items)).await), [5, 4, 1]);
        assert_eq!(counts(&call(&node, &with(&items)).await), [5, 0, 5]);
        node.stop().await;
        let node = test_env.start().await;
        let again = call(&node, &with(&items)).await;
        assert_eq!((again.status, counts(&again)), (200, [5, 0, 5]));
        let other = item(2, "read", json!({"mid": "m-1"}));
        assert_eq!(
            counts(&call(&node, &with(&[other])).await),
            [1, 1, 0],
            "another reading is another update"
        );
        node.stop().await;
    });
}

#[test]
fn of_32_calls_at_once_one_brings_the_message() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let body = with(&[message(0, "m-1", "Hello")]);
        let sent = (0..32).map(|_| {
            let (client, body) = (node.api.clone(), body.clone());
            async move { call(&client, &body).await }
        });
        let answers = run_together(sent).await;
        assert!(
            answers.iter().all(|answer| answer.status == 200),
            "{answers:?}"
        );
        assert_eq!(
            answers.iter().map(|answer| counts(answer)[1]).sum::<u64>(),
            1
        );
        assert_eq!(total(&node).await, 1);
        node.stop().await;
    });
}

#[test]
fn a_call_of_1000_keeps_its_order_and_one_more_is_too_many() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let items: Vec<_> = (0..1_001)
            .map(|n| message(n, &format!("m-{n}"), &n.to_string()))
            .collect();
        let many = call(&node, &with(&items)).await;
        assert_eq!(
            (code(&many), total(&node).await),
            ((400, "validation_failed"), 0)
        );
        // Over two entries, as from two accounts of one app; the second also has changes.
        let (first, second) = items[..1_000].split_at(400);
        let (second, changes) = second.split_at(500);
        let changes: Vec<_> = changes
            .iter()
            .map(|item| json!({"field": "messages", "value": item}))
            .collect();
        let body = json!({"object": "instagram", "entry": [
            {"id": BUSINESS, "messaging": first}, {"id": BUSINESS, "messaging": second, "changes": changes},
        ]});
        assert_eq!(counts(&call(&node, &body).await), [1_000, 1_000, 0]);
        let messages = state(&node).await["messages"].clone();
        let texts: Vec<_> = messages
            .as_array()
            .expect("a list")
            .iter()
            .map(|m| m["text"].clone())
            .collect();
        assert!(
            texts
                .iter()
                .enumerate()
                .all(|(n, text)| text.as_str() == Some(n.to_string().as_str()))
        );
        let last = node
            .get(&format!(
                "/api/v1/entities/conversation/{CONVERSATION}/timeline?page_size=1"
            ))
            .await
            .body;
        assert_eq!(
            (
                &last["items"][0]["sequence"],
                &last["items"][0]["data"]["message"]["mid"]
            ),
            (&json!(1_000), &json!("m-999"))
        );
        node.stop().await;
    });
}

#[test]
fn unknown_updates_are_kept_beside_known_ones() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let comment = json!({"field": "comments", "value": {"id": "c-1", "text": "Nice!"}});
        let body = json!({"object": "instagram", "entry": [
            {"id": BUSINESS, "messaging": [7, message(0, "m-1", "Hello"), {"sender": {"id": "1"}}], "changes": [comment]},
            {"messaging": [{"odd": true}]},
        ]});
        assert_eq!(counts(&call(&node, &body).await), [5, 5, 0]);
        assert_eq!(
            state(&node).await["messages"].as_array().map(Vec::len),
            Some(1)
        );
        let unclaimed = node
            .get(&format!(
                "/api/v1/entities/conversation/conv_0_{BUSINESS}/timeline"
            ))
            .await
            .body;
        assert_eq!(
            (&unclaimed["total"], &unclaimed["items"][0]["data"]),
            (&json!(3), &comment)
        );
        assert_eq!(unclaimed["items"][0]["type"], "message.unknown");
        assert_eq!(
            node.get("/api/v1/entities/conversation/conv_0_0")
                .await
                .status,
            200
        );
        node.stop().await;
    });
}

#[test]
fn letters_escapes_and_repeated_members_are_signed_and_kept_as_they_are() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let item = r#"{"sender":{"id":"1234567890"},"recipient":{"id":"0987654321"},"timestamp":1762597800000,
            "message":{"mid":"x","mid":"\u006d-1","text":"\u041f\u0440\u0438\u0432\u0456\u0442 😀 \ud83d\ude80","n":1.50}}"#;
        let body = format!(
            r#"{{"object":"inst\u0061gram","entry":[{{"id":"0987654321","messaging":[{item}]}}]}}"#
        );
        let answer = node.send_request(signed(&node, &body, APP_SECRET)).await;
        assert_eq!(counts(&answer), [1, 1, 0]);
        let message = &state(&node).await["messages"][0];
        assert_eq!(
            (&message["message_id"], &message["text"]),
            (&json!("m-1"), &json!("Привіт 😀 🚀"))
        );
        let path = format!(
            "{}/api/v1/events/{}",
            node.base,
            answer.header("x-event-id").expect("an id")
        );
        let shown = node
            .client
            .get(path)
            .bearer_auth(crate::test_node::TOKEN)
            .send()
            .await
            .expect("answered");
        assert!(
            shown.text().await.expect("text").contains(item),
            "to the last byte"
        );
        node.stop().await;
    });
}

#[test]
fn an_older_update_takes_nothing_back() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let react = |second, action: &str| {
            item(
                second,
                "reaction",
                json!({"mid": "m-1", "action": action, "emoji": "x"}),
            )
        };
        call(
            &node,
            &with(&[react(9, "unreact"), item(9, "read", json!({"mid": "m-9"}))]),
        )
        .await;
        call(
            &node,
            &with(&[
                react(1, "react"),
                item(1, "read", json!({"mid": "m-1"})),
                message(5, "m-5", "5"),
            ]),
        )
        .await;
        call(&node, &with(&[message(2, "m-2", "2")])).await;
        let state = state(&node).await;
        assert_eq!(
            (&state["reactions"], &state["read"]["message_id"]),
            (&json!([]), &json!("m-9"))
        );
        assert_eq!(
            [&state["messages"][0]["text"], &state["messages"][1]["text"]],
            ["2", "5"]
        );
        let timeline = node
            .get(&format!(
                "/api/v1/entities/conversation/{CONVERSATION}/timeline"
            ))
            .await
            .body;
        let late: Vec<_> = timeline["items"]
            .as_array()
            .expect("a list")
            .iter()
            .rev()
            .map(|e| e["late"] == true)
            .collect();
        assert_eq!(late, [false, false, true, true, false, false]);
        node.stop().await;
    });
}

#[test]
fn nothing_is_answered_before_it_is_on_the_disk() {
    run_async(async {
        let mut test_env = test_env(&[]);
        let dam = test_env.with_disk_gate();
        let node = test_env.start().await;
        call(&node, &with(&[message(0, "m-0", "0")])).await;
        let (client, body) = (
            node.api.clone(),
            with(&[message(1, "m-1", "1"), message(2, "m-2", "2")]),
        );
        let sent = body.clone();
        let held = dam
            .hold_request(async move { call(&client, &sent).await })
            .await;
        assert!(
            !held.is_finished(),
            "nothing is answered before it is on the disk"
        );
        dam.open();
        let answer = expect_soon(held).await.expect("no panic");
        assert_eq!((answer.status, counts(&answer)), (200, [2, 2, 0]));
        node.stop().await;
    });
}

#[test]
fn there_is_no_such_path_until_the_source_is_enabled() {
    run_async(async {
        let node = TestEnv::new(&[]).start().await;
        assert_eq!(
            node.send_request(signed(&node, FROM_THE_SEED, APP_SECRET))
                .await
                .status,
            404
        );
        node.stop().await;
    });
}

#[test]
fn a_call_with_an_unknown_outcome_must_be_sent_again() {
    run_async(async {
        let mut test_env = test_env(&[]);
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        let body = with(&[message(1, "m-1", "1"), message(2, "m-2", "2")]);
        disk_failure.fail(FailurePlace::Sync, 2);
        let answer = call(&node, &body).await;
        assert_eq!(
            (code(&answer), answer.header("retry-after")),
            ((503, "unavailable"), Some("1"))
        );
        until_readyz_is(&node, 200).await;
        let again = call(&node, &body).await;
        assert_eq!(
            (again.status, counts(&again)[0], total(&node).await),
            (200, 2, 2),
            "each once, however it came"
        );
        node.stop().await;
    });
}

#[test]
fn the_call_log_names_the_events_but_no_secrets_and_no_message_text() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        call(
            &node,
            &with(&[
                message(0, "m-1", "my card is 4111"),
                message(1, "m-2", "4111 too"),
            ]),
        )
        .await;
        let query = format!("hub.mode=subscribe&hub.verify_token={VERIFY_TOKEN}&hub.challenge=1");
        node.send_request(node.client.get(format!("{}{WEBHOOK}?{query}", node.base)))
            .await;
        let rows = node.get("/api/v1/webhooks/logs").await.body;
        let rows = rows["items"].as_array().expect("a list");
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[1]["event_ids"].as_array().map(Vec::len), Some(2));
        for row in rows {
            let whole = node
                .get(&format!("/api/v1/webhooks/logs/{}", row["id"]))
                .await
                .body
                .to_string();
            for secret in ["4111", VERIFY_TOKEN, APP_SECRET, "sha256="] {
                assert!(!whole.contains(secret), "{secret} in {whole}");
            }
        }
        node.stop().await;
    });
}
