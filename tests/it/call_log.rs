//! The call log: every call of a source is a row, refused calls too, and no row contains a secret.

use hookyard::config::Secret;
use hookyard::edge::support::signature::sign_support_body;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::rebuild::rebuild;
use crate::test_node::{
    API_KEY, SECRET, START, SUPPORT, TOKEN, TestAnswer, TestClient, TestEnv, message_text,
    run_async,
};

const LOGS: &str = "/api/v1/webhooks/logs";

async fn list(client: &TestClient, query: &str) -> Value {
    let answer = client.get(&format!("{LOGS}?{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {answer:?}");
    answer.body
}

fn items(list: &Value) -> &Vec<Value> {
    list["items"].as_array().expect("items")
}

/// Returns all rows, newest first.
async fn all(client: &TestClient) -> Vec<Value> {
    let mut rows = Vec::new();
    for page in 1.. {
        let list = list(client, &format!("page={page}&page_size=100")).await;
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

async fn newest(client: &TestClient) -> Value {
    let id = items(&list(client, "page_size=1").await)[0]["id"].clone();
    client.get(&format!("{LOGS}/{id}")).await.body
}

/// Call with an unknown key, which is refused.
fn junk(client: &TestClient) -> RequestBuilder {
    client
        .client
        .post(format!("{}{SUPPORT}", client.base))
        .header("x-crm-api-key", "guessed")
        .body("{}")
}

#[test]
fn a_call_is_one_row_with_request_and_result() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        test_env.with_manual_clock();
        let node = test_env.start().await;
        let body = json!({"event": "message.created", "support_uid": "S", "data": {"message_id": "m", "text": "Hello"}});
        let body = body.to_string();
        let answer = node
            .send_request(
                node.signed_request(&body, "k-1")
                    .header("user-agent", "crm/1.0"),
            )
            .await;
        assert_eq!(answer.status, 202, "{answer:?}");
        let (event_id, id) = (
            answer.event_id(),
            items(&list(&node, "").await)[0]["id"].clone(),
        );
        let row = json!({
            "id": id, "at": START, "direction": "incoming", "source": "support", "method": "POST", "path": SUPPORT,
            "status": 202, "code": null, "is_successful": true, "duration_ms": 0.0, "client_address": "127.0.0.1",
            "event_ids": [event_id],
        });
        let expected = json!({"items": [row], "total": 1, "page": 1, "page_size": 20, "pages": 1});
        assert_eq!(list(&node, "").await, expected);
        for path in [format!("{LOGS}/{id}"), format!("{LOGS}/{id}/")] {
            let one = node.get(&path).await.body;
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
        node.stop().await;
    });
}

#[test]
fn a_refused_call_is_logged_too() {
    run_async(async {
        let test_env = TestEnv::new(&[
            ("server.body_limit_bytes", "1024"),
            ("sources.support.rate_per_minute", "4"),
        ]);
        let node = test_env.start().await;
        let url = format!("{}{SUPPORT}", node.base);
        let message = |data: Value| {
            json!({"event": "message.created", "support_uid": "S", "data": data}).to_string()
        };
        let first = node.send_message("S", "k").await;
        let forged = node.signed_request("{}", "k").build().expect("a request");
        let mut headers = forged.headers().clone();
        headers.insert("x-crm-signature", "00".parse().expect("a header"));
        let calls: Vec<(RequestBuilder, u16, &str)> = vec![
            (junk(&node), 401, "invalid_api_key"),
            (
                node.client.post(&url).headers(headers).body("{}"),
                401,
                "invalid_signature",
            ),
            (
                node.signed_request(&"x".repeat(2_000), "k"),
                413,
                "body_too_large",
            ),
            (node.signed_request("{", "k"), 400, "invalid_json"),
            (
                node.signed_request(&message(json!({})), "other"),
                400,
                "validation_failed",
            ),
            (
                node.signed_request(
                    &message(json!({"message_id": "k", "text": message_text("k")})),
                    "k",
                ),
                409,
                "duplicate_event",
            ),
            (node.signed_request("{}", "k"), 429, "rate_limited"),
        ];
        for (number, (call, status, code)) in (2..).zip(calls) {
            let answer = node.send_request(call).await;
            assert_eq!(
                (answer.status, &answer.body["code"]),
                (status, &json!(code)),
                "{answer:?}"
            );
            let row = newest(&node).await;
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
            assert_eq!(list(&node, "").await["total"], number, "{code}");
        }
        node.stop().await;
    });
}

#[test]
fn only_calls_of_sources_are_logged() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        for path in [
            "/healthz",
            "/readyz",
            "/nothing",
            "/docs",
            "/openapi.json",
            "/api/v1/events",
            "/api/v1/webhooks/logs/1",
        ] {
            node.get(path).await;
        }
        node.send_request(node.client.get(format!("{}{LOGS}", node.base)))
            .await;
        assert_eq!(list(&node, "").await["total"], 0);
        node.stop().await;
    });
}

