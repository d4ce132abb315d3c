//! The call log: every call of a source is a row, refused calls too, and no row contains a secret.

use hookyard::config::Secret;
use hookyard::edge::support::signature::sign_support_body;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::rebuild::rebuild;
use crate::test_node::{
    API_KEY, SECRET, START, SUPPORT, TOKEN, TestAnswer, TestClient, TestEnv, run,
};

const LOGS: &str = "/api/v1/webhooks/logs";

async fn list(gate: &TestClient, query: &str) -> Value {
    let answer = gate.get(&format!("{LOGS}?{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {answer:?}");
    answer.body
}

fn items(list: &Value) -> &Vec<Value> {
    list["items"].as_array().expect("items")
}

/// Returns all rows, newest first.
async fn all(gate: &TestClient) -> Vec<Value> {
    let mut rows = Vec::new();
    for page in 1.. {
        let list = list(gate, &format!("page={page}&page_size=100")).await;
        rows.extend(items(&list).clone());
        if page >= list["pages"].as_u64().expect("pages") {
            break;
        }
    }
    rows
}

fn ids(rows: &[Value]) -> Vec<u64> {
    rows.iter()
        .map(|row| row["id"].as_u64().expect("a number"))
        .collect()
}

async fn newest(gate: &TestClient) -> Value {
    let id = items(&list(gate, "page_size=1").await)[0]["id"].clone();
    gate.get(&format!("{LOGS}/{id}")).await.body
}

/// Call with an unknown key, which is refused.
fn junk(gate: &TestClient) -> RequestBuilder {
    gate.client
        .post(format!("{}{SUPPORT}", gate.base))
        .header("x-crm-api-key", "guessed")
        .body("{}")
}

#[test]
fn a_call_is_one_row_with_what_it_was_and_what_came_of_it() {
    run(async {
        let mut ground = TestEnv::new(&[]);
        ground.with_manual_clock();
        let yard = ground.start().await;
        let body = json!({"event": "message.created", "support_uid": "S", "data": {"message_id": "m", "text": "Hello"}});
        let body = body.to_string();
        let answer = yard
            .answer(
                yard.signed_request(&body, "k-1")
                    .header("user-agent", "crm/1.0"),
            )
            .await;
        assert_eq!(answer.status, 202, "{answer:?}");
        let (event_id, id) = (
            answer.event_id(),
            items(&list(&yard, "").await)[0]["id"].clone(),
        );
        let row = json!({
            "id": id, "at": START, "direction": "incoming", "source": "support", "method": "POST", "path": SUPPORT,
            "status": 202, "code": null, "is_successful": true, "duration_ms": 0.0, "client_address": "127.0.0.1",
            "event_ids": [event_id],
        });
        let expected = json!({"items": [row], "total": 1, "page": 1, "page_size": 20, "pages": 1});
        assert_eq!(list(&yard, "").await, expected);
        for path in [format!("{LOGS}/{id}"), format!("{LOGS}/{id}/")] {
            let one = yard.get(&path).await.body;
            for (name, value) in row.as_object().expect("an object") {
                assert_eq!(one[name], *value, "{name}");
            }
            assert_eq!(
                one["body"],
                json!({"bytes": body.len(), "event_ids": [event_id]})
            );
            assert_eq!(one["answer"], answer.body);
            assert_eq!(one["answer_bytes"], answer.body.to_string().len());
            let headers = &one["headers"];
            assert_eq!(
                (&headers["user-agent"], &headers["idempotency-key"]),
                (&json!("crm/1.0"), &json!("k-1"))
            );
            assert_eq!(headers["x-crm-timestamp"], START);
            assert_eq!(
                (&headers["x-crm-api-key"], &headers["x-crm-signature"]),
                (&json!("…"), &json!("…"))
            );
        }
        yard.stop().await;
    });
}

#[test]
fn a_refused_call_is_logged_too() {
    run(async {
        let ground = TestEnv::new(&[
            ("server.body_limit_bytes", "1024"),
            ("sources.support.rate_per_minute", "4"),
        ]);
        let yard = ground.start().await;
        let url = format!("{}{SUPPORT}", yard.base);
        let message = |data: Value| {
            json!({"event": "message.created", "support_uid": "S", "data": data}).to_string()
        };
        let first = yard.message("S", "k").await;
        let forged = yard.signed_request("{}", "k").build().expect("a request");
        let mut headers = forged.headers().clone();
        headers.insert("x-crm-signature", "00".parse().expect("a header"));
        let calls: Vec<(RequestBuilder, u16, &str)> = vec![
            (junk(&yard), 401, "invalid_api_key"),
            (
                yard.client.post(&url).headers(headers).body("{}"),
                401,
                "invalid_signature",
            ),
            (
                yard.signed_request(&"x".repeat(2_000), "k"),
                413,
                "body_too_large",
            ),
            (yard.signed_request("{", "k"), 400, "invalid_json"),
            (
                yard.signed_request(&message(json!({})), "other"),
                400,
                "validation_failed",
            ),
            (
                yard.signed_request(&message(json!({"message_id": "k", "text": "k"})), "k"),
                409,
                "duplicate_event",
            ),
            (yard.signed_request("{}", "k"), 429, "rate_limited"),
        ];
        for (number, (call, status, code)) in (2..).zip(calls) {
            let answer = yard.answer(call).await;
            assert_eq!(
                (answer.status, &answer.body["code"]),
                (status, &json!(code)),
                "{answer:?}"
            );
            let row = newest(&yard).await;
            assert_eq!(
                (&row["status"], &row["code"]),
                (&json!(status), &json!(code))
            );
            assert_eq!(
                (&row["is_successful"], &row["source"]),
                (&json!(false), &json!("support"))
            );
            assert_eq!(row["answer"], answer.body);
            let events = if code == "duplicate_event" {
                json!([first.event_id()])
            } else {
                json!([])
            };
            assert_eq!(row["event_ids"], events, "{code}");
            assert_eq!(list(&yard, "").await["total"], number, "{code}");
        }
        yard.stop().await;
    });
}

#[test]
fn only_calls_of_sources_are_logged() {
    run(async {
        let ground = TestEnv::new(&[]);
        let yard = ground.start().await;
        for path in [
            "/healthz",
            "/readyz",
            "/nothing",
            "/docs",
            "/openapi.json",
            "/api/v1/events",
            "/api/v1/webhooks/logs/1",
        ] {
            yard.get(path).await;
        }
        yard.answer(yard.client.get(format!("{}{LOGS}", yard.base)))
            .await;
        assert_eq!(list(&yard, "").await["total"], 0);
        yard.stop().await;
    });
}

#[test]
fn lists_are_filtered_and_come_in_pages_newest_first() {
    run(async {
        let ground = TestEnv::new(&[]);
        let yard = ground.start().await;
        // Every third call is refused, so the two rings alternate.
        for number in 1..=30 {
            let status = if number % 3 == 0 {
                yard.answer(junk(&yard)).await.status
            } else {
                yard.message("S", &format!("k-{number}")).await.status
            };
            assert_eq!(status, if number % 3 == 0 { 401 } else { 202 });
        }
        let rows = all(&yard).await;
        assert_eq!(ids(&rows), (1..=30).rev().collect::<Vec<_>>());
        let successful = |value: bool| {
            rows.iter()
                .filter(move |row| row["is_successful"] == value)
                .cloned()
                .collect()
        };
        let cases: [(&str, Vec<Value>); 6] = [
            ("", rows.clone()),
            ("direction=incoming&", rows.clone()),
            ("direction=outgoing&", Vec::new()),
            ("is_successful=true&", successful(true)),
            ("is_successful=false&", successful(false)),
            ("direction=incoming&is_successful=false&", successful(false)),
        ];
        for (filter, expected) in cases {
            for page_size in [1, 7, 100] {
                let pages = expected.len().div_ceil(page_size);
                for page in 1..=pages + 1 {
                    let part =
                        list(&yard, &format!("{filter}page={page}&page_size={page_size}")).await;
                    let items: Vec<_> = expected
                        .iter()
                        .skip((page - 1) * page_size)
                        .take(page_size)
                        .collect();
                    let whole = json!({
                        "items": items, "total": expected.len(), "page": page, "page_size": page_size, "pages": pages,
                    });
                    assert_eq!(part, whole, "{filter} page {page} of {page_size}");
                }
            }
        }
        yard.stop().await;
    });
}

#[test]
fn what_is_asked_wrongly_is_named() {
    run(async {
        let ground = TestEnv::new(&[]);
        let yard = ground.start().await;
        yard.message("S", "k").await;
        let answer = yard
            .get(&format!(
                "{LOGS}?direction=up&is_successful=1&page_size=101&status=202"
            ))
            .await;
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (400, &json!("validation_failed"))
        );
        let errors = answer.body["errors"].as_array().expect("errors");
        let fields: Vec<_> = errors
            .iter()
            .map(|error| error["field"].as_str().expect("text"))
            .collect();
        assert_eq!(
            fields,
            ["status", "page_size", "direction", "is_successful"]
        );
        assert_eq!(yard.get(&format!("{LOGS}/1")).await.status, 200);
        assert_eq!(yard.get(&format!("{LOGS}/?page=1")).await.status, 200);
        assert_eq!(yard.get(&format!("{LOGS}/1?page=1")).await.status, 400);
        for unknown in ["2", "0", "+1", "01", "x", "99999999999999999999"] {
            let answer = yard.get(&format!("{LOGS}/{unknown}")).await;
            assert_eq!(
                (answer.status, &answer.body["code"]),
                (404, &json!("not_found")),
                "{unknown}"
            );
        }
        for path in [LOGS.to_owned(), format!("{LOGS}/1")] {
            assert_eq!(
                yard.answer(yard.client.get(format!("{}{path}", yard.base)))
                    .await
                    .status,
                401
            );
        }
        yard.stop().await;
    });
}

