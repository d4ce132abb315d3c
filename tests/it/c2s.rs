//! Lead events of Contact2Sale: single or in lists, applied once, in order, and answered as the
//! contract says.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hookyard::failpoints::{Failpoint, FailureInjector};
use parking_lot::{Condvar, Mutex};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::hooked_disk::{DiskHooks, HookedDisk};
use crate::test_node::{
    START, TestAnswer, TestClient, TestEnv, TestNode, expect_soon, run_async, run_together,
};

pub const C2S: &str = "/api/v1/webhooks/c2s";
pub const C2S_TOKEN: &str = "test-webhook-token";

/// Environment with the source enabled, without rate limits, and with the configuration `keys`.
pub fn test_env(keys: &[(&str, &str)]) -> TestEnv {
    let own = [
        ("sources.c2s.enabled", "true"),
        (
            "sources.c2s.tokens",
            "an-older-webhook-token,test-webhook-token",
        ),
        ("sources.c2s.rate_per_minute", "0"),
        ("sources.c2s.lead_rate_per_minute", "0"),
    ];
    TestEnv::new(&[&own, keys].concat())
}

fn unsigned(client: &TestClient, body: &str) -> RequestBuilder {
    let request = client
        .client
        .post(format!("{}{C2S}", client.base))
        .header("content-type", "application/json");
    request.body(body.to_owned())
}

pub async fn send(client: &TestClient, body: &Value) -> TestAnswer {
    send_text(client, &body.to_string()).await
}

async fn send_text(client: &TestClient, body: &str) -> TestAnswer {
    client
        .send_request(unsigned(client, body).header("x-webhook-token", C2S_TOKEN))
        .await
}

/// Event of `lead_id` at `minute` past ten.
pub fn event(lead_id: impl Into<Value>, minute: u32) -> Value {
    let updated_at = format!("2025-01-20T10:{minute:02}:00Z");
    let customer = json!({"name": format!("Ana {minute}"), "email": "ana@example.com"});
    let lead_id: Value = lead_id.into();
    json!({"lead_id": lead_id, "updated_at": updated_at, "hook_action": "lead.updated", "customer": customer})
}

/// Counters in an answer of 200.
fn summary(received: u32, processed: u32, duplicates: u32) -> Value {
    let failed = received - processed - duplicates;
    assert_eq!(failed, 0, "a list of errors is needed");
    json!({
        "status": "success", "received": received, "processed": processed, "duplicates": duplicates,
        "failed": 0, "errors": [],
    })
}

fn class(answer: &TestAnswer) -> (u16, &str) {
    (
        answer.status,
        answer.body["code"].as_str().unwrap_or_default(),
    )
}

pub async fn lead(client: &TestClient, id: &str) -> Value {
    let answer = client.get(&format!("/api/v1/entities/c2s_lead/{id}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

/// Returns the first hundred items of a lead's timeline, oldest first.
pub async fn timeline(client: &TestClient, id: &str) -> Vec<Value> {
    let answer = client
        .get(&format!(
            "/api/v1/entities/c2s_lead/{id}/timeline?page_size=100"
        ))
        .await;
    let mut items = answer.body["items"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer:?}"))
        .clone();
    items.reverse();
    items
}

/// Runs the eight checks of the script in the source document.
#[test]
fn the_documented_script_runs_green() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let first = event("test-lead-001", 0);
        let missing = node.send_request(unsigned(&node, &first.to_string())).await;
        assert_eq!(missing.status, 401);
        let invalid = unsigned(&node, &first.to_string()).header("x-webhook-token", "wrong");
        assert_eq!(node.send_request(invalid).await.status, 401);
        let single = send(&node, &first).await;
        assert_eq!((single.status, &single.body), (200, &summary(1, 1, 0)));
        let duplicate = send(&node, &first).await;
        assert_eq!(
            (duplicate.status, &duplicate.body),
            (200, &summary(1, 0, 1))
        );
        let later = send(&node, &event("test-lead-001", 1)).await;
        assert_eq!((later.status, &later.body), (200, &summary(1, 1, 0)));
        let batch = json!([
            event("test-lead-002", 0),
            event("test-lead-003", 0),
            event("test-lead-004", 0)
        ]);
        let batch = send(&node, &batch).await;
        assert_eq!((batch.status, &batch.body), (200, &summary(3, 3, 0)));
        assert_eq!(
            send(&node, &json!({"lead_id": "test-lead-005"}))
                .await
                .status,
            400
        );
        let invalid = json!({"lead_id": "test-lead-006", "updated_at": "not-a-timestamp"});
        assert_eq!(send(&node, &invalid).await.status, 400);
        let health = node.get("/health").await;
        assert_eq!(
            (health.status, &health.body),
            (200, &node.get("/healthz").await.body)
        );
        node.stop().await;
    });
}

