//! A node that is stopped or killed resumes: its whole backlog is delivered, in order.

use serde_json::json;

use super::{expected, ground, publish, subscribe};
use crate::failures::{DiskFailure, FailurePlace, until_readyz_is};
use crate::receiver::{ReceiverReply, ReplyLatch, TestReceiver};
use crate::test_node::{expect_soon, run};

/// In another product, a restart lost the deliveries that waited for a retry.
#[test]
fn a_restart_keeps_what_waits_to_be_tried_again_and_repeats_nothing() {
    run(async {
        let ground = ground(&[("delivery.retry_schedule_s", "0.2,0.2,0.2,0.2,0.2")]);
        let yard = ground.start().await;
        let receiver = TestReceiver::start(|arrival| {
            ReceiverReply::Status(if arrival.sequence() == 2 { 503 } else { 200 })
        })
        .await;
        subscribe(&yard, &receiver.url("/"), json!({})).await;
        publish(&yard, 50, 4).await;
        receiver
            .wait_until(|seen| seen.accepted.len() == 50 && seen.attempts.len() == 100)
            .await;
        yard.stop().await;
        receiver.set_script(|_| ReceiverReply::Status(200));
        let yard = ground.start().await;
        receiver.accepted(200).await;
        assert_eq!(receiver.log().check_complete(&expected(50, 4)), 0);
        yard.stop().await;
    });
}

/// A cursor alone would stay before the first waiting delivery, and later deliveries of other
/// entities would be repeated.
#[test]
fn a_stop_in_order_with_much_that_waits_repeats_nothing() {
    run(async {
        let ground = ground(&[]);
        let yard = ground.start().await;
        let latch = ReplyLatch::default();
        let held = latch.clone();
        let receiver = TestReceiver::start(move |arrival| {
            match (arrival.entity().as_str(), arrival.sequence()) {
                ("task/0", 1) => ReceiverReply::Status(200).held_by(&held),
                _ => ReceiverReply::Status(200),
            }
        })
        .await;
        subscribe(&yard, &receiver.url("/"), json!({"concurrency": 2})).await;
        publish(&yard, 10, 100).await;
        receiver.accepted(100).await;
        let stopping = actix_rt::spawn(yard.stop());
        latch.open();
        expect_soon(stopping).await.expect("no panic");
        let before = receiver.log().accepted.len();
        assert!(before < 1000, "nothing waited");
        let yard = ground.start().await;
        receiver.accepted(1000).await;
        assert_eq!(receiver.log().check_complete(&expected(10, 100)), 0);
        yard.stop().await;
    });
}

/// In another product, a kill lost the outcome of 222 of 300 accepted messages.
#[test]
fn a_kill_with_thousands_of_stopped_lanes_loses_none_and_swaps_none() {
    run(async {
        let ground = ground(&[
            ("delivery.retry_schedule_s", "2,2,2,2,2,2,2,2,2,2"),
            ("server.workers", "1"),
        ]);
        let mut process = ground.start_process().await;
        let receiver = TestReceiver::start(|_| ReceiverReply::Status(500)).await;
        subscribe(&process, &receiver.url("/"), json!({})).await;
        publish(&process, 2000, 3).await;
        receiver
            .wait_until(|seen| seen.attempts.len() == 2000)
            .await;
        process.kill();
        receiver.set_script(|_| ReceiverReply::Status(200));
        let process = ground.start_process().await;
        publish(&process, 2000, 1).await;
        receiver.accepted(8000).await;
        assert_eq!(
            receiver.log().check_complete(&expected(2000, 4)),
            0,
            "what was refused is no repeat"
        );
        drop(process);
    });
}

#[test]
fn a_kill_in_the_middle_of_deliveries_repeats_few_and_loses_none() {
    run(async {
        let ground = ground(&[]);
        let mut process = ground.start_process().await;
        let latch = ReplyLatch::default();
        let (held, mut count) = (latch.clone(), 0);
        // The last deliveries are unanswered when the node is killed.
        let receiver = TestReceiver::start(move |_| {
            count += 1;
            if count > 300 {
                ReceiverReply::Status(200).held_by(&held)
            } else {
                ReceiverReply::Status(200)
            }
        })
        .await;
        subscribe(&process, &receiver.url("/"), json!({})).await;
        publish(&process, 100, 10).await;
        receiver.wait_for_requests(301).await;
        process.kill();
        // The held deliveries are answered too, although the sender is gone.
        let arrived = receiver.arrivals().len();
        latch.open();
        let process = ground.start_process().await;
        receiver.accepted(1000).await;
        let repeats = receiver.log().check_complete(&expected(100, 10));
        assert!(repeats <= arrived, "{repeats} came again of {arrived}");
        drop(process);
    });
}

#[test]
fn a_store_that_fails_to_note_what_was_delivered_is_opened_again_and_nothing_is_lost_or_swapped() {
    run(async {
        let mut ground = ground(&[]);
        let trouble = DiskFailure::install(&mut ground);
        let yard = ground.start().await;
        let receiver = TestReceiver::start(|arrival| {
            ReceiverReply::Status(if arrival.before < 2 { 500 } else { 200 })
        })
        .await;
        subscribe(&yard, &receiver.url("/"), json!({})).await;
        publish(&yard, 30, 5).await;
        receiver.wait_for_requests(50).await;
        trouble.fail(FailurePlace::Checkpoint, 1);
        trouble.until_played(1).await;
        until_readyz_is(&yard, 200).await;
        publish(&yard, 30, 1).await;
        receiver.accepted(180).await;
        receiver.log().check_complete(&expected(30, 6));
        yard.stop().await;
    });
}
