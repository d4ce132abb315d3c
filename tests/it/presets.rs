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
            assert_eq!(
                (answer.status, answer.text.as_str()),
                (status, ""),
                "Xero takes no body"
            );
            assert!(answer.header("x-request-id").is_some(), "{answer:?}");
            assert_eq!(answer.header("content-type"), None, "{answer:?}");
        }
        let rows = node.get("/api/v1/webhooks/logs").await.body;
        assert_eq!(rows["items"][0]["code"], "invalid_signature", "{rows}");
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

/// One item with a key that was used before failed its whole call, at every retry.
#[test]
fn an_item_with_a_reused_key_is_kept_apart_and_the_others_go_on() {
    run_async(async {
        let (_env, node, clock) = start("hubspot", KEY).await;
        let url = format!("{}/in/hubspot", node.base);
        let send = async |items: &[&str]| {
            clock.advance(std::time::Duration::from_secs(1));
            let time = (clock.wall().as_micros() / 1_000).to_string();
            let body = format!("[{}]", items.join(","));
            let signed = sha256(KEY.as_bytes(), &format!("POST{url}{body}{time}"));
            let signature = STANDARD.encode(signed);
            let headers = [
                JSON,
                ("X-HubSpot-Signature-v3", signature.as_str()),
                ("X-HubSpot-Request-Timestamp", time.as_str()),
            ];
            let answer = post(&node, "/in/hubspot", &headers, &body).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let counts = ["accepted", "duplicates"].map(|name| answer.body[name].as_u64());
            (counts, answer.body["event_ids"].clone())
        };
        let item = |id: u32, value: &str| {
            format!(
                r#"{{"eventId": {id}, "subscriptionType": "contact.x", "objectId": 3, "propertyValue": "{value}"}}"#
            )
        };
        let (first, reused, new) = (item(1, "a"), item(1, "b"), item(2, "c"));
        assert_eq!(send(&[&first]).await.0, [Some(1), Some(0)]);
        let (counts, ids) = send(&[&reused, &new]).await;
        assert_eq!(counts, [Some(2), Some(0)]);
        assert_eq!(
            send(&[&reused, &new]).await,
            ([Some(0), Some(2)], ids.clone())
        );
        let id = ids[0].as_str().expect("an id");
        let event = node.get(&format!("/api/v1/events/{id}")).await.body;
        assert_eq!(event["payload"]["propertyValue"], "b");
        assert_eq!(event["warnings"].as_array().map(Vec::len), Some(1));

        // Both in one call, while the first is in flight.
        let (one, two) = (item(7, "a"), item(7, "b"));
        assert_eq!(send(&[&one, &two, &one]).await.0, [Some(2), Some(1)]);
        node.stop().await;
    });
}