#[test]
fn checks_are_made_in_their_order_and_every_refusal_has_its_code() {
    run_async(async {
        let mut test_env = test_env(&[
            ("server.body_limit_bytes", "1024"),
            ("sources.c2s.rate_per_minute", "6"),
        ]);
        test_env.with_manual_clock();
        let node = test_env.start().await;
        let large = "x".repeat(1025);
        let authentic = |body: &str| unsigned(&node, body).header("x-webhook-token", C2S_TOKEN);
        let older = unsigned(&node, &event(1, 0).to_string())
            .header("x-webhook-token", "an-older-webhook-token");
        let cases = [
            (unsigned(&node, &large), 413, "body_too_large"),
            (unsigned(&node, "{"), 401, "unauthorized"),
            (
                unsigned(&node, "{").header("x-webhook-token", ""),
                401,
                "unauthorized",
            ),
            (
                unsigned(&node, "{").header("x-webhook-token", "test-webhook-toke"),
                401,
                "unauthorized",
            ),
            (
                unsigned(&node, "{").bearer_auth(C2S_TOKEN),
                401,
                "unauthorized",
            ),
            (
                authentic("{").header("content-type", "text/plain"),
                400,
                "invalid_json",
            ),
            (
                node.client
                    .post(format!("{}{C2S}/", node.base))
                    .header("x-webhook-token", C2S_TOKEN)
                    .header("content-type", "text/plain")
                    .body("{"),
                415,
                "unsupported_media_type",
            ),
            (authentic("7"), 400, "invalid_json"),
            (authentic("[]"), 400, "validation_failed"),
            (authentic("{}"), 400, "validation_failed"),
            (older, 200, ""),
            (authentic("{}"), 429, "rate_limited"),
            (
                node.client.get(format!("{}{C2S}", node.base)),
                405,
                "method_not_allowed",
            ),
        ];
        for (number, (request, status, code)) in (1..).zip(cases) {
            let answer = node.send_request(request).await;
            assert_eq!(class(&answer), (status, code), "case {number}: {answer:?}");
        }
        assert_eq!(node.get("/api/v1/events").await.body["total"], 1);
        node.stop().await;
    });
}

#[test]
fn the_endpoint_exists_only_where_it_is_enabled() {
    run_async(async {
        let node = TestEnv::new(&[]).start().await;
        assert_eq!(class(&send(&node, &event(1, 0)).await), (404, "not_found"));
        node.stop().await;
    });
}

#[test]
fn the_answer_to_a_wrong_event_names_every_field_and_nothing_is_stored() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let answer = send(&node, &json!({"updated_at": 7, "customer": []})).await;
        let errors = json!([
            {"field": "lead_id", "detail": "lead_id is required"},
            {"field": "updated_at", "detail": "updated_at must be an RFC 3339 time, not a number"},
            {"field": "customer", "detail": "customer must be an object, not a list"},
        ]);
        let body =
            json!({"detail": "lead_id is required", "code": "validation_failed", "errors": errors});
        assert_eq!((answer.status, &answer.body), (400, &body));
        let answer = send(&node, &json!([{"lead_id": 1}, 7])).await;
        let errors = json!([
            {"field": "[0].updated_at", "detail": "[0].updated_at is required"},
            {"field": "[1].event", "detail": "[1].event must be a JSON object of valid Unicode text"},
        ]);
        assert_eq!(
            (class(&answer), &answer.body["errors"]),
            ((400, "validation_failed"), &errors)
        );
        let many = Value::Array((0..1_001).map(|n| event(n, 0)).collect());
        let answer = send(&node, &many).await;
        assert_eq!(
            (class(&answer), &answer.body["detail"]),
            (
                (400, "validation_failed"),
                &json!("body must have 1 to 1000 events")
            )
        );
        assert_eq!(node.get("/api/v1/events").await.body["total"], 0);
        node.stop().await;
    });
}

