//! The support contract's answers, one by one.

use serde_json::json;

use crate::yard::{Ground, run};

#[test]
fn an_accepted_event_is_answered_with_its_number_and_can_be_read() {
    run(async {
        let ground = Ground::new(&[]);
        let yard = ground.start().await;
        let answer = yard.send("SUP-1042", "k-1", "status.changed", json!({"status": "pending"})).await;
        assert_eq!(answer.status, 202);
        assert_eq!(answer.body["status"], "accepted");
        assert_eq!(answer.body["entity"], json!({"kind": "ticket", "id": "SUP-1042", "sequence": 1}));
        assert_eq!(answer.header("x-event-id"), answer.body["event_id"].as_str());
        assert_eq!(answer.header("x-entity-sequence"), Some("1"));
        let ticket = yard.get("/api/v1/entities/ticket/SUP-1042").await;
        assert_eq!(ticket.body["state"]["status"], "pending");
        assert_eq!(yard.timeline("SUP-1042").await.len(), 1);
        yard.stop().await;
    });
}