#[test]
fn lists_are_filtered_and_come_in_pages_newest_first() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        // Every third call is refused, so the two rings alternate.
        for number in 1..=30 {
            let status = if number % 3 == 0 {
                node.send_request(junk(&node)).await.status
            } else {
                node.send_message("S", &format!("k-{number}")).await.status
            };
            assert_eq!(status, if number % 3 == 0 { 401 } else { 202 });
        }
        let rows = all(&node).await;
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
                        list(&node, &format!("{filter}page={page}&page_size={page_size}")).await;
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
        node.stop().await;
    });
}

#[test]
fn invalid_queries_name_the_wrong_parameter() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        node.send_message("S", "k").await;
        let answer = node
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
        assert_eq!(node.get(&format!("{LOGS}/1")).await.status, 200);
        assert_eq!(node.get(&format!("{LOGS}/?page=1")).await.status, 200);
        assert_eq!(node.get(&format!("{LOGS}/1?page=1")).await.status, 400);
        for unknown in ["2", "0", "+1", "01", "x", "99999999999999999999"] {
            let answer = node.get(&format!("{LOGS}/{unknown}")).await;
            assert_eq!(
                (answer.status, &answer.body["code"]),
                (404, &json!("not_found")),
                "{unknown}"
            );
        }
        for path in [LOGS.to_owned(), format!("{LOGS}/1")] {
            assert_eq!(
                node.send_request(node.client.get(format!("{}{path}", node.base)))
                    .await
                    .status,
                401
            );
        }
        node.stop().await;
    });
}

#[test]
fn no_secret_no_signature_and_no_message_is_in_any_row() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let timestamp = test_env.deps.clock.wall().to_string();
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
            let request = node
                .client
                .post(format!("{}{SUPPORT}?token=in-query", node.base));
            let request = request
                .header("x-crm-api-key", key)
                .header("x-crm-signature", signature)
                .header("x-crm-timestamp", &timestamp)
                .header("idempotency-key", "k")
                .header("authorization", format!("Bearer {TOKEN}"))
                .header("cookie", "session=in-cookie")
                .header("referer", "https://crm.example/hooks?token=in-query");
            sent.push(node.send_request(request.body(body.clone())).await.status);
        }
        assert_eq!(sent, [202, 401, 401]);
        let mut told = vec![list(&node, "").await.to_string()];
        for id in 1..=3 {
            told.push(node.get(&format!("{LOGS}/{id}")).await.body.to_string());
        }
        for text in &told {
            assert!(text.contains("support"), "{text}");
            for secret in &secrets {
                assert!(!text.contains(secret), "{secret} is in {text}");
            }
        }
        node.stop().await;
    });
}

#[test]
fn junk_does_not_push_out_good_rows() {
    run_async(async {
        let test_env = TestEnv::new(&[
            ("call_log.refused_rows_max", "20"),
            ("call_log.rows_max", "10"),
            ("server.auth_failures_per_minute", "100"),
        ]);
        let node = test_env.start().await;
        let good = node.send_message("S", "good").await.event_id();
        for number in 0..150 {
            let answer = node.send_request(junk(&node)).await;
            assert_eq!(answer.status, if number < 100 { 401 } else { 429 });
        }
        assert_eq!(list(&node, "is_successful=false").await["total"], 20);
        let kept = list(&node, "is_successful=true").await;
        assert_eq!(
            (kept["total"].as_u64(), &kept["items"][0]["event_ids"]),
            (Some(1), &json!([good]))
        );
        for number in 0..15 {
            assert_eq!(
                node.send_message("S", &format!("k-{number}")).await.status,
                202
            );
        }
        assert_eq!(list(&node, "is_successful=true").await["total"], 10);
        node.stop().await;
    });
}

/// Anyone can make a call that needs no proof, and such calls pushed out the rows of senders.
#[test]
fn calls_that_prove_nothing_do_not_push_out_good_rows() {
    run_async(async {
        let mut test_env = TestEnv::new(&[
            ("call_log.refused_rows_max", "10"),
            ("call_log.rows_max", "10"),
        ]);
        test_env.write_file(
            "[[sources.custom]]\nname = \"woo\"\npreset = \"woocommerce\"\nsecrets = [\"hush-hush-hush\"]\n\
             [[sources.custom]]\nname = \"meta\"\npreset = \"meta\"\nsecrets = [\"hush-hush-hush\"]\nverify_token = \"token-of-meta\"\n",
        );
        let node = test_env.start().await;
        let good = node.send_message("S", "good").await.event_id();
        for number in 0..15 {
            let (ping, look) = (
                format!("{}/in/woo", node.base),
                format!("{}/in/meta", node.base),
            );
            let ping = node.client.post(ping).body(format!("webhook_id={number}"));
            for request in [ping, node.client.get(look)] {
                assert_eq!(node.send_request(request).await.status, 200);
            }
        }
        let rows = all(&node).await;
        assert_eq!(
            rows.len(),
            11,
            "one sender's row, and the newest of strangers"
        );
        assert_eq!(rows[10]["event_ids"], json!([good]));
        node.stop().await;
    });
}

