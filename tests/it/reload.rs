//! Reload: a changed configuration is in force from the answer on, without a restart and without a lost
//! or wrong answer; what needs a restart is named, and a configuration with problems changes nothing.

use std::cell::Cell;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::rc::Rc;

use hookyard::clock::{Clock, SystemClock};
use hookyard::config::Secret;
use hookyard::edge::support::signature::sign_support_body;
use reqwest::Method;
use serde_json::{Value, json};

use crate::commands::{folder, hookyard, output_of, send_signal};
use crate::dashboard::DashboardVisitor;
use crate::dead_letters::{poll_until, wait_for_letters};
use crate::deliveries;
use crate::receiver::TestReceiver;
use crate::test_node::{
    API_KEY, SECRET, SUPPORT, TOKEN, TestAnswer, TestClient, TestEnv, free_port, run_async,
};
use crate::tokens::call;

const NEW_KEY: &str = "new-key-long-enough-for-any-node";
const NEW_SECRET: &str = "new-secret-long-enough-for-any-node";
const NEW_TOKEN: &str = "new-token-long-enough-for-any-node";

/// Environment whose sources and tokens are in the file alone.
fn test_env(file: &str) -> TestEnv {
    let mut test_env = TestEnv::new(&[]);
    for key in [
        "admin.token",
        "sources.support.enabled",
        "sources.support.api_keys",
        "sources.support.secrets",
        "sources.support.rate_per_minute",
    ] {
        test_env.unset(key);
    }
    test_env.write_file(file);
    test_env
}

/// Configuration with one support source.
fn file(token: &str, api_key: &str, secret: &str, more: &str) -> String {
    format!(
        "[admin]\ntoken = \"{token}\"\n[sources.support]\nenabled = true\napi_keys = [\"{api_key}\"]\n\
         secrets = [\"{secret}\"]\nrate_per_minute = 0\n{more}"
    )
}

/// Sends one event with this API key, signed with `secret`.
async fn send_as(client: &TestClient, api_key: &str, secret: &str, key: &str) -> TestAnswer {
    let body = message(key);
    let request = client.signed_request(&body, key);
    let request = request.build().expect("a request");
    let timestamp = request.headers()["x-crm-timestamp"].to_str().expect("text");
    let signature = sign_support_body(&Secret::new(secret), body.as_bytes(), timestamp);
    let again = client
        .client
        .post(request.url().clone())
        .header("content-type", "application/json")
        .header("x-crm-api-key", api_key)
        .header("x-crm-signature", signature)
        .header("x-crm-timestamp", timestamp)
        .header("idempotency-key", key)
        .body(body.clone());
    client.send_request(again).await
}

fn message(key: &str) -> String {
    let data = json!({"message_id": key, "text": key});
    json!({"event": "message.created", "support_uid": "SUP-1", "data": data}).to_string()
}

async fn reload(client: &TestClient, token: &str) -> TestAnswer {
    call(client, token, Method::POST, "/api/v1/reload", &Value::Null).await
}

/// Reloads, and returns the keys that have changed and those that need a restart.
async fn reload_well(client: &TestClient, token: &str) -> (Vec<String>, Vec<String>) {
    let answer = reload(client, token).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let list = |name: &str| serde_json::from_value(answer.body[name].clone()).expect("a list");
    (list("changed"), list("restart_required"))
}

