//! Reading what a job delivers again: records of the journal, a page at a time. Everything here blocks.

use std::sync::Arc;

use super::part::Step;
use crate::event::{Position, Record, Timestamp};
use crate::journal::{Frame, Journal, ReadError};
use crate::subscriber::Item;
use crate::subscriber::dead_letters::{Cause, Filter};
use crate::subscription::{Interest, Judgement, Pattern, pattern::is_own};

/// Frames that one step looks through at most, so that the thread is given to others between steps.
const FRAMES_MAX: usize = 64;

/// What a step found.
#[derive(Debug)]
pub(super) struct Read {
    /// What is to be delivered.
    pub(super) wanted: Vec<Item>,
    /// What may be, but the filter cannot say so, and why.
    pub(super) broken: Vec<(Item, String)>,
    /// Dead letters of what is not wanted any more.
    pub(super) unwanted: Vec<Position>,
    /// Everything before it was looked at.
    pub(super) read_to: Position,
    /// Of all records.
    bytes: usize,
}

/// What a replay delivers again.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    interest: Interest,
    patterns: Vec<Pattern>,
}

impl Wanted {
    /// What of `interest` one of `patterns` admits. Where the subscription begins does not matter: who asks for a time that
    /// lies before it wants what happened then.
    pub(super) fn new(interest: &Interest, patterns: Vec<Pattern>) -> Self {
        Self { interest: Interest { from: Position::FIRST, ..interest.clone() }, patterns }
    }

    fn judge(&self, item: &Item) -> Judgement {
        let record = &item.record;
        let admits = |pattern: &Pattern| pattern.admits(record.entity.kind(), &record.event_type, is_own(record));
        if self.patterns.is_empty() || self.patterns.iter().any(admits) {
            self.interest.judge(item.position, record)
        } else {
            Judgement::Unwanted
        }
    }
}

/// What is read for one step.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// What is wanted of a part of the journal.
    Records(Wanted),
    /// Dead letters.
    Letters {
        /// Where the records stand of those that the step is about, and why they are dead letters.
        found: Vec<(Position, Cause)>,
        /// There is none further before it.
        read_to: Position,
        /// Which of them are asked for.
        filter: Filter,
        /// What their subscriber is interested in now.
        interest: Interest,
    },
}

/// Does `step` of a job, up to the record with which it would have more than `bytes_max` bytes, but with one at least.
///
/// # Errors
/// Those of the journal.
pub(super) fn read(journal: &dyn Journal, step: &Step, what: &What, bytes_max: usize) -> Result<Read, ReadError> {
    let mut pages = Pages::new(journal);
    match (step, what) {
        // They were wanted once; whether they are still is not asked again, as it is not of a delivery under way.
        (Step::Again(positions), What::Records(_)) => pages.items(positions.iter().copied(), bytes_max),
        (Step::Again(_), What::Letters { found, .. }) => {
            pages.items(found.iter().map(|(position, _)| *position), bytes_max)
        }
        (Step::On { from, end, room }, What::Records(wanted)) => {
            walk(&mut pages, (*from, *end), (*room, bytes_max), wanted)
        }
        (Step::On { .. }, What::Letters { found, read_to, filter, interest }) => {
            let mut read = Read::up_to(*read_to);
            for (position, cause) in found {
                let item = pages.item(*position)?;
                let asked = item.filter(|item| filter.admits_record(&item.record, item.received_at));
                let Some(item) = asked else { continue };
                if !read.has_room(&item, bytes_max) {
                    read.read_to = *position;
                    break;
                }
                read.add(item, *cause, interest);
            }
            Ok(read)
        }
    }
}

fn walk(
    pages: &mut Pages<'_>,
    (from, end): (Position, Position),
    (room, bytes_max): (usize, usize),
    wanted: &Wanted,
) -> Result<Read, ReadError> {
    let mut read = Read::up_to(from);
    while read.read_to < end && pages.frames_read <= FRAMES_MAX && read.len() < room {
        let position = read.read_to;
        // What has no sequence failed and is nobody's.
        if let Some(item) = pages.item(position)? {
            let judgement = wanted.judge(&item);
            if judgement != Judgement::Unwanted && !read.has_room(&item, bytes_max) {
                break;
            }
            match judgement {
                Judgement::Wanted => read.want(item),
                Judgement::Broken(why) => read.give_up(item, why),
                Judgement::Unwanted => {}
            }
        }
        read.read_to = position.plus(1);
    }
    Ok(read)
}

