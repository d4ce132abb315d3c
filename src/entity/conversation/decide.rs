//! Rules of a conversation. No update of Instagram is rejected, since it has already happened.
//!
//! | update | is late when its time is before that of |
//! |---|---|
//! | message | an earlier copy of the same message |
//! | deletion | an earlier deletion of the same message |
//! | reaction | the same sender's reaction to the same message |
//! | read | the last read receipt |
//!
//! A reply is never late. An automatic reply is rejected during the cool-down after the last one,
//! and for a message that already has one, was deleted, or is an echo; so neither a repeated
//! message nor a repeated attempt causes two replies.

use std::sync::Arc;

use super::action::{AutomaticReply, ConversationAction, ConversationUpdate};
use super::change::{ConversationChange, ConversationEffect, MessageContent};
use super::state::ConversationState;
use crate::entity::decision::{AcceptedChange, DecisionContext, EntityDecision, Rejection};
use crate::entity::timed_value::UnixMicros;
use crate::event::Timestamp;

/// Decides on `action` for the conversation `state`.
///
/// # Errors
/// A [`Rejection`] for an automatic reply that must not be sent.
pub fn decide(
    state: &ConversationState,
    action: &ConversationAction,
    context: &DecisionContext<'_>,
) -> Result<EntityDecision<ConversationChange>, Rejection> {
    let at = UnixMicros::from(context.at);
    if let ConversationUpdate::Reply {
        automatic: Some(automatic),
    } = &action.update
    {
        check_automatic_reply(state, automatic, context.at)?;
    }
    let (late, effect) = derive_effect(state, &action.update, at);
    let between = state.between.is_none().then(|| action.between.clone());
    let change = ConversationChange {
        at,
        between,
        late,
        keep: context.limits.items_max,
        effect,
    };

    Ok(EntityDecision::Accept(AcceptedChange {
        late,
        ..AcceptedChange::new(change)
    }))
}

/// Rejects an automatic reply that must not be sent at `now`.
fn check_automatic_reply(
    state: &ConversationState,
    automatic: &AutomaticReply,
    now: Timestamp,
) -> Result<(), Rejection> {
    let AutomaticReply {
        message_id,
        cooldown,
    } = automatic;
    let reject = |code, reason: &str| {
        Err(Rejection::conflict(
            code,
            format!("message {message_id} {reason}"),
        ))
    };
    // A message that the state no longer holds was followed by at least `items_max` others; the
    // cool-down alone decides then.
    if let Some(message) = state.find_message(message_id) {
        if message.content.is_echo {
            return reject("echo", "was written by the account itself");
        }
        if message.is_answered {
            return reject("answered", "has had its automatic reply");
        }
        if message.deleted.value {
            return reject("deleted", "was taken back");
        }
    }

    let is_cooling_down = state
        .answered_at
        .is_some_and(|last| now < Timestamp::from(last).saturating_add(*cooldown));
    if is_cooling_down {
        reject("cooldown", "came too soon after the last automatic reply")
    } else {
        Ok(())
    }
}

fn derive_effect(
    state: &ConversationState,
    update: &ConversationUpdate,
    at: UnixMicros,
) -> (bool, ConversationEffect) {
    match update {
        ConversationUpdate::Message {
            message_id,
            sender_id,
            text,
            message_type,
            attachments,
            is_echo,
        } => {
            let content = MessageContent {
                message_id: message_id.as_str().into(),
                sender_id: sender_id.as_str().into(),
                text: text.as_deref().map(Into::into),
                message_type: *message_type,
                attachments: attachments.clone(),
                is_echo: *is_echo,
            };
            let late = state
                .find_message(message_id)
                .is_some_and(|message| at < message.at);
            (late, ConversationEffect::Message(content))
        }
        ConversationUpdate::Deleted { message_id } => {
            let known = state
                .find_message(message_id)
                .is_some_and(|message| message.deleted.is_late(at));
            let gone = state
                .gone
                .iter()
                .any(|(gone, since)| **gone == **message_id && at < *since);
            (
                known || gone,
                ConversationEffect::Deleted(message_id.as_str().into()),
            )
        }
        ConversationUpdate::Reaction {
            message_id,
            sender_id,
            reaction,
        } => {
            let (message_id, sender_id) = (message_id.as_str().into(), sender_id.as_str().into());
            let mut known = state.reactions.iter();
            let known =
                known.find(|known| known.message_id == message_id && known.sender_id == sender_id);
            let late = known.is_some_and(|known| at < known.at);
            (
                late,
                ConversationEffect::Reaction {
                    message_id,
                    sender_id,
                    given: reaction.clone(),
                },
            )
        }
        ConversationUpdate::Read { message_id, until } => {
            let message_id = message_id.as_deref().map(Into::into);
            (
                state.read.is_late(at),
                ConversationEffect::Read {
                    message_id,
                    until: until.map_or(at, UnixMicros::from),
                },
            )
        }
        ConversationUpdate::Reply { automatic } => {
            let answers = automatic
                .as_ref()
                .map(|automatic| Arc::clone(&automatic.message_id));
            (false, ConversationEffect::Reply { answers })
        }
        ConversationUpdate::Other => (false, ConversationEffect::Nothing),
    }
}
