//! Application of a change to a ticket: copies the decision and contains no rules.

use std::sync::Arc;

use super::bounded_items::FingerprintSource;
use super::change::{TicketChange, TicketEffect};
use super::state::{SlaBreach, TicketAttachment, TicketMessage, TicketState, fingerprint_id};
use crate::entity::decision::StateLimits;
use crate::entity::timed_value::TimedValue;

impl TicketState {
    /// Copies `change` into the state; a late change has no effect.
    ///
    /// A collection is cut to the bound that was in force at the decision, or to that of `limits`
    /// if it is lower. So a replay under a raised bound brings nothing back, and a lowered bound
    /// holds at once. The item of a change may therefore be gone; the change then has no effect.
    pub fn apply(&mut self, change: &TicketChange, limits: StateLimits) {
        if change.late {
            return;
        }

        let at = change.at;
        let bound = |keep: usize| keep.min(limits.items_max);

        match &change.effect {
            TicketEffect::Status(status) => {
                self.status = TimedValue::from_event(Arc::clone(status), at)
            }
            TicketEffect::Priority(priority) => {
                self.priority = TimedValue::from_event(Arc::clone(priority), at)
            }
            TicketEffect::Category(category) => {
                self.category = TimedValue::from_event(Some(Arc::clone(category)), at)
            }
            TicketEffect::Assignee(assignee) => {
                self.assignee = TimedValue::from_event(assignee.clone(), at)
            }
            TicketEffect::Tags(tags) => self.tags = TimedValue::from_event(tags.clone(), at),
            TicketEffect::Rating(rating) => {
                self.rating = TimedValue::from_event(Some(rating.clone()), at)
            }
            TicketEffect::MessageAdded {
                message_id,
                text,
                author,
                is_internal,
                keep,
            } => {
                let message = TicketMessage {
                    message_id: Arc::clone(message_id),
                    text: TimedValue::from_event(Arc::clone(text), at),
                    author: author.clone(),
                    is_internal: *is_internal,
                    deleted: TimedValue::initial(false),
                };
                self.messages.push(message, bound(*keep));
            }
            TicketEffect::MessageText { message_id, text } => {
                if let Some(message) = self.find_message_mut(message_id) {
                    message.text = TimedValue::from_event(Arc::clone(text), at);
                }
            }
            TicketEffect::MessageDeleted { message_id } => {
                if let Some(message) = self.find_message_mut(message_id) {
                    message.deleted = TimedValue::from_event(true, at);
                }
            }
            TicketEffect::AttachmentAdded { attachment, keep } => {
                self.attachments
                    .push(TimedValue::from_event(attachment.clone(), at), bound(*keep));
            }
            TicketEffect::AttachmentReplaced { attachment } => {
                let id = &attachment.attachment_id;
                let is_this =
                    |known: &TimedValue<TicketAttachment>| known.value.attachment_id == *id;
                if let Some(known) = self.attachments.find_mut(fingerprint_id(id), is_this) {
                    *known = TimedValue::from_event(attachment.clone(), at);
                }
            }
            TicketEffect::BreachAdded { breach, keep } => {
                self.sla_breaches
                    .push(TimedValue::from_event(breach.clone(), at), bound(*keep));
            }
            TicketEffect::BreachRepeated { breach } => {
                let is_this = |known: &TimedValue<SlaBreach>| known.value == *breach;
                if let Some(known) = self.sla_breaches.find_mut(breach.fingerprint(), is_this) {
                    *known = TimedValue::from_event(breach.clone(), at);
                }
            }
            TicketEffect::PushedOut { item: _, id: _ } => {}
        }
    }

    fn find_message_mut(&mut self, message_id: &str) -> Option<&mut TicketMessage> {
        let is_this = |message: &TicketMessage| *message.message_id == *message_id;
        self.messages.find_mut(fingerprint_id(message_id), is_this)
    }
}
