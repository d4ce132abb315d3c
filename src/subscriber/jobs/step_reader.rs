//! Reads the records that a job delivers again from the journal.

use std::sync::Arc;

use crate::event::{Position, Record};
use crate::journal::{Journal, JournalFrame, JournalReadError};
use crate::subscriber::dead_letters::DeadLetterFilter;
use crate::subscriber::delivery::MatchedRecord;
use crate::subscriber::expression_shares::ExpressionShares;
use crate::subscriber::reader::{self, WindowRoom};
use crate::subscriber::stage_error::DeliveryStageError;
use crate::subscriber::subscriber_set::SubscriberMatcher;
use crate::subscriber::{OutboundRecord, SubscriberId};
use crate::subscription::{FilterExpression, Pattern, pattern::is_internal_record};

/// Source of the records of one step.
#[derive(Clone, Debug)]
pub(super) enum StepSource {
    /// Records that have a dead letter or were read before.
    Positions {
        /// Positions in order, each with true if the subscription's filter decides again.
        positions: Vec<(Position, bool)>,
        /// Criteria of the job, of which event and time are compared here.
        filter: DeadLetterFilter,
        /// Position before which there is no further record.
        read_to: Position,
    },
    /// Records of the journal from a position to before another one.
    Range {
        range: (Position, Position),
        matcher: SubscriberMatcher,
        /// Patterns of which one has to match; empty for any event.
        patterns: Vec<Pattern>,
        /// Most records that are read.
        room: usize,
    },
}

/// Records found by one step.
#[derive(Debug)]
pub(super) struct StepRecords {
    pub(super) deliverable: Vec<OutboundRecord>,
    /// Records on which the subscription's filter fails, each with the error.
    pub(super) broken: Vec<(OutboundRecord, String)>,
    /// Positions of records that the filter rejects.
    pub(super) unwanted: Vec<Position>,
    /// Position up to which (exclusive) everything was read.
    pub(super) read_to: Position,
    /// Records about which the filter has to decide.
    undecided: Vec<MatchedRecord>,
    /// Bytes of all records found.
    bytes: usize,
}

/// Reads the records of `source`, until one more would exceed `bytes_max` bytes; at least one record
/// is read. Blocks.
///
/// # Errors
/// The journal cannot be read.
pub(super) fn read_step(
    journal: &dyn Journal,
    source: &StepSource,
    bytes_max: usize,
) -> Result<StepRecords, JournalReadError> {
    match source {
        StepSource::Positions {
            positions,
            filter,
            read_to,
        } => {
            let mut read = StepRecords::starting_at(*read_to);
            let mut items = JournalItems::new(journal);
            for (position, is_undecided) in positions {
                let item = items.read_item(*position)?;
                let admits =
                    |item: &OutboundRecord| filter.admits_record(&item.record, item.received_at);
                let Some(item) = item.filter(admits) else {
                    continue;
                };
                if !read.try_add(item, *is_undecided, bytes_max) {
                    break;
                }
            }
            Ok(read)
        }
        StepSource::Range {
            range: (from, end),
            matcher,
            patterns,
            room,
        } => {
            // Records that were removed since the job began are left out.
            let from = (*from).max(journal.start().position).min(*end);
            if from == *end {
                return Ok(StepRecords::starting_at(*end));
            }
            let room = WindowRoom {
                events: *room,
                bytes: bytes_max.max(1),
            };
            let batch = match reader::read_matching(journal, (from, *end), matcher, room) {
                Err(JournalReadError::Removed { start, .. }) => {
                    return Ok(StepRecords::starting_at(start.position.min(*end)));
                }
                batch => batch?,
            };
            let read_to = batch.end.ok_or(JournalReadError::Missing(from))?;
            let mut read = StepRecords::starting_at(read_to.min(*end));
            for MatchedRecord { item, .. } in batch.items {
                let is_wanted = item.position < *end
                    && item.record.has_content()
                    && admits_any(patterns, &item.record);
                if is_wanted && !read.try_add(item, true, bytes_max) {
                    break;
                }
            }
            Ok(read)
        }
    }
}

fn admits_any(patterns: &[Pattern], record: &Record) -> bool {
    let (kind, is_internal) = (record.entity.kind(), is_internal_record(record));
    let admits = |pattern: &Pattern| pattern.admits(kind, &record.event_type, is_internal);
    patterns.is_empty() || patterns.iter().any(admits)
}

impl StepRecords {
    const fn starting_at(read_to: Position) -> Self {
        Self {
            deliverable: Vec::new(),
            broken: Vec::new(),
            unwanted: Vec::new(),
            read_to,
            undecided: Vec::new(),
            bytes: 0,
        }
    }

    /// Adds `item`. Returns false if there is no room, and ends the step before it.
    fn try_add(&mut self, item: OutboundRecord, is_undecided: bool, bytes_max: usize) -> bool {
        let is_empty = self.deliverable.is_empty() && self.undecided.is_empty();
        self.bytes += item.memory_bytes();
        if !is_empty && self.bytes > bytes_max {
            self.read_to = item.position;
            return false;
        }
        if is_undecided {
            self.undecided.push(MatchedRecord {
                item,
                filter_error: None,
            });
        } else {
            self.deliverable.push(item);
        }
        true
    }

    /// Lets the `filter` of `subscriber` decide, in the time that all expressions share.
    ///
    /// # Errors
    /// [`DeliveryStageError::Panicked`] when the evaluation panicked.
    pub(super) async fn decide(
        mut self,
        expressions: &Arc<ExpressionShares>,
        subscriber: &SubscriberId,
        filter: Option<&FilterExpression>,
    ) -> Result<Self, DeliveryStageError> {
        let mut judged = std::mem::take(&mut self.undecided);
        if let Some(filter) = filter.filter(|_| !judged.is_empty()) {
            let asked = judged.iter().map(|matched| matched.item.position);
            self.unwanted = asked.collect();
            judged = expressions.judge(subscriber, filter, judged).await?;
        }
        for MatchedRecord { item, filter_error } in judged {
            self.unwanted.retain(|position| *position != item.position);
            match filter_error {
                None => self.deliverable.push(item),
                Some(error) => self.broken.push((item, error)),
            }
        }
        self.deliverable.sort_unstable_by_key(|item| item.position);
        Ok(self)
    }
}

/// Reader of single records that keeps the last frame: neighbouring records mostly share one.
struct JournalItems<'a> {
    journal: &'a dyn Journal,
    frame: Option<Arc<JournalFrame>>,
}

impl<'a> JournalItems<'a> {
    fn new(journal: &'a dyn Journal) -> Self {
        Self {
            journal,
            frame: None,
        }
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
        let kept = self.frame.take();
        let frame = match kept.filter(|frame| frame.entry(position).is_some()) {
            Some(frame) => frame,
            None => match self.journal.read_frame_at(position) {
                Err(JournalReadError::Removed { .. }) => return Ok(None),
                frame => frame?.ok_or(JournalReadError::Missing(position))?,
            },
        };
        let entry = frame
            .entry(position)
            .ok_or(JournalReadError::Missing(position))?;
        let item = reader::decode_entry(entry, position)?;
        self.frame = Some(frame);
        Ok(item.filter(|item| item.record.has_content()))
    }
}
