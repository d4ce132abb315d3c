//! Queue of the records that jobs deliver again. Each record waits outside the lanes' queues and
//! occupies its lane only during an attempt. So a job delays an entity by at most one attempt, and
//! an entity never has two attempts under way.

use std::collections::HashMap;

use super::input::ReplayItem;
use super::retry::AttemptHistory;

/// A job's record that is not settled.
#[derive(Debug)]
pub(super) struct PendingReplay {
    pub(super) replay: ReplayItem,
    pub(super) history: AttemptHistory,
    pub(super) is_running: bool,
    /// True if the job was cancelled during the attempt, whose outcome is then ignored.
    pub(super) is_cancelled: bool,
}

/// Unsettled records of all jobs, by number.
#[derive(Debug, Default)]
pub(super) struct ReplayQueue {
    pending: HashMap<u64, PendingReplay>,
    last: u64,
}

impl ReplayQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn add(&mut self, replay: ReplayItem) -> u64 {
        self.last += 1;
        let pending = PendingReplay {
            replay,
            history: AttemptHistory::default(),
            is_running: false,
            is_cancelled: false,
        };
        self.pending.insert(self.last, pending);
        self.last
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut PendingReplay> {
        self.pending.get_mut(&number)
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<PendingReplay> {
        self.pending.remove(&number)
    }

    /// Drops the records of `job` that are not under way.
    pub(super) fn cancel_job(&mut self, job: u64) {
        self.pending.retain(|_, pending| {
            let is_of_job = pending.replay.tag.job == job;
            pending.is_cancelled |= is_of_job;
            !is_of_job || pending.is_running
        });
    }
}
