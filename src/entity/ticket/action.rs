//! Events of a support ticket, decoded: 12 event types.

use serde_json::Value;

use crate::event::Timestamp;

/// Event of a support ticket. Every required member is present; an optional member is `None` when
/// it is absent or null.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    missing_docs,
    reason = "the members are those of the wire format, under their names"
)]
pub enum TicketAction {
    MessageCreated {
        message_id: String,
        text: String,
        author: Option<Value>,
        is_internal: bool,
    },
    MessageUpdated {
        message_id: String,
        text: String,
    },
    MessageDeleted {
        message_id: String,
        reason: Option<String>,
    },
    StatusChanged {
        status: String,
        reason: Option<String>,
    },
    AgentAssigned {
        agent_id: String,
        agent_name: Option<String>,
    },
    AgentUnassigned {
        reason: Option<String>,
    },
    PriorityChanged {
        priority: String,
    },
    TagsReplaced {
        tags: Vec<String>,
    },
    TagsEdited {
        added: Vec<String>,
        removed: Vec<String>,
    },
    CategoryChanged {
        category: String,
    },
    AttachmentAdded {
        attachment_id: String,
        file_name: String,
        url: Option<String>,
        size: Option<u64>,
    },
    SlaBreached {
        policy: String,
        due_at: Option<Timestamp>,
    },
    RatingSubmitted {
        score: u8,
        comment: Option<String>,
    },
}

/// Statuses that a `status.changed` event may set.
pub const STATUSES: [&str; 6] = ["new", "open", "pending", "on_hold", "resolved", "closed"];
/// Priorities that a `priority.changed` event may set.
pub const PRIORITIES: [&str; 4] = ["low", "normal", "high", "urgent"];
/// Names of the 12 events, in the order of the catalogue.
pub const EVENT_NAMES: [&str; 12] = [
    "message.created",
    "message.updated",
    "message.deleted",
    "status.changed",
    "agent.assigned",
    "agent.unassigned",
    "priority.changed",
    "tags.updated",
    "category.changed",
    "attachment.added",
    "sla.breached",
    "rating.submitted",
];
