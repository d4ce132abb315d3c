//! What one subscriber reads for itself: the journal while it is behind, and the timelines of lanes
//! that go on.

use std::rc::Rc;
use std::sync::Arc;

use tracing::{debug, warn};

use super::super::dead_letters::DeadLetterCause;
use super::super::delivery::{DeliveryInput, LaneKey};
use super::super::inbox::{ActorMessage, ReadState};
use super::super::reader::{DroppedRange, MatchFilter, MatchedBatch, WindowRoom};
use super::super::stage::DeliveryStage;
use super::super::{DeliveryStageError, reader};
use super::SubscriberActor;
use crate::event::{EntityKey, Position};
use crate::panics::PanicContainment;
use crate::projection::ProjectionReadError;

/// Records of a lane that are read at once when it goes on.
const CATCH_UP_RECORDS: usize = 32;

/// Frames that are read in one go where they are in memory.
const FRAMES_AT_ONCE: usize = 16;

impl SubscriberActor {
    fn match_filter(&self) -> MatchFilter {
        MatchFilter {
            matcher: self.matcher.clone(),
            cutoff: self.stage.wall().saturating_sub(self.policy.hold),
        }
    }

    /// Reads on if it is behind, and joins those who are live when it has come to them; falls
    /// behind when it has to.
    pub(super) fn read_ahead(&mut self) {
        let may_read =
            self.delivery.can_read() && !self.stage.deps.recovery.dead_letters.is_full(&self.id);
        if !may_read {
            if self.inbox.read_state() == ReadState::Live {
                debug!(subscriber = %self.id, "falls behind");
                self.inbox
                    .set_read_state(ReadState::Behind(self.stage.position.get()));
            }
            return;
        }
        for _ in 0..FRAMES_AT_ONCE {
            let ReadState::Behind(from) = self.inbox.read_state() else {
                return;
            };
            if self.reading_number.is_some() || !self.has_room() {
                return;
            }
            if from >= self.stage.position.get() {
                return self.go_live();
            }
            let Some(frame) = self.stage.deps.journal.recent_frame_at(from) else {
                return self.spawn_journal_read(from);
            };
            let mut read = MatchedBatch::default();
            match read.scan_frame(&frame, from, &self.match_filter(), self.window_room()) {
                Ok(()) => self.accept_batch(read),
                Err(error) => return self.stage.fail(ProjectionReadError::from(error)),
            }
        }
        self.inbox.wake();
    }

    /// Becomes live, if nothing is held that the dispatcher's cursor has passed.
    fn go_live(&mut self) {
        let vouched = self.stage.checkpoint_cursor.get();
        if self.oldest_unsettled().is_none_or(|held| held >= vouched) {
            debug!(subscriber = %self.id, "is live");
            self.inbox.set_read_state(ReadState::Live);
        }
    }

    /// Reads where it may take a while.
    fn spawn_journal_read(&mut self, from: Position) {
        let (journal, wanted, room) = (
            Arc::clone(&self.stage.deps.journal),
            self.match_filter(),
            self.window_room(),
        );
        let (inbox, stage, end) = (
            Rc::clone(&self.inbox),
            Rc::clone(&self.stage),
            self.stage.position.get(),
        );
        self.last_reading_number += 1;
        let number = self.last_reading_number;
        (self.reading_number, self.incoming_bytes) = (Some(number), room.bytes);
        actix_rt::spawn(async move {
            let read = actix_rt::task::spawn_blocking(move || {
                let _contained = PanicContainment::begin();
                reader::read_matching(journal.as_ref(), (from, end), &wanted, room)
            });
            match read.await {
                Ok(Ok(read)) => inbox.push_message(ActorMessage::BatchRead(number, read)),
                Ok(Err(error)) => stage.fail(ProjectionReadError::from(error)),
                Err(_) => stage.fail(DeliveryStageError::Panicked),
            }
        });
    }

    /// Takes in what was read.
    pub(super) fn accept_batch(&mut self, read: MatchedBatch) {
        self.end_reading();
        let MatchedBatch {
            items,
            dropped,
            end,
            ..
        } = read;
        self.add_dropped(dropped);
        let ReadState::Behind(from) = self.inbox.read_state() else {
            return;
        };
        let end = end.unwrap_or(from);
        self.inbox.set_read_state(ReadState::Behind(end));
        self.step_delivery(DeliveryInput::RecordsMatched { items, end });
        self.begin_attempts();
    }

