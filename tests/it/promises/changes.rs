//! Subscriptions that are changed, paused, disabled or deleted while deliveries are in flight.

use serde_json::json;

use super::{expected, ground, publish, subscribe};
use crate::receiver::{ReceiverReply, ReplyLatch, TestReceiver};
use crate::test_node::{expect_soon, run};
use crate::webhooks;

/// In another product, the backlog of a deleted subscription failed for ever.
#[test]
fn a_deleted_subscription_gets_nothing_more_though_deliveries_were_under_way_and_owed() {
    run(async {
        let ground = ground(&[]);
        let yard = ground.start().await;
        let latch = ReplyLatch::default();
        let held = latch.clone();
        let receiver =
            TestReceiver::start(move |_| ReceiverReply::Status(500).held_by(&held)).await;
        let witness = TestReceiver::accept_all().await;
        let subscription = subscribe(&yard, &receiver.url("/"), json!({})).await;
        subscribe(&yard, &witness.url("/"), json!({})).await;
        publish(&yard, 10, 2).await;
        // A new subscriber gets two concurrent attempts (slow start).
        receiver.wait_for_requests(2).await;
        subscription.delete(&yard).await;
        latch.open();
        publish(&yard, 10, 2).await;
        witness.accepted(40).await;
        assert_eq!(receiver.arrivals().len(), 2);
        yard.stop().await;
        let yard = ground.start().await;
        publish(&yard, 1, 1).await;
        witness.accepted(41).await;
        assert_eq!(receiver.arrivals().len(), 2, "nor after a restart");
        yard.stop().await;
    });
}

#[test]
fn a_new_address_is_where_retries_go_too() {
    run(async {
        let yard = ground(&[]).start().await;
        let (old, new) = (
            TestReceiver::start(|_| ReceiverReply::Status(500)).await,
            TestReceiver::accept_all().await,
        );
        let subscription = subscribe(&yard, &old.url("/"), json!({})).await;
        publish(&yard, 20, 3).await;
        old.wait_until(|seen| seen.attempts.len() == 20).await;
        subscription
            .change(&yard, json!({"url": new.url("/")}))
            .await;
        publish(&yard, 20, 2).await;
        new.accepted(100).await;
        assert_eq!(new.log().check_complete(&expected(20, 5)), 0);
        yard.stop().await;
    });
}

#[test]
fn a_paused_subscription_gets_nothing_until_it_is_resumed_and_then_all_of_it() {
    run(async {
        let ground = ground(&[]);
        let yard = ground.start().await;
        let (receiver, witness) = (
            TestReceiver::accept_all().await,
            TestReceiver::accept_all().await,
        );
        let subscription = subscribe(&yard, &receiver.url("/"), json!({})).await;
        subscribe(&yard, &witness.url("/"), json!({})).await;
        publish(&yard, 5, 2).await;
        receiver.accepted(10).await;
        subscription.run_action(&yard, "pause").await;
        publish(&yard, 5, 40).await;
        witness.accepted(210).await;
        assert_eq!(receiver.arrivals().len(), 10);
        yard.stop().await;
        let yard = ground.start().await;
        publish(&yard, 5, 1).await;
        witness.accepted(215).await;
        assert_eq!(receiver.arrivals().len(), 10, "nor after a restart");
        subscription.run_action(&yard, "resume").await;
        receiver.accepted(215).await;
        assert_eq!(receiver.log().check_complete(&expected(5, 43)), 0);
        yard.stop().await;
    });
}

#[test]
fn one_that_answers_gone_is_disabled_and_begins_anew_when_it_is_enabled() {
    run(async {
        let yard = ground(&[]).start().await;
        let (receiver, witness) = (
            TestReceiver::start(|_| ReceiverReply::Status(410)).await,
            TestReceiver::accept_all().await,
        );
        let subscription = subscribe(&yard, &receiver.url("/"), json!({})).await;
        subscribe(&yard, &witness.url("/"), json!({})).await;
        publish(&yard, 1, 5).await;
        let path = format!("/{}", subscription.id);
        expect_soon(async {
            while webhooks::show(&yard, &path).await.body["state"] != "disabled" {}
        })
        .await;
        witness.accepted(5).await;
        assert_eq!(receiver.arrivals().len(), 1);
        receiver.set_script(|_| ReceiverReply::Status(200));
        subscription.change(&yard, json!({"is_active": true})).await;
        publish(&yard, 1, 3).await;
        receiver.accepted(3).await;
        assert_eq!(
            receiver
                .log()
                .accepted_sequences()
                .into_values()
                .collect::<Vec<_>>(),
            [[6, 7, 8]]
        );
        yard.stop().await;
    });
}

#[test]
fn a_breaker_that_opened_probes_and_closes_and_nothing_of_it_is_lost() {
    run(async {
        let keys = [
            ("delivery.breaker.consecutive", "5"),
            ("delivery.breaker.open_s", "0.2"),
            ("delivery.breaker.open_max_s", "0.2"),
        ];
        let yard = ground(&keys).start().await;
        let (receiver, witness) = (
            TestReceiver::start(|_| ReceiverReply::Status(500)).await,
            TestReceiver::accept_all().await,
        );
        let subscription = subscribe(&yard, &receiver.url("/"), json!({})).await;
        subscribe(&yard, &witness.url("/"), json!({})).await;
        let operator = TestReceiver::accept_all().await;
        subscribe(&yard, &operator.url("/"), json!({"events": ["breaker.*"]})).await;
        publish(&yard, 50, 4).await;
        witness.accepted(200).await;
        operator.accepted(1).await;
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
        receiver.accepted(200).await;
        assert_eq!(receiver.log().check_complete(&expected(50, 4)), 0);
        operator
            .wait_until(|seen| {
                seen.arrivals
                    .last()
                    .is_some_and(|last| last.event() == "breaker.closed")
            })
            .await;
        yard.stop().await;
    });
}
