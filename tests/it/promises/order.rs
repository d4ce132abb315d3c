//! Events of one entity arrive in order and once each, despite failures; no entity waits for
//! another.

use std::collections::HashSet;

use serde_json::json;

use super::{draw_number, expected, publish, subscribe, task, test_env, try_publish};
use crate::receiver::{ReceiverReply, ReplyLatch, TestReceiver};
use crate::test_node::{expect_soon, run_async, run_together};

#[test]
fn each_entity_s_events_come_in_order_and_once_though_a_third_of_the_attempts_fail() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let receiver =
            TestReceiver::start(
                |arrival| match draw_number(1, arrival.id(), arrival.before, 6) {
                    0 => ReceiverReply::Status(500),
                    1 => ReceiverReply::Close,
                    _ => ReceiverReply::Status(200),
                },
            )
            .await;
        subscribe(&node, &receiver.url("/"), json!({})).await;
        let gates = [node.api.clone(), node.api.clone(), node.api.clone()];
        run_together(gates.map(|client| async move { publish(&client, 20, 10).await })).await;
        receiver.wait_for_accepted(600).await;
        assert_eq!(
            receiver.log().check_complete(&expected(20, 30)),
            0,
            "none twice"
        );
        assert!(receiver.arrivals().len() > 700, "some failed");
        node.stop().await;
    });
}

#[test]
fn a_delivery_has_the_event_s_id_at_every_attempt_and_in_every_place() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let flaky = |times: usize| {
            move |arrival: &crate::receiver::ReceiverRequest| {
                ReceiverReply::Status(if arrival.before < times { 503 } else { 200 })
            }
        };
        let (one, other) = (
            TestReceiver::start(flaky(3)).await,
            TestReceiver::start(flaky(1)).await,
        );
        subscribe(&node, &one.url("/"), json!({})).await;
        subscribe(&node, &other.url("/"), json!({})).await;
        publish(&node, 4, 5).await;
        one.wait_for_accepted(20).await;
        other.wait_for_accepted(20).await;
        let stored = node.get("/api/v1/events?page_size=100").await.body;
        let stored: HashSet<_> = stored["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(|item| item["event_id"].as_str().expect("an id").to_owned())
            .collect();
        for (receiver, attempts) in [(&one, 4), (&other, 2)] {
            let seen = receiver.log();
            assert_eq!(seen.accepted, stored);
            assert!(
                seen.attempts.values().all(|times| *times == attempts),
                "{:?}",
                seen.attempts
            );
            seen.check_complete(&expected(4, 5));
        }
        node.stop().await;
    });
}

#[test]
fn an_entity_whose_event_is_not_answered_or_refused_holds_up_no_other() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let latch = ReplyLatch::default();
        let held = latch.clone();
        let receiver = TestReceiver::start(move |arrival| {
            match (arrival.entity().as_str(), arrival.sequence()) {
                ("task/0", 1) => ReceiverReply::Status(200).held_by(&held),
                ("task/1", 2) if arrival.before < 3 => ReceiverReply::Status(500),
                _ => ReceiverReply::Status(200),
            }
        })
        .await;
        subscribe(&node, &receiver.url("/"), json!({})).await;
        publish(&node, 10, 10).await;
        receiver.wait_for_accepted(90).await;
        assert_eq!(
            receiver
                .log()
                .arrivals
                .iter()
                .filter(|arrival| arrival.entity() == "task/0")
                .count(),
            1
        );
        latch.open();
        receiver.wait_for_accepted(100).await;
        assert_eq!(receiver.log().check_complete(&expected(10, 10)), 0);
        node.stop().await;
    });
}

#[test]
fn without_order_an_event_that_fails_holds_up_none_of_its_entity() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let latch = ReplyLatch::default();
        let held = latch.clone();
        let receiver = TestReceiver::start(move |arrival| match arrival.sequence() {
            1 => ReceiverReply::Status(200).held_by(&held),
            2 if arrival.before == 0 => ReceiverReply::Status(500),
            _ => ReceiverReply::Status(200),
        })
        .await;
        subscribe(&node, &receiver.url("/"), json!({"ordering": "none"})).await;
        publish(&node, 1, 40).await;
        receiver.wait_for_accepted(39).await;
        latch.open();
        receiver.wait_for_accepted(40).await;
        node.stop().await;
    });
}

/// A permanently refused event is a dead letter, and the entity continues (`skip`) or waits until
/// the dead letter is resolved (`halt`).
#[test]
fn a_dead_letter_is_passed_over_or_waited_for() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let refusing = |arrival: &crate::receiver::ReceiverRequest| {
            ReceiverReply::Status(if arrival.sequence() == 2 { 400 } else { 200 })
        };
        let (skip, halt) = (
            TestReceiver::start(refusing).await,
            TestReceiver::start(refusing).await,
        );
        subscribe(&node, &skip.url("/"), json!({"on_exhausted": "skip"})).await;
        let halting = subscribe(&node, &halt.url("/"), json!({"on_exhausted": "halt"})).await;
        publish(&node, 2, 4).await;
        skip.wait_for_accepted(6).await;
        let sequences = |receiver: &TestReceiver| {
            receiver
                .log()
                .accepted_sequences()
                .into_values()
                .collect::<Vec<_>>()
        };
        assert_eq!(sequences(&skip), [[1, 3, 4], [1, 3, 4]]);
        let path = format!("/api/v1/dead-letters?webhook_id={}", halting.id);
        let letters = expect_soon(async {
            loop {
                let letters = node.get(&path).await.body;
                if letters["total"] == 2 {
                    return letters;
                }
            }
        })
        .await;
        assert_eq!(sequences(&halt), [[1], [1]]);
        halt.set_script(|_| ReceiverReply::Status(200));
        for letter in letters["items"].as_array().expect("items") {
            let answer = node
                .post(&format!("/api/v1/dead-letters/{}/retry", letter["id"]))
                .await;
            assert!((200..300).contains(&answer.status), "{answer:?}");
        }
        halt.wait_for_accepted(8).await;
        assert_eq!(halt.log().check_complete(&expected(2, 4)), 0);
        node.stop().await;
    });
}

#[test]
fn only_subscribed_events_are_delivered_and_none_from_before_the_subscription() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let receiver = TestReceiver::accept_all().await;
        publish(&node, 3, 2).await;
        let kinds = json!({"events": ["person.*", "task.completed"], "filter": "has(data.wanted) && data.wanted"});
        subscribe(&node, &receiver.url("/"), kinds).await;
        let event = |event: &str, kind: &str, wanted: bool| json!({"event": event, "data": {format!("{kind}_id"): 1, "wanted": wanted}});
        let events = [
            event("person.created", "person", true),
            event("person.updated", "person", false),
            task(1),
            event("task.completed", "task", true),
            event("person.deleted", "person", true),
            event("organisation.created", "organisation", true),
            event("task.completed", "task", true),
        ];
        try_publish(&node, &events).await.expect("an answer");
        receiver.wait_for_accepted(4).await;
        let mut came: Vec<_> = receiver
            .arrivals()
            .iter()
            .map(|arrival| (arrival.event(), arrival.sequence()))
            .collect();
        came.sort();
        let wanted = [
            ("person.created", 1),
            ("person.deleted", 3),
            ("task.completed", 4),
            ("task.completed", 5),
        ];
        assert_eq!(
            came,
            wanted.map(|(event, sequence)| (event.to_owned(), sequence))
        );
        node.stop().await;
    });
}
