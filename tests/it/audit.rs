//! Audit log: each change has its entry on the disk before its answer, refused calls have a few, and
//! nothing in it is a secret.

use reqwest::Method;
use serde_json::{Value, json};

use crate::clock_jumps::{JumpingClock, wait_for_readiness};
use crate::commands::{folder, hookyard, output_of};
use crate::dashboard::DashboardVisitor;
use crate::test_node::{TOKEN, TestClient, TestEnv, run_async};
use crate::tokens::{call, create_token};

const AUDIT: &str = "/api/v1/audit";
const WEBHOOKS: &str = "/api/v1/webhooks";

async fn entries(node: &TestClient, query: &str) -> Vec<Value> {
    let answer = node.get(&format!("{AUDIT}?limit=500&{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["items"].as_array().expect("items").clone()
}

/// Returns who, operation, object and outcome of each entry.
fn summary(entries: &[Value]) -> Vec<[Value; 4]> {
    let members =
        |entry: &Value| ["who", "operation", "object", "outcome"].map(|name| entry[name].clone());
    entries.iter().map(members).collect()
}

async fn create_webhook(node: &TestClient, token: &str) -> u16 {
    let webhook = json!({"url": "https://crm.example/hook", "events": ["*"], "secret": "whsec_c2VjcmV0LW9mLXRoZS13ZWJob29rLTEyMzQ1"});
    call(node, token, Method::POST, WEBHOOKS, &webhook)
        .await
        .status
}

#[test]
fn an_answered_change_has_its_entry_after_a_kill() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let mut process = test_env.start_process().await;
        let body = json!({"name": "ci", "role": "operator"});
        let secret = create_token(&process, &body).await;
        assert_eq!(create_webhook(&process, TOKEN).await, 200);
        let pause = format!("{WEBHOOKS}/1/pause");
        let paused = call(&process, &secret, Method::POST, &pause, &Value::Null).await;
        assert_eq!(paused.status, 200);
        let request_id = paused.header("x-request-id").expect("an id").to_owned();
        process.kill();

        let node = test_env.start().await;
        let found = entries(&node, "").await;
        let expected = [
            [
                json!("ci"),
                json!("webhooks.pause"),
                json!("1"),
                json!("ok"),
            ],
            [
                json!("config:admin"),
                json!("webhooks.create"),
                json!("1"),
                json!("ok"),
            ],
            [
                json!("config:admin"),
                json!("tokens.create"),
                json!("ci"),
                json!("ok"),
            ],
        ];
        assert_eq!(summary(&found), expected);
        assert_eq!(found[0]["request_id"], request_id);
        assert_eq!(found[0]["client_address"], "127.0.0.1");
        assert_eq!(found[0]["channel"], "api");
        let text = Value::from(found).to_string();
        assert!(!text.contains("hyt_") && !text.contains("whsec_") && !text.contains(TOKEN));
        node.stop().await;
    });
}

#[test]
fn refused_calls_and_failed_changes_have_entries_with_their_outcome() {
    run_async(async {
        let node = TestEnv::new(&[]).start().await;
        let secret = create_token(&node, &json!({"name": "ana", "role": "read"})).await;
        let delete = format!("{WEBHOOKS}/7");
        call(&node, &secret, Method::DELETE, &delete, &Value::Null).await;
        call(&node, TOKEN, Method::DELETE, &delete, &Value::Null).await;
        call(&node, "hyt_wrong", Method::DELETE, &delete, &Value::Null).await;
        // Reads of those who may read leave nothing.
        assert_eq!(node.get(WEBHOOKS).await.status, 200);
        let expected = [
            [
                Value::Null,
                json!("webhooks.delete"),
                Value::Null,
                json!("unauthorized"),
            ],
            [
                json!("config:admin"),
                json!("webhooks.delete"),
                json!("7"),
                json!("not_found"),
            ],
            [
                json!("ana"),
                json!("webhooks.delete"),
                json!("7"),
                json!("insufficient_role"),
            ],
        ];
        assert_eq!(
            summary(&entries(&node, "operation=webhooks").await),
            expected
        );
        node.stop().await;
    });
}

#[test]
fn a_stranger_can_neither_fill_the_log_nor_push_out_what_was_done() {
    run_async(async {
        let keys = [
            ("audit.refused_entries_max", "4"),
            ("server.auth_failures_per_minute", "0"),
        ];
        let node = TestEnv::new(&keys).start().await;
        assert_eq!(create_webhook(&node, TOKEN).await, 200);
        for number in 0..50 {
            let path = format!("{WEBHOOKS}/{number}");
            call(&node, "wrong", Method::DELETE, &path, &Value::Null).await;
        }
        let found = entries(&node, "").await;
        assert_eq!(found.len(), 5, "{found:?}");
        assert_eq!(found[4]["operation"], "webhooks.create");
        node.stop().await;
    });
}