impl Read {
    const fn up_to(read_to: Position) -> Self {
        Self { wanted: Vec::new(), broken: Vec::new(), unwanted: Vec::new(), read_to, bytes: 0 }
    }

    fn has_room(&self, item: &Item, bytes_max: usize) -> bool {
        self.len() == 0 || self.bytes + item.memory_bytes() <= bytes_max
    }

    fn want(&mut self, item: Item) {
        self.bytes += item.memory_bytes();
        self.wanted.push(item);
    }

    fn give_up(&mut self, item: Item, why: String) {
        self.bytes += item.memory_bytes();
        self.broken.push((item, why));
    }

    /// Adds the record of a dead letter. One that the filter failed at is judged again: that it was repaired is why somebody
    /// tries again.
    fn add(&mut self, item: Item, cause: Cause, interest: &Interest) {
        let filter = interest.filter.as_ref().filter(|_| cause == Cause::Expression);
        match filter.map(|filter| filter.admits(&item.record)) {
            None | Some(Ok(true)) => self.want(item),
            Some(Ok(false)) => self.unwanted.push(item.position),
            Some(Err(error)) => self.give_up(item, error.to_string()),
        }
    }

    fn len(&self) -> usize {
        self.wanted.len() + self.broken.len()
    }
}

/// The first position whose request was received at `time` or later, or `end`: times never go backwards along the journal.
///
/// # Errors
/// Those of the journal.
pub(super) fn first_at(journal: &dyn Journal, time: Timestamp, end: Position) -> Result<Position, ReadError> {
    let (mut low, mut high) = (Position::FIRST.get(), end.get());
    while low < high {
        let middle = low + (high - low) / 2;
        let frame = frame(journal, Position::new(middle))?;
        // Neighbours mostly share a frame: the search goes on outside of it.
        let entries = frame.entries.partition_point(|entry| entry.received_at < time) as u64;
        match frame.first.get() + entries {
            first if entries == 0 => high = first,
            after if after == frame.end().get() => low = after,
            found => return Ok(Position::new(found.min(end.get()))),
        }
    }
    Ok(Position::new(low.min(end.get())))
}

fn frame(journal: &dyn Journal, position: Position) -> Result<Arc<Frame>, ReadError> {
    journal.read(position)?.ok_or(ReadError::Corrupt(position))
}

/// Records, of which neighbours mostly share a frame.
struct Pages<'a> {
    journal: &'a dyn Journal,
    frame: Option<Arc<Frame>>,
    frames_read: usize,
}

impl<'a> Pages<'a> {
    fn new(journal: &'a dyn Journal) -> Self {
        Self { journal, frame: None, frames_read: 0 }
    }

    fn items(&mut self, positions: impl Iterator<Item = Position>, bytes_max: usize) -> Result<Read, ReadError> {
        let mut read = Read::up_to(Position::new(u64::MAX));
        for position in positions {
            let Some(item) = self.item(position)? else { continue };
            if !read.has_room(&item, bytes_max) {
                read.read_to = position;
                break;
            }
            read.want(item);
        }
        Ok(read)
    }

    /// The record at `position` as it is delivered; `None` for one that failed.
    ///
    /// # Errors
    /// Those of the journal.
    fn item(&mut self, position: Position) -> Result<Option<Item>, ReadError> {
        let held = match self.frame.take().filter(|frame| frame.entry(position).is_some()) {
            Some(frame) => frame,
            None => {
                self.frames_read += 1;
                frame(self.journal, position)?
            }
        };
        let entry = held.entry(position).ok_or(ReadError::Corrupt(position))?;
        let record = Record::decode(&entry.bytes).map_err(|_| ReadError::Corrupt(position))?;
        let received_at = entry.received_at;
        self.frame = Some(held);
        let sequence = record.sequence;
        Ok(sequence.map(|sequence| Item { position, sequence, received_at, record: Arc::new(record) }))
    }
}
