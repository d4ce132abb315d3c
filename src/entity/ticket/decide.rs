//! From an event to its outcome: the rules of a ticket.
//!
//! | event | is late when its time is before that of |
//! |---|---|
//! | status, priority, category, rating | the value |
//! | assigned, unassigned | the assignee, or the lack of one |
//! | tags, whole or edited | the list |
//! | message created or updated | the text of that message |
//! | message deleted | its earlier deletion |
//! | attachment, breach | the same attachment or breach |

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Action;
use super::author::Author;
use super::change::{Change, Effect, Item};
use super::kept::Keyed;
use super::state::{Assignee, Attachment, Breach, Message, Rating, State, TAGS_MAX};
use crate::entity::field::Micros;
use crate::entity::fingerprint::Fingerprint;
use crate::entity::verdict::{Acceptance, Context, Limits, Rejection, Verdict as Said};
use crate::event::{Failure, Timestamp};

/// Whether the event is late, and what it does.
type Verdict = (bool, Effect);

/// What `action` does to the ticket `state`.
///
/// # Errors
/// [`Rejection`] with status 404 for an update or a deletion of a message that does not exist.
pub fn decide(state: &State, action: &Action, context: &Context<'_>) -> Result<Said<Change>, Rejection> {
    let change = state.decide(action, context.at, context.limits)?;
    Ok(Said::Accept(Acceptance { late: change.late(), ..Acceptance::new(change) }))
}

impl State {
    /// What `action` does to this ticket, given the event's own time `at`. Changes nothing by itself.
    ///
    /// Of more tags than a ticket holds (1,000), the first in order are taken; an edit never pushes out a tag that is there.
    ///
    /// # Errors
    /// [`Failure`] with code 404 for an update or a deletion of a message that does not exist.
    pub fn decide(&self, action: &Action, at: Timestamp, limits: Limits) -> Result<Change, Failure> {
        let at = Micros::from(at);
        let keep = limits.items_max;
        let (late, effect) = match action {
            Action::MessageCreated { message_id, text, author, is_internal } => {
                self.about_message(message_id, |message| text_of(message, text, at)).unwrap_or_else(|| {
                    let author = author.as_ref().and_then(Author::new);
                    let (message_id, text) = (shared(message_id), shared(text));
                    (false, Effect::MessageAdded { message_id, text, author, is_internal: *is_internal, keep })
                })
            }
            Action::MessageUpdated { message_id, text } => self
                .about_message(message_id, |message| text_of(message, text, at))
                .ok_or_else(|| no_such_message(message_id))?,
            Action::MessageDeleted { message_id, reason: _ } => self
                .about_message(message_id, |message| {
                    let message_id = Arc::clone(&message.message_id);
                    (message.deleted.is_late(at), Effect::MessageDeleted { message_id })
                })
                .ok_or_else(|| no_such_message(message_id))?,
            Action::StatusChanged { status, reason: _ } => (self.status.is_late(at), Effect::Status(shared(status))),
            Action::AgentAssigned { agent_id, agent_name } => {
                let assignee = Assignee { agent_id: shared(agent_id), agent_name: maybe_shared(agent_name) };
                (self.assignee.is_late(at), Effect::Assignee(Some(assignee)))
            }
            Action::AgentUnassigned { reason: _ } => (self.assignee.is_late(at), Effect::Assignee(None)),
            Action::PriorityChanged { priority } => (self.priority.is_late(at), Effect::Priority(shared(priority))),
            Action::TagsReplaced { tags } => self.tags(at, || whole(tags)),
            Action::TagsEdited { added, removed } => self.tags(at, || edited(&self.tags.value, added, removed)),
            Action::CategoryChanged { category } => (self.category.is_late(at), Effect::Category(shared(category))),
            Action::AttachmentAdded { attachment_id, file_name, url, size } => {
                let attachment = Attachment {
                    attachment_id: shared(attachment_id),
                    file_name: shared(file_name),
                    url: maybe_shared(url),
                    size: *size,
                };
                self.attachment(attachment, at, keep)
            }
            Action::SlaBreached { policy, due_at } => {
                self.breach(Breach { policy: shared(policy), due_at: due_at.map(Micros::from) }, at, keep)
            }
            Action::RatingSubmitted { score, comment } => {
                let rating = Rating { score: *score, comment: maybe_shared(comment) };
                (self.rating.is_late(at), Effect::Rating(rating))
            }
        };
        Ok(Change { at, late, effect })
    }

    /// The verdict `on` the message, or that it was pushed out; `None` if there never was one.
    fn about_message(&self, message_id: &str, on: impl FnOnce(&Message) -> Verdict) -> Option<Verdict> {
        if let Some(message) = self.messages.find(|message| *message.message_id == *message_id) {
            return Some(on(message));
        }
        self.messages
            .has_forgotten(|| Fingerprint::of(&[message_id.as_bytes()]))
            .then(|| (false, Effect::PushedOut { item: Item::Message, id: shared(message_id) }))
    }

    fn attachment(&self, attachment: Attachment, at: Micros, keep: usize) -> Verdict {
        let known = self.attachments.find(|known| known.value.attachment_id == attachment.attachment_id);
        if let Some(known) = known {
            return (known.is_late(at), Effect::AttachmentReplaced { attachment });
        }
        if self.attachments.has_forgotten(|| attachment.fingerprint()) {
            return (false, Effect::PushedOut { item: Item::Attachment, id: attachment.attachment_id });
        }
        (false, Effect::AttachmentAdded { attachment, keep })
    }

    fn breach(&self, breach: Breach, at: Micros, keep: usize) -> Verdict {
        if let Some(known) = self.sla_breaches.find(|known| known.value == breach) {
            return (known.is_late(at), Effect::BreachRepeated { breach });
        }
        if self.sla_breaches.has_forgotten(|| breach.fingerprint()) {
            return (false, Effect::PushedOut { item: Item::Breach, id: breach.policy });
        }
        (false, Effect::BreachAdded { breach, keep })
    }

    fn tags(&self, at: Micros, result: impl FnOnce() -> Vec<Arc<str>>) -> Verdict {
        let late = self.tags.is_late(at);
        (late, Effect::Tags(if late { Vec::new() } else { result() }))
    }
}

fn text_of(message: &Message, text: &str, at: Micros) -> Verdict {
    let message_id = Arc::clone(&message.message_id);
    (message.text.is_late(at), Effect::MessageText { message_id, text: shared(text) })
}

fn no_such_message(message_id: &str) -> Failure {
    Failure { code: 404, message: format!("message {message_id} does not exist") }
}

fn whole(tags: &[String]) -> Vec<Arc<str>> {
    let sorted: BTreeSet<&str> = tags.iter().map(String::as_str).collect();
    sorted.into_iter().take(TAGS_MAX).map(shared).collect()
}

/// Removes first, so a tag that is both removed and added is there.
fn edited(tags: &[Arc<str>], added: &[String], removed: &[String]) -> Vec<Arc<str>> {
    let removed: BTreeSet<&str> = removed.iter().map(String::as_str).collect();
    let mut result: BTreeSet<Arc<str>> = tags.iter().filter(|tag| !removed.contains(&***tag)).cloned().collect();
    for tag in added {
        if result.len() >= TAGS_MAX {
            break;
        }
        result.insert(shared(tag));
    }
    result.into_iter().collect()
}

fn shared(text: &str) -> Arc<str> {
    text.into()
}

fn maybe_shared(text: &Option<String>) -> Option<Arc<str>> {
    text.as_deref().map(shared)
}
