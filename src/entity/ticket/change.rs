//! Effect of an event on a ticket, with every decision resolved, so that a replay needs no rules.
//!
//! Stored as JSON, for example `{"at":1733308200000000,"effect":{"status":"pending"}}`. A member
//! added later needs a default. An effect that this version does not know makes the change
//! unreadable: to skip it would lose it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::author::MessageAuthor;
use super::state::{SlaBreach, TicketAssignee, TicketAttachment, TicketRating};
use crate::entity::timed_value::UnixMicros;

/// Effect of one event on a ticket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TicketChange {
    /// Event time of the change.
    pub(super) at: UnixMicros,
    /// A late change is recorded and has no effect.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) late: bool,
    pub(super) effect: TicketEffect,
}

impl TicketChange {
    /// Returns true if the event was older than the state, so that the change has no effect.
    #[must_use]
    pub const fn is_late(&self) -> bool {
        self.late
    }
}

/// Replacement or addition by an event. `keep` is the bound of the collection at the time of the
/// decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TicketEffect {
    Status(Arc<str>),
    Priority(Arc<str>),
    Category(Arc<str>),
    Assignee(Option<TicketAssignee>),
    /// Complete resulting list; empty when late, since a late edit has no result.
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
    /// The event concerns an item that newer items had pushed out of the state.
    PushedOut {
        item: TicketItemKind,
        id: Arc<str>,
    },
}

/// Collection that the item was pushed out of.
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
