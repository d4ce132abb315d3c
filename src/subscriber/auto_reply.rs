//! The attempt at an automatic reply: not a call but a command to the conversation, which decides whether it is sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tracing::debug;

use super::accounts::Recipients;
use super::attempt::Outcome;
use super::{Failure, Item};
use crate::entity::conversation::{Automatic, Incoming, Reply};
use crate::entity::{Command, OnRefusal};
use crate::event::EventId;
use crate::router::{Refusal, Router};

/// The code of an attempt that the node itself had no room for.
const UNAVAILABLE: &str = "unavailable";

/// Asks for the automatic reply to `item`, whose event is `event_id`. Asked for twice it is made once.
pub async fn attempt(router: &Router, recipients: &Recipients, event_id: EventId, item: &Item) -> Outcome {
    // An account that is gone by now, or has no text any more, has nothing to say.
    let Some(command) = command(recipients, event_id, item) else { return Outcome::Accepted };
    match router.submit(command).await {
        Ok(_) | Err(Refusal::Duplicate { .. } | Refusal::Known { .. }) => Outcome::Accepted,
        Err(Refusal::Rejected(rejection)) => {
            debug!(%event_id, code = rejection.code, "no automatic reply");
            Outcome::Accepted
        }
        Err(Refusal::Overloaded | Refusal::Unknown) => unavailable(None),
        Err(Refusal::Quarantined { retry_after }) => unavailable(Some(retry_after)),
    }
}

fn command(recipients: &Recipients, event_id: EventId, item: &Item) -> Option<Command> {
    let message = Incoming::read(&item.record)?;
    let (account, auto_reply) = recipients.auto_reply(&message)?;
    let reply = Reply {
        account_id: account.id.clone(),
        recipient_id: message.sender_id.to_string(),
        text: auto_reply.text.clone(),
        is_automatic: true,
    };
    let automatic = Automatic { message_id: Arc::clone(&message.message_id), cooldown: auto_reply.cooldown };
    let command = reply.command(&message.business, Some(automatic)).ok()?;
    Some(Command {
        idempotency_key: Some(format!("auto_reply:{event_id}")),
        may_create: false,
        refusal: OnRefusal::Answer,
        ..command
    })
}

fn unavailable(retry_after: Option<Duration>) -> Outcome {
    let detail = "the conversation takes no events for now".to_owned();
    Outcome::Failed { failure: Failure { status: None, code: UNAVAILABLE, detail, answer: Bytes::new() }, retry_after }
}