#[test]
fn in_a_list_each_event_stands_by_itself_and_order_is_kept() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let twice = event("7", 2);
        let list = json!([event(7, 1), {"lead_id": 7}, twice, "no event", twice, event(8, 1), event("7", 3)]);
        let answer = send(&node, &list).await;
        let errors = json!([
            {"index": 1, "field": "updated_at", "detail": "updated_at is required"},
            {"index": 3, "field": "event", "detail": "event must be a JSON object of valid Unicode text"},
        ]);
        let expected = json!({
            "status": "success", "received": 7, "processed": 4, "duplicates": 1, "failed": 2, "errors": errors,
        });
        assert_eq!((answer.status, &answer.body), (200, &expected));
        assert_eq!(answer.header("x-event-id"), None, "there is no single one");
        let order: Vec<_> = timeline(&node, "7")
            .await
            .iter()
            .map(|item| item["data"]["updated_at"].clone())
            .collect();
        assert_eq!(
            order,
            [
                "2025-01-20T10:01:00Z",
                "2025-01-20T10:02:00Z",
                "2025-01-20T10:03:00Z"
            ]
        );
        assert_eq!(lead(&node, "7").await["state"]["customer"]["name"], "Ana 3");
        assert_eq!(lead(&node, "8").await["sequence"], 1);
        node.stop().await;
    });
}

#[test]
fn an_event_is_kept_as_it_was_sent_and_completes_at_once() {
    run_async(async {
        let mut test_env = test_env(&[]);
        test_env.with_manual_clock();
        let node = test_env.start().await;
        let body = r#"{"attributes": {"updated_at": "2025-01-20T12:00:00+02:00", "price": 10.50}, "lead_id": 7, "x": null}"#;
        let answer = send_text(&node, body).await;
        assert_eq!(
            (answer.status, answer.header("x-entity-sequence")),
            (200, Some("1"))
        );
        let id = answer
            .header("x-event-id")
            .expect("it is the only one")
            .to_owned();
        let event = node.get(&format!("/api/v1/events/{id}")).await.body;
        let expected = json!({
            "event_id": id, "source": "c2s", "type": "c2s_lead.received",
            "entity": {"kind": "c2s_lead", "id": "7", "sequence": 1},
            "status": "completed", "code": null, "error_message": null,
            "received_at": START, "processing_at": START, "processed_at": START,
            "payload": serde_json::from_str::<Value>(body).expect("JSON"),
        });
        assert_eq!(event, expected);
        let lead = lead(&node, "7").await;
        let expected = json!({
            "lead_id": 7, "updated_at": "2025-01-20T10:00:00.000Z", "x": null, "enriched": null,
            "attributes": {"updated_at": "2025-01-20T12:00:00+02:00", "price": 10.5},
        });
        assert_eq!(
            (&lead["kind"], &lead["state"]),
            (&json!("c2s_lead"), &expected)
        );
        let item = &timeline(&node, "7").await[0];
        assert_eq!(
            (&item["type"], &item["at"]),
            (
                &json!("c2s_lead.received"),
                &json!("2025-01-20T10:00:00.000Z")
            )
        );
        assert_eq!(
            (&item["summary"], &item["late"]),
            (&json!("event received, 4 fields set"), &json!(false))
        );
        assert_eq!(
            item["data"],
            serde_json::from_str::<Value>(body).expect("JSON"),
            "the whole event"
        );
        node.stop().await;
    });
}

#[test]
fn an_older_event_is_recorded_as_late_and_the_lead_keeps_its_newer_fields() {
    run_async(async {
        let node = test_env(&[]).start().await;
        send(&node, &event("7", 5)).await;
        let late = send(&node, &event("7", 3)).await;
        assert_eq!((late.status, &late.body), (200, &summary(1, 1, 0)));
        let lead = lead(&node, "7").await;
        assert_eq!(
            (&lead["state"]["customer"]["name"], &lead["sequence"]),
            (&json!("Ana 5"), &json!(2))
        );
        let late: Vec<_> = timeline(&node, "7")
            .await
            .iter()
            .map(|item| item["late"].clone())
            .collect();
        assert_eq!(late, [false, true]);
        assert_eq!(
            send(&node, &event("7", 3)).await.body,
            summary(1, 0, 1),
            "late ones are remembered too"
        );
        node.stop().await;
    });
}

