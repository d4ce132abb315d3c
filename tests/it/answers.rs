//! Answers of the support contract, one by one.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_rt::task::spawn_blocking;
use hookyard::config::Secret;
use hookyard::edge::support::signature::sign_support_body;
use hookyard::entity::ticket::EVENT_NAMES;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::test_node::{
    API_KEY, SECRET, START, SUPPORT, TOKEN, TestAnswer, TestClient, TestEnv, TestNode, encode_id,
    message_text, run_async,
};

/// Longer than any limit of a node in these tests; only a broken node lets a socket wait so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Request of the contract, in which every part can be made wrong.
#[derive(Clone)]
struct TicketRequest<'a> {
    api_key: Option<&'a str>,
    secret: &'a str,
    /// Time that is signed.
    timestamp: &'a str,
    /// True if the signed time is sent as a header as well.
    in_header: bool,
    content_type: Option<&'a str>,
    key: Option<(&'a str, &'a str)>,
    body: String,
}

impl TicketRequest<'_> {
    fn new(body: &Value) -> Self {
        Self {
            api_key: Some(API_KEY),
            secret: SECRET,
            timestamp: START,
            in_header: true,
            content_type: Some("application/json"),
            key: Some(("idempotency-key", "k-1")),
            body: body.to_string(),
        }
    }

    fn request(&self, client: &TestClient) -> RequestBuilder {
        let signature = sign_support_body(
            &Secret::new(self.secret),
            self.body.as_bytes(),
            self.timestamp,
        );
        let headers = [
            ("x-crm-signature", Some(signature.as_str())),
            ("x-crm-api-key", self.api_key),
            ("x-crm-timestamp", self.in_header.then_some(self.timestamp)),
            ("content-type", self.content_type),
        ];
        let given = headers
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .chain(self.key);
        let request = client
            .client
            .post(format!("{}{SUPPORT}", client.base))
            .body(self.body.clone());
        given.fold(request, |request, (name, value)| {
            request.header(name, value)
        })
    }

    async fn send(&self, client: &TestClient) -> TestAnswer {
        client.send_request(self.request(client)).await
    }
}

/// Body of an event of ticket `S` that is accepted.
/// Event of a ticket with a member that differs each time: a signed request is taken once, and the
/// clock of these tests stands still.
fn pending() -> Value {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    json!({"event": "status.changed", "support_uid": "S", "data": {"status": "pending"}, "n": number})
}

fn code(answer: &TestAnswer) -> (u16, &str) {
    (
        answer.status,
        answer.body["code"].as_str().unwrap_or_default(),
    )
}

fn wrong_fields(answer: &TestAnswer) -> Vec<&str> {
    let errors = answer.body["errors"]
        .as_array()
        .unwrap_or_else(|| panic!("no errors in {answer:?}"));
    errors
        .iter()
        .map(|error| error["field"].as_str().expect("a name"))
        .collect()
}

async fn events_in(node: &TestNode) -> u64 {
    node.get("/api/v1/events").await.body["total"]
        .as_u64()
        .expect("a total")
}

fn connect(client: &TestClient) -> TcpStream {
    let stream = TcpStream::connect(client.base.trim_start_matches("http://")).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream
}

/// Sends `bytes` and reads until the node closes the connection.
pub async fn raw(client: &TestClient, bytes: String) -> String {
    let mut stream = connect(client);
    let talk = move || {
        stream.write_all(bytes.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    spawn_blocking(talk)
        .await
        .expect("no panic")
        .expect("the node closes the connection")
}

#[test]
fn an_accepted_event_is_answered_with_its_number_and_can_be_read() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let answer = node
            .send(
                "SUP-1042",
                "k-1",
                "status.changed",
                json!({"status": "pending"}),
            )
            .await;
        assert_eq!(answer.status, 202);
        let entity = json!({"kind": "ticket", "id": "SUP-1042", "sequence": 1});
        let event_id = answer.event_id();
        assert_eq!(
            answer.body,
            json!({"status": "accepted", "event_id": event_id, "entity": entity})
        );
        assert_eq!(answer.header("x-event-id"), Some(event_id.as_str()));
        assert_eq!(answer.header("x-entity-sequence"), Some("1"));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let ticket = node.get("/api/v1/entities/ticket/SUP-1042").await;
        assert_eq!(ticket.body["state"]["status"], "pending");
        assert_eq!(node.fetch_timeline("SUP-1042").await.len(), 1);
        node.stop().await;
    });
}

/// Each event with its data, the state member that it changes, the member's new value, and the
/// event's summary.
fn story() -> Vec<(&'static str, Value, &'static str, Value, &'static str)> {
    let message = |text, deleted| {
        let author = json!({"name": "Ada"});
        json!([{"message_id": "m", "text": text, "author": author, "is_internal": true, "deleted": deleted}])
    };
    let created =
        json!({"message_id": "m", "text": "Hi", "author": {"name": "Ada"}, "is_internal": true});
    let file = json!({"attachment_id": "a", "file_name": "x.pdf", "url": "https://h/x", "size": 7});
    let due = json!({"policy": "4 h", "due_at": "2025-12-04T14:30:00+02:00"});
    let grace = json!({"agent_id": "op-7", "agent_name": "Grace"});
    let rating = json!({"score": 5, "comment": "quick"});
    vec![
        (
            "message.created",
            created,
            "messages",
            message("Hi", false),
            "message m added",
        ),
        (
            "message.updated",
            json!({"message_id": "m", "text": "Hello"}),
            "messages",
            message("Hello", false),
            "message m updated",
        ),
        (
            "message.deleted",
            json!({"message_id": "m", "reason": "twice"}),
            "messages",
            message("Hello", true),
            "message m deleted",
        ),
        (
            "status.changed",
            json!({"status": "on_hold", "reason": "holiday"}),
            "status",
            json!("on_hold"),
            "status changed to on_hold",
        ),
        (
            "agent.assigned",
            grace.clone(),
            "assignee",
            grace,
            "assigned to Grace",
        ),
        (
            "agent.unassigned",
            json!({"reason": "end of shift"}),
            "assignee",
            Value::Null,
            "unassigned",
        ),
        (
            "priority.changed",
            json!({"priority": "urgent"}),
            "priority",
            json!("urgent"),
            "priority changed to urgent",
        ),
        (
            "tags.updated",
            json!({"tags": ["vip", "eu", "vip"]}),
            "tags",
            json!(["eu", "vip"]),
            "tags changed to eu, vip",
        ),
        (
            "tags.updated",
            json!({"added": ["bulk"], "removed": ["eu", "uk"]}),
            "tags",
            json!(["bulk", "vip"]),
            "tags changed to bulk, vip",
        ),
        (
            "category.changed",
            json!({"category": "shipping"}),
            "category",
            json!("shipping"),
            "category changed to shipping",
        ),
        (
            "attachment.added",
            file.clone(),
            "attachments",
            json!([file]),
            "attachment x.pdf added",
        ),
        (
            "sla.breached",
            due,
            "sla_breaches",
            json!([{"policy": "4 h", "due_at": "2025-12-04T12:30:00.000Z"}]),
            "service level 4 h breached",
        ),
        (
            "rating.submitted",
            rating.clone(),
            "rating",
            rating,
            "rated 5 of 5",
        ),
    ]
}

