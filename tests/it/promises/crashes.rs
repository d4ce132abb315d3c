//! A node that is stopped or killed resumes: its whole backlog is delivered, in order.

use serde_json::json;

use super::{expected, publish, subscribe, test_env};
use crate::failures::{DiskFailure, FailurePlace, until_readyz_is};
use crate::receiver::{ReceiverReply, ReplyLatch, TestReceiver};
use crate::test_node::{expect_soon, run_async};

/// In another product, a restart lost the deliveries that waited for a retry.
#[test]
fn a_restart_keeps_waiting_retries_and_repeats_nothing() {
    run_async(async {
        let test_env = test_env(&[("delivery.retry_schedule_s", "0.2,0.2,0.2,0.2,0.2")]);
        let node = test_env.start().await;
        let receiver = TestReceiver::start(|arrival| {
            ReceiverReply::Status(if arrival.sequence() == 2 { 503 } else { 200 })
        })
        .await;
        subscribe(&node, &receiver.url("/"), json!({})).await;
        publish(&node, 50, 4).await;
        receiver
            .wait_until(|seen| seen.accepted.len() == 50 && seen.attempts.len() == 100)
            .await;
        node.stop().await;
        receiver.set_script(|_| ReceiverReply::Status(200));
        let node = test_env.start().await;
        receiver.wait_for_accepted(200).await;
        assert_eq!(receiver.log().check_complete(&expected(50, 4)), 0);
        node.stop().await;
    });
}

/// A cursor alone would stay before the first waiting delivery, and later deliveries of other
/// entities would be repeated.
#[test]
fn a_stop_in_order_with_much_that_waits_repeats_nothing() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let latch = ReplyLatch::default();
        let held = latch.clone();
        let receiver = TestReceiver::start(move |arrival| {
            match (arrival.entity().as_str(), arrival.sequence()) {
                ("task/0", 1) => ReceiverReply::Status(200).held_by(&held),
                _ => ReceiverReply::Status(200),
            }
        })
        .await;
        subscribe(&node, &receiver.url("/"), json!({"concurrency": 2})).await;
        publish(&node, 10, 100).await;
        receiver.wait_for_accepted(100).await;
        let stopping = actix_rt::spawn(node.stop());
        latch.open();
        expect_soon(stopping).await.expect("no panic");
        let before = receiver.log().accepted.len();
        assert!(before < 1000, "nothing waited");
        let node = test_env.start().await;
        receiver.wait_for_accepted(1000).await;
        assert_eq!(receiver.log().check_complete(&expected(10, 100)), 0);
        node.stop().await;
    });
}

/// In another product, a kill lost the outcome of 222 of 300 accepted messages.
#[test]
fn a_kill_with_thousands_of_stopped_lanes_loses_none_and_swaps_none() {
    run_async(async {
        let test_env = test_env(&[
            ("delivery.retry_schedule_s", "2,2,2,2,2,2,2,2,2,2"),
            ("server.workers", "1"),
        ]);
        let mut process = test_env.start_process().await;
        let receiver = TestReceiver::start(|_| ReceiverReply::Status(500)).await;
        subscribe(&process, &receiver.url("/"), json!({})).await;
        publish(&process, 2000, 3).await;
        receiver
            .wait_until(|seen| seen.attempts.len() == 2000)
            .await;
        process.kill();
        receiver.set_script(|_| ReceiverReply::Status(200));
        let process = test_env.start_process().await;
        publish(&process, 2000, 1).await;
        receiver.wait_for_accepted(8000).await;
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
    run_async(async {
        let test_env = test_env(&[]);
        let mut process = test_env.start_process().await;
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
        let process = test_env.start_process().await;
        receiver.wait_for_accepted(1000).await;
        let repeats = receiver.log().check_complete(&expected(100, 10));
        assert!(repeats <= arrived, "{repeats} came again of {arrived}");
        drop(process);
    });
}

#[test]
fn a_store_that_fails_at_a_delivery_checkpoint_is_reopened_and_nothing_is_lost_or_swapped() {
    run_async(async {
        let mut test_env = test_env(&[]);
        let disk_failure = DiskFailure::install(&mut test_env);
        let node = test_env.start().await;
        let receiver = TestReceiver::start(|arrival| {
            ReceiverReply::Status(if arrival.before < 2 { 500 } else { 200 })
        })
        .await;
        subscribe(&node, &receiver.url("/"), json!({})).await;
        publish(&node, 30, 5).await;
        receiver.wait_for_requests(50).await;
        disk_failure.fail(FailurePlace::Sync, 2);
        disk_failure.until_played(2).await;
        // The failure is noticed a little later than it happens.
        until_readyz_is(&node, 503).await;
        until_readyz_is(&node, 200).await;
        publish(&node, 30, 1).await;
        receiver.wait_for_accepted(180).await;
        receiver.log().check_complete(&expected(30, 6));
        node.stop().await;
    });
}
