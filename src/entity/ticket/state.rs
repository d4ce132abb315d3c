//! State of a ticket, and its form in the API.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::author::MessageAuthor;
use super::bounded_items::{BoundedItems, FingerprintSource};
use crate::entity::fingerprint::ItemFingerprint;
use crate::entity::timed_value::{TimedValue, UnixMicros};
use crate::event::Timestamp;

/// Maximum of tags of one ticket: far more than a person can use, few enough to be written with
/// each change of the list.
pub(super) const TAGS_MAX: usize = 1_000;

/// State of a ticket, with the times that decide which events are late.
///
/// Serialized, it is the body of a snapshot: a missing member takes its initial value, an unknown
/// member is ignored. Clones share the texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TicketState {
    pub(super) status: TimedValue<Arc<str>>,
    pub(super) priority: TimedValue<Arc<str>>,
    pub(super) category: TimedValue<Option<Arc<str>>>,
    pub(super) assignee: TimedValue<Option<TicketAssignee>>,
    /// Sorted, without repetition, at most [`TAGS_MAX`].
    pub(super) tags: TimedValue<Vec<Arc<str>>>,
    pub(super) messages: BoundedItems<TicketMessage>,
    pub(super) attachments: BoundedItems<TimedValue<TicketAttachment>>,
    pub(super) sla_breaches: BoundedItems<TimedValue<SlaBreach>>,
    pub(super) rating: TimedValue<Option<TicketRating>>,
}

/// Agent who works on the ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TicketAssignee {
    pub(super) agent_id: Arc<str>,
    pub(super) agent_name: Option<Arc<str>>,
}

/// Customer's rating of the ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TicketRating {
    pub(super) score: u8,
    pub(super) comment: Option<Arc<str>>,
}

/// Message of a ticket. Text and deletion have times of their own, so that neither makes an event
/// of the other late.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct TicketMessage {
    pub(super) message_id: Arc<str>,
    pub(super) text: TimedValue<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) author: Option<MessageAuthor>,
    #[serde(default)]
    pub(super) is_internal: bool,
    /// Once true, it stays true.
    #[serde(default)]
    pub(super) deleted: TimedValue<bool>,
}

/// File attached to the ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TicketAttachment {
    pub(super) attachment_id: Arc<str>,
    pub(super) file_name: Arc<str>,
    pub(super) url: Option<Arc<str>>,
    pub(super) size: Option<u64>,
}

/// Missed deadline of a service level; all members together are its identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SlaBreach {
    pub(super) policy: Arc<str>,
    pub(super) due_at: Option<UnixMicros>,
}

impl Default for TicketState {
    fn default() -> Self {
        Self {
            status: TimedValue::initial("new".into()),
            priority: TimedValue::initial("normal".into()),
            category: TimedValue::default(),
            assignee: TimedValue::default(),
            tags: TimedValue::default(),
            messages: BoundedItems::default(),
            attachments: BoundedItems::default(),
            sla_breaches: BoundedItems::default(),
            rating: TimedValue::default(),
        }
    }
}

impl TicketState {
    /// State in the form of the API, with exactly its members; collections are in the order of
    /// arrival.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let messages = self.messages.iter().map(TicketMessage::to_json);
        let attachments = self.attachments.iter().map(|item| item.value.to_json());
        let breaches = self.sla_breaches.iter().map(|item| item.value.to_json());

        json!({
            "status": self.status.value,
            "priority": self.priority.value,
            "category": self.category.value,
            "assignee": self.assignee.value.as_ref().map(TicketAssignee::to_json),
            "tags": self.tags.value,
            "messages": messages.collect::<Vec<_>>(),
            "attachments": attachments.collect::<Vec<_>>(),
            "sla_breaches": breaches.collect::<Vec<_>>(),
            "rating": self.rating.value.as_ref().map(TicketRating::to_json),
        })
    }
}

// The stored form and the shown form may diverge, so the API's members are written out here instead
// of derived.

impl TicketAssignee {
    fn to_json(&self) -> Value {
        json!({ "agent_id": self.agent_id, "agent_name": self.agent_name })
    }
}

impl TicketRating {
    fn to_json(&self) -> Value {
        json!({ "score": self.score, "comment": self.comment })
    }
}

impl TicketMessage {
    fn to_json(&self) -> Value {
        json!({
            "message_id": self.message_id,
            "text": self.text.value,
            "author": self.author.as_ref().map(MessageAuthor::to_json),
            "is_internal": self.is_internal,
            "deleted": self.deleted.value,
        })
    }
}

impl TicketAttachment {
    fn to_json(&self) -> Value {
        json!({
            "attachment_id": self.attachment_id,
            "file_name": self.file_name,
            "url": self.url,
            "size": self.size,
        })
    }
}

impl SlaBreach {
    fn to_json(&self) -> Value {
        json!({ "policy": self.policy, "due_at": self.due_at.map(Timestamp::from) })
    }
}

/// Fingerprint of the item with this id.
pub(super) fn fingerprint_id(id: &str) -> ItemFingerprint {
    ItemFingerprint::from_parts(&[id.as_bytes()])
}

impl FingerprintSource for TicketMessage {
    fn fingerprint(&self) -> ItemFingerprint {
        fingerprint_id(&self.message_id)
    }
}

impl FingerprintSource for TicketAttachment {
    fn fingerprint(&self) -> ItemFingerprint {
        fingerprint_id(&self.attachment_id)
    }
}

impl FingerprintSource for SlaBreach {
    fn fingerprint(&self) -> ItemFingerprint {
        // The text comes last, so that no two breaches give the same bytes.
        match self.due_at {
            Some(due_at) => ItemFingerprint::from_parts(&[
                &[1],
                &Timestamp::from(due_at).as_micros().to_be_bytes(),
                self.policy.as_bytes(),
            ]),
            None => ItemFingerprint::from_parts(&[&[0], self.policy.as_bytes()]),
        }
    }
}

impl<T: FingerprintSource> FingerprintSource for TimedValue<T> {
    fn fingerprint(&self) -> ItemFingerprint {
        self.value.fingerprint()
    }
}
