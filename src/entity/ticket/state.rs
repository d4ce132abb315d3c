//! What is known of a ticket, and how the API shows it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::author::Author;
use super::kept::{Kept, Keyed};
use crate::entity::field::{Field, Micros};
use crate::entity::fingerprint::Fingerprint;
use crate::event::Timestamp;

/// The most tags a ticket holds; far more than a person can use, few enough to be written out with each change of them.
pub(super) const TAGS_MAX: usize = 1_000;

/// A ticket's state, with the times that tell which events are late for it.
///
/// Serialized, it is the body of a snapshot: a member that is missing takes its initial value, an unknown one is passed
/// over. Cloning shares the texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    pub(super) status: Field<Arc<str>>,
    pub(super) priority: Field<Arc<str>>,
    pub(super) category: Field<Option<Arc<str>>>,
    pub(super) assignee: Field<Option<Assignee>>,
    /// Sorted, without repetition, at most [`TAGS_MAX`].
    pub(super) tags: Field<Vec<Arc<str>>>,
    pub(super) messages: Kept<Message>,
    pub(super) attachments: Kept<Field<Attachment>>,
    pub(super) sla_breaches: Kept<Field<Breach>>,
    pub(super) rating: Field<Option<Rating>>,
}

/// Who works on the ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Assignee {
    pub(super) agent_id: Arc<str>,
    pub(super) agent_name: Option<Arc<str>>,
}

/// What the customer thought of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rating {
    pub(super) score: u8,
    pub(super) comment: Option<Arc<str>>,
}

/// One message; its text and its deletion have a time each, so neither makes an event late for the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Message {
    pub(super) message_id: Arc<str>,
    pub(super) text: Field<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) author: Option<Author>,
    #[serde(default)]
    pub(super) is_internal: bool,
    /// Once true, true for good.
    #[serde(default)]
    pub(super) deleted: Field<bool>,
}

/// One attached file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attachment {
    pub(super) attachment_id: Arc<str>,
    pub(super) file_name: Arc<str>,
    pub(super) url: Option<Arc<str>>,
    pub(super) size: Option<u64>,
}

/// One missed deadline; all its members together are its identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Breach {
    pub(super) policy: Arc<str>,
    pub(super) due_at: Option<Micros>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            status: Field::initial("new".into()),
            priority: Field::initial("normal".into()),
            category: Field::default(),
            assignee: Field::default(),
            tags: Field::default(),
            messages: Kept::default(),
            attachments: Kept::default(),
            sla_breaches: Kept::default(),
            rating: Field::default(),
        }
    }
}

impl State {
    /// The state as the API shows it, exactly its members; collections are in the order in which their items came.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "status": self.status.value,
            "priority": self.priority.value,
            "category": self.category.value,
            "assignee": self.assignee.value.as_ref().map(Assignee::to_json),
            "tags": self.tags.value,
            "messages": self.messages.iter().map(Message::to_json).collect::<Vec<_>>(),
            "attachments": self.attachments.iter().map(|attachment| attachment.value.to_json()).collect::<Vec<_>>(),
            "sla_breaches": self.sla_breaches.iter().map(|breach| breach.value.to_json()).collect::<Vec<_>>(),
            "rating": self.rating.value.as_ref().map(Rating::to_json),
        })
    }
}

// What is stored and what is shown may part ways, so the API's members are written out here and not derived.

impl Assignee {
    fn to_json(&self) -> Value {
        json!({ "agent_id": self.agent_id, "agent_name": self.agent_name })
    }
}

impl Rating {
    fn to_json(&self) -> Value {
        json!({ "score": self.score, "comment": self.comment })
    }
}

impl Message {
    fn to_json(&self) -> Value {
        json!({
            "message_id": self.message_id,
            "text": self.text.value,
            "author": self.author.as_ref().map(Author::to_json),
            "is_internal": self.is_internal,
            "deleted": self.deleted.value,
        })
    }
}

impl Attachment {
    fn to_json(&self) -> Value {
        json!({
            "attachment_id": self.attachment_id,
            "file_name": self.file_name,
            "url": self.url,
            "size": self.size,
        })
    }
}

impl Breach {
    fn to_json(&self) -> Value {
        json!({ "policy": self.policy, "due_at": self.due_at.map(Timestamp::from) })
    }
}

impl Keyed for Message {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&[self.message_id.as_bytes()])
    }
}

impl Keyed for Attachment {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&[self.attachment_id.as_bytes()])
    }
}

impl Keyed for Breach {
    fn fingerprint(&self) -> Fingerprint {
        // The text comes last, so that no two breaches make the same bytes.
        match self.due_at {
            Some(due_at) => {
                Fingerprint::of(&[&[1], &Timestamp::from(due_at).as_micros().to_be_bytes(), self.policy.as_bytes()])
            }
            None => Fingerprint::of(&[&[0], self.policy.as_bytes()]),
        }
    }
}

impl<T: Keyed> Keyed for Field<T> {
    fn fingerprint(&self) -> Fingerprint {
        self.value.fingerprint()
    }
}
