//! Reading what a job delivers again: records of the journal, a page at a time. Everything here
//! blocks.

use std::sync::Arc;

use super::part::JobStep;
use crate::event::{Position, Record, Timestamp};
use crate::journal::{Journal, JournalFrame, JournalReadError};
use crate::subscriber::OutboundRecord;
use crate::subscriber::dead_letters::{DeadLetterCause, Filter};
use crate::subscription::{
    InterestMatch, Pattern, SubscriberInterest, pattern::is_internal_record,
};

/// Frames that one step looks through at most, so that the thread is given to others between steps.
const FRAMES_MAX: usize = 64;

/// What a step found.
#[derive(Debug)]
pub(super) struct StepRecords {
    /// What is to be delivered.
    pub(super) wanted: Vec<OutboundRecord>,
    /// What may be, but the filter cannot say so, and why.
    pub(super) broken: Vec<(OutboundRecord, String)>,
    /// Dead letters of what is not wanted any more.
    pub(super) unwanted: Vec<Position>,
    /// Everything before it was looked at.
    pub(super) read_to: Position,
    /// Of all records.
    bytes: usize,
}

/// What a replay delivers again.
#[derive(Clone, Debug)]
pub(super) struct ReplayFilter {
    interest: SubscriberInterest,
    patterns: Vec<Pattern>,
}

impl ReplayFilter {
    /// What of `interest` one of `patterns` admits. Where the subscription begins does not matter:
    /// who asks for a time that lies before it wants what happened then.
    pub(super) fn new(interest: &SubscriberInterest, patterns: Vec<Pattern>) -> Self {
        Self {
            interest: SubscriberInterest {
                from: Position::FIRST,
                ..interest.clone()
            },
            patterns,
        }
    }

    fn match_item(&self, item: &OutboundRecord) -> InterestMatch {
        let record = &item.record;
        let admits = |pattern: &Pattern| {
            pattern.admits(
                record.entity.kind(),
                &record.event_type,
                is_internal_record(record),
            )
        };
        if self.patterns.is_empty() || self.patterns.iter().any(admits) {
            self.interest.match_record(item.position, record)
        } else {
            InterestMatch::Unwanted
        }
    }
}

/// What is read for one step.
#[derive(Clone, Debug)]
pub(super) enum StepSource {
    /// What is wanted of a part of the journal.
    Records(ReplayFilter),
    /// Dead letters.
    Letters {
        /// Where the records stand of those that the step is about, and why they are dead letters.
        found: Vec<(Position, DeadLetterCause)>,
        /// There is none further before it.
        read_to: Position,
        /// Which of them are asked for.
        filter: Filter,
        /// What their subscriber is interested in now.
        interest: SubscriberInterest,
    },
}

/// Does `step` of a job, up to the record with which it would have more than `bytes_max` bytes, but
/// with one at least.
///
/// # Errors
/// Those of the journal.
pub(super) fn read_step(
    journal: &dyn Journal,
    step: &JobStep,
    what: &StepSource,
    bytes_max: usize,
) -> Result<StepRecords, JournalReadError> {
    let mut pages = JournalItems::new(journal);
    match (step, what) {
        // They were wanted once; whether they are still is not asked again, as it is not of a
        // delivery under way.
        (JobStep::Reread(positions), StepSource::Records(_)) => {
            pages.read_items(positions.iter().copied(), bytes_max)
        }
        (JobStep::Reread(_), StepSource::Letters { found, .. }) => {
            pages.read_items(found.iter().map(|(position, _)| *position), bytes_max)
        }
        (JobStep::ReadOn { from, end, room }, StepSource::Records(wanted)) => {
            scan_records(&mut pages, (*from, *end), (*room, bytes_max), wanted)
        }
        (
            JobStep::ReadOn { .. },
            StepSource::Letters {
                found,
                read_to,
                filter,
                interest,
            },
        ) => {
            let mut read = StepRecords::starting_at(*read_to);
            for (position, cause) in found {
                let item = pages.read_item(*position)?;
                let asked =
                    item.filter(|item| filter.admits_record(&item.record, item.received_at));
                let Some(item) = asked else { continue };
                if !read.has_room(&item, bytes_max) {
                    read.read_to = *position;
                    break;
                }
                read.add_dead_letter(item, *cause, interest);
            }
            Ok(read)
        }
    }
}

fn scan_records(
    pages: &mut JournalItems<'_>,
    (from, end): (Position, Position),
    (room, bytes_max): (usize, usize),
    wanted: &ReplayFilter,
) -> Result<StepRecords, JournalReadError> {
    let mut read = StepRecords::starting_at(from);
    while read.read_to < end && pages.frames_read <= FRAMES_MAX && read.len() < room {
        let position = read.read_to;
        // What has no sequence failed and is nobody's.
        if let Some(item) = pages.read_item(position)? {
            let judgement = wanted.match_item(&item);
            if judgement != InterestMatch::Unwanted && !read.has_room(&item, bytes_max) {
                break;
            }
            match judgement {
                InterestMatch::Wanted => read.add_deliverable(item),
                InterestMatch::FilterFailed(why) => read.add_broken(item, why),
                InterestMatch::Unwanted => {}
            }
        }
        read.read_to = position.plus(1);
    }
    Ok(read)
}