#[test]
fn rows_survive_a_restart_and_a_rebuild() {
    let test_env = TestEnv::new(&[]);
    let before = run_async(async {
        let node = test_env.start().await;
        for number in 0..130 {
            node.send_message("S", &format!("k-{number}")).await;
            node.send_request(junk(&node)).await;
        }
        let before = all(&node).await;
        node.stop().await;
        before
    });
    assert_eq!(ids(&before), (1..=260).rev().collect::<Vec<_>>());
    run_async(async {
        let node = test_env.start().await;
        assert_eq!(all(&node).await, before);
        node.stop().await;
    });
    rebuild(&test_env).expect("it rebuilds");
    run_async(async {
        let node = test_env.start().await;
        assert_eq!(all(&node).await, before);
        node.send_message("S", "new").await;
        assert_eq!(all(&node).await[0]["id"], 261);
        node.stop().await;
    });
}

/// Rows of the last moments may be lost; the others are unchanged, and no seen number is used
/// again.
#[test]
fn a_kill_costs_the_last_rows_at_most() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let mut kept = Vec::new();
        for life in 0..4_u64 {
            let mut process = test_env.start_process().await;
            let found = all(&process).await;
            assert!(
                found.ends_with(&kept),
                "life {life}: {found:?} after {kept:?}"
            );
            for number in 0..40 {
                let TestAnswer { status, .. } =
                    process.send_message("S", &format!("{life}-{number}")).await;
                assert_eq!(status, 202);
            }
            let seen = all(&process).await;
            assert!(ids(&seen).is_sorted_by(|a, b| a > b), "{seen:?}");
            assert_eq!(seen.len(), found.len() + 40);
            process.kill();

            let node = test_env.start().await;
            let left = all(&node).await;
            assert!(seen.ends_with(&left), "life {life}: {left:?} of {seen:?}");
            node.send_request(junk(&node)).await;
            kept = all(&node).await;
            assert!(
                ids(&kept)[0] > ids(&seen)[0],
                "number {} came again",
                ids(&kept)[0]
            );
            node.stop().await;
        }
    });
}

/// Regression: a call with a method that the path does not accept was attributed to no source, so
/// the operator could not find it.
#[test]
fn a_method_that_a_source_does_not_take_is_logged_as_its_call() {
    run_async(async {
        let mut test_env = TestEnv::new(&[
            ("sources.leads.enabled", "true"),
            ("sources.c2s.enabled", "true"),
            ("sources.c2s.tokens", "test-token"),
            ("sources.instagram.enabled", "true"),
            ("sources.instagram.app_secrets", "test-secret"),
            ("sources.instagram.verify_token", "test-token"),
            ("sources.crm.enabled", "true"),
            ("sources.crm.tokens", "test-publisher-of-events"),
        ]);
        test_env.write_file(
            "[[sources.custom]]\nname = \"door\"\nsecrets = [\"in-header\"]\nentity = \"/id\"\nevent = \"X-Event\"\n\
             scheme = { header = \"X-Opens\", algorithm = \"token\" }\n",
        );
        let node = test_env.start().await;
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
            let request = node
                .client
                .patch(format!("{}{path}", node.base))
                .header("x-opens", "in-header");
            let answer = node.send_request(request).await;
            assert_eq!(
                (answer.status, &answer.body["code"]),
                (405, &json!("method_not_allowed")),
                "{path}"
            );
            let row = newest(&node).await;
            assert_eq!(
                (&row["source"], &row["method"], &row["path"]),
                (&json!(source), &json!("PATCH"), &json!(path))
            );
            assert_eq!(
                (&row["status"], &row["code"]),
                (&json!(405), &json!("method_not_allowed"))
            );
            assert_eq!(list(&node, "").await["total"], number, "{path}");
        }
        let of_door = newest(&node).await;
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
            let answer = node
                .send_request(node.client.patch(format!("{}{path}", node.base)))
                .await;
            assert_eq!(answer.status, 405, "{path}");
        }
        assert_eq!(
            list(&node, "").await["total"],
            paths.len(),
            "nobody's call is a row"
        );
        node.stop().await;
    });
}