#[test]
fn secrets_keys_tokens_and_sources_change_with_the_answer_of_a_reload() {
    run_async(async {
        let mut test_env = test_env(&file(TOKEN, API_KEY, SECRET, ""));
        let node = test_env.start().await;
        assert_eq!(send_as(&node, API_KEY, SECRET, "m1").await.status, 202);
        assert_eq!(reload_well(&node, TOKEN).await, (vec![], vec![]));
        let visitor = DashboardVisitor::logged_in_by(&node, TOKEN).await;
        assert_eq!(visitor.get("/dashboard/settings").await.status, 200);

        let more = "[[sources.custom]]\nname = \"shop\"\npreset = \"standard\"\nentity = \"/id\"\n\
                    secrets = [\"whsec_c2VjcmV0LW9mLXRoZS1zaG9wLTEyMzQ1\"]\n\
                    [telemetry]\nmetrics_token = \"token-of-the-metrics-reader\"\n\
                    [server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n\
                    [sources.c2s]\nenabled = true\ntokens = [\"token-of-the-c2s-sender\"]\n\
                    ip_allowlist = [\"203.0.113.0/24\"]\n";
        test_env.write_file(&file(NEW_TOKEN, NEW_KEY, NEW_SECRET, more));
        assert_eq!(send_as(&node, API_KEY, SECRET, "m2").await.status, 202);
        let (changed, restart) = reload_well(&node, TOKEN).await;
        for key in [
            "admin.token",
            "server.trusted_proxies",
            "sources.c2s.enabled",
            "sources.c2s.ip_allowlist",
            "sources.custom.shop.secrets",
            "sources.support.api_keys",
            "sources.support.secrets",
            "telemetry.metrics_token",
        ] {
            assert!(
                changed.iter().any(|found| found == key),
                "{key}: {changed:?}"
            );
        }
        assert_eq!(restart, Vec::<String>::new());

        assert_eq!(send_as(&node, API_KEY, SECRET, "m3").await.status, 401);
        assert_eq!(send_as(&node, NEW_KEY, SECRET, "m3").await.status, 401);
        assert_eq!(send_as(&node, NEW_KEY, NEW_SECRET, "m3").await.status, 202);
        assert_eq!(reload(&node, TOKEN).await.status, 401);
        let metrics = node.client.get(format!("{}/metrics", node.base));
        assert_eq!(node.send_request(metrics).await.status, 401);
        let shop = node.client.post(format!("{}/in/shop", node.base));
        let shop = node.send_request(shop.body("{}")).await;
        assert_eq!(shop.status, 401, "the source is there: {shop:?}");
        for (client, status) in [("203.0.113.9", 422), ("198.51.100.7", 403)] {
            let c2s = node
                .client
                .post(format!("{}/api/v1/webhooks/c2s", node.base));
            let c2s = c2s
                .header("x-webhook-token", "token-of-the-c2s-sender")
                .header("x-forwarded-for", client)
                .header("content-type", "application/json");
            let answer = node.send_request(c2s.body("{}")).await;
            assert!(
                answer.status == status || (status == 422 && answer.status == 400),
                "{client}: {answer:?}"
            );
        }
        let page = visitor.get("/dashboard/settings").await;
        assert_eq!(page.status, 303, "its token is no longer the admin's");

        // Back again, and a source goes.
        test_env.write_file(&file(TOKEN, API_KEY, SECRET, ""));
        reload_well(&node, NEW_TOKEN).await;
        let shop = node.client.post(format!("{}/in/shop", node.base));
        assert_eq!(node.send_request(shop.body("{}")).await.status, 404);
        assert_eq!(send_as(&node, API_KEY, SECRET, "m4").await.status, 202);
        let audit = node.get("/api/v1/audit?operation=config.reload").await;
        let whos: Vec<_> = audit.body["items"]
            .as_array()
            .expect("items")
            .iter()
            .collect();
        assert!(
            whos.len() >= 3
                && whos
                    .iter()
                    .all(|entry| entry["outcome"] != "ok" || entry["who"] == "config:admin"),
            "{audit:?}"
        );
        node.stop().await;
    });
}

#[test]
fn a_configuration_with_problems_changes_nothing_and_each_is_named_with_its_line() {
    run_async(async {
        let mut test_env = test_env(&file(TOKEN, API_KEY, SECRET, ""));
        let node = test_env.start().await;
        let more =
            "toleranc_s = 300\n[server]\nbody_limit_bytes = 7\n[telemetry]\nlevel = \"inof\"\n";
        test_env.write_file(&file(NEW_TOKEN, NEW_KEY, NEW_SECRET, more));
        let refused = reload(&node, TOKEN).await;
        assert_eq!(
            (refused.status, &refused.body["code"]),
            (422, &json!("configuration_invalid"))
        );
        assert_eq!(
            refused.body["detail"],
            "the configuration has 3 problems; nothing was changed"
        );
        let errors = refused.body["errors"].as_array().expect("errors");
        let details: Vec<_> = errors
            .iter()
            .map(|error| error["detail"].as_str().expect("text"))
            .collect();
        for (line, part) in [
            (8, "the nearest is `sources.support.tolerance_s`"),
            (10, "server.body_limit_bytes"),
            (12, "telemetry.level"),
        ] {
            let place = format!("hookyard.toml:{line}: ");
            assert!(
                details
                    .iter()
                    .any(|detail| detail.contains(&place) && detail.contains(part)),
                "{details:?}"
            );
        }
        assert!(!refused.text.contains(NEW_SECRET) && !refused.text.contains(NEW_TOKEN));
        assert_eq!(send_as(&node, API_KEY, SECRET, "m1").await.status, 202);

        test_env.write_file("[admin\n");
        assert_eq!(reload(&node, TOKEN).await.status, 422);
        assert_eq!(send_as(&node, API_KEY, SECRET, "m2").await.status, 202);
        node.stop().await;
    });
}

