//! Matching of journal records for one subscriber: selects records by their names. The filter decides
//! later, and then those that have expired are dropped.

use std::sync::Arc;

use super::delivery::MatchedRecord;
use super::missed_records::MissedRecords;
use super::outbound_record::OutboundRecord;
use super::subscriber_set::SubscriberMatcher;
use crate::event::{Position, Record, Timestamp};
use crate::journal::{FrameEntry, Journal, JournalFrame, JournalReadError};
use crate::projection::StoredRecord;

/// Frames read in one go when none of their records match.
const FRAMES_MAX: usize = 32;

/// Room for records in a subscriber's window.
#[derive(Clone, Copy, Debug)]
pub(super) struct WindowRoom {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

/// Matched records of a part of the journal or of a timeline.
#[derive(Debug, Default)]
pub(super) struct MatchedBatch {
    pub(super) items: Vec<MatchedRecord>,
    pub(super) bytes: usize,
    /// Position after the last record that was matched; `None` if there was none.
    pub(super) end: Option<Position>,
}

impl MatchedBatch {
    /// Matches the records of `frame` from position `from` on, until `room` is used up.
    ///
    /// # Errors
    /// [`JournalReadError::Missing`] for an entry that is no record.
    pub(super) fn scan_frame(
        &mut self,
        frame: &JournalFrame,
        from: Position,
        matcher: &SubscriberMatcher,
        room: WindowRoom,
    ) -> Result<(), JournalReadError> {
        let mut position = from;
        while let Some(entry) = frame.entry(position) {
            if self.items.len() >= room.events || self.bytes >= room.bytes {
                break;
            }
            if let Some(item) = decode_entry(entry, position)? {
                self.push_if_matched(item, entry.bytes.len(), matcher);
            }
            position = position.plus(1);
            self.end = Some(position);
        }
        Ok(())
    }

    /// Matches a page of one entity's timeline.
    pub(super) fn from_timeline(records: Vec<StoredRecord>, matcher: &SubscriberMatcher) -> Self {
        let mut batch = Self::default();
        for StoredRecord {
            position,
            received_at,
            record,
            ..
        } in records
        {
            let (bytes, sequence) = (record.payload.len() + record.change.len(), record.sequence);
            let Some(sequence) = sequence else { continue };
            batch.push_if_matched(
                OutboundRecord {
                    position,
                    sequence,
                    received_at,
                    record: Arc::new(record),
                },
                bytes,
                matcher,
            );
        }
        batch
    }

    fn push_if_matched(&mut self, item: OutboundRecord, bytes: usize, matcher: &SubscriberMatcher) {
        if matcher.admits(item.position, &item.record) {
            self.bytes += bytes;
            self.items.push(MatchedRecord {
                item,
                filter_error: None,
            });
        }
    }
}

/// Takes the records that were received before `cutoff`, and have expired, out of `items`.
pub(super) fn take_expired(items: &mut Vec<MatchedRecord>, cutoff: Timestamp) -> MissedRecords {
    let (mut missed, mut is_in_gap) = (MissedRecords::default(), false);
    items.retain(|matched| {
        let is_expired = matched.item.received_at < cutoff;
        if is_expired {
            missed.push(matched.item.position, is_in_gap);
        }
        is_in_gap = is_expired;
        !is_expired
    });
    missed
}

/// Decodes the record of `entry`; `None` for a record without a number, which is for no subscriber.
pub(super) fn decode_entry(
    entry: &FrameEntry,
    position: Position,
) -> Result<Option<OutboundRecord>, JournalReadError> {
    let record = Record::decode(&entry.bytes).map_err(|_| JournalReadError::Missing(position))?;
    let Some(sequence) = record.sequence else {
        return Ok(None);
    };
    Ok(Some(OutboundRecord {
        position,
        sequence,
        received_at: entry.received_at,
        record: Arc::new(record),
    }))
}

/// Matches the journal's records from `from` on, until `end`, the end of the room or the bound of
/// frames. Blocks.
///
/// # Errors
/// [`JournalReadError`] when the journal cannot be read.
pub(super) fn read_matching(
    journal: &dyn Journal,
    (from, end): (Position, Position),
    matcher: &SubscriberMatcher,
    room: WindowRoom,
) -> Result<MatchedBatch, JournalReadError> {
    let (mut batch, mut position) = (MatchedBatch::default(), from);
    // Retention waits for every cursor, so nothing is skipped but what a new subscription asks for.
    position = position.max(journal.start().position);
    batch.end = (position > from).then_some(position);
    for _ in 0..FRAMES_MAX {
        if position >= end || batch.items.len() >= room.events || batch.bytes >= room.bytes {
            break;
        }
        let Some(frame) = journal.read_frame_at(position)? else {
            break;
        };
        batch.scan_frame(&frame, position, matcher, room)?;
        position = batch.end.unwrap_or(position);
    }
    Ok(batch)
}
