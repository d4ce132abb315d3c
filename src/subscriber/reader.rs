//! Reading the journal for one subscriber: which records of a frame are for it, and which have been
//! owed for too long.

use std::sync::Arc;

use super::OutboundRecord;
use super::delivery::MatchedRecord;
use super::subscriber_set::SubscriberMatcher;
use crate::event::{Position, Record, Timestamp};
use crate::journal::{FrameEntry, Journal, JournalFrame, JournalReadError};
use crate::projection::StoredRecord;
use crate::subscription::InterestMatch;

/// Frames that are read at once where nothing in them is wanted.
const FRAMES_MAX: usize = 32;

/// Deliveries that are not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DroppedRange {
    pub(super) first: Position,
    pub(super) last: Position,
    pub(super) count: u64,
}

impl DroppedRange {
    /// These and `more`.
    pub(super) fn merge(self, more: Self) -> Self {
        let (first, last) = (self.first.min(more.first), self.last.max(more.last));
        Self {
            first,
            last,
            count: self.count + more.count,
        }
    }

    /// `dropped`, if there were any, and that of one record.
    pub(super) fn add_record(dropped: Option<Self>, at: Position) -> Self {
        let one = Self {
            first: at,
            last: at,
            count: 1,
        };
        dropped.map_or(one, |dropped| dropped.merge(one))
    }
}

/// How much a reader has room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct WindowRoom {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

/// What a reader reads for.
#[derive(Clone, Debug)]
pub(super) struct MatchFilter {
    pub(super) matcher: SubscriberMatcher,
    /// What was received before this has been owed for too long.
    pub(super) cutoff: Timestamp,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct MatchedBatch {
    pub(super) items: Vec<MatchedRecord>,
    pub(super) bytes: usize,
    pub(super) dropped: Option<DroppedRange>,
    /// The position after the last record that was looked at.
    pub(super) end: Option<Position>,
}

impl MatchedBatch {
    /// Looks at the records of `frame` from `from` on, until there is no more room.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] at what is no record.
    pub(super) fn scan_frame(
        &mut self,
        frame: &JournalFrame,
        from: Position,
        wanted: &MatchFilter,
        room: WindowRoom,
    ) -> Result<(), JournalReadError> {
        let mut position = from;
        while let Some(entry) = frame.entry(position) {
            if self.items.len() >= room.events || self.bytes >= room.bytes {
                break;
            }
            let item = decode_entry(entry, position)?;
            if let Some(item) = item {
                self.push_if_matched(item, entry.bytes.len(), wanted);
            }
            position = position.plus(1);
            self.end = Some(position);
        }
        Ok(())
    }

    /// Looks at the records of one entity.
    pub(super) fn from_timeline(records: Vec<StoredRecord>, wanted: &MatchFilter) -> Self {
        let mut read = Self::default();
        for StoredRecord {
            position,
            received_at,
            record,
            ..
        } in records
        {
            let (bytes, sequence) = (record.payload.len() + record.change.len(), record.sequence);
            let Some(sequence) = sequence else { continue };
            read.push_if_matched(
                OutboundRecord {
                    position,
                    sequence,
                    received_at,
                    record: Arc::new(record),
                },
                bytes,
                wanted,
            );
        }
        read
    }

    fn push_if_matched(&mut self, item: OutboundRecord, bytes: usize, wanted: &MatchFilter) {
        let broken = match wanted.matcher.match_record(item.position, &item.record) {
            InterestMatch::Unwanted => return,
            InterestMatch::Wanted => None,
            InterestMatch::FilterFailed(reason) => Some(reason),
        };
        if item.received_at < wanted.cutoff {
            self.dropped = Some(DroppedRange::add_record(self.dropped, item.position));
            return;
        }
        self.bytes += bytes;
        self.items.push(MatchedRecord {
            item,
            filter_error: broken,
        });
    }
}

/// The record of `entry`; `None` for one that failed, which is nobody's.
pub(super) fn decode_entry(
    entry: &FrameEntry,
    position: Position,
) -> Result<Option<OutboundRecord>, JournalReadError> {
    let record = Record::decode(&entry.bytes).map_err(|_| JournalReadError::Corrupt(position))?;
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

/// Reads from `from` on, before `end`, until there is no more room or enough was looked at. Blocks.
///
/// # Errors
/// [`ReadError`] when the journal cannot be read.
pub(super) fn read_matching(
    journal: &dyn Journal,
    (from, end): (Position, Position),
    wanted: &MatchFilter,
    room: WindowRoom,
) -> Result<MatchedBatch, JournalReadError> {
    let (mut read, mut position) = (MatchedBatch::default(), from);
    for _ in 0..FRAMES_MAX {
        if position >= end || read.items.len() >= room.events || read.bytes >= room.bytes {
            break;
        }
        let Some(frame) = journal.read_frame_at(position)? else {
            break;
        };
        read.scan_frame(&frame, position, wanted, room)?;
        position = read.end.unwrap_or(position);
    }
    Ok(read)
}
