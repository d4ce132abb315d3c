//! Deliveries to Instagram and to an account's CRM: forwarded messages, replies in the order of
//! their conversation, automatic replies once, and the endpoint that requests replies.

use std::collections::BTreeSet;

use hookyard::config::Secret;
use hookyard::edge::instagram::signature::sign_instagram_body;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::instagram::{call, echo, item, message, state, test_env, with};
use crate::receiver::{ReceiverEvent, ReceiverLog, ReceiverReply, ReceiverRequest, TestReceiver};
use crate::test_node::{
    TOKEN, TestAnswer, TestClient, TestEnv, expect_soon, run_async, run_together,
};

const PUBLISHER: &str = "test-publisher-of-events";
const ACCOUNT: &str = "acc_xyz789";
const BUSINESS: &str = "0987654321";
const CUSTOMER: &str = "1234567890";
const CONVERSATION: &str = "conv_1234567890_0987654321";

fn publishing_env(keys: &[(&str, &str)]) -> TestEnv {
    let own = [
        ("sources.crm.enabled", "true"),
        ("sources.crm.tokens", PUBLISHER),
    ];
    test_env(&[&own, keys].concat())
}

async fn open(client: &TestClient, more: Value) -> TestAnswer {
    let mut account = json!({"account_id": ACCOUNT, "instagram_account_id": BUSINESS, "webhook_secret": "given-secret"});
    account
        .as_object_mut()
        .expect("an object")
        .extend(more.as_object().expect("an object").clone());
    let request = client
        .client
        .post(format!("{}/api/v1/accounts", client.base))
        .bearer_auth(TOKEN);
    let made = client
        .send_request(
            request
                .header("content-type", "application/json")
                .body(account.to_string()),
        )
        .await;
    assert_eq!(made.status, 200, "{made:?}");
    made
}

fn asking(client: &TestClient, account: &str, body: &Value) -> RequestBuilder {
    let request = client.client.post(format!(
        "{}/api/v1/accounts/{account}/messages",
        client.base
    ));
    request
        .bearer_auth(PUBLISHER)
        .header("content-type", "application/json")
        .body(body.to_string())
}

fn said(text: &str) -> Value {
    json!({"recipient_id": CUSTOMER, "text": text})
}

async fn reply(client: &TestClient, text: &str) -> TestAnswer {
    let answer = client
        .send_request(asking(client, ACCOUNT, &said(text)))
        .await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer
}

