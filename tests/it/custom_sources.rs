//! Configured sources: requests of each preset, signed as by the provider, and every answer to
//! them.

use std::sync::Arc;
use std::time::Duration;

use hookyard::clock::{Clock, ManualClock};
use hookyard::entity::ticket::EVENT_NAMES;
use hookyard::event::{Kind, Timestamp};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::answers::raw;
use crate::commands::{folder, hookyard, output_of};
use crate::senders::{
    PRESETS, SenderHeaders, ed25519, ed25519_signature, hash, sha1, sha256, sha512, signed,
};
use crate::test_node::{
    TOKEN, TestAnswer, TestClient, TestEnv, TestNode, encode_id, run_async, run_together,
};

/// Body in which the default locators of every preset find a value.
const BODY: &str = r#"{"id": "m1", "type": "thing.happened", "data": {"object": {"id": "cus_1"}}, "repository": {"full_name": "o/r"}, "issue": {"number": 7}}"#;
const FORM: &str = "id=m1&type=thing.happened";

/// Node with a source for every preset, under the preset's name, and with the tables `more`.
fn test_env(more: &str) -> (TestEnv, Arc<ManualClock>) {
    let mut test_env = TestEnv::new(&[]);
    let clock = test_env.with_manual_clock();
    let mut text = String::new();
    for (preset, secret) in PRESETS {
        text += &format!(
            "[[sources.custom]]\nname = {preset:?}\npreset = {preset:?}\nsecrets = [{secret:?}]\n"
        );
        text += match preset {
            "github" | "stripe" => "",
            "standard" | "svix" => "entity = \"/id\"\n",
            "meta" => "entity = \"/id\"\nevent = \"/type\"\nverify_token = \"me&atyamo\"\n",
            _ => "entity = \"/id\"\nevent = \"/type\"\n",
        };
    }
    test_env.write_file(&(text + more));
    (test_env, clock)
}

fn secret_of(preset: &str) -> &'static str {
    PRESETS
        .into_iter()
        .find(|(name, _)| *name == preset)
        .expect("a preset")
        .1
}

fn body_of(preset: &str) -> &'static str {
    if preset == "twilio" { FORM } else { BODY }
}

async fn post(client: &TestClient, path: &str, headers: &SenderHeaders, body: &str) -> TestAnswer {
    let mut request = client
        .client
        .post(format!("{}{path}", client.base))
        .body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    client.send_request(request).await
}

/// Sends `body` signed as by `preset`, at the clock's time.
async fn send(
    client: &TestClient,
    clock: &ManualClock,
    preset: &str,
    body: &str,
    id: &str,
) -> TestAnswer {
    let path = format!("/in/{preset}");
    let url = format!("{}{path}", client.base);
    let headers = signed(preset, secret_of(preset), &url, body, id, clock.wall());
    post(client, &path, &headers, body).await
}

async fn entity(client: &TestClient, kind: &str, id: &str) -> TestAnswer {
    client
        .get(&format!(
            "/api/v1/entities/{}/{}",
            encode_id(kind),
            encode_id(id)
        ))
        .await
}

fn error(answer: &TestAnswer) -> (u16, &str) {
    (
        answer.status,
        answer.body["code"].as_str().unwrap_or_default(),
    )
}

#[test]
fn a_freshly_signed_request_of_each_preset_is_taken_and_with_another_body_it_is_not() {
    run_async(async {
        let (test_env, clock) = test_env("");
        let node = test_env.start().await;
        for (preset, secret) in PRESETS {
            let body = body_of(preset);
            let answer = send(&node, &clock, preset, body, "m1").await;
            assert_eq!(answer.status, 200, "{preset}: {answer:?}");
            let (id, event) = match preset {
                "github" => ("o/r#7", "issues"),
                "stripe" => ("cus_1", "thing.happened"),
                _ => ("m1", "thing.happened"),
            };
            let kind = format!("custom:{preset}");
            let event_id = answer.header("x-event-id").expect("an event").to_owned();
            assert_eq!(answer.header("x-entity-sequence"), Some("1"), "{preset}");
            match preset {
                "slack" => assert_eq!(answer.text, "", "a submitted view takes no JSON"),
                "twilio" => {
                    let content_type = answer.header("content-type");
                    assert_eq!(
                        (content_type, answer.text.as_str()),
                        (Some("text/xml"), "<Response/>")
                    );
                }
                _ => assert_eq!(
                    answer.body,
                    json!({"status": "accepted", "event_id": event_id,
                        "entity": {"kind": kind, "id": id, "sequence": 1}}),
                    "{preset}"
                ),
            }
            let event_of = node.get(&format!("/api/v1/events/{event_id}")).await.body;
            assert_eq!(event_of["type"], format!("{preset}.{event}"));
            assert_eq!(event_of["entity"]["id"], id, "{preset}");
            assert_eq!(
                (&event_of["source"], &event_of["status"]),
                (&json!(preset), &json!("completed"))
            );

            let path = format!("/in/{preset}");
            let headers = signed(
                preset,
                secret,
                &format!("{}{path}", node.base),
                body,
                "m2",
                clock.wall(),
            );
            let forged = post(&node, &path, &headers, &body.replace("m1", "m3")).await;
            // Basic credentials authenticate the sender, not the body.
            let expected = if preset == "pipedrive" {
                (200, "")
            } else {
                (401, "invalid_signature")
            };
            let expected = match preset {
                "slack" => (401, ""),
                _ => expected,
            };
            assert_eq!(error(&forged), expected, "{preset}");
        }
        node.stop().await;
    });
}

#[test]
fn another_secret_or_none_opens_no_preset() {
    run_async(async {
        let (test_env, clock) = test_env("");
        let node = test_env.start().await;
        for (preset, _) in PRESETS {
            let (path, body) = (format!("/in/{preset}"), body_of(preset));
            let url = format!("{}{path}", node.base);
            let other = signed(
                preset,
                "whsec_b3RoZXJvdGhlcm90aGVy",
                &url,
                body,
                "m1",
                clock.wall(),
            );
            let unsigned: SenderHeaders = other
                .iter()
                .filter(|(name, _)| *name == "Content-Type")
                .cloned()
                .collect();
            let answers = [
                post(&node, &path, &other, body).await,
                post(&node, &path, &unsigned, body).await,
            ];
            for answer in &answers {
                let code = match preset {
                    "slack" => "",
                    _ => "invalid_signature",
                };
                assert_eq!(error(answer), (401, code), "{preset}: {answer:?}");
            }
            assert_eq!(
                answers[0].body, answers[1].body,
                "{preset}: which part was wrong is not told"
            );
        }
        let events = node.get("/api/v1/events").await;
        assert_eq!(events.body["total"], 0);
        node.stop().await;
    });
}

#[test]
fn a_signed_time_may_be_off_by_the_tolerance_unless_that_is_zero() {
    run_async(async {
        let timeless = "[[sources.custom]]\nname = \"timeless\"\npreset = \"slack\"\nsecrets = [\"hush-hush-hush\"]\ntolerance_s = 0\n\
                        entity = \"/id\"\nevent = \"/type\"\n";
        let (test_env, clock) = test_env(timeless);
        let node = test_env.start().await;
        for preset in ["hubspot", "slack", "standard", "stripe", "svix", "zendesk"] {
            let path = format!("/in/{preset}");
            let sign = |id: &str, at| {
                signed(
                    preset,
                    secret_of(preset),
                    &format!("{}{path}", node.base),
                    BODY,
                    id,
                    at,
                )
            };
            let edge = clock.wall().saturating_sub(Duration::from_secs(300));
            assert_eq!(
                post(&node, &path, &sign("m1", edge), BODY).await.status,
                200,
                "{preset}"
            );
            for at in [
                edge.saturating_sub(Duration::from_secs(1)),
                clock.wall().saturating_add(Duration::from_secs(301)),
            ] {
                let answer = post(&node, &path, &sign("m2", at), BODY).await;
                let code = match preset {
                    "slack" => "",
                    _ => "stale_timestamp",
                };
                assert_eq!(error(&answer), (401, code), "{preset}: {answer:?}");
            }
        }
        let long_ago = signed(
            "slack",
            "hush-hush-hush",
            "",
            BODY,
            "m1",
            Timestamp::from_micros(1_000_000),
        );
        assert_eq!(
            post(&node, "/in/timeless", &long_ago, BODY).await.status,
            200
        );
        node.stop().await;
    });
}

