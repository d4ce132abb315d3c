//! Lists of events: the events of one entity are applied in the list's order, even without room.

use serde_json::{Value, json};

use crate::test_node::{TestAnswer, TestClient, TestEnv, run_async};

const PUBLISHER: &str = "test-publisher-of-events";

fn test_env(keys: &[(&str, &str)]) -> TestEnv {
    let mut test_env = TestEnv::new(keys);
    test_env.set("router.shards", "1");
    test_env.set("sources.crm.enabled", "true");
    test_env.set("sources.crm.tokens", PUBLISHER);
    test_env
}

fn updated(id: u64, n: u64) -> Value {
    json!({"event": "organisation.updated", "data": {"organisation_id": id, "n": n}})
}

async fn publish(client: &TestClient, list: &[Value]) -> TestAnswer {
    let request = client
        .client
        .post(format!("{}/api/v1/events", client.base))
        .bearer_auth(PUBLISHER);
    client
        .send_request(
            request
                .header("content-type", "application/json")
                .body(json!(list).to_string()),
        )
        .await
}

async fn last(client: &TestClient, id: u64) -> Value {
    client
        .get(&format!("/api/v1/entities/organisation/{id}"))
        .await
        .body["state"]["n"]
        .clone()
}

/// Regression: the second event of an entity that waited for a place in memory found one first.
#[test]
fn an_entity_that_waits_for_a_place_keeps_its_order() {
    run_async(async {
        let node = test_env(&[("router.live_entities_max", "130")])
            .start()
            .await;
        let fill: Vec<_> = (1..=130).map(|id| updated(id, 0)).collect();
        assert_eq!(publish(&node, &fill).await.status, 202);
        // Entities that the projection has passed may leave memory.
        node.get("/api/v1/events").await;
        let mut list: Vec<_> = (1..=66).map(|id| updated(id, 1)).collect();
        list.extend([updated(1_000, 1), updated(1_000, 2), updated(1_000, 3)]);
        assert_eq!(publish(&node, &list).await.status, 202);
        assert_eq!(last(&node, 1_000).await, 3);
        node.stop().await;
    });
}

/// Regression: only the first events of a list without room were refused; sent again, they came
/// after the others.
#[test]
fn a_list_larger_than_the_room_and_sent_again_ends_as_its_last_event_says() {
    run_async(async {
        let mut test_env = test_env(&[("router.in_flight_events_max", "16")]);
        let dam = test_env.with_disk_gate();
        let node = test_env.start().await;
        let list: Vec<_> = (1..=9)
            .map(|n| {
                let mut event = updated(1, n);
                event["idempotency_key"] = format!("key-{n}").into();
                event
            })
            .collect();
        // The first slice finds room; later slices compete with other requests.
        let client = node.api.clone();
        let held = dam
            .hold_request(async move { client.send_message("S", "k").await })
            .await;
        let (client, first) = (node.api.clone(), list.clone());
        let others: Vec<_> = (0..12)
            .map(|n| {
                let client = node.api.clone();
                actix_rt::spawn(async move {
                    client.send_message(&format!("T{n}"), &n.to_string()).await
                })
            })
            .collect();
        let answer = actix_rt::spawn(async move { publish(&client, &first).await });
        dam.open();
        assert_eq!(held.await.expect("no panic").status, 202);
        answer.await.expect("no panic");
        for other in others {
            other.await.expect("no panic");
        }
        publish(&node, &list).await;
        assert_eq!(last(&node, 1).await, 9);
        node.stop().await;
    });
}
