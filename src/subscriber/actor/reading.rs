//! Reads of one subscriber: the journal while the subscriber is behind, and timelines of lanes that
//! catch up.

use std::rc::Rc;
use std::sync::Arc;

use tracing::debug;

use super::super::delivery::{DeliveryInput, LaneKey, MatchedRecord};
use super::super::inbox::ActorMessage;
use super::super::reader::{self, MatchedBatch, WindowRoom};
use super::super::stage::DeliveryStage;
use super::super::stage_error::DeliveryStageError;
use super::super::subscriber_set::SubscriberMatcher;
use super::super::tables::ReadState;
use super::{AbortOnDropTask, JudgedRecords, SubscriberActor};
use crate::event::{EntityKey, Position, Timestamp};
use crate::panics::PanicContainment;
use crate::projection::ProjectionReadError;

/// Records in one page of a lane that catches up.
const CATCH_UP_RECORDS: usize = 32;

/// Frames read in one go from the journal's memory; then other actors get the thread.
const FRAMES_AT_ONCE: usize = 16;

impl SubscriberActor {
    /// Time before which received records have expired.
    fn expiry_cutoff(&self) -> Timestamp {
        self.stage.wall().saturating_sub(self.policy.hold)
    }

    /// Reads on while the subscriber is behind, and goes live once it has caught up with the
    /// dispatcher. Falls behind when the delivery accepts nothing.
    pub(super) fn read_ahead(&mut self) {
        let may_read =
            self.delivery.can_read() && !self.stage.deps.recovery.dead_letters.is_full(&self.id);
        if !may_read {
            if self.inbox.read_state() == ReadState::Live {
                debug!(subscriber = %self.id, "subscriber fell behind");
                self.inbox
                    .set_read_state(ReadState::Behind(self.stage.position.get()));
            }
            return;
        }

        for _ in 0..FRAMES_AT_ONCE {
            let ReadState::Behind(from) = self.inbox.read_state() else {
                return;
            };
            if self.reading.is_some() || self.judging.is_some() || !self.has_room() {
                return;
            }
            if from >= self.stage.position.get() {
                return self.go_live();
            }
            let Some(frame) = self.stage.deps.journal.recent_frame_at(from) else {
                return self.spawn_journal_read(from);
            };
            let mut batch = MatchedBatch::default();
            match batch.scan_frame(&frame, from, &self.matcher, self.window_room()) {
                Ok(()) => self.accept_batch(batch),
                Err(error) => return self.stage.fail(ProjectionReadError::from(error)),
            }
        }
        // There may be more in memory: continue with the next wakeup.
        self.inbox.wake();
    }

    /// Goes live, unless the last checkpoint's cursor has passed a record that this actor holds: a
    /// crash would then start after that record and lose it.
    fn go_live(&mut self) {
        let stored = self.stage.checkpoint_cursor.get();
        if self
            .oldest_unsettled()
            .is_none_or(|oldest| oldest >= stored)
        {
            debug!(subscriber = %self.id, "subscriber is live");
            self.inbox.set_read_state(ReadState::Live);
        }
    }

    /// Reads from the disk, on a thread that may block.
    fn spawn_journal_read(&mut self, from: Position) {
        let journal = Arc::clone(&self.stage.deps.journal);
        let (matcher, room) = (self.matcher.clone(), self.window_room());
        let (inbox, stage) = (Rc::clone(&self.inbox), Rc::clone(&self.stage));
        let end = self.stage.position.get();

        self.incoming_bytes = room.bytes;
        let reading = actix_rt::spawn(async move {
            let batch = actix_rt::task::spawn_blocking(move || {
                let _contained = PanicContainment::begin();
                reader::read_matching(journal.as_ref(), (from, end), &matcher, room)
            });
            match batch.await {
                Ok(Ok(batch)) => inbox.push_message(ActorMessage::BatchRead(batch)),
                Ok(Err(error)) => stage.fail(ProjectionReadError::from(error)),
                Err(_) => stage.fail(DeliveryStageError::Panicked),
            }
        });
        self.reading = Some(AbortOnDropTask(reading));
    }

    /// Hands the records of a finished read to the delivery.
    pub(super) fn accept_batch(&mut self, batch: MatchedBatch) {
        self.end_reading();
        let MatchedBatch { items, end, .. } = batch;
        let ReadState::Behind(from) = self.inbox.read_state() else {
            return;
        };
        let end = end.unwrap_or(from);
        self.inbox.set_read_state(ReadState::Behind(end));

        self.accept_records(items, end);
        self.begin_attempts();
    }

    /// Hands records that match by their names, all of those before `end`, to the delivery, or to
    /// the filter first.
    pub(super) fn accept_records(&mut self, items: Vec<MatchedRecord>, end: Position) {
        if items.is_empty() && end <= self.delivery.read_to() {
            return;
        }
        let filter = self.matcher.filter().filter(|_| !items.is_empty());
        let (Some(filter), Some(first)) = (filter.cloned(), items.first()) else {
            return self.accept_judged(items, end);
        };
        self.judging = Some(JudgedRecords {
            first: first.item.position,
            count: items.len(),
            bytes: items
                .iter()
                .map(|matched| matched.item.memory_bytes())
                .sum(),
            is_old: false,
        });

        let (inbox, stage, id) = (
            Rc::clone(&self.inbox),
            Rc::clone(&self.stage),
            self.id.clone(),
        );
        actix_rt::spawn(async move {
            match stage.deps.expressions.judge(&id, &filter, items).await {
                Ok(items) => inbox.push_message(ActorMessage::RecordsJudged(items, end)),
                Err(error) => stage.fail(error),
            }
        });
    }

