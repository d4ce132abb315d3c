//! The attempt at an automatic reply: not a call but a command to the conversation, which decides
//! whether it is sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tracing::debug;

use super::accounts::AccountRecipients;
use super::attempt::AttemptOutcome;
use super::{AttemptFailure, OutboundRecord};
use crate::entity::conversation::{AutomaticReply, ConversationReply, IncomingMessage};
use crate::entity::{Command, RejectionPolicy};
use crate::event::EventId;
use crate::router::{Refusal, Router};

/// The code of an attempt that the node itself had no room for.
const UNAVAILABLE: &str = "unavailable";

/// Asks for the automatic reply to `item`, whose event is `event_id`. Asked for twice it is made
/// once.
pub async fn attempt(
    router: &Router,
    recipients: &AccountRecipients,
    event_id: EventId,
    item: &OutboundRecord,
) -> AttemptOutcome {
    // An account that is gone by now, or has no text any more, has nothing to say.
    let Some(command) = build_reply_command(recipients, event_id, item) else {
        return AttemptOutcome::Accepted;
    };
    match router.submit_command(command).await {
        Ok(_) | Err(Refusal::Duplicate { .. } | Refusal::AlreadyApplied { .. }) => {
            AttemptOutcome::Accepted
        }
        Err(Refusal::Rejected(rejection)) => {
            debug!(%event_id, code = rejection.code, "no automatic reply");
            AttemptOutcome::Accepted
        }
        Err(Refusal::Overloaded | Refusal::Unknown) => unavailable_outcome(None),
        Err(Refusal::Quarantined { retry_after }) => unavailable_outcome(Some(retry_after)),
    }
}

fn build_reply_command(
    recipients: &AccountRecipients,
    event_id: EventId,
    item: &OutboundRecord,
) -> Option<Command> {
    let message = IncomingMessage::from_record(&item.record)?;
    let (account, auto_reply) = recipients.auto_reply(&message)?;
    let reply = ConversationReply {
        account_id: account.id.clone(),
        recipient_id: message.sender_id.to_string(),
        text: auto_reply.text.clone(),
        is_automatic: true,
    };
    let automatic = AutomaticReply {
        message_id: Arc::clone(&message.message_id),
        cooldown: auto_reply.cooldown,
    };
    let command = reply.to_command(&message.business, Some(automatic)).ok()?;
    Some(Command {
        idempotency_key: Some(format!("auto_reply:{event_id}")),
        may_create: false,
        on_rejection: RejectionPolicy::Answer,
        ..command
    })
}

fn unavailable_outcome(retry_after: Option<Duration>) -> AttemptOutcome {
    let detail = "the conversation takes no events for now".to_owned();
    AttemptOutcome::TransientFailure {
        failure: AttemptFailure {
            status: None,
            code: UNAVAILABLE,
            detail,
            answer: Bytes::new(),
        },
        retry_after,
    }
}
