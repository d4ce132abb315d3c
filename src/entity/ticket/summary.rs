//! Summary line of a timeline for a change of a ticket, without the texts that people wrote.

use super::change::{TicketChange, TicketEffect, TicketItemKind};
use super::state::TicketAssignee;

/// Maximum of tags that a summary lists; a longer list is only counted.
const TAGS_LISTED: usize = 5;

/// Describes `change` in one line without the text of a message or comment, such as `status changed
/// to pending`.
#[must_use]
pub fn summary(change: &TicketChange) -> String {
    let about = describe_effect(change);
    if change.late {
        format!("{about} (late: nothing changed)")
    } else {
        about
    }
}

fn describe_effect(change: &TicketChange) -> String {
    match &change.effect {
        TicketEffect::Status(status) => format!("status changed to {status}"),
        TicketEffect::Priority(priority) => format!("priority changed to {priority}"),
        TicketEffect::Category(category) => format!("category changed to {category}"),
        TicketEffect::Assignee(Some(TicketAssignee {
            agent_id,
            agent_name,
        })) => {
            format!("assigned to {}", agent_name.as_ref().unwrap_or(agent_id))
        }
        TicketEffect::Assignee(None) => "unassigned".into(),
        TicketEffect::Tags(_) if change.late => "tags updated".into(),
        TicketEffect::Tags(tags) if tags.is_empty() => "all tags removed".into(),
        TicketEffect::Tags(tags) if tags.len() > TAGS_LISTED => {
            format!("tags changed to a list of {}", tags.len())
        }
        TicketEffect::Tags(tags) => format!("tags changed to {}", tags.join(", ")),
        TicketEffect::Rating(rating) => format!("rated {} of 5", rating.score),
        TicketEffect::MessageAdded { message_id, .. } => format!("message {message_id} added"),
        TicketEffect::MessageText { message_id, .. } => format!("message {message_id} updated"),
        TicketEffect::MessageDeleted { message_id } => format!("message {message_id} deleted"),
        TicketEffect::AttachmentAdded { attachment, .. } => {
            format!("attachment {} added", attachment.file_name)
        }
        TicketEffect::AttachmentReplaced { attachment } => {
            format!("attachment {} replaced", attachment.file_name)
        }
        TicketEffect::BreachAdded { breach, .. } | TicketEffect::BreachRepeated { breach } => {
            format!("service level {} breached", breach.policy)
        }
        TicketEffect::PushedOut { item, id } => {
            let item = match item {
                TicketItemKind::Message => "message",
                TicketItemKind::Attachment => "attachment",
                TicketItemKind::Breach => "breach of",
            };
            format!("{item} {id} is no longer kept, nothing changed")
        }
    }
}
