//! What leaves for Instagram and for an account's CRM: messages forwarded, replies in the order of their conversation, automatic
//! ones once; and the endpoint that replies are asked for by.

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::instagram::{call, ground, message, state, with};
use crate::yard::{Answer, Gate, Ground, TOKEN, run, together};

const PUBLISHER: &str = "test-publisher";
const ACCOUNT: &str = "acc_xyz789";
const BUSINESS: &str = "0987654321";
const CUSTOMER: &str = "1234567890";
const CONVERSATION: &str = "conv_1234567890_0987654321";

fn publishing(keys: &[(&str, &str)]) -> Ground {
    let own = [("sources.crm.enabled", "true"), ("sources.crm.tokens", PUBLISHER)];
    ground(&[&own, keys].concat())
}

async fn open(gate: &Gate, more: Value) -> Answer {
    let mut account =
        json!({"account_id": ACCOUNT, "instagram_account_id": BUSINESS, "webhook_secret": "given-secret"});
    account.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let request = gate.client.post(format!("{}/api/v1/accounts", gate.base)).bearer_auth(TOKEN);
    let made = gate.answer(request.header("content-type", "application/json").body(account.to_string())).await;
    assert_eq!(made.status, 200, "{made:?}");
    made
}

fn asking(gate: &Gate, account: &str, body: &Value) -> RequestBuilder {
    let request = gate.client.post(format!("{}/api/v1/accounts/{account}/messages", gate.base));
    request.bearer_auth(PUBLISHER).header("content-type", "application/json").body(body.to_string())
}

fn said(text: &str) -> Value {
    json!({"recipient_id": CUSTOMER, "text": text})
}

async fn reply(gate: &Gate, text: &str) -> Answer {
    let answer = gate.answer(asking(gate, ACCOUNT, &said(text))).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer
}

async fn timeline(gate: &Gate) -> Vec<Value> {
    let path = format!("/api/v1/entities/conversation/{CONVERSATION}/timeline?page_size=100");
    let mut items = gate.get(&path).await.body["items"].as_array().cloned().unwrap_or_default();
    items.reverse();
    items
}

fn code(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.body["code"].as_str().unwrap_or_default())
}

#[test]
fn a_reply_has_its_place_in_its_conversation() {
    run(async {
        let ground = publishing(&[]);
        let yard = ground.start().await;
        open(&yard, json!({})).await;
        call(&yard, &with(&[message(0, "mid_abc123", "Hello!")])).await;
        let before = state(&yard).await;
        let answer = reply(&yard, "It ships today.").await;
        let id = answer.header("x-event-id").expect("an id").to_owned();
        let expected = json!({"status": "accepted", "delivery_id": id, "conversation_id": CONVERSATION, "sequence": 2});
        assert_eq!((&answer.body, answer.header("x-entity-sequence")), (&expected, Some("2")));
        assert_eq!(state(&yard).await, before, "it is shown once its echo came");
        let event = yard.get(&format!("/api/v1/events/{id}")).await.body;
        assert_eq!((&event["source"], &event["type"]), (&json!("instagram"), &json!("message.reply")));
        let data = json!({
            "account_id": ACCOUNT, "recipient_id": CUSTOMER, "text": "It ships today.", "is_automatic": false,
        });
        assert_eq!(event["payload"], data);
        let entry = timeline(&yard).await[1].clone();
        assert_eq!((&entry["summary"], &entry["data"]), (&json!("reply to be sent"), &data));
        let rows = yard.get("/api/v1/webhooks/logs").await.body;
        let row = rows["items"][0].clone();
        let path = format!("/api/v1/accounts/{ACCOUNT}/messages");
        assert_eq!((&row["path"], &row["status"], &row["event_ids"]), (&json!(path), &json!(202), &json!([id])));
        assert!(!rows.to_string().contains("ships"), "{rows}");
        yard.stop().await;
    });
}

