//! Accounts: answers of the admin API, hidden secrets, and durability.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::failures::{DiskFailure, FailurePlace, until_readyz_is};
use crate::instagram::{call, message, state, test_env, with};
use crate::rebuild::rebuild;
use crate::test_node::{TOKEN, TestAnswer, TestClient, TestNode, run_async, run_together};

const ACCOUNTS: &str = "/api/v1/accounts";
const BUSINESS: &str = "0987654321";

fn request(client: &TestClient, method: Method, path: &str) -> RequestBuilder {
    client
        .client
        .request(method, format!("{}{ACCOUNTS}{path}", client.base))
        .bearer_auth(TOKEN)
}

fn with_json(request: RequestBuilder, body: &Value) -> RequestBuilder {
    request
        .header("content-type", "application/json")
        .body(body.to_string())
}

async fn send(client: &TestClient, method: Method, path: &str, body: &Value) -> TestAnswer {
    client
        .send_request(with_json(request(client, method, path), body))
        .await
}

pub async fn create(client: &TestClient, body: &Value) -> TestAnswer {
    send(client, Method::POST, "", body).await
}

async fn show(client: &TestClient, path: &str) -> TestAnswer {
    client
        .send_request(request(client, Method::GET, path))
        .await
}

fn code(answer: &TestAnswer) -> (u16, &str) {
    (
        answer.status,
        answer.body["code"].as_str().unwrap_or_default(),
    )
}

fn fields(answer: &TestAnswer) -> Vec<&str> {
    let errors = answer.body["errors"]
        .as_array()
        .unwrap_or_else(|| panic!("no errors in {answer:?}"));
    errors
        .iter()
        .map(|error| error["field"].as_str().expect("a name"))
        .collect()
}

fn full() -> Value {
    json!({
        "account_id": "acc_xyz789", "instagram_account_id": BUSINESS, "crm_webhook_url": "https://crm.example/hook",
        "webhook_secret": "given-secret", "access_token": "given-token",
        "auto_reply": {"text": "Thank you!\nWe answer soon.", "cooldown_s": 90.5},
    })
}

/// Account as every answer after the first shows it.
fn shown() -> Value {
    let mut account = full();
    let members = account.as_object_mut().expect("an object");
    members.remove("webhook_secret");
    members.remove("access_token");
    members.insert("has_access_token".to_owned(), true.into());
    account
}

#[test]
fn an_account_is_made_shown_changed_and_removed() {
    run_async(async {
        let test_env = test_env(&[("delivery.allow_targets", "127.0.0.0/8")]);
        let node = test_env.start().await;
        let made = create(&node, &full()).await;
        let mut expected = shown();
        expected["webhook_secret"] = "given-secret".into();
        assert_eq!(
            (made.status, &made.body),
            (200, &expected),
            "the secret is shown, the token is not"
        );
        assert_eq!(made.header("cache-control"), Some("no-store"));
        for path in ["/acc_xyz789", "/acc_xyz789/", "/acc%5Fxyz789"] {
            let answer = show(&node, path).await;
            assert_eq!((answer.status, &answer.body), (200, &shown()), "{path}");
        }
        let list = json!({"items": [shown()], "total": 1, "page": 1, "page_size": 20, "pages": 1});
        assert_eq!(show(&node, "/").await.body, list);
        let change = json!({"crm_webhook_url": "http://127.0.0.1:9000/x", "webhook_secret": "another", "auto_reply": null});
        let changed = send(&node, Method::PUT, "/acc_xyz789", &change).await;
        let expected = json!({
            "account_id": "acc_xyz789", "instagram_account_id": BUSINESS, "crm_webhook_url": "http://127.0.0.1:9000/x",
            "auto_reply": null, "has_access_token": true,
        });
        assert_eq!((changed.status, &changed.body), (200, &expected));
        assert_eq!(show(&node, "/acc_xyz789").await.body, expected);
        let without = send(
            &node,
            Method::PUT,
            "/acc_xyz789",
            &json!({"access_token": null}),
        )
        .await;
        assert_eq!(without.body["has_access_token"], false);
        let removed = node
            .send_request(request(&node, Method::DELETE, "/acc_xyz789"))
            .await;
        assert_eq!((removed.status, &removed.body), (204, &json!("")));
        for (method, body) in [
            (Method::GET, None),
            (Method::DELETE, None),
            (Method::PUT, Some(json!({}))),
        ] {
            let request = request(&node, method.clone(), "/acc_xyz789");
            let request = body.iter().fold(request, with_json);
            assert_eq!(
                code(&node.send_request(request).await),
                (404, "not_found"),
                "{method}"
            );
        }
        node.stop().await;
    });
}