async fn timeline(client: &TestClient) -> Vec<Value> {
    let path = format!("/api/v1/entities/conversation/{CONVERSATION}/timeline?page_size=100");
    let mut items = client.get(&path).await.body["items"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    items.reverse();
    items
}

fn code(answer: &TestAnswer) -> (u16, &str) {
    (
        answer.status,
        answer.body["code"].as_str().unwrap_or_default(),
    )
}

#[test]
fn a_reply_has_its_place_in_its_conversation() {
    run_async(async {
        let test_env = publishing_env(&[]);
        let node = test_env.start().await;
        open(&node, json!({})).await;
        call(&node, &with(&[message(0, "mid_abc123", "Hello!")])).await;
        let before = state(&node).await;
        let answer = reply(&node, "It ships today.").await;
        let id = answer.header("x-event-id").expect("an id").to_owned();
        let expected = json!({"status": "accepted", "delivery_id": id, "conversation_id": CONVERSATION, "sequence": 2});
        assert_eq!(
            (&answer.body, answer.header("x-entity-sequence")),
            (&expected, Some("2"))
        );
        assert_eq!(state(&node).await, before, "it is shown once its echo came");
        let event = node.get(&format!("/api/v1/events/{id}")).await.body;
        assert_eq!(
            (&event["source"], &event["type"]),
            (&json!("instagram"), &json!("message.reply"))
        );
        let data = json!({
            "account_id": ACCOUNT, "recipient_id": CUSTOMER, "text": "It ships today.", "is_automatic": false,
        });
        assert_eq!(event["payload"], data);
        let entry = timeline(&node).await[1].clone();
        assert_eq!(
            (&entry["summary"], &entry["data"]),
            (&json!("reply to be sent"), &data)
        );
        let rows = node
            .get("/api/v1/webhooks/logs?direction=incoming")
            .await
            .body;
        let row = rows["items"][0].clone();
        let path = format!("/api/v1/accounts/{ACCOUNT}/messages");
        assert_eq!(
            (&row["path"], &row["status"], &row["event_ids"]),
            (&json!(path), &json!(202), &json!([id]))
        );
        assert!(!rows.to_string().contains("ships"), "{rows}");
        node.stop().await;
    });
}

#[test]
fn a_repeated_key_is_answered_as_the_first_time_and_never_for_something_else() {
    run_async(async {
        let test_env = publishing_env(&[]);
        let node = test_env.start().await;
        open(&node, json!({})).await;
        open(
            &node,
            json!({"account_id": "acc_2", "instagram_account_id": "777"}),
        )
        .await;
        let keyed = |account: &str, text: &str| {
            node.send_request(
                asking(&node, account, &said(text)).header("idempotency-key", "order-1042"),
            )
        };
        let first = keyed(ACCOUNT, "It ships today.").await;
        let again = keyed(ACCOUNT, "It ships today.").await;
        assert_eq!((again.status, &again.body), (202, &first.body));
        assert_eq!(
            (
                first.header("idempotent-replay"),
                again.header("idempotent-replay")
            ),
            (None, Some("true"))
        );
        assert_eq!(again.header("x-event-id"), first.header("x-event-id"));
        let slash = keyed(&format!("{ACCOUNT}/messages/?"), "It ships today.").await;
        assert_eq!(
            (slash.status, &slash.body),
            (202, &first.body),
            "either spelling of the path"
        );
        assert_eq!(
            code(&keyed(ACCOUNT, "It ships tomorrow.").await),
            (409, "idempotency_key_reused")
        );
        let other = keyed("acc_2", "It ships today.").await;
        assert_eq!(
            (other.status, &other.body["conversation_id"]),
            (202, &json!("conv_1234567890_777"))
        );
        // Without a key, each request is a reply of its own.
        let free = [reply(&node, "Hi").await, reply(&node, "Hi").await];
        assert_ne!(free[0].body["delivery_id"], free[1].body["delivery_id"]);
        let at_once = (0..16).map(|_| {
            let client = node.api.clone();
            async move {
                let request =
                    asking(&client, ACCOUNT, &said("Once.")).header("idempotency-key", "at-once");
                client.send_request(request).await.body["delivery_id"].clone()
            }
        });
        let ids = run_together(at_once).await;
        assert!(
            ids[0].is_string() && ids.iter().all(|id| *id == ids[0]),
            "{ids:?}"
        );
        assert_eq!(timeline(&node).await.len(), 4);
        let long = asking(&node, ACCOUNT, &said("Hi")).header("idempotency-key", "k".repeat(257));
        assert_eq!(
            code(&node.send_request(long).await),
            (400, "validation_failed")
        );
        node.stop().await;
        let node = test_env.start().await;
        let later = node.send_request(
            asking(&node, ACCOUNT, &said("It ships today."))
                .header("idempotency-key", "order-1042"),
        );
        assert_eq!(later.await.body, first.body, "after a restart too");
        node.stop().await;
    });
}

#[test]
fn replies_are_asked_for_by_publishers_and_the_admin_of_accounts_that_there_are() {
    run_async(async {
        let test_env = publishing_env(&[]);
        let node = test_env.start().await;
        open(&node, json!({})).await;
        let path = format!("{}/api/v1/accounts/{ACCOUNT}/messages", node.base);
        let admin = node
            .client
            .post(&path)
            .bearer_auth(TOKEN)
            .header("content-type", "application/json");
        assert_eq!(
            node.send_request(admin.body(said("Hi").to_string()))
                .await
                .status,
            202
        );
        for token in ["", "wrong", "given-secret"] {
            let answer = node
                .send_request(node.client.post(&path).bearer_auth(token).body("{"))
                .await;
            assert_eq!(code(&answer), (401, "unauthorized"), "{token}");
        }
        assert_eq!(
            code(
                &node
                    .send_request(asking(&node, "acc_none", &said("Hi")))
                    .await
            ),
            (404, "not_found")
        );
        let answer = node
            .send_request(node.client.get(&path).bearer_auth(TOKEN))
            .await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
        let wrong = node
            .send_request(asking(
                &node,
                ACCOUNT,
                &json!({"recipient_id": [], "text": "x".repeat(1_001)}),
            ))
            .await;
        assert_eq!(code(&wrong), (400, "validation_failed"));
        let fields: Vec<_> = wrong.body["errors"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|error| &error["field"])
            .collect();
        assert_eq!(fields, ["recipient_id", "text"]);
        let broken = asking(&node, ACCOUNT, &json!([]));
        assert_eq!(
            code(&node.send_request(broken).await),
            (400, "invalid_json")
        );
        let typed = node
            .client
            .post(&path)
            .bearer_auth(TOKEN)
            .header("content-type", "text/plain")
            .body("{}");
        assert_eq!(
            code(&node.send_request(typed).await),
            (415, "unsupported_media_type")
        );
        assert_eq!(timeline(&node).await.len(), 1);
        node.stop().await;
        // The tokens of a disabled source are not accepted.
        let test_env = crate::instagram::test_env(&[("sources.crm.tokens", PUBLISHER)]);
        let node = test_env.start().await;
        open(&node, json!({})).await;
        assert_eq!(
            code(&node.send_request(asking(&node, ACCOUNT, &said("Hi"))).await),
            (401, "unauthorized")
        );
        node.stop().await;
    });
}

/// Polls `path` until the answer satisfies `is_enough`.
async fn poll_until(client: &TestClient, path: &str, is_enough: impl Fn(&Value) -> bool) -> Value {
    expect_soon(async {
        loop {
            let body = client.get(path).await.body;
            if is_enough(&body) {
                break body;
            }
        }
    })
    .await
}

async fn dead_letters(client: &TestClient, subscriber: &str, count: usize) -> Vec<Value> {
    let path = format!("/api/v1/dead-letters?subscriber={subscriber}");
    let items = |list: &Value| list["items"].as_array().cloned().unwrap_or_default();
    items(&poll_until(client, &path, |list| items(list).len() == count).await)
}

/// Node that sends replies to `graph` and messages to `crm`, and retries soon.
fn delivering_env(
    graph: &TestReceiver,
    crm: Option<&TestReceiver>,
    keys: &[(&str, &str)],
) -> TestEnv {
    let (graph, crm) = (
        graph.url("/v23.0"),
        crm.map(|crm| crm.url("/messages")).unwrap_or_default(),
    );
    let own = [
        ("sources.instagram.graph_url", graph.as_str()),
        ("sources.instagram.access_token", "default-token"),
        ("sources.instagram.crm_webhook_url", crm.as_str()),
        (
            "sources.instagram.retry_schedule_s",
            "0.01,0.01,0.01,0.01,0.01",
        ),
        // No breaker: short outages of the server are part of the test.
        ("delivery.breaker.consecutive", "0"),
        ("delivery.breaker.failure_rate", "0"),
    ];
    publishing_env(&[&own, keys].concat())
}

/// Receiver in the role of the Graph API.
async fn graph() -> TestReceiver {
    TestReceiver::start(|_| sent()).await
}

fn sent() -> ReceiverReply {
    ReceiverReply::Full(
        200,
        Vec::new(),
        r#"{"recipient_id": "1234567890", "message_id": "aWdfZA"}"#.to_owned(),
    )
}

fn failed(status: u16, code: u16) -> ReceiverReply {
    let body = json!({"error": {"message": "Told so.", "type": "IGApiException", "code": code, "fbtrace_id": "A"}});
    ReceiverReply::Full(status, Vec::new(), body.to_string())
}

/// Returns recipient and text of a call of the Graph API.
fn sent_message(arrival: &ReceiverRequest) -> (String, String) {
    let body = arrival.json();
    let text = |pointer: &str| {
        body.pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    (text("/recipient/id"), text("/message/text"))
}

/// Returns the accepted calls of the Graph API, in order.
fn was_sent(graph: &TestReceiver) -> Vec<(String, String)> {
    let seen = graph.log();
    let answered = seen.happened.iter().filter_map(|happened| match happened {
        ReceiverEvent::Answered(number, 200) => Some(sent_message(&seen.arrivals[*number])),
        ReceiverEvent::Answered(..) | ReceiverEvent::Arrived(_) => None,
    });
    answered.collect()
}

/// Message `mid` of the person `sender`.
fn written(sender: &str, second: u64, mid: &str) -> Value {
    let mut message = message(second, mid, mid);
    message["sender"]["id"] = sender.into();
    message
}

const FORWARDED: &str = r#"{"event":"message.received","message_id":"mid_abc123","account_id":"acc_xyz789","sender_id":"1234567890","sender_username":null,"message":"Hello! When will my order ship?","message_type":"text","timestamp":"2025-11-08T10:30:00Z","instagram_message_id":"mid_abc123","conversation_id":"conv_1234567890_0987654321"}"#;

#[test]
fn a_message_is_forwarded_to_the_last_byte_and_signed() {
    run_async(async {
        let (crm, graph) = (TestReceiver::accept_all().await, graph().await);
        let test_env = delivering_env(
            &graph,
            Some(&crm),
            &[("delivery.allow_targets", "127.0.0.0/8")],
        );
        let node = test_env.start().await;
        open(&node, json!({"crm_webhook_url": crm.url("/own/hook")})).await;
        open(
            &node,
            json!({"account_id": "acc_2", "instagram_account_id": "777"}),
        )
        .await;
        let answer = call(
            &node,
            &with(&[message(0, "mid_abc123", "Hello! When will my order ship?")]),
        )
        .await;
        crm.wait_for_accepted(1).await;
        let arrival = crm.arrivals()[0].clone();
        assert_eq!(
            (arrival.method.as_str(), arrival.path.as_str()),
            ("POST", "/own/hook")
        );
        assert_eq!(
            String::from_utf8(arrival.body.clone()).expect("text"),
            FORWARDED
        );
        let signature = sign_instagram_body(&Secret::new("given-secret"), FORWARDED.as_bytes());
        for (name, expected) in [
            ("x-hub-signature-256", signature.as_str()),
            ("content-type", "application/json"),
            ("x-entity-sequence", "1"),
            ("webhook-id", answer.header("x-event-id").expect("an id")),
        ] {
            assert_eq!(arrival.header(name), Some(expected), "{name}");
        }
        assert!(
            arrival.header("x-webhook-signature").is_none()
                && arrival.header("authorization").is_none()
        );
        // An image without text, half a second later; an account without a URL of its own.
        let mut image = message(1, "m-2", "");
        image["timestamp"] = 1_762_597_801_500_u64.into();
        image["message"] = json!({"mid": "m-2", "attachments": [{"type": "image", "payload": {"url": "https://x/i"}}]});
        image["recipient"]["id"] = "777".into();
        call(
            &node,
            &json!({"object": "instagram", "entry": [{"id": "777", "messaging": [image]}]}),
        )
        .await;
        crm.wait_for_accepted(2).await;
        let arrival = crm.arrivals()[1].clone();
        let expected = json!({
            "event": "message.received", "message_id": "m-2", "account_id": "acc_2", "sender_id": CUSTOMER,
            "sender_username": null, "message": null, "message_type": "image", "timestamp": "2025-11-08T10:30:01.500Z",
            "instagram_message_id": "m-2", "conversation_id": "conv_1234567890_777",
        });
        assert_eq!(
            (arrival.path.as_str(), arrival.json()),
            ("/messages", expected)
        );
        let log = node
            .get("/api/v1/webhooks/logs?direction=outgoing")
            .await
            .body
            .to_string();
        assert!(
            !log.contains("ship") && !log.contains("given-secret"),
            "{log}"
        );
        node.stop().await;
    });
}

#[test]
fn only_messages_to_an_account_are_forwarded() {
    run_async(async {
        let (crm, graph) = (TestReceiver::accept_all().await, graph().await);
        let test_env = delivering_env(&graph, Some(&crm), &[]);
        let node = test_env.start().await;
        let unclaimed = written("1", 0, "unclaimed");
        call(&node, &with(&[unclaimed])).await;
        open(&node, json!({})).await;
        let own = json!({"sender": {"id": BUSINESS}, "recipient": {"id": CUSTOMER}, "timestamp": 1_762_597_801_000_u64,
            "message": {"mid": "own", "text": "It ships today."}});
        let mut deleted = message(3, "m-0", "");
        deleted["message"] = json!({"mid": "m-0", "is_deleted": true});
        call(
            &node,
            &with(&[
                echo(1, "echo", "It ships today."),
                own,
                item(
                    2,
                    "reaction",
                    json!({"mid": "echo", "action": "react", "reaction": "love"}),
                ),
                deleted,
                item(4, "read", json!({"mid": "echo"})),
                message(5, "m-1", "Thanks"),
            ]),
        )
        .await;
        let of_another = json!({"object": "instagram", "entry": [{"id": "555", "messaging": [
            {"sender": {"id": CUSTOMER}, "recipient": {"id": "555"}, "message": {"mid": "other", "text": "x"}}]}]});
        call(&node, &of_another).await;
        call(&node, &with(&[message(6, "m-2", "Bye")])).await;
        crm.wait_for_accepted(2).await;
        // All in one lane, so a missing message will not arrive later.
        let messages: Vec<_> = crm
            .arrivals()
            .iter()
            .map(|arrival| arrival.json()["message_id"].clone())
            .collect();
        assert_eq!(messages, ["m-1", "m-2"]);
        node.stop().await;
    });
}

#[test]
fn a_401_of_a_crm_is_not_retried_but_an_outage_is() {
    run_async(async {
        let graph = graph().await;
        let crm = TestReceiver::start(|arrival| {
            match (arrival.json()["message_id"].as_str(), arrival.before) {
                (Some("m-401"), _) => ReceiverReply::Status(401),
                (Some("m-500"), 0..3) => ReceiverReply::Status(500),
                (Some("m-never"), _) => ReceiverReply::Status(503),
                _ => ReceiverReply::Status(204),
            }
        })
        .await;
        let test_env = delivering_env(&graph, Some(&crm), &[]);
        let node = test_env.start().await;
        open(&node, json!({})).await;
        for (second, mid) in (0..).zip(["m-401", "m-500", "m-never", "m-after"]) {
            call(&node, &with(&[message(second, mid, mid)])).await;
        }
        crm.wait_for_accepted(2).await;
        let mids: Vec<_> = crm
            .arrivals()
            .iter()
            .map(|arrival| arrival.json()["message_id"].clone())
            .collect();
        let expected = [
            &["m-401"][..],
            // The pauses are over when the server is back.
            &["m-500"; 4],
            // The first attempt, and one after each of the five pauses.
            &["m-never"; 6],
            &["m-after"],
        ]
        .concat();
        assert_eq!(mids, expected);
        let letters = dead_letters(&node, "forward:acc_xyz789", 2).await;
        let told: Vec<_> = letters
            .iter()
            .map(|letter| [&letter["reason"], &letter["status"], &letter["attempts"]])
            .collect();
        assert_eq!(
            told,
            [
                [&json!("exhausted"), &json!(503), &json!(6)],
                [&json!("refused"), &json!(401), &json!(1)]
            ]
        );
        node.stop().await;
    });
}

#[test]
fn replies_leave_in_the_order_of_their_conversation_whatever_the_graph_api_does() {
    run_async(async {
        // Each call fails twice before it succeeds, in different ways.
        let graph = TestReceiver::start(|arrival| match arrival.before {
            0 => ReceiverReply::Status(503),
            1 => failed(400, 613),
            _ => sent(),
        })
        .await;
        let keys = [(
            "sources.instagram.retry_schedule_s",
            "0.01,0.01,0.01,0.01,0.01,0.01,0.01,0.01,0.01,0.01",
        )];
        let test_env = delivering_env(&graph, None, &keys);
        let node = test_env.start().await;
        open(&node, json!({"access_token": "own-token"})).await;
        let people = ["31", "32", "33"];
        let ask = async |client: &TestClient, numbers: std::ops::Range<u32>| {
            for number in numbers {
                for person in people {
                    let body =
                        json!({"recipient_id": person, "text": format!("{person}: {number}")});
                    assert_eq!(
                        client
                            .send_request(asking(client, ACCOUNT, &body))
                            .await
                            .status,
                        202
                    );
                }
            }
        };
        ask(&node, 0..5).await;
        node.stop().await;
        let node = test_env.start().await;
        ask(&node, 5..10).await;
        graph.wait_for_accepted(30).await;
        for person in people {
            let sent = was_sent(&graph)
                .into_iter()
                .filter(|(recipient, _)| recipient == person);
            let mut texts: Vec<_> = sent.map(|(_, text)| text).collect();
            // A call during the node's stop may be repeated.
            texts.dedup();
            let expected: Vec<_> = (0..10)
                .map(|number| format!("{person}: {number}"))
                .collect();
            assert_eq!(texts, expected);
        }
        for arrival in graph.arrivals() {
            assert_eq!(
                (arrival.method.as_str(), arrival.path.as_str()),
                ("POST", "/v23.0/me/messages")
            );
            assert_eq!(arrival.header("authorization"), Some("Bearer own-token"));
            assert_eq!(arrival.header("content-type"), Some("application/json"));
        }
        let body = String::from_utf8(graph.arrivals()[0].body.clone()).expect("text");
        assert_eq!(
            body,
            r#"{"recipient":{"id":"31"},"message":{"text":"31: 0"}}"#
        );
        let log = node
            .get("/api/v1/webhooks/logs?direction=outgoing&page_size=100")
            .await
            .body
            .to_string();
        assert!(!log.contains("own-token") && !log.contains("31: "), "{log}");
        node.stop().await;
    });
}

#[test]
fn a_reply_that_cannot_be_sent_is_a_dead_letter_that_says_why() {
    run_async(async {
        let graph = TestReceiver::start(|arrival| match sent_message(arrival).1.as_str() {
            "late" => failed(400, 10),
            "expired" => failed(401, 190),
            _ => sent(),
        })
        .await;
        let test_env = delivering_env(&graph, None, &[("sources.instagram.access_token", "")]);
        let node = test_env.start().await;
        open(&node, json!({"access_token": "own-token"})).await;
        open(
            &node,
            json!({"account_id": "acc_2", "instagram_account_id": "777"}),
        )
        .await;
        let ids = [
            reply(&node, "late").await,
            reply(&node, "expired").await,
            reply(&node, "fine").await,
        ];
        graph.wait_for_accepted(1).await;
        assert_eq!(graph.arrivals().len(), 3, "none was tried again");
        let letters = dead_letters(&node, "replies:acc_xyz789", 2).await;
        for (letter, (id, detail)) in letters.iter().rev().zip([
            (&ids[0], "answered 400, error 10: Told so."),
            (&ids[1], "answered 401, error 190: Told so."),
        ]) {
            assert_eq!(
                (&letter["event_id"], &letter["detail"]),
                (&id.body["delivery_id"], &json!(detail))
            );
        }
        node.send_request(asking(&node, "acc_2", &said("Hi"))).await;
        let letter = dead_letters(&node, "replies:acc_2", 1).await.remove(0);
        assert_eq!(
            (&letter["code"], &letter["reason"]),
            (&json!("no_token"), &json!("refused"))
        );
        assert!(
            letter["detail"]
                .as_str()
                .expect("text")
                .contains("access_token"),
            "{letter}"
        );
        assert_eq!(
            graph.arrivals().len(),
            3,
            "nothing was sent without a token"
        );
        node.stop().await;
    });
}

/// Two conversations of one account with a long cool-down of automatic replies. Attempts are
/// sequential, so a reply in the second conversation proves that the first is settled.
#[test]
fn an_automatic_reply_is_sent_once_and_not_again_within_its_cool_down() {
    run_async(async {
        let graph = graph().await;
        let test_env = delivering_env(&graph, None, &[("delivery.concurrency", "1")]);
        let node = test_env.start().await;
        call(
            &node,
            &with(&[written(CUSTOMER, 0, "before there was an account")]),
        )
        .await;
        open(
            &node,
            json!({"auto_reply": {"text": "Thank you!", "cooldown_s": 3600}}),
        )
        .await;
        let (first, second) = (
            with(&[written(CUSTOMER, 1, "m-1")]),
            with(&[written(CUSTOMER, 3, "m-2")]),
        );
        for body in [
            &first,
            &first,
            &second,
            &with(&[echo(2, "e-1", "Thank you!")]),
            &first,
        ] {
            call(&node, body).await;
        }
        graph.wait_for_accepted(1).await;
        call(&node, &with(&[written("44", 4, "m-3")])).await;
        graph.wait_for_accepted(2).await;
        let thanked = |person: &str| (person.to_owned(), "Thank you!".to_owned());
        assert_eq!(was_sent(&graph), [thanked(CUSTOMER), thanked("44")]);
        let replies = timeline(&node).await;
        let replies: Vec<_> = replies
            .iter()
            .filter(|entry| entry["type"] == "message.reply")
            .collect();
        assert_eq!(replies.len(), 1, "{replies:?}");
        let data = json!({
            "account_id": ACCOUNT, "recipient_id": CUSTOMER, "text": "Thank you!", "is_automatic": true,
        });
        assert_eq!(
            (&replies[0]["data"], &replies[0]["summary"]),
            (&data, &json!("automatic reply to message m-1"))
        );
        // A reply by a person does not wait for the automatic one.
        reply(&node, "In person.").await;
        graph.wait_for_accepted(3).await;
        node.stop().await;
        let node = test_env.start().await;
        for body in [
            &first,
            &with(&[written(CUSTOMER, 5, "m-4")]),
            &with(&[written("45", 6, "m-5")]),
        ] {
            call(&node, body).await;
        }
        graph.wait_for_accepted(4).await;
        let expected = [
            thanked(CUSTOMER),
            thanked("44"),
            (CUSTOMER.into(), "In person.".into()),
            thanked("45"),
        ];
        assert_eq!(
            was_sent(&graph),
            expected,
            "the cool-down outlives a restart"
        );
        node.stop().await;
    });
}

#[test]
fn without_a_cool_down_each_message_has_its_reply_and_without_a_text_none() {
    run_async(async {
        let graph = graph().await;
        let keys = [
            ("delivery.concurrency", "1"),
            ("sources.instagram.auto_reply.text", "We are closed."),
            ("sources.instagram.auto_reply.cooldown_s", "0"),
        ];
        let test_env = delivering_env(&graph, None, &keys);
        let node = test_env.start().await;
        open(&node, json!({})).await;
        open(&node, json!({"account_id": "acc_2", "instagram_account_id": "777", "auto_reply": {"text": ""}})).await;
        let quiet = json!({"object": "instagram", "entry": [{"id": "777", "messaging": [
            {"sender": {"id": "1"}, "recipient": {"id": "777"}, "message": {"mid": "q", "text": "x"}}]}]});
        let unclaimed = json!({"object": "instagram", "entry": [{"id": "555", "messaging": [
            {"sender": {"id": "1"}, "recipient": {"id": "555"}, "message": {"mid": "u", "text": "x"}}]}]});
        for body in [
            &quiet,
            &unclaimed,
            &with(&[
                written("1", 1, "m-1"),
                written("1", 2, "m-2"),
                written("2", 3, "m-3"),
            ]),
        ] {
            call(&node, body).await;
        }
        graph.wait_for_accepted(3).await;
        let people: Vec<_> = was_sent(&graph)
            .into_iter()
            .map(|(person, _)| person)
            .collect();
        assert_eq!(
            people.iter().filter(|person| *person == "1").count(),
            2,
            "{people:?}"
        );
        let events = node.get("/api/v1/events?page_size=100").await.body;
        let replies = events["items"]
            .as_array()
            .expect("items")
            .iter()
            .filter(|event| event["type"] == "message.reply");
        assert_eq!(replies.count(), 3);
        node.stop().await;
    });
}

#[test]
fn a_kill_between_message_and_reply_makes_no_second_automatic_reply() {
    run_async(async {
        let graph = graph().await;
        let test_env = delivering_env(&graph, None, &[]);
        let mut process = test_env.start_process().await;
        open(
            &process,
            json!({"auto_reply": {"text": "Thank you!", "cooldown_s": 0}}),
        )
        .await;
        let people: Vec<_> = (100..140).map(|number: u32| number.to_string()).collect();
        let messages: Vec<_> = (0..)
            .zip(&people)
            .map(|(at, person)| written(person, at, &format!("m-{person}")))
            .collect();
        call(&process, &with(&messages)).await;
        graph.wait_for_accepted(3).await;
        process.kill();
        let process = test_env.start_process().await;
        graph
            .wait_until(|seen| people.iter().all(|person| ids_of(seen, person).len() == 1))
            .await;
        // Sent again, as by Instagram without an answer.
        call(&process, &with(&messages)).await;
        call(&process, &with(&[written("140", 99, "m-140")])).await;
        graph
            .wait_until(|seen| ids_of(seen, "140").len() == 1)
            .await;
        let events = process.get("/api/v1/events?page_size=100").await.body;
        let replies = events["items"]
            .as_array()
            .expect("items")
            .iter()
            .filter(|event| event["type"] == "message.reply");
        assert_eq!(
            replies.count(),
            41,
            "one for each message, however often it was tried"
        );
        for person in &people {
            assert_eq!(
                ids_of(&graph.log(), person).len(),
                1,
                "a repeat has the id of the first: {person}"
            );
        }
    });
}

/// Returns the ids of the calls for `person`.
fn ids_of(seen: &ReceiverLog, person: &str) -> BTreeSet<String> {
    let sent = seen
        .arrivals
        .iter()
        .filter(|arrival| sent_message(arrival).0 == person);
    sent.map(|arrival| arrival.id().to_owned()).collect()
}
