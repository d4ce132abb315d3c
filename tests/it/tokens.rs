//! Named tokens: what each role may do, by API, command line and dashboard, until a token is revoked
//! or ends.

use std::fs;
use std::path::Path;
use std::time::Duration;

use hookyard::token::{AccessOperation, TokenRole};
use reqwest::Method;
use serde_json::{Value, json};

use crate::commands::{folder, hookyard, output_of};
use crate::dashboard::{DashboardVisitor, PAGES};
use crate::test_node::{TOKEN, TestAnswer, TestClient, TestEnv, run_async};

const TOKENS: &str = "/api/v1/tokens";
const EVENTS: &str = "/api/v1/events";
const PUBLISHER: &str = "test-publisher-of-events";

fn test_env() -> TestEnv {
    TestEnv::new(&[
        ("sources.crm.enabled", "true"),
        ("sources.crm.tokens", PUBLISHER),
        ("sources.instagram.enabled", "true"),
        (
            "sources.instagram.app_secrets",
            "test-app-secret-long-enough",
        ),
        (
            "sources.instagram.verify_token",
            "test-verify-token-long-enough",
        ),
    ])
}

/// Calls the API with `token`.
pub async fn call(
    node: &TestClient,
    token: &str,
    method: Method,
    path: &str,
    body: &Value,
) -> TestAnswer {
    let request = node.client.request(method, format!("{}{path}", node.base));
    let request = request.bearer_auth(token);
    let request = match body {
        Value::Null => request,
        body => request
            .header("content-type", "application/json")
            .body(body.to_string()),
    };
    node.send_request(request).await
}

/// Creates a token and returns its secret.
pub async fn create_token(node: &TestClient, body: &Value) -> String {
    let created = call(node, TOKEN, Method::POST, TOKENS, body).await;
    assert_eq!(created.status, 200, "{created:?}");
    assert_eq!(created.header("cache-control"), Some("no-store"));
    let secret = created.body["secret"].as_str().expect("a secret");
    assert!(secret.starts_with("hyt_") && secret.len() == 47, "{secret}");
    secret.to_owned()
}

fn code(answer: &TestAnswer) -> (u16, &str) {
    let code = answer.body["code"].as_str().unwrap_or_default();
    (answer.status, code)
}

fn task(id: u64) -> Value {
    json!({"event": "task.created", "data": {"task_id": id, "title": "call"}})
}

/// Returns true if any file under `folder` contains `text`.
fn is_on_the_disk(folder: &Path, text: &[u8]) -> bool {
    fs::read_dir(folder).expect("readable").any(|entry| {
        let path = entry.expect("readable").path();
        match path.is_dir() {
            true => is_on_the_disk(&path, text),
            false => fs::read(&path)
                .expect("readable")
                .windows(text.len())
                .any(|window| window == text),
        }
    })
}

