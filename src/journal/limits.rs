//! Bounds of the journal, from the configuration.

use std::time::Duration;

/// Bounds of the journal's queue, of one commit, and of the time until a sync.
#[derive(Clone, Copy, Debug)]
pub struct JournalLimits {
    /// Submissions that may wait at once. At least the number of admission permits, so that no
    /// admitted event is refused for lack of room.
    pub queue: usize,
    /// Largest number of records in one commit.
    pub commit_records: usize,
    /// Number of bytes at which a commit is full.
    pub commit_bytes: usize,
    /// `None`: settle after the sync. `Some`: settle before the sync, which follows at most this
    /// much later.
    pub sync_interval: Option<Duration>,
    /// Size of a segment file. A larger commit gets a larger file.
    pub segment_bytes: u64,
}