/// The id of a delivery is a hash of the second, so two orders of one second have the same.
#[test]
fn woocommerces_deliveries_of_one_second_are_all_taken() {
    run_async(async {
        let (_env, node, _) = start("woocommerce", KEY).await;
        let send = async |body: &str| {
            let signature = STANDARD.encode(sha256(KEY.as_bytes(), body));
            let headers = [
                JSON,
                ("X-WC-Webhook-Signature", signature.as_str()),
                ("X-WC-Webhook-Topic", "order.updated"),
                ("X-WC-Webhook-Resource", "order"),
                ("X-WC-Webhook-Delivery-ID", "d-1"),
            ];
            let answer = post(&node, "/in/woocommerce", &headers, body).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.body["status"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let order = |id: u32, total: u32| {
            format!(
                r#"{{"id": {id}, "date_modified_gmt": "2025-12-04T10:30:00", "total": {total}}}"#
            )
        };
        for body in [order(1, 1), order(2, 1), order(1, 2)] {
            assert_eq!(send(&body).await, "accepted", "{body}");
            assert_eq!(send(&body).await, "duplicate", "{body}");
        }
        node.stop().await;
    });
}

/// Without the headers of version 3, a captured request of HubSpot was taken for ever.
#[test]
fn a_signature_without_a_time_is_refused_where_a_time_is_required() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let clock = test_env.with_manual_clock();
        let source = |name: &str, preset: &str, secrets: &str, required: bool| {
            format!(
                "[[sources.custom]]\nname = {name:?}\npreset = {preset:?}\nsecrets = [{secrets:?}]\n\
                 require_signed_time = {required}\n"
            )
        };
        let token = "whsec_aHVzaGh1c2hodXNoaHVzaGh1c2hodXNo";
        test_env.write_file(
            &(source("lax", "hubspot", KEY, false)
                + &source("strict", "hubspot", KEY, true)
                + &source("signed", "gitlab", token, true)),
        );
        let node = test_env.start().await;
        let body = r#"[{"eventId": 1, "subscriptionType": "x", "objectId": 3}]"#;
        let hash = crate::senders::hash(&format!("{KEY}{body}"));
        let earlier = [
            JSON,
            ("X-HubSpot-Signature-Version", "v1"),
            ("X-HubSpot-Signature", hash.as_str()),
        ];
        assert_eq!(post(&node, "/in/lax", &earlier, body).await.status, 200);
        assert_eq!(post(&node, "/in/strict", &earlier, body).await.status, 401);
        let time = (clock.wall().as_micros() / 1_000).to_string();
        let url = format!("{}/in/strict", node.base);
        let signature = sha256(KEY.as_bytes(), &format!("POST{url}{body}{time}"));
        let signature = STANDARD.encode(signature);
        let third = [
            JSON,
            ("X-HubSpot-Signature-v3", signature.as_str()),
            ("X-HubSpot-Request-Timestamp", time.as_str()),
        ];
        assert_eq!(post(&node, "/in/strict", &third, body).await.status, 200);

        let body = r#"{"object_kind": "push"}"#;
        let alone = [JSON, ("X-Gitlab-Token", token)];
        assert_eq!(post(&node, "/in/signed", &alone, body).await.status, 401);
        let seconds = (clock.wall().as_micros() / 1_000_000).to_string();
        let key = STANDARD.decode(&token[6..]).expect("base64");
        let signature = STANDARD.encode(sha256(&key, &format!("m1.{seconds}.{body}")));
        let signature = format!("v1,{signature}");
        let signed = [
            JSON,
            ("webhook-id", "m1"),
            ("webhook-timestamp", seconds.as_str()),
            ("webhook-signature", signature.as_str()),
        ];
        assert_eq!(post(&node, "/in/signed", &signed, body).await.status, 200);
        node.stop().await;
    });
}

