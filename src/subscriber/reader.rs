//! Reading the journal for one subscriber: which records of a frame are for it, and which have been owed for too long.

use std::sync::Arc;

use super::Item;
use super::delivery::Met;
use super::roster::Judge;
use crate::event::{Position, Record, Timestamp};
use crate::journal::{Entry, Frame, Journal, ReadError};
use crate::projection::Stored;
use crate::subscription::Judgement;

/// Frames that are read at once where nothing in them is wanted.
const FRAMES_MAX: usize = 32;

/// Deliveries that are not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) first: Position,
    pub(super) last: Position,
    pub(super) count: u64,
}

impl Dropped {
    /// These and `more`.
    pub(super) fn and(self, more: Self) -> Self {
        let (first, last) = (self.first.min(more.first), self.last.max(more.last));
        Self { first, last, count: self.count + more.count }
    }

    /// `dropped`, if there were any, and that of one record.
    pub(super) fn one_more(dropped: Option<Self>, at: Position) -> Self {
        let one = Self { first: at, last: at, count: 1 };
        dropped.map_or(one, |dropped| dropped.and(one))
    }
}

/// How much a reader has room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

/// What a reader reads for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) judge: Judge,
    /// What was received before this has been owed for too long.
    pub(super) cutoff: Timestamp,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) items: Vec<Met>,
    pub(super) bytes: usize,
    pub(super) dropped: Option<Dropped>,
    /// The position after the last record that was looked at.
    pub(super) end: Option<Position>,
}

impl Read {
    /// Looks at the records of `frame` from `from` on, until there is no more room.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] at what is no record.
    pub(super) fn look(&mut self, frame: &Frame, from: Position, wanted: &Wanted, room: Room) -> Result<(), ReadError> {
        let mut position = from;
        while let Some(entry) = frame.entry(position) {
            if self.items.len() >= room.events || self.bytes >= room.bytes {
                break;
            }
            let item = decode(entry, position)?;
            if let Some(item) = item {
                self.judge(item, entry.bytes.len(), wanted);
            }
            position = position.plus(1);
            self.end = Some(position);
        }
        Ok(())
    }

    /// Looks at the records of one entity.
    pub(super) fn of_timeline(records: Vec<Stored>, wanted: &Wanted) -> Self {
        let mut read = Self::default();
        for Stored { position, received_at, record, .. } in records {
            let (bytes, sequence) = (record.payload.len() + record.change.len(), record.sequence);
            let Some(sequence) = sequence else { continue };
            read.judge(Item { position, sequence, received_at, record: Arc::new(record) }, bytes, wanted);
        }
        read
    }

    fn judge(&mut self, item: Item, bytes: usize, wanted: &Wanted) {
        let broken = match wanted.judge.judge(item.position, &item.record) {
            Judgement::Unwanted => return,
            Judgement::Wanted => None,
            Judgement::Broken(reason) => Some(reason),
        };
        if item.received_at < wanted.cutoff {
            self.dropped = Some(Dropped::one_more(self.dropped, item.position));
            return;
        }
        self.bytes += bytes;
        self.items.push(Met { item, broken });
    }
}

/// The record of `entry`; `None` for one that failed, which is nobody's.
pub(super) fn decode(entry: &Entry, position: Position) -> Result<Option<Item>, ReadError> {
    let record = Record::decode(&entry.bytes).map_err(|_| ReadError::Corrupt(position))?;
    let Some(sequence) = record.sequence else { return Ok(None) };
    Ok(Some(Item { position, sequence, received_at: entry.received_at, record: Arc::new(record) }))
}

/// Reads from `from` on, before `end`, until there is no more room or enough was looked at. Blocks.
///
/// # Errors
/// [`ReadError`] when the journal cannot be read.
pub(super) fn read(
    journal: &dyn Journal,
    (from, end): (Position, Position),
    wanted: &Wanted,
    room: Room,
) -> Result<Read, ReadError> {
    let (mut read, mut position) = (Read::default(), from);
    for _ in 0..FRAMES_MAX {
        if position >= end || read.items.len() >= room.events || read.bytes >= room.bytes {
            break;
        }
        let Some(frame) = journal.read(position)? else { break };
        read.look(&frame, position, wanted, room)?;
        position = read.end.unwrap_or(position);
    }
    Ok(read)
}
