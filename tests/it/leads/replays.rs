//! A repeated request with an idempotency key gets the first answer again, even after later events.

use serde_json::json;

use super::{
    body, data, new_lead, new_pre_lead, refusal, request, send, state, test_env, timeline, won_lead,
};
use crate::test_node::{TestAnswer, TestClient, run_async, run_together};

async fn keyed(client: &TestClient, key: &str, path: &str, body: &str) -> TestAnswer {
    client
        .send_request(request(client, path, body).header("idempotency-key", key))
        .await
}

/// Asserts that `again` equals `first` and is marked as a replay.
fn assert_replay(first: &TestAnswer, again: &TestAnswer) {
    assert_eq!((again.status, &again.body), (200, &first.body));
    assert_eq!(again.header("idempotent-replay"), Some("true"));
    assert_eq!(first.header("idempotent-replay"), None);
    for name in ["x-event-id", "x-entity-sequence"] {
        assert_eq!(again.header(name), first.header(name), "{name}");
    }
}

#[test]
fn a_repeat_is_answered_like_the_first_also_after_a_restart() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let create = body("new_lead", &json!({"first_name": "Robert", "phone": "1"}));
        let created = keyed(&node, "k-1", "lead/create", &create).await;
        assert_replay(&created, &keyed(&node, "k-1", "lead/create", &create).await);
        let id = data(&created)["lead_id"].as_u64().expect("a number");
        let path = format!("lead/{id}/status/update");
        let status = body("lead_status_update", &json!({"lead_status": "won"}));
        let changed = keyed(&node, "k-2", &path, &status).await;
        data(
            &send(
                &node,
                &path,
                "lead_status_update",
                json!({"lead_status": "lost"}),
            )
            .await,
        );
        assert_replay(&changed, &keyed(&node, "k-2", &path, &status).await);
        assert_replay(
            &changed,
            &keyed(&node, "k-2", &format!("{path}/"), &status).await,
        );
        data(
            &send(
                &node,
                &format!("lead/{id}/discard"),
                "lead_discard",
                json!({}),
            )
            .await,
        );
        node.stop().await;
        let node = test_env.start().await;
        assert_replay(&created, &keyed(&node, "k-1", "lead/create", &create).await);
        assert_replay(&changed, &keyed(&node, "k-2", &path, &status).await);
        assert_eq!(state(&node, "lead", id).await["lead_status"], "lost");
        assert_eq!(timeline(&node, "lead", id).await.len(), 4);
        assert_eq!(
            node.get("/api/v1/entities/lead").await.body["total"],
            1,
            "no second lead"
        );
        node.stop().await;
    });
}

#[test]
fn another_path_or_body_under_the_same_key_is_refused() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let (one, other) = (new_lead(&node).await, new_lead(&node).await);
        let memo = body("lead_memo_add", &json!({"content": "a"}));
        data(&keyed(&node, "k", &format!("lead/{one}/memo/add"), &memo).await);
        let changed = body("lead_memo_add", &json!({"content": "b"}));
        for (path, body) in [
            (format!("lead/{other}/memo/add"), &memo),
            (format!("lead/{one}/memo/add"), &changed),
        ] {
            let answer = keyed(&node, "k", &path, body).await;
            let said = "the idempotency key was used before with another path or body";
            assert_eq!(refusal(&answer), (409, "idempotency_key_reused", said));
        }
        assert_eq!(state(&node, "lead", other).await["memos"], json!([]));
        node.stop().await;
    });
}

#[test]
fn repeats_at_once_make_one_lead() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let id = new_pre_lead(&node).await;
        let repeat = || {
            let client = node.api.clone();
            async move {
                keyed(
                    &client,
                    "k",
                    &format!("pre-lead/{id}/convert"),
                    &body("pre_lead_convert", &json!({})),
                )
                .await
            }
        };
        let answers = run_together((0..16).map(|_| repeat())).await;
        let first = answers
            .iter()
            .find(|answer| answer.header("idempotent-replay").is_none())
            .expect("a first one");
        assert!(
            answers
                .iter()
                .all(|answer| answer.status == 200 && answer.body == first.body),
            "{answers:#?}"
        );
        assert_eq!(
            answers
                .iter()
                .filter(|answer| answer.header("idempotent-replay").is_some())
                .count(),
            15
        );
        node.stop().await;
    });
}

#[test]
fn a_generated_code_is_replayed_and_a_refused_request_leaves_its_key_free() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let lead = new_lead(&node).await;
        let convert = body("lead_convert", &json!({}));
        let path = format!("lead/{lead}/convert");
        assert_eq!(
            refusal(&keyed(&node, "k", &path, &convert).await).1,
            "not_won"
        );
        data(
            &send(
                &node,
                &format!("lead/{lead}/status/update"),
                "lead_status_update",
                json!({"lead_status": "won"}),
            )
            .await,
        );
        let converted = keyed(&node, "k", &path, &convert).await;
        assert_replay(&converted, &keyed(&node, "k", &path, &convert).await);
        let other = won_lead(&node).await;
        assert_eq!(
            refusal(&keyed(&node, "k", &format!("lead/{other}/convert"), &convert).await).0,
            409
        );
        node.stop().await;
    });
}

#[test]
fn a_key_that_is_none_is_refused() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let create = body("new_lead", &json!({"first_name": "Robert", "phone": "1"}));
        for key in ["", &"k".repeat(257)] {
            let answer = keyed(&node, key, "lead/create", &create).await;
            assert_eq!(
                (answer.status, &answer.body["errors"][0]["field"]),
                (400, &json!("Idempotency-Key")),
                "{answer:?}"
            );
        }
        node.stop().await;
    });
}

/// Regression: requests that waited for the outcome of the first one were told that it was unknown.
#[test]
fn concurrent_repeats_of_a_refused_request_are_all_refused_alike() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let id = new_lead(&node).await;
        data(
            &send(
                &node,
                &format!("lead/{id}/discard"),
                "lead_discard",
                json!({}),
            )
            .await,
        );
        let repeat = || {
            let client = node.api.clone();
            let memo = body("lead_memo_add", &json!({"content": "a"}));
            async move { keyed(&client, "k", &format!("lead/{id}/memo/add"), &memo).await }
        };
        for _round in 0..5 {
            let answers = run_together((0..16).map(|_| repeat())).await;
            let codes: Vec<_> = answers
                .iter()
                .map(|answer| (answer.status, answer.body["code"].clone()))
                .collect();
            assert!(
                codes.iter().all(|code| *code == (409, json!("closed"))),
                "{codes:?}"
            );
        }
        node.stop().await;
    });
}
