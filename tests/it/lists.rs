//! Lists of events: the events of one entity are applied in the list's order, even without room.

use serde_json::{Value, json};

use crate::test_node::{TestAnswer, TestClient, TestEnv, run};

const PUBLISHER: &str = "test-publisher";

fn test_env(keys: &[(&str, &str)]) -> TestEnv {
    let mut ground = TestEnv::new(keys);
    ground.set("router.shards", "1");
    ground.set("sources.crm.enabled", "true");
    ground.set("sources.crm.tokens", PUBLISHER);
    ground
}

fn updated(id: u64, n: u64) -> Value {
    json!({"event": "organisation.updated", "data": {"organisation_id": id, "n": n}})
}

async fn publish(gate: &TestClient, list: &[Value]) -> TestAnswer {
    let request = gate
        .client
        .post(format!("{}/api/v1/events", gate.base))
        .bearer_auth(PUBLISHER);
    gate.answer(
        request
            .header("content-type", "application/json")
            .body(json!(list).to_string()),
    )
    .await
}

async fn last(gate: &TestClient, id: u64) -> Value {
    gate.get(&format!("/api/v1/entities/organisation/{id}"))
        .await
        .body["state"]["n"]
        .clone()
}

/// Regression: the second event of an entity that waited for a place in memory found one first.
#[test]
fn an_entity_that_waits_for_a_place_keeps_its_order() {
    run(async {
        let yard = test_env(&[("router.live_entities_max", "130")])
            .start()
            .await;
        let fill: Vec<_> = (1..=130).map(|id| updated(id, 0)).collect();
        assert_eq!(publish(&yard, &fill).await.status, 202);
        // Entities that the projection has passed may leave memory.
        yard.get("/api/v1/events").await;
        let mut list: Vec<_> = (1..=66).map(|id| updated(id, 1)).collect();
        list.extend([updated(1_000, 1), updated(1_000, 2), updated(1_000, 3)]);
        assert_eq!(publish(&yard, &list).await.status, 202);
        assert_eq!(last(&yard, 1_000).await, 3);
        yard.stop().await;
    });
}

/// Regression: only the first events of a list without room were refused; sent again, they came
/// after the others.
#[test]
fn a_list_larger_than_the_room_and_sent_again_ends_as_its_last_event_says() {
    run(async {
        let mut ground = test_env(&[("router.in_flight_events_max", "16")]);
        let dam = ground.with_disk_gate();
        let yard = ground.start().await;
        let list: Vec<_> = (1..=9)
            .map(|n| {
                let mut event = updated(1, n);
                event["idempotency_key"] = format!("key-{n}").into();
                event
            })
            .collect();
        // The first slice finds room; later slices compete with other requests.
        let gate = yard.gate.clone();
        let held = dam
            .hold_request(async move { gate.message("S", "k").await })
            .await;
        let (gate, first) = (yard.gate.clone(), list.clone());
        let others: Vec<_> = (0..12)
            .map(|n| {
                let gate = yard.gate.clone();
                actix_rt::spawn(async move { gate.message(&format!("T{n}"), &n.to_string()).await })
            })
            .collect();
        let answer = actix_rt::spawn(async move { publish(&gate, &first).await });
        dam.open();
        assert_eq!(held.await.expect("no panic").status, 202);
        answer.await.expect("no panic");
        for other in others {
            other.await.expect("no panic");
        }
        publish(&yard, &list).await;
        assert_eq!(last(&yard, 1).await, 9);
        yard.stop().await;
    });
}