#[test]
fn a_repeated_key_is_answered_as_the_first_time_and_never_for_something_else() {
    run(async {
        let ground = publishing(&[]);
        let yard = ground.start().await;
        open(&yard, json!({})).await;
        open(&yard, json!({"account_id": "acc_2", "instagram_account_id": "777"})).await;
        let keyed = |account: &str, text: &str| {
            yard.answer(asking(&yard, account, &said(text)).header("idempotency-key", "order-1042"))
        };
        let first = keyed(ACCOUNT, "It ships today.").await;
        let again = keyed(ACCOUNT, "It ships today.").await;
        assert_eq!((again.status, &again.body), (202, &first.body));
        assert_eq!((first.header("idempotent-replay"), again.header("idempotent-replay")), (None, Some("true")));
        assert_eq!(again.header("x-event-id"), first.header("x-event-id"));
        let slash = keyed(&format!("{ACCOUNT}/messages/?"), "It ships today.").await;
        assert_eq!((slash.status, &slash.body), (202, &first.body), "either spelling of the path");
        assert_eq!(code(&keyed(ACCOUNT, "It ships tomorrow.").await), (409, "idempotency_key_reused"));
        let other = keyed("acc_2", "It ships today.").await;
        assert_eq!((other.status, &other.body["conversation_id"]), (202, &json!("conv_1234567890_777")));
        // Without one, each is a reply of its own.
        let free = [reply(&yard, "Hi").await, reply(&yard, "Hi").await];
        assert_ne!(free[0].body["delivery_id"], free[1].body["delivery_id"]);
        let at_once = (0..16).map(|_| {
            let gate = yard.gate.clone();
            async move {
                let request = asking(&gate, ACCOUNT, &said("Once.")).header("idempotency-key", "at-once");
                gate.answer(request).await.body["delivery_id"].clone()
            }
        });
        let ids = together(at_once).await;
        assert!(ids[0].is_string() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(timeline(&yard).await.len(), 4);
        let long = asking(&yard, ACCOUNT, &said("Hi")).header("idempotency-key", "k".repeat(257));
        assert_eq!(code(&yard.answer(long).await), (400, "validation_failed"));
        yard.stop().await;
        let yard = ground.start().await;
        let later =
            yard.answer(asking(&yard, ACCOUNT, &said("It ships today.")).header("idempotency-key", "order-1042"));
        assert_eq!(later.await.body, first.body, "after a restart too");
        yard.stop().await;
    });
}

#[test]
fn replies_are_asked_for_by_publishers_and_the_admin_of_accounts_that_there_are() {
    run(async {
        let ground = publishing(&[]);
        let yard = ground.start().await;
        open(&yard, json!({})).await;
        let path = format!("{}/api/v1/accounts/{ACCOUNT}/messages", yard.base);
        let admin = yard.client.post(&path).bearer_auth(TOKEN).header("content-type", "application/json");
        assert_eq!(yard.answer(admin.body(said("Hi").to_string())).await.status, 202);
        for token in ["", "wrong", "given-secret"] {
            let answer = yard.answer(yard.client.post(&path).bearer_auth(token).body("{")).await;
            assert_eq!(code(&answer), (401, "unauthorized"), "{token}");
        }
        assert_eq!(code(&yard.answer(asking(&yard, "acc_none", &said("Hi"))).await), (404, "not_found"));
        let answer = yard.answer(yard.client.get(&path).bearer_auth(TOKEN)).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
        let wrong = yard.answer(asking(&yard, ACCOUNT, &json!({"recipient_id": [], "text": "x".repeat(1_001)}))).await;
        assert_eq!(code(&wrong), (400, "validation_failed"));
        let fields: Vec<_> =
            wrong.body["errors"].as_array().expect("a list").iter().map(|error| &error["field"]).collect();
        assert_eq!(fields, ["recipient_id", "text"]);
        let broken = asking(&yard, ACCOUNT, &json!([]));
        assert_eq!(code(&yard.answer(broken).await), (400, "invalid_json"));
        let typed = yard.client.post(&path).bearer_auth(TOKEN).header("content-type", "text/plain").body("{}");
        assert_eq!(code(&yard.answer(typed).await), (415, "unsupported_media_type"));
        assert_eq!(timeline(&yard).await.len(), 1);
        yard.stop().await;
        // The tokens of a source that is off open nothing.
        let ground = crate::instagram::ground(&[("sources.crm.tokens", PUBLISHER)]);
        let yard = ground.start().await;
        open(&yard, json!({})).await;
        assert_eq!(code(&yard.answer(asking(&yard, ACCOUNT, &said("Hi"))).await), (401, "unauthorized"));
        yard.stop().await;
    });
}