#[test]
fn no_secret_no_signature_and_no_message_is_in_any_row() {
    run(async {
        let ground = TestEnv::new(&[]);
        let yard = ground.start().await;
        let timestamp = ground.deps.clock.wall().to_string();
        let data = json!({"message_id": "m", "text": "my card is 4111"});
        let body =
            json!({"event": "message.created", "support_uid": "S", "data": data}).to_string();
        let signature = sign_support_body(&Secret::new(SECRET), body.as_bytes(), &timestamp);
        let (mut secrets, mut sent) = (
            vec![
                API_KEY,
                SECRET,
                TOKEN,
                "4111",
                "guessed",
                "in-query",
                "in-cookie",
            ],
            Vec::new(),
        );
        secrets.push(&signature);
        for (key, signature) in [
            (API_KEY, signature.as_str()),
            ("guessed", &signature),
            (API_KEY, "guessed"),
        ] {
            let request = yard
                .client
                .post(format!("{}{SUPPORT}?token=in-query", yard.base));
            let request = request
                .header("x-crm-api-key", key)
                .header("x-crm-signature", signature)
                .header("x-crm-timestamp", &timestamp)
                .header("idempotency-key", "k")
                .header("authorization", format!("Bearer {TOKEN}"))
                .header("cookie", "session=in-cookie")
                .header("referer", "https://crm.example/hooks?token=in-query");
            sent.push(yard.answer(request.body(body.clone())).await.status);
        }
        assert_eq!(sent, [202, 401, 401]);
        let mut told = vec![list(&yard, "").await.to_string()];
        for id in 1..=3 {
            told.push(yard.get(&format!("{LOGS}/{id}")).await.body.to_string());
        }
        for text in &told {
            assert!(text.contains("support"), "{text}");
            for secret in &secrets {
                assert!(!text.contains(secret), "{secret} is in {text}");
            }
        }
        yard.stop().await;
    });
}

