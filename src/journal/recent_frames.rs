//! Cache of the newest frames of the journal, in decoded form.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::frame::JournalFrame;
use crate::event::Position;

/// Capacity of the cache. Followers that keep up read frames from the cache instead of the store.
const RECENT_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Newest frames, oldest first, with the number of bytes that they occupy.
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

    /// Removes all frames from the cache.
    pub(super) fn clear(&self) {
        *self.0.lock() = <_>::default();
    }

    /// Returns the cached frame that contains `position`.
    pub(super) fn find_frame(&self, position: Position) -> Option<Arc<JournalFrame>> {
        let recent = self.0.lock();
        let after = recent.0.partition_point(|frame| frame.first <= position);
        let frame = recent.0.get(after.checked_sub(1)?)?;
        frame.entry(position).is_some().then(|| Arc::clone(frame))
    }
}
