//! The rate limit of each address, and the remaining requests in every answer.

use std::time::Duration;

use hookyard::config::Secret;
use hookyard::edge::leads::signature::sign_lead_body;
use serde_json::json;

use super::{body, refusal, request, send, test_env};
use crate::test_node::run_async;

#[test]
fn each_address_has_its_own_limit_and_every_answer_states_the_remainder() {
    run_async(async {
        let mut test_env = test_env(&[
            ("sources.leads.rate_per_minute", "3"),
            ("server.trusted_proxies", "127.0.0.1"),
        ]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        let text = body("new_lead", &json!({"phone": "1"}));
        let from = |address: &str| {
            node.send_request(
                request(&node, "lead/create", &text).header("x-forwarded-for", address.to_owned()),
            )
        };
        for left in ["2", "1", "0"] {
            let answer = from("192.0.2.1").await;
            assert_eq!(answer.status, 400, "refused requests count too");
            assert_eq!(
                (
                    answer.header("ratelimit-limit"),
                    answer.header("ratelimit-remaining")
                ),
                (Some("3"), Some(left))
            );
        }
        let refused = from("192.0.2.1").await;
        assert_eq!(
            (refusal(&refused).0, refusal(&refused).1),
            (429, "rate_limited")
        );
        assert_eq!(
            (
                refused.header("retry-after"),
                refused.header("ratelimit-remaining")
            ),
            (Some("60"), Some("0"))
        );
        assert_eq!(from("192.0.2.2").await.status, 400, "another address");
        clock.advance(Duration::from_secs(60));
        assert_eq!(from("192.0.2.1").await.status, 400);
        node.stop().await;
    });
}

/// Regression: anyone who called from a sender's address used up its requests without a secret.
#[test]
fn forgers_use_nothing_of_a_signed_senders_share() {
    run_async(async {
        let test_env = test_env(&[
            ("sources.leads.rate_per_minute", "2"),
            ("sources.leads.secrets", "hush-hush-hush"),
        ]);
        let node = test_env.start().await;
        let text = body("new_lead", &json!({"first_name": "x", "phone": "1"}));
        let signed_as = |signature: String| {
            node.send_request(
                request(&node, "lead/create", &text).header("x-webhook-signature", signature),
            )
        };
        for _ in 0..3 {
            for forged in [
                node.send_request(request(&node, "lead/create", &text))
                    .await,
                signed_as("00".repeat(32)).await,
            ] {
                assert_eq!(
                    (forged.status, forged.header("ratelimit-limit")),
                    (401, None)
                );
            }
        }
        let signature = sign_lead_body(&Secret::new("hush-hush-hush"), text.as_bytes());
        for left in ["1", "0"] {
            let answer = signed_as(signature.clone()).await;
            assert_eq!(
                (answer.status, answer.header("ratelimit-remaining")),
                (200, Some(left))
            );
        }
        let refused = signed_as(signature).await;
        assert_eq!(
            (refused.status, refused.header("ratelimit-remaining")),
            (429, Some("0"))
        );
        node.stop().await;
    });
}

#[test]
fn without_a_limit_no_answer_mentions_one() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let answer = send(
            &node,
            "lead/create",
            "new_lead",
            json!({"first_name": "x", "phone": "1"}),
        )
        .await;
        assert_eq!(
            (answer.status, answer.header("ratelimit-limit")),
            (200, None)
        );
        node.stop().await;
    });
}