#[test]
fn a_token_is_made_shown_without_its_secret_and_revoked_for_good() {
    run_async(async {
        let test_env = test_env();
        let mut node = test_env.start_process().await;
        let secret = create_token(&node, &json!({"name": "ana", "role": "read"})).await;
        let webhooks = "/api/v1/webhooks";
        let answer = call(&node, &secret, Method::GET, webhooks, &Value::Null).await;
        assert_eq!(answer.status, 200);

        let list = call(&node, &secret, Method::GET, TOKENS, &Value::Null).await;
        let names: Vec<_> = list.body["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(|token| (token["name"].clone(), token["role"].clone()))
            .collect();
        let expected = [
            ("config:admin", "admin"),
            ("config:crm:1", "publish"),
            ("ana", "read"),
        ];
        assert_eq!(
            names,
            expected.map(|(name, role)| (json!(name), json!(role)))
        );
        let shown = node.get("/api/v1/tokens/ana").await;
        assert_eq!(shown.body["created_by"], "config:admin");
        for answer in [&list, &shown] {
            assert!(!answer.text.contains("hyt_") && !answer.text.contains(TOKEN));
        }
        let again = json!({"name": "ana", "role": "admin"});
        let again = call(&node, TOKEN, Method::POST, TOKENS, &again).await;
        assert_eq!(code(&again), (409, "token_exists"));

        // A kill after the answers changes nothing.
        node.kill();
        let mut node = test_env.start_process().await;
        let answer = call(&node, &secret, Method::GET, webhooks, &Value::Null).await;
        assert_eq!(answer.status, 200);
        let ana = "/api/v1/tokens/ana";
        let revoked = call(&node, TOKEN, Method::DELETE, ana, &Value::Null).await;
        assert_eq!(revoked.status, 204);
        let answer = call(&node, &secret, Method::GET, webhooks, &Value::Null).await;
        assert_eq!(code(&answer), (401, "unauthorized"));
        node.kill();
        let node = test_env.start().await;
        let answer = call(&node, &secret, Method::GET, webhooks, &Value::Null).await;
        assert_eq!(code(&answer), (401, "unauthorized"));
        let gone = call(&node, TOKEN, Method::DELETE, ana, &Value::Null).await;
        assert_eq!(code(&gone), (404, "not_found"));
        let configured = "/api/v1/tokens/config:admin";
        let kept = call(&node, TOKEN, Method::DELETE, configured, &Value::Null).await;
        assert_eq!(code(&kept), (409, "token_configured"));
        node.stop().await;
        assert!(!is_on_the_disk(test_env.folder.path(), secret.as_bytes()));
    });
}

#[test]
fn a_misspelt_bound_makes_no_token() {
    run_async(async {
        let node = test_env().start().await;
        for (body, field) in [
            (
                json!({"name": "a", "role": "publish", "kind": ["task"]}),
                "kind",
            ),
            (json!({"name": "a", "role": "root"}), "role"),
            (json!({"name": "a b", "role": "read"}), "name"),
            (
                json!({"name": "a", "role": "read", "kinds": ["task"]}),
                "role",
            ),
        ] {
            let refused = call(&node, TOKEN, Method::POST, TOKENS, &body).await;
            assert_eq!(code(&refused), (400, "validation_failed"), "{body}");
            assert_eq!(refused.body["errors"][0]["field"], field, "{refused:?}");
        }
        assert_eq!(node.get(TOKENS).await.body["total"], 2);
        node.stop().await;
    });
}

#[test]
fn an_expired_token_is_refused_by_the_nodes_clock() {
    run_async(async {
        let mut test_env = test_env();
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        let body = json!({"name": "brief", "role": "read", "expires_in_s": 60});
        let secret = create_token(&node, &body).await;
        let visitor = DashboardVisitor::logged_in_by(&node, &secret).await;
        let get = || call(&node, &secret, Method::GET, "/api/v1/jobs", &Value::Null);
        assert_eq!(get().await.status, 200);

        clock.advance(Duration::from_secs(60));
        let refused = get().await;
        assert_eq!(code(&refused), (401, "token_expired"));
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        assert!(
            refused
                .text
                .contains("the token brief expired at 2025-12-04T10:31:00.000Z")
        );
        let page = visitor.get("/dashboard/jobs").await;
        assert!(page.location().starts_with("/dashboard/login"));
        let shown = node.get("/api/v1/tokens/brief").await;
        assert_eq!(shown.body["is_expired"], true);
        node.stop().await;
    });
}

/// Calls each described operation with a token of each role, and compares with the one table.
#[test]
fn every_operation_asks_for_the_roles_of_the_table() {
    run_async(async {
        // The 403s of this test must not become 429s.
        let node = test_env().start().await;
        let mut secrets = Vec::new();
        for role in TokenRole::ALL {
            let body = json!({"name": role.as_str(), "role": role.as_str()});
            secrets.push((role, create_token(&node, &body).await));
        }
        let spec = node.get("/openapi.json").await.body;
        let mut operations = 0;
        for (path, item) in spec["paths"].as_object().expect("paths") {
            for (method, described) in item.as_object().expect("operations") {
                let Some(name) = described["x-operation"].as_str() else {
                    let is_admins = described["security"].to_string().contains("admin_token");
                    assert!(!is_admins, "{method} {path} has no operation");
                    continue;
                };
                operations += 1;
                let mut all = AccessOperation::ALL.iter();
                let operation = all.find(|one| one.as_str() == name).expect("in the table");
                let method: Method = method.to_uppercase().parse().expect("a method");
                let path = path
                    .replace("{kind}", "ticket")
                    .replace("{id}", "999")
                    .replace("{name}", "nobody")
                    .replace(['{', '}'], "");
                for (role, secret) in &secrets {
                    if *operation == AccessOperation::BackupDownload && role.may(*operation) {
                        continue;
                    }
                    let answer = call(&node, secret, method.clone(), &path, &Value::Null).await;
                    let is_refused = code(&answer) == (403, "insufficient_role");
                    let shown = format!("{method} {path} as {}: {answer:?}", role.as_str());
                    assert_eq!(is_refused, !role.may(*operation), "{shown}");
                    if is_refused {
                        let needed =
                            format!("needs a token with the role {}", operation.role_names());
                        assert!(answer.text.contains(&needed), "{shown}");
                    }
                    assert_ne!(answer.status, 401, "{shown}");
                }
            }
        }
        assert!(operations > 40, "{operations}");
        node.stop().await;
    });
}

#[test]
fn a_publisher_publishes_within_its_bounds_and_events_and_calls_carry_its_name() {
    run_async(async {
        let node = test_env().start().await;
        let tasks =
            json!({"name": "billing", "role": "publish", "sources": ["crm"], "kinds": ["task"]});
        let secret = create_token(&node, &tasks).await;
        let publish = |token: String, body: Value| {
            let node = node.clone();
            async move { call(&node, &token, Method::POST, EVENTS, &body).await }
        };
        let accepted = publish(secret.clone(), task(1)).await;
        assert_eq!(accepted.status, 202, "{accepted:?}");
        let event = node
            .get(&format!("{EVENTS}/{}", accepted.event_id()))
            .await
            .body;
        assert_eq!(event["token"], "billing");

        let organisation = json!({"event": "organisation.created", "data": {"organisation_id": 1}});
        let refused = publish(secret.clone(), organisation.clone()).await;
        assert_eq!(code(&refused), (403, "out_of_scope"));
        assert!(
            refused
                .text
                .contains("the sources crm and the kinds task only")
        );
        let mixed = publish(secret.clone(), json!([task(2), organisation])).await;
        assert_eq!(code(&mixed), (403, "out_of_scope"));
        let both = publish(secret.clone(), json!([task(2), task(3)])).await;
        assert_eq!(both.body["accepted"], 2);
        let message = "/api/v1/accounts/acc_1/messages";
        let text = json!({"recipient_id": "1", "text": "Hi"});
        let refused = call(&node, &secret, Method::POST, message, &text).await;
        assert_eq!(code(&refused), (403, "out_of_scope"));

        let chat = json!({"name": "chat", "role": "publish", "accounts": ["acc_2"]});
        let secret = create_token(&node, &chat).await;
        let refused = call(&node, &secret, Method::POST, message, &text).await;
        assert_eq!(code(&refused), (403, "out_of_scope"));
        assert!(refused.text.contains("the accounts acc_2 only"));
        let own = "/api/v1/accounts/acc_2/messages";
        let admitted = call(&node, &secret, Method::POST, own, &text).await;
        assert_eq!(code(&admitted), (404, "not_found"), "no such account yet");

        // The tokens of the configuration have names too, and admin.token still publishes.
        for (token, name) in [(PUBLISHER, "config:crm:1"), (TOKEN, "config:admin")] {
            let accepted = publish(token.to_owned(), task(9)).await;
            let id = accepted.event_id();
            assert_eq!(
                node.get(&format!("{EVENTS}/{id}")).await.body["token"],
                name
            );
        }
        assert_eq!(node.get(EVENTS).await.body["total"], 5);
        let logs = node.get("/api/v1/webhooks/logs?page_size=100").await.body;
        let logged = logs["items"].as_array().expect("items").iter();
        let of_billing = logged.filter(|call| call["token"] == "billing").count();
        assert_eq!(of_billing, 5, "{logs}");
        let refused = call(&node, PUBLISHER, Method::GET, EVENTS, &Value::Null).await;
        assert_eq!(code(&refused), (403, "insufficient_role"));
        node.stop().await;
    });
}

#[test]
fn the_dashboard_offers_each_role_only_what_it_may_do_and_refuses_the_rest() {
    run_async(async {
        let node = test_env().start().await;
        let webhook = json!({"url": "https://crm.example/hook", "events": ["*"]});
        let made = call(&node, TOKEN, Method::POST, "/api/v1/webhooks", &webhook).await;
        assert_eq!(made.status, 200, "{made:?}");
        let page = "/dashboard/settings/webhooks/1";
        let mut secrets = Vec::new();
        for role in ["read", "operator", "publish"] {
            let body = json!({"name": role, "role": role});
            secrets.push(create_token(&node, &body).await);
        }

        let reader = DashboardVisitor::logged_in_by(&node, &secrets[0]).await;
        for path in PAGES.iter().chain([&page]) {
            let answer = reader.get(path).await;
            let is_form = path.ends_with("/new");
            assert_eq!(answer.status == 403, is_form, "{path}");
            // Judging a pasted request changes nothing, so a reader may do it.
            let judging = answer.html.matches("action=\"/dashboard/sources/check\"");
            let forms = answer.html.matches("method=\"post\"").count() - judging.count();
            let is_redirect = answer.status == 303;
            assert_eq!(forms, usize::from(!is_redirect), "only the logout: {path}");
            assert!(!answer.html.contains("/webhooks/new\""), "{path}");
        }
        let refused = reader.submit(&format!("{page}/pause"), &[]).await;
        assert_eq!(refused.status, 403);
        assert!(
            refused
                .html
                .contains("needs a token with the role operator or admin")
        );
        assert_eq!(node.get("/api/v1/webhooks/1").await.body["state"], "active");

        let operator = DashboardVisitor::logged_in_by(&node, &secrets[1]).await;
        let html = operator.get(page).await.html;
        for (path, is_there) in [
            ("pause", true),
            ("test", true),
            ("rotate-secret", false),
            ("delete", false),
            ("edit", false),
        ] {
            assert_eq!(
                html.contains(&format!("{page}/{path}\"")),
                is_there,
                "{path}"
            );
        }
        let paused = operator.submit(&format!("{page}/pause"), &[]).await;
        assert_eq!(paused.location(), page);
        assert_eq!(node.get("/api/v1/webhooks/1").await.body["state"], "paused");
        let confirmed = [("confirmed", "on")];
        let refused = operator.submit(&format!("{page}/delete"), &confirmed).await;
        assert_eq!(refused.status, 403);

        let stranger = DashboardVisitor::stranger(&node);
        assert_eq!(stranger.log_in(&secrets[2]).await.status, 403);
        let reader_token = "/api/v1/tokens/read";
        call(&node, TOKEN, Method::DELETE, reader_token, &Value::Null).await;
        let ended = reader.get("/dashboard").await;
        assert_eq!(ended.location(), "/dashboard/login");
        node.stop().await;
    });
}

#[test]
fn the_command_line_makes_lists_and_revokes_tokens() {
    run_async(async {
        let node = test_env().start_process().await;
        let run = |token: String, words: Vec<&'static str>| {
            let base = node.api.base.clone();
            async move {
                let folder = folder();
                let mut command = hookyard(folder.path(), &words);
                command.args(["--url", &base, "--token", &token]);
                let output = actix_rt::task::spawn_blocking(move || output_of(&mut command));
                output.await.expect("no panic")
            }
        };
        let admin = TOKEN.to_owned();
        let create = vec![
            "tokens",
            "create",
            "ci",
            "--role",
            "operator",
            "--expires-in",
            "90d",
            "--json",
        ];
        let (code, created, error) = run(admin.clone(), create).await;
        assert_eq!((code, error.as_str()), (Some(0), ""));
        let created: Value = serde_json::from_str(&created).expect("JSON");
        let secret = created["secret"].as_str().expect("a secret").to_owned();
        assert!(created["expires_at"].is_string());

        let (_, listed, _) = run(secret.clone(), vec!["tokens", "list"]).await;
        assert!(
            listed.contains("ci") && listed.contains("config:admin"),
            "{listed}"
        );
        let (code, _, error) = run(secret.clone(), vec!["tokens", "revoke", "ci"]).await;
        assert_eq!(code, Some(1));
        assert!(
            error.contains("tokens.revoke needs a token with the role admin"),
            "{error}"
        );
        let (_, revoked, _) = run(admin, vec!["tokens", "revoke", "ci"]).await;
        assert_eq!(revoked, "token ci: revoked\n");
        let (code, _, _) = run(secret, vec!["tokens", "list"]).await;
        assert_eq!(code, Some(1));
    });
}
