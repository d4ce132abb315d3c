//! What those who ask from outside (by the API) have for the stage to do, until it takes it.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::SubscriberId;
use super::delivery::LaneKey;

/// Something that a subscriber's actor is to be told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StageRequest {
    /// A job has records for it: ask the jobs for them.
    ReplaysAvailable(SubscriberId),
    /// A job was cancelled.
    JobCancelled {
        /// At whom.
        subscriber: SubscriberId,
        /// Which.
        job: u64,
    },
    /// The dead letter that a lane stands still for was delivered or discarded.
    LaneReleased {
        /// Whose lane.
        subscriber: SubscriberId,
        /// Which.
        key: LaneKey,
    },
    /// There is room for dead letters again.
    DeadLetterRoom(SubscriberId),
    /// It may answer again: one whose breaker is open is to be tried now.
    Probe(SubscriberId),
}

impl StageRequest {
    /// Whom it is for.
    #[must_use]
    pub const fn subscriber(&self) -> &SubscriberId {
        match self {
            Self::ReplaysAvailable(subscriber)
            | Self::DeadLetterRoom(subscriber)
            | Self::Probe(subscriber)
            | Self::JobCancelled { subscriber, .. }
            | Self::LaneReleased { subscriber, .. } => subscriber,
        }
    }
}

/// The notices that nobody has taken yet, each once: no more than there are subscribers, jobs and
/// lanes that stand still.
#[derive(Debug, Default)]
pub struct StageRequestQueue {
    pending: Mutex<BTreeSet<StageRequest>>,
    wake: Notify,
}

impl StageRequestQueue {
    /// Leaves `notice` for the stage.
    pub fn post(&self, notice: StageRequest) {
        self.pending.lock().insert(notice);
        self.wake.notify_one();
    }

    /// Waits until there are notices, and takes them. For one at a time.
    pub async fn next_batch(&self) -> BTreeSet<StageRequest> {
        loop {
            let taken = self.take_all();
            if !taken.is_empty() {
                return taken;
            }
            self.wake.notified().await;
        }
    }

    /// Takes what there is.
    #[must_use]
    pub fn take_all(&self) -> BTreeSet<StageRequest> {
        std::mem::take(&mut *self.pending.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_notice_waits_for_its_taker_and_is_told_once() {
        let notices = StageRequestQueue::default();
        let work = StageRequest::ReplaysAvailable(SubscriberId::Webhook(4));
        notices.post(work.clone());
        notices.post(work.clone());
        notices.post(StageRequest::DeadLetterRoom(SubscriberId::AutoReply));
        assert_eq!(
            notices.next_batch().await,
            BTreeSet::from([work, StageRequest::DeadLetterRoom(SubscriberId::AutoReply)])
        );
        assert!(notices.take_all().is_empty());
    }
}
