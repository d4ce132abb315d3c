//! Every example of the source document is accepted and answered as it stands there.

use serde_json::{Value, json};

use super::examples::{ContractExample, EXAMPLES};
use super::{data, new_customer, request, send, send_any, state, test_env, timeline};
use crate::test_node::{TestAnswer, TestClient, run_async};

fn example(path: &str) -> &'static ContractExample {
    EXAMPLES
        .iter()
        .find(|example| example.path == path)
        .expect("an example")
}

async fn play(client: &TestClient, path: &str, id: u64) -> TestAnswer {
    let example = example(path);
    let id = id.to_string();
    let path = path.replace("{pre_lead_id}", &id).replace("{lead_id}", &id);
    client
        .send_request(request(client, &path, example.request))
        .await
}

/// Returns the id of an entity on which the example of `path` has the documented result; 0 if the
/// example creates the entity.
async fn prepare(client: &TestClient, path: &str) -> u64 {
    if path.contains("{pre_lead_id}") {
        let answer = play(client, "pre-lead/create", 0).await;
        return data(&answer)["pre_lead_id"].as_u64().expect("a number");
    }
    if !path.contains("{lead_id}") {
        return 0;
    }
    let answer = play(client, "lead/create", 0).await;
    let id = data(&answer)["lead_id"].as_u64().expect("a number");
    if path.contains("status") {
        data(&play(client, "lead/{lead_id}/update", id).await);
    }
    if path.contains("convert") {
        let status = json!({"lead_status": "won"});
        data(
            &send(
                client,
                &format!("lead/{id}/status/update"),
                "lead_status_update",
                status,
            )
            .await,
        );
    }
    id
}

/// Asserts that `answered` equals the `example` letter by letter, except for spaces and the numbers
/// of ids, of which `id` is the requested one.
fn check(example: &ContractExample, answered: &TestAnswer, id: u64) {
    assert_eq!(answered.status, 200, "{}: {answered:?}", example.path);
    // No text in the examples contains these characters.
    let mut expected = example.answer.replace("\": ", "\":").replace(", \"", ",\"");
    let shown: Value = serde_json::from_str(example.answer).expect("JSON");
    let members = shown["data"].as_object().expect("an object");
    for (name, value) in members.iter().filter(|(name, _)| name.ends_with("_id")) {
        let is_asked_for = example.path.contains(&format!("{{{name}}}"));
        let found = answered.body["data"][name]
            .as_u64()
            .unwrap_or_else(|| panic!("no number {name} in {answered:?}"));
        assert!(!is_asked_for || found == id, "{answered:?}");
        expected = expected.replace(
            &format!("\"{name}\":{value}"),
            &format!("\"{name}\":{found}"),
        );
    }
    assert_eq!(
        answered.text, expected,
        "nothing more and nothing less, and in that order"
    );
    assert!(
        answered
            .header("x-event-id")
            .is_some_and(|id| id.starts_with("evt_")),
        "{answered:?}"
    );
    assert!(
        answered.header("x-entity-sequence").is_some(),
        "{answered:?}"
    );
}

#[test]
fn each_example_is_answered_as_it_stands_there() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        for example in &EXAMPLES {
            let id = prepare(&node, example.path).await;
            check(example, &play(&node, example.path, id).await, id);
        }
        node.stop().await;
    });
}

#[test]
fn each_example_is_taken_by_its_name_too() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        for example in &EXAMPLES {
            let id = prepare(&node, example.path).await;
            let mut body: Value = serde_json::from_str(example.request).expect("JSON");
            for name in ["pre_lead_id", "lead_id"]
                .into_iter()
                .filter(|name| example.path.contains(&format!("{{{name}}}")))
            {
                body["data"][name] = json!(id.to_string());
            }
            check(
                example,
                &node
                    .send_request(request(&node, "", &body.to_string()))
                    .await,
                id,
            );
        }
        node.stop().await;
    });
}

#[test]
fn the_slash_at_the_end_may_be_there_or_not() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        for path in ["pre-lead/create/", "/"] {
            let answer = node
                .send_request(request(&node, path, example("pre-lead/create").request))
                .await;
            assert_eq!(answer.status, 200, "{path:?}: {answer:?}");
        }
        let id = prepare(&node, "lead/{lead_id}/memo/add").await;
        let path = format!("lead/{id}/memo/add/");
        data(
            &node
                .send_request(request(
                    &node,
                    &path,
                    example("lead/{lead_id}/memo/add").request,
                ))
                .await,
        );
        node.stop().await;
    });
}

#[test]
fn orders_and_payments_are_counted_by_id_and_by_code() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let id = new_customer(&node, "CUST-XYZ-001").await;
        let order =
            json!({"customer_id": id, "order_id": "o-1", "amount": 100.10, "currency": "EUR"});
        let answer = send_any(&node, "order_created", order).await;
        let expected = |message: &str| {
            let data = format!(r#"{{"customer_id":{id},"customer_code":"CUST-XYZ-001"}}"#);
            format!(r#"{{"status":"success","message":"{message}","data":{data}}}"#)
        };
        assert_eq!(answer.text, expected("Order recorded successfully"));
        let payment = json!({"customer_code": "CUST-XYZ-001", "payment_id": 7, "amount": 120, "currency": "EUR", "order_id": "o-1"});
        let answer = send_any(&node, "payment_received", payment).await;
        assert_eq!(answer.text, expected("Payment recorded successfully"));
        let state = state(&node, "customer", id).await;
        assert_eq!(state["balance"], json!({"EUR": "-19.9"}), "paid in advance");
        assert_eq!(
            (&state["order_count"], &state["payment_count"]),
            (&json!(1), &json!(1))
        );
        assert_eq!(state["last_payment"]["payment_id"], "7");
        let types: Vec<_> = timeline(&node, "customer", id)
            .await
            .iter()
            .map(|item| item["type"].clone())
            .collect();
        assert_eq!(
            types,
            [
                "customer.created",
                "customer.order_created",
                "customer.payment_received"
            ]
        );
        node.stop().await;
    });
}
