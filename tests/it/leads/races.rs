//! Concurrent requests: one of them is first, and the others get its result or a conflict.

use std::collections::BTreeSet;

use serde_json::json;

use super::{
    body, convert_lead, data, new_customer, new_pre_lead, refusal, request, state, test_env,
    timeline, won_lead,
};
use crate::test_node::{TestAnswer, TestClient, run_async, run_together};

fn later(
    client: &TestClient,
    path: String,
    body: String,
) -> impl Future<Output = TestAnswer> + 'static {
    let client = client.clone();
    async move { client.send_request(request(&client, &path, &body)).await }
}

#[test]
fn of_conversions_at_once_one_makes_the_lead_and_the_others_name_it() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        for _ in 0..5 {
            let id = new_pre_lead(&node).await;
            let convert = || {
                later(
                    &node,
                    format!("pre-lead/{id}/convert"),
                    body("pre_lead_convert", &json!({})),
                )
            };
            let answers = run_together((0..8).map(|_| convert())).await;
            let (made, refused): (Vec<_>, Vec<_>) =
                answers.iter().partition(|answer| answer.status == 200);
            assert_eq!(made.len(), 1, "{answers:#?}");
            let lead_id = &data(made[0])["lead_id"];
            for answer in refused {
                assert_eq!(
                    (refusal(answer).1, &answer.body["lead_id"]),
                    ("already_converted", lead_id)
                );
            }
            assert_eq!(timeline(&node, "pre_lead", id).await.len(), 2);
        }
        node.stop().await;
    });
}

#[test]
fn of_primary_contacts_at_once_one_is_primary_in_the_end() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let id = new_pre_lead(&node).await;
        let contact = |n: usize| json!({"first_name": n.to_string(), "is_primary": true});
        let add = |n| {
            later(
                &node,
                format!("pre-lead/{id}/contact/add"),
                body("pre_lead_contact_add", &contact(n)),
            )
        };
        let answers = run_together((0..12).map(add)).await;
        let ids: BTreeSet<_> = answers
            .iter()
            .map(|answer| data(answer)["contact_id"].as_u64())
            .collect();
        assert_eq!(ids.len(), 12, "an id twice");
        let contacts = state(&node, "pre_lead", id).await["contacts"].clone();
        let contacts = contacts.as_array().expect("a list");
        assert_eq!(
            (
                contacts.len(),
                contacts.iter().filter(|c| c["is_primary"] == true).count()
            ),
            (12, 1)
        );
        let sequences: Vec<_> = timeline(&node, "pre_lead", id)
            .await
            .iter()
            .map(|i| i["sequence"].as_u64())
            .collect();
        assert_eq!(sequences, (1..=13).map(Some).collect::<Vec<_>>(), "no gap");
        node.stop().await;
    });
}

#[test]
fn the_same_order_at_once_counts_once_and_everyone_is_answered_alike() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let id = new_customer(&node, "C-1").await;
        let order =
            json!({"customer_code": "C-1", "order_id": "o-1", "amount": 10.50, "currency": "EUR"});
        let answers = run_together(
            (0..12).map(|_| later(&node, String::new(), body("order_created", &order))),
        )
        .await;
        for answer in &answers {
            assert_eq!(
                data(answer),
                &json!({"customer_id": id, "customer_code": "C-1"})
            );
        }
        let recorded = answers
            .iter()
            .filter(|answer| answer.header("x-event-id").is_some())
            .count();
        assert_eq!(recorded, 1, "the others changed nothing");
        let state = state(&node, "customer", id).await;
        assert_eq!(
            (&state["order_count"], &state["order_total"]),
            (&json!(1), &json!({"EUR": "10.5"}))
        );
        node.stop().await;
    });
}

#[test]
fn of_leads_that_want_one_code_at_once_one_gets_it() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        for round in 0..5 {
            let code = format!("C-{round}");
            let mut leads = Vec::new();
            for _ in 0..6 {
                leads.push(won_lead(&node).await);
            }
            let convert = |id: &u64| {
                let convert = body("lead_convert", &json!({"customer_code": code}));
                later(&node, format!("lead/{id}/convert"), convert)
            };
            let answers = run_together(leads.iter().map(convert).collect::<Vec<_>>()).await;
            let (made, refused): (Vec<_>, Vec<_>) =
                answers.iter().partition(|answer| answer.status == 200);
            assert_eq!(made.len(), 1, "{answers:#?}");
            assert!(
                refused
                    .iter()
                    .all(|answer| refusal(answer).1 == "customer_code_taken"),
                "{refused:#?}"
            );
            // The loser of the race can convert another one.
            let loser = leads
                .iter()
                .find(|id| data(made[0])["lead_id"] != json!(id))
                .expect("five of them");
            assert_eq!(convert_lead(&node, *loser, None).await.status, 200);
        }
        node.stop().await;
    });
}
