//! What those who ask from outside (by the API) have for the stage to do, until it takes it.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::SubscriberId;
use super::delivery::LaneKey;

/// Something that a subscriber's actor is to be told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Notice {
    /// A job has records for it: ask the jobs for them.
    Work(SubscriberId),
    /// A job was cancelled.
    Cancel {
        /// At whom.
        subscriber: SubscriberId,
        /// Which.
        job: u64,
    },
    /// The dead letter that a lane stands still for was delivered or discarded.
    Released {
        /// Whose lane.
        subscriber: SubscriberId,
        /// Which.
        key: LaneKey,
    },
    /// There is room for dead letters again.
    Room(SubscriberId),
    /// It may answer again: one whose breaker is open is to be tried now.
    Probe(SubscriberId),
}

impl Notice {
    /// Whom it is for.
    #[must_use]
    pub const fn subscriber(&self) -> &SubscriberId {
        match self {
            Self::Work(subscriber)
            | Self::Room(subscriber)
            | Self::Probe(subscriber)
            | Self::Cancel { subscriber, .. }
            | Self::Released { subscriber, .. } => subscriber,
        }
    }
}

/// The notices that nobody has taken yet, each once: no more than there are subscribers, jobs and lanes that stand still.
#[derive(Debug, Default)]
pub struct Notices {
    posted: Mutex<BTreeSet<Notice>>,
    wake: Notify,
}

impl Notices {
    /// Leaves `notice` for the stage.
    pub fn post(&self, notice: Notice) {
        self.posted.lock().insert(notice);
        self.wake.notify_one();
    }

    /// Waits until there are notices, and takes them. For one at a time.
    pub async fn taken(&self) -> BTreeSet<Notice> {
        loop {
            let taken = self.take();
            if !taken.is_empty() {
                return taken;
            }
            self.wake.notified().await;
        }
    }

    /// Takes what there is.
    #[must_use]
    pub fn take(&self) -> BTreeSet<Notice> {
        std::mem::take(&mut *self.posted.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_notice_waits_for_its_taker_and_is_told_once() {
        let notices = Notices::default();
        let work = Notice::Work(SubscriberId::Webhook(4));
        notices.post(work.clone());
        notices.post(work.clone());
        notices.post(Notice::Room(SubscriberId::AutoReply));
        assert_eq!(notices.taken().await, BTreeSet::from([work, Notice::Room(SubscriberId::AutoReply)]));
        assert!(notices.take().is_empty());
    }
}