#[test]
fn a_repeated_key_is_answered_with_the_first_event_across_a_restart() {
    run_async(async {
        let (test_env, clock) = test_env("");
        let node = test_env.start().await;
        let first = send(&node, &clock, "github", BODY, "d1").await;
        // The same delivery id with the content of another issue. It is in a header that is not
        // signed, so anybody may have used it before: the event was lost with a 409.
        let other = BODY.replace("\"number\": 7", "\"number\": 8");
        let check = async |node: &TestNode, word: &str| {
            let again = send(node, &clock, "github", BODY, "d1").await;
            assert_eq!(
                (again.status, &again.body["status"]),
                (200, &json!("duplicate"))
            );
            assert_eq!(
                again.body["entity"], first.body["entity"],
                "the first event's entity"
            );
            assert_eq!(again.event_id(), first.event_id());
            assert_eq!(again.header("x-entity-sequence"), Some("1"));
            let reused = send(node, &clock, "github", &other, "d1").await;
            assert_eq!((reused.status, &reused.body["status"]), (200, &json!(word)));
            let kept = entity(node, "custom:github", "o/r#8").await;
            assert_eq!(kept.body["sequence"], 1, "{kept:?}");
            reused.event_id()
        };
        let kept = check(&node, "accepted").await;
        let warning = "idempotency_key was used before for another event; both events are kept";
        let event = node.get(&format!("/api/v1/events/{kept}")).await.body;
        assert_eq!(event["warnings"], json!([warning]));
        let rows = node.get("/api/v1/webhooks/logs?page_size=1").await.body;
        assert_eq!(rows["items"][0]["warning"], warning);
        assert_eq!(check(&node, "duplicate").await, kept);
        let elsewhere = send(&node, &clock, "standard", BODY, "d1").await;
        assert_eq!(
            elsewhere.body["status"], "accepted",
            "another source has keys of its own"
        );
        node.stop().await;
        let node = test_env.start().await;
        assert_eq!(check(&node, "duplicate").await, kept);
        node.stop().await;
    });
}

/// The secret is in no file: it comes from the environment of the process.
#[test]
fn an_acknowledged_event_survives_a_kill_of_the_real_node() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        test_env.write_file("[[sources.custom]]\nname = \"my-repo\"\npreset = \"github\"\n");
        let secret = "hush-hush-hush-hush-hush";
        test_env.set("sources.custom.my_repo.secrets", secret);
        let mut node = test_env.start_process().await;
        let headers = signed("github", secret, "", BODY, "d1", Timestamp::from_micros(0));
        let first = post(&node, "/in/my-repo", &headers, BODY).await;
        assert_eq!((first.status, first.sequence()), (200, 1));
        node.kill();
        let node = test_env.start_process().await;
        let again = post(&node, "/in/my-repo", &headers, BODY).await;
        assert_eq!(
            (&again.body["status"], again.event_id()),
            (&json!("duplicate"), first.event_id())
        );
        assert_eq!(
            entity(&node, "custom:my-repo", "o/r#7").await.body["sequence"],
            1
        );
    });
}

