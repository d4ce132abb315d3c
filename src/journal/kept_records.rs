//! Records that are still needed although their segments are removed.

use std::error::Error;

use super::frame::JournalFrame;
use crate::event::Position;

/// Error of the storage that has the kept records.
pub type KeptRecordError = Box<dyn Error + Send + Sync>;

/// Storage of kept records, which the journal serves as if they were still in a segment.
pub trait KeptRecords: Send + Sync {
    /// Returns the kept record at `position` as a frame of its own; `None` if it was not kept.
    ///
    /// # Errors
    /// [`KeptRecordError`] when the storage cannot be read.
    fn find_kept_record(&self, position: Position)
    -> Result<Option<JournalFrame>, KeptRecordError>;
}
