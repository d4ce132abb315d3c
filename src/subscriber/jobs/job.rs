//! A job: its scope, its state and its progress.

use std::collections::BTreeMap;

use super::part::{JobCounts, JobPart};
use crate::event::{Position, Timestamp};
use crate::subscriber::SubscriberId;
use crate::subscriber::dead_letters::DeadLetterFilter;
use crate::subscription::Pattern;

/// Kind of job that an operator requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// Delivers dead letters again that a filter chooses.
    Retry,
    /// Delivers the dead letters of the events of a time again.
    Recover,
    /// Delivers all matching events of a time again.
    Replay,
}

impl JobKind {
    /// All kinds with their names in the API and the store.
    pub const NAMED: [(&'static str, Self); 3] = [
        ("retry", Self::Retry),
        ("recover", Self::Recover),
        ("replay", Self::Replay),
    ];

    /// Name of the kind in the API and the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Recover => "recover",
            Self::Replay => "replay",
        }
    }
}

/// Records that a job delivers again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobScope {
    /// Records of the dead letters that match a filter.
    Letters {
        /// Criteria of the dead letters.
        filter: DeadLetterFilter,
        /// Upper bound of ids, exclusive: dead letters added after the request are not part of it.
        before: u64,
    },
    /// Records of the journal that match the subscriber's interest.
    Records {
        /// Patterns of which an event has to match one; empty for all events.
        patterns: Vec<Pattern>,
        /// Dead letter of a range that the job delivers; it is removed with the end of the job.
        resolves: Option<u64>,
    },
}

/// State of a job, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// No record was handed out yet.
    Pending,
    /// At least one record was handed out.
    Running,
    /// All records of the job are settled.
    Completed,
    /// The job was ended before all records were settled.
    Cancelled {
        /// Reason, if the job was not cancelled by request.
        reason: Option<String>,
    },
}

impl JobState {
    /// Names of all states in the API and the store.
    pub const NAMES: [&'static str; 4] = ["pending", "running", "completed", "cancelled"];

    /// Name of the state in the API and the store.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Cancelled { .. } => "cancelled",
        }
    }

    /// True if the job delivers no more records.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        match self {
            Self::Pending | Self::Running => false,
            Self::Completed | Self::Cancelled { .. } => true,
        }
    }
}

/// A request to deliver records again, and its progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedeliveryJob {
    /// Number of the job, from 1; never reused.
    pub id: u64,
    /// Kind of job that was requested.
    pub kind: JobKind,
    /// Subscriber of all deliveries; `None` if the request named none.
    pub subscriber: Option<SubscriberId>,
    /// Records that the job delivers again.
    pub scope: JobScope,
    /// State of the whole job.
    pub state: JobState,
    /// Time at which the job was created.
    pub created_at: Timestamp,
    /// Time at which a record was settled or the state changed last.
    pub updated_at: Timestamp,
    /// Counts of the parts that have ended.
    pub(crate) ended: JobCounts,
    /// Parts that have not ended, by subscriber.
    pub(crate) parts: BTreeMap<SubscriberId, JobPart>,
}

impl RedeliveryJob {
    /// Counts of all records settled so far.
    #[must_use]
    pub fn total_counts(&self) -> JobCounts {
        self.parts
            .values()
            .map(JobPart::counts)
            .fold(self.ended, JobCounts::add_counts)
    }

    /// Number of all records of the job; `None` until it is known.
    #[must_use]
    pub fn total_records(&self) -> Option<u64> {
        self.parts
            .values()
            .map(JobPart::total_records)
            .try_fold(self.ended.settled_total(), |total, part| {
                Some(total + part?)
            })
    }

    /// Ends the part for `subscriber` and returns the positions that were not settled.
    pub(super) fn end_part(&mut self, subscriber: &SubscriberId) -> Vec<Position> {
        let Some(part) = self.parts.remove(subscriber) else {
            return Vec::new();
        };
        self.ended = self.ended.add_counts(part.counts());
        part.unsettled().collect()
    }
}
