//! Answers that drip, never end, or ask for a later retry: failures known from other webhook
//! senders.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;

use super::{expected, publish, subscribe, test_env};
use crate::receiver::{ReceiverReply, TestReceiver};
use crate::test_node::run_async;

/// In another product, the timeout ended with the head, so such an answer outlived it.
#[test]
fn an_answer_that_drips_is_ended_by_the_timeout_and_tried_again() {
    run_async(async {
        let node = test_env(&[("delivery.timeout_s", "0.3")]).start().await;
        let receiver = TestReceiver::start(|arrival| {
            if arrival.before == 0 {
                ReceiverReply::Drip(200)
            } else {
                ReceiverReply::Status(200)
            }
        })
        .await;
        let subscription = subscribe(&node, &receiver.url("/"), json!({})).await;
        publish(&node, 3, 2).await;
        receiver.wait_for_accepted(6).await;
        assert_eq!(
            (
                receiver.log().check_complete(&expected(3, 2)),
                receiver.arrivals().len()
            ),
            (0, 12)
        );
        let deliveries = node
            .get(&format!(
                "/api/v1/webhooks/{}/deliveries?page_size=100",
                subscription.id
            ))
            .await
            .body;
        let codes: Vec<_> = deliveries["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(|row| row["code"].clone())
            .collect();
        assert_eq!(
            codes.iter().filter(|code| **code == "timeout").count(),
            6,
            "{codes:?}"
        );
        node.stop().await;
    });
}

/// In another product, four answers of 400 MB took a gigabyte.
#[test]
fn an_answer_without_an_end_is_read_to_its_first_16_kib_and_counts_by_its_status() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let receiver = TestReceiver::start(|arrival| {
            ReceiverReply::Endless(if arrival.before == 0 { 500 } else { 200 })
        })
        .await;
        subscribe(&node, &receiver.url("/"), json!({})).await;
        publish(&node, 4, 2).await;
        receiver.wait_for_accepted(8).await;
        assert_eq!(
            (
                receiver.log().check_complete(&expected(4, 2)),
                receiver.arrivals().len()
            ),
            (0, 16)
        );
        node.stop().await;
    });
}

/// In another product, the limit was stored and never enforced.
#[test]
fn a_rate_limit_is_kept() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let times = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
        let noting = std::sync::Arc::clone(&times);
        let receiver = TestReceiver::start(move |_| {
            #[expect(clippy::disallowed_methods, reason = "a rate is about time")]
            noting.lock().push(Instant::now());
            ReceiverReply::Status(200)
        })
        .await;
        subscribe(&node, &receiver.url("/"), json!({"rate_limit": 40})).await;
        publish(&node, 30, 2).await;
        receiver.wait_for_accepted(60).await;
        let times = times.lock().clone();
        // The first deliveries may be concurrent; an attempt may take a little longer than the one
        // before.
        assert!(
            times[59] - times[0]
                >= Duration::from_secs_f64(56.0 / 40.0) - Duration::from_millis(50)
        );
        node.stop().await;
    });
}

/// In another product, `Retry-After` was not honoured: 6 s instead of 60.
/// The other lanes went on hammering a subscriber that had asked for a pause.
#[test]
fn retry_after_is_honoured_by_all_lanes() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let refused_at = Arc::new(Mutex::new(None));
        let (refused, shortest) = (Arc::clone(&refused_at), Arc::new(Mutex::new(None)));
        let pauses = Arc::clone(&shortest);
        let receiver = TestReceiver::start(move |_| {
            #[expect(clippy::disallowed_methods, reason = "a pause is about time")]
            let now = Instant::now();
            let Some(refused_at) = *refused.lock() else {
                *refused.lock() = Some(now);
                return ReceiverReply::retry_after(429, 1);
            };
            pauses.lock().get_or_insert(now - refused_at);
            ReceiverReply::Status(200)
        })
        .await;
        subscribe(&node, &receiver.url("/"), json!({"concurrency": 1})).await;
        publish(&node, 4, 3).await;
        // The schedule alone would allow fifty attempts within the second that was asked for.
        receiver.wait_for_accepted(12).await;
        assert!(*shortest.lock() >= Some(Duration::from_secs(1)));
        assert_eq!(receiver.arrivals().len(), 13);
        node.stop().await;
    });
}

#[test]
fn a_redirect_is_not_followed_and_not_an_acceptance() {
    run_async(async {
        let node = test_env(&[]).start().await;
        let elsewhere = TestReceiver::accept_all().await;
        let url = elsewhere.url("/");
        let receiver = TestReceiver::start(move |arrival| match arrival.before {
            0 => ReceiverReply::redirect(&url),
            1 => ReceiverReply::BreakOff(200),
            _ => ReceiverReply::Status(204),
        })
        .await;
        subscribe(&node, &receiver.url("/"), json!({})).await;
        publish(&node, 1, 2).await;
        receiver.wait_for_accepted(2).await;
        assert_eq!(
            (receiver.arrivals().len(), elsewhere.arrivals().len()),
            (6, 0)
        );
        node.stop().await;
    });
}
