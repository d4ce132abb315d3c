//! Search of the journal for a time: receive times never go backwards along it.

use super::submission::{Journal, JournalReadError};
use crate::event::{Position, Timestamp};

/// Returns the first position before `end` whose request was received at `time` or later; `end` if
/// there is none. Blocks.
///
/// # Errors
/// [`JournalReadError`] when the journal cannot be read.
pub fn find_position_at(
    journal: &dyn Journal,
    time: Timestamp,
    end: Position,
) -> Result<Position, JournalReadError> {
    let (mut low, mut high) = (journal.start().position.get(), end.get());
    while low < high {
        let middle = Position::new(low + (high - low) / 2);
        let frame = journal.read_frame_at(middle)?;
        let frame = frame.ok_or(JournalReadError::Missing(middle))?;
        // Neighbouring positions mostly share a frame, so the search continues outside the frame.
        let earlier = frame
            .entries
            .partition_point(|entry| entry.received_at < time) as u64;
        match frame.first.get() + earlier {
            first if earlier == 0 => high = first,
            after if after == frame.end().get() => low = after,
            found => return Ok(Position::new(found.min(end.get()))),
        }
    }
    Ok(Position::new(low.min(end.get())))
}
