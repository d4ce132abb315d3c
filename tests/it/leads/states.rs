//! Fields, collections and amounts of the states, as the admin API shows them.

use serde_json::{Value, json};

use super::{
    body, data, new_lead, new_pre_lead, request, send, send_at, state, test_env, timeline,
};
use crate::test_node::run_async;

#[test]
fn an_update_changes_the_given_members_and_leaves_the_rest() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let id = new_lead(&node).await;
        let path = format!("lead/{id}/update");
        let first =
            json!({"city": "Chicago", "notes": "a", "assigned_to": 3, "unheard_of": [1, 2]});
        data(&send(&node, &path, "lead_update", first).await);
        data(
            &send(
                &node,
                &path,
                "lead_update",
                json!({"notes": "b", "city": null, "phone": ""}),
            )
            .await,
        );
        let state = state(&node, "lead", id).await;
        let expected = [
            ("first_name", json!("Robert")),
            ("city", json!("Chicago")),
            ("notes", json!("b")),
            ("assigned_to", json!(3)),
            ("phone", json!("")),
            ("lead_status", json!("new")),
            ("country", Value::Null),
            ("activities", json!([])),
            ("qualified_profile", Value::Null),
        ];
        for (name, value) in expected {
            assert_eq!(state[name], value, "{name}");
        }
        assert!(state.get("unheard_of").is_none());
        let kept = &timeline(&node, "lead", id).await[1]["data"];
        assert_eq!(
            kept["unheard_of"],
            json!([1, 2]),
            "what is not known stays in the payload"
        );
        node.stop().await;
    });
}

#[test]
fn late_is_decided_for_each_field() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let id = new_lead(&node).await;
        let path = format!("lead/{id}/update");
        let (early, late) = ("2024-01-02T00:00:00Z", "2024-01-01T00:00:00+00:00");
        send_at(
            &node,
            &path,
            "lead_update",
            early,
            json!({"city": "Lyon", "lead_status": "won"}),
        )
        .await;
        let fields = json!({"city": "Paris", "country": "France", "lead_status": "contacted"});
        let answer = send_at(&node, &path, "lead_update", late, fields).await;
        assert_eq!(
            answer.header("x-entity-sequence"),
            Some("3"),
            "late, and recorded"
        );
        let state = state(&node, "lead", id).await;
        assert_eq!(
            (&state["city"], &state["country"]),
            (&json!("Lyon"), &json!("France"))
        );
        assert_eq!(state["lead_status"], "won");
        let history: Vec<_> = state["status_history"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|e| &e["status"])
            .collect();
        assert_eq!(history, ["contacted", "won"], "by the events' own times");
        let late: Vec<_> = timeline(&node, "lead", id)
            .await
            .iter()
            .map(|item| item["late"].clone())
            .collect();
        assert_eq!(late, [json!(false), json!(false), json!(true)]);
        node.stop().await;
    });
}

#[test]
fn a_status_has_its_own_date_in_the_history() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let id = new_lead(&node).await;
        let path = format!("lead/{id}/status/update");
        let status = json!({"lead_status": "negotiation", "remarks": "price", "status_date": "2024-01-25T10:00:00+01:00"});
        let answer = send(&node, &path, "lead_status_update", status).await;
        assert_eq!(
            data(&answer),
            &json!({"lead_id": id, "old_status": "new", "new_status": "negotiation"})
        );
        let entry = json!({"status": "negotiation", "remarks": "price", "at": "2024-01-25T09:00:00.000Z", "who": "crm"});
        assert_eq!(
            state(&node, "lead", id).await["status_history"],
            json!([entry])
        );
        node.stop().await;
    });
}

#[test]
fn money_keeps_every_digit_of_the_bytes_that_were_sent() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let id = new_lead(&node).await;
        for (sent, kept) in [
            ("100000.00", "100000.00"),
            ("0.10", "0.10"),
            (
                "123456789012345678.123456789012345678",
                "123456789012345678.123456789012345678",
            ),
            ("1.0E7", "10000000"),
            ("-0.0", "0.0"),
        ] {
            let body = format!(
                r#"{{"event": "lead_update", "source": "erp", "data": {{"expected_value": {sent}}}}}"#
            );
            let answer = node
                .send_request(request(&node, &format!("lead/{id}/update"), &body))
                .await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(state(&node, "lead", id).await["expected_value"], kept);
        }
        node.stop().await;
    });
}

