//! One plain sentence on a change, for the timeline; what people wrote to each other stays out of it.

use super::change::{Change, Effect, Item};
use super::state::Assignee;

/// More tags than these are counted, not listed.
const TAGS_LISTED: usize = 5;

/// What `change` was about, without the text of a message or of a comment: `status changed to pending`.
#[must_use]
pub fn summary(change: &Change) -> String {
    let about = about(change);
    if change.late { format!("{about} (late: nothing changed)") } else { about }
}

fn about(change: &Change) -> String {
    match &change.effect {
        Effect::Status(status) => format!("status changed to {status}"),
        Effect::Priority(priority) => format!("priority changed to {priority}"),
        Effect::Category(category) => format!("category changed to {category}"),
        Effect::Assignee(Some(Assignee { agent_id, agent_name })) => {
            format!("assigned to {}", agent_name.as_ref().unwrap_or(agent_id))
        }
        Effect::Assignee(None) => "unassigned".into(),
        Effect::Tags(_) if change.late => "tags updated".into(),
        Effect::Tags(tags) if tags.is_empty() => "all tags removed".into(),
        Effect::Tags(tags) if tags.len() > TAGS_LISTED => format!("tags changed to a list of {}", tags.len()),
        Effect::Tags(tags) => format!("tags changed to {}", tags.join(", ")),
        Effect::Rating(rating) => format!("rated {} of 5", rating.score),
        Effect::MessageAdded { message_id, .. } => format!("message {message_id} added"),
        Effect::MessageText { message_id, .. } => format!("message {message_id} updated"),
        Effect::MessageDeleted { message_id } => format!("message {message_id} deleted"),
        Effect::AttachmentAdded { attachment, .. } => format!("attachment {} added", attachment.file_name),
        Effect::AttachmentReplaced { attachment } => format!("attachment {} replaced", attachment.file_name),
        Effect::BreachAdded { breach, .. } | Effect::BreachRepeated { breach } => {
            format!("service level {} breached", breach.policy)
        }
        Effect::PushedOut { item, id } => {
            let item = match item {
                Item::Message => "message",
                Item::Attachment => "attachment",
                Item::Breach => "breach of",
            };
            format!("{item} {id} is no longer kept, nothing changed")
        }
    }
}
