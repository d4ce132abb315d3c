//! Deliveries, from a publisher's request to a subscriber's answer: one file for each promise.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::test_node::{TestClient, TestEnv, expect_soon};
use crate::webhooks;

mod changes;
mod crashes;
mod load;
mod neighbours;
mod order;
mod random_histories;
mod signatures;
mod slowness;

/// Bearer token of the publisher.
const PUBLISHER: &str = "test-publisher-of-events";

/// Most events of one list.
const LIST_MAX: usize = 1000;

/// Environment of a node that accepts published events and may call this machine. The node retries
/// soon and often, without jitter, and has no circuit breaker, unless `keys` differ.
pub fn test_env(keys: &[(&str, &str)]) -> TestEnv {
    let mut test_env = TestEnv::new(&[]);
    let often = ["0.02"; 50].join(",");
    for (key, value) in [
        ("sources.crm.enabled", "true"),
        ("sources.crm.tokens", PUBLISHER),
        ("delivery.allow_targets", "127.0.0.0/8"),
        ("delivery.retry_schedule_s", &often),
        ("delivery.jitter", "0"),
        ("delivery.breaker.consecutive", "0"),
        ("delivery.breaker.failure_rate", "0"),
    ] {
        test_env.set(key, value);
    }
    keys.iter()
        .for_each(|(key, value)| test_env.set(key, value));
    test_env
}

/// Subscription as returned by its creation.
pub struct TestSubscription {
    pub id: u64,
    pub secret: String,
    pub made: Value,
}

/// Subscribes `url` to all published events; `more` has other members of the subscription.
pub async fn subscribe(client: &TestClient, url: &str, more: Value) -> TestSubscription {
    let mut body = json!({"url": url, "events": ["*"]});
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    let answer = webhooks::create(client, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let made = answer.body;
    let (id, secret) = (
        made["id"].as_u64().expect("an id"),
        made["secret"].as_str().expect("a secret").to_owned(),
    );
    TestSubscription { id, secret, made }
}

impl TestSubscription {
    /// Returns the counters of the subscription's deliveries.
    pub async fn stats(&self, client: &TestClient) -> Value {
        webhooks::show(client, &format!("/{}", self.id)).await.body["stats"].clone()
    }

    /// Polls the stats until they satisfy `is_so`.
    pub async fn wait_until_stats(&self, client: &TestClient, is_so: impl Fn(&Value) -> bool) {
        expect_soon(async { while !is_so(&self.stats(client).await) {} }).await;
    }

    pub async fn change(&self, client: &TestClient, body: Value) {
        let answer = webhooks::change(client, &format!("/{}", self.id), &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    pub async fn run_action(&self, client: &TestClient, action: &str) {
        let answer = webhooks::act(client, &format!("/{}/{action}", self.id)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    pub async fn delete(&self, client: &TestClient) {
        let answer = client
            .send_request(webhooks::request(
                client,
                Method::DELETE,
                &format!("/{}", self.id),
            ))
            .await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }
}

/// Event of the task `id`.
pub fn task(id: usize) -> Value {
    json!({"event": "task.created", "data": {"task_id": id}})
}

/// Publishes `events`, at most 1,000, all of which must be accepted. Fails when there was no
/// answer.
pub async fn try_publish(client: &TestClient, events: &[Value]) -> reqwest::Result<()> {
    let request = client
        .client
        .post(format!("{}/api/v1/events", client.base))
        .bearer_auth(PUBLISHER);
    let request = request
        .header("content-type", "application/json")
        .body(json!(events).to_string());
    let answer = request.send().await?;
    let (status, text) = (answer.status(), answer.text().await?);
    let body: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (status.as_u16(), &body["accepted"]),
        (202, &json!(events.len())),
        "{text}"
    );
    Ok(())
}

/// Publishes `each` events of each of the tasks 0 to `entities`, the entities in turn. Returns the
/// entities as deliveries name them, with their number of events.
pub async fn publish(client: &TestClient, entities: usize, each: usize) -> BTreeMap<String, u64> {
    let events: Vec<_> = (0..each).flat_map(|_| (0..entities).map(task)).collect();
    for list in events.chunks(LIST_MAX) {
        try_publish(client, list).await.expect("an answer");
    }
    expected(entities, each)
}

/// Returns the same as [`publish`], without publishing.
pub fn expected(entities: usize, each: usize) -> BTreeMap<String, u64> {
    (0..entities)
        .map(|id| (format!("task/{id}"), each as u64))
        .collect()
}

/// Returns a number from 0 up to, but not including, `below` that depends only on the other
/// arguments.
pub fn draw_number(seed: u64, what: &str, which: usize, below: u64) -> u64 {
    hookyard::event::fingerprint_key(&format!("{seed} {which}"), what) % below
}
