//! Simulated CRMs: one of each kind, with a few entities each, whose events are signed as the real
//! senders sign them.

use std::rc::Rc;

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::error::DemoError;
use super::ledger::DeliveryLedger;
use crate::cli::error::CliError;
use crate::cli::random_secret::random_bytes;
use crate::cli::send::{EventSender, NodeAnswer, SenderEvent, SignedEventRequest};
use crate::clock::{Clock, SystemClock};
use crate::config::Secret;
use crate::edge::leads::signature::sign_lead_body;

/// Number of entities of each CRM.
const ENTITIES: u64 = 4;

/// Events of one round: one of each CRM.
pub(super) const ROUND_EVENTS: u64 = 5;

/// Senders of the demo, with their counters.
pub(super) struct DemoTraffic {
    sender: EventSender,
    github_secret: Secret,
    rounds: u64,
    /// Numbers that the node gave to the leads.
    leads: Vec<String>,
    /// Ledgers of the subscribers that get every event.
    ledgers: Vec<Rc<DeliveryLedger>>,
    accepted: u64,
    duplicates: u64,
}

impl DemoTraffic {
    pub(super) fn new(
        sender: EventSender,
        github_secret: Secret,
        ledgers: Vec<Rc<DeliveryLedger>>,
    ) -> Self {
        Self {
            sender,
            ledgers,
            github_secret,
            rounds: 0,
            leads: Vec::new(),
            accepted: 0,
            duplicates: 0,
        }
    }

    /// Counts the events that were accepted, repetitions not included.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Counts the repetitions that the node recognised.
    pub(super) fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Sends one event of each CRM.
    pub(super) async fn send_round(&mut self) -> Result<(), CliError> {
        let number = self.rounds % ENTITIES;
        self.rounds += 1;
        self.send_ticket_event().await?;
        self.send_lead_event().await?;
        let lead = format!("c2s-{number}");
        self.send("c2s_lead.received", Some(lead), None).await?;
        let person = format!("{}", 17_841_400_000 + number);
        self.send("message.received", Some(person), None).await?;
        self.send_github_event(number + 1).await
    }

    /// Sends one event of a ticket.
    pub(super) async fn send_ticket_event(&mut self) -> Result<(), CliError> {
        let ticket = format!("SUP-{}", 1001 + self.rounds % ENTITIES);
        let (event, data) = match self.rounds / ENTITIES % 2 {
            0 => ("message.created", None),
            _ => {
                let status = ["pending", "open"][(self.rounds / ENTITIES / 2 % 2) as usize];
                ("status.changed", Some(json!({"status": status})))
            }
        };
        self.send(event, Some(ticket), data).await.map(drop)
    }

    /// Sends an event twice, as a CRM does that got no answer to the first.
    pub(super) async fn send_twice(&mut self) -> Result<(), CliError> {
        let event = SenderEvent {
            name: "message.created",
            entity: Some("SUP-1001".to_owned()),
            data: None,
            key: unique_key()?,
        };
        let first = self.sender.send_event(event.clone()).await?;
        self.count(event.name, &first)?;
        let second = self.sender.send_event(event.clone()).await?;
        match second.status {
            StatusCode::CONFLICT if second.event_id == first.event_id => {
                self.duplicates += 1;
                Ok(())
            }
            _ => Err(refusal(event.name, &second).into()),
        }
    }

    /// Creates a lead while there are few, and changes an existing one later.
    async fn send_lead_event(&mut self) -> Result<(), CliError> {
        if (self.leads.len() as u64) < ENTITIES {
            let answer = self.send("lead.created", None, None).await?;
            let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
            let id = body["data"]["lead_id"].as_u64();
            let id = id.ok_or_else(|| refusal("lead.created", &answer))?;
            self.leads.push(id.to_string());
            return Ok(());
        }
        let lead = self.leads[(self.rounds % ENTITIES) as usize].clone();
        self.send("lead.updated", Some(lead), None).await.map(drop)
    }

    /// Sends an event of an issue, as a configured source with the preset `github`.
    async fn send_github_event(&mut self, issue: u64) -> Result<(), CliError> {
        let body = json!({
            "action": "edited",
            "repository": {"full_name": "octo/shop"},
            "issue": {
                "number": issue,
                "title": "The cart forgets its items",
                "updated_at": SystemClock::default().wall(),
            },
        });
        let body = body.to_string().into_bytes();
        // GitHub signs as the senders of leads do: HMAC-SHA256 of the body, in hex.
        let signature = sign_lead_body(&self.github_secret, &body);
        let headers = vec![
            (
                "X-Hub-Signature-256",
                Secret::new(format!("sha256={signature}")),
            ),
            ("X-GitHub-Event", Secret::new("issues")),
            ("X-GitHub-Delivery", Secret::new(unique_key()?)),
        ];
        let request = SignedEventRequest {
            path: "/in/github".to_owned(),
            headers,
            body,
        };
        let answer = self.sender.send_request(request).await?;
        self.count("github.issues", &answer)
    }

    async fn send(
        &mut self,
        name: &'static str,
        entity: Option<String>,
        data: Option<Value>,
    ) -> Result<NodeAnswer, CliError> {
        let key = unique_key()?;
        let event = SenderEvent {
            name,
            entity,
            data,
            key,
        };
        let answer = self.sender.send_event(event).await?;
        self.count(name, &answer)?;
        Ok(answer)
    }

    /// Counts an accepted event; fails for any other answer.
    fn count(&mut self, event: &'static str, answer: &NodeAnswer) -> Result<(), CliError> {
        if let (true, Some(id)) = (answer.status.is_success(), &answer.event_id) {
            self.accepted += 1;
            self.ledgers.iter().for_each(|ledger| ledger.note_sent(id));
            return Ok(());
        }
        Err(refusal(event, answer).into())
    }
}

fn refusal(event: &'static str, answer: &NodeAnswer) -> DemoError {
    DemoError::Refused {
        event,
        status: answer.status,
        body: answer.body.clone(),
    }
}

fn unique_key() -> Result<String, CliError> {
    Ok(hex::encode(&random_bytes()?[..16]))
}