#[test]
fn one_contact_is_primary_and_the_newest_items_are_kept() {
    run_async(async {
        let test_env = test_env(&[("entity.items_max", "3")]);
        let node = test_env.start().await;
        let id = new_pre_lead(&node).await;
        let path = format!("pre-lead/{id}/contact/add");
        let mut ids = Vec::new();
        for (name, is_primary) in [("Ada", true), ("Ben", false), ("Cat", true), ("Dan", false)] {
            let contact =
                json!({"first_name": name, "is_primary": is_primary, "designation": "CTO"});
            let answer = send(&node, &path, "pre_lead_contact_add", contact).await;
            ids.push(data(&answer)["contact_id"].as_u64().expect("a number"));
        }
        let contacts = state(&node, "pre_lead", id).await["contacts"].clone();
        let shown: Vec<_> = contacts
            .as_array()
            .expect("a list")
            .iter()
            .map(|c| (c["first_name"].clone(), c["is_primary"].clone()))
            .collect();
        let expected = [("Ben", false), ("Cat", true), ("Dan", false)]
            .map(|(name, primary)| (json!(name), json!(primary)));
        assert_eq!(shown, expected);
        assert_eq!(contacts[0]["contact_id"], json!(ids[1]));
        assert_eq!(
            timeline(&node, "pre_lead", id).await.len(),
            5,
            "older ones stay in the timeline"
        );
        node.stop().await;
    });
}

#[test]
fn the_qualified_profile_keeps_its_id_and_its_other_members() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let id = new_lead(&node).await;
        let path = format!("lead/{id}/qualified-profile/update");
        let name = "lead_qualified_profile_update";
        let profile = json!({"company": "XYZ", "budget": 150000.5, "email": "a@example.com"});
        let first = data(&send(&node, &path, name, profile).await)["profile_id"].clone();
        let second = send(&node, &path, name, json!({"company": "XYZ Inc."})).await;
        assert_eq!(data(&second)["profile_id"], first);
        let profile = state(&node, "lead", id).await["qualified_profile"].clone();
        let found =
            ["profile_id", "company", "budget", "mode"].map(|member| profile[member].clone());
        assert_eq!(
            found,
            [first, json!("XYZ Inc."), json!("150000.5"), Value::Null]
        );
        node.stop().await;
    });
}

#[test]
fn escapes_and_repeated_members_are_read_as_json_has_them() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let body = r#"{"event": "new_lead", "source": "crm", "data": {"first_name": "x"},
            "data": {"first_name": "A", "f\u0069rst_name": "J\u00f6rg \ud83d\ude00 \"q\"", "phone": "1", "city": "Zürich"}}"#;
        let answer = node.send_request(request(&node, "lead/create", body)).await;
        let id = data(&answer)["lead_id"].as_u64().expect("a number");
        let state = state(&node, "lead", id).await;
        assert_eq!(
            (&state["first_name"], &state["city"]),
            (&json!("Jörg 😀 \"q\""), &json!("Zürich"))
        );
        let event = node
            .get(&format!(
                "/api/v1/events/{}",
                answer.header("x-event-id").expect("set")
            ))
            .await;
        assert_eq!(event.body["type"], "lead.created");
        node.stop().await;
    });
}

#[test]
fn a_time_far_ahead_counts_as_the_time_of_receipt() {
    run_async(async {
        let mut test_env = test_env(&[]);
        let clock = test_env.with_manual_clock();
        let node = test_env.start().await;
        let id = new_lead(&node).await;
        let path = format!("lead/{id}/update");
        send_at(
            &node,
            &path,
            "lead_update",
            "2099-01-01T00:00:00Z",
            json!({"city": "Lyon"}),
        )
        .await;
        clock.advance(std::time::Duration::from_secs(1));
        data(
            &node
                .send_request(request(
                    &node,
                    &path,
                    &body("lead_update", &json!({"city": "Nice"})),
                ))
                .await,
        );
        assert_eq!(state(&node, "lead", id).await["city"], "Nice");
        node.stop().await;
    });
}
