//! A pre-lead becomes a lead and a lead a customer: once, and atomically with the new entity.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    convert_lead, data, new_lead, new_pre_lead, refusal, request, send, send_any, state, test_env,
    timeline, won_lead,
};
use crate::test_node::{TestAnswer, TestClient, expect_soon, run_async, run_together};

async fn convert_pre_lead(client: &TestClient, id: u64) -> TestAnswer {
    send(
        client,
        &format!("pre-lead/{id}/convert"),
        "pre_lead_convert",
        json!({"priority": "high"}),
    )
    .await
}

#[test]
fn the_lead_has_what_the_pre_lead_had_and_begins_its_own_timeline() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let id = new_pre_lead(&node).await;
        let at = |path: &str| format!("pre-lead/{id}/{path}");
        let contact = json!({"first_name": "Jane", "is_primary": true});
        data(&send(&node, &at("contact/add"), "pre_lead_contact_add", contact).await);
        data(
            &send(
                &node,
                &at("memo/add"),
                "pre_lead_memo_add",
                json!({"content": "called", "memo_type": "call"}),
            )
            .await,
        );
        data(
            &send(
                &node,
                &at("status/update"),
                "pre_lead_status_update",
                json!({"lead_status": "qualified"}),
            )
            .await,
        );
        let body = r#"{"event": "pre_lead_convert", "source": "crm",
            "data": {"priority": "high", "assigned_to": 5, "expected_value": 50000.00, "notes": "soon"}}"#;
        let answer = node
            .send_request(request(&node, &at("convert"), body))
            .await;
        let lead_id = data(&answer)["lead_id"].as_u64().expect("a number");
        let (was, is) = (
            state(&node, "pre_lead", id).await,
            state(&node, "lead", lead_id).await,
        );
        assert_eq!(
            (&was["lead_status"], &was["lead_id"]),
            (&json!("converted"), &json!(lead_id))
        );
        for member in ["contacts", "memos", "first_name", "phone"] {
            assert_eq!(is[member], was[member], "{member}");
        }
        let terms = [
            "priority",
            "assigned_to",
            "expected_value",
            "notes",
            "lead_status",
            "pre_lead_id",
        ];
        let expected = [
            json!("high"),
            json!(5),
            json!("50000.00"),
            json!("soon"),
            json!("qualified"),
            json!(id),
        ];
        assert_eq!(terms.map(|member| is[member].clone()), expected);
        let first = &timeline(&node, "lead", lead_id).await[0];
        assert_eq!(
            (&first["type"], &first["sequence"]),
            (&json!("lead.created"), &json!(1))
        );
        assert_eq!(
            (&first["data"]["lead_id"], &first["data"]["first_name"]),
            (&json!(lead_id), &json!("John"))
        );
        // The new lead accepts events like any other.
        let answer = send(
            &node,
            &format!("lead/{lead_id}/memo/add"),
            "lead_memo_add",
            json!({"content": "x"}),
        )
        .await;
        assert_eq!(answer.header("x-entity-sequence"), Some("2"));
        node.stop().await;
    });
}

#[test]
fn a_second_conversion_names_the_first_and_nothing_else_is_taken() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let id = new_pre_lead(&node).await;
        let lead_id = data(&convert_pre_lead(&node, id).await)["lead_id"].clone();
        let again = convert_pre_lead(&node, id).await;
        assert_eq!(
            refusal(&again),
            (409, "already_converted", "Pre-lead is already converted")
        );
        assert_eq!(again.body["lead_id"], lead_id);
        let memo = send(
            &node,
            &format!("pre-lead/{id}/memo/add"),
            "pre_lead_memo_add",
            json!({"content": "x"}),
        )
        .await;
        assert_eq!(refusal(&memo).1, "closed");
        assert!(memo.header("x-event-id").is_none(), "nothing was recorded");
        let discarded = new_pre_lead(&node).await;
        data(
            &send(
                &node,
                &format!("pre-lead/{discarded}/discard"),
                "pre_lead_discard",
                json!({"reason": "no"}),
            )
            .await,
        );
        assert_eq!(
            refusal(&convert_pre_lead(&node, discarded).await).1,
            "closed"
        );
        let state = state(&node, "pre_lead", discarded).await;
        assert_eq!(
            (&state["lead_status"], &state["reason"]),
            (&json!("discarded"), &json!("no"))
        );
        assert_eq!(
            timeline(&node, "pre_lead", id).await.len(),
            2,
            "refusals leave no gap and no trace"
        );
        node.stop().await;
    });
}

