//! Traces: that of a sender goes on to its subscribers.

use reqwest::Method;
use serde_json::json;

use crate::deliveries::{subscribe, test_env};
use crate::receiver::{ReceiverReply, TestReceiver};
use crate::test_node::{TestClient, expect_soon, run_async};

const SENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Sends a message of SUP-1 with the header lines `traces`, and returns its event id.
pub async fn send_traced(node: &TestClient, key: &str, traces: &[&str]) -> String {
    let data = json!({"message_id": key, "text": key});
    let body = json!({"event": "message.created", "support_uid": "SUP-1", "data": data});
    let mut request = node.signed_request(&body.to_string(), key);
    for trace in traces {
        request = request.header("traceparent", *trace);
    }
    let answer = node.send_request(request).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.event_id()
}

/// A subscriber could not tell which of the sender's requests had led to a delivery.
#[test]
fn the_trace_of_a_request_is_kept_shown_and_passed_on_and_a_bad_one_is_ignored() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let receiver = TestReceiver::start(|_| ReceiverReply::Status(500)).await;
        subscribe(&node, receiver.url("/"), json!({})).await;

        let traced = send_traced(&node, "traced", &[SENT]).await;
        receiver.wait_for_requests(2).await;
        receiver.set_script(|_| ReceiverReply::Status(200));
        for (key, traces) in [
            ("without", &[][..]),
            ("twice", &[SENT, SENT]),
            (
                "capitals",
                &["00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01"],
            ),
            (
                "zeros",
                &["00-00000000000000000000000000000000-b7ad6b7169203331-01"],
            ),
        ] {
            let id = send_traced(&node, key, traces).await;
            let shown = node.get(&format!("/api/v1/events/{id}")).await.body;
            assert!(shown.get("traceparent").is_none(), "{key}: {shown}");
        }
        receiver.wait_for_accepted(5).await;

        let shown = node.get(&format!("/api/v1/events/{traced}")).await.body;
        assert_eq!(shown["traceparent"], SENT);
        let replay = json!({"since": "2000-01-01T00:00:00Z"});
        let request = node
            .client
            .request(
                Method::POST,
                format!("{}/api/v1/webhooks/1/replay", node.base),
            )
            .bearer_auth(crate::test_node::TOKEN)
            .header("content-type", "application/json")
            .body(replay.to_string());
        let answer = node.send_request(request).await;
        assert!((200..300).contains(&answer.status), "{answer:?}");
        expect_soon(receiver.wait_for_accepted(10)).await;

        let (mut spans, mut replayed) = (Vec::new(), false);
        for arrival in receiver.arrivals() {
            let trace = arrival.header("traceparent");
            if arrival.id() != traced {
                assert_eq!(trace, None, "{}", arrival.id());
                continue;
            }
            let trace = trace.expect("a trace");
            assert!(
                trace.starts_with(&SENT[..36]) && trace.ends_with("-01"),
                "{trace}"
            );
            spans.push(trace[36..52].to_owned());
            replayed |= arrival.header("x-hookyard-replay").is_some();
        }
        assert!(spans.len() >= 4 && replayed, "{spans:?}");
        spans.push(SENT[36..52].to_owned());
        let count = spans.len();
        spans.sort();
        spans.dedup();
        assert_eq!(spans.len(), count, "each attempt has a span of its own");
        node.stop().await;
    });
}
