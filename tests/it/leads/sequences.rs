//! Random requests in random order: each entity's events are numbered without a gap, and refused
//! requests change nothing.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::{new_lead, new_pre_lead, send, send_any, state, test_env, timeline};
use crate::test_node::{TestAnswer, TestClient, run_async};

/// Request to one of the existing entities.
#[derive(Clone, Debug)]
struct RandomRequest {
    template: usize,
    entity: usize,
    is_valid: bool,
}

/// Paths under an entity's path, each with an event, valid data, and invalid data.
fn templates() -> Vec<(&'static str, &'static str, &'static str, Value, Value)> {
    let (email, status) = (
        json!({"email": "nobody"}),
        json!({"lead_status": "converted"}),
    );
    let (empty, won) = (json!({}), json!({"lead_status": "won"}));
    let (contact, memo) = (
        json!({"first_name": "A", "is_primary": true}),
        json!({"content": "m"}),
    );
    let activity = json!({"activity_type": "call", "title": "t"});
    vec![
        (
            "pre-lead",
            "update",
            "pre_lead_update",
            json!({"city": "Lyon"}),
            email.clone(),
        ),
        (
            "pre-lead",
            "contact/add",
            "pre_lead_contact_add",
            contact.clone(),
            empty.clone(),
        ),
        (
            "pre-lead",
            "memo/add",
            "pre_lead_memo_add",
            memo.clone(),
            empty.clone(),
        ),
        (
            "pre-lead",
            "status/update",
            "pre_lead_status_update",
            won.clone(),
            status.clone(),
        ),
        (
            "pre-lead",
            "discard",
            "pre_lead_discard",
            empty.clone(),
            json!({"reason": 5}),
        ),
        (
            "pre-lead",
            "convert",
            "pre_lead_convert",
            empty.clone(),
            json!({"priority": "no"}),
        ),
        (
            "lead",
            "update",
            "lead_update",
            json!({"lead_status": "lost"}),
            email,
        ),
        (
            "lead",
            "contact/add",
            "lead_contact_add",
            contact,
            empty.clone(),
        ),
        ("lead", "memo/add", "lead_memo_add", memo, empty.clone()),
        (
            "lead",
            "activity/add",
            "lead_activity_add",
            activity,
            empty.clone(),
        ),
        ("lead", "status/update", "lead_status_update", won, status),
        (
            "lead",
            "qualified-profile/update",
            "lead_qualified_profile_update",
            empty.clone(),
            json!({"budget": "x"}),
        ),
        (
            "lead",
            "discard",
            "lead_discard",
            empty.clone(),
            json!({"reason": 5}),
        ),
        (
            "lead",
            "convert",
            "lead_convert",
            empty,
            json!({"credit_limit": -1}),
        ),
    ]
}

fn any_sent() -> impl Strategy<Value = Vec<RandomRequest>> {
    let sent = (0..14_usize, 0..6_usize, prop::bool::weighted(0.8)).prop_map(
        |(template, entity, is_valid)| RandomRequest {
            template,
            entity,
            is_valid,
        },
    );
    prop::collection::vec(sent, 1..40)
}

async fn send_one(
    client: &TestClient,
    sent: &RandomRequest,
    pre_leads: &[u64],
    leads: &[u64],
) -> TestAnswer {
    let templates = templates();
    let (kind, path, event, valid, wrong) = &templates[sent.template];
    let ids = if *kind == "lead" { leads } else { pre_leads };
    // An index beyond the last one is an entity that does not exist.
    let id = ids
        .get(sent.entity % (ids.len() + 1))
        .copied()
        .unwrap_or(u64::MAX);
    let data = if sent.is_valid { valid } else { wrong };
    send(client, &format!("{kind}/{id}/{path}"), event, data.clone()).await
}

/// Sends all requests and returns the number of accepted events.
async fn play(client: &TestClient, all: &[RandomRequest]) -> (u64, [Vec<u64>; 3]) {
    let (mut pre_leads, mut leads, mut customers) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..2 {
        pre_leads.push(new_pre_lead(client).await);
        leads.push(new_lead(client).await);
    }
    let mut taken = 4;
    for sent in all {
        let answer = send_one(client, sent, &pre_leads, &leads).await;
        assert!([200, 400, 404, 409].contains(&answer.status), "{answer:?}");
        assert!(sent.is_valid || answer.status != 200, "{answer:?}");
        if answer.status != 200 {
            continue;
        }
        taken += 1;
        let data = &answer.body["data"];
        if templates()[sent.template].2 == "pre_lead_convert" {
            leads.push(data["lead_id"].as_u64().expect("a number"));
            taken += 1;
        }
        if let Some(id) = data["customer_id"].as_u64() {
            customers.push(id);
            taken += 1;
            let order = json!({"customer_id": id, "order_id": "o", "amount": 1, "currency": "EUR"});
            for _ in 0..2 {
                assert_eq!(
                    send_any(client, "order_created", order.clone())
                        .await
                        .status,
                    200
                );
            }
            taken += 1;
        }
    }
    (taken, [pre_leads, leads, customers])
}

#[test]
fn no_sequence_of_requests_makes_a_gap() {
    let config = Config {
        cases: 8,
        failure_persistence: None,
        ..Config::default()
    };
    let checked = TestRunner::new(config).run(&any_sent(), |all| {
        run_async(async {
            let test_env = test_env(&[]);
            let node = test_env.start().await;
            let (taken, entities) = play(&node, &all).await;
            let mut states = Vec::new();
            let mut found = 0;
            for (kind, ids) in ["pre_lead", "lead", "customer"].into_iter().zip(&entities) {
                for id in ids {
                    let numbers: Vec<_> = timeline(&node, kind, *id)
                        .await
                        .iter()
                        .map(|item| item["sequence"].as_u64())
                        .collect();
                    assert_eq!(
                        numbers,
                        (1..=numbers.len() as u64).map(Some).collect::<Vec<_>>(),
                        "{kind} {id}"
                    );
                    found += numbers.len() as u64;
                    states.push((kind, *id, state(&node, kind, *id).await));
                }
            }
            assert_eq!(
                (
                    found,
                    node.get("/api/v1/events").await.body["total"].as_u64()
                ),
                (taken, Some(taken))
            );
            node.stop().await;
            let node = test_env.start().await;
            for (kind, id, before) in states {
                assert_eq!(
                    state(&node, kind, id).await,
                    before,
                    "{kind} {id} after a restart"
                );
            }
            node.stop().await;
        });
        Ok(())
    });
    checked.expect("no gap");
}
