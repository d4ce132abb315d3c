//! What one subscriber reads for itself: the journal while it is behind, and the timelines of lanes that go on.

use std::rc::Rc;
use std::sync::Arc;

use tracing::{debug, warn};

use super::super::dead_letters::Cause;
use super::super::delivery::{Input, LaneKey};
use super::super::inbox::{Course, Told};
use super::super::reader::{Dropped, Read, Room, Wanted};
use super::super::stage::Stage;
use super::super::{Failed, reader};
use super::Subscriber;
use crate::event::{EntityKey, Position};
use crate::panics::Containment;
use crate::projection::Unavailable;

/// Records of a lane that are read at once when it goes on.
const CATCH_UP_RECORDS: usize = 32;

/// Frames that are read in one go where they are in memory.
const FRAMES_AT_ONCE: usize = 16;

impl Subscriber {
    fn wanted(&self) -> Wanted {
        Wanted { judge: self.judge.clone(), cutoff: self.stage.wall().saturating_sub(self.profile.hold) }
    }

    /// Reads on if it is behind, and joins those who are live when it has come to them; falls behind when it has to.
    pub(super) fn read(&mut self) {
        let may_read = self.delivery.may_read() && !self.stage.means.graveyard.dead_letters.is_full(&self.id);
        if !may_read {
            if self.inbox.course() == Course::Live {
                debug!(subscriber = %self.id, "falls behind");
                self.inbox.set_course(Course::Behind(self.stage.position.get()));
            }
            return;
        }
        for _ in 0..FRAMES_AT_ONCE {
            let Course::Behind(from) = self.inbox.course() else { return };
            if self.reading.is_some() || !self.has_room() {
                return;
            }
            if from >= self.stage.position.get() {
                return self.join();
            }
            let Some(frame) = self.stage.means.journal.recent(from) else { return self.read_far(from) };
            let mut read = Read::default();
            match read.look(&frame, from, &self.wanted(), self.room()) {
                Ok(()) => self.take(read),
                Err(error) => return self.stage.fail(Unavailable::from(error)),
            }
        }
        self.inbox.wake();
    }

    /// Becomes live, if nothing is held that the dispatcher's cursor has passed.
    fn join(&mut self) {
        let vouched = self.stage.vouched.get();
        if self.holds().is_none_or(|held| held >= vouched) {
            debug!(subscriber = %self.id, "is live");
            self.inbox.set_course(Course::Live);
        }
    }

    /// Reads where it may take a while.
    fn read_far(&mut self, from: Position) {
        let (journal, wanted, room) = (Arc::clone(&self.stage.means.journal), self.wanted(), self.room());
        let (inbox, stage, end) = (Rc::clone(&self.inbox), Rc::clone(&self.stage), self.stage.position.get());
        self.readings += 1;
        let number = self.readings;
        (self.reading, self.incoming) = (Some(number), room.bytes);
        actix_rt::spawn(async move {
            let read = actix_rt::task::spawn_blocking(move || {
                let _contained = Containment::begin();
                reader::read(journal.as_ref(), (from, end), &wanted, room)
            });
            match read.await {
                Ok(Ok(read)) => inbox.tell(Told::Read(number, read)),
                Ok(Err(error)) => stage.fail(Unavailable::from(error)),
                Err(_) => stage.fail(Failed::Panicked),
            }
        });
    }

    /// Takes in what was read.
    pub(super) fn take(&mut self, read: Read) {
        self.end_reading();
        let Read { items, dropped, end, .. } = read;
        self.drop_also(dropped);
        let Course::Behind(from) = self.inbox.course() else { return };
        let end = end.unwrap_or(from);
        self.inbox.set_course(Course::Behind(end));
        self.step(Input::Met { items, end });
        self.begin_attempts();
    }

    /// What was being read is here, or of no use any more.
    pub(super) fn end_reading(&mut self) {
        (self.reading, self.incoming) = (None, 0);
    }

    pub(super) fn room(&self) -> Room {
        let (events, bytes) = self.delivery.room();
        Room { events, bytes: bytes.min(self.window_bytes().saturating_sub(self.delivery.queued_bytes())) }
    }

    fn window_bytes(&self) -> usize {
        self.stage.means.memory.window(self.profile.bounds.window_bytes)
    }

    /// Whether it is worth while to read: each time a part of a frame is decoded again.
    fn has_room(&self) -> bool {
        let Room { events, bytes } = self.room();
        events * 4 >= self.profile.bounds.window_events && bytes * 4 >= self.window_bytes()
    }

    pub(super) fn catch_up(&mut self, lane: LaneKey, from_sequence: u64) {
        let (inbox, stage, wanted) = (Rc::clone(&self.inbox), Rc::clone(&self.stage), self.wanted());
        let read_to = self.read_to();
        actix_rt::spawn(async move {
            let caught_up = match &lane {
                LaneKey::Entity(entity) => of_entity(&stage, entity, from_sequence, read_to, &wanted).await,
                LaneKey::Record(position) => of_record(&stage, *position, from_sequence, &wanted).await,
            };
            match caught_up {
                Ok((read, through, end)) => {
                    let Read { items, dropped, .. } = read;
                    let input = Input::CaughtUp { lane, items, through, end };
                    if let Some(dropped) = dropped {
                        inbox.tell(Told::Dropped(dropped));
                    }
                    inbox.tell(Told::Input(input));
                }
                Err(error) => stage.fail(error),
            }
        });
    }

    pub(super) fn drop_also(&mut self, dropped: Option<Dropped>) {
        if let Some(more) = dropped {
            self.dropped = Some(self.dropped.map_or(more, |dropped| dropped.and(more)));
        }
    }

    /// Notes what was not delivered, once something was read that is young enough, or all is read.
    pub(super) fn bury_dropped(&mut self) {
        let Some(Dropped { first, last, count }) = self.dropped else { return };
        if self.reading.is_some() {
            return;
        }
        self.dropped = None;
        warn!(subscriber = %self.id, count, %first, %last, "deliveries given up, they were owed for too long");
        self.stage.means.graveyard.dead_letters.bury_all(&self.id, Cause::Expired, (first, last), count);
        self.stage.count(&self.id, |counters| counters.dropped += count);
    }
}

/// What was caught up: the records, up to which number, and before which position if that was all.
type CaughtUp = (Read, u64, Option<Position>);

async fn of_entity(
    stage: &Stage,
    entity: &EntityKey,
    from_sequence: u64,
    read_to: Position,
    wanted: &Wanted,
) -> Result<CaughtUp, Unavailable> {
    let stretch = stage.means.reads.stretch(entity, from_sequence, CATCH_UP_RECORDS, read_to).await?;
    let through = (from_sequence + stretch.records.len() as u64).saturating_sub(1);
    Ok((Read::of_timeline(stretch.records, wanted), through, stretch.end))
}

async fn of_record(stage: &Stage, position: Position, sequence: u64, wanted: &Wanted) -> Result<CaughtUp, Unavailable> {
    let stored = stage.means.reads.record(position).await?;
    Ok((Read::of_timeline(stored.into_iter().collect(), wanted), sequence, Some(position.plus(1))))
}