#[test]
fn two_spellings_of_one_instant_or_one_lead_are_the_same_event() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let event = |lead_id: Value, updated_at: &str| json!({"lead_id": lead_id, "updated_at": updated_at});
        assert_eq!(
            send(&node, &event(json!(7), "2025-01-20T10:00:00Z"))
                .await
                .body,
            summary(1, 1, 0)
        );
        let same = [
            "2025-01-20T10:00:00.000000Z",
            "2025-01-20T11:00:00+01:00",
            "2025-01-19T22:00:00-12:00",
        ];
        for updated_at in same {
            assert_eq!(
                send(&node, &event(json!("7"), updated_at)).await.body,
                summary(1, 0, 1),
                "{updated_at}"
            );
        }
        let among = json!({"lead_id": "7", "attributes": {"updated_at": "2025-01-20T10:00:00Z"}});
        assert_eq!(send(&node, &among).await.body, summary(1, 0, 1));
        assert_eq!(
            send(&node, &event(json!(7), "2025-01-20T10:00:00.000001Z"))
                .await
                .body,
            summary(1, 1, 0)
        );
        assert_eq!(
            send(&node, &event(json!("8"), "2025-01-20T10:00:00Z"))
                .await
                .body,
            summary(1, 1, 0)
        );
        node.stop().await;
    });
}

#[test]
fn the_same_event_many_times_at_once_is_processed_once() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let requests = (0..32).map(|n| {
            let client = node.api.clone();
            let one = event("7", 0);
            async move { send(&client, &if n % 2 == 0 { one } else { json!([one]) }).await }
        });
        let answers = run_together(requests).await;
        let count = |member: &str| {
            answers
                .iter()
                .map(|answer| answer.body[member].as_u64().expect("a count"))
                .sum::<u64>()
        };
        assert!(
            answers.iter().all(|answer| answer.status == 200),
            "{answers:?}"
        );
        assert_eq!((count("processed"), count("duplicates")), (1, 31));
        assert_eq!(lead(&node, "7").await["sequence"], 1);
        node.stop().await;
    });
}

