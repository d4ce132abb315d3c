//! From an update to its outcome: the rules of a conversation. Nothing is refused, since Instagram tells what has happened.
//!
//! | update | is late when its time is before that of |
//! |---|---|
//! | message | the same message, sent before |
//! | deletion | an earlier deletion of that message |
//! | reaction | what its sender thought of that message |
//! | read | what was read |

use super::action::{Action, Update};
use super::change::{Change, Content, Effect};
use super::state::State;
use crate::entity::field::Micros;
use crate::entity::verdict::{Acceptance, Context, Rejection, Verdict};

/// What `action` does to the conversation `state`. Never refuses.
///
/// # Errors
/// None; the signature is that of every kind.
pub fn decide(state: &State, action: &Action, context: &Context<'_>) -> Result<Verdict<Change>, Rejection> {
    let at = Micros::from(context.at);
    let (late, effect) = outcome(state, &action.update, at);
    let between = state.between.is_none().then(|| action.between.clone());
    let change = Change { at, between, late, keep: context.limits.items_max, effect };
    Ok(Verdict::Accept(Acceptance { late, ..Acceptance::new(change) }))
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
        Update::Other => (false, Effect::Nothing),
    }
}