#[test]
fn each_of_the_12_events_changes_its_member_of_the_state_and_no_other() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        let mut state = json!({
            "status": "new", "priority": "normal", "category": null, "assignee": null, "tags": [], "messages": [],
            "attachments": [], "sla_breaches": [], "rating": null,
        });
        let story = story();
        assert!(
            EVENT_NAMES
                .iter()
                .all(|event| story.iter().any(|(told, ..)| told == event))
        );
        for (sequence, (event, data, member, value, summary)) in (1_u64..).zip(story) {
            let actor = json!({"id": "op-1", "name": "Eve"});
            let body = json!({"event": event, "support_uid": "S", "data": data, "actor": actor})
                .to_string();
            let answer = node
                .send_request(node.signed_request(&body, &sequence.to_string()))
                .await;
            assert_eq!(answer.status, 202, "{event}: {answer:?}");
            assert_eq!(answer.sequence(), sequence);
            state[member] = value;
            let ticket = node.get("/api/v1/entities/ticket/S").await;
            assert_eq!(ticket.body["state"], state, "{event}");
            assert_eq!(
                (&ticket.body["sequence"], &ticket.body["kind"]),
                (&json!(sequence), &json!("ticket"))
            );
            let now = START.replace(":00.", &format!(":{:02}.", sequence - 1));
            let entry = json!({
                "sequence": sequence, "type": event, "summary": summary, "actor": actor, "at": now, "received_at": now,
                "late": false, "event_id": answer.event_id(), "data": data,
            });
            assert_eq!(node.fetch_timeline("S").await.last(), Some(&entry));
            clock.advance(Duration::from_secs(1));
        }
        node.stop().await;
    });
}

#[test]
fn requests_without_valid_credentials_are_answered_401() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        test_env.with_manual_clock();
        let node = test_env.start().await;
        let good = TicketRequest::new(&pending());
        let cases = [
            (
                "no API key",
                TicketRequest {
                    api_key: None,
                    ..good.clone()
                },
                "invalid_api_key",
            ),
            (
                "another API key",
                TicketRequest {
                    api_key: Some("test-keys"),
                    ..good.clone()
                },
                "invalid_api_key",
            ),
            (
                "an empty API key",
                TicketRequest {
                    api_key: Some(""),
                    ..good.clone()
                },
                "invalid_api_key",
            ),
            (
                "another secret",
                TicketRequest {
                    secret: "guess",
                    ..good.clone()
                },
                "invalid_signature",
            ),
            (
                "no timestamp",
                TicketRequest {
                    in_header: false,
                    ..good.clone()
                },
                "invalid_signature",
            ),
            (
                "no time",
                TicketRequest {
                    timestamp: "today",
                    ..good.clone()
                },
                "stale_timestamp",
            ),
            (
                "seconds",
                TicketRequest {
                    timestamp: "1764844200",
                    ..good.clone()
                },
                "stale_timestamp",
            ),
            (
                "too old",
                TicketRequest {
                    timestamp: "2025-12-04T10:24:59.999Z",
                    ..good.clone()
                },
                "stale_timestamp",
            ),
            (
                "too far ahead",
                TicketRequest {
                    timestamp: "2025-12-04T10:35:00.001Z",
                    ..good.clone()
                },
                "stale_timestamp",
            ),
        ];
        for (case, parts, expected) in cases {
            assert_eq!(code(&parts.send(&node).await), (401, expected), "{case}");
        }
        let request = |client: &TestClient| client.signed_request(&pending().to_string(), "k-1");
        let replaced = |name: &'static str, value: &str| {
            let mut request = request(&node).build().expect("a request");
            request
                .headers_mut()
                .insert(name, value.parse().expect("a header's value"));
            RequestBuilder::from_parts(node.client.clone(), request)
        };
        let signature = sign_support_body(
            &Secret::new(SECRET),
            pending().to_string().as_bytes(),
            START,
        );
        for wrong in [
            "",
            "00",
            &signature[..62],
            &format!("{signature}00"),
            &format!("sha256={signature}x"),
        ] {
            let answer = node.send_request(replaced("x-crm-signature", wrong)).await;
            assert_eq!(code(&answer), (401, "invalid_signature"), "{wrong}");
        }
        let moved = node
            .send_request(replaced("x-crm-timestamp", "2025-12-04T10:30:01.000Z"))
            .await;
        assert_eq!(
            code(&moved),
            (401, "invalid_signature"),
            "the timestamp is signed too"
        );
        let mut unsigned = request(&node).build().expect("a request");
        unsigned.headers_mut().remove("x-crm-signature");
        let unsigned = node
            .send_request(RequestBuilder::from_parts(node.client.clone(), unsigned))
            .await;
        assert_eq!(code(&unsigned), (401, "invalid_signature"));
        assert_eq!(
            unsigned.body.as_object().expect("an object").len(),
            2,
            "one shape: detail and code"
        );
        assert_eq!(events_in(&node).await, 0);
        node.stop().await;
    });
}

