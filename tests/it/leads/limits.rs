//! So many requests a minute from each address, and every answer says how many are left.

use std::time::Duration;

use serde_json::json;

use super::{body, ground, refusal, request, send};
use crate::yard::run;

#[test]
fn each_address_has_its_share_and_every_answer_says_what_is_left() {
    run(async {
        let mut ground = ground(&[
            ("sources.leads.rate_per_minute", "3"),
            ("sources.leads.secrets", "hush"),
            ("server.trusted_proxies", "127.0.0.1"),
        ]);
        let clock = ground.with_manual_clock();
        let yard = ground.start().await;
        let text = body("new_lead", &json!({"first_name": "x", "phone": "1"}));
        let from = |address: &str| {
            yard.answer(request(&yard, "lead/create", &text).header("x-forwarded-for", address.to_owned()))
        };
        for left in ["2", "1", "0"] {
            let answer = from("192.0.2.1").await;
            assert_eq!(answer.status, 401, "refused requests count too");
            assert_eq!(
                (answer.header("ratelimit-limit"), answer.header("ratelimit-remaining")),
                (Some("3"), Some(left))
            );
        }
        let refused = from("192.0.2.1").await;
        assert_eq!((refusal(&refused).0, refusal(&refused).1), (429, "rate_limited"));
        assert_eq!((refused.header("retry-after"), refused.header("ratelimit-remaining")), (Some("60"), Some("0")));
        assert_eq!(from("192.0.2.2").await.status, 401, "another address");
        clock.advance(Duration::from_secs(60));
        assert_eq!(from("192.0.2.1").await.status, 401);
        yard.stop().await;
    });
}

#[test]
fn without_a_limit_nothing_is_said_of_it() {
    run(async {
        let ground = ground(&[]);
        let yard = ground.start().await;
        let answer = send(&yard, "lead/create", "new_lead", json!({"first_name": "x", "phone": "1"})).await;
        assert_eq!((answer.status, answer.header("ratelimit-limit")), (200, None));
        yard.stop().await;
    });
}
