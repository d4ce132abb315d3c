//! What an event did to a ticket, written out so that replaying it takes no rules.
//!
//! Stored as JSON, for example `{"at":1733308200000000,"effect":{"status":"pending"}}`. A member
//! added later needs a default; an effect that this version does not know makes the change
//! unreadable, since passing over it would lose it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::author::MessageAuthor;
use super::state::{SlaBreach, TicketAssignee, TicketAttachment, TicketRating};
use crate::entity::timed_value::UnixMicros;

/// The outcome of one event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TicketChange {
    /// The event's own time.
    pub(super) at: UnixMicros,
    /// A late change is recorded and has no effect.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) late: bool,
    pub(super) effect: TicketEffect,
}

impl TicketChange {
    /// Whether the event was older than what the ticket already had, so that nothing was changed.
    #[must_use]
    pub const fn late(&self) -> bool {
        self.late
    }
}

/// What takes the place of what. `keep` is the bound of the collection that was in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TicketEffect {
    Status(Arc<str>),
    Priority(Arc<str>),
    Category(Arc<str>),
    Assignee(Option<TicketAssignee>),
    /// The whole list that results; empty when late, since an edit that came too late has no
    /// result.
    Tags(Vec<Arc<str>>),
    Rating(TicketRating),
    MessageAdded {
        message_id: Arc<str>,
        text: Arc<str>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        author: Option<MessageAuthor>,
        #[serde(default, skip_serializing_if = "is_false")]
        is_internal: bool,
        keep: usize,
    },
    MessageText {
        message_id: Arc<str>,
        text: Arc<str>,
    },
    MessageDeleted {
        message_id: Arc<str>,
    },
    AttachmentAdded {
        attachment: TicketAttachment,
        keep: usize,
    },
    AttachmentReplaced {
        attachment: TicketAttachment,
    },
    BreachAdded {
        breach: SlaBreach,
        keep: usize,
    },
    BreachRepeated {
        breach: SlaBreach,
    },
    /// The event was about an item that newer ones had pushed out of the state.
    PushedOut {
        item: TicketItemKind,
        id: Arc<str>,
    },
}

/// What sort of item was pushed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TicketItemKind {
    Message,
    Attachment,
    Breach,
}

fn is_false(flag: &bool) -> bool {
    !flag
}