/// A body with a byte order mark and a dot was refused although the secret token was right.
#[test]
fn gitlabs_secret_token_counts_wherever_the_signed_parts_meet() {
    run_async(async {
        let (_env, node, clock) = start("gitlab", KEY).await;
        let seconds = (clock.wall().as_micros() / 1_000_000).to_string();
        let headers = [
            JSON,
            ("webhook-id", "m.1"),
            ("webhook-timestamp", seconds.as_str()),
            ("webhook-signature", "v1,AAAA"),
            ("X-Gitlab-Token", KEY),
        ];
        let body = "\u{feff}{\"object_kind\": \"push\", \"v\": 1.5}";
        let answer = post(&node, "/in/gitlab", &headers, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let mut other = headers;
        other[4].1 = "another-token";
        assert_eq!(post(&node, "/in/gitlab", &other, body).await.status, 401);
        node.stop().await;
    });
}

/// The letters of a captured form, moved between its fields, made an event about another thing.
#[test]
fn the_signed_letters_of_twilio_are_taken_with_the_same_fields_only() {
    run_async(async {
        let mut test_env = TestEnv::new(&[("server.public_url", "https://hooks.example.com")]);
        test_env.write_file(&format!(
            "[[sources.custom]]\nname = \"twilio\"\npreset = \"twilio\"\nsecrets = [{KEY:?}]\n"
        ));
        let mut node = test_env.start().await;
        let url = "https://hooks.example.com/in/twilio";
        let (text, form) = (
            "BodyhiConversationSidCHvictimEventTypeonConversationRemovedMessageSidSM1SmsStatusreceived",
            "Body=hiConversationSidCHvictimEventTypeonConversationRemoved&MessageSid=SM1&SmsStatus=received",
        );
        let signature = STANDARD.encode(sha1(KEY.as_bytes(), &format!("{url}{text}")));
        let send = async |node: &TestNode, form: &str| {
            let headers = [
                ("Content-Type", "application/x-www-form-urlencoded"),
                ("X-Twilio-Signature", signature.as_str()),
            ];
            post(node, "/in/twilio", &headers, form).await
        };
        let first = send(&node, form).await;
        assert_eq!(first.status, 200, "{first:?}");
        let cut = "Body=hi&ConversationSid=CHvictim&EventType=onConversationRemoved&MessageSid=SM1&SmsStatus=received";
        for _ in 0..2 {
            let forged = send(&node, cut).await;
            let code = &forged.body["code"];
            assert_eq!((forged.status, code), (401, &json!("invalid_signature")));
            let again = send(&node, form).await;
            assert_eq!(
                (again.status, again.header("x-event-id")),
                (200, first.header("x-event-id")),
                "a repetition is the first event"
            );
            assert_eq!(node.get("/api/v1/events").await.body["total"], 1);
            node.stop().await;
            node = test_env.start().await;
        }
        node.stop().await;
    });
}

/// An event by `GET` was answered 200 and lost.
#[test]
fn twilio_may_send_by_get_and_a_signed_get_of_others_is_refused() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        test_env.write_file(&format!(
            "[[sources.custom]]\nname = \"twilio\"\npreset = \"twilio\"\nsecrets = [{KEY:?}]\n\
             [[sources.custom]]\nname = \"repo\"\npreset = \"github\"\nsecrets = [{KEY:?}]\n"
        ));
        let node = test_env.start().await;
        let get = async |path: &str, header: (&str, &str)| {
            let request = node.client.get(format!("{}{path}", node.base));
            node.send_request(request.header(header.0, header.1)).await
        };
        let path = "/in/twilio?CallSid=CA1&CallStatus=completed&From=%2B1";
        let signature = sha1(KEY.as_bytes(), &format!("{}{path}", node.base));
        let signature = STANDARD.encode(signature);
        let header = ("X-Twilio-Signature", signature.as_str());
        let answer = get(path, header).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, "<Response/>"));
        let id = answer.header("x-event-id").expect("an event").to_owned();
        let event = node.get(&format!("/api/v1/events/{id}")).await.body;
        assert_eq!(event["type"], "twilio.call.completed");
        assert_eq!(event["entity"]["id"], "CA1");
        let payload = json!({"CallSid": "CA1", "CallStatus": "completed", "From": "+1"});
        assert_eq!(event["payload"], payload);
        let again = get(path, header).await;
        assert_eq!(again.header("x-event-id"), Some(id.as_str()));
        let changed = get("/in/twilio?CallSid=CA2&CallStatus=completed", header).await;
        assert_eq!(changed.status, 401, "{changed:?}");

        let refused = get("/in/repo", ("X-Hub-Signature-256", "sha256=00")).await;
        assert_eq!(
            (refused.status, refused.header("allow")),
            (405, Some("HEAD, POST"))
        );
        let rows = node.get("/api/v1/webhooks/logs").await.body;
        let codes: Vec<_> = rows["items"].as_array().expect("rows").iter().collect();
        assert_eq!(codes[0]["code"], "method_not_allowed", "{rows}");
        assert_eq!(get("/in/repo", ("X-Other", "1")).await.status, 200);
        assert_eq!(node.get("/api/v1/webhooks/logs").await.body["total"], 4);
        node.stop().await;
    });
}

