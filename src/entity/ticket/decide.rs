//! Rules of a ticket: from an event to its change.
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

use super::action::TicketAction;
use super::author::MessageAuthor;
use super::bounded_items::FingerprintSource;
use super::change::{TicketChange, TicketEffect, TicketItemKind};
use super::state::{
    SlaBreach, TAGS_MAX, TicketAssignee, TicketAttachment, TicketMessage, TicketRating,
    TicketState, fingerprint_id,
};
use crate::entity::decision::{
    AcceptedChange, DecisionContext, EntityDecision, Rejection, StateLimits,
};
use crate::entity::timed_value::UnixMicros;
use crate::event::Timestamp;

/// Lateness of an event, and its effect.
type TimedEffect = (bool, TicketEffect);

/// Decides on `action` for the ticket `state`.
///
/// # Errors
/// [`Rejection`] with status 404 for an update or a deletion of a message that does not exist.
pub fn decide(
    state: &TicketState,
    action: &TicketAction,
    context: &DecisionContext<'_>,
) -> Result<EntityDecision<TicketChange>, Rejection> {
    let change = state.decide_change(action, context.at, context.limits)?;
    Ok(EntityDecision::Accept(AcceptedChange {
        late: change.is_late(),
        ..AcceptedChange::new(change)
    }))
}

impl TicketState {
    /// Computes the change that `action` of the event time `at` causes. Changes nothing by itself.
    ///
    /// A ticket holds at most 1,000 tags: of a longer list the first in order are kept, and an edit
    /// never pushes out a tag of the ticket.
    ///
    /// # Errors
    /// [`Rejection`] with status 404 for an update or a deletion of a message that does not exist.
    pub fn decide_change(
        &self,
        action: &TicketAction,
        at: Timestamp,
        limits: StateLimits,
    ) -> Result<TicketChange, Rejection> {
        let at = UnixMicros::from(at);
        let keep = limits.items_max;
        let (late, effect) = match action {
            TicketAction::MessageCreated {
                message_id,
                text,
                author,
                is_internal,
            } => self
                .message_effect(message_id, |message| text_effect(message, text, at))
                .unwrap_or_else(|| {
                    let author = author.as_ref().and_then(MessageAuthor::new);
                    let (message_id, text) = (share_text(message_id), share_text(text));
                    (
                        false,
                        TicketEffect::MessageAdded {
                            message_id,
                            text,
                            author,
                            is_internal: *is_internal,
                            keep,
                        },
                    )
                }),
            TicketAction::MessageUpdated { message_id, text } => self
                .message_effect(message_id, |message| text_effect(message, text, at))
                .ok_or_else(|| reject_missing_message(message_id))?,
            TicketAction::MessageDeleted {
                message_id,
                reason: _,
            } => self
                .message_effect(message_id, |message| {
                    let message_id = Arc::clone(&message.message_id);
                    (
                        message.deleted.is_late(at),
                        TicketEffect::MessageDeleted { message_id },
                    )
                })
                .ok_or_else(|| reject_missing_message(message_id))?,
            TicketAction::StatusChanged { status, reason: _ } => (
                self.status.is_late(at),
                TicketEffect::Status(share_text(status)),
            ),
            TicketAction::AgentAssigned {
                agent_id,
                agent_name,
            } => {
                let assignee = TicketAssignee {
                    agent_id: share_text(agent_id),
                    agent_name: share_optional_text(agent_name),
                };
                (
                    self.assignee.is_late(at),
                    TicketEffect::Assignee(Some(assignee)),
                )
            }
            TicketAction::AgentUnassigned { reason: _ } => {
                (self.assignee.is_late(at), TicketEffect::Assignee(None))
            }
            TicketAction::PriorityChanged { priority } => (
                self.priority.is_late(at),
                TicketEffect::Priority(share_text(priority)),
            ),
            TicketAction::TagsReplaced { tags } => self.tags_effect(at, || normalize_tags(tags)),
            TicketAction::TagsEdited { added, removed } => {
                self.tags_effect(at, || edit_tags(&self.tags.value, added, removed))
            }
            TicketAction::CategoryChanged { category } => (
                self.category.is_late(at),
                TicketEffect::Category(share_text(category)),
            ),
            TicketAction::AttachmentAdded {
                attachment_id,
                file_name,
                url,
                size,
            } => {
                let attachment = TicketAttachment {
                    attachment_id: share_text(attachment_id),
                    file_name: share_text(file_name),
                    url: share_optional_text(url),
                    size: *size,
                };
                self.attachment_effect(attachment, at, keep)
            }
            TicketAction::SlaBreached { policy, due_at } => self.breach_effect(
                SlaBreach {
                    policy: share_text(policy),
                    due_at: due_at.map(UnixMicros::from),
                },
                at,
                keep,
            ),
            TicketAction::RatingSubmitted { score, comment } => {
                let rating = TicketRating {
                    score: *score,
                    comment: share_optional_text(comment),
                };
                (self.rating.is_late(at), TicketEffect::Rating(rating))
            }
        };

        Ok(TicketChange { at, late, effect })
    }

