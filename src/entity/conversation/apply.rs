//! From an outcome to the next state: copies what was decided, and knows no rules.

use std::collections::VecDeque;
use std::sync::Arc;

use super::change::{Change, Content, Effect};
use super::state::{Message, Reaction, Read, State};
use crate::entity::field::{Field, Micros};
use crate::entity::verdict::Limits;

impl State {
    /// Makes `change` part of the state; a late one leaves it as it is.
    ///
    /// Collections are cut to the bound that was in force when the change was decided, or to that of `limits` if it is lower.
    pub fn apply(&mut self, change: &Change, limits: Limits) {
        if let Some(between) = &change.between {
            self.between = Some(between.clone());
        }
        if change.late {
            return;
        }
        let (at, bound) = (change.at, change.keep.min(limits.items_max));
        match &change.effect {
            Effect::Message(content) => self.put(content, at, bound),
            Effect::Deleted(message_id) => self.delete(message_id, at, bound),
            Effect::Reaction { message_id, sender_id, given } => {
                let is_other = |known: &Reaction| known.message_id != *message_id || known.sender_id != *sender_id;
                self.reactions.retain(is_other);
                let (message_id, sender_id) = (Arc::clone(message_id), Arc::clone(sender_id));
                self.reactions.push_back(Reaction { message_id, sender_id, given: given.clone(), at });
                cut(&mut self.reactions, bound);
            }
            Effect::Read { message_id, until } => {
                self.read = Field::given(Some(Read { message_id: message_id.clone(), until: *until }), at);
            }
            Effect::Reply { answers: Some(message_id) } => {
                self.answered_at = Some(at);
                let is_this = |message: &&mut Message| message.content.message_id == *message_id;
                if let Some(message) = self.messages.iter_mut().rev().find(is_this) {
                    message.is_answered = true;
                }
            }
            Effect::Reply { answers: None } | Effect::Nothing => {}
        }
    }

    /// Puts a message where its time belongs, after those of the same time.
    fn put(&mut self, content: &Content, at: Micros, bound: usize) {
        let is_this = |message: &Message| message.content.message_id == content.message_id;
        let known = self.messages.iter().position(is_this).and_then(|index| self.messages.remove(index));
        let is_answered = known.as_ref().is_some_and(|known| known.is_answered);
        let gone = self.gone.iter().position(|(gone, _)| *gone == content.message_id);
        let deleted = match (known, gone.and_then(|index| self.gone.remove(index))) {
            (Some(known), _) => known.deleted,
            (None, Some((_, since))) => Field::given(true, since),
            (None, None) => Field::initial(false),
        };
        let index = self.messages.partition_point(|message| message.at <= at);
        self.messages.insert(index, Message { content: content.clone(), at, deleted, is_answered });
        cut(&mut self.messages, bound);
    }

    fn delete(&mut self, message_id: &Arc<str>, at: Micros, bound: usize) {
        let mut messages = self.messages.iter_mut();
        if let Some(message) = messages.find(|message| message.content.message_id == *message_id) {
            message.deleted = Field::given(true, at);
            return;
        }
        // It may come yet: updates of one conversation can overtake each other on their way here.
        self.gone.retain(|(gone, _)| gone != message_id);
        self.gone.push_back((Arc::clone(message_id), at));
        cut(&mut self.gone, bound);
    }
}

/// Leaves the last `bound` items.
fn cut<T>(items: &mut VecDeque<T>, bound: usize) {
    let surplus = items.len().saturating_sub(bound);
    items.drain(..surplus);
}