#[test]
fn omitted_members_are_generated_or_taken_from_the_configuration() {
    run_async(async {
        let test_env = test_env(&[
            (
                "sources.instagram.crm_webhook_url",
                "https://default.example/",
            ),
            ("sources.instagram.auto_reply.text", "Soon."),
            ("sources.instagram.auto_reply.cooldown_s", "60"),
            ("sources.instagram.access_token", "token-for-all"),
        ]);
        let node = test_env.start().await;
        let made = create(
            &node,
            &json!({"instagram_account_id": 7, "webhook_secret": null, "account_id": null}),
        )
        .await;
        assert_eq!(made.status, 200);
        let id = made.body["account_id"].as_str().expect("a name").to_owned();
        assert!(id.starts_with("acc_") && id.len() == 28, "{id}");
        let secret = made.body["webhook_secret"]
            .as_str()
            .expect("a secret")
            .to_owned();
        assert!(
            secret.starts_with("whsec_") && secret.len() == 50,
            "{}",
            secret.len()
        );
        let shown = show(&node, &format!("/{id}")).await.body;
        let expected = json!({
            "account_id": id, "instagram_account_id": "7", "crm_webhook_url": "https://default.example/",
            "auto_reply": {"text": "Soon.", "cooldown_s": 60}, "has_access_token": true,
        });
        assert_eq!(shown, expected);
        let replaced = send(
            &node,
            Method::PUT,
            &format!("/{id}"),
            &json!({"webhook_secret": null}),
        )
        .await;
        let new = replaced.body["webhook_secret"]
            .as_str()
            .expect("a new one is shown once");
        assert!(new.starts_with("whsec_") && new != secret);
        let none = json!({"auto_reply": {"text": ""}, "crm_webhook_url": "https://own.example/"});
        let own = send(&node, Method::PUT, &format!("/{id}"), &none).await;
        assert_eq!(
            (&own.body["auto_reply"], &own.body["webhook_secret"]),
            (&Value::Null, &Value::Null)
        );
        let reply = send(
            &node,
            Method::PUT,
            &format!("/{id}"),
            &json!({"auto_reply": {"text": "Own"}}),
        )
        .await;
        assert_eq!(
            reply.body["auto_reply"],
            json!({"text": "Own", "cooldown_s": 60})
        );
        node.stop().await;
    });
}

#[test]
fn every_wrong_member_is_named_and_nothing_is_kept() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let all = json!({
            "account_id": "acc/1", "instagram_account_id": 1.5, "crm_webhook_url": "ftp://h/", "webhook_secret": "a b",
            "access_token": "", "auto_reply": {"text": "\u{7}", "cooldown_s": -1},
        });
        let answer = create(&node, &all).await;
        assert_eq!(code(&answer), (400, "validation_failed"));
        let expected = [
            "account_id",
            "instagram_account_id",
            "crm_webhook_url",
            "webhook_secret",
            "access_token",
            "auto_reply.text",
            "auto_reply.cooldown_s",
        ];
        assert_eq!(fields(&answer), expected);
        let sent = answer.body.to_string();
        assert!(!sent.contains("ftp") && !sent.contains("a b"), "{sent}");
        for (body, field) in [
            (json!({}), "instagram_account_id"),
            (
                json!({"instagram_account_id": "x".repeat(101)}),
                "instagram_account_id",
            ),
            (
                json!({"instagram_account_id": "1", "account_id": "x".repeat(65)}),
                "account_id",
            ),
            (
                json!({"instagram_account_id": "1", "account_id": 7}),
                "account_id",
            ),
            (
                json!({"instagram_account_id": "1", "crm_webhook_url": 7}),
                "crm_webhook_url",
            ),
            (
                json!({"instagram_account_id": "1", "crm_webhook_url": format!("https://h/{}", "x".repeat(500))}),
                "crm_webhook_url",
            ),
            (
                json!({"instagram_account_id": "1", "crm_webhook_url": "http://10.0.0.7/x"}),
                "crm_webhook_url",
            ),
            (
                json!({"instagram_account_id": "1", "crm_webhook_url": "https://[::ffff:127.0.0.1]/"}),
                "crm_webhook_url",
            ),
            (
                json!({"instagram_account_id": "1", "crm_webhook_url": "http://2130706433/x"}),
                "crm_webhook_url",
            ),
            // Refused as for a subscription: the name is loopback whatever a resolver answers.
            (
                json!({"instagram_account_id": "1", "crm_webhook_url": "http://api.localhost:9000/x"}),
                "crm_webhook_url",
            ),
            (
                json!({"instagram_account_id": "1", "webhook_secret": "x".repeat(129)}),
                "webhook_secret",
            ),
            (
                json!({"instagram_account_id": "1", "access_token": ["t"]}),
                "access_token",
            ),
            (
                json!({"instagram_account_id": "1", "auto_reply": "Soon."}),
                "auto_reply",
            ),
            (
                json!({"instagram_account_id": "1", "auto_reply": {}}),
                "auto_reply.text",
            ),
            (
                json!({"instagram_account_id": "1", "auto_reply": {"text": "x".repeat(1_001)}}),
                "auto_reply.text",
            ),
            (
                json!({"instagram_account_id": "1", "auto_reply": {"text": "x", "cooldown_s": "1"}}),
                "auto_reply.cooldown_s",
            ),
        ] {
            let answer = create(&node, &body).await;
            assert_eq!(
                (code(&answer), fields(&answer)),
                ((400, "validation_failed"), vec![field]),
                "{body}"
            );
        }
        assert_eq!(
            code(
                &node
                    .send_request(request(&node, Method::POST, "").body("[]"))
                    .await
            ),
            (400, "invalid_json")
        );
        let typed = request(&node, Method::POST, "")
            .header("content-type", "text/plain")
            .body("{}");
        assert_eq!(
            code(&node.send_request(typed).await),
            (415, "unsupported_media_type")
        );
        assert_eq!(show(&node, "").await.body["total"], 0);
        create(&node, &full()).await;
        let other = send(
            &node,
            Method::PUT,
            "/acc_xyz789",
            &json!({"account_id": "acc_2", "instagram_account_id": null}),
        )
        .await;
        assert_eq!(fields(&other), ["account_id", "instagram_account_id"]);
        assert_eq!(
            send(&node, Method::PUT, "/acc_xyz789", &shown()).await.body,
            shown(),
            "what was shown changes nothing"
        );
        assert_eq!(fields(&show(&node, "?page=0").await), ["page"]);
        assert_eq!(fields(&show(&node, "/acc_xyz789?x=1").await), ["x"]);
        node.stop().await;
    });
}

