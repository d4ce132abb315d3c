//! Subscriptions whose subscribers read their events themselves.

use serde_json::{Value, json};

use crate::test_node::{TestClient, TestEnv, run_async};
use crate::webhooks;

async fn create_pull(client: &TestClient, more: Value) -> String {
    let mut body = json!({"delivery": "pull", "events": ["ticket:*"]});
    let members = body.as_object_mut().expect("an object");
    members.extend(more.as_object().expect("an object").clone());
    let created = webhooks::create(client, &body).await;
    assert_eq!(created.status, 200, "{}", created.body);
    assert_eq!(created.body["url"], Value::Null);
    format!("/api/v1/webhooks/{}/events", created.body["id"])
}

fn tickets(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().expect("items").iter();
    items
        .map(|item| {
            let entity = &item["body"]["entity"];
            format!(
                "{}/{}",
                entity["id"].as_str().expect("an id"),
                entity["sequence"]
            )
        })
        .collect()
}

#[test]
fn events_come_in_order_until_they_are_acknowledged_also_after_a_restart() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let path = create_pull(&node, json!({})).await;
        for (number, ticket) in ["A", "B", "A"].into_iter().enumerate() {
            node.send_message(ticket, &format!("k-{number}")).await;
        }
        let first = node.get(&format!("{path}?limit=2")).await.body;
        assert_eq!(tickets(&first), ["A/1", "B/1"]);
        assert_eq!(first["has_more"], json!(true));
        let again = node.get(&path).await.body;
        assert_eq!(
            tickets(&again),
            ["A/1", "B/1", "A/2"],
            "nothing is acknowledged"
        );

        let cursor = first["cursor"].as_str().expect("a cursor");
        let next = node.get(&format!("{path}?cursor={cursor}")).await.body;
        assert_eq!(tickets(&next), ["A/2"]);
        node.stop().await;

        let node = test_env.start().await;
        let rest = node.get(&path).await.body;
        assert_eq!(tickets(&rest), ["A/2"], "two are acknowledged");
        node.stop().await;
    });
}

#[test]
fn a_request_waits_for_the_next_event() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let path = create_pull(&node, json!({})).await;
        let empty = node.get(&path).await.body;
        assert_eq!(empty["items"], json!([]));

        let waiting = format!("{path}?wait=30");
        let (page, _) = tokio::join!(node.get(&waiting), async {
            node.send_message("A", "k-1").await;
        });
        assert_eq!(tickets(&page.body), ["A/1"]);
        node.stop().await;
    });
}

#[test]
fn filter_and_transform_apply_and_failures_are_told() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let filtered = json!({"filter": "entity.id != 'B'", "transform": "{'ticket': entity.id}"});
        let path = create_pull(&node, filtered).await;
        let failing = create_pull(&node, json!({"filter": "data.no_such == 1"})).await;
        for (number, ticket) in ["A", "B"].into_iter().enumerate() {
            node.send_message(ticket, &format!("k-{number}")).await;
        }
        let page = node.get(&path).await.body;
        let bodies: Vec<_> = page["items"].as_array().expect("items").iter().collect();
        assert_eq!(bodies.len(), 1);
        assert_eq!(bodies[0]["body"], json!({"ticket": "A"}));

        let page = node.get(&failing).await.body;
        let item = &page["items"][0];
        assert_eq!(item["body"], Value::Null);
        let error = item["error"].as_str().expect("an error");
        assert!(error.starts_with("filter failed: "), "{error}");
        node.stop().await;
    });
}

/// A cursor from before a restore had been refused, and all events up to the end were acknowledged by it.
#[test]
fn a_cursor_behind_the_last_event_acknowledges_nothing() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let path = create_pull(&node, json!({})).await;
        node.send_message("A", "k-1").await;
        let refused = node.get(&format!("{path}?cursor=999")).await;
        assert_eq!(
            (refused.status, &refused.body["code"]),
            (409, &json!("cursor_past_end"))
        );
        node.stop().await;

        let node = test_env.start().await;
        let page = node.get(&path).await.body;
        assert_eq!(tickets(&page), ["A/1"]);
        node.stop().await;
    });
}

#[test]
fn wrong_requests_are_told_apart() {
    run_async(async {
        let test_env = TestEnv::new(&[]);
        let node = test_env.start().await;
        let path = create_pull(&node, json!({})).await;
        for (query, status) in [
            ("?cursor=0", 400),
            ("?cursor=x", 400),
            ("?limit=501", 400),
            ("?wait=31", 400),
            ("?cursor=999", 409),
        ] {
            let answer = node.get(&format!("{path}{query}")).await;
            assert_eq!(answer.status, status, "{query}: {}", answer.body);
        }
        let with_url = json!({"delivery": "pull", "events": ["*"], "url": "https://crm.example/"});
        let refused = webhooks::create(&node, &with_url).await;
        assert_eq!(refused.status, 400);
        assert!(refused.body.to_string().contains("must be absent"));

        let test = node.post(&path.replace("/events", "/test")).await;
        assert_eq!(
            (test.status, &test.body["code"]),
            (409, &json!("not_delivered"))
        );
        node.stop().await;
    });
}