#[test]
fn a_forged_request_learns_nothing_of_its_body() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        test_env.with_manual_clock();
        let node = test_env.start().await;
        let forged = TicketRequest {
            secret: "guess",
            ..TicketRequest::new(&pending())
        };
        let perfect = forged.send(&node).await.body;
        for body in ["", "{", r#"{"event": "unknown"}"#] {
            assert_eq!(
                TicketRequest {
                    body: body.into(),
                    ..forged.clone()
                }
                .send(&node)
                .await
                .body,
                perfect,
                "{body}"
            );
        }
        assert_eq!(node.send_message("S", "k-1").await.sequence(), 1);
        assert_eq!(
            forged.send(&node).await.body,
            perfect,
            "its idempotency key was used before"
        );
        node.stop().await;
    });
}

#[test]
fn a_timestamp_may_be_300_s_off_to_the_millisecond() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        test_env.with_manual_clock();
        let node = test_env.start().await;
        let good = TicketRequest::new(&pending());
        let near = [
            "2025-12-04T10:25:00Z",
            "2025-12-04T10:35:00.000Z",
            "2025-12-04T12:35:00+02:00",
        ];
        for timestamp in near {
            let parts = TicketRequest {
                timestamp,
                key: Some(("idempotency-key", timestamp)),
                ..good.clone()
            };
            assert_eq!(parts.send(&node).await.status, 202, "{timestamp}");
        }
        for timestamp in [
            "2025-12-04T10:24:59.999Z",
            "2025-12-04T10:35:00.001Z",
            "2025-12-04T12:35:00.001+02:00",
        ] {
            let parts = TicketRequest {
                timestamp,
                key: Some(("idempotency-key", timestamp)),
                ..good.clone()
            };
            assert_eq!(
                code(&parts.send(&node).await),
                (401, "stale_timestamp"),
                "{timestamp}"
            );
        }
        node.stop().await;
    });
}

#[test]
fn every_active_secret_and_api_key_is_taken_during_a_rotation() {
    run_async(async {
        let mut test_env = TestEnv::new(&[
            ("sources.support.api_keys", "old-api-key,new-api-key"),
            ("sources.support.secrets", "secret-old,secret-new"),
        ]);
        test_env.with_manual_clock();
        let node = test_env.start().await;
        let pairs = [
            ("old-api-key", "secret-old"),
            ("old-api-key", "secret-new"),
            ("new-api-key", "secret-old"),
            ("new-api-key", "secret-new"),
        ];
        for (sequence, (api_key, secret)) in (1_u64..).zip(pairs) {
            let key = sequence.to_string();
            let good = TicketRequest::new(&pending());
            let parts = TicketRequest {
                api_key: Some(api_key),
                secret,
                key: Some(("idempotency-key", &key)),
                ..good
            };
            assert_eq!(
                parts.send(&node).await.sequence(),
                sequence,
                "{api_key} {secret}"
            );
        }
        let retired = TicketRequest {
            api_key: Some("old-api-key"),
            ..TicketRequest::new(&pending())
        };
        assert_eq!(
            code(&retired.send(&node).await),
            (401, "invalid_signature"),
            "{SECRET} is none of them"
        );
        node.stop().await;
    });
}

/// The second publisher's event was lost with a 409.
#[test]
fn an_idempotency_key_belongs_to_the_api_key_that_sent_it() {
    run_async(async {
        let mut test_env =
            TestEnv::new(&[("sources.support.api_keys", "key-number-one,key-number-two")]);
        test_env.with_manual_clock();
        let node = test_env.start().await;
        let send = async |node: &TestNode, api_key: &'static str, ticket: &str| {
            let mut body = pending();
            body["support_uid"] = ticket.into();
            let request = TicketRequest {
                api_key: Some(api_key),
                ..TicketRequest::new(&body)
            };
            request.send(node).await
        };
        let first = send(&node, "key-number-one", "A").await;
        assert_eq!(first.sequence(), 1);
        assert_eq!(send(&node, "key-number-two", "B").await.sequence(), 1);
        node.stop().await;
        let node = test_env.start().await;
        for (api_key, ticket, expected) in [
            ("key-number-one", "A", "duplicate_event"),
            ("key-number-two", "B", "duplicate_event"),
            ("key-number-one", "C", "idempotency_key_reused"),
        ] {
            let answer = send(&node, api_key, ticket).await;
            assert_eq!(code(&answer), (409, expected), "{api_key} {ticket}");
        }
        assert_eq!(node.get("/api/v1/events").await.body["total"], 2);
        node.stop().await;
    });
}

#[test]
fn the_timestamp_comes_in_the_header_or_in_the_body_and_the_header_wins() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        test_env.with_manual_clock();
        let node = test_env.start().await;
        let with_timestamp = |timestamp: &str| {
            let mut body = pending();
            body["timestamp"] = timestamp.into();
            body
        };
        // An old event time does not make a request stale: the header has the time of signing.
        let both = TicketRequest::new(&with_timestamp("2025-12-01T00:00:00Z"));
        assert_eq!(both.send(&node).await.status, 202);
        let in_body = |timestamp| TicketRequest {
            timestamp,
            in_header: false,
            key: Some(("idempotency-key", timestamp)),
            ..TicketRequest::new(&with_timestamp(timestamp))
        };
        assert_eq!(
            in_body("2025-12-04T12:29:00+02:00")
                .send(&node)
                .await
                .status,
            202
        );
        assert_eq!(
            code(&in_body("2025-12-04T10:24:59Z").send(&node).await),
            (401, "stale_timestamp")
        );
        assert_eq!(
            code(&in_body("noon").send(&node).await),
            (401, "stale_timestamp")
        );
        // The limit counts characters after JSON's escapes are decoded.
        let escaped = with_timestamp(START)
            .to_string()
            .replace("2025-", r"\u0032025\u002d");
        let escaped = TicketRequest {
            in_header: false,
            key: Some(("idempotency-key", "k-2")),
            body: escaped,
            ..TicketRequest::new(&pending())
        };
        assert_eq!(escaped.send(&node).await.status, 202);
        let timeline = node.fetch_timeline("S").await;
        let times: Vec<_> = timeline
            .iter()
            .map(|entry| entry["at"].as_str().expect("a time"))
            .collect();
        assert_eq!(
            times,
            [
                "2025-12-01T00:00:00.000Z",
                "2025-12-04T10:29:00.000Z",
                START
            ]
        );
        node.stop().await;
    });
}

