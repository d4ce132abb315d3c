//! The CRM's event bus: answers to publishers, for single events and lists, and the results of
//! their events.

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::failures::{DiskFailure, FailurePlace, until_readyz_is};
use crate::test_node::{TOKEN, TestAnswer, TestClient, TestEnv, run_async, run_together};

const EVENTS: &str = "/api/v1/events";
const PUBLISHER: &str = "test-publisher-of-events";

fn test_env() -> TestEnv {
    TestEnv::new(&[
        ("sources.crm.enabled", "true"),
        (
            "sources.crm.tokens",
            "test-other-publisher-of-events,test-publisher-of-events",
        ),
        (
            "sources.crm.events",
            "invoice.paid,organisation.merged,invoice.deleted",
        ),
    ])
}

fn request(client: &TestClient, body: impl Into<String>) -> RequestBuilder {
    let request = client
        .client
        .post(format!("{}{EVENTS}", client.base))
        .bearer_auth(PUBLISHER);
    request
        .header("content-type", "application/json")
        .body(body.into())
}

async fn publish(client: &TestClient, body: &Value) -> TestAnswer {
    client.send_request(request(client, body.to_string())).await
}

async fn state(client: &TestClient, entity: &str) -> Value {
    client.get(&format!("/api/v1/entities/{entity}")).await.body["state"].clone()
}

async fn total(client: &TestClient) -> u64 {
    client.get(EVENTS).await.body["total"]
        .as_u64()
        .expect("a total")
}

fn code(answer: &TestAnswer) -> (u16, &str) {
    (
        answer.status,
        answer.body["code"].as_str().unwrap_or_default(),
    )
}

/// Event of organisation `id` that sets its field `n`.
fn updated(id: u64, n: usize) -> Value {
    json!({"event": "organisation.updated", "data": {"organisation_id": id, "n": n}})
}

fn keyed(mut event: Value, key: &str) -> Value {
    event["idempotency_key"] = key.into();
    event
}

/// Payload of the CRM's own guide, unchanged.
const FROM_THE_GUIDE: &str = r#"{
  "event": "organisation.created",
  "timestamp": "2025-10-18T09:43:12.442Z",
  "user_id": 12,
  "data": {
    "organisation_id": 51,
    "name": "ACME Capital",
    "category": "Institution",
    "country_code": "FR"
  }
}"#;

#[test]
fn the_guides_own_event_is_taken_in_and_can_be_read() {
    run_async(async {
        let test_env = test_env();
        let node = test_env.start().await;
        let answer = node.send_request(request(&node, FROM_THE_GUIDE)).await;
        let event_id = answer.event_id();
        let entity = json!({"kind": "organisation", "id": "51", "sequence": 1});
        assert_eq!(answer.status, 202);
        assert_eq!(
            answer.body,
            json!({"status": "accepted", "event_id": event_id, "entity": entity})
        );
        assert_eq!(answer.header("x-event-id"), Some(event_id.as_str()));
        assert_eq!(answer.header("x-entity-sequence"), Some("1"));
        let expected = json!({"organisation_id": 51, "name": "ACME Capital", "category": "Institution", "country_code": "FR"});
        assert_eq!(state(&node, "organisation/51").await, expected);
        let event = node.get(&format!("{EVENTS}/{event_id}")).await.body;
        assert_eq!(
            (&event["source"], &event["type"]),
            (&json!("crm"), &json!("organisation.created"))
        );
        assert_eq!(
            event["payload"],
            serde_json::from_str::<Value>(FROM_THE_GUIDE).expect("JSON")
        );
        let entry = &node
            .get("/api/v1/entities/organisation/51/timeline")
            .await
            .body["items"][0];
        assert_eq!(
            (&entry["at"], &entry["data"]),
            (&json!("2025-10-18T09:43:12.442Z"), &expected)
        );
        node.stop().await;
    });
}

