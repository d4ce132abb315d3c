//! Presets on a real node: handshakes, answers without a body, names with spaces, and credentials that
//! are repeated.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer;
use hookyard::clock::{Clock, ManualClock};
use serde_json::json;

use crate::senders::{ed25519, sha1, sha256};
use crate::test_node::{
    API_KEY, SUPPORT, TOKEN, TestAnswer, TestClient, TestEnv, TestNode, run_async,
};

const KEY: &str = "a-secret-of-more-than-24-bytes";

/// Node with one source of `preset`, whose secret is `secret`.
async fn start(preset: &str, secret: &str) -> (TestEnv, TestNode, Arc<ManualClock>) {
    let mut test_env = TestEnv::new(&[]);
    let clock = test_env.with_manual_clock();
    test_env.write_file(&format!(
        "[[sources.custom]]\nname = {preset:?}\npreset = {preset:?}\nsecrets = [{secret:?}]\n"
    ));
    let node = test_env.start().await;
    (test_env, node, clock)
}

async fn post(client: &TestClient, path: &str, headers: &[(&str, &str)], body: &str) -> TestAnswer {
    let request = client.client.post(format!("{}{path}", client.base));
    let request = headers
        .iter()
        .fold(request.body(body.to_owned()), |request, (name, value)| {
            request.header(*name, value.as_bytes())
        });
    client.send_request(request).await
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A name with a space was refused, so that no GitLab event was taken.
#[test]
fn a_name_with_a_space_is_an_event_that_can_be_followed() {
    run_async(async {
        let (_env, node, _) = start("gitlab", KEY).await;
        let body = r#"{"object_kind": "push", "project": {"path_with_namespace": "octo/repo"}}"#;
        for name in ["Push Hook", "Événement 注文"] {
            let headers = [JSON, ("X-Gitlab-Token", KEY), ("X-Gitlab-Event", name)];
            let answer = post(&node, "/in/gitlab", &headers, body).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let event = node
                .get(&format!("/api/v1/events/{}", answer.event_id()))
                .await;
            assert_eq!(event.body["type"], format!("gitlab.{name}"));

            let subscription = json!({
                "url": "https://receiver.example/x", "events": [format!("gitlab.{name}")],
            });
            let request = node.client.post(format!("{}/api/v1/webhooks", node.base));
            let request = request
                .bearer_auth(TOKEN)
                .header("Content-Type", "application/json")
                .body(subscription.to_string());
            let answer = node.send_request(request).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        node.stop().await;
    });
}

#[test]
fn gitlabs_signing_token_and_secret_token_are_both_taken() {
    run_async(async {
        let token = "whsec_aHVzaGh1c2hodXNoaHVzaGh1c2hodXNo";
        let (_env, node, clock) = start("gitlab", token).await;
        let body = r#"{"object_kind": "push"}"#;
        let seconds = (clock.wall().as_micros() / 1_000_000).to_string();
        let key = STANDARD.decode(&token[6..]).expect("base64");
        let signature = STANDARD.encode(sha256(&key, &format!("m1.{seconds}.{body}")));
        let signed = |signature: &str| {
            [
                ("webhook-id", "m1".to_owned()),
                ("webhook-timestamp", seconds.clone()),
                ("webhook-signature", format!("v1,{signature}")),
                ("X-Gitlab-Token", "another-secret-token".to_owned()),
                ("X-Gitlab-Event", "Push Hook".to_owned()),
            ]
        };
        for (signature, status) in [(signature.as_str(), 200), ("AAAA", 401)] {
            let headers = signed(signature);
            let mut headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            headers.push(JSON);
            let answer = post(&node, "/in/gitlab", &headers, body).await;
            assert_eq!(answer.status, status, "{answer:?}");
        }
        node.stop().await;
    });
}

#[test]
fn discord_gets_its_pings_and_events_answered_as_it_asks() {
    run_async(async {
        let (key, _) = ed25519();
        let public = hex::encode(key.verifying_key().as_bytes());
        let (_env, node, clock) = start("discord", &public).await;
        let time = (clock.wall().as_micros() / 1_000_000).to_string();
        let send = async |body: &str, signed: &str| {
            let signature = hex::encode(key.sign(format!("{time}{signed}").as_bytes()).to_bytes());
            let headers = [
                JSON,
                ("X-Signature-Ed25519", signature.as_str()),
                ("X-Signature-Timestamp", time.as_str()),
            ];
            post(&node, "/in/discord", &headers, body).await
        };
        let ping = r#"{"version":1,"application_id":"9","type":0}"#;
        assert_eq!(send(ping, ping).await.status, 204);
        assert_eq!(send(ping, "{}").await.status, 401, "a check of Discord's");
        let interaction = r#"{"type":1,"id":"7","application_id":"9"}"#;
        let answer = send(interaction, interaction).await;
        assert_eq!((answer.status, &answer.body), (200, &json!({"type": 1})));

        let event = r#"{"version":1,"type":1,"application_id":"9","event":{"type":"ENTITLEMENT_CREATE","timestamp":"2025-12-04T10:30:00.5","data":{"id":"1","user_id":"7"}}}"#;
        let answer = send(event, event).await;
        assert_eq!(answer.status, 204);
        assert!(answer.header("x-event-id").is_some(), "{answer:?}");
        assert_eq!(send(event, event).await.status, 204, "a duplicate too");
        assert_eq!(node.get("/api/v1/events").await.body["total"], 1);
        let entity = node.get("/api/v1/entities/custom:discord/user:7").await;
        assert_eq!(entity.body["sequence"], 1, "{entity:?}");
        node.stop().await;
    });
}

#[test]
fn xeros_intent_to_receive_gets_200_or_401_by_its_signature() {
    run_async(async {
        let (_env, node, _) = start("xero", KEY).await;
        let body =
            r#"{"events":[],"firstEventSequence":0,"lastEventSequence":0,"entropy":"FMLHZNKCVK"}"#;
        for (signed, status) in [(body, 200), ("{}", 401)] {
            let signature = STANDARD.encode(sha256(KEY.as_bytes(), signed));
            let headers = [JSON, ("x-xero-signature", signature.as_str())];
            let answer = post(&node, "/in/xero", &headers, body).await;
            assert_eq!(answer.status, status, "{answer:?}");
        }
        assert_eq!(node.get("/api/v1/events").await.body["total"], 0);
        node.stop().await;
    });
}

#[test]
fn woocommerces_first_ping_needs_no_signature_and_nothing_else_goes_without() {
    run_async(async {
        let (_env, node, _) = start("woocommerce", KEY).await;
        let form = ("Content-Type", "application/x-www-form-urlencoded");
        let ping = post(&node, "/in/woocommerce", &[form], "webhook_id=17").await;
        assert_eq!(ping.status, 200, "{ping:?}");
        for body in ["webhook_id=17&a=1", r#"{"id":1}"#, ""] {
            let answer = post(&node, "/in/woocommerce", &[form], body).await;
            assert_eq!(answer.status, 401, "{body}");
        }
        assert_eq!(node.get("/api/v1/events").await.body["total"], 0);
        node.stop().await;
    });
}

#[test]
fn twilio_may_sign_its_url_with_or_without_the_port() {
    run_async(async {
        let (_env, node, _) = start("twilio", KEY).await;
        let url = format!("{}/in/twilio", node.base);
        let (host, _) = url.rsplit_once(':').expect("a port");
        let body = "CallSid=CA1&CallStatus=completed";
        for (signed, status) in [
            (url.clone(), 200),
            (format!("{host}/in/twilio"), 200),
            (format!("{host}:1/in/twilio"), 401),
        ] {
            let text = format!("{signed}CallSidCA1CallStatuscompleted");
            let signature = STANDARD.encode(sha1(KEY.as_bytes(), &text));
            let headers = [
                ("Content-Type", "application/x-www-form-urlencoded"),
                ("X-Twilio-Signature", signature.as_str()),
            ];
            let answer = post(&node, "/in/twilio", &headers, body).await;
            assert_eq!(answer.status, status, "{signed}");
        }
        node.stop().await;
    });
}

/// Meta sends what was not answered again, together with what is new. The whole call got 409, and so
/// did each retry.
#[test]
fn a_retry_of_meta_with_more_messages_brings_only_those() {
    run_async(async {
        let (_env, node, _) = start("meta", KEY).await;
        let send = async |object: &str, list: &str| {
            let body = format!(r#"{{"object": "{object}", "entry": [{{"id": "7", {list}}}]}}"#);
            let signature = format!("sha256={}", hex::encode(sha256(KEY.as_bytes(), &body)));
            let headers = [JSON, ("X-Hub-Signature-256", signature.as_str())];
            let answer = post(&node, "/in/meta", &headers, &body).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let counts = ["accepted", "duplicates"].map(|name| answer.body[name].as_u64());
            (counts.map(Option::unwrap_or_default), answer)
        };
        let messages = async |list: &str| {
            let change = format!(
                r#""changes": [{{"field": "messages", "value": {{"messages": [{list}]}}}}]"#
            );
            send("whatsapp_business_account", &change).await
        };
        let a = r#"{"id": "wamid.A", "timestamp": "1504902988", "text": {"body": "a"}}"#;
        let b = r#"{"id": "wamid.B", "timestamp": "1504902989", "text": {"body": "b"}}"#;
        assert_eq!(messages(a).await.0, [1, 0]);
        let (counts, answer) = messages(&format!("{a}, {b}")).await;
        assert_eq!(counts, [1, 1]);
        let id = answer.body["event_ids"][1].as_str().expect("an id");
        let event = node.get(&format!("/api/v1/events/{id}")).await;
        assert_eq!(event.body["payload"]["id"], "wamid.B");

        let read =
            r#""messaging": [{"sender": {"id": "1"}, "timestamp": 1, "read": {"mid": "m"}}]"#;
        let (counts, answer) = send("page", read).await;
        assert_eq!(counts, [1, 0]);
        let id = answer.body["event_ids"][0].as_str().expect("an id");
        let event = node.get(&format!("/api/v1/events/{id}")).await;
        assert_eq!(event.body["type"], "meta.page.read");
        assert_eq!(send("page", read).await.0, [0, 1]);
        node.stop().await;
    });
}

/// HubSpot's `eventId` is not unique: the second event of one id was refused, and its call with it.
#[test]
fn hubspots_events_of_one_id_are_all_taken_and_a_retry_brings_none() {
    run_async(async {
        let (_env, node, clock) = start("hubspot", KEY).await;
        let url = format!("{}/in/hubspot", node.base);
        let time = (clock.wall().as_micros() / 1_000).to_string();
        let send = async |attempt: u32| {
            let event = |more: &str| {
                format!(
                    r#"{{"eventId": 1, "subscriptionId": 2, "occurredAt": 1462216307945, "attemptNumber": {attempt}, {more}}}"#
                )
            };
            let association =
                r#""subscriptionType": "contact.associationChange", "fromObjectId": 3"#;
            let events = [
                event(r#""subscriptionType": "contact.creation", "objectId": 3"#),
                event(
                    r#""subscriptionType": "contact.propertyChange", "objectId": 3, "propertyName": "a""#,
                ),
                event(
                    r#""subscriptionType": "contact.propertyChange", "objectId": 3, "propertyName": "b""#,
                ),
                event(&format!(r#"{association}, "toObjectId": 4"#)),
                event(&format!(r#"{association}, "toObjectId": 5"#)),
            ];
            let body = format!("[{}]", events.join(","));
            let signed = sha256(KEY.as_bytes(), &format!("POST{url}{body}{time}"));
            let signature = STANDARD.encode(signed);
            let headers = [
                JSON,
                ("X-HubSpot-Signature-v3", signature.as_str()),
                ("X-HubSpot-Request-Timestamp", time.as_str()),
            ];
            let answer = post(&node, "/in/hubspot", &headers, &body).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            ["accepted", "duplicates"].map(|name| answer.body[name].as_u64())
        };
        assert_eq!(send(0).await, [Some(5), Some(0)]);
        assert_eq!(send(1).await, [Some(0), Some(5)]);
        node.stop().await;
    });
}

/// A proxy may check one of two credentials, and the node would use the other.
#[test]
fn a_repeated_credential_is_refused_and_a_second_signature_counts() {
    run_async(async {
        let mut test_env = TestEnv::new(&[
            ("sources.c2s.enabled", "true"),
            ("sources.c2s.tokens", KEY),
            ("sources.crm.enabled", "true"),
            ("sources.crm.tokens", KEY),
        ]);
        test_env.write_file(&format!(
            "[[sources.custom]]\nname = \"door\"\nsecrets = [{KEY:?}]\nentity = \"/id\"\nevent = \"/type\"\n\
             scheme = {{ header = \"X-Opens\", algorithm = \"token\" }}\n\
             [[sources.custom]]\nname = \"repo\"\npreset = \"github\"\nsecrets = [{KEY:?}]\n"
        ));
        let node = test_env.start().await;
        let bearer = format!("Bearer {TOKEN}");
        let body = r#"{"id": "1", "type": "opened"}"#;
        let cases = [
            (SUPPORT, "X-CRM-API-Key", API_KEY),
            ("/api/v1/events", "Authorization", bearer.as_str()),
            ("/api/v1/webhooks/c2s", "X-Webhook-Token", KEY),
            ("/in/door", "X-Opens", KEY),
        ];
        for (path, name, value) in cases {
            let once = post(&node, path, &[JSON, (name, value)], body).await;
            let twice = post(&node, path, &[JSON, (name, value), (name, value)], body).await;
            assert_eq!(twice.status, 400, "{path}: {twice:?}");
            assert!(twice.text.contains("once"), "{path}: {twice:?}");
            assert!(!once.text.contains("once"), "{path}: {once:?}");
        }

        let signature = format!("sha256={}", hex::encode(sha256(KEY.as_bytes(), body)));
        let other = format!("sha256={}", "00".repeat(32));
        let headers = [
            JSON,
            ("X-GitHub-Event", "issues"),
            ("X-Hub-Signature-256", other.as_str()),
            ("X-Hub-Signature-256", signature.as_str()),
        ];
        let answer = post(&node, "/in/repo", &headers, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        node.stop().await;
    });
}
