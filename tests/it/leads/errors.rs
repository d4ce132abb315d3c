//! Each refusal of the contract, to the letter, and that it changes nothing.

use hookyard::config::Secret;
use hookyard::edge::leads::{LEAD_EVENTS, signature::sign_lead_body};
use serde_json::{Value, json};

use super::{
    INCOMING, body, data, new_customer, new_lead, refusal, request, send, send_any, test_env,
    timeline,
};
use crate::test_node::run_async;

#[test]
fn a_missing_field_is_named_in_the_words_of_the_contract() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let id = new_lead(&node).await;
        let answer = send(
            &node,
            &format!("lead/{id}/status/update"),
            "lead_status_update",
            json!({}),
        )
        .await;
        let fault = json!({"field": "data.lead_status", "detail": "lead_status is required"});
        let expected = json!({"detail": "lead_status is required", "code": "validation_failed", "errors": [fault]});
        assert_eq!((answer.status, &answer.body), (400, &expected));
        assert_eq!(timeline(&node, "lead", id).await.len(), 1);
        node.stop().await;
    });
}

#[test]
fn unknown_ids_are_answered_404() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let lead = new_lead(&node).await;
        for id in [
            "9999",
            "0",
            "x",
            "-1",
            "1.0",
            "%31x",
            "99999999999999999999999",
        ] {
            let answer = send(
                &node,
                &format!("lead/{id}/memo/add"),
                "lead_memo_add",
                json!({"content": "x"}),
            )
            .await;
            assert_eq!(
                refusal(&answer),
                (404, "not_found", "Lead not found"),
                "{id}"
            );
        }
        // The id of a lead is not an id of a pre-lead.
        let answer = send(
            &node,
            &format!("pre-lead/{lead}/update"),
            "pre_lead_update",
            json!({}),
        )
        .await;
        assert_eq!(refusal(&answer), (404, "not_found", "Pre-lead not found"));
        let answer = send_any(&node, "lead_discard", json!({"lead_id": 9999})).await;
        assert_eq!(refusal(&answer), (404, "not_found", "Lead not found"));
        for who in [
            json!({"customer_id": 9999}),
            json!({"customer_code": "C-9"}),
            json!({"customer_id": lead}),
        ] {
            let mut order = json!({"order_id": 1, "amount": 5, "currency": "EUR"});
            order
                .as_object_mut()
                .expect("an object")
                .extend(who.as_object().expect("an object").clone());
            assert_eq!(
                refusal(&send_any(&node, "order_created", order).await),
                (404, "not_found", "Customer not found")
            );
        }
        let id = new_customer(&node, "C-1").await;
        new_customer(&node, "C-2").await;
        let torn = json!({"customer_id": id, "customer_code": "C-2", "order_id": 1, "amount": 5, "currency": "EUR"});
        assert_eq!(
            refusal(&send_any(&node, "order_created", torn).await).0,
            404,
            "an id and a code of two customers"
        );
        let nowhere = node
            .send_request(request(&node, "lead/1/delete", "{}"))
            .await;
        assert_eq!(
            refusal(&nowhere),
            (404, "not_found", "there is nothing at this path")
        );
        node.stop().await;
    });
}

#[test]
fn a_path_takes_its_own_event_only() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let answer = send(
            &node,
            "lead/create",
            "new_inquiry",
            json!({"first_name": "x", "phone": "1"}),
        )
        .await;
        assert_eq!(
            refusal(&answer),
            (400, "validation_failed", "event must be new_lead here")
        );
        let answer = send_any(&node, "lead_deleted", json!({})).await;
        let detail = refusal(&answer).2;
        assert_eq!(answer.body["errors"][0]["field"], "event");
        assert!(
            LEAD_EVENTS.iter().all(|event| detail.contains(event.name)),
            "{detail}"
        );
        assert_eq!(node.get("/api/v1/events").await.body["total"], 0);
        node.stop().await;
    });
}

#[test]
fn bodies_and_methods_that_cannot_be_taken() {
    run_async(async {
        let test_env = test_env(&[("server.body_limit_bytes", "2048")]);
        let node = test_env.start().await;
        for (text, code) in [
            ("{", "invalid_json"),
            ("[]", "invalid_json"),
            ("", "invalid_json"),
            ("{}", "validation_failed"),
        ] {
            let answer = node.send_request(request(&node, "lead/create", text)).await;
            assert_eq!(
                (answer.status, answer.body["code"].as_str()),
                (400, Some(code)),
                "{text:?}"
            );
        }
        let large = body(
            "new_lead",
            &json!({"first_name": "x".repeat(3_000), "phone": "1"}),
        );
        assert_eq!(
            refusal(&node.send_request(request(&node, "", &large)).await).1,
            "body_too_large"
        );
        let form = node
            .client
            .post(format!("{}{INCOMING}", node.base))
            .header("content-type", "text/plain")
            .body("a=b");
        assert_eq!(
            refusal(&node.send_request(form).await).1,
            "unsupported_media_type"
        );
        let read = node.get(&format!("{INCOMING}/lead/create")).await;
        assert_eq!(
            (refusal(&read).0, read.header("allow")),
            (405, Some("HEAD, POST"))
        );
        node.stop().await;
    });
}