#[test]
fn each_of_the_13_events_and_each_declared_one_finds_its_entity() {
    run_async(async {
        let test_env = test_env();
        let node = test_env.start().await;
        let names = [
            (
                "organisation",
                &["created", "updated", "deleted", "merged"][..],
            ),
            ("person", &["created", "updated", "deleted"]),
            ("task", &["created", "completed"]),
            ("mandat", &["created", "updated", "signed"]),
            ("interaction", &["created", "updated"]),
            ("invoice", &["paid", "deleted"]),
        ];
        for (what, happened) in names {
            let kind = if what == "invoice" {
                "custom:invoice"
            } else {
                what
            };
            for (number, happened) in (1_u64..).zip(happened) {
                let id_member = format!("{what}_id");
                let event = json!({"event": format!("{what}.{happened}"), "data": {id_member: "X-1", "step": number}});
                let answer = publish(&node, &event).await;
                let entity = json!({"kind": kind, "id": "X-1", "sequence": number});
                assert_eq!(
                    (answer.status, &answer.body["entity"]),
                    (202, &entity),
                    "{what}.{happened}"
                );
            }
        }
        assert_eq!(state(&node, "organisation/X-1").await["deleted"], true);
        assert_eq!(state(&node, "task/X-1").await["completed"], true);
        assert_eq!(state(&node, "mandat/X-1").await["signed"], true);
        assert_eq!(state(&node, "custom:invoice/X-1").await["deleted"], true);
        assert_eq!(
            state(&node, "person/X-1").await,
            json!({"person_id": "X-1", "step": 3, "deleted": true})
        );
        node.stop().await;
    });
}

