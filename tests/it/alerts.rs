//! Conditions of the node are announced as events: once when they begin, once when they end, also
//! across a restart.

use std::sync::Arc;
use std::time::Duration;

use hookyard::clock::ManualClock;
use serde_json::{Value, json};

use crate::deliveries::{subscribe, test_env};
use crate::receiver::{ReceiverReply, TestReceiver};
use crate::test_node::{TestClient, TestEnv, expect_soon, run_async};

/// Environment of a node that looks at its conditions often.
fn watching_env(keys: &[(&str, &str)]) -> TestEnv {
    let mut test_env = test_env(&[("alerts.check_interval_s", "0.01")]);
    keys.iter()
        .for_each(|(key, value)| test_env.set(key, value));
    test_env
}

/// Names and data of the events of one condition, the oldest first.
async fn story(client: &TestClient, alert: &str) -> Vec<(String, Value)> {
    let path = format!("/api/v1/entities/custom:alert/{alert}/timeline");
    let answer = client.get(&path).await;
    let items = answer.body["items"].as_array().cloned().unwrap_or_default();
    let told = items.iter().rev();
    told.map(|item| {
        let name = item["type"].as_str().expect("a name").to_owned();
        (name, item["data"].clone())
    })
    .collect()
}

/// Advances the clock, minute by minute, until the condition `alert` has `count` events.
async fn advance_until_told(client: &TestClient, clock: &ManualClock, alert: &str, count: usize) {
    let told = async {
        while story(client, alert).await.len() < count {
            clock.advance(Duration::from_secs(60));
        }
    };
    expect_soon(told).await;
}

#[test]
fn a_full_disk_is_a_chat_message_once_and_its_end_too_also_after_a_restart() {
    run_async(async {
        let mut test_env = watching_env(&[("alerts.disk_free_bytes", "1")]);
        let chat = TestReceiver::accept_all().await;
        let node = test_env.start().await;
        let transform = json!({"events": ["alert.*"], "transform": "{'text': data.message}"});
        subscribe(&node, chat.url("/hook"), transform).await;
        node.stop().await;

        // The subscription is there before the disk is full, or it would miss the news.
        test_env.set("alerts.disk_free_bytes", "9000000000000000000");
        let node = test_env.start().await;
        chat.wait_for_accepted(1).await;
        node.stop().await;

        let node = test_env.start().await;
        node.stop().await;
        test_env.set("alerts.disk_free_bytes", "1");
        let node = test_env.start().await;
        chat.wait_for_accepted(2).await;
        let texts: Vec<_> = chat
            .arrivals()
            .iter()
            .map(|told| told.json()["text"].as_str().expect("text").to_owned())
            .collect();
        assert!(texts[0].starts_with("Disk space is low: "), "{texts:?}");
        assert!(
            texts[1].starts_with("Disk space is sufficient again: "),
            "{texts:?}"
        );

        let story = story(&node, "disk_space").await;
        let names: Vec<_> = story.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["alert.raised", "alert.cleared"]);
        assert_eq!(story[0].1["limit"], json!(9_000_000_000_000_000_000_u64));
        assert_eq!(story[0].1["alert"], "disk_space");
        node.stop().await;
    });
}

#[test]
fn a_backlog_that_is_too_old_is_announced_and_so_is_its_end() {
    run_async(async {
        let mut test_env = watching_env(&[("delivery.retry_schedule_s", "3600,3600,3600")]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        let receiver = TestReceiver::start(|_| ReceiverReply::Status(500)).await;
        let id = subscribe(&node, receiver.url("/hook"), json!({})).await["id"].clone();
        let idle = TestReceiver::accept_all().await;
        subscribe(&node, idle.url("/hook"), json!({"events": ["lead.*"]})).await;
        node.send_message("A", "k-1").await;
        receiver.wait_for_requests(1).await;

        let alert = format!("backlog_age:webhook:{id}");
        advance_until_told(&node, &clock, &alert, 1).await;
        let told = story(&node, &alert).await;
        assert_eq!(told[0].0, "alert.raised");
        assert_eq!(told[0].1["subject"], format!("webhook:{id}"));
        assert_eq!(told[0].1["limit"], 900);

        receiver.set_script(|_| ReceiverReply::Status(200));
        advance_until_told(&node, &clock, &alert, 2).await;
        assert_eq!(story(&node, &alert).await[1].0, "alert.cleared");
        let all = node.get("/api/v1/entities/custom:alert").await.body;
        assert_eq!(all["total"], 1, "only the late subscriber: {all}");
        node.stop().await;
    });
}

#[test]
fn a_source_that_was_active_and_falls_silent_is_announced_also_if_the_node_restarted() {
    run_async(async {
        let mut test_env = watching_env(&[]);
        let clock: Arc<ManualClock> = test_env.with_manual_clock();
        let node = test_env.start().await;
        for number in 0..10 {
            node.send_message("A", &format!("k-{number}")).await;
        }
        node.stop().await;

        clock.advance(Duration::from_secs(12 * 3_600));
        test_env.deps.metrics = Arc::default();
        let node = test_env.start().await;
        assert!(story(&node, "silent_source:support").await.is_empty());
        clock.advance(Duration::from_secs(12 * 3_600));
        advance_until_told(&node, &clock, "silent_source:support", 1).await;

        node.send_message("A", "k-again").await;
        advance_until_told(&node, &clock, "silent_source:support", 2).await;
        let told = story(&node, "silent_source:support").await;
        assert_eq!(
            (told[0].0.as_str(), told[1].0.as_str()),
            ("alert.raised", "alert.cleared")
        );
        node.stop().await;
    });
}