#[test]
fn junk_does_not_push_out_good_rows() {
    run(async {
        let ground = TestEnv::new(&[
            ("call_log.refused_rows_max", "20"),
            ("call_log.rows_max", "10"),
            ("server.auth_failures_per_minute", "100"),
        ]);
        let yard = ground.start().await;
        let good = yard.message("S", "good").await.event_id();
        for number in 0..150 {
            let answer = yard.answer(junk(&yard)).await;
            assert_eq!(answer.status, if number < 100 { 401 } else { 429 });
        }
        assert_eq!(list(&yard, "is_successful=false").await["total"], 20);
        let kept = list(&yard, "is_successful=true").await;
        assert_eq!(
            (kept["total"].as_u64(), &kept["items"][0]["event_ids"]),
            (Some(1), &json!([good]))
        );
        for number in 0..15 {
            assert_eq!(yard.message("S", &format!("k-{number}")).await.status, 202);
        }
        assert_eq!(list(&yard, "is_successful=true").await["total"], 10);
        yard.stop().await;
    });
}

#[test]
fn rows_survive_a_restart_and_a_rebuild() {
    let ground = TestEnv::new(&[]);
    let before = run(async {
        let yard = ground.start().await;
        for number in 0..130 {
            yard.message("S", &format!("k-{number}")).await;
            yard.answer(junk(&yard)).await;
        }
        let before = all(&yard).await;
        yard.stop().await;
        before
    });
    assert_eq!(ids(&before), (1..=260).rev().collect::<Vec<_>>());
    run(async {
        let yard = ground.start().await;
        assert_eq!(all(&yard).await, before);
        yard.stop().await;
    });
    rebuild(&ground).expect("it rebuilds");
    run(async {
        let yard = ground.start().await;
        assert_eq!(all(&yard).await, before);
        yard.message("S", "new").await;
        assert_eq!(all(&yard).await[0]["id"], 261);
        yard.stop().await;
    });
}

