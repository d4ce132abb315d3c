//! Spellings that libraries of real senders produce, at every built-in source: a byte order mark
//! before the body, and a time whose offset has no colon.

use hookyard::config::Secret;
use hookyard::edge::instagram::signature::sign_instagram_body;
use hookyard::edge::support::signature::sign_support_body;
use reqwest::RequestBuilder;
use serde_json::json;

use crate::c2s::{C2S, C2S_TOKEN};
use crate::instagram::{self, APP_SECRET};
use crate::test_node::{API_KEY, SECRET, SUPPORT, TOKEN, TestEnv, TestNode, run_async};

const MARK: &str = "\u{feff}";

fn test_env() -> TestEnv {
    TestEnv::new(&[
        ("sources.leads.enabled", "true"),
        ("sources.c2s.enabled", "true"),
        ("sources.c2s.tokens", C2S_TOKEN),
        ("sources.crm.enabled", "true"),
        ("sources.crm.tokens", TOKEN),
        ("sources.instagram.enabled", "true"),
        ("sources.instagram.app_secrets", APP_SECRET),
        ("sources.instagram.verify_token", "test-verify-token"),
    ])
}

fn post(node: &TestNode, path: &str, body: &str) -> RequestBuilder {
    let url = format!("{}{path}", node.base);
    node.client.post(url).body(body.to_owned())
}

fn support_request(node: &TestNode, key: &str, body: &str, time: &str) -> RequestBuilder {
    let signature = sign_support_body(&Secret::new(SECRET), body.as_bytes(), time);
    post(node, SUPPORT, body)
        .header("x-crm-api-key", API_KEY)
        .header("x-crm-timestamp", time)
        .header("x-crm-signature", signature)
        .header("idempotency-key", key)
}

/// Such calls were answered 400, and their senders gave up.
#[test]
fn a_byte_order_mark_is_no_part_of_a_body() {
    run_async(async {
        let test_env = test_env();
        let node = test_env.start().await;
        let now = test_env.deps.clock.wall().to_string();
        let message = json!({
            "event": "message.created", "support_uid": "S-1", "timestamp": now,
            "data": {"message_id": "m-1", "text": "x"},
        });
        let message = format!("{MARK}{message}");
        let lead = json!({"event": "new_lead", "source": "crm",
                          "data": {"first_name": "Ana", "phone": "1"}});
        let c2s = json!({"lead_id": "L-1", "updated_at": now, "hook_action": "lead.updated",
                         "customer": {"name": "Ana", "email": "a@example.com"}});
        let bus = json!({"event": "organisation.updated", "data": {"organisation_id": 7}});
        let call = instagram::with(&[instagram::message(1, "m-1", "x")]);
        let call = format!("{MARK}{call}");
        let instagram_signature = sign_instagram_body(&Secret::new(APP_SECRET), call.as_bytes());

        let requests = [
            ("support", support_request(&node, "k-1", &message, &now)),
            (
                "leads",
                post(
                    &node,
                    "/api/v1/webhooks/incoming/lead/create",
                    &format!("{MARK}{lead}"),
                ),
            ),
            (
                "c2s",
                post(&node, C2S, &format!("{MARK}{c2s}")).header("x-webhook-token", C2S_TOKEN),
            ),
            (
                "crm",
                post(&node, "/api/v1/events", &format!("{MARK}{bus}")).bearer_auth(TOKEN),
            ),
            (
                "crm, a list",
                post(&node, "/api/v1/events", &format!("{MARK}[{bus}]")).bearer_auth(TOKEN),
            ),
            (
                "instagram",
                post(&node, "/webhooks/instagram", &call)
                    .header("x-hub-signature-256", instagram_signature),
            ),
        ];
        for (name, request) in requests {
            let answer = node.send_request(request).await;
            assert!((200..300).contains(&answer.status), "{name}: {answer:?}");
        }
        let stored = node.get("/api/v1/events?page_size=20").await.body;
        for event in stored["items"].as_array().expect("events") {
            let id = event["event_id"].as_str().expect("an id");
            let event = node.get(&format!("/api/v1/events/{id}")).await;
            assert!(event.body["payload"].is_object(), "{event:?}");
        }
        node.stop().await;
    });
}

#[test]
fn a_time_may_have_an_offset_without_a_colon() {
    run_async(async {
        let test_env = test_env();
        let node = test_env.start().await;
        let now = test_env.deps.clock.wall().to_string().replace('Z', "+0000");
        let message = json!({
            "event": "message.created", "support_uid": "S-1",
            "data": {"message_id": "m-1", "text": "x"},
        });
        let c2s = json!({"lead_id": "L-1", "updated_at": now, "hook_action": "lead.updated",
                         "customer": {"name": "Ana", "email": "a@example.com"}});
        let bus = json!({"event": "organisation.updated", "timestamp": now, "data": {"organisation_id": 7}});
        let requests = [
            (
                "support",
                support_request(&node, "k-1", &message.to_string(), &now),
            ),
            (
                "c2s",
                post(&node, C2S, &c2s.to_string()).header("x-webhook-token", C2S_TOKEN),
            ),
            (
                "crm",
                post(&node, "/api/v1/events", &bus.to_string()).bearer_auth(TOKEN),
            ),
        ];
        for (name, request) in requests {
            let request = request.header("content-type", "application/json");
            let answer = node.send_request(request).await;
            assert!((200..300).contains(&answer.status), "{name}: {answer:?}");
        }
        node.stop().await;
    });
}

/// Entities in memory overtook those that were loaded first, so the journal had another order than
/// the list.
#[test]
fn the_events_of_a_batch_enter_the_journal_in_the_order_of_the_list() {
    run_async(async {
        let mut test_env = TestEnv::new(&[]);
        test_env.write_file(
            "[[sources.custom]]\nname = \"shop\"\nsecrets = [\"test-secret-long-enough-for-any-node\"]\n\
             entity = \"./id\"\nevent = \"./type\"\nitems = \"\"\n\
             scheme = { header = \"X-Token\", algorithm = \"token\" }\n",
        );
        let node = test_env.start().await;
        let send = async |first: usize| {
            let items: Vec<_> = (first..first + 40)
                .map(|id| json!({"id": format!("e{}", id * 7 % 101), "type": "made"}))
                .collect();
            let request = post(&node, "/in/shop", &json!(items).to_string())
                .header("x-token", "test-secret-long-enough-for-any-node");
            let answer = node.send_request(request).await;
            assert_eq!(answer.body["accepted"], 40, "{answer:?}");
            answer.body["event_ids"].clone()
        };
        // The second list has entities in memory and new ones, one after another.
        for first in [0, 20] {
            let ids = send(first).await;
            let ids: Vec<_> = ids.as_array().expect("ids").iter().rev().cloned().collect();
            let newest = node.get("/api/v1/events?page_size=40").await.body;
            let newest: Vec<_> = newest["items"]
                .as_array()
                .expect("events")
                .iter()
                .map(|event| event["event_id"].clone())
                .collect();
            assert_eq!(newest, ids);
        }
        node.stop().await;
    });
}
