//! Subscribers that fall far behind and catch up while more events arrive: no gap, no repeat, and
//! bounded memory.

use serde_json::json;

use super::{expected, publish, subscribe, test_env};
use crate::receiver::{ReceiverReply, TestReceiver};
use crate::test_node::{run_async, run_together};

#[test]
fn one_that_was_down_for_thousands_of_events_gets_each_once_while_more_are_coming() {
    run_async(async {
        let keys = [
            ("delivery.window_events", "64"),
            ("delivery.stopped_lanes_max", "100"),
            // Longer than the test: deliveries of the downtime must not be exhausted.
            (
                "delivery.retry_schedule_s",
                "0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5",
            ),
        ];
        let node = test_env(&keys).start().await;
        let (receiver, witness) = (
            TestReceiver::accept_all().await,
            TestReceiver::accept_all().await,
        );
        receiver.stop().await;
        let subscription = subscribe(&node, &receiver.url("/"), json!({})).await;
        subscribe(&node, &witness.url("/"), json!({})).await;
        publish(&node, 400, 10).await;
        witness.wait_for_accepted(4000).await;
        let stats = subscription.stats(&node).await;
        // Deliveries in memory when the bound is reached may still stop lanes.
        assert!(stats["stopped_lanes"].as_u64() <= Some(100 + 64), "{stats}");
        assert!(stats["waiting"].as_u64() <= Some(64), "{stats}");
        assert!(stats["behind"].as_u64() > Some(0), "{stats}");
        receiver.restart().await;
        let gates = [node.api.clone(), node.api.clone()];
        run_together(gates.map(|client| async move {
            for _ in 0..10 {
                publish(&client, 400, 1).await;
            }
        }))
        .await;
        receiver.wait_for_accepted(12_000).await;
        assert_eq!(receiver.log().check_complete(&expected(400, 30)), 0);
        subscription
            .wait_until_stats(&node, |stats| {
                stats["behind"] == 0 && stats["waiting"] == 0 && stats["stopped_lanes"] == 0
            })
            .await;
        publish(&node, 400, 1).await;
        receiver.wait_for_accepted(12_400).await;
        node.stop().await;
    });
}

#[test]
fn a_slow_one_turns_behind_and_live_again_and_again_without_gap_or_repeat() {
    run_async(async {
        let keys = [
            ("delivery.window_events", "8"),
            ("delivery.concurrency", "2"),
        ];
        let node = test_env(&keys).start().await;
        let receiver = TestReceiver::start(|arrival| {
            ReceiverReply::Status(if arrival.before == 0 && arrival.sequence() % 7 == 0 {
                500
            } else {
                200
            })
        })
        .await;
        subscribe(&node, &receiver.url("/"), json!({})).await;
        let mut total = 0;
        for burst in 1..=20 {
            publish(&node, 5, burst).await;
            total += 5 * burst;
            // Some bursts arrive while the subscriber is behind, others after it has caught up.
            if burst % 3 == 0 {
                receiver.wait_for_accepted(total).await;
            }
        }
        receiver.wait_for_accepted(total).await;
        assert_eq!(receiver.log().check_complete(&expected(5, 210)), 0);
        node.stop().await;
    });
}
