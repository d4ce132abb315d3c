//! Readers of the member `data` of the 12 support events, each with the members that its event
//! requires.

use serde_json::value::RawValue;

use super::super::fields::{FieldErrors, non_null};
use crate::entity::ticket::{PRIORITIES, STATUSES, TicketAction};
use crate::event::find_members;

/// Most tags in one list of an event.
const TAGS_MAX: usize = 1_000;
/// Longest tag, in bytes of UTF-8.
const TAG_MAX_BYTES: usize = 256;

/// Decodes the data of `event`, which is one of the ticket's event names. Wrong members are added
/// to `faults`. `None` for another event, or for data that is no object.
pub(super) fn decode_ticket_data(
    event: &str,
    data: Option<&RawValue>,
    faults: &mut FieldErrors,
) -> Option<TicketAction> {
    // `agent.unassigned` requires no member, so its data may be absent.
    let json = match non_null(data) {
        None if event == "agent.unassigned" => "{}",
        None => {
            faults.add("data", "is required");
            return None;
        }
        Some(data) => data.get(),
    };

    let reader = find_reader(event)?;
    if !json.starts_with('{') {
        faults.add("data", "must be an object");
        return None;
    }
    if !faults.check_member_names("data", json) {
        return None;
    }
    // `json` is known to be a JSON object, so this cannot fail.
    reader(json, faults).ok()
}

type TicketDataReader = fn(&str, &mut FieldErrors) -> Result<TicketAction, serde_json::Error>;

fn find_reader(event: &str) -> Option<TicketDataReader> {
    Some(match event {
        "message.created" => read_message_created,
        "message.updated" => read_message_updated,
        "message.deleted" => read_message_deleted,
        "status.changed" => read_status_changed,
        "agent.assigned" => read_agent_assigned,
        "agent.unassigned" => read_agent_unassigned,
        "priority.changed" => read_priority_changed,
        "tags.updated" => read_tags_updated,
        "category.changed" => read_category_changed,
        "attachment.added" => read_attachment_added,
        "sla.breached" => read_sla_breached,
        "rating.submitted" => read_rating_submitted,
        _ => return None,
    })
}

fn read_message_created(
    data: &str,
    faults: &mut FieldErrors,
) -> Result<TicketAction, serde_json::Error> {
    let [message_id, text, author, is_internal] =
        find_members(data, ["message_id", "text", "author", "is_internal"])?;
    Ok(TicketAction::MessageCreated {
        message_id: faults.read_id("data.message_id", message_id),
        text: faults.read_text("data.text", text),
        author: faults.read_optional_text_or_object("data.author", author),
        is_internal: faults.read_flag("data.is_internal", is_internal),
    })
}

fn read_message_updated(
    data: &str,
    faults: &mut FieldErrors,
) -> Result<TicketAction, serde_json::Error> {
    let [message_id, text] = find_members(data, ["message_id", "text"])?;
    Ok(TicketAction::MessageUpdated {
        message_id: faults.read_id("data.message_id", message_id),
        text: faults.read_text("data.text", text),
    })
}

fn read_message_deleted(
    data: &str,
    faults: &mut FieldErrors,
) -> Result<TicketAction, serde_json::Error> {
    let [message_id, reason] = find_members(data, ["message_id", "reason"])?;
    Ok(TicketAction::MessageDeleted {
        message_id: faults.read_id("data.message_id", message_id),
        reason: faults.read_optional_text("data.reason", reason),
    })
}

fn read_status_changed(
    data: &str,
    faults: &mut FieldErrors,
) -> Result<TicketAction, serde_json::Error> {
    let [status, reason] = find_members(data, ["status", "reason"])?;
    Ok(TicketAction::StatusChanged {
        status: faults.read_one_of("data.status", status, &STATUSES),
        reason: faults.read_optional_text("data.reason", reason),
    })
}

fn read_agent_assigned(
    data: &str,
    faults: &mut FieldErrors,
) -> Result<TicketAction, serde_json::Error> {
    let [agent_id, agent_name] = find_members(data, ["agent_id", "agent_name"])?;
    Ok(TicketAction::AgentAssigned {
        agent_id: faults.read_id("data.agent_id", agent_id),
        agent_name: faults.read_optional_text("data.agent_name", agent_name),
    })
}

fn read_agent_unassigned(
    data: &str,
    faults: &mut FieldErrors,
) -> Result<TicketAction, serde_json::Error> {
    let [reason] = find_members(data, ["reason"])?;
    Ok(TicketAction::AgentUnassigned {
        reason: faults.read_optional_text("data.reason", reason),
    })
}

fn read_priority_changed(
    data: &str,
    faults: &mut FieldErrors,
) -> Result<TicketAction, serde_json::Error> {
    let [priority] = find_members(data, ["priority"])?;
    Ok(TicketAction::PriorityChanged {
        priority: faults.read_one_of("data.priority", priority, &PRIORITIES),
    })
}

/// Decodes `tags`, the whole list; if it is present, `added` and `removed` are only checked.
fn read_tags_updated(
    data: &str,
    faults: &mut FieldErrors,
) -> Result<TicketAction, serde_json::Error> {
    let [tags, added, removed] = find_members(data, ["tags", "added", "removed"])?;
    if non_null(tags)
        .or(non_null(added))
        .or(non_null(removed))
        .is_none()
    {
        faults.add("data.tags", "is required, or data.added or data.removed");
    }
    let mut list = |field, raw| faults.read_text_list(field, raw, TAGS_MAX, TAG_MAX_BYTES);
    let (added, removed) = (list("data.added", added), list("data.removed", removed));
    Ok(match non_null(tags) {
        Some(tags) => TicketAction::TagsReplaced {
            tags: list("data.tags", Some(tags)),
        },
        None => TicketAction::TagsEdited { added, removed },
    })
}

fn read_category_changed(
    data: &str,
    faults: &mut FieldErrors,
) -> Result<TicketAction, serde_json::Error> {
    let [category] = find_members(data, ["category"])?;
    Ok(TicketAction::CategoryChanged {
        category: faults.read_nonempty_text("data.category", category),
    })
}

fn read_attachment_added(
    data: &str,
    faults: &mut FieldErrors,
) -> Result<TicketAction, serde_json::Error> {
    let [attachment_id, file_name, url, size] =
        find_members(data, ["attachment_id", "file_name", "url", "size"])?;
    Ok(TicketAction::AttachmentAdded {
        attachment_id: faults.read_id("data.attachment_id", attachment_id),
        file_name: faults.read_nonempty_text("data.file_name", file_name),
        url: faults.read_optional_text("data.url", url),
        size: non_null(size).map(|size| faults.read_number("data.size", Some(size), 0, u64::MAX)),
    })
}

fn read_sla_breached(
    data: &str,
    faults: &mut FieldErrors,
) -> Result<TicketAction, serde_json::Error> {
    let [policy, due_at] = find_members(data, ["policy", "due_at"])?;
    Ok(TicketAction::SlaBreached {
        policy: faults.read_nonempty_text("data.policy", policy),
        due_at: faults.read_optional_time("data.due_at", due_at),
    })
}

fn read_rating_submitted(
    data: &str,
    faults: &mut FieldErrors,
) -> Result<TicketAction, serde_json::Error> {
    let [score, comment] = find_members(data, ["score", "comment"])?;
    Ok(TicketAction::RatingSubmitted {
        score: faults.read_number("data.score", score, 1, 5) as u8,
        comment: faults.read_optional_text("data.comment", comment),
    })
}