    /// Hands the records that the subscriber wants to the delivery, but for those that have expired.
    /// Only now: one that the filter does not select is not missed.
    pub(super) fn accept_judged(&mut self, mut items: Vec<MatchedRecord>, end: Position) {
        let missed = reader::take_expired(&mut items, self.expiry_cutoff());
        self.missed.merge(missed);
        self.step_delivery(DeliveryInput::RecordsMatched { items, end });
    }

    /// Ends the running read, which is finished or obsolete; a result of it in the inbox is ignored.
    pub(super) fn end_reading(&mut self) {
        (self.reading, self.incoming_bytes) = (None, 0);
    }

    /// Room for more records, by the subscriber's own window and by the stage's memory bound.
    pub(super) fn window_room(&self) -> WindowRoom {
        let (events, window_bytes) = self.delivery.window_room();
        let (judged, judged_bytes) = self
            .judging
            .map_or((0, 0), |judging| (judging.count, judging.bytes));
        let free_bytes = self
            .window_bytes()
            .saturating_sub(self.delivery.queued_bytes());
        WindowRoom {
            events: events.saturating_sub(judged),
            bytes: window_bytes.min(free_bytes).saturating_sub(judged_bytes),
        }
    }

    fn window_bytes(&self) -> usize {
        self.stage
            .deps
            .memory
            .available_window(self.policy.bounds.window_bytes)
    }

    /// Checks for a quarter of the window: each read decodes a part of a frame again, so small reads
    /// cost too much.
    fn has_room(&self) -> bool {
        let WindowRoom { events, bytes } = self.window_room();
        events * 4 >= self.policy.bounds.window_events && bytes * 4 >= self.window_bytes()
    }

    /// Reads the next records of a stopped lane that continues.
    pub(super) fn catch_up_lane(&mut self, lane: LaneKey, from_sequence: u64) {
        let (inbox, stage) = (Rc::clone(&self.inbox), Rc::clone(&self.stage));
        let (matcher, cutoff, id) = (self.matcher.clone(), self.expiry_cutoff(), self.id.clone());
        let read_to = self.read_to();

        actix_rt::spawn(async move {
            let caught_up = match &lane {
                LaneKey::Entity(entity) => {
                    read_entity_lane(&stage, entity, from_sequence, read_to, &matcher).await
                }
                LaneKey::Record(position) => {
                    read_record_lane(&stage, *position, from_sequence, &matcher).await
                }
            };
            match caught_up {
                Ok((batch, through, end)) => {
                    let items = match matcher.filter() {
                        Some(filter) => {
                            stage.deps.expressions.judge(&id, filter, batch.items).await
                        }
                        None => Ok(batch.items),
                    };
                    let mut items = match items {
                        Ok(items) => items,
                        Err(error) => return stage.fail(error),
                    };
                    let missed = reader::take_expired(&mut items, cutoff);
                    let input = DeliveryInput::LaneCaughtUp {
                        lane,
                        items,
                        through,
                        end,
                    };
                    if missed.count() > 0 {
                        inbox.push_message(ActorMessage::RecordsMissed(missed));
                    }
                    inbox.push_message(ActorMessage::Input(input));
                }
                Err(error) => stage.fail(error),
            }
        });
    }

    /// Adds one dead letter for the expired records, as soon as the read that found them is over.
    pub(super) fn report_missed(&mut self) {
        let is_reading = self.reading.is_some() || self.judging.is_some();
        if !is_reading && self.missed.count() > 0 {
            let missed = std::mem::take(&mut self.missed);
            self.stage.report_expired(&self.id, missed);
        }
    }
}

/// Matched records, sequence number of the last record read, and, at the end of the timeline, the
/// position before which all records were read.
type CatchUpPage = (MatchedBatch, u64, Option<Position>);

async fn read_entity_lane(
    stage: &DeliveryStage,
    entity: &EntityKey,
    from_sequence: u64,
    read_to: Position,
    matcher: &SubscriberMatcher,
) -> Result<CatchUpPage, ProjectionReadError> {
    let page = stage
        .deps
        .reads
        .timeline_page(entity, from_sequence, CATCH_UP_RECORDS, read_to)
        .await?;
    let through = (from_sequence + page.records.len() as u64).saturating_sub(1);
    Ok((
        MatchedBatch::from_timeline(page.records, matcher),
        through,
        page.end,
    ))
}

async fn read_record_lane(
    stage: &DeliveryStage,
    position: Position,
    sequence: u64,
    matcher: &SubscriberMatcher,
) -> Result<CatchUpPage, ProjectionReadError> {
    let stored = stage.deps.reads.await_record(position).await?;
    Ok((
        MatchedBatch::from_timeline(stored.into_iter().collect(), matcher),
        sequence,
        Some(position.plus(1)),
    ))
}
