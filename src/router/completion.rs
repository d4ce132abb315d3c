//! The end of an event: its claims are taken or given back, its room too, and who waits is
//! answered.

use tokio::sync::oneshot;

use super::admission::EventPermit;
use super::claims::{ClaimHolder, KeyClaim};
use super::refusal::Refusal;
use crate::entity::{CommandOutcome, UnrecordedOutcome};

/// What an event holds until it is answered: its permit, its claims, and who waits.
pub(super) struct EventCompletion {
    pub(super) claim: Option<KeyClaim>,
    pub(super) code: Option<KeyClaim>,
    pub(super) reply: oneshot::Sender<Result<CommandOutcome, Refusal>>,
    pub(super) permit: EventPermit,
    /// The permit among those of its entity, once that is found.
    pub(super) share: Option<EventPermit>,
}

impl EventCompletion {
    /// What became of the event is durable: its claims are taken, or given back, before the answer
    /// leaves.
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
            // A code is found in the record of the entity that holds it, which comes last.
            code.confirm(ClaimHolder {
                position: outcome.last,
                ..taken
            });
        }
        // The room is given back before the answer, so that whoever reads the answer finds it.
        drop((self.permit, self.share));
        // Nobody waits when the sender has given up.
        let _ = self.reply.send(Ok(outcome));
    }

    pub(super) fn refuse(self, refusal: Refusal) {
        // If its event may be stored, who waits for the key must not take it.
        if refusal != Refusal::Unknown {
            [self.claim, self.code]
                .into_iter()
                .flatten()
                .for_each(KeyClaim::release);
        }
        drop((self.permit, self.share));
        // Nobody waits when the sender has given up.
        let _ = self.reply.send(Err(refusal));
    }
}
