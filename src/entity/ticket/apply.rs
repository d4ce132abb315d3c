//! From an outcome to the next state: copies what was decided, and knows no rules.

use std::sync::Arc;

use super::change::{Change, Effect};
use super::state::{Message, State};
use crate::entity::field::Field;
use crate::entity::verdict::Limits;

impl State {
    /// Makes `change` part of the state; a late one leaves it as it is.
    ///
    /// A collection is cut to the bound that was in force when the change was decided, or to that of `limits` if it is
    /// lower: replaying under a raised bound brings nothing back, and a lowered one holds at once. So an item that a
    /// change is about may be gone, and the change then does nothing.
    pub fn apply(&mut self, change: &Change, limits: Limits) {
        if change.late {
            return;
        }
        let at = change.at;
        let bound = |keep: usize| keep.min(limits.items_max);
        match &change.effect {
            Effect::Status(status) => self.status = Field::given(Arc::clone(status), at),
            Effect::Priority(priority) => self.priority = Field::given(Arc::clone(priority), at),
            Effect::Category(category) => self.category = Field::given(Some(Arc::clone(category)), at),
            Effect::Assignee(assignee) => self.assignee = Field::given(assignee.clone(), at),
            Effect::Tags(tags) => self.tags = Field::given(tags.clone(), at),
            Effect::Rating(rating) => self.rating = Field::given(Some(rating.clone()), at),
            Effect::MessageAdded { message_id, text, author, is_internal, keep } => {
                let message = Message {
                    message_id: Arc::clone(message_id),
                    text: Field::given(Arc::clone(text), at),
                    author: author.clone(),
                    is_internal: *is_internal,
                    deleted: Field::initial(false),
                };
                self.messages.push(message, bound(*keep));
            }
            Effect::MessageText { message_id, text } => {
                if let Some(message) = self.messages.find_mut(|message| message.message_id == *message_id) {
                    message.text = Field::given(Arc::clone(text), at);
                }
            }
            Effect::MessageDeleted { message_id } => {
                if let Some(message) = self.messages.find_mut(|message| message.message_id == *message_id) {
                    message.deleted = Field::given(true, at);
                }
            }
            Effect::AttachmentAdded { attachment, keep } => {
                self.attachments.push(Field::given(attachment.clone(), at), bound(*keep));
            }
            Effect::AttachmentReplaced { attachment } => {
                let id = &attachment.attachment_id;
                if let Some(known) = self.attachments.find_mut(|known| known.value.attachment_id == *id) {
                    *known = Field::given(attachment.clone(), at);
                }
            }
            Effect::BreachAdded { breach, keep } => {
                self.sla_breaches.push(Field::given(breach.clone(), at), bound(*keep));
            }
            Effect::BreachRepeated { breach } => {
                if let Some(known) = self.sla_breaches.find_mut(|known| known.value == *breach) {
                    *known = Field::given(breach.clone(), at);
                }
            }
            Effect::PushedOut { item: _, id: _ } => {}
        }
    }
}
