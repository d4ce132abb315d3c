//! Pre-leads, leads and customers: the contract of their webhooks, and its promises.

mod conversions;
mod errors;
mod examples;
mod limits;
mod races;
mod replays;
mod seed;
mod sequences;
mod states;

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::test_node::{TestAnswer, TestClient, TestEnv};

/// Base path of the endpoints.
pub const INCOMING: &str = "/api/v1/webhooks/incoming";

/// Environment with the leads contract: no rate limits, no secrets, and the configuration `keys`.
pub fn test_env(keys: &[(&str, &str)]) -> TestEnv {
    let mut test_env = TestEnv::new(&[
        ("sources.leads.enabled", "true"),
        ("sources.leads.rate_per_minute", "0"),
    ]);
    keys.iter()
        .for_each(|(key, value)| test_env.set(key, value));
    test_env
}

/// Unsigned request with this body, to a path under [`INCOMING`].
pub fn request(client: &TestClient, path: &str, body: &str) -> RequestBuilder {
    let slash = if path.is_empty() || path.starts_with('/') {
        ""
    } else {
        "/"
    };
    client
        .client
        .post(format!("{}{INCOMING}{slash}{path}", client.base))
        .header("content-type", "application/json")
        .body(body.to_owned())
}

/// Body of an event, as text.
pub fn body(event: &str, data: &Value) -> String {
    json!({"event": event, "source": "crm", "data": data}).to_string()
}

pub async fn send(client: &TestClient, path: &str, event: &str, data: Value) -> TestAnswer {
    client
        .send_request(request(client, path, &body(event, &data)))
        .await
}

/// Like [`send`], with an event time.
pub async fn send_at(
    client: &TestClient,
    path: &str,
    event: &str,
    at: &str,
    data: Value,
) -> TestAnswer {
    let body = json!({"event": event, "source": "crm", "timestamp": at, "data": data});
    client
        .send_request(request(client, path, &body.to_string()))
        .await
}

/// Like [`send`], to the generic path for every event.
pub async fn send_any(client: &TestClient, event: &str, data: Value) -> TestAnswer {
    send(client, "", event, data).await
}

/// Returns the `data` of an answer, which must be a success.
pub fn data(answer: &TestAnswer) -> &Value {
    assert_eq!(
        (answer.status, &answer.body["status"]),
        (200, &json!("success")),
        "{answer:?}"
    );
    &answer.body["data"]
}

/// Returns status, code and detail of a refusal.
pub fn refusal(answer: &TestAnswer) -> (u16, &str, &str) {
    let text = |name: &str| {
        answer.body[name]
            .as_str()
            .unwrap_or_else(|| panic!("no {name} in {answer:?}"))
    };
    (answer.status, text("code"), text("detail"))
}

/// Creates a pre-lead and returns its id.
pub async fn new_pre_lead(client: &TestClient) -> u64 {
    let answer = send(
        client,
        "pre-lead/create",
        "new_inquiry",
        json!({"first_name": "John", "phone": "1"}),
    )
    .await;
    data(&answer)["pre_lead_id"].as_u64().expect("a number")
}

/// Creates a lead and returns its id.
pub async fn new_lead(client: &TestClient) -> u64 {
    let answer = send(
        client,
        "lead/create",
        "new_lead",
        json!({"first_name": "Robert", "phone": "1"}),
    )
    .await;
    data(&answer)["lead_id"].as_u64().expect("a number")
}

/// Creates a won lead and returns its id.
pub async fn won_lead(client: &TestClient) -> u64 {
    let lead = json!({"first_name": "Robert", "phone": "1", "lead_status": "won"});
    data(&send(client, "lead/create", "new_lead", lead).await)["lead_id"]
        .as_u64()
        .expect("a number")
}

/// Creates a customer under the code `code` and returns its id.
pub async fn new_customer(client: &TestClient, code: &str) -> u64 {
    let lead_id = won_lead(client).await;
    let answer = convert_lead(client, lead_id, Some(code)).await;
    data(&answer)["customer_id"].as_u64().expect("a number")
}

pub async fn convert_lead(client: &TestClient, lead_id: u64, code: Option<&str>) -> TestAnswer {
    let path = format!("lead/{lead_id}/convert");
    send(
        client,
        &path,
        "lead_convert",
        json!({"customer_code": code}),
    )
    .await
}

/// Returns the state of an entity from the admin API.
pub async fn state(client: &TestClient, kind: &str, id: u64) -> Value {
    let answer = client.get(&format!("/api/v1/entities/{kind}/{id}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["state"].clone()
}

/// Returns at most 100 items of an entity's timeline, oldest first.
pub async fn timeline(client: &TestClient, kind: &str, id: u64) -> Vec<Value> {
    let answer = client
        .get(&format!(
            "/api/v1/entities/{kind}/{id}/timeline?page_size=100"
        ))
        .await;
    let mut items = answer.body["items"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer:?}"))
        .clone();
    items.reverse();
    items
}