#[test]
fn accounts_are_the_admins_alone() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        create(&node, &full()).await;
        for (method, path) in [
            (Method::GET, ""),
            (Method::POST, ""),
            (Method::GET, "/acc_xyz789"),
            (Method::PUT, "/acc_xyz789"),
            (Method::DELETE, "/acc_xyz789"),
        ] {
            let url = format!("{}{ACCOUNTS}{path}", node.base);
            let answer = node
                .send_request(
                    node.client
                        .request(method.clone(), url)
                        .bearer_auth("wrong")
                        .body("{"),
                )
                .await;
            assert_eq!(code(&answer), (401, "unauthorized"), "{method} {path}");
        }
        for (path, method, allow) in [
            ("", Method::PUT, "GET, HEAD, POST"),
            ("/acc_xyz789", Method::POST, "GET, HEAD, PUT, DELETE"),
        ] {
            let answer = node.send_request(request(&node, method, path)).await;
            assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)));
        }
        assert_eq!(show(&node, "").await.body["total"], 1);
        node.stop().await;
    });
}

#[test]
fn of_32_accounts_made_at_once_for_one_business_account_one_is_made() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let made = (0..32).map(|_| {
            let client = node.api.clone();
            async move { create(&client, &json!({"instagram_account_id": BUSINESS})).await }
        });
        let answers = run_together(made).await;
        let (made, refused): (Vec<_>, Vec<_>) =
            answers.iter().partition(|answer| answer.status == 200);
        assert_eq!((made.len(), refused.len()), (1, 31));
        assert!(
            refused
                .iter()
                .all(|answer| code(answer) == (409, "instagram_account_claimed"))
        );
        let known = made[0].body["account_id"].as_str().expect("a name");
        assert!(
            refused[0].body["detail"]
                .as_str()
                .expect("text")
                .contains(known),
            "{:?}",
            refused[0]
        );
        let again = create(
            &node,
            &json!({"account_id": known, "instagram_account_id": "8"}),
        )
        .await;
        assert_eq!(code(&again), (409, "account_exists"));
        node.stop().await;
    });
}

