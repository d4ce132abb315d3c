//! Subscribers that fall far behind and catch up while more events arrive: no gap, no repeat, and
//! bounded memory.

use serde_json::json;

use super::{expected, ground, publish, subscribe};
use crate::receiver::{ReceiverReply, TestReceiver};
use crate::test_node::{run, run_together};

#[test]
fn one_that_was_down_for_thousands_of_events_gets_each_once_while_more_are_coming() {
    run(async {
        let keys = [
            ("delivery.window_events", "64"),
            ("delivery.stopped_lanes_max", "100"),
            // Longer than the test: deliveries of the downtime must not be exhausted.
            (
                "delivery.retry_schedule_s",
                "0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5",
            ),
        ];
        let yard = ground(&keys).start().await;
        let (receiver, witness) = (
            TestReceiver::accept_all().await,
            TestReceiver::accept_all().await,
        );
        receiver.stop().await;
        let subscription = subscribe(&yard, &receiver.url("/"), json!({})).await;
        subscribe(&yard, &witness.url("/"), json!({})).await;
        publish(&yard, 400, 10).await;
        witness.accepted(4000).await;
        let stats = subscription.stats(&yard).await;
        // Deliveries in memory when the bound is reached may still stop lanes.
        assert!(stats["stopped_lanes"].as_u64() <= Some(100 + 64), "{stats}");
        assert!(stats["waiting"].as_u64() <= Some(64), "{stats}");
        assert!(stats["behind"].as_u64() > Some(0), "{stats}");
        receiver.restart().await;
        let gates = [yard.gate.clone(), yard.gate.clone()];
        run_together(gates.map(|gate| async move {
            for _ in 0..10 {
                publish(&gate, 400, 1).await;
            }
        }))
        .await;
        receiver.accepted(12_000).await;
        assert_eq!(receiver.log().check_complete(&expected(400, 30)), 0);
        subscription
            .wait_until_stats(&yard, |stats| {
                stats["behind"] == 0 && stats["waiting"] == 0 && stats["stopped_lanes"] == 0
            })
            .await;
        publish(&yard, 400, 1).await;
        receiver.accepted(12_400).await;
        yard.stop().await;
    });
}

#[test]
fn a_slow_one_turns_behind_and_live_again_and_again_without_gap_or_repeat() {
    run(async {
        let keys = [
            ("delivery.window_events", "8"),
            ("delivery.concurrency", "2"),
        ];
        let yard = ground(&keys).start().await;
        let receiver = TestReceiver::start(|arrival| {
            ReceiverReply::Status(if arrival.before == 0 && arrival.sequence() % 7 == 0 {
                500
            } else {
                200
            })
        })
        .await;
        subscribe(&yard, &receiver.url("/"), json!({})).await;
        let mut total = 0;
        for burst in 1..=20 {
            publish(&yard, 5, burst).await;
            total += 5 * burst;
            // Some bursts arrive while the subscriber is behind, others after it has caught up.
            if burst % 3 == 0 {
                receiver.accepted(total).await;
            }
        }
        receiver.accepted(total).await;
        assert_eq!(receiver.log().check_complete(&expected(5, 210)), 0);
        yard.stop().await;
    });
}