#[test]
fn the_admin_may_publish_and_a_caller_without_a_token_may_not() {
    run_async(async {
        let test_env = test_env();
        let node = test_env.start().await;
        let plain = || {
            node.client
                .post(format!("{}{EVENTS}", node.base))
                .body(FROM_THE_GUIDE)
        };
        for token in [TOKEN, "test-other-publisher-of-events", PUBLISHER] {
            assert_eq!(
                node.send_request(plain().bearer_auth(token)).await.status,
                202,
                "{token}"
            );
        }
        for wrong in [
            plain(),
            plain().bearer_auth("test"),
            plain().bearer_auth(""),
            plain().header("x-token", TOKEN),
        ] {
            let answer = node.send_request(wrong).await;
            assert_eq!(code(&answer), (401, "unauthorized"));
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
        let read = node
            .client
            .get(format!("{}{EVENTS}", node.base))
            .bearer_auth(PUBLISHER);
        assert_eq!(
            code(&node.send_request(read).await),
            (403, "insufficient_role"),
            "a publisher reads nothing"
        );
        assert_eq!(total(&node).await, 3);
        node.stop().await;
    });
}

#[test]
fn the_path_takes_both_methods_and_says_so_to_others() {
    run_async(async {
        let test_env = test_env();
        let node = test_env.start().await;
        for path in ["/api/v1/events", "/api/v1/events/"] {
            let url = format!("{}{path}", node.base);
            assert_eq!(
                node.send_request(
                    node.client
                        .post(&url)
                        .bearer_auth(PUBLISHER)
                        .body(FROM_THE_GUIDE)
                )
                .await
                .status,
                202
            );
            assert_eq!(
                node.send_request(node.client.get(&url).bearer_auth(TOKEN))
                    .await
                    .status,
                200
            );
            let answer = node
                .send_request(node.client.delete(&url).bearer_auth(TOKEN))
                .await;
            assert_eq!(code(&answer), (405, "method_not_allowed"));
            assert_eq!(answer.header("allow"), Some("GET, HEAD, POST"));
        }
        node.stop().await;
        let node = TestEnv::new(&[]).start().await;
        let answer = node.send_request(request(&node, FROM_THE_GUIDE)).await;
        assert_eq!(
            (code(&answer), answer.header("allow")),
            ((405, "method_not_allowed"), Some("GET, HEAD"))
        );
        node.stop().await;
    });
}

#[test]
fn the_problems_of_an_event_are_named_and_nothing_is_stored() {
    run_async(async {
        let test_env = test_env();
        let node = test_env.start().await;
        let answer = publish(
            &node,
            &json!({"event": "task.created", "user_id": {}, "timestamp": 5, "data": {}}),
        )
        .await;
        assert_eq!(code(&answer), (400, "validation_failed"));
        let errors = json!([
            {"field": "user_id", "detail": "user_id must be a whole number or a string"},
            {"field": "timestamp", "detail": "timestamp must be an RFC 3339 time, not a number"},
            {"field": "data.task_id", "detail": "data.task_id is required, or data.id"},
        ]);
        assert_eq!(answer.body["errors"], errors);
        let unknown = publish(&node, &json!({"event": "task.updated", "data": {"id": 1}})).await;
        assert_eq!(code(&unknown), (400, "unknown_event"));
        assert!(
            unknown.body["detail"]
                .as_str()
                .expect("text")
                .contains("task.completed"),
            "{unknown:?}"
        );
        for (body, expected) in [
            ("{", "invalid_json"),
            ("7", "invalid_json"),
            ("", "invalid_json"),
            ("[1", "invalid_json"),
        ] {
            assert_eq!(
                code(&node.send_request(request(&node, body)).await),
                (400, expected),
                "{body}"
            );
        }
        let typed = node
            .client
            .post(format!("{}{EVENTS}", node.base))
            .bearer_auth(PUBLISHER);
        let typed = typed
            .header("content-type", "text/plain")
            .body(FROM_THE_GUIDE);
        assert_eq!(
            code(&node.send_request(typed).await),
            (415, "unsupported_media_type")
        );
        let large = format!(r#"{{"event": "{}"}}"#, "x".repeat(1_000_001));
        assert_eq!(
            code(&node.send_request(request(&node, large)).await),
            (413, "body_too_large")
        );
        assert_eq!(total(&node).await, 0);
        node.stop().await;
    });
}

#[test]
fn a_repeated_key_is_a_duplicate_in_either_place_and_across_a_restart() {
    run_async(async {
        let test_env = test_env();
        let node = test_env.start().await;
        let first = publish(&node, &keyed(updated(1, 1), "k-1")).await;
        let by_header = |client: &TestClient, body: &Value| {
            request(client, body.to_string()).header("idempotency-key", "k-1")
        };
        let same = |answer: TestAnswer| {
            assert_eq!(code(&answer), (409, "duplicate_event"));
            assert_eq!(answer.header("x-event-id"), Some(first.event_id().as_str()));
            let location = format!("{EVENTS}/{}", first.event_id());
            assert_eq!(answer.header("location"), Some(location.as_str()));
        };
        let other = publish(&node, &keyed(updated(2, 9), "k-1")).await;
        assert_eq!(code(&other), (409, "idempotency_key_reused"));
        same(
            node.send_request(by_header(&node, &keyed(updated(1, 1), "k-2")))
                .await,
        );
        node.stop().await;
        let node = test_env.start().await;
        same(publish(&node, &keyed(updated(1, 1), "k-1")).await);
        assert_eq!(
            publish(&node, &updated(1, 1)).await.sequence(),
            2,
            "without a key nothing is a duplicate"
        );
        assert_eq!(publish(&node, &updated(1, 1)).await.sequence(), 3);
        node.stop().await;
    });
}

#[test]
fn of_32_at_once_one_is_accepted() {
    run_async(async {
        let test_env = test_env();
        let node = test_env.start().await;
        let event = keyed(updated(1, 1), "k-1").to_string();
        let sent = (0..32).map(|_| {
            let (client, event) = (node.api.clone(), event.clone());
            async move { client.send_request(request(&client, event)).await }
        });
        let mut statuses: Vec<_> = run_together(sent)
            .await
            .iter()
            .map(|answer| answer.status)
            .collect();
        statuses.sort_unstable();
        assert_eq!(
            (
                statuses[0],
                statuses[1..].iter().all(|status| *status == 409)
            ),
            (202, true),
            "{statuses:?}"
        );
        assert_eq!(total(&node).await, 1);
        node.stop().await;
    });
}

#[test]
fn each_event_of_a_list_stands_by_itself() {
    run_async(async {
        let test_env = test_env();
        let node = test_env.start().await;
        let list = json!([
            keyed(updated(1, 1), "k-1"),
            {"event": "task.created", "data": {}, "user_id": true},
            keyed(updated(1, 1), "k-1"),
            7,
            {"event": "no.such", "data": {"id": 1}},
            keyed(updated(2, 1), "k-2"),
        ]);
        let answer = publish(&node, &list).await;
        assert_eq!(answer.status, 202);
        let body = &answer.body;
        let counts = ["received", "accepted", "duplicates", "failed"]
            .map(|name| body[name].as_u64().expect("a count"));
        assert_eq!(
            (&body["status"], counts),
            (&json!("accepted"), [6, 2, 1, 3])
        );
        let events = body["events"].as_array().expect("a list");
        assert_eq!(events.len(), 2);
        for (event, (index, id)) in events.iter().zip([(0, "1"), (5, "2")]) {
            let shown = node
                .get(&format!(
                    "{EVENTS}/{}",
                    event["event_id"].as_str().expect("an id")
                ))
                .await;
            assert_eq!(
                shown.body["entity"],
                json!({"kind": "organisation", "id": id, "sequence": 1})
            );
            assert_eq!(
                (&event["index"], &event["entity"]),
                (&json!(index), &shown.body["entity"])
            );
        }
        let wrong: Vec<_> = body["errors"].as_array().expect("a list").iter().collect();
        let places: Vec<_> = wrong
            .iter()
            .map(|error| (&error["index"], &error["field"]))
            .collect();
        let expected = [
            (1, json!("user_id")),
            (1, json!("data.task_id")),
            (3, Value::Null),
            (4, json!("event")),
        ];
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(index, field)| (json!(index), field))
            .collect();
        assert_eq!(
            places,
            expected
                .iter()
                .map(|(index, field)| (index, field))
                .collect::<Vec<_>>()
        );
        assert_eq!(wrong[2]["detail"], "event must be a JSON object");
        assert_eq!(answer.header("x-event-id"), None, "there are two");
        let alone = publish(&node, &json!([updated(3, 1)])).await;
        assert_eq!(
            alone.header("x-event-id"),
            alone.body["events"][0]["event_id"].as_str()
        );
        node.stop().await;
    });
}

#[test]
fn a_list_without_a_valid_event_is_refused_as_a_whole() {
    run_async(async {
        let test_env = test_env();
        let node = test_env.start().await;
        let answer = publish(
            &node,
            &json!([{"event": "no.such"}, 7, {"event": "task.created", "data": {}}]),
        )
        .await;
        assert_eq!(code(&answer), (400, "validation_failed"));
        let fields: Vec<_> = answer.body["errors"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|e| &e["field"])
            .collect();
        assert_eq!(fields, ["[0].event", "[1]", "[2].data.task_id"]);
        let none = publish(&node, &json!([])).await;
        assert_eq!(
            none.body["detail"],
            "body must hold 1 to 1000 events, not 0"
        );
        let many: Vec<_> = (0..1_001).map(|n| updated(1, n)).collect();
        let many = publish(&node, &json!(many)).await;
        assert_eq!(
            (many.status, &many.body["detail"]),
            (400, &json!("body must hold 1 to 1000 events, not 1001"))
        );
        assert_eq!(total(&node).await, 0);
        node.stop().await;
    });
}

#[test]
fn a_list_of_1000_is_applied_in_its_order() {
    run_async(async {
        let test_env = test_env();
        let node = test_env.start().await;
        let list: Vec<_> = (0..1_000).map(|n| updated(n as u64 % 3, n)).collect();
        let answer = publish(&node, &json!(list)).await;
        assert_eq!(
            (answer.status, &answer.body["accepted"]),
            (202, &json!(1_000)),
            "{:?}",
            answer.body["errors"]
        );
        for (index, event) in answer.body["events"]
            .as_array()
            .expect("a list")
            .iter()
            .enumerate()
        {
            assert_eq!(
                (&event["index"], &event["entity"]["sequence"]),
                (&json!(index), &json!(index / 3 + 1))
            );
        }
        for (id, last) in [(0, 999), (1, 997), (2, 998)] {
            assert_eq!(state(&node, &format!("organisation/{id}")).await["n"], last);
        }
        node.stop().await;
    });
}

#[test]
fn a_list_sent_again_under_the_same_header_repeats_nothing() {
    run_async(async {
        let test_env = test_env();
        let node = test_env.start().await;
        let list = json!([updated(1, 1), keyed(updated(1, 2), "own"), updated(1, 3)]).to_string();
        let sent =
            || node.send_request(request(&node, list.clone()).header("idempotency-key", "call-1"));
        assert_eq!(sent().await.body["accepted"], 3);
        let again = sent().await;
        assert_eq!(
            (
                again.status,
                &again.body["accepted"],
                &again.body["duplicates"]
            ),
            (202, &json!(0), &json!(3))
        );
        let single = publish(&node, &keyed(updated(1, 4), "own")).await;
        assert_eq!(single.status, 409, "an event's own key wins in a list");
        assert_eq!(total(&node).await, 3);
        node.stop().await;
    });
}

#[test]
fn an_older_event_does_not_overwrite_a_newer_one() {
    run_async(async {
        let test_env = test_env();
        let node = test_env.start().await;
        let at = |time: &str, data: Value| json!({"event": "person.updated", "timestamp": time, "data": data});
        publish(
            &node,
            &at("2025-10-18T10:00:00Z", json!({"id": 1, "city": "Lyon"})),
        )
        .await;
        publish(
            &node,
            &at(
                "2025-10-18T09:00:00Z",
                json!({"id": 1, "city": "Paris", "size": 12}),
            ),
        )
        .await;
        assert_eq!(
            state(&node, "person/1").await,
            json!({"id": 1, "city": "Lyon", "size": 12})
        );
        let timeline = node.get("/api/v1/entities/person/1/timeline").await.body;
        assert_eq!(
            (&timeline["items"][0]["late"], &timeline["items"][1]["late"]),
            (&json!(true), &json!(false))
        );
        node.stop().await;
    });
}

#[test]
fn every_event_there_is_can_be_listed_with_an_example() {
    run_async(async {
        let test_env = test_env();
        let node = test_env.start().await;
        let answer = node.get("/api/v1/webhooks/events/available").await;
        assert_eq!(answer.status, 200);
        let items = answer.body["items"].as_array().expect("a list");
        assert_eq!(answer.body["total"], items.len());
        let find = |name: &str| {
            items
                .iter()
                .find(|item| item["event"] == name)
                .unwrap_or_else(|| panic!("no {name}"))
        };
        for (name, source, wire_name) in [
            ("status.changed", json!("support"), json!("status.changed")),
            ("pre_lead.created", json!("leads"), json!("new_inquiry")),
            (
                "customer.order_created",
                json!("leads"),
                json!("order_created"),
            ),
            ("c2s_lead.enriched", json!("c2s"), Value::Null),
            ("message.reaction", json!("instagram"), json!("reaction")),
            ("invoice.paid", json!("crm"), json!("invoice.paid")),
            ("breaker.opened", Value::Null, Value::Null),
        ] {
            assert_eq!(
                (&find(name)["source"], &find(name)["wire_name"]),
                (&source, &wire_name),
                "{name}"
            );
        }
        let example = &find("organisation.created")["example"];
        let guide: Value = serde_json::from_str(FROM_THE_GUIDE).expect("JSON");
        for member in ["event", "timestamp", "user_id", "data"] {
            assert_eq!(example[member], guide[member], "{member}");
        }
        assert_eq!(
            example["entity"],
            json!({"kind": "organisation", "id": "51", "sequence": 1})
        );
        assert_eq!(
            items.iter().filter(|item| item["source"] == "crm").count(),
            13 + 3
        );
        let url = format!("{}/api/v1/webhooks/events/available", node.base);
        assert_eq!(
            node.send_request(node.client.get(url).bearer_auth(PUBLISHER))
                .await
                .status,
            403
        );
        // Every event listed as published can be published.
        assert!(
            items.iter().all(|item| item["example"]["data"].is_object()),
            "{items:#?}"
        );
        for item in items.iter().filter(|item| item["source"] == "crm") {
            assert_eq!(publish(&node, &item["example"]).await.status, 202, "{item}");
        }
        node.stop().await;
    });
}

#[test]
fn a_list_with_an_unknown_outcome_must_be_sent_again_as_a_whole() {
    run_async(async {
        let mut test_env = test_env();
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        let list =
            json!([keyed(updated(1, 1), "k-1"), keyed(updated(2, 1), "k-2"), {"event": "no.such"}]);
        disk_failure.fail(FailurePlace::Sync, 2);
        let answer = publish(&node, &list).await;
        assert_eq!(
            (code(&answer), answer.header("retry-after")),
            ((503, "unavailable"), Some("1"))
        );
        until_readyz_is(&node, 200).await;
        let again = publish(&node, &list).await;
        let count = |name: &str| {
            again.body[name]
                .as_u64()
                .unwrap_or_else(|| panic!("{again:?}"))
        };
        assert_eq!(
            (count("accepted") + count("duplicates"), count("failed")),
            (2, 1)
        );
        assert_eq!(total(&node).await, 2);
        node.stop().await;
    });
}

#[test]
fn the_exchange_log_names_the_events_of_a_list_and_no_token() {
    run_async(async {
        let test_env = test_env();
        let node = test_env.start().await;
        let answer = publish(
            &node,
            &json!([updated(1, 1), {"event": "no.such"}, updated(2, 1)]),
        )
        .await;
        let rows = node.get("/api/v1/webhooks/logs").await.body;
        let row = &rows["items"][0];
        assert_eq!(
            (&row["source"], &row["path"], &row["status"]),
            (&json!("crm"), &json!(EVENTS), &json!(202))
        );
        let ids: Vec<_> = answer.body["events"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|e| e["event_id"].clone())
            .collect();
        assert_eq!(row["event_ids"], json!(ids));
        let whole = node
            .get(&format!("/api/v1/webhooks/logs/{}", row["id"]))
            .await
            .body
            .to_string();
        assert!(!whole.contains(PUBLISHER), "{whole}");
        node.stop().await;
    });
}
