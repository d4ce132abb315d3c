//! Every signature style, verified by independent code: the Standard Webhooks library, and the bare
//! algorithms.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use hmac::{Hmac, Mac};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use sha2::Sha256;
use standardwebhooks::Webhook;

use super::{TestSubscription, subscribe, task, test_env, try_publish};
use crate::receiver::{ReceiverRequest, TestReceiver};
use crate::test_node::run_async;
use crate::webhooks;

fn hmac(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key");
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

fn headers(arrival: &ReceiverRequest) -> HeaderMap {
    let parsed = arrival.headers.iter().map(|(name, value)| {
        (
            HeaderName::from_bytes(name.as_bytes()).expect("a name"),
            HeaderValue::from_str(value).expect("a value"),
        )
    });
    parsed.collect()
}

/// Tells if the library of Standard Webhooks accepts the delivery.
fn is_standard(secret: &str, arrival: &ReceiverRequest) -> bool {
    let webhook = match secret.starts_with("whsec_") {
        true => Webhook::new(secret),
        false => Webhook::from_bytes(secret.as_bytes().to_vec()),
    };
    webhook
        .expect("a secret")
        .verify(&arrival.body, &headers(arrival))
        .is_ok()
}

fn is_crm(secret: &str, arrival: &ReceiverRequest) -> bool {
    arrival.header("x-webhook-signature") == Some(hmac(secret, &arrival.body).as_str())
}

fn is_hub(secret: &str, arrival: &ReceiverRequest) -> bool {
    arrival.header("x-hub-signature-256")
        == Some(format!("sha256={}", hmac(secret, &arrival.body)).as_str())
}

fn is_v1a(subscription: &TestSubscription, arrival: &ReceiverRequest) -> bool {
    let key = subscription.made["public_key"]
        .as_str()
        .expect("a key")
        .strip_prefix("whpk_")
        .expect("its prefix");
    let key = STANDARD
        .decode(key)
        .expect("base64")
        .try_into()
        .expect("32 bytes");
    let given = arrival.header("webhook-signature").expect("signatures");
    let given = given
        .split(' ')
        .find_map(|one| one.strip_prefix("v1a,"))
        .expect("one of v1a");
    let signature =
        Signature::from_slice(&STANDARD.decode(given).expect("base64")).expect("64 bytes");
    let time = arrival.header("webhook-timestamp").expect("a time");
    let signed = [
        arrival.id().as_bytes(),
        b".",
        time.as_bytes(),
        b".",
        &arrival.body,
    ]
    .concat();
    VerifyingKey::from_bytes(&key)
        .expect("a key")
        .verify_strict(&signed, &signature)
        .is_ok()
}

#[test]
fn each_style_verifies_with_the_subscription_s_own_keys_only() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let receiver = TestReceiver::accept_all().await;
        let all = json!({"signing": ["crm", "standard", "hub", "v1a"]});
        let made = subscribe(&node, &receiver.url("/made"), all.clone()).await;
        let mut given = all;
        given["secret"] = "given, and no base64".replace(' ', "-").into();
        let given = subscribe(&node, &receiver.url("/given"), given).await;
        let plain = subscribe(&node, &receiver.url("/plain"), json!({})).await;
        try_publish(&node, &[task(1)]).await.expect("an answer");
        receiver.wait_for_requests(3).await;
        let arrivals = receiver.arrivals();
        let of = |path: &str| {
            arrivals
                .iter()
                .find(|arrival| arrival.path == path)
                .expect("it came")
        };
        for (subscription, other, path) in [(&made, &given, "/made"), (&given, &made, "/given")] {
            let arrival = of(path);
            for is_signed in [is_standard, is_crm, is_hub] {
                assert!(
                    is_signed(&subscription.secret, arrival) && !is_signed(&other.secret, arrival),
                    "{arrival:?}"
                );
            }
            assert!(
                is_v1a(subscription, arrival) && !is_v1a(other, arrival),
                "{arrival:?}"
            );
        }
        let arrival = of("/plain");
        assert!(
            is_crm(&plain.secret, arrival) && is_standard(&plain.secret, arrival),
            "the styles when none is said"
        );
        assert_eq!(arrival.header("x-hub-signature-256"), None);
        assert!(
            !arrival
                .header("webhook-signature")
                .expect("there")
                .contains("v1a")
        );
        node.stop().await;
    });
}