/// Rows of the last moments may be lost; the others are unchanged, and no seen number is used
/// again.
#[test]
fn a_kill_costs_the_last_rows_at_most() {
    run(async {
        let ground = TestEnv::new(&[]);
        let mut kept = Vec::new();
        for life in 0..4_u64 {
            let mut process = ground.start_process().await;
            let found = all(&process).await;
            assert!(
                found.ends_with(&kept),
                "life {life}: {found:?} after {kept:?}"
            );
            for number in 0..40 {
                let TestAnswer { status, .. } =
                    process.message("S", &format!("{life}-{number}")).await;
                assert_eq!(status, 202);
            }
            let seen = all(&process).await;
            assert!(ids(&seen).is_sorted_by(|a, b| a > b), "{seen:?}");
            assert_eq!(seen.len(), found.len() + 40);
            process.kill();

            let yard = ground.start().await;
            let left = all(&yard).await;
            assert!(seen.ends_with(&left), "life {life}: {left:?} of {seen:?}");
            yard.answer(junk(&yard)).await;
            kept = all(&yard).await;
            assert!(
                ids(&kept)[0] > ids(&seen)[0],
                "number {} came again",
                ids(&kept)[0]
            );
            yard.stop().await;
        }
    });
}

/// Regression: a call with a method that the path does not accept was attributed to no source, so
/// the operator could not find it.
#[test]
fn a_method_that_a_source_does_not_take_is_logged_as_its_call() {
    run(async {
        let mut ground = TestEnv::new(&[
            ("sources.leads.enabled", "true"),
            ("sources.c2s.enabled", "true"),
            ("sources.c2s.tokens", "test-token"),
            ("sources.instagram.enabled", "true"),
            ("sources.instagram.app_secrets", "test-secret"),
            ("sources.instagram.verify_token", "test-token"),
            ("sources.crm.enabled", "true"),
            ("sources.crm.tokens", "test-publisher"),
        ]);
        ground.write_file(
            "[[sources.custom]]\nname = \"door\"\nsecrets = [\"in-header\"]\nentity = \"/id\"\nevent = \"X-Event\"\n\
             scheme = { header = \"X-Opens\", algorithm = \"token\" }\n",
        );
        let yard = ground.start().await;
        let paths = [
            (SUPPORT, "support"),
            ("/api/v1/webhooks/incoming", "leads"),
            ("/api/v1/webhooks/incoming/lead/7/update/", "leads"),
            ("/api/v1/webhooks/c2s", "c2s"),
            ("/webhooks/instagram", "instagram"),
            ("/api/v1/events", "crm"),
            ("/in/door", "door"),
        ];
        for (number, (path, source)) in (1..).zip(paths) {
            let request = yard
                .client
                .patch(format!("{}{path}", yard.base))
                .header("x-opens", "in-header");
            let answer = yard.answer(request).await;
            assert_eq!(
                (answer.status, &answer.body["code"]),
                (405, &json!("method_not_allowed")),
                "{path}"
            );
            let row = newest(&yard).await;
            assert_eq!(
                (&row["source"], &row["method"], &row["path"]),
                (&json!(source), &json!("PATCH"), &json!(path))
            );
            assert_eq!(
                (&row["status"], &row["code"]),
                (&json!(405), &json!("method_not_allowed"))
            );
            assert_eq!(list(&yard, "").await["total"], number, "{path}");
        }
        let of_door = newest(&yard).await;
        assert_eq!(
            of_door["headers"]["x-opens"], "…",
            "the header that its secret comes in"
        );
        for path in [
            "/healthz",
            "/api/v1/accounts",
            "/api/v1/entities/ticket",
            "/docs",
        ] {
            let answer = yard
                .answer(yard.client.patch(format!("{}{path}", yard.base)))
                .await;
            assert_eq!(answer.status, 405, "{path}");
        }
        assert_eq!(
            list(&yard, "").await["total"],
            paths.len(),
            "nobody's call is a row"
        );
        yard.stop().await;
    });
}
