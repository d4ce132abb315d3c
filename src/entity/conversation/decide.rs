//! From an update to its outcome: the rules of a conversation. Nothing is refused that Instagram tells, since it has happened.
//!
//! | update | is late when its time is before that of |
//! |---|---|
//! | message | the same message, sent before |
//! | deletion | an earlier deletion of that message |
//! | reaction | what its sender thought of that message |
//! | read | what was read |
//!
//! A reply is never late. An automatic one is refused during the cool-down after the last one, and to a message that has had
//! one, was taken back, or is an echo; so neither a repeated message nor a repeated attempt makes two.

use std::sync::Arc;

use super::action::{Action, Automatic, Update};
use super::change::{Change, Content, Effect};
use super::state::State;
use crate::entity::field::Micros;
use crate::entity::verdict::{Acceptance, Context, Rejection, Verdict};
use crate::event::Timestamp;

/// What `action` does to the conversation `state`.
///
/// # Errors
/// A [`Rejection`] for an automatic reply that is not to be sent.
pub fn decide(state: &State, action: &Action, context: &Context<'_>) -> Result<Verdict<Change>, Rejection> {
    let at = Micros::from(context.at);
    if let Update::Reply { automatic: Some(automatic) } = &action.update {
        check(state, automatic, context.at)?;
    }
    let (late, effect) = outcome(state, &action.update, at);
    let between = state.between.is_none().then(|| action.between.clone());
    let change = Change { at, between, late, keep: context.limits.items_max, effect };
    Ok(Verdict::Accept(Acceptance { late, ..Acceptance::new(change) }))
}

/// Whether `automatic` may be sent at `now`.
fn check(state: &State, automatic: &Automatic, now: Timestamp) -> Result<(), Rejection> {
    let Automatic { message_id, cooldown } = automatic;
    let refused = |code, reason: &str| Err(Rejection::conflict(code, format!("message {message_id} {reason}")));
    // One that is not kept any more was followed by so many others that it is nothing to be careful about.
    if let Some(message) = state.message(message_id) {
        if message.content.is_echo {
            return refused("echo", "was written by the account itself");
        }
        if message.is_answered {
            return refused("answered", "has had its automatic reply");
        }
        if message.deleted.value {
            return refused("deleted", "was taken back");
        }
    }
    let rests = state.answered_at.is_some_and(|last| now < Timestamp::from(last).saturating_add(*cooldown));
    if rests { refused("cooldown", "came too soon after the last automatic reply") } else { Ok(()) }
}

fn outcome(state: &State, update: &Update, at: Micros) -> (bool, Effect) {
    match update {
        Update::Message { message_id, sender_id, text, message_type, attachments, is_echo } => {
            let content = Content {
                message_id: message_id.as_str().into(),
                sender_id: sender_id.as_str().into(),
                text: text.as_deref().map(Into::into),
                message_type: *message_type,
                attachments: attachments.clone(),
                is_echo: *is_echo,
            };
            let late = state.message(message_id).is_some_and(|message| at < message.at);
            (late, Effect::Message(content))
        }
        Update::Deleted { message_id } => {
            let known = state.message(message_id).is_some_and(|message| message.deleted.is_late(at));
            let gone = state.gone.iter().any(|(gone, since)| **gone == **message_id && at < *since);
            (known || gone, Effect::Deleted(message_id.as_str().into()))
        }
        Update::Reaction { message_id, sender_id, given } => {
            let (message_id, sender_id) = (message_id.as_str().into(), sender_id.as_str().into());
            let mut known = state.reactions.iter();
            let known = known.find(|known| known.message_id == message_id && known.sender_id == sender_id);
            let late = known.is_some_and(|known| at < known.at);
            (late, Effect::Reaction { message_id, sender_id, given: given.clone() })
        }
        Update::Read { message_id, until } => {
            let message_id = message_id.as_deref().map(Into::into);
            (state.read.is_late(at), Effect::Read { message_id, until: until.map_or(at, Micros::from) })
        }
        Update::Reply { automatic } => {
            let answers = automatic.as_ref().map(|automatic| Arc::clone(&automatic.message_id));
            (false, Effect::Reply { answers })
        }
        Update::Other => (false, Effect::Nothing),
    }
}