#[test]
fn what_needs_a_restart_is_named_and_stays_as_it_was() {
    run_async(async {
        let mut test_env = test_env(&file(TOKEN, API_KEY, SECRET, ""));
        let node = test_env.start().await;
        let more = "[router]\nlive_entities_max = 77\n[server]\ndocs = false\n[store]\nsegment_bytes = 99999\n";
        test_env.write_file(&file(TOKEN, API_KEY, SECRET, more));
        for _ in 0..2 {
            let (_, restart) = reload_well(&node, TOKEN).await;
            assert_eq!(restart, ["router.live_entities_max", "store.segment_bytes"]);
        }
        let docs = node.client.get(format!("{}/openapi.json", node.base));
        assert_eq!(node.send_request(docs).await.status, 404);
        let visitor = DashboardVisitor::logged_in_by(&node, TOKEN).await;
        let settings = visitor.get("/dashboard/settings").await;
        assert!(!settings.html.contains("99999"), "the settings in force");
        node.stop().await;
    });
}

#[test]
fn the_requests_of_the_last_minute_count_against_a_changed_limit() {
    run_async(async {
        let limited = |limit: u32| {
            file(TOKEN, API_KEY, SECRET, "")
                .replace("rate_per_minute = 0", &format!("rate_per_minute = {limit}"))
        };
        let mut test_env = test_env(&limited(2));
        test_env.with_manual_clock();
        let node = test_env.start().await;
        let send = async |key: &str| send_as(&node, API_KEY, SECRET, key).await.status;
        assert_eq!(
            [send("1").await, send("2").await, send("3").await],
            [202, 202, 429]
        );
        test_env.write_file(&limited(3));
        assert_eq!(
            reload_well(&node, TOKEN).await.0,
            ["sources.support.rate_per_minute"]
        );
        assert_eq!([send("4").await, send("5").await], [202, 429]);
        test_env.write_file(&limited(0));
        reload_well(&node, TOKEN).await;
        assert_eq!(send("6").await, 202);
        node.stop().await;
    });
}

#[test]
fn a_target_that_is_allowed_no_longer_is_not_called_again() {
    run_async(async {
        let with = |networks: &str| {
            let more = format!("[delivery]\nallow_targets = [{networks}]\n");
            file(TOKEN, API_KEY, SECRET, &more)
        };
        let mut test_env = test_env(&with("\"127.0.0.0/8\""));
        let node = test_env.start().await;
        let receiver = TestReceiver::accept_all().await;
        deliveries::subscribe(&node, receiver.url("/"), json!({})).await;
        assert_eq!(send_as(&node, API_KEY, SECRET, "m1").await.status, 202);
        receiver.wait_for_accepted(1).await;

        test_env.write_file(&with(""));
        assert_eq!(
            reload_well(&node, TOKEN).await.0,
            ["delivery.allow_targets"]
        );
        assert_eq!(send_as(&node, API_KEY, SECRET, "m2").await.status, 202);
        let letters = wait_for_letters(&node, 1).await;
        assert_eq!(receiver.arrivals().len(), 1, "{letters:?}");

        test_env.write_file(&with("\"127.0.0.0/8\""));
        reload_well(&node, TOKEN).await;
        assert_eq!(send_as(&node, API_KEY, SECRET, "m3").await.status, 202);
        receiver.wait_for_accepted(2).await;
        node.stop().await;
    });
}

