//! Requests of the admin API, the dead letters and the jobs to the delivery stage.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::delivery::LaneKey;
use super::subscriber_id::SubscriberId;
use crate::event::Position;

/// Notice or wish that the stage acts on; the queue keeps it with its subscriber.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StageRequest {
    /// A job has records for the subscriber; fetch them.
    ReplaysAvailable,
    /// The job with this id was cancelled.
    JobCancelled(u64),
    /// The dead letter that halted this lane was delivered or discarded.
    LaneReleased(LaneKey),
    /// The records before this position are about to be removed from the journal, and are older
    /// than deliveries are held.
    ExpireBefore(Position),
    /// The subscriber, which reads its events itself, has all of them before this position.
    Acknowledged(Position),
    /// The subscriber was seen to answer, or an operator asks to try it now.
    RepairNoticed,
}

/// Pending requests, each with its subscriber.
pub(super) type StageRequests = BTreeSet<(SubscriberId, StageRequest)>;

/// Set of pending requests. Equal requests merge, so their number is bounded by that of
/// subscribers, jobs and halted lanes.
#[derive(Debug, Default)]
pub(crate) struct StageRequestQueue {
    pending: Mutex<StageRequests>,
    wake: Notify,
}

impl StageRequestQueue {
    /// Adds a request and wakes the dispatcher.
    pub(super) fn post(&self, subscriber: &SubscriberId, request: StageRequest) {
        self.pending.lock().insert((subscriber.clone(), request));
        self.wake.notify_one();
    }

    /// Waits until there are requests and takes them all. For a single consumer.
    pub(super) async fn next_batch(&self) -> StageRequests {
        loop {
            let batch = self.take_all();
            if !batch.is_empty() {
                return batch;
            }
            self.wake.notified().await;
        }
    }

    pub(super) fn take_all(&self) -> StageRequests {
        std::mem::take(&mut *self.pending.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn equal_requests_are_delivered_once() {
        let requests = StageRequestQueue::default();
        let (one, other) = (SubscriberId::Webhook(4), SubscriberId::AutoReply);
        requests.post(&one, StageRequest::ReplaysAvailable);
        requests.post(&one, StageRequest::ReplaysAvailable);
        requests.post(&other, StageRequest::RepairNoticed);
        let expected = [
            (one, StageRequest::ReplaysAvailable),
            (other, StageRequest::RepairNoticed),
        ];
        assert_eq!(requests.next_batch().await, BTreeSet::from(expected));
        assert!(requests.take_all().is_empty());
    }
}
