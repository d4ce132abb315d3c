//! Attempts that wait for their time or are under way.

use super::breaker::{BreakerPass, DeliveryBreakerState};
use super::identifiers::LaneKey;

/// Origin of an attempt: lane or job.
#[derive(Clone, Debug)]
pub(super) enum AttemptSource {
    /// The head of a lane.
    Lane(LaneKey),
    /// A record of a job, by its number in the replay queue.
    Replay(u64),
}

/// An attempt under way, or waiting for a permit.
#[derive(Clone, Debug)]
pub(super) struct RunningAttempt {
    pub(super) source: AttemptSource,
    /// Lane in which no other attempt may run meanwhile.
    pub(super) key: LaneKey,
    pub(super) pass: BreakerPass,
}

impl RunningAttempt {
    /// True if the breaker still lets the attempt through.
    pub(super) fn can_begin(&self, breaker: DeliveryBreakerState) -> bool {
        match self.pass {
            BreakerPass::Ordinary => breaker == DeliveryBreakerState::Closed,
            BreakerPass::Probe => true,
        }
    }
}
