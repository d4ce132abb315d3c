//! Subscriptions that are changed, paused, disabled or deleted while deliveries are in flight.

use serde_json::json;

use super::{expected, publish, subscribe, test_env};
use crate::receiver::{ReceiverReply, ReplyLatch, TestReceiver};
use crate::test_node::{expect_soon, run_async};
use crate::webhooks;

/// In another product, the backlog of a deleted subscription failed for ever.
#[test]
fn a_deleted_subscription_gets_nothing_more_despite_attempts_in_flight_and_a_backlog() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let latch = ReplyLatch::default();
        let held = latch.clone();
        let receiver =
            TestReceiver::start(move |_| ReceiverReply::Status(500).held_by(&held)).await;
        let witness = TestReceiver::accept_all().await;
        let subscription = subscribe(&node, &receiver.url("/"), json!({})).await;
        subscribe(&node, &witness.url("/"), json!({})).await;
        publish(&node, 10, 2).await;
        // A new subscriber gets two concurrent attempts (slow start).
        receiver.wait_for_requests(2).await;
        subscription.delete(&node).await;
        latch.open();
        publish(&node, 10, 2).await;
        witness.wait_for_accepted(40).await;
        assert_eq!(receiver.arrivals().len(), 2);
        node.stop().await;
        let node = test_env.start().await;
        publish(&node, 1, 1).await;
        witness.wait_for_accepted(41).await;
        assert_eq!(receiver.arrivals().len(), 2, "nor after a restart");
        node.stop().await;
    });
}

#[test]
fn retries_use_a_changed_url() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let (old, new) = (
            TestReceiver::start(|_| ReceiverReply::Status(500)).await,
            TestReceiver::accept_all().await,
        );
        let subscription = subscribe(&node, &old.url("/"), json!({})).await;
        publish(&node, 20, 3).await;
        old.wait_until(|seen| seen.attempts.len() == 20).await;
        subscription
            .change(&node, json!({"url": new.url("/")}))
            .await;
        publish(&node, 20, 2).await;
        new.wait_for_accepted(100).await;
        assert_eq!(new.log().check_complete(&expected(20, 5)), 0);
        node.stop().await;
    });
}

#[test]
fn a_paused_subscription_gets_nothing_until_it_is_resumed_and_then_all_of_it() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let (receiver, witness) = (
            TestReceiver::accept_all().await,
            TestReceiver::accept_all().await,
        );
        let subscription = subscribe(&node, &receiver.url("/"), json!({})).await;
        subscribe(&node, &witness.url("/"), json!({})).await;
        publish(&node, 5, 2).await;
        receiver.wait_for_accepted(10).await;
        subscription.run_action(&node, "pause").await;
        publish(&node, 5, 40).await;
        witness.wait_for_accepted(210).await;
        assert_eq!(receiver.arrivals().len(), 10);
        node.stop().await;
        let node = test_env.start().await;
        publish(&node, 5, 1).await;
        witness.wait_for_accepted(215).await;
        assert_eq!(receiver.arrivals().len(), 10, "nor after a restart");
        subscription.run_action(&node, "resume").await;
        receiver.wait_for_accepted(215).await;
        assert_eq!(receiver.log().check_complete(&expected(5, 43)), 0);
        node.stop().await;
    });
}

#[test]
fn one_that_answers_gone_is_disabled_and_begins_anew_when_it_is_enabled() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let (receiver, witness) = (
            TestReceiver::start(|_| ReceiverReply::Status(410)).await,
            TestReceiver::accept_all().await,
        );
        let subscription = subscribe(&node, &receiver.url("/"), json!({})).await;
        subscribe(&node, &witness.url("/"), json!({})).await;
        publish(&node, 1, 5).await;
        let path = format!("/{}", subscription.id);
        expect_soon(async {
            while webhooks::show(&node, &path).await.body["state"] != "disabled" {}
        })
        .await;
        witness.wait_for_accepted(5).await;
        assert_eq!(receiver.arrivals().len(), 1);
        receiver.set_script(|_| ReceiverReply::Status(200));
        subscription.change(&node, json!({"is_active": true})).await;
        publish(&node, 1, 3).await;
        receiver.wait_for_accepted(3).await;
        assert_eq!(
            receiver
                .log()
                .accepted_sequences()
                .into_values()
                .collect::<Vec<_>>(),
            [[6, 7, 8]]
        );
        node.stop().await;
    });
}

#[test]
fn a_breaker_that_opened_probes_and_closes_and_nothing_of_it_is_lost() {
    run_async(async {
        let keys = [
            ("delivery.breaker.consecutive", "5"),
            ("delivery.breaker.open_s", "0.2"),
            ("delivery.breaker.open_max_s", "0.2"),
        ];
        let node = test_env(&keys).start().await;
        let (receiver, witness) = (
            TestReceiver::start(|_| ReceiverReply::Status(500)).await,
            TestReceiver::accept_all().await,
        );
        let subscription = subscribe(&node, &receiver.url("/"), json!({})).await;
        subscribe(&node, &witness.url("/"), json!({})).await;
        let operator = TestReceiver::accept_all().await;
        subscribe(&node, &operator.url("/"), json!({"events": ["breaker.*"]})).await;
        publish(&node, 50, 4).await;
        witness.wait_for_accepted(200).await;
        operator.wait_for_accepted(1).await;
        let opened = operator.arrivals()[0].clone();
        assert_eq!(
            (opened.event().as_str(), opened.entity()),
            (
                "breaker.opened",
                format!("custom:subscriber/{}", subscription.id)
            )
        );
        let before = receiver.arrivals().len();
        assert!(
            before <= 10,
            "{before} attempts at one that was interrupted after five"
        );
        receiver.set_script(|_| ReceiverReply::Status(200));
        receiver.wait_for_accepted(200).await;
        assert_eq!(receiver.log().check_complete(&expected(50, 4)), 0);
        operator
            .wait_until(|seen| {
                seen.arrivals
                    .last()
                    .is_some_and(|last| last.event() == "breaker.closed")
            })
            .await;
        node.stop().await;
    });
}