#[test]
fn the_idempotency_key_comes_in_a_header_or_in_the_signed_body_which_wins() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        test_env.with_manual_clock();
        let node = test_env.start().await;
        let plain = || TicketRequest {
            key: None,
            ..TicketRequest::new(&pending())
        };
        let mut body = pending();
        body["idempotency_key"] = "in-body".into();
        let with_key = TicketRequest {
            key: None,
            ..TicketRequest::new(&body)
        };
        let header = |parts: &TicketRequest<'static>, key| TicketRequest {
            key: Some(key),
            ..parts.clone()
        };

        assert_eq!(
            header(&with_key, ("idempotency-key", "in-header"))
                .send(&node)
                .await
                .sequence(),
            1
        );
        assert_eq!(
            with_key.send(&node).await.status,
            409,
            "the body won: a captured body has no other key"
        );
        assert_eq!(
            header(&plain(), ("idempotency-key", "in-header"))
                .send(&node)
                .await
                .sequence(),
            2,
            "the key of the header is free"
        );
        assert_eq!(
            header(&plain(), ("x-idempotency-key", "in-body"))
                .send(&node)
                .await
                .status,
            409
        );
        assert_eq!(
            header(&plain(), ("x-idempotency-key", "other"))
                .send(&node)
                .await
                .sequence(),
            3
        );
        let both = header(&plain(), ("x-idempotency-key", "other"))
            .request(&node)
            .header("idempotency-key", "best");
        assert_eq!(node.send_request(both).await.sequence(), 4);

        let none = plain().send(&node).await;
        assert_eq!(code(&none), (400, "validation_failed"));
        assert_eq!(wrong_fields(&none), ["idempotency_key"]);
        let empty = header(&plain(), ("idempotency-key", ""));
        assert_eq!(wrong_fields(&empty.send(&node).await), ["idempotency_key"]);
        let long = "k".repeat(257);
        assert_eq!(
            header(&plain(), ("idempotency-key", "k"))
                .send(&node)
                .await
                .sequence(),
            5
        );
        let too_long = TicketRequest {
            key: Some(("idempotency-key", long.as_str())),
            ..plain()
        };
        assert_eq!(
            wrong_fields(&too_long.send(&node).await),
            ["idempotency_key"]
        );
        let longest = TicketRequest {
            key: Some(("idempotency-key", &long[..256])),
            ..plain()
        };
        assert_eq!(longest.send(&node).await.sequence(), 6);
        node.stop().await;
    });
}

/// Corrects a request with every part wrong, check by check: the answer is always that of the first
/// failing check.
#[test]
fn checks_are_made_in_the_contracts_order() {
    run_async(async {
        let limits = [
            ("sources.support.rate_per_minute", "5"),
            ("server.body_limit_bytes", "1024"),
        ];
        let mut test_env = TestEnv::new(&limits);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        for key in ["k-1", "k-2", "k-3", "k-4", "k-5"] {
            assert_eq!(
                TicketRequest {
                    key: Some(("idempotency-key", key)),
                    ..TicketRequest::new(&pending())
                }
                .send(&node)
                .await
                .status,
                202
            );
        }
        let mut parts = TicketRequest {
            api_key: Some("guess"),
            secret: "guess",
            timestamp: "2025-12-04T09:00:00Z",
            content_type: Some("text/plain"),
            body: "{".repeat(1025),
            ..TicketRequest::new(&Value::Null)
        };
        assert_eq!(code(&parts.send(&node).await), (413, "body_too_large"));
        parts.body = "{".into();
        assert_eq!(code(&parts.send(&node).await), (401, "invalid_api_key"));
        parts.api_key = Some(API_KEY);
        assert_eq!(code(&parts.send(&node).await), (401, "invalid_signature"));
        parts.secret = SECRET;
        assert_eq!(code(&parts.send(&node).await), (401, "stale_timestamp"));
        parts.timestamp = START;
        assert_eq!(code(&parts.send(&node).await), (429, "rate_limited"));
        clock.advance(Duration::from_secs(60));
        assert_eq!(
            code(&parts.send(&node).await),
            (415, "unsupported_media_type")
        );
        parts.content_type = None;
        assert_eq!(code(&parts.send(&node).await), (400, "invalid_json"));
        parts.body = r#"{"event": "status.changed"}"#.into();
        assert_eq!(code(&parts.send(&node).await), (400, "validation_failed"));
        parts.body = pending().to_string();
        assert_eq!(code(&parts.send(&node).await), (409, "duplicate_event"));
        parts.key = Some(("idempotency-key", "k-6"));
        assert_eq!(parts.send(&node).await.sequence(), 6);
        node.stop().await;
    });
}

#[test]
fn a_body_that_is_no_json_object_is_answered_400_and_stores_nothing() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        for body in [
            "",
            "{",
            "nonsense",
            "[]",
            "null",
            "7",
            r#"{"event": }"#,
            "{} {}",
            "{'event': 1}",
            "\u{feff}",
            r#"{"a":1,}"#,
        ] {
            let answer = node.send_request(node.signed_request(body, "k-1")).await;
            assert_eq!(code(&answer), (400, "invalid_json"), "{body}");
        }
        let mut bytes = node.signed_request("x", "k-1").build().expect("a request");
        let (body, timestamp) = (
            b"{\"event\": \"\xff\"}",
            bytes.headers()["x-crm-timestamp"].clone(),
        );
        let signature = sign_support_body(
            &Secret::new(SECRET),
            body,
            timestamp.to_str().expect("text"),
        );
        bytes
            .headers_mut()
            .insert("x-crm-signature", signature.parse().expect("hex"));
        *bytes.body_mut() = Some(body.to_vec().into());
        let answer = node
            .send_request(RequestBuilder::from_parts(node.client.clone(), bytes))
            .await;
        assert_eq!(code(&answer), (400, "invalid_json"), "it is not UTF-8");
        assert_eq!(events_in(&node).await, 0);
        node.stop().await;
    });
}

