//! A job: what is to be delivered again, and how far that is.

use std::collections::BTreeMap;

use super::part::{JobCounts, JobPart};
use crate::event::{Position, Timestamp};
use crate::subscriber::SubscriberId;
use crate::subscriber::dead_letters::Filter;
use crate::subscription::Pattern;

/// What somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// Dead letters.
    Retry,
    /// What failed of a time: the dead letters of its events.
    Recover,
    /// All wanted events of a time.
    Replay,
}

impl JobKind {
    /// Every kind with its name.
    pub const NAMED: [(&'static str, Self); 3] = [
        ("retry", Self::Retry),
        ("recover", Self::Recover),
        ("replay", Self::Replay),
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Recover => "recover",
            Self::Replay => "replay",
        }
    }
}

/// What is to be delivered again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobScope {
    /// Dead letters.
    Letters {
        /// Which.
        filter: Filter,
        /// Of those that are numbered before this: later ones are not what was meant.
        before: u64,
    },
    /// What a subscriber wants of a part of the journal.
    Records {
        /// Received at this moment or later, if that was asked for.
        since: Option<Timestamp>,
        /// Received before this moment, if that was asked for.
        until: Option<Timestamp>,
        /// Only events that one of these admits; without any, all.
        patterns: Vec<Pattern>,
        /// The dead letter about many events that is dealt with by this.
        resolves: Option<u64>,
    },
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Nothing of it was handed out yet.
    Pending,
    /// Something was.
    Running,
    /// Everything is settled.
    Completed,
    /// It was given up.
    Cancelled {
        /// Why, if nobody asked for it.
        reason: Option<String>,
    },
}

impl JobState {
    /// The names of all states.
    pub const NAMES: [&'static str; 4] = ["pending", "running", "completed", "cancelled"];

    /// Its name.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Cancelled { .. } => "cancelled",
        }
    }

    /// Whether nothing more comes of it.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        match self {
            Self::Pending | Self::Running => false,
            Self::Completed | Self::Cancelled { .. } => true,
        }
    }
}

/// One job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryJob {
    /// Its number, from 1, never used twice.
    pub id: u64,
    /// What somebody asked for.
    pub kind: JobKind,
    /// Whose deliveries, if they are all one subscriber's.
    pub subscriber: Option<SubscriberId>,
    /// What is to be delivered again.
    pub scope: JobScope,
    /// How far it is.
    pub state: JobState,
    /// When it was made.
    pub created_at: Timestamp,
    /// When something of it was settled last, or its state changed.
    pub updated_at: Timestamp,
    /// What became of the parts that are over.
    pub(crate) ended: JobCounts,
    /// What is to be done, by subscriber.
    pub(crate) parts: BTreeMap<SubscriberId, JobPart>,
}

impl RecoveryJob {
    /// What became of its records so far.
    #[must_use]
    pub fn total_counts(&self) -> JobCounts {
        self.parts
            .values()
            .map(JobPart::counts)
            .fold(self.ended, JobCounts::add_counts)
    }

    /// How many records it has in all, once that is known.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        self.parts
            .values()
            .map(JobPart::total)
            .try_fold(self.ended.settled_total(), |total, part| {
                Some(total + part?)
            })
    }

    /// Ends what it does at `subscriber`; gives the records that were not settled.
    pub(super) fn end_part(&mut self, subscriber: &SubscriberId) -> Vec<Position> {
        let Some(part) = self.parts.remove(subscriber) else {
            return Vec::new();
        };
        self.ended = self.ended.add_counts(part.counts());
        part.unsettled().collect()
    }
}