#[test]
fn accounts_are_listed_in_pages_and_bounded_in_number() {
    run_async(async {
        let mut test_env = test_env(&[("sources.instagram.accounts_max", "5")]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        for number in 0..5 {
            let id = format!("acc_{}", (b'a' + (number * 3) % 5) as char);
            assert_eq!(
                create(
                    &node,
                    &json!({"account_id": id, "instagram_account_id": number})
                )
                .await
                .status,
                200
            );
            clock.advance(Duration::from_secs(1));
        }
        let sixth = create(&node, &json!({"instagram_account_id": "6"})).await;
        assert_eq!(code(&sixth), (409, "too_many_accounts"));
        let mut listed = Vec::new();
        for page in 1..=3 {
            let answer = show(&node, &format!("?page={page}&page_size=2")).await.body;
            assert_eq!([&answer["total"], &answer["pages"]], [5, 3]);
            let items = answer["items"].as_array().expect("a list").clone();
            listed.extend(items.iter().map(|item| {
                item["instagram_account_id"]
                    .as_str()
                    .expect("an id")
                    .to_owned()
            }));
        }
        assert_eq!(listed, ["4", "3", "2", "1", "0"], "newest first");
        node.stop().await;
    });
}

/// Returns the accounts of a node by name, as the node shows them.
async fn accounts(client: &TestClient) -> Value {
    show(client, "?page_size=100").await.body["items"].clone()
}

#[test]
fn accounts_outlive_a_restart_a_kill_and_a_rebuild() {
    run_async(async {
        let test_env = test_env(&[]);
        let mut process = test_env.start_process().await;
        let mut expected = BTreeSet::new();
        for number in 0..20 {
            let made = create(
                &process,
                &json!({"instagram_account_id": number, "webhook_secret": "hush"}),
            )
            .await;
            expected.insert(made.body["account_id"].as_str().expect("a name").to_owned());
        }
        let gone = expected.pop_first().expect("20 were made");
        assert_eq!(
            process
                .send_request(request(&process, Method::DELETE, &format!("/{gone}")))
                .await
                .status,
            204
        );
        let changed = expected.first().expect("19 are left").clone();
        let change = json!({"crm_webhook_url": "https://crm.example/changed"});
        assert_eq!(
            send(&process, Method::PUT, &format!("/{changed}"), &change)
                .await
                .status,
            200
        );
        process.kill();
        let node = test_env.start().await;
        let kept = accounts(&node).await;
        let names: BTreeSet<_> = kept
            .as_array()
            .expect("a list")
            .iter()
            .map(|a| a["account_id"].as_str().expect("a name").to_owned())
            .collect();
        assert_eq!(names, expected);
        assert_eq!(
            show(&node, &format!("/{changed}")).await.body["crm_webhook_url"],
            change["crm_webhook_url"]
        );
        node.stop().await;
        rebuild(&test_env).expect("it can be read");
        let node = test_env.start().await;
        assert_eq!(accounts(&node).await, kept);
        node.stop().await;
    });
}

/// Returns the account that the story's conversation belongs to.
async fn owner(node: &TestNode) -> Value {
    state(node).await["account_id"].clone()
}

#[test]
fn a_conversation_belongs_to_the_account_that_claims_it_now() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        call(&node, &with(&[message(0, "m-1", "Hello")])).await;
        assert_eq!(owner(&node).await, Value::Null, "nobody claims it");
        create(&node, &full()).await;
        assert_eq!(owner(&node).await, "acc_xyz789");
        send(
            &node,
            Method::PUT,
            "/acc_xyz789",
            &json!({"instagram_account_id": "1"}),
        )
        .await;
        assert_eq!(owner(&node).await, Value::Null);
        send(
            &node,
            Method::PUT,
            "/acc_xyz789",
            &json!({"instagram_account_id": BUSINESS}),
        )
        .await;
        assert_eq!(owner(&node).await, "acc_xyz789");
        node.send_request(request(&node, Method::DELETE, "/acc_xyz789"))
            .await;
        assert_eq!(owner(&node).await, Value::Null);
        node.stop().await;
    });
}

#[test]
fn an_account_that_never_reached_the_store_is_not_shown() {
    run_async(async {
        let mut test_env = test_env(&[]);
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        disk_failure.fail(FailurePlace::Write, 2);
        let answer = create(&node, &full()).await;
        assert_eq!(
            (code(&answer), answer.header("retry-after")),
            ((503, "unavailable"), Some("1"))
        );
        until_readyz_is(&node, 200).await;
        assert_eq!(show(&node, "").await.body["total"], 0);
        node.stop().await;
    });
}

#[test]
fn after_two_failed_syncs_the_account_is_not_there_and_can_be_created() {
    run_async(async {
        let mut test_env = test_env(&[]);
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        disk_failure.fail(FailurePlace::Sync, 2);
        assert_eq!(code(&create(&node, &full()).await), (503, "unavailable"));
        // The account is in the file by then, but nothing proves that it is on the disk.
        until_readyz_is(&node, 200).await;
        assert_eq!(show(&node, "").await.body["total"], 0);
        assert_eq!(create(&node, &full()).await.status, 200);
        node.stop().await;

        let node = test_env.start().await;
        assert_eq!(show(&node, "").await.body["total"], 1);
        node.stop().await;
    });
}