/// Neither the delivery's id nor the name of the event is signed: a captured body came again under
/// another id.
#[test]
fn a_body_of_github_is_taken_once_for_each_name_where_no_two_events_are_equal() {
    run_async(async {
        let (_env, node, _) = start("github", KEY).await;
        let send = async |name: &str, id: &str, body: &str| {
            let signature = format!("sha256={}", hex::encode(sha256(KEY.as_bytes(), body)));
            let headers = [
                // GitHub's own type is JSON; a proxy may write another one.
                ("Content-Type", "text/plain"),
                ("X-Hub-Signature-256", signature.as_str()),
                ("X-GitHub-Event", name),
                ("X-GitHub-Delivery", id),
            ];
            let answer = post(&node, "/in/github", &headers, body).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.body["status"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let untimed =
            r#"{"action": "opened", "repository": {"full_name": "o/r"}, "issue": {"number": 7}}"#;
        for id in ["u-1", "u-2"] {
            let status = send("issues", id, untimed).await;
            assert_eq!(status, "accepted", "a body without a time may come again");
        }
        let opened = untimed.replace("7}", "7, \"updated_at\": \"2025-12-04T10:30:00Z\"}");
        let opened = opened.as_str();
        assert_eq!(send("issues", "d-1", opened).await, "accepted");
        assert_eq!(send("issues", "d-2", opened).await, "duplicate", "a replay");
        assert_eq!(send("issues", "d-1", opened).await, "duplicate");
        let pinned = opened.replace("opened", "pinned");
        for (name, body) in [
            ("issues", &pinned),
            ("member", &opened.replace("opened", "added")),
        ] {
            for id in ["d-3", "d-4"] {
                let id = format!("{id}-{name}");
                assert_eq!(
                    send(name, &id, body).await,
                    "accepted",
                    "two events may be equal"
                );
            }
        }
        node.stop().await;
    });
}

/// A large push got 413, which GitHub does not repeat.
#[test]
fn a_large_push_of_github_is_taken_and_a_larger_one_refused() {
    run_async(async {
        let (_env, node, _) = start("github", KEY).await;
        for (bytes, status) in [(3_000_000, 200), (9_000_000, 413)] {
            let text = "x".repeat(bytes);
            let body = format!(r#"{{"repository": {{"full_name": "o/r"}}, "text": "{text}"}}"#);
            let signature = format!("sha256={}", hex::encode(sha256(KEY.as_bytes(), &body)));
            let headers = [
                JSON,
                ("X-Hub-Signature-256", signature.as_str()),
                ("X-GitHub-Event", "push"),
                ("X-GitHub-Delivery", "large"),
            ];
            let answer = post(&node, "/in/github", &headers, &body).await;
            assert_eq!(answer.status, status, "{bytes}: {:?}", answer.body["code"]);
        }
        node.stop().await;
    });
}

/// Keys of a source were remembered for a day, whatever its sender does.
#[test]
fn a_source_has_a_window_of_its_own() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        let clock = test_env.with_manual_clock();
        test_env.write_file(&format!(
            "[[sources.custom]]\nname = \"door\"\nsecrets = [{KEY:?}]\nentity = \"/id\"\nevent = \"/type\"\n\
             idempotency_key = \"/id\"\nidempotency_window_h = 0.5\n\
             scheme = {{ header = \"X-Opens\", algorithm = \"token\" }}\n"
        ));
        let node = test_env.start().await;
        let word = async || {
            let body = r#"{"id": "1", "type": "opened"}"#;
            let answer = post(&node, "/in/door", &[JSON, ("X-Opens", KEY)], body).await;
            answer.body["status"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!(word().await, "accepted");
        clock.advance(std::time::Duration::from_secs(29 * 60));
        assert_eq!(word().await, "duplicate");
        clock.advance(std::time::Duration::from_secs(2 * 60));
        assert_eq!(word().await, "accepted");
        node.stop().await;
    });
}
