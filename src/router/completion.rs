//! Completion of an event: confirms or releases its claims, frees its permits, and answers its
//! sender.

use tokio::sync::oneshot;

use super::admission::EventPermit;
use super::claims::{ClaimHolder, KeyClaim};
use super::refusal::Refusal;
use crate::entity::{CommandOutcome, UnrecordedOutcome};

/// Claims and permits that an event holds until it is answered, and the channel for the answer.
pub(super) struct EventCompletion {
    pub(super) claim: Option<KeyClaim>,
    pub(super) code: Option<KeyClaim>,
    pub(super) reply: oneshot::Sender<Result<CommandOutcome, Refusal>>,
    pub(super) permit: EventPermit,
    /// Permit from the budget of its entity, acquired by the supervisor.
    pub(super) share: Option<EventPermit>,
}

impl EventCompletion {
    /// Completes an event whose outcome is durable. Claims are settled before the answer leaves, so
    /// that a repetition sent after the answer finds them.
    pub(super) fn complete(self, said: Result<CommandOutcome, UnrecordedOutcome>) {
        let outcome = match said {
            Ok(outcome) => outcome,
            Err(UnrecordedOutcome::Rejected(rejection)) => {
                return self.refuse(Refusal::Rejected(rejection));
            }
            Err(UnrecordedOutcome::AlreadyApplied(answer)) => {
                return self.refuse(Refusal::Known { answer });
            }
        };
        let taken = ClaimHolder {
            position: outcome.position,
            sequence: outcome.sequence,
        };
        if let Some(claim) = self.claim {
            claim.confirm(taken);
        }
        if let Some(code) = self.code {
            // The unique key stands in the record of the spawned entity, which is the last.
            code.confirm(ClaimHolder {
                position: outcome.last,
                ..taken
            });
        }
        // Free the permits before the answer, so that a client that has the answer finds room for
        // its next event.
        drop((self.permit, self.share));
        // The channel is closed if the client disconnected.
        let _ = self.reply.send(Ok(outcome));
    }

    pub(super) fn refuse(self, refusal: Refusal) {
        // After an unknown outcome the event may be stored, so its keys must not be freed for the
        // waiters.
        if refusal != Refusal::Unknown {
            [self.claim, self.code]
                .into_iter()
                .flatten()
                .for_each(KeyClaim::release);
        }
        drop((self.permit, self.share));
        // The channel is closed if the client disconnected.
        let _ = self.reply.send(Err(refusal));
    }
}