#[test]
fn a_disabled_source_has_no_endpoints() {
    run_async(async {
        let test_env = test_env(&[("sources.leads.enabled", "false")]);
        let node = test_env.start().await;
        let answer = send(
            &node,
            "lead/create",
            "new_lead",
            json!({"first_name": "x", "phone": "1"}),
        )
        .await;
        assert_eq!(refusal(&answer).0, 404);
        node.stop().await;
    });
}

/// Without it, who captured a request could send its body again, also to another lead's path.
#[test]
fn a_signed_time_and_path_let_a_request_be_taken_once_on_its_path_only() {
    run_async(async {
        let test_env = test_env(&[
            ("sources.leads.secrets", "a-secret-long-enough-for-any-node"),
            ("sources.leads.signed", "time-path-body"),
        ]);
        let node = test_env.start().await;
        let secret = Secret::new("a-secret-long-enough-for-any-node");
        let text = body("new_lead", &json!({"first_name": "Ana", "phone": "1"}));
        let sign = |time: &str, path: &str| {
            let signed = format!("{time}\n{path}\n{text}");
            sign_lead_body(&secret, signed.as_bytes())
        };
        let send = |path: &str, time: &str, signature: &str, key: &str| {
            let request = request(&node, path, &text)
                .header("x-webhook-timestamp", time)
                .header("x-webhook-signature", signature)
                .header("idempotency-key", key);
            node.send_request(request)
        };

        let now = test_env.deps.clock.wall();
        let (time, path) = (now.to_string(), format!("{INCOMING}/lead/create"));
        let signature = sign(&time, &path);
        let first = send("lead/create", &time, &signature, "k-1").await;
        let id = data(&first)["lead_id"].clone();
        assert!(id.is_u64(), "{first:?}");
        let again = send("lead/create", &time, &signature, "k-2").await;
        assert_eq!(data(&again)["lead_id"], id, "taken once: {again:?}");

        let seconds = (now.as_micros() / 1_000_000).to_string();
        let in_seconds = send("lead/create", &seconds, &sign(&seconds, &path), "k-3").await;
        assert!(data(&in_seconds)["lead_id"].as_u64() > id.as_u64());

        let elsewhere = send("lead/1/update", &time, &signature, "k-4").await;
        assert_eq!(refusal(&elsewhere).0, 401, "{elsewhere:?}");
        let later = (now.saturating_add(std::time::Duration::from_secs(1))).to_string();
        let moved = send("lead/create", &later, &signature, "k-5").await;
        assert_eq!(refusal(&moved).1, "invalid_signature");
        let old = (now.saturating_sub(std::time::Duration::from_secs(301))).to_string();
        let stale = send("lead/create", &old, &sign(&old, &path), "k-6").await;
        assert_eq!(refusal(&stale).1, "stale_timestamp");
        let body_only = sign_lead_body(&secret, text.as_bytes());
        let unsigned = send("lead/create", &time, &body_only, "k-7").await;
        assert_eq!(refusal(&unsigned).1, "invalid_signature");
        node.stop().await;
    });
}

#[test]
fn with_secrets_only_signed_requests_are_accepted() {
    run_async(async {
        let test_env = test_env(&[("sources.leads.secrets", "old-secret,new-secret")]);
        let node = test_env.start().await;
        // Repeated members and escapes: the signature covers the bytes, not their meaning.
        let text = r#"{"event": "new_lead", "source": "crm", "signature": "junk", "data": 1,
            "data": {"first_name": "J\u00f6rg ☎", "phone": "1"}}"#;
        let sent = |signature: Option<String>, text: &str| {
            let request = request(&node, "lead/create", text);
            node.send_request(match signature {
                Some(signature) => request.header("x-webhook-signature", signature),
                None => request,
            })
        };
        let signature = sign_lead_body(&Secret::new("new-secret"), text.as_bytes());
        for good in [
            signature.clone(),
            format!("sha256={signature}"),
            sign_lead_body(&Secret::new("old-secret"), text.as_bytes()),
        ] {
            assert!(data(&sent(Some(good), text).await)["lead_id"].is_u64());
        }
        let wrong = [
            None,
            Some("junk".to_owned()),
            Some(sign_lead_body(&Secret::new("other"), text.as_bytes())),
            Some(String::new()),
        ];
        for signature in wrong {
            let answer = sent(signature.clone(), text).await;
            let expected = json!({"detail": "Invalid signature", "code": "invalid_signature"});
            assert_eq!(
                (answer.status, &answer.body),
                (401, &expected),
                "{signature:?}"
            );
        }
        assert_eq!(
            sent(Some(signature), &text.replace("\\u00f6", "ö"))
                .await
                .status,
            401,
            "other bytes, same meaning"
        );
        let total = node.get("/api/v1/events").await.body["total"].clone();
        assert_eq!(total, json!(3));
        node.stop().await;
    });
}

#[test]
fn a_validation_error_names_every_wrong_field() {
    run_async(async {
        let test_env = test_env(&[]);
        let node = test_env.start().await;
        let text = r#"{"event": "new_lead", "source": "", "data": {"email": "nobody", "priority": "urgent", "expected_value": -5}}"#;
        let answer = node.send_request(request(&node, "lead/create", text)).await;
        let fields: Vec<_> = answer.body["errors"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|fault| fault["field"].clone())
            .collect();
        let expected = [
            "source",
            "data.email",
            "data.priority",
            "data.expected_value",
            "data.first_name",
        ];
        assert_eq!(fields, expected.map(Value::from));
        assert_eq!(answer.body["detail"], "source must not be empty");
        node.stop().await;
    });
}
