//! Requests of the admin API, the dead letters and the jobs to the delivery stage.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::delivery::LaneKey;
use super::subscriber_id::SubscriberId;
use crate::event::Position;

/// Request to the actor of one subscriber.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StageRequest {
    /// A job has records for this subscriber; fetch them.
    ReplaysAvailable(SubscriberId),
    /// The job with this id was cancelled.
    JobCancelled { subscriber: SubscriberId, job: u64 },
    /// The dead letter that halted this lane was delivered or discarded.
    LaneReleased {
        subscriber: SubscriberId,
        key: LaneKey,
    },
    /// This subscriber has room for dead letters again.
    DeadLetterRoom(SubscriberId),
    /// The records before this position are about to be removed from the journal, and are older
    /// than deliveries are held.
    ExpireBefore {
        subscriber: SubscriberId,
        position: Position,
    },
    /// This subscriber, which reads its events itself, has all of them before this position.
    Acknowledged {
        subscriber: SubscriberId,
        position: Position,
    },
    /// This subscriber was seen to answer, or an operator asks to try it now.
    RepairNoticed(SubscriberId),
}

impl StageRequest {
    pub(super) const fn subscriber(&self) -> &SubscriberId {
        match self {
            Self::ReplaysAvailable(subscriber)
            | Self::DeadLetterRoom(subscriber)
            | Self::RepairNoticed(subscriber)
            | Self::JobCancelled { subscriber, .. }
            | Self::LaneReleased { subscriber, .. }
            | Self::Acknowledged { subscriber, .. }
            | Self::ExpireBefore { subscriber, .. } => subscriber,
        }
    }
}

/// Set of pending requests. Equal requests merge, so their number is bounded by that of
/// subscribers, jobs and halted lanes.
#[derive(Debug, Default)]
pub(crate) struct StageRequestQueue {
    pending: Mutex<BTreeSet<StageRequest>>,
    wake: Notify,
}

impl StageRequestQueue {
    /// Adds a request and wakes the dispatcher.
    pub(super) fn post(&self, request: StageRequest) {
        self.pending.lock().insert(request);
        self.wake.notify_one();
    }

    /// Waits until there are requests and takes them all. For a single consumer.
    pub(super) async fn next_batch(&self) -> BTreeSet<StageRequest> {
        loop {
            let batch = self.take_all();
            if !batch.is_empty() {
                return batch;
            }
            self.wake.notified().await;
        }
    }

    pub(super) fn take_all(&self) -> BTreeSet<StageRequest> {
        std::mem::take(&mut *self.pending.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn equal_requests_are_delivered_once() {
        let requests = StageRequestQueue::default();
        let replays = StageRequest::ReplaysAvailable(SubscriberId::Webhook(4));
        let room = StageRequest::DeadLetterRoom(SubscriberId::AutoReply);
        requests.post(replays.clone());
        requests.post(replays.clone());
        requests.post(room.clone());
        assert_eq!(requests.next_batch().await, BTreeSet::from([replays, room]));
        assert!(requests.take_all().is_empty());
    }
}
