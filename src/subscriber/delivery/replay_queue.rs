//! Records that jobs deliver again: each waits by itself, outside the lanes' queues, and takes its
//! lane's slot for an attempt only. So a job delays no entity for longer than an attempt, and no
//! entity ever has two under way.

use std::collections::HashMap;

use super::retry::AttemptHistory;
use super::{ReplayItem, ReplayTag};

/// One of them.
#[derive(Debug)]
pub(super) struct PendingReplay {
    pub(super) replay: ReplayItem,
    pub(super) tries: AttemptHistory,
    pub(super) is_running: bool,
    /// Whether nobody wants it any more once the attempt under way has ended.
    pub(super) is_cancelled: bool,
}

/// All of them, by number.
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
            tries: AttemptHistory::default(),
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

    /// Drops what of a job is not under way.
    pub(super) fn cancel_job(&mut self, job: u64) {
        self.pending.retain(|_, pending| {
            let is_meant = pending.replay.tag.job == job;
            pending.is_cancelled |= is_meant;
            !is_meant || pending.is_running
        });
    }

    /// Forgets all of them.
    pub(super) fn abandon(&mut self) -> Vec<ReplayTag> {
        let mut tags: Vec<_> = self
            .pending
            .drain()
            .filter(|(_, pending)| !pending.is_cancelled)
            .map(|(_, p)| p.replay.tag)
            .collect();
        tags.sort_by_key(|tag| (tag.job, tag.position));
        tags
    }
}