#[test]
fn of_simultaneous_requests_with_one_key_one_is_accepted() {
    run_async(async {
        let (test_env, clock) = test_env("");
        let node = test_env.start().await;
        let sending = (0..8).map(|_| {
            let (client, clock) = (node.api.clone(), Arc::clone(&clock));
            async move { send(&client, &clock, "github", BODY, "d1").await }
        });
        let mut words: Vec<_> = run_together(sending)
            .await
            .iter()
            .map(|answer| {
                answer.body["status"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect();
        words.sort();
        assert_eq!(words, [vec!["accepted"], vec!["duplicate"; 7]].concat());
        node.stop().await;
    });
}

#[test]
fn without_an_idempotency_key_every_request_is_an_event() {
    run_async(async {
        let (test_env, clock) = test_env("");
        let node = test_env.start().await;
        for sequence in 1..=3 {
            assert_eq!(
                send(&node, &clock, "shopify", BODY, "m1").await.sequence(),
                sequence
            );
        }
        node.stop().await;
    });
}

#[test]
fn a_signed_time_makes_the_signature_a_key() {
    run_async(async {
        let (test_env, clock) = test_env("");
        let node = test_env.start().await;
        let word = async || {
            let answer = send(&node, &clock, "zendesk", BODY, "").await;
            answer.body["status"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!(word().await, "accepted");
        assert_eq!(
            word().await,
            "duplicate",
            "a captured request is taken once"
        );
        clock.advance(Duration::from_secs(1));
        assert_eq!(word().await, "accepted", "the sender signs each event anew");
        node.stop().await;
    });
}

/// The key stood in a header that is not signed: with another key, a captured call was taken again.
#[test]
fn a_captured_call_is_taken_once_whatever_key_it_comes_with() {
    run_async(async {
        let source = |name: &str, more: &str| {
            format!(
                "[[sources.custom]]\nname = {name:?}\nsecrets = [\"hush-hush-hush\"]\n{more}\n\
                 event = \"./type\"\nidempotency_key = \"X-Delivery\"\n\
                 scheme = {{ header = \"X-Sig\", algorithm = \"hmac-sha256\", \
                 signed = \"{{timestamp}}.{{body}}\", timestamp_header = \"X-Time\" }}\n"
            )
        };
        let more = source("one", "entity = \"./id\"")
            + &source("many", "entity = \"./id\"\nitems = \"\"")
            + "[[sources.custom]]\nname = \"linear\"\npreset = \"linear\"\nsecrets = [\"hush-hush-hush\"]\n";
        let (test_env, clock) = test_env(&more);
        let node = test_env.start().await;
        let seconds = || clock.wall().as_micros() / 1_000_000;
        let send = async |name: &str, key: &str, body: &str| {
            let time = seconds();
            let (path, headers) = match name {
                "linear" => {
                    let signature = hex::encode(sha256(b"hush-hush-hush", body));
                    let headers = [
                        ("Linear-Signature", signature),
                        ("Linear-Delivery", key.into()),
                    ];
                    ("/in/linear".to_owned(), headers.to_vec())
                }
                _ => {
                    let signature =
                        hex::encode(sha256(b"hush-hush-hush", &format!("{time}.{body}")));
                    let headers = [
                        ("X-Sig", signature),
                        ("X-Time", time.to_string()),
                        ("X-Delivery", key.into()),
                    ];
                    (format!("/in/{name}"), headers.to_vec())
                }
            };
            post(&node, &path, &headers, body).await
        };

        let one = r#"{"id": "1", "type": "t"}"#;
        let linear = json!({"type": "Issue", "action": "create", "data": {"id": "1"},
            "webhookTimestamp": seconds() * 1_000})
        .to_string();
        for (name, body) in [("one", one), ("linear", linear.as_str())] {
            let first = send(name, "k-1", body).await;
            assert_eq!(first.body["status"], "accepted", "{name}: {first:?}");
            for key in ["k-2", "k-1"] {
                let again = send(name, key, body).await;
                assert_eq!(again.body["status"], "duplicate", "{name}: {again:?}");
                assert_eq!(again.event_id(), first.event_id());
            }
        }

        let many =
            r#"[{"id": "1", "type": "t"}, {"id": "1", "type": "t"}, {"id": "2", "type": "t"}]"#;
        let first = send("many", "k-1", many).await;
        assert_eq!(
            first.body["accepted"], 3,
            "the items are no replays of each other: {first:?}"
        );
        for key in ["k-2", "k-1"] {
            let again = send("many", key, many).await;
            assert_eq!(again.body["duplicates"], 3, "{again:?}");
            assert_eq!(again.body["event_ids"], first.body["event_ids"]);
        }

        clock.advance(Duration::from_secs(1));
        let anew = send("one", "k-3", one).await;
        assert_eq!(anew.body["status"], "accepted", "signed anew: {anew:?}");
        node.stop().await;
    });
}

/// With the second of two secrets, an event of another publisher was lost as a duplicate; a scope of
/// secrets alone would store an event twice that is sent again after a rotation.
#[test]
fn a_key_belongs_to_its_secret_and_a_repetition_to_its_content() {
    run_async(async {
        let two = "[[sources.custom]]\nname = \"two\"\npreset = \"github\"\nsecrets = [\"secret-number-one\", \"secret-number-two\"]\n";
        let (test_env, clock) = test_env(two);
        let node = test_env.start().await;
        let other = BODY.replace("\"number\": 7", "\"number\": 8");
        let send = async |secret: &str, body: &str| {
            let headers = signed("github", secret, "", body, "d1", clock.wall());
            post(&node, "/in/two", &headers, body).await
        };
        let first = send("secret-number-one", BODY).await;
        assert_eq!(first.body["status"], "accepted");
        let rotated = send("secret-number-two", BODY).await;
        assert_eq!(
            (&rotated.body["status"], rotated.event_id()),
            (&json!("duplicate"), first.event_id())
        );
        assert_eq!(
            send("secret-number-two", &other).await.body["status"],
            "accepted"
        );
        assert_eq!(
            send("secret-number-two", &other).await.body["status"],
            "duplicate"
        );
        let reused = send("secret-number-one", &BODY.replace("7", "9")).await;
        assert_eq!(
            reused.body["status"], "accepted",
            "its header is not signed"
        );
        node.stop().await;
    });
}

#[test]
fn what_a_provider_changes_in_a_repetition_makes_no_other_event() {
    run_async(async {
        let (test_env, clock) = test_env("");
        let node = test_env.start().await;
        let body = |pending: u32| {
            format!(
                r#"{{"id": "evt_1", "type": "t", "pending_webhooks": {pending}, "data": {{"object": {{"id": "c"}}}}}}"#
            )
        };
        for (pending, word) in [(2, "accepted"), (1, "duplicate")] {
            let answer = send(&node, &clock, "stripe", &body(pending), "").await;
            assert_eq!(answer.body["status"], word, "{answer:?}");
        }
        let other = body(1).replace("\"t\"", "\"u\"");
        let reused = send(&node, &clock, "stripe", &other, "").await;
        assert_eq!(
            reused.body["status"], "accepted",
            "the preset chose the key"
        );
        node.stop().await;
    });
}

#[test]
fn json_that_no_text_or_number_holds_is_kept_and_readable() {
    run_async(async {
        let (test_env, _) = test_env(&own_source("odd", "entity = \"/id\"\nevent = \"/type\""));
        let node = test_env.start().await;
        let body = br#"{"id": "1", "type": "t", "text": "a\ud800", "\udc00": 1, "n": 1e400}"#;
        let answer = post_own(&node, "odd", "application/json", body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let state = entity(&node, "custom:odd", "1").await.body["state"].clone();
        let expected =
            json!({"id": "1", "type": "t", "text": "a\u{fffd}", "\u{fffd}": 1, "n": "1e400"});
        assert_eq!(state, expected);
        let event = node
            .client
            .get(format!("{}/api/v1/events/{}", node.base, answer.event_id()))
            .bearer_auth(crate::test_node::TOKEN);
        let text = event
            .send()
            .await
            .expect("an answer")
            .text()
            .await
            .expect("text");
        let sent = std::str::from_utf8(body).expect("text");
        assert!(text.contains(sent), "{text}");
        node.stop().await;
    });
}

#[test]
fn both_secrets_are_taken_while_they_are_rotated() {
    run_async(async {
        let both = "[[sources.custom]]\nname = \"both\"\npreset = \"shopify\"\nsecrets = [\"the-new-secret\", \"the-old-secret\"]\nentity = \"/id\"\nevent = \"/type\"\n";
        let (test_env, clock) = test_env(both);
        let node = test_env.start().await;
        for (secret, status) in [
            ("the-new-secret", 200),
            ("the-old-secret", 200),
            ("an-older-secret", 401),
        ] {
            let headers = signed("shopify", secret, "", BODY, "m1", clock.wall());
            assert_eq!(
                post(&node, "/in/both", &headers, BODY).await.status,
                status,
                "{secret}"
            );
        }
        node.stop().await;
    });
}

/// Microsoft validates an address by a text that it wants back, and signs nothing for it.
#[test]
fn a_validation_token_is_sent_back_where_that_is_declared() {
    run_async(async {
        let source = |name: &str, more: &str| {
            own_source(
                name,
                &format!("entity = \"/id\"\nevent = \"/type\"\n{more}"),
            )
        };
        let more = source("graph", "validation_token = true") + &source("plain", "");
        let (test_env, _clock) = test_env(&more);
        let node = test_env.start().await;
        let ask = async |name: &str, token: &str| {
            let url = format!("{}/in/{name}?validationToken={token}", node.base);
            let response = node.client.post(url).send().await.expect("an answer");
            let kind = response.headers()["content-type"]
                .to_str()
                .expect("text")
                .to_owned();
            let sniff = response.headers()["x-content-type-options"].clone();
            assert_eq!(sniff, "nosniff");
            (
                response.status().as_u16(),
                kind,
                response.text().await.expect("text"),
            )
        };
        let text = "text/plain; charset=utf-8".to_owned();
        assert_eq!(
            ask("graph", "Validation%3A+ok").await,
            (200, text, "Validation: ok".to_owned())
        );
        for (name, token) in [
            ("plain", "ok"),
            ("graph", "%3Cb%3E"),
            ("graph", &"a".repeat(1025)),
        ] {
            assert_eq!(ask(name, token).await.0, 401, "{name} {token}");
        }
        assert_eq!(node.get("/api/v1/events").await.body["total"], 0);
        node.stop().await;
    });
}

#[test]
fn handshakes_are_answered_and_are_no_events() {
    run_async(async {
        let silent = "[[sources.custom]]\nname = \"silent\"\npreset = \"meta\"\nsecrets = [\"hush-hush-hush\"]\nentity = \"/id\"\nevent = \"/type\"\n";
        let (test_env, clock) = test_env(silent);
        let node = test_env.start().await;
        let challenge = r#"{"type": "url_verification", "token": "x", "challenge": "3eZbrw1a"}"#;
        let answer = send(&node, &clock, "slack", challenge, "").await;
        assert_eq!((answer.status, &answer.body), (200, &json!("3eZbrw1a")));
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        let unsigned = post(&node, "/in/slack", &SenderHeaders::new(), challenge).await;
        assert_eq!(
            (unsigned.status, unsigned.text.as_str()),
            (401, ""),
            "whoever cannot sign gets no echo"
        );
        let ping = send(
            &node,
            &clock,
            "intercom",
            r#"{"type": "notification_event", "topic": "ping"}"#,
            "",
        )
        .await;
        assert_eq!((ping.status, &ping.body), (200, &json!({"status": "pong"})));

        let subscribe = |name: &str, token: &str| {
            let query = format!(
                "hub.mode=subscribe&hub.verify_token={}&hub.challenge=1158201444",
                encode_id(token)
            );
            node.client.get(format!("{}/in/{name}?{query}", node.base))
        };
        let answer = node.send_request(subscribe("meta", "me&atyamo")).await;
        assert_eq!((answer.status, &answer.body), (200, &json!(1_158_201_444)));
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(
            error(&node.send_request(subscribe("meta", "other")).await),
            (403, "forbidden")
        );
        // Without a token there is no handshake, and the challenge is not sent back.
        let closed = node.send_request(subscribe("silent", "")).await;
        assert_eq!(closed.status, 200);
        assert!(
            !closed.body.to_string().contains("1158201444"),
            "{closed:?}"
        );
        assert_eq!(node.get("/api/v1/events").await.body["total"], 0);
        node.stop().await;
    });
}

#[test]
fn a_form_is_kept_as_it_was_sent_and_read_as_an_object() {
    run_async(async {
        let (test_env, clock) = test_env("");
        let node = test_env.start().await;
        let sms = "id=SM%C3%BC1&type=sms.received&Body=a+b";
        // The decoded form is signed.
        let url = format!("{}/in/twilio", node.base);
        let mut headers = signed(
            "twilio",
            "hush-hush-hush",
            &url,
            "Body=a b&id=SMü1&type=sms.received",
            "",
            clock.wall(),
        );
        headers.retain(|(name, _)| *name != "Content-Type");
        headers.push((
            "Content-Type",
            "application/x-www-form-urlencoded; charset=utf-8".into(),
        ));
        let answer = post(&node, "/in/twilio", &headers, sms).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let event_id = answer.header("x-event-id").expect("an event");
        let fields = json!({"id": "SMü1", "type": "sms.received", "Body": "a b"});
        assert_eq!(
            entity(&node, "custom:twilio", "SMü1").await.body["state"],
            fields
        );
        assert_eq!(
            node.get(&format!("/api/v1/events/{event_id}")).await.body["payload"],
            fields
        );
        node.stop().await;
    });
}

#[test]
fn twilios_other_bodies_are_signed_by_their_hash() {
    run_async(async {
        let (test_env, _) = test_env("");
        let node = test_env.start().await;
        let path = format!("/in/twilio?bodySHA256={}", hash(BODY));
        let signature = encode(&sha1(b"hush-hush-hush", &format!("{}{path}", node.base)));
        let headers: SenderHeaders = vec![
            ("X-Twilio-Signature", signature),
            ("Content-Type", "application/json".into()),
        ];
        assert_eq!(post(&node, &path, &headers, BODY).await.status, 200);
        let other = post(&node, &path, &headers, &BODY.replace("m1", "m2")).await;
        assert_eq!(error(&other), (401, "invalid_signature"));
        node.stop().await;
    });
}

fn encode(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Such an event was refused with 400. Its sender sent it again, and then disabled the hook.
#[test]
fn an_authentic_event_without_its_fields_is_kept_and_marked() {
    run_async(async {
        let lost = "[[sources.custom]]\nname = \"lost\"\npreset = \"shopify\"\nsecrets = [\"hush-hush-hush\"]\nentity = \"/order/id\"\n\
                    event = \"X-Shopify-Topic\"\nidempotency_key = \"/tags\"\noccurred_at = \"/type\"\n";
        let (test_env, clock) = test_env(lost);
        let node = test_env.start().await;
        let body = r#"{"id": 1, "tags": ["a"], "type": "hunter2"}"#;
        let headers = signed("shopify", "hush-hush-hush", "", body, "", clock.wall());
        let answer = post(&node, "/in/lost", &headers, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(
            answer.body["entity"],
            json!({"kind": "custom:lost", "id": "unmatched", "sequence": 1})
        );

        let event = node
            .get(&format!("/api/v1/events/{}", answer.event_id()))
            .await
            .body;
        assert_eq!(event["type"], "lost.unmatched");
        assert_eq!(event["received_at"], json!(clock.wall().to_string()));
        let warnings = json!([
            "entity is not at /order/id; the entity is unmatched",
            "event is not in header x-shopify-topic; the name is unmatched",
            "idempotency_key (at /tags) is not text of 1 to 256 bytes without control characters; the event has no key of its own",
            "occurred_at (at /type) is not RFC 3339, RFC 2822, Unix seconds or Unix milliseconds; the time of arrival counts",
        ]);
        assert_eq!(event["warnings"], warnings);

        let rows = node.get("/api/v1/webhooks/logs?page_size=1").await.body;
        let row = &rows["items"][0];
        let warning = row["warning"].as_str().expect("a warning");
        assert!(
            warning.starts_with("entity is not at /order/id; the entity is unmatched. event is"),
            "{warning}"
        );
        assert_eq!(
            (&row["is_successful"], &row["event_ids"]),
            (&json!(true), &json!([answer.event_id()]))
        );

        let whole = send(&node, &clock, "github", BODY, "d1").await;
        let event = node
            .get(&format!("/api/v1/events/{}", whole.event_id()))
            .await
            .body;
        assert_eq!(event.get("warnings"), None, "{event}");
        node.stop().await;
    });
}

#[test]
fn githubs_events_without_a_repository_have_an_entity() {
    run_async(async {
        let (test_env, clock) = test_env("");
        let node = test_env.start().await;
        for (id, body, entity) in [
            (
                "d1",
                r#"{"zen": "Keep it.", "organization": {"login": "octo"}}"#,
                "organization:octo",
            ),
            ("d2", r#"{"zen": "Design for failure."}"#, "account"),
        ] {
            let answer = send(&node, &clock, "github", body, id).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.body["entity"]["id"], entity);
        }
        node.stop().await;
    });
}

#[test]
fn every_refusal_has_its_status_and_code() {
    run_async(async {
        let more = "[[sources.custom]]\nname = \"closed\"\npreset = \"stripe\"\nenabled = false\n"
            .to_owned()
            + &own_source("own", "entity = \"/id\"\nevent = \"/type\"");
        let (mut test_env, clock) = test_env(&more);
        test_env.set("server.body_limit_bytes", "2000");
        let node = test_env.start().await;
        for path in [
            "/in/unknown",
            "/in/closed",
            "/in/",
            "/in",
            "/in/github/more",
            "/in/GITHUB",
        ] {
            assert_eq!(
                error(&post(&node, path, &SenderHeaders::new(), BODY).await),
                (404, "not_found"),
                "{path}"
            );
        }
        let removed = node
            .send_request(node.client.delete(format!("{}/in/github", node.base)))
            .await;
        assert_eq!(
            (error(&removed), removed.header("allow")),
            ((405, "method_not_allowed"), Some("GET, HEAD, POST"))
        );
        let put = node
            .send_request(node.client.put(format!("{}/in/meta", node.base)))
            .await;
        assert_eq!(
            (error(&put), put.header("allow")),
            ((405, "method_not_allowed"), Some("GET, HEAD, POST"))
        );
        let large = format!("{{\"id\": {:?}}}", "x".repeat(2000));
        assert_eq!(
            error(&send(&node, &clock, "shopify", &large, "").await),
            (413, "body_too_large")
        );
        let mut text = signed("shopify", "hush-hush-hush", "", BODY, "", clock.wall());
        text.retain(|(name, _)| *name != "Content-Type");
        assert_eq!(
            post(&node, "/in/shopify", &text, BODY).await.status,
            200,
            "no content type counts as JSON"
        );
        text.push(("Content-Type", "text/plain".into()));
        assert_eq!(
            post(&node, "/in/shopify", &text, BODY).await.status,
            200,
            "Shopify sends JSON only, whatever a proxy writes"
        );
        assert_eq!(
            error(&post_own(&node, "own", "text/plain", BODY.as_bytes()).await),
            (415, "unsupported_media_type")
        );
        for body in ["{\"id\": \"m1\",}", " ", "id=1", "{} {}"] {
            assert_eq!(
                error(&send(&node, &clock, "shopify", body, "").await),
                (400, "invalid_json"),
                "{body}"
            );
        }
        node.stop().await;
    });
}

/// Table of a source without a preset, whose `X-Sig` signs the body.
fn own_source(name: &str, more: &str) -> String {
    format!(
        "[[sources.custom]]\nname = {name:?}\nsecrets = [\"hush-hush-hush\"]\n{more}\n\
         scheme = {{ header = \"X-Sig\", algorithm = \"hmac-sha256\" }}\n"
    )
}

/// Sends `body` as it is, signed by its own bytes.
async fn post_own(node: &TestNode, name: &str, content_type: &str, body: &[u8]) -> TestAnswer {
    let signature = sign_bytes(b"hush-hush-hush", body);
    let request = node
        .client
        .post(format!("{}/in/{name}", node.base))
        .header("Content-Type", content_type)
        .header("X-Sig", signature)
        .body(body.to_vec());
    node.send_request(request).await
}

fn sign_bytes(key: &[u8], body: &[u8]) -> String {
    use hmac::Mac;
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(key).expect("any length");
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

async fn shown_event(node: &TestNode, answer: &Value) -> Value {
    let id = answer.as_str().expect("an event id");
    node.get(&format!("/api/v1/events/{id}")).await.body
}

/// Only the first of several events in one body was taken; the others had no entity and no order.
#[test]
fn each_item_of_a_body_is_an_event_in_the_order_of_the_body() {
    run_async(async {
        let (test_env, clock) = test_env(
            "[[sources.custom]]\nname = \"crm2\"\npreset = \"hubspot\"\nsecrets = [\"hush-hush-hush\"]\n",
        );
        let node = test_env.start().await;
        let body = r#"[{"eventId":101,"subscriptionId":1,"occurredAt":1700000000000,"subscriptionType":"contact.propertyChange","objectId":7},
            {"eventId":102,"subscriptionId":1,"occurredAt":1700000001000,"subscriptionType":"contact.deletion","objectId":7},
            {"eventId":101,"subscriptionId":1,"occurredAt":1700000000000,"subscriptionType":"contact.propertyChange","objectId":7},
            {"eventId":103,"subscriptionId":1,"occurredAt":1700000000000,"subscriptionType":"contact.propertyChange","objectId":8}]"#;
        let url = format!("{}/in/crm2", node.base);
        let send = async || {
            let headers = signed("hubspot", "hush-hush-hush", &url, body, "", clock.wall());
            post(&node, "/in/crm2", &headers, body).await
        };
        let first = send().await;
        assert_eq!(first.status, 200, "{first:?}");
        let count = |answer: &TestAnswer| {
            ["received", "accepted", "duplicates"].map(|name| answer.body[name].as_u64())
        };
        assert_eq!(count(&first), [Some(4), Some(3), Some(1)]);
        let ids = first.body["event_ids"].as_array().expect("a list").clone();
        assert_eq!(
            (ids.len(), &ids[2]),
            (4, &ids[0]),
            "a duplicate is its first event"
        );

        let path = format!("/api/v1/entities/{}/7/timeline", encode_id("custom:crm2"));
        let timeline = node.get(&path).await.body;
        let types: Vec<_> = timeline["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(|item| item["type"].as_str().unwrap_or_default())
            .collect();
        assert_eq!(
            types,
            ["crm2.contact.deletion", "crm2.contact.propertyChange"]
        );
        let event = shown_event(&node, &ids[3]).await;
        assert_eq!(event["payload"]["objectId"], 8);
        assert_eq!(event.get("call_body"), None, "{event}");
        let event = shown_event(&node, &ids[0]).await;
        // Without its items: another entity's item would outlive the erasure of that entity.
        let line = ",\n            ";
        let rest = format!("[null{line}null{line}null{line}null]");
        assert_eq!(event["call_body"], rest, "the first event keeps the call");

        let again = send().await;
        assert_eq!(count(&again), [Some(4), Some(0), Some(4)]);
        assert_eq!(again.body["event_ids"], first.body["event_ids"]);
        let row = node.get("/api/v1/webhooks/logs?page_size=1").await.body;
        assert_eq!(
            row["items"][0]["event_ids"].as_array().map(Vec::len),
            Some(3)
        );
        node.stop().await;
    });
}

#[test]
fn items_deep_in_a_body_find_fields_in_themselves_and_around_them() {
    run_async(async {
        let nested = "items = [\"/entry/*/changes\", \"/entry/*/messaging\"]\nentity = \"/entry/0/id\"\n\
                      event = [\"{/object}.{./field}\", \"message\"]\nidempotency_key = \"X-Call\"";
        let (test_env, _) = test_env(&own_source("pages", nested));
        let node = test_env.start().await;
        let send = async |call: &str, body: &str| {
            let request = node
                .client
                .post(format!("{}/in/pages", node.base))
                .header("X-Sig", sign_bytes(b"hush-hush-hush", body.as_bytes()))
                .header("X-Call", call)
                .body(body.to_owned());
            node.send_request(request).await
        };
        let body = r#"{"object": "page", "entry": [{"id": 1, "changes": [{"field": "feed"}, {"field": "likes"}]}, {"id": 2, "messaging": [{"text": "Hi"}]}]}"#;
        let answer = send("c1", body).await;
        assert_eq!(
            answer.body["accepted"], 3,
            "a call's key is no item's: {answer:?}"
        );
        let mut events = Vec::new();
        for id in answer.body["event_ids"].as_array().expect("a list") {
            let event = shown_event(&node, id).await;
            events.push(format!("{} {}", event["entity"]["id"], event["type"]));
        }
        assert_eq!(
            events,
            [
                r#""1" "pages.page.feed""#,
                r#""1" "pages.page.likes""#,
                r#""2" "pages.message""#
            ]
        );
        assert_eq!(send("c1", body).await.body["duplicates"], 3);

        // A body without such a list is one event, and is not lost.
        let other = send("c2", r#"{"object": "page", "entry": []}"#).await;
        assert_eq!(
            (other.status, &other.body["entity"]["id"]),
            (200, &json!("unmatched")),
            "{other:?}"
        );
        let many = format!(
            r#"{{"entry": [{{"changes": [{}]}}]}}"#,
            vec!["1"; 10_001].join(",")
        );
        assert_eq!(error(&send("c3", &many).await), (413, "body_too_large"));
        node.stop().await;
    });
}

#[test]
fn json_in_a_form_is_read_as_if_it_had_come_alone() {
    run_async(async {
        let (test_env, clock) = test_env("");
        let node = test_env.start().await;
        let inner = r#"{"issue": {"number": 7}, "repository": {"full_name": "o/r"}}"#;
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("payload", inner)
            .finish();
        let mut headers = signed("github", "hush-hush-hush", "", &form, "d1", clock.wall());
        headers.retain(|(name, _)| *name != "Content-Type");
        headers.push(("Content-Type", "application/x-www-form-urlencoded".into()));
        let answer = post(&node, "/in/github", &headers, &form).await;
        assert_eq!(answer.body["entity"]["id"], "o/r#7", "{answer:?}");
        let event = shown_event(&node, &json!(answer.event_id())).await;
        assert_eq!(event["payload"]["issue"]["number"], 7);
        assert_eq!(event["call_body"], form, "the form is kept as it was sent");
        node.stop().await;
    });
}

#[test]
fn bodies_that_are_odd_and_authentic_are_taken() {
    run_async(async {
        let fields = "entity = [\"/id\", \"X-Resource\"]\nevent = [\"/type\", \"changed\"]";
        let (test_env, _) = test_env(&own_source("odd", fields));
        let node = test_env.start().await;
        let form = "application/x-www-form-urlencoded";
        let latin = "application/x-www-form-urlencoded; charset=iso-8859-1";
        let json = "application/json";
        let table: [(&str, &[u8], &str, Value); 5] = [
            (
                json,
                b"\xef\xbb\xbf{\"id\":\"1\",\"type\":\"t\"}",
                "1",
                json!({"id": "1", "type": "t"}),
            ),
            (
                latin,
                b"id=caf%E9&type=t",
                "caf\u{e9}",
                json!({"id": "caf\u{e9}", "type": "t"}),
            ),
            (
                latin,
                b"id=caf%E8&type=t",
                "caf\u{e8}",
                json!({"id": "caf\u{e8}", "type": "t"}),
            ),
            (
                form,
                b"\xef\xbb\xbfid=2&type=t",
                "2",
                json!({"id": "2", "type": "t"}),
            ),
            ("text/plain", b"", "unmatched", json!({})),
        ];
        for (content_type, body, id, payload) in table {
            let answer = post_own(&node, "odd", content_type, body).await;
            assert_eq!(answer.body["entity"]["id"], id, "{answer:?}");
            let event = shown_event(&node, &json!(answer.event_id())).await;
            assert_eq!(event["payload"], payload);
            let state = entity(&node, "custom:odd", id).await.body["state"].clone();
            assert_eq!(state, payload, "{id}");
        }
        for (content_type, body) in [
            (form, &b"id=caf%E9"[..]),
            ("application/x-www-form-urlencoded; charset=utf-16", b"id=1"),
        ] {
            let answer = post_own(&node, "odd", content_type, body).await;
            assert_eq!(
                error(&answer),
                (415, "unsupported_media_type"),
                "{answer:?}"
            );
        }
        node.stop().await;
    });
}

#[test]
fn a_compressed_body_is_taken_where_that_is_switched_on() {
    run_async(async {
        let fields = "entity = \"/id\"\nevent = \"/type\"";
        let tables = own_source("plain", fields)
            + &own_source("gzip", &format!("{fields}\ndecompress = true"));
        let (mut test_env, _) = test_env(&tables);
        test_env.set("server.body_limit_bytes", "2000");
        let node = test_env.start().await;
        let compress = |text: &[u8]| {
            use std::io::Write;
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(text).expect("memory");
            encoder.finish().expect("memory")
        };
        let send = async |name: &str, encoding: &str, signed: &[u8], sent: Vec<u8>| {
            let request = node
                .client
                .post(format!("{}/in/{name}", node.base))
                .header("Content-Encoding", encoding)
                .header("X-Sig", sign_bytes(b"hush-hush-hush", signed))
                .body(sent);
            node.send_request(request).await
        };
        let text = br#"{"id": "z1", "type": "t"}"#;
        let sent = compress(text);
        for (signed, word) in [(&sent[..], "as sent"), (text, "before")] {
            let answer = send("gzip", "gzip", signed, sent.clone()).await;
            assert_eq!(answer.body["entity"]["id"], "z1", "{word}: {answer:?}");
            let event = shown_event(&node, &json!(answer.event_id())).await;
            assert_eq!(event["payload"], json!({"id": "z1", "type": "t"}));
        }
        let refused = send("plain", "gzip", &sent, sent.clone()).await;
        assert_eq!(
            (error(&refused), refused.header("accept-encoding")),
            ((415, "unsupported_media_type"), Some("identity"))
        );
        let other = send("gzip", "br", &sent, sent.clone()).await;
        assert_eq!(other.header("accept-encoding"), Some("gzip, identity"));
        let bomb = compress(&vec![b' '; 100_000]);
        assert_eq!(
            error(&send("gzip", "gzip", &bomb, bomb.clone()).await),
            (413, "body_too_large")
        );
        let forged = send("gzip", "gzip", b"{}", sent.clone()).await;
        assert_eq!(error(&forged), (401, "invalid_signature"));
        assert_eq!(
            error(&send("gzip", "gzip", text, text.to_vec()).await),
            (400, "body_incomplete")
        );
        assert_eq!(
            error(&send("gzip", "gzip", b"{}", text.to_vec()).await),
            (401, "invalid_signature")
        );
        assert_eq!(
            send("plain", "identity", text, text.to_vec()).await.status,
            200
        );
        node.stop().await;
    });
}

#[test]
fn an_address_says_what_it_is_for() {
    run_async(async {
        let (test_env, _) = test_env("");
        let node = test_env.start().await;
        for name in ["github", "slack"] {
            let url = format!("{}/in/{name}", node.base);
            let head = node.send_request(node.client.head(&url)).await;
            assert_eq!((head.status, &head.body), (200, &json!("")), "{name}");
            let got = node.client.get(&url).send().await.expect("an answer");
            assert_eq!(got.status(), 200, "{name}");
            let text = got.text().await.expect("text");
            assert!(
                text.starts_with("This address takes the events of"),
                "{text}"
            );
        }
        assert_eq!(
            node.get("/api/v1/webhooks/logs").await.body["total"],
            0,
            "strangers do not fill the call log"
        );
        node.stop().await;
    });
}

#[test]
fn both_forms_of_the_path_work() {
    run_async(async {
        let (test_env, clock) = test_env("");
        let node = test_env.start().await;
        for path in ["/in/hubspot", "/in/hubspot/", "/in/hubspot?tenant=a%20b&x"] {
            let headers = signed(
                "hubspot",
                "hush-hush-hush",
                &format!("{}{path}", node.base),
                BODY,
                "",
                clock.wall(),
            );
            assert_eq!(
                post(&node, path, &headers, BODY).await.status,
                200,
                "{path}"
            );
        }
        node.stop().await;
    });
}

#[test]
fn behind_a_proxy_the_public_url_is_signed() {
    run_async(async {
        let (mut test_env, clock) = test_env("");
        let inside = {
            let node = test_env.start().await;
            let forwarded = |mut headers: SenderHeaders| {
                headers.extend([
                    ("X-Forwarded-Host", "hooks.example.com".into()),
                    ("X-Forwarded-Proto", "https".into()),
                ]);
                headers
            };
            let headers = signed(
                "hubspot",
                "hush-hush-hush",
                "https://hooks.example.com/in/hubspot",
                BODY,
                "",
                clock.wall(),
            );
            let answer = post(&node, "/in/hubspot", &forwarded(headers), BODY).await;
            node.stop().await;
            answer
        };
        assert_eq!(
            error(&inside),
            (401, "invalid_signature"),
            "anyone can send those headers"
        );
        test_env.set("server.public_url", "https://hooks.example.com/");
        let node = test_env.start().await;
        let headers = signed(
            "hubspot",
            "hush-hush-hush",
            "https://hooks.example.com/in/hubspot?a=1",
            BODY,
            "",
            clock.wall(),
        );
        assert_eq!(
            post(&node, "/in/hubspot?a=1", &headers, BODY).await.status,
            200
        );
        node.stop().await;
    });
}

#[test]
fn an_address_has_so_many_requests_a_minute_and_forgers_use_none_of_them() {
    run_async(async {
        let limited = "[[sources.custom]]\nname = \"limited\"\npreset = \"shopify\"\nsecrets = [\"hush-hush-hush\"]\nentity = \"/id\"\n\
                       event = \"/type\"\nrate_per_minute = 2\n";
        let (test_env, clock) = test_env(limited);
        let node = test_env.start().await;
        let headers = signed("shopify", "hush-hush-hush", "", BODY, "", clock.wall());
        for _ in 0..3 {
            assert_eq!(post(&node, "/in/limited", &headers, "{}").await.status, 401);
        }
        let quota = |headers: &HeaderMap| {
            ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"].map(|name| {
                headers
                    .get(name)
                    .map(|value| value.to_str().expect("text").to_owned())
            })
        };
        for remaining in ["1", "0"] {
            let answer = post(&node, "/in/limited", &headers, BODY).await;
            assert_eq!(answer.status, 200);
            assert_eq!(
                quota(&answer.headers),
                ["2", remaining, "60"].map(|text| Some(text.to_owned()))
            );
        }
        let refused = post(&node, "/in/limited", &headers, BODY).await;
        assert_eq!(
            (error(&refused), refused.header("retry-after")),
            ((429, "rate_limited"), Some("60"))
        );
        clock.advance(Duration::from_secs(60));
        assert_eq!(post(&node, "/in/limited", &headers, BODY).await.status, 200);
        let free = send(&node, &clock, "shopify", BODY, "").await;
        assert_eq!((free.status, free.header("ratelimit-limit")), (200, None));
        node.stop().await;
    });
}

/// Regression: a body was read to its end before its signature was looked for.
#[test]
fn requests_without_a_signature_are_refused_before_their_body_arrives() {
    run_async(async {
        let (mut test_env, _) = test_env("");
        test_env.set("sources.leads.enabled", "true");
        test_env.set("sources.leads.secrets", "hush-hush-hush");
        let node = test_env.start().await;
        for path in [
            "/in/shopify",
            "/in/stripe",
            "/in/twilio",
            "/api/v1/webhooks/incoming",
        ] {
            let head =
                format!("POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
            let answer = raw(&node, head).await;
            assert!(answer.starts_with("HTTP/1.1 401"), "{path}: {answer}");
        }
        node.stop().await;
    });
}

#[test]
fn too_many_failed_authentications_get_429_but_a_valid_signature_does_not() {
    run_async(async {
        let (mut test_env, clock) = test_env("");
        test_env.set("server.auth_failures_per_minute", "2");
        let node = test_env.start().await;
        for status in [401, 401, 429] {
            assert_eq!(
                post(&node, "/in/shopify", &SenderHeaders::new(), BODY)
                    .await
                    .status,
                status
            );
        }
        let guess = node.client.get(format!(
            "{}/in/meta?hub.mode=subscribe&hub.verify_token=x&hub.challenge=1",
            node.base
        ));
        assert_eq!(
            node.send_request(guess).await.status,
            429,
            "guessing the verify token counts too"
        );
        assert_eq!(send(&node, &clock, "shopify", BODY, "").await.status, 200);
        node.stop().await;
    });
}

#[test]
fn schemes_of_ones_own_verify() {
    run_async(async {
        let (_, public) = ed25519();
        let fields = "entity = \"/id\"\nevent = \"X-Event\"\nidempotency_key = \"X-Id\"\n";
        let tables = [
            (
                "signed",
                "\"hush-hush-hush\"",
                "{ header = \"X-Sig\", algorithm = \"hmac-sha512\", encoding = \"base64\", prefix = \"v1=\", signed = \"{id}|{timestamp}|{method}|{body}\", timestamp_header = \"X-At\", tolerance_s = 5 }",
            ),
            (
                "keyed",
                &format!("{public:?}"),
                "{ header = \"X-Sig\", algorithm = \"ed25519\", encoding = \"base64\" }",
            ),
            (
                "token",
                "\"hush-hush-hush\"",
                "{ header = \"Authorization\", algorithm = \"token\", prefix = \"Bearer \" }",
            ),
            (
                "basic",
                "\"user:hush-hush-hush\"",
                "{ algorithm = \"basic\" }",
            ),
        ];
        let text: String = tables
            .iter()
            .map(|(name, secret, scheme)| {
                format!("[[sources.custom]]\nname = {name:?}\nsecrets = [{secret}]\nscheme = {scheme}\n{fields}")
            })
            .collect();
        let (test_env, clock) = test_env(&text);
        let node = test_env.start().await;
        let at = clock.wall();
        let message = format!("d1|{at}|POST|{BODY}");
        let old = at.saturating_sub(Duration::from_secs(6));
        let stale = format!("d1|{old}|POST|{BODY}");
        let cases: [(&str, SenderHeaders, u16); 9] = [
            (
                "signed",
                vec![
                    (
                        "X-Sig",
                        format!("v1={}", encode(&sha512(b"hush-hush-hush", &message))),
                    ),
                    ("X-At", at.to_string()),
                ],
                200,
            ),
            (
                "signed",
                vec![
                    (
                        "X-Sig",
                        format!("v1={}", encode(&sha256(b"hush-hush-hush", &message))),
                    ),
                    ("X-At", at.to_string()),
                ],
                401,
            ),
            (
                "signed",
                vec![
                    (
                        "X-Sig",
                        format!("v1={}", encode(&sha512(b"hush-hush-hush", &stale))),
                    ),
                    ("X-At", old.to_string()),
                ],
                401,
            ),
            ("keyed", vec![("X-Sig", ed25519_signature(BODY))], 200),
            ("keyed", vec![("X-Sig", ed25519_signature("{}"))], 401),
            (
                "token",
                vec![("Authorization", "Bearer hush-hush-hush".into())],
                200,
            ),
            ("token", vec![("Authorization", "Bearer hus".into())], 401),
            (
                "basic",
                vec![(
                    "Authorization",
                    format!("Basic {}", encode(b"user:hush-hush-hush")),
                )],
                200,
            ),
            (
                "basic",
                vec![("Authorization", format!("Basic {}", encode(b"user:")))],
                401,
            ),
        ];
        for (name, mut headers, status) in cases {
            headers.extend([("X-Id", "d1".to_owned()), ("X-Event", "made".to_owned())]);
            let answer = post(&node, &format!("/in/{name}"), &headers, BODY).await;
            assert_eq!(answer.status, status, "{name}: {answer:?}");
        }
        node.stop().await;
    });
}

#[test]
fn every_call_is_logged_under_its_source_without_its_credentials() {
    run_async(async {
        let odd = "[[sources.custom]]\nname = \"odd\"\nsecrets = [\"hunter22\"]\nentity = \"/id\"\nevent = \"/type\"\n\
                   scheme = { header = \"X-Odd\", algorithm = \"token\" }\n";
        let (test_env, clock) = test_env(odd);
        let node = test_env.start().await;
        let newest = async || {
            let rows = node.get("/api/v1/webhooks/logs?page_size=1").await.body;
            node.get(&format!("/api/v1/webhooks/logs/{}", rows["items"][0]["id"]))
                .await
                .body
        };
        for (preset, secret) in PRESETS {
            let path = format!("/in/{preset}");
            let headers = signed(
                preset,
                secret,
                &format!("{}{path}", node.base),
                body_of(preset),
                "d1",
                clock.wall(),
            );
            let answer = post(&node, &path, &headers, body_of(preset)).await;
            let row = newest().await;
            assert_eq!(
                (&row["source"], &row["status"], &row["path"]),
                (&json!(preset), &json!(200), &json!(path))
            );
            assert_eq!(row["event_ids"], json!([answer.header("x-event-id")]));
            let shown = row.to_string();
            for (name, value) in headers
                .iter()
                .filter(|(_, value)| value.len() > 30 && !value.starts_with("application/"))
            {
                assert!(!shown.contains(value.as_str()), "{preset} {name}: {shown}");
            }
        }
        let headers: SenderHeaders = vec![("X-Odd", "hunter22".into())];
        assert_eq!(post(&node, "/in/odd", &headers, BODY).await.status, 200);
        assert!(!newest().await.to_string().contains("hunter22"));
        assert_eq!(post(&node, "/in/odd", &headers, "{").await.status, 400);
        let row = newest().await;
        assert_eq!(
            (&row["source"], &row["code"]),
            (&json!("odd"), &json!("invalid_json"))
        );
        let guess = node.client.get(format!(
            "{}/in/meta?hub.mode=subscribe&hub.verify_token=hunter22&hub.challenge=1",
            node.base
        ));
        assert_eq!(node.send_request(guess).await.status, 403);
        let row = newest().await;
        assert_eq!(
            (&row["source"], &row["code"], &row["path"]),
            (&json!("meta"), &json!("forbidden"), &json!("/in/meta"))
        );
        assert!(!row.to_string().contains("hunter22"));
        node.stop().await;
    });
}

#[test]
fn of_each_field_the_newest_value_counts_by_the_events_own_time() {
    run_async(async {
        let (test_env, clock) = test_env("");
        let node = test_env.start().await;
        let at = clock.wall().as_micros() / 1_000_000;
        let body = |id: &str, created: i64, plan: &str| {
            json!({"id": id, "type": "plan", "created": created, "data": {"object": {"id": "cus_9"}}, "plan": plan})
                .to_string()
        };
        for (id, created, plan) in [
            ("e2", at, "gold"),
            ("e1", at - 60, "tin"),
            ("e3", at + 1, "lead"),
        ] {
            assert_eq!(
                send(&node, &clock, "stripe", &body(id, created, plan), "")
                    .await
                    .status,
                200
            );
            let expected = if id == "e3" { "lead" } else { "gold" };
            assert_eq!(
                entity(&node, "custom:stripe", "cus_9").await.body["state"]["plan"],
                expected,
                "after {id}"
            );
        }
        let path = format!(
            "/api/v1/entities/{}/cus_9/timeline",
            encode_id("custom:stripe")
        );
        let items = node.get(&path).await.body["items"]
            .as_array()
            .expect("items")
            .clone();
        let late: Vec<_> = items.iter().map(|item| item["late"].as_bool()).collect();
        assert_eq!(late, [Some(false), Some(true), Some(false)], "newest first");
        node.stop().await;
    });
}

#[test]
fn ids_keep_every_digit_and_every_script() {
    run_async(async {
        let (test_env, clock) = test_env("");
        let node = test_env.start().await;
        let table = [
            (
                r#"{"id": 12345678901234567890123, "type": "t"}"#,
                "12345678901234567890123",
            ),
            (r#"{"id": "\u00e4\u00f6/\u2603", "type": "t"}"#, "äö/☃"),
            (r#"{"id": "first", "type": "t", "id": "last"}"#, "last"),
        ];
        for (body, id) in table {
            let answer = send(&node, &clock, "shopify", body, "").await;
            assert_eq!(answer.body["entity"]["id"], id, "{answer:?}");
            assert_eq!(
                entity(&node, "custom:shopify", id).await.body["sequence"],
                1
            );
        }
        node.stop().await;
    });
}

#[test]
fn a_list_has_no_fields_to_keep_and_is_an_event_all_the_same() {
    run_async(async {
        let lists = "[[sources.custom]]\nname = \"lists\"\npreset = \"shopify\"\nsecrets = [\"hush-hush-hush\"]\nentity = \"/0/objectId\"\nevent = \"/0/type\"\n";
        let (test_env, clock) = test_env(lists);
        let node = test_env.start().await;
        let body = r#"[{"objectId": 7, "type": "contact.creation"}]"#;
        let answer = post(
            &node,
            "/in/lists",
            &signed("shopify", "hush-hush-hush", "", body, "", clock.wall()),
            body,
        )
        .await;
        assert_eq!(
            (answer.status, &answer.body["entity"]["id"]),
            (200, &json!("7"))
        );
        assert_eq!(
            entity(&node, "custom:lists", "7").await.body["state"],
            json!({})
        );
        let event = node
            .get(&format!("/api/v1/events/{}", answer.event_id()))
            .await
            .body;
        assert_eq!(
            event["payload"],
            serde_json::from_str::<Value>(body).expect("JSON")
        );
        node.stop().await;
    });
}

/// The first word of a built-in event and the name of a kind may not name a source: subscribers
/// could not tell their events apart.
#[test]
fn no_source_is_named_like_something_built_in() {
    let words = EVENT_NAMES
        .iter()
        .filter_map(|event| event.split('.').next())
        .chain(Kind::BUILT_IN.map(Kind::as_str));
    for name in words.chain(["support", "leads", "c2s", "instagram", "crm"]) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("h.toml");
        let text = format!(
            "[[sources.custom]]\nname = {name:?}\npreset = \"stripe\"\nsecrets = [\"hush-hush-hush\"]\n"
        );
        std::fs::write(&path, text).expect("writable");
        let env = [("HOOKYARD_ADMIN__TOKEN", "test-token")];
        let problems = hookyard::config::load_config(Some(&path), env)
            .expect_err("taken")
            .to_string();
        assert!(
            problems.contains("is a reserved name"),
            "{name}: {problems}"
        );
    }
}

#[test]
fn the_example_of_a_delivery_is_accepted_by_its_source() {
    run_async(async {
        let (test_env, clock) = test_env("");
        let node = test_env.start().await;
        let answer = node.get("/api/v1/webhooks/events/available").await;
        let items = answer.body["items"].as_array().expect("a list");
        // Twilio sends forms, whose fields the deliveries show.
        for (preset, _) in PRESETS
            .into_iter()
            .filter(|(preset, _)| *preset != "twilio")
        {
            let item = items
                .iter()
                .find(|item| item["event"] == format!("{preset}.*"))
                .expect("listed");
            let example = &item["example"];
            assert_eq!(example["event"], format!("{preset}.created"));
            assert_eq!(
                example["entity"],
                json!({"kind": format!("custom:{preset}"), "id": "1", "sequence": 1})
            );
            let taken = send(&node, &clock, preset, &example["data"].to_string(), "m-1").await;
            assert_eq!(taken.status, 200, "{preset}: {taken:?}");
            let event_id = taken.header("x-event-id").expect("an event");
            let event = node.get(&format!("/api/v1/events/{event_id}")).await.body;
            assert_eq!(event["entity"]["id"], "1", "{preset}: {event}");
        }
        node.stop().await;
    });
}

/// A list without items was one event, in which nothing was found.
#[test]
fn an_empty_list_is_a_call_without_events() {
    run_async(async {
        let own = own_source(
            "own",
            "entity = \"./id\"\nevent = \"./type\"\nitems = \"/events\"",
        );
        let (test_env, clock) = test_env(&own);
        let node = test_env.start().await;
        let nothing = json!({"status": "accepted", "received": 0, "accepted": 0, "duplicates": 0, "event_ids": []});
        let empty = send(&node, &clock, "hubspot", "[]", "").await;
        assert_eq!((empty.status, empty.body), (200, nothing.clone()));
        let empty = post_own(&node, "own", "application/json", b"{\"events\": []}").await;
        assert_eq!((empty.status, empty.body), (200, nothing));
        let events = node.get("/api/v1/events").await.body;
        assert_eq!(events["items"], json!([]));
        let row = &node.get("/api/v1/webhooks/logs?page_size=1").await.body["items"][0];
        assert_eq!(
            (&row["source"], &row["status"]),
            (&json!("own"), &json!(200))
        );

        let whole = post_own(&node, "own", "application/json", b"{\"events\": 7}").await;
        assert_eq!(
            whole.body["entity"]["id"], "unmatched",
            "no list: one event"
        );
        node.stop().await;
    });
}

/// The answer spoke of a path, and named neither.
#[test]
fn a_reused_key_is_named_with_the_event_that_has_it() {
    run_async(async {
        let places = "entity = \"/of\"\nevent = \"/type\"\nidempotency_key = \"/id\"";
        let (test_env, _) = test_env(&own_source("own", places));
        let node = test_env.start().await;
        let post = async |body: &Value| {
            post_own(
                &node,
                "own",
                "application/json",
                body.to_string().as_bytes(),
            )
            .await
        };
        let first = post(&json!({"id": "k1", "of": "e", "type": "t"})).await;
        let reused = post(&json!({"id": "k1", "of": "e", "type": "u"})).await;
        assert_eq!(error(&reused), (409, "idempotency_key_reused"));
        let expected = format!(
            "the idempotency key \"k1\" was used before for another event, {}; send this one under a key of its own",
            first.event_id()
        );
        assert_eq!(reused.body["detail"], expected);
        assert_eq!(reused.header("x-event-id"), None);
        let shown = shown_event(&node, &first.body["event_id"]).await;
        assert_eq!(shown["idempotency_key"], "k1");
        node.stop().await;
    });
}

#[test]
fn the_call_log_knows_the_cause_of_a_401_and_the_caller_does_not() {
    run_async(async {
        let (test_env, clock) = test_env("");
        let node = test_env.start().await;
        let headers = |secret: &str| signed("stripe", secret, "", BODY, "", clock.wall());
        let stale = headers(secret_of("stripe"));
        let other = headers("whsec_other");
        clock.advance(Duration::from_secs(301));
        let malformed = vec![("Stripe-Signature", "hunter22".to_owned())];
        for (headers, cause) in [
            (SenderHeaders::new(), "header stripe-signature is missing"),
            (malformed, "header stripe-signature does not hold"),
            (other, "no secret of the source matches the signature"),
            (stale, "signed timestamp is outside the tolerance"),
        ] {
            let answer = post(&node, "/in/stripe", &headers, BODY).await;
            assert_eq!(answer.status, 401, "{answer:?}");
            let row = &node.get("/api/v1/webhooks/logs?page_size=1").await.body["items"][0];
            let found = row["warning"].as_str().unwrap_or_default();
            assert!(
                found.starts_with(cause) && !found.contains("hunter22"),
                "{cause}: {row}"
            );
            let is_told = answer.body.to_string().contains(cause);
            assert!(!is_told || cause.starts_with("signed"), "{answer:?}");
        }
        node.stop().await;
    });
}

#[test]
fn events_with_a_warning_are_found_marked_and_counted() {
    run_async(async {
        let (test_env, clock) = test_env("");
        let node = test_env.start().await;
        let fine = send(&node, &clock, "github", BODY, "d1").await.event_id();
        let odd = send(&node, &clock, "shopify", "{}", "").await.event_id();
        for (wanted, expected) in [("true", &odd), ("false", &fine)] {
            let path = format!("/api/v1/events?has_warnings={wanted}");
            let found = node.get(&path).await.body;
            assert_eq!(
                (&found["total"], &found["items"][0]["event_id"]),
                (&json!(1), &json!(expected))
            );
        }
        let wrong = node.get("/api/v1/events?has_warnings=yes").await;
        assert_eq!(error(&wrong), (400, "validation_failed"));

        let request = node.client.get(format!("{}/metrics", node.base));
        let metrics = request.bearer_auth(TOKEN).send().await.expect("an answer");
        let metrics = metrics.text().await.expect("text");
        let line = "hookyard_events_with_warnings_total{source=\"shopify\"} 1";
        assert!(metrics.contains(line), "{metrics}");
        assert!(
            !metrics.contains("with_warnings_total{source=\"github\"}"),
            "{metrics}"
        );

        let tail = async |more: &[&str]| {
            let folder = folder();
            let words = [
                "events",
                "tail",
                "--no-follow",
                "--url",
                &node.base,
                "--token",
                TOKEN,
            ];
            let mut command = hookyard(folder.path(), &words);
            command.args(more);
            let output = actix_rt::task::spawn_blocking(move || output_of(&mut command));
            output.await.expect("no panic")
        };
        let (_, lines, _) = tail(&[]).await;
        let marks: Vec<_> = lines
            .lines()
            .map(|line| line.ends_with("completed, with a warning"))
            .collect();
        assert_eq!(marks, [false, true], "{lines}");
        let (_, lines, _) = tail(&["--warnings"]).await;
        assert!(
            lines.lines().count() == 1 && lines.contains(&odd),
            "{lines}"
        );
        let (code, _, problem) = tail(&["--event", "issues"]).await;
        assert_eq!(code, Some(1));
        assert!(
            problem.contains("--event is no event of this node; did you mean ")
                && problem.contains(".issues?"),
            "{problem}"
        );
        node.stop().await;
    });
}