#[test]
fn logins_and_buttons_of_the_dashboard_have_entries_and_a_page() {
    run_async(async {
        let node = TestEnv::new(&[]).start().await;
        assert_eq!(create_webhook(&node, TOKEN).await, 200);
        let secret = create_token(&node, &json!({"name": "ana", "role": "operator"})).await;
        // A form that was only opened had the entry of a change.
        let admin = DashboardVisitor::logged_in_by(&node, TOKEN).await;
        for form in ["new", "1/edit"] {
            let path = format!("/dashboard/settings/webhooks/{form}");
            assert_eq!(admin.get(&path).await.status, 200);
        }
        assert_eq!(entries(&node, "operation=webhooks").await.len(), 1);
        let wrong = DashboardVisitor::stranger(&node).log_in("no-token").await;
        assert_eq!(wrong.status, 401);
        let ana = DashboardVisitor::logged_in_by(&node, &secret).await;
        ana.submit("/dashboard/settings/webhooks/1/pause", &[])
            .await;
        ana.submit("/dashboard/settings/webhooks/9/resume", &[])
            .await;
        ana.submit("/dashboard/settings/webhooks/1/delete", &[])
            .await;
        let page = ana.get("/dashboard/audit?operation=webhooks").await;
        assert!(page.html.contains("webhooks.resume") && !page.html.contains("dashboard.login"));
        ana.submit("/dashboard/logout", &[]).await;

        let expected = [
            [
                json!("ana"),
                json!("dashboard.logout"),
                Value::Null,
                json!("ok"),
            ],
            [
                json!("ana"),
                json!("webhooks.delete"),
                json!("1"),
                json!("insufficient_role"),
            ],
            [
                json!("ana"),
                json!("webhooks.resume"),
                json!("9"),
                json!("not_found"),
            ],
            [
                json!("ana"),
                json!("webhooks.pause"),
                json!("1"),
                json!("ok"),
            ],
            [
                json!("ana"),
                json!("dashboard.login"),
                Value::Null,
                json!("ok"),
            ],
            [
                Value::Null,
                json!("dashboard.login"),
                Value::Null,
                json!("login_refused"),
            ],
        ];
        let found = entries(&node, "").await;
        assert_eq!(summary(&found)[..6], expected);
        assert!(
            found[..6]
                .iter()
                .all(|entry| entry["channel"] == "dashboard")
        );
        node.stop().await;
    });
}

#[test]
fn the_log_is_filtered_paged_and_exported() {
    run_async(async {
        let node = TestEnv::new(&[]).start_process().await;
        for _ in 0..5 {
            assert_eq!(create_webhook(&node, TOKEN).await, 200);
        }
        let mut seen = Vec::new();
        let mut path = format!("{AUDIT}?limit=2");
        loop {
            let page = node.get(&path).await.body;
            seen.extend(page["items"].as_array().expect("items").clone());
            let Some(cursor) = page["cursor"].as_str() else {
                assert_eq!(page["has_more"], false);
                break;
            };
            assert_eq!(page["has_more"], true);
            path = format!("{AUDIT}?limit=2&cursor={cursor}");
        }
        let objects: Vec<_> = seen.iter().map(|entry| entry["object"].clone()).collect();
        assert_eq!(objects, ["5", "4", "3", "2", "1"]);

        for (query, count) in [
            ("object=3", 1),
            ("who=config:admin", 5),
            ("who=ana", 0),
            ("operation=webhooks.create", 5),
            ("operation=webhook", 0),
            ("until=2001-01-01T00:00:00Z", 0),
            ("since=2001-01-01T00:00:00Z", 5),
        ] {
            assert_eq!(entries(&node, query).await.len(), count, "{query}");
        }
        let wrong = node
            .get(&format!("{AUDIT}?since=yesterday&whom=ana&limit=0"))
            .await;
        assert_eq!(wrong.body["errors"].as_array().expect("errors").len(), 3);

        let export = node.get(&format!("{AUDIT}/export?object=3")).await;
        assert_eq!(export.header("content-type"), Some("application/x-ndjson"));
        let line: Value = serde_json::from_str(export.text.trim_end()).expect("one line");
        assert_eq!(line, seen[2]);

        let base = node.api.base.clone();
        let output = actix_rt::task::spawn_blocking(move || {
            let folder = folder();
            let words = [
                "audit", "list", "--json", "--last", "2", "--url", &base, "--token", TOKEN,
            ];
            output_of(&mut hookyard(folder.path(), &words))
        });
        let (code, listed, error) = output.await.expect("no panic");
        assert_eq!((code, error.as_str()), (Some(0), ""));
        let listed: Vec<Value> = listed
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(listed, seen[..2]);
    });
}

#[test]
fn an_operator_confirms_a_jump_of_the_clock_by_a_named_token_and_leaves_an_entry() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let clock = JumpingClock::install(&mut test_env);
        let node = test_env.start().await;
        let secret = create_token(&node, &json!({"name": "ops", "role": "operator"})).await;
        clock.jump_to(400 * 86_400);
        wait_for_readiness(&node, 503).await;
        let path = "/api/v1/clock/confirm";
        let confirmed = call(&node, &secret, Method::POST, path, &Value::Null).await;
        assert_eq!(confirmed.status, 200, "{confirmed:?}");
        let found = entries(&node, "operation=clock.confirm").await;
        let expected = [
            json!("ops"),
            json!("clock.confirm"),
            Value::Null,
            json!("ok"),
        ];
        assert_eq!(summary(&found), [expected]);
        node.stop().await;
    });
}