#[test]
fn every_wrong_field_is_reported_at_once() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        test_env.with_manual_clock();
        let node = test_env.start().await;
        let data = json!({"attachment_id": 1, "file_name": "", "url": 2, "size": -1});
        let body = json!({
            "event": "attachment.added", "support_uid": "", "idempotency_key": 7, "timestamp": "noon", "actor": [], "data": data,
        });
        let answer = TicketRequest {
            key: None,
            ..TicketRequest::new(&body)
        }
        .send(&node)
        .await;
        assert_eq!(code(&answer), (400, "validation_failed"));
        let mut fields = wrong_fields(&answer);
        fields.sort_unstable();
        let expected = [
            "actor",
            "data.attachment_id",
            "data.file_name",
            "data.size",
            "data.url",
            "idempotency_key",
            "support_uid",
            "timestamp",
        ];
        assert_eq!(fields, expected);
        assert_eq!(answer.body["detail"], answer.body["errors"][0]["detail"]);

        let cases: [(&str, Value, &[&str]); 20] = [
            (
                "message.created",
                json!({}),
                &["data.message_id", "data.text"],
            ),
            (
                "message.created",
                json!({"message_id": "", "text": 1, "author": 7, "is_internal": "no"}),
                &[
                    "data.message_id",
                    "data.text",
                    "data.author",
                    "data.is_internal",
                ],
            ),
            (
                "message.updated",
                json!({}),
                &["data.message_id", "data.text"],
            ),
            (
                "message.deleted",
                json!({"reason": []}),
                &["data.message_id", "data.reason"],
            ),
            ("status.changed", json!({}), &["data.status"]),
            (
                "status.changed",
                json!({"status": "done", "reason": 1}),
                &["data.status", "data.reason"],
            ),
            (
                "agent.assigned",
                json!({"agent_name": {}}),
                &["data.agent_id", "data.agent_name"],
            ),
            ("agent.unassigned", json!({"reason": 1}), &["data.reason"]),
            (
                "priority.changed",
                json!({"priority": "High"}),
                &["data.priority"],
            ),
            ("tags.updated", json!({}), &["data.tags"]),
            (
                "tags.updated",
                json!({"tags": ["a", 1, ""]}),
                &["data.tags[1]", "data.tags[2]"],
            ),
            (
                "tags.updated",
                json!({"added": "a", "removed": {}}),
                &["data.added", "data.removed"],
            ),
            (
                "category.changed",
                json!({"category": ""}),
                &["data.category"],
            ),
            (
                "attachment.added",
                json!({}),
                &["data.attachment_id", "data.file_name"],
            ),
            (
                "sla.breached",
                json!({"due_at": "later"}),
                &["data.policy", "data.due_at"],
            ),
            ("rating.submitted", json!({}), &["data.score"]),
            (
                "rating.submitted",
                json!({"score": 6, "comment": 1}),
                &["data.score", "data.comment"],
            ),
            ("rating.submitted", json!({"score": 0}), &["data.score"]),
            ("rating.submitted", json!({"score": 4.5}), &["data.score"]),
            ("status.changed", json!([]), &["data"]),
        ];
        for (event, data, expected) in cases {
            let answer =
                TicketRequest::new(&json!({"event": event, "support_uid": "S", "data": data}))
                    .send(&node)
                    .await;
            assert_eq!(wrong_fields(&answer), expected, "{event} {data}");
        }
        let nothing = TicketRequest {
            key: None,
            ..TicketRequest::new(&json!({}))
        }
        .send(&node)
        .await;
        assert_eq!(
            wrong_fields(&nothing),
            ["event", "support_uid", "idempotency_key", "data"]
        );
        assert_eq!(events_in(&node).await, 0);
        node.stop().await;
    });
}

#[test]
fn the_answer_to_an_unknown_event_lists_all_12_names() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        for event in ["status.change", "Status.Changed", "", "lead.created"] {
            let answer = node.send("S", "k-1", event, json!({})).await;
            assert_eq!(code(&answer), (400, "unknown_event"), "{event}");
            let detail = answer.body["detail"].as_str().expect("a sentence");
            assert!(
                EVENT_NAMES.iter().all(|name| detail.contains(name)),
                "{detail}"
            );
        }
        assert_eq!(
            node.send_message("S", "k-1").await.sequence(),
            1,
            "its key stayed free"
        );
        node.stop().await;
    });
}

#[test]
fn the_answer_to_a_duplicate_names_the_first_event() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let first = node.send_message("S", "k-1").await;
        let other = node
            .send("T", "k-1", "status.changed", json!({"status": "open"}))
            .await;
        assert_eq!(
            (code(&other), other.header("location")),
            ((409, "idempotency_key_reused"), None),
            "another event was not stored before"
        );
        let second = node.send_message("S", "k-1").await;
        assert_eq!(code(&second), (409, "duplicate_event"));
        assert_eq!(second.header("x-event-id"), Some(first.event_id().as_str()));
        let event = node
            .get(second.header("location").expect("a location"))
            .await;
        assert_eq!(
            (event.status, event.body["event_id"].as_str()),
            (200, Some(first.event_id().as_str()))
        );
        assert_eq!(
            event.body["entity"],
            json!({"kind": "ticket", "id": "S", "sequence": 1})
        );
        assert_eq!(node.get("/api/v1/entities/ticket/T").await.status, 404);
        node.stop().await;
    });
}

#[test]
fn a_body_over_the_limit_is_refused_as_soon_as_that_is_known() {
    run_async(async {
        let test_env = TestEnv::new(&[("server.body_limit_bytes", "1024")]);
        let node = test_env.start().await;
        let head = format!("POST {SUPPORT} HTTP/1.1\r\nHost: h\r\nX-CRM-API-Key: {API_KEY}\r\n");
        let too_large = |answer: &str| {
            answer.starts_with("HTTP/1.1 413 ") && answer.contains(r#""code":"body_too_large""#)
        };

        // The first request sends no byte of its body, the second no end of it.
        let declared = raw(&node, format!("{head}Content-Length: 1025\r\n\r\n")).await;
        assert!(too_large(&declared), "{declared}");
        let chunks = format!("200\r\n{0}\r\n200\r\n{0}\r\n1\r\nx\r\n", "x".repeat(512));
        let streamed = raw(
            &node,
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}"),
        )
        .await;
        assert!(too_large(&streamed), "{streamed}");

        let body = |bytes: usize| {
            let event = json!({"event": "message.created", "support_uid": "S", "data": {"message_id": "m", "text": ""}});
            let text = "x".repeat(bytes - event.to_string().len());
            event
                .to_string()
                .replace(r#""text":"""#, &format!(r#""text":"{text}""#))
        };
        assert_eq!(
            node.send_request(node.signed_request(&body(1025), "k-1"))
                .await
                .status,
            413
        );
        assert_eq!(
            node.send_request(node.signed_request(&body(1024), "k-1"))
                .await
                .sequence(),
            1
        );
        node.stop().await;
    });
}

#[test]
fn a_chunked_body_is_taken_like_any_other() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        test_env.with_manual_clock();
        let node = test_env.start().await;
        let body = pending().to_string();
        let signature = sign_support_body(&Secret::new(SECRET), body.as_bytes(), START);
        let chunks: String = body
            .chars()
            .map(|c| format!("1\r\n{c}\r\n"))
            .chain(["0\r\n\r\n".to_owned()])
            .collect();
        let request = format!(
            "POST {SUPPORT} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nX-CRM-API-Key: {API_KEY}\r\n\
             X-CRM-Signature: {signature}\r\nX-CRM-Timestamp: {START}\r\nIdempotency-Key: k\r\n\r\n{chunks}"
        );
        let answer = raw(&node, request).await;
        assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
        assert_eq!(node.fetch_timeline("S").await.len(), 1);
        node.stop().await;
    });
}