    /// Returns the result of `effect_on` for the message, or [`TicketEffect::PushedOut`]; `None` if
    /// the message never existed.
    fn message_effect(
        &self,
        message_id: &str,
        effect_on: impl FnOnce(&TicketMessage) -> TimedEffect,
    ) -> Option<TimedEffect> {
        let fingerprint = fingerprint_id(message_id);
        let is_this = |message: &TicketMessage| *message.message_id == *message_id;
        if let Some(message) = self.messages.find(fingerprint, is_this) {
            return Some(effect_on(message));
        }

        self.messages.has_forgotten(fingerprint).then(|| {
            (
                false,
                TicketEffect::PushedOut {
                    item: TicketItemKind::Message,
                    id: share_text(message_id),
                },
            )
        })
    }

    fn attachment_effect(
        &self,
        attachment: TicketAttachment,
        at: UnixMicros,
        keep: usize,
    ) -> TimedEffect {
        let fingerprint = attachment.fingerprint();
        let known = self.attachments.find(fingerprint, |known| {
            known.value.attachment_id == attachment.attachment_id
        });
        if let Some(known) = known {
            return (
                known.is_late(at),
                TicketEffect::AttachmentReplaced { attachment },
            );
        }
        if self.attachments.has_forgotten(fingerprint) {
            return (
                false,
                TicketEffect::PushedOut {
                    item: TicketItemKind::Attachment,
                    id: attachment.attachment_id,
                },
            );
        }

        (false, TicketEffect::AttachmentAdded { attachment, keep })
    }

    fn breach_effect(&self, breach: SlaBreach, at: UnixMicros, keep: usize) -> TimedEffect {
        let fingerprint = breach.fingerprint();
        let known = self
            .sla_breaches
            .find(fingerprint, |known| known.value == breach);
        if let Some(known) = known {
            return (known.is_late(at), TicketEffect::BreachRepeated { breach });
        }
        if self.sla_breaches.has_forgotten(fingerprint) {
            return (
                false,
                TicketEffect::PushedOut {
                    item: TicketItemKind::Breach,
                    id: breach.policy,
                },
            );
        }

        (false, TicketEffect::BreachAdded { breach, keep })
    }

    fn tags_effect(&self, at: UnixMicros, result: impl FnOnce() -> Vec<Arc<str>>) -> TimedEffect {
        let late = self.tags.is_late(at);
        (
            late,
            TicketEffect::Tags(if late { Vec::new() } else { result() }),
        )
    }
}

fn text_effect(message: &TicketMessage, text: &str, at: UnixMicros) -> TimedEffect {
    let message_id = Arc::clone(&message.message_id);
    (
        message.text.is_late(at),
        TicketEffect::MessageText {
            message_id,
            text: share_text(text),
        },
    )
}

fn reject_missing_message(message_id: &str) -> Rejection {
    Rejection::not_found(format!("message {message_id} does not exist"))
}

fn normalize_tags(tags: &[String]) -> Vec<Arc<str>> {
    let sorted: BTreeSet<&str> = tags.iter().map(String::as_str).collect();
    sorted.into_iter().take(TAGS_MAX).map(share_text).collect()
}

/// Removes before it adds, so a tag that is both removed and added stays.
fn edit_tags(tags: &[Arc<str>], added: &[String], removed: &[String]) -> Vec<Arc<str>> {
    let removed: BTreeSet<&str> = removed.iter().map(String::as_str).collect();
    let mut result: BTreeSet<Arc<str>> = tags
        .iter()
        .filter(|tag| !removed.contains(&***tag))
        .cloned()
        .collect();

    for tag in added {
        if result.len() >= TAGS_MAX {
            break;
        }
        result.insert(share_text(tag));
    }

    result.into_iter().collect()
}

fn share_text(text: &str) -> Arc<str> {
    text.into()
}

fn share_optional_text(text: &Option<String>) -> Option<Arc<str>> {
    text.as_deref().map(share_text)
}