/// Begins a request of the former secrets, reads until the node waits for the body, and returns the
/// connection with the body that is missing.
fn begin_request(base: &str, key: &str) -> (TcpStream, String) {
    let address = base.strip_prefix("http://").expect("a base");
    let (body, timestamp) = (message(key), SystemClock::default().wall().to_string());
    let signature = sign_support_body(&Secret::new(SECRET), body.as_bytes(), &timestamp);
    let mut stream = TcpStream::connect(address).expect("it listens");
    let head = format!(
        "POST {SUPPORT} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         expect: 100-continue\r\nx-crm-api-key: {API_KEY}\r\nx-crm-signature: {signature}\r\n\
         x-crm-timestamp: {timestamp}\r\nidempotency-key: {key}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("room");
    let mut line = String::new();
    let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
    reader.read_line(&mut line).expect("an interim answer");
    assert!(line.contains("100"), "{line}");
    (stream, body)
}

#[test]
fn a_request_that_began_before_a_reload_ends_by_the_configuration_it_began_with() {
    run_async(async {
        let mut test_env = test_env(&file(TOKEN, API_KEY, SECRET, ""));
        let node = test_env.start().await;
        let base = node.base.clone();
        let begin = move || begin_request(&base, "m1");
        let (mut stream, body) = actix_rt::task::spawn_blocking(begin)
            .await
            .expect("no panic");
        test_env.write_file(&file(TOKEN, NEW_KEY, NEW_SECRET, ""));
        reload_well(&node, TOKEN).await;
        assert_eq!(send_as(&node, API_KEY, SECRET, "m2").await.status, 401);
        let end = move || {
            stream.write_all(body.as_bytes()).expect("room");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer");
            answer
        };
        let answer = actix_rt::task::spawn_blocking(end).await.expect("no panic");
        assert!(answer.contains("202 Accepted"), "{answer}");
        node.stop().await;
    });
}

#[test]
fn no_request_is_lost_or_answered_wrongly_while_the_configuration_changes() {
    run_async(async {
        let both = |more: &str| {
            file(TOKEN, API_KEY, SECRET, more).replace(
                &format!("[\"{SECRET}\"]"),
                &format!("[\"{SECRET}\", \"{NEW_SECRET}\"]"),
            )
        };
        let mut test_env = test_env(&both(""));
        let node = test_env.start().await;
        let is_over = Rc::new(Cell::new(false));
        let senders: Vec<_> = (0..4)
            .map(|sender| {
                let (client, is_over) = (node.api.clone(), Rc::clone(&is_over));
                actix_rt::spawn(async move {
                    let mut sent = 0;
                    while !is_over.get() {
                        let secret = [SECRET, NEW_SECRET][sent % 2];
                        let answer =
                            send_as(&client, API_KEY, secret, &format!("s{sender}-{sent}")).await;
                        assert_eq!(answer.status, 202, "{answer:?}");
                        sent += 1;
                    }
                    sent
                })
            })
            .collect();
        for round in 0..30 {
            let more = format!("tolerance_s = {}\n", 300 + round % 2);
            test_env.write_file(&both(&more));
            reload_well(&node, TOKEN).await;
        }
        is_over.set(true);
        for sender in senders {
            assert!(sender.await.expect("no wrong answer") > 0);
        }
        node.stop().await;
    });
}

#[test]
fn a_signal_and_the_command_reload_a_process_with_its_files_of_secrets() {
    run_async(async {
        let mut test_env = test_env(&file(TOKEN, API_KEY, SECRET, ""));
        test_env.write_file(
            &file(TOKEN, API_KEY, SECRET, "").replace(&format!("api_keys = [\"{API_KEY}\"]\n"), ""),
        );
        let secret_file = test_env.folder.path().join("api-keys");
        fs::write(&secret_file, format!("{API_KEY}\n")).expect("written");
        fs::set_permissions(&secret_file, fs::Permissions::from_mode(0o600)).expect("its owner");
        test_env.set(
            "sources.support.api_keys_file",
            secret_file.to_str().expect("text"),
        );
        let port = free_port();
        let mut serve = test_env.serve_command(port);
        serve.env_remove("HOOKYARD_TELEMETRY__LEVEL");
        let node = test_env.wait_for_process(serve, port);
        assert_eq!(send_as(&node, API_KEY, SECRET, "m1").await.status, 202);

        fs::write(&secret_file, format!("{NEW_KEY}\n")).expect("written");
        send_signal(&node.child, "HUP");
        node.wait_for_log("configuration reloaded").await;
        assert_eq!(send_as(&node, API_KEY, SECRET, "m2").await.status, 401);
        assert_eq!(send_as(&node, NEW_KEY, SECRET, "m2").await.status, 202);

        // The entry comes after the line: the outcome must be known.
        poll_until(&node, "/api/v1/audit?who=node&operation=config", |acts| {
            acts["items"][0]["outcome"] == "ok"
        })
        .await;

        let config = test_env.folder.path().join("hookyard.toml");
        let text = fs::read_to_string(&config).expect("text");
        let place = folder();
        let run = |text: String| {
            fs::write(&config, text).expect("written");
            let words = ["reload", "--url", &node.base, "--token", TOKEN];
            output_of(&mut hookyard(place.path(), &words))
        };
        let (code, out, error) = run(format!(
            "{text}[telemetry]\nlevel = \"warn\"\n[router]\nshards = 3\n"
        ));
        assert_eq!((code, error.as_str()), (Some(0), ""), "{out}");
        assert_eq!(
            out,
            "configuration reloaded; changed:\n  telemetry.level\nrouter.shards needs a restart\n"
        );
        let (code, _, error) = run(format!("{text}[server]\nbnd = 1\nkeep_alive_s = -1\n"));
        assert_eq!(code, Some(1), "{error}");
        assert!(error.contains("2 problems; nothing was changed"), "{error}");
        assert!(
            error.contains("hookyard.toml:8: unknown key `server.bnd`"),
            "{error}"
        );
        assert!(
            error.contains("hookyard.toml:9: server.keep_alive_s"),
            "{error}"
        );
        let log = node.kill_and_read_log();
        let reloads = log
            .iter()
            .filter(|line| line.contains("configuration reloaded"))
            .count();
        assert_eq!(reloads, 1, "the second was at level warn: {log:?}");
        assert!(
            log.iter()
                .any(|line| line.contains("nothing was changed") && line.contains("keep_alive_s")),
            "{log:?}"
        );
    });
}