#[test]
fn after_a_rotation_both_secrets_verify_and_a_retry_has_a_new_time_and_signature() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let receiver = TestReceiver::accept_all().await;
        let subscription = subscribe(&node, &receiver.url("/"), json!({})).await;
        let rotated = webhooks::act(&node, &format!("/{}/rotate-secret", subscription.id)).await;
        let new = rotated.body["secret"]
            .as_str()
            .expect("shown once")
            .to_owned();
        try_publish(&node, &[task(1)]).await.expect("an answer");
        receiver.wait_for_accepted(1).await;
        let arrival = receiver.arrivals()[0].clone();
        assert!(is_standard(&subscription.secret, &arrival) && is_standard(&new, &arrival));
        assert!(
            is_crm(&new, &arrival) && !is_crm(&subscription.secret, &arrival),
            "that style has room for one"
        );
        node.stop().await;
    });
}

#[test]
fn a_delivery_names_event_entity_and_time() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let receiver = TestReceiver::accept_all().await;
        let subscription = subscribe(
            &node,
            &receiver.url("/hook?a=b"),
            json!({"headers": {"X-Tenant": "7"}}),
        )
        .await;
        let transform =
            json!({"transform": "{'what': event, 'n': data.n}", "signing": ["standard"]});
        let transformed = subscribe(&node, &receiver.url("/transformed"), transform).await;
        let event = r#"[{"event": "organisation.created", "user_id": 12, "timestamp": "2025-10-18T09:43:12.442Z", "data": {"organisation_id": 51, "n": 1.50}}]"#;
        let request = node
            .client
            .post(format!("{}/api/v1/events", node.base))
            .bearer_auth(super::PUBLISHER);
        let answer = node
            .send_request(
                request
                    .header("content-type", "application/json")
                    .body(event),
            )
            .await;
        assert_eq!(answer.status, 202, "{answer:?}");
        receiver.wait_for_requests(2).await;
        let arrivals = receiver.arrivals();
        let of = |path: &str| {
            arrivals
                .iter()
                .find(|arrival| arrival.path == path)
                .expect("it came")
        };
        let arrival = of("/hook?a=b");
        let body = r#"{"event":"organisation.created","timestamp":"2025-10-18T09:43:12.442Z","user_id":12,"data":{"organisation_id": 51, "n": 1.50},"entity":{"kind":"organisation","id":"51","sequence":1},"late":false}"#;
        assert_eq!(
            String::from_utf8_lossy(&arrival.body),
            body,
            "what the source sent is not touched"
        );
        let id = subscription.id.to_string();
        let agent = format!("Hookyard/{}", env!("CARGO_PKG_VERSION"));
        let event_id = answer.body["events"][0]["event_id"]
            .as_str()
            .expect("an id");
        for (name, value) in [
            ("content-type", "application/json"),
            ("x-webhook-id", &id),
            ("x-webhook-event", "organisation.created"),
            ("x-webhook-timestamp", "2025-10-18T09:43:12.442Z"),
            ("webhook-id", event_id),
            ("x-entity-sequence", "1"),
            ("user-agent", &agent),
            ("x-tenant", "7"),
        ] {
            assert_eq!(arrival.header(name), Some(value), "{name}");
        }
        assert_eq!(arrival.header("traceparent"), None, "the sender told none");
        let arrival = of("/transformed");
        assert_eq!(
            arrival.json(),
            json!({"what": "organisation.created", "n": 1.5})
        );
        assert_eq!((arrival.id(), arrival.sequence()), (event_id, 1));
        assert!(is_standard(&transformed.secret, arrival));
        assert_eq!(arrival.header("x-webhook-signature"), None);
        node.stop().await;
    });
}