#[test]
fn only_a_won_lead_becomes_a_customer_and_a_code_belongs_to_one() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let id = new_lead(&node).await;
        assert_eq!(
            refusal(&convert_lead(&node, id, Some("C-1")).await),
            (409, "not_won", "Only a won lead can be converted")
        );
        let won = won_lead(&node).await;
        let first = convert_lead(&node, won, Some("C-1")).await;
        let customer_id = data(&first)["customer_id"].clone();
        assert_eq!(
            data(&first),
            &json!({"lead_id": won, "customer_id": customer_id, "customer_code": "C-1"})
        );
        let again = convert_lead(&node, won, Some("C-1")).await;
        assert_eq!(
            (refusal(&again).1, &again.body["customer_id"]),
            ("already_converted", &customer_id)
        );
        let other = won_lead(&node).await;
        assert_eq!(
            refusal(&convert_lead(&node, other, Some("C-1")).await).1,
            "customer_code_taken"
        );
        let made = convert_lead(&node, other, None).await;
        let code = data(&made)["customer_code"]
            .as_str()
            .expect("text")
            .to_owned();
        assert!(code.starts_with("CUST-") && code.len() > 12, "{code}");
        let order = json!({"customer_code": code, "order_id": 1, "amount": 5, "currency": "EUR"});
        assert_eq!(
            data(&send_any(&node, "order_created", order).await)["customer_id"],
            data(&made)["customer_id"]
        );
        data(
            &send(
                &node,
                &format!("lead/{won}/memo/add"),
                "lead_memo_add",
                json!({"content": "it goes on"}),
            )
            .await,
        );
        node.stop().await;
    });
}

#[test]
fn a_customer_code_and_its_entities_survive_a_restart() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let (won, other) = (won_lead(&node).await, won_lead(&node).await);
        let customer_id = data(&convert_lead(&node, won, Some("C-1")).await)["customer_id"].clone();
        node.stop().await;
        let node = test_env.start().await;
        assert_eq!(
            convert_lead(&node, won, None).await.body["customer_id"],
            customer_id
        );
        assert_eq!(
            refusal(&convert_lead(&node, other, Some("C-1")).await).1,
            "customer_code_taken"
        );
        let order = json!({"customer_code": "C-1", "order_id": 1, "amount": 5, "currency": "EUR"});
        assert_eq!(
            data(&send_any(&node, "order_created", order).await)["customer_id"],
            customer_id
        );
        node.stop().await;
    });
}

#[test]
fn a_discarded_lead_is_lost_with_its_reasons() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let id = new_lead(&node).await;
        let reasons = json!({"reason": "competitor", "loss_reason": "price"});
        data(
            &send(
                &node,
                &format!("lead/{id}/discard"),
                "lead_discard",
                reasons,
            )
            .await,
        );
        let state = state(&node, "lead", id).await;
        let found = ["lead_status", "reason", "loss_reason"].map(|member| state[member].clone());
        assert_eq!(found, ["lost", "competitor", "price"]);
        assert_eq!(state["status_history"][0]["status"], "lost");
        for (path, event, data) in [
            ("update", "lead_update", json!({})),
            ("discard", "lead_discard", json!({})),
            ("convert", "lead_convert", json!({})),
            (
                "status/update",
                "lead_status_update",
                json!({"lead_status": "won"}),
            ),
        ] {
            let answer = send(&node, &format!("lead/{id}/{path}"), event, data).await;
            assert_eq!(
                refusal(&answer),
                (
                    409,
                    "closed",
                    "Lead is discarded and takes no further change"
                ),
                "{path}"
            );
        }
        node.stop().await;
    });
}

#[test]
fn the_log_of_calls_names_both_events_of_a_conversion() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let id = new_pre_lead(&node).await;
        let converted = convert_pre_lead(&node, id).await;
        let log = node.get("/api/v1/webhooks/logs").await.body;
        let events = log["items"][0]["event_ids"]
            .as_array()
            .expect("a list")
            .clone();
        assert_eq!(events[0].as_str(), converted.header("x-event-id"));
        let mut types = Vec::new();
        for event in &events {
            types.push(
                node.get(&format!("/api/v1/events/{}", event.as_str().expect("text")))
                    .await
                    .body["type"]
                    .clone(),
            );
        }
        assert_eq!(types, ["pre_lead.converted", "lead.created"]);
        assert_eq!(log["items"][0]["source"], "leads");
        node.stop().await;
    });
}

/// Creates and converts pre-leads until the process is gone; returns the answered ids by kind.
async fn create_and_convert(client: TestClient) -> Vec<(&'static str, u64)> {
    let mut seen = Vec::new();
    loop {
        let body = super::body("new_inquiry", &json!({"first_name": "John", "phone": "1"}));
        let Ok(response) = request(&client, "pre-lead/create", &body).send().await else {
            return seen;
        };
        let Ok(answer) = response.text().await else {
            return seen;
        };
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let id = answer["data"]["pre_lead_id"].as_u64().expect("a number");
        seen.push(("pre_lead", id));
        let body = super::body("pre_lead_convert", &json!({}));
        let Ok(response) = request(&client, &format!("pre-lead/{id}/convert"), &body)
            .send()
            .await
        else {
            return seen;
        };
        let Ok(answer) = response.text().await else {
            return seen;
        };
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        seen.push((
            "lead",
            answer["data"]["lead_id"].as_u64().expect("a number"),
        ));
    }
}