#[test]
fn a_duplicate_is_known_after_a_restart_and_after_years() {
    run_async(async {
        let mut test_env = test_env(&[]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        send(&node, &json!([event("7", 0), event("7", 1)])).await;
        node.stop().await;
        let node = test_env.start().await;
        assert_eq!(send(&node, &event(7, 0)).await.body, summary(1, 0, 1));
        clock.advance(Duration::from_secs(3 * 365 * 24 * 60 * 60));
        assert_eq!(
            send(&node, &json!([event("7", 1), event("7", 2)]))
                .await
                .body,
            summary(2, 1, 1)
        );
        node.stop().await;
        let node = test_env.start().await;
        assert_eq!(send(&node, &event("7", 2)).await.body, summary(1, 0, 1));
        assert_eq!(
            node.get("/api/v1/events?source=c2s").await.body["total"],
            3,
            "duplicates leave no record"
        );
        node.stop().await;
    });
}

#[test]
fn a_duplicate_is_known_after_a_crash() {
    run_async(async {
        let test_env = test_env(&[]);
        let mut process = test_env.start_process().await;
        let events: Vec<_> = (0..20).map(|minute| event("7", minute)).collect();
        assert_eq!(
            send(&process, &json!(events)).await.body,
            summary(20, 20, 0)
        );
        process.kill();
        let node = test_env.start().await;
        assert_eq!(send(&node, &json!(events)).await.body, summary(20, 0, 20));
        assert_eq!(timeline(&node, "7").await.len(), 20);
        node.stop().await;
    });
}

/// An event from the future counts as one of now; otherwise every later true event would be late.
#[test]
fn a_time_far_ahead_makes_nothing_else_late_and_is_a_duplicate_of_itself() {
    run_async(async {
        let mut test_env = test_env(&[]);
        test_env.with_manual_clock();
        let node = test_env.start().await;
        let ahead = json!({"lead_id": 7, "updated_at": "2031-01-01T00:00:00Z", "customer": {"name": "Ahead"}});
        let now = json!({"lead_id": 7, "updated_at": START, "customer": {"name": "Now"}});
        assert_eq!(
            send(&node, &json!([ahead, now, ahead])).await.body,
            summary(3, 2, 1)
        );
        let late: Vec<_> = timeline(&node, "7")
            .await
            .iter()
            .map(|item| item["late"].clone())
            .collect();
        assert_eq!(late, [false, false]);
        assert_eq!(lead(&node, "7").await["state"]["customer"]["name"], "Now");
        node.stop().await;
    });
}

#[test]
fn a_lead_s_bucket_empties_and_fills_up_and_duplicates_take_nothing() {
    run_async(async {
        let mut test_env = test_env(&[
            ("sources.c2s.lead_rate_per_minute", "3"),
            ("sources.c2s.rate_per_minute", "100"),
        ]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        for _ in 0..5 {
            assert_eq!(send(&node, &event("7", 0)).await.status, 200);
        }
        let answer = send(
            &node,
            &json!([event("7", 1), event("8", 1), event("7", 2), event("7", 3)]),
        )
        .await;
        let detail = "rate limit of 3 a minute is used up for this lead_id, send the event again";
        let expected = json!({
            "status": "success", "received": 4, "processed": 3, "duplicates": 0, "failed": 1,
            "errors": [{"index": 3, "field": "lead_id", "detail": detail}],
        });
        assert_eq!((answer.status, &answer.body), (200, &expected));
        let refused = send(&node, &event("7", 3)).await;
        assert_eq!(
            (class(&refused), refused.header("retry-after")),
            ((429, "rate_limited"), Some("20"))
        );
        assert_eq!(
            refused.header("ratelimit-limit"),
            Some("3"),
            "the limit that is used up"
        );
        assert_eq!(send(&node, &json!([event("7", 3)])).await.body["failed"], 1);
        clock.advance(Duration::from_secs(20));
        assert_eq!(send(&node, &event("7", 3)).await.body, summary(1, 1, 0));
        assert_eq!(send(&node, &event("7", 4)).await.status, 429);
        assert_eq!(timeline(&node, "7").await.len(), 4);
        node.stop().await;
    });
}

/// Regression: the third event was refused each time, because the two duplicates before it held
/// tokens that they returned later.
#[test]
fn a_list_longer_than_a_bucket_is_completed_by_sending_it_again() {
    run_async(async {
        let mut test_env = test_env(&[("sources.c2s.lead_rate_per_minute", "2")]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        let list = json!([
            event("7", 0),
            event("8", 0),
            event("7", 1),
            event("7", 2),
            event("7", 3),
            event("7", 4)
        ]);
        let counts = |answer: &TestAnswer| {
            ["processed", "duplicates", "failed"]
                .map(|name| answer.body[name].as_u64().expect("a count"))
        };
        let first = send(&node, &list).await;
        assert_eq!(counts(&first), [3, 0, 3]);
        let refused = |answer: &TestAnswer| -> Vec<Value> {
            let errors = answer.body["errors"].as_array().expect("a list");
            errors.iter().map(|error| error["index"].clone()).collect()
        };
        assert_eq!(refused(&first), [3, 4, 5], "in the list's order");
        clock.advance(Duration::from_secs(60));
        assert_eq!(counts(&send(&node, &list).await), [2, 3, 1]);
        clock.advance(Duration::from_secs(60));
        assert_eq!(counts(&send(&node, &list).await), [1, 5, 0]);
        clock.advance(Duration::from_secs(60));
        assert_eq!(send(&node, &list).await.body, summary(6, 0, 6));
        assert_eq!(timeline(&node, "7").await.len(), 5);
        node.stop().await;
    });
}

#[test]
fn an_address_has_a_window_of_its_own() {
    run_async(async {
        let mut test_env = test_env(&[
            ("sources.c2s.rate_per_minute", "2"),
            ("server.trusted_proxies", "127.0.0.0/8"),
        ]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        let from = |address: &str, minute| {
            let request = unsigned(&node, &event("7", minute).to_string())
                .header("x-webhook-token", C2S_TOKEN);
            node.send_request(request.header("x-forwarded-for", address.to_owned()))
        };
        let first = from("203.0.113.9", 1).await;
        let quota = |answer: &TestAnswer| {
            ["limit", "remaining", "reset"].map(|name| {
                answer
                    .header(&format!("ratelimit-{name}"))
                    .unwrap_or_default()
                    .to_owned()
            })
        };
        assert_eq!(
            (first.status, quota(&first)),
            (200, ["2", "1", "60"].map(str::to_owned))
        );
        assert_eq!(from("203.0.113.9", 2).await.status, 200);
        let refused = from("203.0.113.9", 3).await;
        assert_eq!(
            (class(&refused), refused.header("retry-after")),
            ((429, "rate_limited"), Some("60"))
        );
        assert_eq!(from("203.0.113.10", 3).await.status, 200);
        clock.advance(Duration::from_secs(60));
        assert_eq!(from("203.0.113.9", 4).await.status, 200);
        node.stop().await;
    });
}

#[test]
fn only_listed_addresses_may_call_also_behind_a_proxy() {
    run_async(async {
        let listed = ("sources.c2s.ip_allowlist", "203.0.113.0/24, 2001:db8::/32");
        let test_env = test_env(&[listed, ("server.trusted_proxies", "127.0.0.0/8")]);
        let node = test_env.start().await;
        let body = event("7", 0).to_string();
        let from = |address: &'static str| {
            let request = unsigned(&node, &body).header("x-webhook-token", C2S_TOKEN);
            node.send_request(request.header("x-forwarded-for", address))
        };
        for (address, status) in [
            ("203.0.113.9", 200),
            ("2001:db8::7", 200),
            ("198.51.100.1", 403),
            ("203.0.113.9, 198.51.100.1", 403),
            ("198.51.100.1, 203.0.113.9", 200),
        ] {
            assert_eq!(from(address).await.status, status, "{address}");
        }
        let refused = node.send_request(unsigned(&node, &body)).await;
        assert_eq!(
            class(&refused),
            (403, "forbidden"),
            "before the token is looked at"
        );
        node.stop().await;
    });
}

/// Disk that blocks until the requested number of events was decided, and counts its syncs.
#[derive(Default)]
struct CountingDisk {
    state: Mutex<(usize, usize)>,
    decided: Condvar,
    awaited: usize,
}

impl FailureInjector for CountingDisk {
    fn evaluate(&self, point: Failpoint<'_>) -> io::Result<()> {
        if matches!(point, Failpoint::Decide(_)) {
            self.state.lock().0 += 1;
            self.decided.notify_all();
        }
        Ok(())
    }
}

impl DiskHooks for CountingDisk {
    fn before_sync(&self) -> io::Result<()> {
        // The node commits before the list too, such as the cursor of its deliveries.
        let mut state = self.state.lock();
        if state.0 > 0 {
            state.1 += 1;
            self.decided
                .wait_while(&mut state, |(decided, _)| *decided < self.awaited);
        }
        Ok(())
    }
}

#[test]
fn a_list_of_a_thousand_takes_two_commits_at_most() {
    run_async(async {
        let mut test_env = test_env(&[]);
        let disk = Arc::new(CountingDisk {
            awaited: 1_001,
            ..CountingDisk::default()
        });
        test_env.deps.failure_injector = Arc::clone(&disk) as Arc<dyn FailureInjector>;
        test_env.deps.disk = Arc::new(HookedDisk(Arc::clone(&disk) as Arc<dyn DiskHooks>));
        let node = test_env.start().await;
        let minutes = (0..1_000).map(|n| {
            let time = format!(
                "2025-01-20T{:02}:{:02}:{:02}Z",
                n / 3600,
                n / 60 % 60,
                n % 60
            );
            json!({"lead_id": 7, "updated_at": time})
        });
        let list: Vec<_> = minutes.collect();
        let (client, body) = (node.api.clone(), json!(list));
        let batch = actix_rt::spawn(async move { send(&client, &body).await });
        while disk.state.lock().0 < 1_000 {
            tokio::task::yield_now().await;
        }
        // A duplicate confirms that all events before it are in flight, and needs no commit of its
        // own.
        let (duplicate, batch) =
            tokio::join!(expect_soon(send(&node, &list[999])), expect_soon(batch));
        assert_eq!(duplicate.body, summary(1, 0, 1));
        assert_eq!(batch.expect("no panic").body, summary(1_000, 1_000, 0));
        let commits = disk.state.lock().1;
        // One more may hold a checkpoint of deliveries.
        assert!((1..=3).contains(&commits), "{commits} commits");
        node.stop().await;
    });
}

#[test]
fn a_list_that_found_no_room_is_to_be_sent_again_and_has_taken_no_tokens() {
    run_async(async {
        let mut test_env = test_env(&[
            ("router.in_flight_events_max", "16"),
            ("sources.c2s.lead_rate_per_minute", "12"),
        ]);
        let dam = test_env.with_disk_gate();
        let node = test_env.start().await;
        dam.close();
        let mut waiting = JoinSet::new();
        for number in 100..117 {
            let client = node.api.clone();
            waiting.spawn(async move { send(&client, &event(number, 0)).await });
        }
        let refused = expect_soon(waiting.join_next())
            .await
            .expect("one is too many")
            .expect("no panic");
        assert_eq!(class(&refused), (503, "overloaded"));
        let list: Vec<_> = (0..12).map(|minute| event("7", minute)).collect();
        let refused = expect_soon(send(&node, &json!(list))).await;
        assert_eq!(
            (class(&refused), refused.header("retry-after")),
            ((503, "overloaded"), Some("1"))
        );
        dam.open();
        let answers = expect_soon(waiting.join_all()).await;
        assert!(
            answers.iter().all(|answer| answer.body == summary(1, 1, 0)),
            "{answers:?}"
        );
        assert_eq!(
            expect_soon(send(&node, &json!(list))).await.body,
            summary(12, 12, 0)
        );
        let times: Vec<_> = timeline(&node, "7")
            .await
            .iter()
            .map(|item| item["at"].clone())
            .collect();
        let expected: Vec<_> = (0..12)
            .map(|minute| json!(format!("2025-01-20T10:{minute:02}:00.000Z")))
            .collect();
        assert_eq!(
            times, expected,
            "also in slices that are smaller than the list"
        );
        node.stop().await;
    });
}

/// The durable part of a list counts as duplicates after the rest failed with the store.
#[test]
fn a_list_that_a_crash_cut_off_is_completed_by_sending_it_again() {
    run_async(async {
        let test_env = test_env(&[]);
        let list: Vec<_> = (0..40).map(|minute| event(minute % 3, minute)).collect();
        for _ in 0..3 {
            let mut process = test_env.start_process().await;
            let (client, body) = (process.api.clone(), json!(list));
            let under_way = actix_rt::spawn(async move {
                let request =
                    unsigned(&client, &body.to_string()).header("x-webhook-token", C2S_TOKEN);
                request.send().await.map(drop)
            });
            tokio::task::yield_now().await;
            process.kill();
            // Ignored: the request may or may not have been answered.
            let _ = expect_soon(under_way).await.expect("no panic");
        }
        let node = test_env.start().await;
        let again = expect_soon(send(&node, &json!(list))).await;
        let count = |member: &str| again.body[member].as_u64().expect("a count");
        assert_eq!(
            (again.status, count("processed") + count("duplicates")),
            (200, 40),
            "{again:?}"
        );
        assert_eq!(
            node.get("/api/v1/events?source=c2s").await.body["total"],
            40
        );
        for (id, expected) in [("0", 14), ("1", 13), ("2", 13)] {
            assert_eq!(lead(&node, id).await["sequence"], expected, "{id}");
        }
        node.stop().await;
    });
}

#[test]
fn a_refusal_never_quotes_the_request() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let secret = "123.456.789-09";
        for body in [
            json!({"lead_id": [secret], "updated_at": secret}),
            json!([secret, {"customer": secret}]),
            json!(secret),
        ] {
            let answer = send(&node, &body).await;
            assert_eq!(answer.status, 400);
            assert!(!answer.body.to_string().contains(secret), "{answer:?}");
        }
        node.stop().await;
    });
}

/// Rebuilds the whole state from the journal alone.
#[test]
fn a_rebuilt_node_knows_the_same() {
    run_async(async {
        let test_env = test_env(&[]);
        let node: TestNode = test_env.start().await;
        let list: Vec<_> = [3, 1, 2, 5, 4].map(|minute| event("7", minute)).into();
        send(&node, &json!(list)).await;
        let before = lead(&node, "7").await;
        node.stop().await;
        crate::rebuild::rebuild(&test_env).expect("it can be rebuilt");
        let node = test_env.start().await;
        assert_eq!(lead(&node, "7").await, before);
        assert_eq!(send(&node, &json!(list)).await.body, summary(5, 0, 5));
        node.stop().await;
    });
}