#[test]
fn only_json_is_taken_and_no_content_type_counts_as_json() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        test_env.with_manual_clock();
        let node = test_env.start().await;
        let good = TicketRequest::new(&pending());
        for content_type in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "",
        ] {
            let answer = TicketRequest {
                content_type: Some(content_type),
                ..good.clone()
            }
            .send(&node)
            .await;
            assert_eq!(
                code(&answer),
                (415, "unsupported_media_type"),
                "{content_type}"
            );
        }
        for (key, content_type) in [
            ("a", None),
            ("b", Some("application/json; charset=utf-8")),
            ("c", Some("application/vnd.crm+json")),
        ] {
            let parts = TicketRequest {
                content_type,
                key: Some(("idempotency-key", key)),
                ..TicketRequest::new(&pending())
            };
            assert_eq!(parts.send(&node).await.status, 202, "{content_type:?}");
        }
        node.stop().await;
    });
}

#[test]
fn a_wrong_method_gets_the_allowed_ones_and_an_unknown_path_a_404() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let reprocess = format!(
            "/api/v1/events/{}/reprocess",
            node.send_message("S", "k-1").await.event_id()
        );
        let ask = |method: &Method, path: &str| {
            node.send_request(
                node.client
                    .request(method.clone(), format!("{}{path}", node.base))
                    .bearer_auth(TOKEN),
            )
        };
        assert_eq!(
            ask(&Method::HEAD, SUPPORT).await.status,
            200,
            "some senders validate an address so"
        );
        for (path, allow) in [(SUPPORT, "HEAD, POST"), (&reprocess, "POST")] {
            for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS] {
                let answer = ask(&method, path).await;
                assert_eq!(
                    code(&answer),
                    (405, "method_not_allowed"),
                    "{method} {path}"
                );
                assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
            }
        }
        let readable = "GET, HEAD";
        for (path, allow) in [
            ("/api/v1/entities/ticket/S", "GET, HEAD, DELETE"),
            ("/api/v1/entities/ticket/S/timeline", readable),
            ("/api/v1/events", readable),
            ("/healthz", readable),
        ] {
            let answer = ask(&Method::POST, path).await;
            assert_eq!(
                (code(&answer), answer.header("allow")),
                ((405, "method_not_allowed"), Some(allow)),
                "{path}"
            );
            assert_eq!(ask(&Method::HEAD, path).await.status, 200, "{path}");
        }
        for path in [
            "/",
            "/api/v0/crm/webhooks/",
            "/api/v0/crm/webhooks/support/x",
            "/api/v1/entities",
            "/api/v1/entities/ticket/S/notes",
        ] {
            assert_eq!(
                code(&ask(&Method::GET, path).await),
                (404, "not_found"),
                "{path}"
            );
        }
        node.stop().await;
    });
}

#[test]
fn a_slash_at_the_end_of_a_path_makes_no_difference() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        test_env.with_manual_clock();
        let node = test_env.start().await;
        let first = TicketRequest::new(&pending()).send(&node).await;
        let second = TicketRequest {
            key: Some(("idempotency-key", "k-2")),
            ..TicketRequest::new(&pending())
        }
        .request(&node);
        let mut second = second.build().expect("a request");
        second.url_mut().set_path(SUPPORT.trim_end_matches('/'));
        assert_eq!(
            node.send_request(RequestBuilder::from_parts(node.client.clone(), second))
                .await
                .sequence(),
            2
        );
        let event = format!("/api/v1/events/{}", first.event_id());
        for path in [
            "/api/v1/entities/ticket",
            "/api/v1/entities/ticket/S",
            "/api/v1/entities/ticket/S/timeline",
            "/api/v1/events",
            &event,
            "/healthz",
            "/health",
            "/readyz",
            "/openapi.json",
        ] {
            let (without, with) = (node.get(path).await, node.get(&format!("{path}/")).await);
            assert_eq!((with.status, &with.body), (200, &without.body), "{path}");
        }
        assert_eq!(node.post(&format!("{event}/reprocess/")).await.status, 409);
        node.stop().await;
    });
}

#[test]
fn every_answer_carries_the_senders_request_id_or_a_new_one() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let body = pending().to_string();
        let given = |request: RequestBuilder, id: &str| {
            node.send_request(request.header("x-request-id", id))
        };
        let accepted = given(node.signed_request(&body, "k-1"), "req-42.a:b/c").await;
        assert_eq!(
            (accepted.status, accepted.header("x-request-id")),
            (202, Some("req-42.a:b/c"))
        );
        for (path, status) in [("/api/v1/events", 401), ("/nothing", 404), (SUPPORT, 405)] {
            let answer = given(node.client.get(format!("{}{path}", node.base)), "req-43").await;
            assert_eq!(
                (answer.status, answer.header("x-request-id")),
                (status, Some("req-43")),
                "{path}"
            );
        }
        let long = "x".repeat(129);
        let mut seen = Vec::new();
        for insane in ["two words", "quote\"", "", &long] {
            let answer = given(node.signed_request(&body, "k-1"), insane).await;
            let id = answer.header("x-request-id").expect("an id").to_owned();
            assert_eq!(id.len(), 16, "{insane}");
            assert!(!seen.contains(&id), "{id} was given before");
            seen.push(id);
        }
        node.stop().await;
    });
}

