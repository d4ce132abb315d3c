//! Reads the records that a job delivers again from the journal. All functions block.

use std::sync::Arc;

use super::part::JobStep;
use crate::event::{Position, Record};
use crate::journal::{Journal, JournalFrame, JournalReadError};
use crate::subscriber::dead_letters::{DeadLetterCause, DeadLetterFilter};
use crate::subscriber::{MissedRecords, OutboundRecord};
use crate::subscription::{
    InterestMatch, Pattern, SubscriberInterest, pattern::is_internal_record,
};

/// Frames that one step reads at most, so that other tasks get the thread between steps.
const FRAMES_MAX: usize = 64;

/// Records that one step shows to the subscription's filter at most, which takes up to 10 ms for each.
const FILTERED_MAX: usize = 64;

/// Records found by one step.
#[derive(Debug)]
pub(super) struct StepRecords {
    pub(super) deliverable: Vec<OutboundRecord>,
    /// Records on which the subscription's filter fails, each with the error.
    pub(super) broken: Vec<(OutboundRecord, String)>,
    /// Positions of dead letters whose records do not match the filter any more.
    pub(super) unwanted: Vec<Position>,
    /// Position up to which (exclusive) everything was read.
    pub(super) read_to: Position,
    /// Bytes of all records found.
    bytes: usize,
}

/// Filter for the records of a replay.
#[derive(Clone, Debug)]
pub(super) struct ReplayFilter {
    interest: SubscriberInterest,
    patterns: Vec<Pattern>,
    /// Records of which the replay consists, unless it replays all.
    missed: Option<MissedRecords>,
}

impl ReplayFilter {
    /// Combines `interest` with `patterns`, of which one has to match (any event if empty), and
    /// with `missed`, if there is one. The start of the subscription is ignored: a replay of
    /// earlier events was requested.
    pub(super) fn new(
        interest: &SubscriberInterest,
        patterns: Vec<Pattern>,
        missed: Option<MissedRecords>,
    ) -> Self {
        Self {
            interest: SubscriberInterest {
                from: Position::FIRST,
                ..interest.clone()
            },
            patterns,
            missed,
        }
    }

    /// First position from `position` on whose record may be part of the replay.
    fn next_position(&self, position: Position) -> Option<Position> {
        match &self.missed {
            Some(missed) => missed.next_missed(position),
            None => Some(position),
        }
    }

    fn has_filter(&self) -> bool {
        self.interest.filter.is_some()
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

/// Source of the records of one step.
#[derive(Clone, Debug)]
pub(super) enum StepSource {
    /// Records of the journal that match the filter.
    Records(ReplayFilter),
    /// Records of the dead letters that the step is about.
    Letters {
        /// Positions of the records, with the causes of their dead letters.
        found: Vec<(Position, DeadLetterCause)>,
        /// Position before which there is no further dead letter.
        read_to: Position,
        /// Criteria of the job, of which event and time are compared here.
        filter: DeadLetterFilter,
        /// Current interest of the subscriber.
        interest: SubscriberInterest,
    },
}

/// Reads the records of `step`, until one more would exceed `bytes_max` bytes; at least one record
/// is read.
///
/// # Errors
/// The journal cannot be read.
pub(super) fn read_step(
    journal: &dyn Journal,
    step: &JobStep,
    source: &StepSource,
    bytes_max: usize,
) -> Result<StepRecords, JournalReadError> {
    let mut items = JournalItems::new(journal);
    match (step, source) {
        // The records matched when they were first read. As for a delivery under way, they are not
        // matched again.
        (JobStep::Reread(positions), StepSource::Records(_)) => {
            items.read_items(positions.iter().copied(), bytes_max)
        }
        (
            JobStep::Reread(_),
            StepSource::Letters {
                found, interest, ..
            },
        ) => {
            let mut read = StepRecords::starting_at(Position::new(u64::MAX));
            for (position, cause) in found {
                let Some(item) = items.read_item(*position)? else {
                    continue;
                };
                if !read.has_room(&item, bytes_max) {
                    read.read_to = *position;
                    break;
                }
                read.add_dead_letter(item, *cause, interest);
            }
            Ok(read)
        }
        (JobStep::ReadOn { from, end, room }, StepSource::Records(filter)) => {
            scan_records(&mut items, (*from, *end), (*room, bytes_max), filter)
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
                let item = items.read_item(*position)?;
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
    items: &mut JournalItems<'_>,
    (from, end): (Position, Position),
    (room, bytes_max): (usize, usize),
    filter: &ReplayFilter,
) -> Result<StepRecords, JournalReadError> {
    // Records that were removed since the job began are left out.
    let from = from.max(items.journal.start().position).min(end);
    let (mut read, mut filtered) = (StepRecords::starting_at(from), 0);
    while read.read_to < end
        && items.frames_read <= FRAMES_MAX
        && filtered < FILTERED_MAX
        && read.len() < room
    {
        let next = filter.next_position(read.read_to);
        let Some(position) = next.filter(|next| *next < end) else {
            read.read_to = end;
            break;
        };
        // A record without a sequence belongs to a failed event and is not delivered.
        if let Some(item) = items.read_item(position)? {
            let interest_match = filter.match_item(&item);
            filtered += usize::from(filter.has_filter());
            if interest_match != InterestMatch::Unwanted && !read.has_room(&item, bytes_max) {
                break;
            }
            match interest_match {
                InterestMatch::Wanted => read.add_deliverable(item),
                InterestMatch::FilterFailed(detail) => read.add_broken(item, detail),
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
            deliverable: Vec::new(),
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
        self.deliverable.push(item);
    }

    fn add_broken(&mut self, item: OutboundRecord, detail: String) {
        self.bytes += item.memory_bytes();
        self.broken.push((item, detail));
    }

    /// Adds the record of a dead letter. If the filter had failed on the record, it decides again:
    /// the filter was perhaps repaired before the job.
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
        self.deliverable.len() + self.broken.len()
    }
}

fn read_journal_frame(
    journal: &dyn Journal,
    position: Position,
) -> Result<Arc<JournalFrame>, JournalReadError> {
    journal
        .read_frame_at(position)?
        .ok_or(JournalReadError::Missing(position))
}

/// Reader of single records that keeps the last frame: neighbouring records mostly share one.
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

    /// Reads the record at `position`; `None` for a record of a failed event, and for one that was
    /// removed or has lost its content.
    ///
    /// # Errors
    /// The journal cannot be read.
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
                match read_journal_frame(self.journal, position) {
                    Err(JournalReadError::Removed { .. }) => return Ok(None),
                    frame => frame?,
                }
            }
        };
        let entry = held
            .entry(position)
            .ok_or(JournalReadError::Missing(position))?;
        let record =
            Record::decode(&entry.bytes).map_err(|_| JournalReadError::Missing(position))?;
        let received_at = entry.received_at;
        self.frame = Some(held);
        let sequence = record.sequence.filter(|_| record.has_content());
        Ok(sequence.map(|sequence| OutboundRecord {
            position,
            sequence,
            received_at,
            record: Arc::new(record),
        }))
    }
}