impl StepRecords {
    const fn starting_at(read_to: Position) -> Self {
        Self {
            wanted: Vec::new(),
            broken: Vec::new(),
            unwanted: Vec::new(),
            read_to,
            bytes: 0,
        }
    }

    fn has_room(&self, item: &OutboundRecord, bytes_max: usize) -> bool {
        self.len() == 0 || self.bytes + item.memory_bytes() <= bytes_max
    }

    fn add_deliverable(&mut self, item: OutboundRecord) {
        self.bytes += item.memory_bytes();
        self.wanted.push(item);
    }

    fn add_broken(&mut self, item: OutboundRecord, why: String) {
        self.bytes += item.memory_bytes();
        self.broken.push((item, why));
    }

    /// Adds the record of a dead letter. One that the filter failed at is judged again: that it was
    /// repaired is why somebody tries again.
    fn add_dead_letter(
        &mut self,
        item: OutboundRecord,
        cause: DeadLetterCause,
        interest: &SubscriberInterest,
    ) {
        let filter = interest
            .filter
            .as_ref()
            .filter(|_| cause == DeadLetterCause::Expression);
        match filter.map(|filter| filter.admits(&item.record)) {
            None | Some(Ok(true)) => self.add_deliverable(item),
            Some(Ok(false)) => self.unwanted.push(item.position),
            Some(Err(error)) => self.add_broken(item, error.to_string()),
        }
    }

    fn len(&self) -> usize {
        self.wanted.len() + self.broken.len()
    }
}

/// The first position whose request was received at `time` or later, or `end`: times never go
/// backwards along the journal.
///
/// # Errors
/// Those of the journal.
pub(super) fn find_position_at(
    journal: &dyn Journal,
    time: Timestamp,
    end: Position,
) -> Result<Position, JournalReadError> {
    let (mut low, mut high) = (Position::FIRST.get(), end.get());
    while low < high {
        let middle = low + (high - low) / 2;
        let frame = read_journal_frame(journal, Position::new(middle))?;
        // Neighbours mostly share a frame: the search goes on outside of it.
        let entries = frame
            .entries
            .partition_point(|entry| entry.received_at < time) as u64;
        match frame.first.get() + entries {
            first if entries == 0 => high = first,
            after if after == frame.end().get() => low = after,
            found => return Ok(Position::new(found.min(end.get()))),
        }
    }
    Ok(Position::new(low.min(end.get())))
}

fn read_journal_frame(
    journal: &dyn Journal,
    position: Position,
) -> Result<Arc<JournalFrame>, JournalReadError> {
    journal
        .read_frame_at(position)?
        .ok_or(JournalReadError::Corrupt(position))
}

/// Records, of which neighbours mostly share a frame.
struct JournalItems<'a> {
    journal: &'a dyn Journal,
    frame: Option<Arc<JournalFrame>>,
    frames_read: usize,
}

impl<'a> JournalItems<'a> {
    fn new(journal: &'a dyn Journal) -> Self {
        Self {
            journal,
            frame: None,
            frames_read: 0,
        }
    }

    fn read_items(
        &mut self,
        positions: impl Iterator<Item = Position>,
        bytes_max: usize,
    ) -> Result<StepRecords, JournalReadError> {
        let mut read = StepRecords::starting_at(Position::new(u64::MAX));
        for position in positions {
            let Some(item) = self.read_item(position)? else {
                continue;
            };
            if !read.has_room(&item, bytes_max) {
                read.read_to = position;
                break;
            }
            read.add_deliverable(item);
        }
        Ok(read)
    }

    /// The record at `position` as it is delivered; `None` for one that failed.
    ///
    /// # Errors
    /// Those of the journal.
    fn read_item(
        &mut self,
        position: Position,
    ) -> Result<Option<OutboundRecord>, JournalReadError> {
        let held = match self
            .frame
            .take()
            .filter(|frame| frame.entry(position).is_some())
        {
            Some(frame) => frame,
            None => {
                self.frames_read += 1;
                read_journal_frame(self.journal, position)?
            }
        };
        let entry = held
            .entry(position)
            .ok_or(JournalReadError::Corrupt(position))?;
        let record =
            Record::decode(&entry.bytes).map_err(|_| JournalReadError::Corrupt(position))?;
        let received_at = entry.received_at;
        self.frame = Some(held);
        let sequence = record.sequence;
        Ok(sequence.map(|sequence| OutboundRecord {
            position,
            sequence,
            received_at,
            record: Arc::new(record),
        }))
    }
}
