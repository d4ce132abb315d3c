//! Application of a change to a conversation: copies the decision and contains no rules.

use std::collections::VecDeque;
use std::sync::Arc;

use super::change::{ConversationChange, ConversationEffect, MessageContent};
use super::state::{ConversationMessage, ConversationState, MessageReaction, ReadMarker};
use crate::entity::decision::StateLimits;
use crate::entity::timed_value::{TimedValue, UnixMicros};

impl ConversationState {
    /// Copies `change` into the state; a late change has no effect.
    ///
    /// Collections are cut to the bound that was in force at the decision, or to that of `limits`
    /// if it is lower.
    pub fn apply(&mut self, change: &ConversationChange, limits: StateLimits) {
        if let Some(between) = &change.between {
            self.between = Some(between.clone());
        }
        if change.late {
            return;
        }

        let (at, bound) = (change.at, change.keep.min(limits.items_max));

        match &change.effect {
            ConversationEffect::Message(content) => self.put_message(content, at, bound),
            ConversationEffect::Deleted(message_id) => self.delete_message(message_id, at, bound),
            ConversationEffect::Reaction {
                message_id,
                sender_id,
                given,
            } => {
                let is_other = |known: &MessageReaction| {
                    known.message_id != *message_id || known.sender_id != *sender_id
                };
                self.reactions.retain(is_other);
                let (message_id, sender_id) = (Arc::clone(message_id), Arc::clone(sender_id));
                self.reactions.push_back(MessageReaction {
                    message_id,
                    sender_id,
                    given: given.clone(),
                    at,
                });
                keep_newest(&mut self.reactions, bound);
            }
            ConversationEffect::Read { message_id, until } => {
                self.read = TimedValue::from_event(
                    Some(ReadMarker {
                        message_id: message_id.clone(),
                        until: *until,
                    }),
                    at,
                );
            }
            ConversationEffect::Reply {
                answers: Some(message_id),
            } => {
                self.answered_at = Some(at);
                let is_this =
                    |message: &&mut ConversationMessage| message.content.message_id == *message_id;
                if let Some(message) = self.messages.iter_mut().rev().find(is_this) {
                    message.is_answered = true;
                }
            }
            ConversationEffect::Reply { answers: None } | ConversationEffect::Nothing => {}
        }
    }

    /// Inserts a message in the order of event times, after messages of the same time.
    fn put_message(&mut self, content: &MessageContent, at: UnixMicros, bound: usize) {
        let is_this =
            |message: &ConversationMessage| message.content.message_id == content.message_id;
        let known = self
            .messages
            .iter()
            .position(is_this)
            .and_then(|index| self.messages.remove(index));
        let is_answered = known.as_ref().is_some_and(|known| known.is_answered);
        let gone = self
            .gone
            .iter()
            .position(|(gone, _)| *gone == content.message_id);
        let deleted = match (known, gone.and_then(|index| self.gone.remove(index))) {
            (Some(known), _) => known.deleted,
            (None, Some((_, since))) => TimedValue::from_event(true, since),
            (None, None) => TimedValue::initial(false),
        };
        let index = self.messages.partition_point(|message| message.at <= at);
        self.messages.insert(
            index,
            ConversationMessage {
                content: content.clone(),
                at,
                deleted,
                is_answered,
            },
        );

        keep_newest(&mut self.messages, bound);
    }

    fn delete_message(&mut self, message_id: &Arc<str>, at: UnixMicros, bound: usize) {
        let mut messages = self.messages.iter_mut();
        if let Some(message) = messages.find(|message| message.content.message_id == *message_id) {
            message.deleted = TimedValue::from_event(true, at);
            return;
        }

        // The message may still arrive: updates of one conversation can overtake each other on
        // their way to the node.
        self.gone.retain(|(gone, _)| gone != message_id);
        self.gone.push_back((Arc::clone(message_id), at));
        keep_newest(&mut self.gone, bound);
    }
}

/// Drops all items but the last `bound`.
fn keep_newest<T>(items: &mut VecDeque<T>, bound: usize) {
    let surplus = items.len().saturating_sub(bound);
    items.drain(..surplus);
}