#[test]
fn an_endless_request_is_cut_off_and_disturbs_no_other() {
    run_async(async {
        // Long enough for an honest request on a busy machine.
        let test_env = TestEnv::new(&[("server.request_timeout_s", "2")]);
        let node = test_env.start().await;
        let post = format!("POST {SUPPORT} HTTP/1.1\r\nHost: h\r\nX-CRM-API-Key: {API_KEY}\r\n");
        let elsewhere = "POST /nothing HTTP/1.1\r\nHost: h\r\n";
        let cases = [
            ("half a head", post.clone()),
            ("half a line", "POST /api".to_owned()),
            ("no body", format!("{post}Content-Length: 9\r\n\r\n")),
            (
                "half a body",
                format!("{post}Content-Length: 9\r\n\r\n{{\"a"),
            ),
            (
                "half a chunk",
                format!("{post}Transfer-Encoding: chunked\r\n\r\n5\r\nab"),
            ),
            (
                "no last chunk",
                format!("{post}Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"),
            ),
            (
                "half a body that nobody wants",
                format!("{elsewhere}Content-Length: 9\r\n\r\n{{\"a"),
            ),
            (
                "half a chunk that nobody wants",
                format!("{elsewhere}Transfer-Encoding: chunked\r\n\r\n5\r\nab"),
            ),
        ];
        let mut talks = JoinSet::new();
        for (case, bytes) in cases {
            let client = node.api.clone();
            talks.spawn(async move { (case, raw(&client, bytes).await) });
        }
        assert_eq!(
            node.send_message("S", "k-1").await.sequence(),
            1,
            "none of them holds up another"
        );
        for (case, answer) in talks.join_all().await {
            let expected = if case.ends_with("nobody wants") {
                "HTTP/1.1 404 "
            } else {
                "HTTP/1.1 408 "
            };
            assert!(answer.starts_with(expected), "{case}: {answer}");
        }
        node.stop().await;
    });
}

#[test]
fn a_body_that_trickles_in_is_cut_off_as_a_whole() {
    run_async(async {
        let test_env = TestEnv::new(&[("server.request_timeout_s", "0.3")]);
        let node = test_env.start().await;
        let mut stream = connect(&node);
        stream
            .set_read_timeout(Some(Duration::from_millis(20)))
            .expect("not zero");
        let trickle = move || {
            let head =
                format!("POST {SUPPORT} HTTP/1.1\r\nHost: h\r\nX-CRM-API-Key: {API_KEY}\r\n");
            stream.write_all(format!("{head}Content-Length: 4000\r\n\r\n").as_bytes())?;
            let mut answer = [0; 12];
            // Each byte arrives within the limit of a whole request; all of them together never do.
            for _ in 0..4000 {
                stream.write_all(b"x")?;
                match stream.read_exact(&mut answer) {
                    Err(error)
                        if matches!(
                            error.kind(),
                            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                        ) => {}
                    other => return other.map(|()| answer),
                }
            }
            Err(io::ErrorKind::TimedOut.into())
        };
        let answer = spawn_blocking(trickle)
            .await
            .expect("no panic")
            .expect("an answer before all of the body");
        assert_eq!(&answer, b"HTTP/1.1 408");
        node.stop().await;
    });
}

#[test]
fn a_ticket_may_have_any_id_and_is_read_under_it_percent_encoded() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let longest = "ї".repeat(128);
        let ids = [
            "звернення/7",
            "a b",
            "a%2Fb",
            "%",
            "100%25",
            "a+b",
            "a?b=1#c",
            "🙂",
            "//",
            "timeline",
            "a;b,c",
            "\"quoted\"",
            "a\\b",
            "e\u{301}",
            "\u{e9}",
            longest.as_str(),
        ];
        for id in ids {
            let answer = node.send_message(id, id).await;
            assert_eq!(
                (answer.status, answer.body["entity"]["id"].as_str()),
                (202, Some(id))
            );
            let ticket = node
                .get(&format!("/api/v1/entities/ticket/{}", encode_id(id)))
                .await;
            assert_eq!(
                (ticket.status, ticket.body["id"].as_str()),
                (200, Some(id)),
                "{id}"
            );
            assert_eq!(
                (
                    ticket.body["sequence"].as_u64(),
                    &ticket.body["state"]["messages"][0]["text"]
                ),
                (Some(1), &json!(message_text(id)))
            );
            let timeline = node.fetch_timeline(&encode_id(id)).await;
            assert_eq!(timeline.len(), 1, "{id}");
            assert_eq!(timeline[0]["event_id"], answer.body["event_id"]);
            let events = node
                .get(&format!("/api/v1/events?entity={}", encode_id(id)))
                .await;
            assert_eq!(
                (
                    events.body["total"].as_u64(),
                    &events.body["items"][0]["entity"]["id"]
                ),
                (Some(1), &json!(id))
            );
        }
        let listed = node.get("/api/v1/entities/ticket?page_size=100").await;
        let listed: Vec<_> = listed.body["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(|item| item["id"].clone())
            .collect();
        assert_eq!(listed, ids.into_iter().rev().collect::<Vec<_>>());
        // A client would normalize such a path; the node takes the path as it is.
        for id in [".", ".."] {
            assert_eq!(node.send_message(id, id).await.sequence(), 1);
            let path = format!("/api/v1/entities/ticket/{}", encode_id(id));
            let answer = raw(
                &node,
                format!("GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"),
            )
            .await;
            assert!(
                answer.starts_with("HTTP/1.1 200 ") && answer.contains(&format!(r#""id":"{id}""#)),
                "{answer}"
            );
        }
        for wrong in ["", "a\nb", "\u{7f}", &format!("{longest}x")] {
            assert_eq!(
                wrong_fields(&node.send_message(wrong, "k").await),
                ["support_uid"],
                "{wrong:?}"
            );
        }
        for path in ["a%0Ab", "%00", "%FF", &encode_id(&format!("{longest}x"))] {
            assert_eq!(
                node.get(&format!("/api/v1/entities/ticket/{path}"))
                    .await
                    .status,
                404,
                "{path}"
            );
        }
        node.stop().await;
    });
}