/// Returns all ids of a kind that the node lists.
async fn listed(client: &TestClient, kind: &str) -> BTreeSet<u64> {
    let mut ids = BTreeSet::new();
    for page in 1.. {
        let answer = client
            .get(&format!(
                "/api/v1/entities/{kind}?page={page}&page_size=100"
            ))
            .await;
        let items = answer.body["items"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer:?}"));
        ids.extend(items.iter().map(|item| {
            item["id"]
                .as_str()
                .expect("text")
                .parse::<u64>()
                .expect("a number")
        }));
        if page >= answer.body["pages"].as_u64().expect("a number") {
            break;
        }
    }
    ids
}

#[test]
fn killed_at_any_moment_no_pre_lead_is_converted_without_its_lead_and_no_id_comes_again() {
    run_async(async {
        let test_env = test_env(&[]);
        let mut seen: BTreeSet<(&str, u64)> = BTreeSet::new();
        for enough in [3, 17, 60] {
            let mut process = test_env.start_process().await;
            let senders = run_together(
                (0..4)
                    .map(|_| create_and_convert(process.api.clone()))
                    .collect::<Vec<_>>(),
            );
            let senders = actix_rt::spawn(senders);
            // Number of conversions before the kill.
            let before = seen.iter().filter(|(kind, _)| *kind == "lead").count();
            expect_soon(async {
                while listed(&process.api, "lead").await.len() < before + enough {}
            })
            .await;
            process.kill();
            let ids: Vec<_> = senders
                .await
                .expect("no panic")
                .into_iter()
                .flatten()
                .collect();
            let (all, numbers) = (
                ids.len(),
                ids.iter().map(|(_, id)| *id).collect::<BTreeSet<_>>(),
            );
            assert_eq!(numbers.len(), all, "an id was given twice in one life");
            assert!(
                seen.iter().all(|(_, id)| !numbers.contains(id)),
                "an id was given again after a kill"
            );
            seen.extend(ids);
            let node = test_env.start().await;
            let (pre_leads, leads) = (listed(&node, "pre_lead").await, listed(&node, "lead").await);
            for (kind, id) in &seen {
                assert!(
                    if *kind == "lead" { &leads } else { &pre_leads }.contains(id),
                    "{kind} {id} was answered"
                );
            }
            let mut made = BTreeSet::new();
            for id in &pre_leads {
                let state = state(&node, "pre_lead", *id).await;
                assert_eq!(
                    state["lead_id"].is_null(),
                    state["lead_status"] != "converted"
                );
                made.extend(state["lead_id"].as_u64());
            }
            assert_eq!(
                made, leads,
                "each lead has its pre-lead and each converted pre-lead its lead"
            );
            seen.extend(
                leads
                    .iter()
                    .map(|id| ("lead", *id))
                    .chain(pre_leads.iter().map(|id| ("pre_lead", *id))),
            );
            node.stop().await;
        }
    });
}

/// Regression: the record of the new lead was larger than any reader accepts, and the store could
/// not be opened again.
#[test]
fn a_conversion_too_large_to_be_recorded_is_refused_and_leaves_everything_as_it_was() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let id = new_pre_lead(&node).await;
        // Each character takes six in JSON.
        let memo = json!({"content": "\u{1}".repeat(65_000), "memo_type": "call"});
        for _ in 0..180 {
            data(
                &send(
                    &node,
                    &format!("pre-lead/{id}/memo/add"),
                    "pre_lead_memo_add",
                    memo.clone(),
                )
                .await,
            );
        }
        let refused = convert_pre_lead(&node, id).await;
        assert_eq!(
            (refused.status, &refused.body["code"]),
            (409, &json!("too_large")),
            "{refused:?}"
        );
        node.stop().await;
        let node = test_env.start().await;
        assert_eq!(
            node.get(&format!("/api/v1/entities/pre_lead/{id}"))
                .await
                .body["sequence"],
            181
        );
        assert_eq!(node.get("/api/v1/entities/lead").await.body["total"], 0);
        data(
            &send(
                &node,
                &format!("pre-lead/{id}/discard"),
                "pre_lead_discard",
                json!({}),
            )
            .await,
        );
        node.stop().await;
    });
}

/// Regression: an answered but unsynced event was not found.
#[test]
fn with_interval_sync_an_answered_event_is_visible_to_the_next_request() {
    run_async(async {
        let test_env = test_env(&[("store.sync", "interval")]);
        let node = test_env.start().await;
        let id = new_pre_lead(&node).await;
        let lead = data(&convert_pre_lead(&node, id).await)["lead_id"].clone();
        data(
            &send(
                &node,
                &format!("lead/{lead}/memo/add"),
                "lead_memo_add",
                json!({"content": "x"}),
            )
            .await,
        );
        let won = won_lead(&node).await;
        data(&convert_lead(&node, won, Some("C")).await);
        let order = json!({"customer_code": "C", "order_id": 1, "amount": 5, "currency": "EUR"});
        data(&send_any(&node, "order_created", order).await);
        let create = super::body("new_inquiry", &json!({"first_name": "John", "phone": "1"}));
        let keyed = || {
            node.send_request(
                request(&node, "pre-lead/create", &create).header("idempotency-key", "k"),
            )
        };
        let (first, again) = (keyed().await, keyed().await);
        assert_eq!(data(&first), data(&again));
        assert_eq!(again.header("idempotent-replay"), Some("true"));
        node.stop().await;
    });
}