    /// What was being read is here, or of no use any more.
    pub(super) fn end_reading(&mut self) {
        (self.reading_number, self.incoming_bytes) = (None, 0);
    }

    pub(super) fn window_room(&self) -> WindowRoom {
        let (events, bytes) = self.delivery.window_room();
        WindowRoom {
            events,
            bytes: bytes.min(
                self.window_bytes()
                    .saturating_sub(self.delivery.queued_bytes()),
            ),
        }
    }

    fn window_bytes(&self) -> usize {
        self.stage
            .deps
            .memory
            .available_window(self.policy.bounds.window_bytes)
    }

    /// Whether it is worth while to read: each time a part of a frame is decoded again.
    fn has_room(&self) -> bool {
        let WindowRoom { events, bytes } = self.window_room();
        events * 4 >= self.policy.bounds.window_events && bytes * 4 >= self.window_bytes()
    }

    pub(super) fn catch_up_lane(&mut self, lane: LaneKey, from_sequence: u64) {
        let (inbox, stage, wanted) = (
            Rc::clone(&self.inbox),
            Rc::clone(&self.stage),
            self.match_filter(),
        );
        let read_to = self.read_to();
        actix_rt::spawn(async move {
            let caught_up = match &lane {
                LaneKey::Entity(entity) => {
                    read_entity_lane(&stage, entity, from_sequence, read_to, &wanted).await
                }
                LaneKey::Record(position) => {
                    read_record_lane(&stage, *position, from_sequence, &wanted).await
                }
            };
            match caught_up {
                Ok((read, through, end)) => {
                    let MatchedBatch { items, dropped, .. } = read;
                    let input = DeliveryInput::LaneCaughtUp {
                        lane,
                        items,
                        through,
                        end,
                    };
                    if let Some(dropped) = dropped {
                        inbox.push_message(ActorMessage::RangeDropped(dropped));
                    }
                    inbox.push_message(ActorMessage::Input(input));
                }
                Err(error) => stage.fail(error),
            }
        });
    }

    pub(super) fn add_dropped(&mut self, dropped: Option<DroppedRange>) {
        if let Some(more) = dropped {
            self.dropped = Some(self.dropped.map_or(more, |dropped| dropped.merge(more)));
        }
    }

    /// Notes what was not delivered, once something was read that is young enough, or all is read.
    pub(super) fn record_dropped(&mut self) {
        let Some(DroppedRange { first, last, count }) = self.dropped else {
            return;
        };
        if self.reading_number.is_some() {
            return;
        }
        self.dropped = None;
        warn!(subscriber = %self.id, count, %first, %last, "deliveries given up, they were owed for too long");
        self.stage.deps.recovery.dead_letters.add_range(
            &self.id,
            DeadLetterCause::Expired,
            (first, last),
            count,
        );
        self.stage
            .update_counters(&self.id, |counters| counters.dropped += count);
    }
}

/// What was caught up: the records, up to which number, and before which position if that was all.
type CatchUpPage = (MatchedBatch, u64, Option<Position>);

async fn read_entity_lane(
    stage: &DeliveryStage,
    entity: &EntityKey,
    from_sequence: u64,
    read_to: Position,
    wanted: &MatchFilter,
) -> Result<CatchUpPage, ProjectionReadError> {
    let stretch = stage
        .deps
        .reads
        .timeline_page(entity, from_sequence, CATCH_UP_RECORDS, read_to)
        .await?;
    let through = (from_sequence + stretch.records.len() as u64).saturating_sub(1);
    Ok((
        MatchedBatch::from_timeline(stretch.records, wanted),
        through,
        stretch.end,
    ))
}

async fn read_record_lane(
    stage: &DeliveryStage,
    position: Position,
    sequence: u64,
    wanted: &MatchFilter,
) -> Result<CatchUpPage, ProjectionReadError> {
    let stored = stage.deps.reads.await_record(position).await?;
    Ok((
        MatchedBatch::from_timeline(stored.into_iter().collect(), wanted),
        sequence,
        Some(position.plus(1)),
    ))
}