#[test]
fn an_event_of_a_ticket_that_may_not_be_created_fails_and_creates_nothing() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        assert_eq!(node.send_message("known", "k-1").await.sequence(), 1);
        node.stop().await;

        test_env.set("sources.support.unknown_entity", "reject");
        let node = test_env.start().await;
        assert_eq!(node.send_message("known", "k-2").await.sequence(), 2);
        let rejected = node.send_message("unknown", "k-3").await;
        assert_eq!(rejected.status, 202);
        assert_eq!(
            rejected.body["entity"],
            json!({"kind": "ticket", "id": "unknown", "sequence": null})
        );
        assert_eq!(
            rejected.header("x-event-id"),
            Some(rejected.event_id().as_str())
        );
        assert_eq!(rejected.header("x-entity-sequence"), None);
        for path in ["unknown", "unknown/timeline"] {
            assert_eq!(
                node.get(&format!("/api/v1/entities/ticket/{path}"))
                    .await
                    .status,
                404,
                "{path}"
            );
        }
        assert_eq!(node.get("/api/v1/entities/ticket").await.body["total"], 1);
        let path = format!("/api/v1/events/{}", rejected.event_id());
        let event = node.get(&path).await.body;
        assert_eq!(
            (&event["status"], &event["code"]),
            (&json!("failed"), &json!(404))
        );
        assert_eq!(event["error_message"], "ticket unknown does not exist");
        let failed = node.get("/api/v1/events?status=failed").await.body;
        assert_eq!((&failed["total"], &failed["items"][0]), (&json!(1), &event));
        let again = node.send_message("unknown", "k-3").await;
        assert_eq!(
            (again.status, again.header("x-event-id")),
            (409, Some(rejected.event_id().as_str()))
        );
        node.stop().await;

        test_env.set("sources.support.unknown_entity", "create");
        let node = test_env.start().await;
        let accepted = node.post(&format!("{path}/reprocess")).await;
        assert_eq!(
            (accepted.status, accepted.sequence(), accepted.event_id()),
            (202, 1, rejected.event_id())
        );
        assert_eq!(
            node.fetch_timeline("unknown").await[0]["event_id"],
            rejected.event_id().as_str()
        );
        assert_eq!(
            node.get("/api/v1/events?status=failed").await.body["total"],
            0
        );
        node.stop().await;
    });
}

#[test]
fn a_body_is_read_as_json_says_and_kept_as_it_was_received() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let body = r#" {"event":"status.changed", "\u0065vent":"message\u002ecreated", "support_uid":"T","support_uid":"S",
            "extra": {"z": 1.50, "a": [1e400, 123456789012345678901234567890]},
            "data": 7, "data":{"message_id":"m","text":"first","text":"\"\u0421\ud83d\ude42\n\u0000", "text2": null} } "#;
        let answer = node.send_request(node.signed_request(body, "k-1")).await;
        assert_eq!(
            answer.body["entity"],
            json!({"kind": "ticket", "id": "S", "sequence": 1}),
            "{answer:?}"
        );
        let ticket = node.get("/api/v1/entities/ticket/S").await;
        assert_eq!(ticket.body["state"]["messages"][0]["text"], "\"С🙂\n\0");
        assert_eq!(node.get("/api/v1/entities/ticket/T").await.status, 404);
        let event = node
            .client
            .get(format!("{}/api/v1/events/{}", node.base, answer.event_id()))
            .bearer_auth(TOKEN);
        let text = event
            .send()
            .await
            .expect("an answer")
            .text()
            .await
            .expect("a body");
        assert!(text.contains(body.trim()), "{text}");

        let half = r#"{"event":"message.created","support_uid":"S","data":{"message_id":"n","text":"\ud83d"}}"#;
        let kept = node.send_request(node.signed_request(half, "k-3")).await;
        assert_eq!(kept.sequence(), 2, "{kept:?}");
        let ticket = node.get("/api/v1/entities/ticket/S").await;
        assert_eq!(ticket.body["state"]["messages"][1]["text"], "\u{fffd}");
        let deep = format!(
            r#"{{"event":"agent.unassigned","support_uid":"S","extra":{}{}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert_eq!(
            node.send_request(node.signed_request(&deep, "k-2"))
                .await
                .sequence(),
            3
        );
        let deeper = deep.replace("[[", "[[[[[[[[").replace("]]", "]]]]]]]]");
        let refused = node.send_request(node.signed_request(&deeper, "k-4")).await;
        assert_eq!(
            refused.body["detail"],
            "body nests deeper than 250000 levels"
        );
        assert_eq!(
            node.get("/api/v1/entities/ticket/S").await.body["sequence"],
            3
        );
        node.stop().await;
    });
}

/// Nobody knows which of two credentials a proxy has checked. That was answered as a wrong one.
#[test]
fn a_repeated_credential_header_is_an_error_of_form() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        test_env.write_file(
            "[sources.c2s]\nenabled = true\ntokens = [\"c2s-token\"]\n\
             [sources.crm]\nenabled = true\ntokens = [\"crm-token\"]\n\
             [[sources.custom]]\nname = \"token\"\nsecrets = [\"hush-hush-hush\"]\nentity = \"/id\"\nevent = \"/type\"\n\
             scheme = { header = \"X-Token\", algorithm = \"token\" }\n\
             [[sources.custom]]\nname = \"pipe\"\npreset = \"pipedrive\"\nsecrets = [\"user:hush-hush-hush\"]\n",
        );
        let node = test_env.start().await;
        for (method, path, header, value) in [
            ("POST", SUPPORT, "x-crm-api-key", API_KEY),
            (
                "POST",
                "/api/v1/webhooks/c2s",
                "x-webhook-token",
                "c2s-token",
            ),
            (
                "POST",
                "/api/v1/events",
                "authorization",
                "Bearer crm-token",
            ),
            (
                "GET",
                "/api/v1/events",
                "authorization",
                &format!("Bearer {TOKEN}"),
            ),
            ("POST", "/in/token", "x-token", "hush-hush-hush"),
            ("POST", "/in/pipe", "authorization", "Basic dXNlcjpodXNo"),
        ] {
            let method = method.parse().expect("a method");
            let request = node.client.request(method, format!("{}{path}", node.base));
            let request = request
                .header(header, value)
                .header(header, value)
                .body("{}");
            let answer = node.send_request(request).await;
            assert_eq!(
                code(&answer),
                (400, "validation_failed"),
                "{path}: {answer:?}"
            );
            assert_eq!(answer.body["errors"][0]["field"], header, "{path}");
        }
        node.stop().await;
    });
}
