//! Schemas of a source's events: a violation marks the event, or refuses the call if asked.

use std::fs;

use serde_json::{Value, json};

use crate::commands::{folder, hookyard, output_of};
use crate::test_node::{TOKEN, TestAnswer, TestEnv, TestNode, run_async};

const ORDER: &str = r#"{"type": "object", "required": ["id"],
    "properties": {"id": {"type": "string"}, "amount": {"type": "number"}}}"#;

/// Node with the source `shop`, whose body is one event or a list, and the key `violations`.
fn test_env(violations: &str) -> TestEnv {
    let mut test_env = TestEnv::new(&[]);
    let folder = test_env.folder.path().join("schemas");
    fs::create_dir(&folder).expect("writable");
    fs::write(folder.join("order.paid.json"), ORDER).expect("writable");
    test_env.write_file(&format!(
        "[[sources.custom]]\nname = \"shop\"\nsecrets = [\"test-secret-long-enough-for-any-node\"]\n\
         entity = [\"./id\", \"/id\"]\nevent = [\"./type\", \"/type\"]\nitems = \"\"\n\
         scheme = {{ header = \"X-Token\", algorithm = \"token\" }}\n\
         schemas = \"schemas\"\n{violations}\n",
    ));
    test_env
}

async fn post(node: &TestNode, body: &Value) -> TestAnswer {
    let request = node
        .client
        .post(format!("{}/in/shop", node.base))
        .header("X-Token", "test-secret-long-enough-for-any-node")
        .body(body.to_string());
    node.send_request(request).await
}

#[test]
fn an_event_that_does_not_fit_its_schema_is_kept_and_marked() {
    run_async(async {
        let node = test_env("").start().await;
        let fit = json!({"id": "o1", "type": "order.paid", "amount": 1});
        let unfit = json!({"id": "o1", "type": "order.paid", "amount": "much"});
        let other = json!({"id": "o1", "type": "order.made", "amount": "much"});
        for (body, warnings) in [
            (&fit, json!(null)),
            (
                &unfit,
                json!([
                    "event does not fit its schema: /amount breaks /properties/amount/type: expected \
                        number, found string"
                ]),
            ),
            (&other, json!(null)),
        ] {
            let answer = post(&node, body).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let path = format!("/api/v1/events/{}", answer.event_id());
            let event = node.get(&path).await.body;
            let found = event.get("warnings").cloned().unwrap_or_default();
            assert_eq!(found, warnings, "{event}");
        }
        node.stop().await;
    });
}

#[test]
fn a_call_with_an_event_that_does_not_fit_is_refused_if_asked_and_stores_nothing() {
    run_async(async {
        let node = test_env("schema_violations = \"refuse\"").start().await;
        let batch = json!([
            {"id": "o1", "type": "order.paid"},
            {"id": 7, "type": "order.paid"},
        ]);
        let refused = post(&node, &batch).await;
        assert_eq!(
            (refused.status, &refused.body["code"]),
            (400, &json!("validation_failed")),
            "{refused:?}"
        );
        assert_eq!(
            refused.body["errors"],
            json!([{
                "field": "1.id",
                "detail": "event does not fit its schema: /id breaks /properties/id/type: expected string, \
                           found number",
            }])
        );
        let missing = post(&node, &json!({"type": "order.paid"})).await;
        assert_eq!(missing.body["errors"][0]["field"], "body", "{missing:?}");
        let stored = node.get("/api/v1/events?page_size=5").await.body;
        assert_eq!(stored["items"], json!([]), "{stored}");

        let fit = post(&node, &json!([{"id": "o1", "type": "order.paid"}])).await;
        assert_eq!((fit.status, &fit.body["accepted"]), (200, &json!(1)));
        node.stop().await;
    });
}

#[test]
fn check_says_what_is_wrong_with_schemas_and_with_a_captured_event() {
    let test_env = test_env("");
    let folder = test_env.folder.path();
    let config = folder.join("hookyard.toml");
    let request = folder.join("request.http");
    fs::write(
        &request,
        "POST /in/shop HTTP/1.1\r\nX-Token: test-secret-long-enough-for-any-node\r\n\r\n\
         {\"id\": \"o1\", \"type\": \"order.paid\", \"amount\": \"much\"}",
    )
    .expect("writable");
    let check = |words: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_hookyard"))
            .arg("check")
            .arg("--config")
            .arg(&config)
            .args(words)
            .env("HOOKYARD_ADMIN__TOKEN", crate::test_node::TOKEN)
            .env_remove("HOOKYARD_DEV")
            .output()
            .expect("it runs");
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8(text).expect("text")
    };
    let request = request.to_str().expect("a readable path");
    let report = check(&["--source", "shop", "--request", request]);
    assert!(
        report.contains("event does not fit its schema: /amount breaks /properties/amount/type"),
        "{report}"
    );

    fs::write(folder.join("schemas/order.made.json"), "{").expect("writable");
    let report = check(&[]);
    assert!(
        report.contains("sources.custom.shop.schemas")
            && report.contains("order.made.json is not JSON, at line 1"),
        "{report}"
    );
}

/// A client in another folder failed, since it looked for the schemas there.
#[test]
fn a_client_needs_no_schemas() {
    run_async(async {
        let test_env = test_env("");
        let node = test_env.start().await;
        let config = test_env.folder.path().join("hookyard.toml");
        fs::rename(
            test_env.folder.path().join("schemas"),
            test_env.folder.path().join("away"),
        )
        .expect("writable");
        let elsewhere = folder();
        let mut command = hookyard(
            elsewhere.path(),
            &["events", "tail", "--no-follow", "--config"],
        );
        command
            .arg(config)
            .args(["--url", &node.base, "--token", TOKEN]);
        let output = actix_rt::task::spawn_blocking(move || output_of(&mut command));
        let (code, _, error) = output.await.expect("no panic");
        assert_eq!((code, error.as_str()), (Some(0), ""));
        node.stop().await;
    });
}
