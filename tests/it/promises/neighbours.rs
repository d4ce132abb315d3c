//! A subscriber that is dead, slow, or both delays no other subscriber and no ingest.

use serde_json::json;

use super::{expected, publish, subscribe, test_env};
use crate::receiver::{ReceiverReply, TestReceiver};
use crate::test_node::run_async;

#[test]
fn a_subscriber_beside_those_that_hang_drip_and_are_not_there_gets_everything() {
    run_async(async {
        let node = test_env(&[
            ("delivery.window_events", "64"),
            ("delivery.timeout_s", "300"),
        ])
        .start()
        .await;
        let hanging = TestReceiver::start(|_| ReceiverReply::Hang).await;
        let dripping = TestReceiver::start(|_| ReceiverReply::Drip(200)).await;
        let gone = TestReceiver::accept_all().await;
        gone.stop().await;
        for receiver in [&hanging, &dripping, &gone] {
            subscribe(&node, &receiver.url("/"), json!({})).await;
        }
        let healthy = TestReceiver::accept_all().await;
        subscribe(&node, &healthy.url("/"), json!({})).await;
        publish(&node, 100, 30).await;
        healthy.wait_for_accepted(3000).await;
        assert_eq!(healthy.log().check_complete(&expected(100, 30)), 0);
        for receiver in [&hanging, &dripping] {
            let held = receiver.arrivals().len();
            assert!(
                (1..=2).contains(&held),
                "{held} places held by one that never answered"
            );
        }
        assert_eq!(node.get("/readyz").await.status, 200);
        node.stop().await;
    });
}

#[test]
fn all_places_taken_by_those_that_hang_come_free_in_turn() {
    run_async(async {
        let node = test_env(&[
            ("delivery.attempts_max", "2"),
            ("delivery.timeout_s", "0.2"),
        ])
        .start()
        .await;
        let mut hanging = Vec::new();
        for _ in 0..4 {
            let receiver = TestReceiver::start(|_| ReceiverReply::Hang).await;
            subscribe(&node, &receiver.url("/"), json!({})).await;
            hanging.push(receiver);
        }
        let healthy = TestReceiver::accept_all().await;
        subscribe(&node, &healthy.url("/"), json!({})).await;
        publish(&node, 5, 2).await;
        healthy.wait_for_accepted(10).await;
        for receiver in &hanging {
            receiver.wait_for_requests(1).await;
        }
        node.stop().await;
    });
}

#[test]
fn one_of_five_that_fails_repeats_nothing_to_the_other_four() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let failing = TestReceiver::start(|arrival| {
            ReceiverReply::Status(if arrival.before < 2 { 500 } else { 200 })
        })
        .await;
        subscribe(&node, &failing.url("/"), json!({})).await;
        let mut healthy = Vec::new();
        for _ in 0..4 {
            let receiver = TestReceiver::accept_all().await;
            subscribe(&node, &receiver.url("/"), json!({})).await;
            healthy.push(receiver);
        }
        publish(&node, 20, 5).await;
        failing.wait_for_accepted(100).await;
        for receiver in &healthy {
            receiver.wait_for_accepted(100).await;
            assert_eq!(receiver.arrivals().len(), 100);
        }
        assert_eq!(failing.arrivals().len(), 300);
        node.stop().await;
    });
}
