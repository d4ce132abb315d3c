//! Bounds of the journal, and its newest frames in memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::frame::JournalFrame;
use crate::event::Position;

/// Bounds of the journal, from the configuration.
#[derive(Clone, Copy, Debug)]
pub struct JournalLimits {
    /// Submissions that may wait at once. At least the number of admission permits, so that nothing
    /// admitted is refused.
    pub queue: usize,
    /// The most records of one commit.
    pub commit_records: usize,
    /// The most bytes of one commit.
    pub commit_bytes: usize,
    /// `None`: settle after the sync. `Some`: settle at once, sync at most this much later.
    pub sync_interval: Option<Duration>,
}

/// Decoded frames that followers are about to read, so that they need not be read back from the
/// store.
const RECENT_MAX_BYTES: usize = 4 * 1024 * 1024;

/// The newest frames, decoded, up to a number of bytes.
#[derive(Default)]
pub(super) struct RecentFrames(Mutex<(VecDeque<Arc<JournalFrame>>, usize)>);

impl RecentFrames {
    pub(super) fn push(&self, frames: Vec<JournalFrame>) {
        let mut recent = self.0.lock();
        let (queue, bytes) = &mut *recent;
        for frame in frames {
            *bytes += frame.memory_bytes();
            queue.push_back(Arc::new(frame));
        }
        while *bytes > RECENT_MAX_BYTES {
            let Some(oldest) = queue.pop_front() else {
                break;
            };
            *bytes -= oldest.memory_bytes();
        }
    }

    pub(super) fn find_frame(&self, position: Position) -> Option<Arc<JournalFrame>> {
        let recent = self.0.lock();
        let after = recent.0.partition_point(|frame| frame.first <= position);
        let frame = recent.0.get(after.checked_sub(1)?)?;
        frame.entry(position).is_some().then(|| Arc::clone(frame))
    }
}
