//! Completion of an event: confirms or releases its claims, frees its permits, and answers its
//! sender.

use prometheus_client::metrics::counter::Counter;
use tokio::sync::oneshot;

use super::admission::EventPermit;
use super::claims::{ClaimHolder, KeyClaim};
use super::refusal::Refusal;
use crate::entity::{CommandOutcome, UnrecordedOutcome};

/// Claims and permits that an event holds until it is answered, and the channel for the answer.
pub(super) struct EventCompletion {
    pub(super) claims: Vec<KeyClaim>,
    pub(super) unique_key_claim: Option<KeyClaim>,
    pub(super) reply: oneshot::Sender<Result<CommandOutcome, Refusal>>,
    pub(super) permit: EventPermit,
    /// Permit from the budget of its entity, acquired by the supervisor.
    pub(super) entity_permit: Option<EventPermit>,
    /// Counter of the accepted events of the event's source.
    pub(super) accepted_events: Counter,
    /// Counter of the events of the source that have a warning, if this one has.
    pub(super) warned_events: Option<Counter>,
}

impl EventCompletion {
    /// Completes an event whose outcome is durable. Claims are settled before the answer leaves, so
    /// that a repetition sent after the answer finds them.
    pub(super) fn complete(self, result: Result<CommandOutcome, UnrecordedOutcome>) {
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(UnrecordedOutcome::Rejected(rejection)) => {
                return self.refuse(Refusal::Rejected(rejection));
            }
            Err(UnrecordedOutcome::AlreadyApplied(answer)) => {
                return self.refuse(Refusal::AlreadyApplied { answer });
            }
        };

        let holder = ClaimHolder {
            position: outcome.position,
            sequence: outcome.sequence,
        };
        for claim in self.claims {
            claim.confirm(holder);
        }
        if let Some(unique_key_claim) = self.unique_key_claim {
            // The unique key stands in the record of the spawned entity, which is the last.
            unique_key_claim.confirm(ClaimHolder {
                position: outcome.last,
                ..holder
            });
        }
        // Free the permits before the answer, so that a client that has the answer finds room for
        // its next event.
        drop((self.permit, self.entity_permit));
        self.accepted_events.inc();
        if let Some(counter) = self.warned_events {
            counter.inc();
        }
        // The channel is closed if the client disconnected.
        let _ = self.reply.send(Ok(outcome));
    }

    pub(super) fn refuse(self, refusal: Refusal) {
        // After an unknown outcome the event may be stored, so its keys must not be freed for the
        // waiters.
        if refusal != Refusal::Unknown {
            self.claims
                .into_iter()
                .chain(self.unique_key_claim)
                .for_each(KeyClaim::release);
        }
        drop((self.permit, self.entity_permit));
        // The channel is closed if the client disconnected.
        let _ = self.reply.send(Err(refusal));
    }
}
