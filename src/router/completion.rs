//! The end of an event: its claims are taken or given back, its room too, and who waits is answered.

use tokio::sync::oneshot;

use super::admission::Permit;
use super::claims::{Claim, Taken};
use super::refusal::Refusal;
use crate::entity::{Denial, Outcome};

/// What an event holds until it is answered: its permit, its claims, and who waits.
pub(super) struct Completion {
    pub(super) claim: Option<Claim>,
    pub(super) code: Option<Claim>,
    pub(super) reply: oneshot::Sender<Result<Outcome, Refusal>>,
    pub(super) permit: Permit,
    /// The permit among those of its entity, once that is found.
    pub(super) share: Option<Permit>,
}

impl Completion {
    /// What became of the event is durable: its claims are taken, or given back, before the answer leaves.
    pub(super) fn complete(self, said: Result<Outcome, Denial>) {
        let outcome = match said {
            Ok(outcome) => outcome,
            Err(Denial::Rejected(rejection)) => return self.refuse(Refusal::Rejected(rejection)),
            Err(Denial::Known(answer)) => return self.refuse(Refusal::Known { answer }),
        };
        let taken = Taken { position: outcome.position, sequence: outcome.sequence };
        if let Some(claim) = self.claim {
            claim.take(taken);
        }
        if let Some(code) = self.code {
            // A code is found in the record of the entity that holds it, which comes last.
            code.take(Taken { position: outcome.last, ..taken });
        }
        // The room is given back before the answer, so that whoever reads the answer finds it.
        drop((self.permit, self.share));
        // Nobody waits when the sender has given up.
        let _ = self.reply.send(Ok(outcome));
    }

    pub(super) fn refuse(self, refusal: Refusal) {
        // If its event may be stored, who waits for the key must not take it.
        if refusal != Refusal::Unknown {
            [self.claim, self.code].into_iter().flatten().for_each(Claim::free);
        }
        drop((self.permit, self.share));
        // Nobody waits when the sender has given up.
        let _ = self.reply.send(Err(refusal));
    }
}
