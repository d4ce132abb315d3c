//! Attempts at automatic replies: not an HTTP call, but a command to the conversation, which decides
//! if the reply is sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tracing::debug;

use super::accounts::AccountRecipients;
use super::attempt::AttemptOutcome;
use super::attempt_failure::AttemptFailure;
use super::outbound_record::OutboundRecord;
use crate::entity::conversation::{AutomaticReply, ConversationReply, IncomingMessage};
use crate::entity::{Command, RejectionPolicy};
use crate::event::EventId;
use crate::router::{Refusal, Router};

/// Failure code of an attempt for which the node itself had no room.
const UNAVAILABLE: &str = "unavailable";

/// Requests the automatic reply to `item`. The idempotency key derives from `event_id`, so a
/// repeated attempt makes no second reply.
pub(super) async fn attempt_auto_reply(
    router: &Router,
    recipients: &AccountRecipients,
    event_id: EventId,
    item: &OutboundRecord,
) -> AttemptOutcome {
    // The account may have been deleted by now, or its text removed.
    let Some(command) = build_reply_command(recipients, event_id, item) else {
        return AttemptOutcome::Accepted;
    };

    match router.submit_command(command).await {
        Ok(_)
        | Err(
            Refusal::Duplicate { .. }
            | Refusal::KeyReused { .. }
            | Refusal::OtherReading
            | Refusal::AlreadyApplied { .. },
        ) => AttemptOutcome::Accepted,
        Err(Refusal::Rejected(rejection)) => {
            debug!(%event_id, code = rejection.code, "automatic reply not sent");
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
    let detail = "the conversation accepts no events at present".to_owned();
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
