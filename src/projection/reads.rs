//! What readers ask, answered from what is written: everything that was durable when they came, and nothing that was not.

use std::sync::Arc;

use tokio::sync::{Semaphore, broadcast, watch};

use super::events::{BLOCK_EVENTS, Block, Mark, Slot};
use super::index::{self, CHUNK_RECORDS, Names, OTHER};
use super::page::{Page, PageRequest};
use super::shared::Shared;
use super::{keys, snapshot};
use crate::event::{EntityKey, Incarnation, Kind, Position, Record, Timestamp, fingerprint};
use crate::journal::{Frame, Journal, ReadError, fence};

/// A record with where and when it was stored.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its place in the journal.
    pub position: Position,
    /// When its request was received.
    pub received_at: Timestamp,
    /// When it was written.
    pub committed_at: Timestamp,
    /// The record.
    pub record: Record,
}

/// An entity's ends and what lies between.
#[derive(Clone, Debug)]
pub struct History {
    /// The entity's first record.
    pub first: Stored,
    /// The entity's newest record.
    pub last: Stored,
    /// What its state is made of.
    pub past: Past,
}

/// What an entity's state is made of.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// The newest stored state, with the sequence of the last record in it.
    pub snapshot: Option<(u64, Vec<u8>)>,
    /// The records after the snapshot, in order.
    pub later: Vec<Stored>,
}

impl Past {
    /// Whether there is no such entity.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.snapshot.is_none() && self.later.is_empty()
    }
}

/// How far an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Applied to its entity; a later event says how it ends.
    Processing,
    /// Applied to its entity.
    Completed,
    /// Accepted, but it could not be applied.
    Failed,
}

/// An event with what became of it.
#[derive(Clone, Debug)]
pub struct EventView {
    /// The event as it was first stored.
    pub event: Stored,
    /// How far it is.
    pub status: Status,
    /// The newest record that tried it again or ended it, if any did.
    pub resolution: Option<Stored>,
    /// How many records tried it again or ended it.
    pub later_records: u32,
}

/// Which events a list holds; what is `None` is not asked for.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// The configured source.
    pub source: Option<String>,
    /// The name in the catalogue.
    pub event_type: Option<String>,
    /// The entity's kind.
    pub kind: Option<Kind>,
    /// The entity's id.
    pub entity: Option<String>,
    /// How far it is.
    pub status: Option<Status>,
    /// Received at this moment or later.
    pub since: Option<Timestamp>,
    /// Received before this moment.
    pub until: Option<Timestamp>,
}

impl EventFilter {
    /// Whether the names that are asked for are those of `record`.
    fn admits(&self, record: &Record) -> bool {
        self.source.as_ref().is_none_or(|source| *source == record.source)
            && self.event_type.as_ref().is_none_or(|event_type| *event_type == record.event_type)
            && self.kind.is_none_or(|kind| kind == record.entity.kind())
    }
}

/// Consecutive records of one entity.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// The records, in order.
    pub records: Vec<Stored>,
    /// Everything of the entity before this position was looked at, if they are its last ones.
    pub end: Option<Position>,
}

/// The store could not be read; it is being opened anew.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The projection ended before it reached what the reader waits for.
    #[error("the projection ended")]
    Ended,
    /// The tree failed or holds something malformed.
    #[error("cannot read the projection")]
    Store(#[from] sled::Error),
    /// The journal failed or holds something malformed.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// The blocking pool is gone: the process is stopping.
    #[error("reading was cancelled")]
    Cancelled,
}

/// Answers readers. Cheap to clone.
#[derive(Clone)]
pub struct Reads {
    view: View,
    shared: Arc<Shared>,
    written: watch::Receiver<Position>,
    /// Bounds the lists that are read at once, so that looking up keys and loading entities always find a thread.
    places: Arc<Semaphore>,
}

/// Lists and states that are read at once.
const READERS_MAX: usize = 3;

impl Reads {
    pub(super) fn new(
        tree: sled::Tree,
        journal: Arc<dyn Journal>,
        shared: Arc<Shared>,
        written: watch::Receiver<Position>,
    ) -> Self {
        Self { view: View { tree, journal }, shared, written, places: Arc::new(Semaphore::new(READERS_MAX)) }
    }

    /// The store's incarnation, a part of every event id.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.view.journal.incarnation()
    }

    /// Asks for everything that is durable now to be written soon, without waiting for it.
    pub fn hurry(&self) {
        self.shared.want(*self.view.journal.durable_end().borrow());
    }

    /// Waits until everything that is durable now can be read.
    ///
    /// # Errors
    /// [`Unavailable::Ended`] when the projection ends first.
    pub async fn caught_up(&self) -> Result<(), Unavailable> {
        let end = *self.view.journal.durable_end().borrow();
        self.passed(end).await
    }

    /// Waits until everything that was answered before can be read. With `store.sync = "interval"` that is more than what is
    /// durable.
    ///
    /// # Errors
    /// [`Unavailable::Ended`] when the journal or the projection ends first.
    pub async fn answered(&self) -> Result<(), Unavailable> {
        self.passed(self.end().await?).await
    }

    /// The position after everything that was answered before.
    ///
    /// # Errors
    /// [`Unavailable::Ended`] when the journal ends first.
    pub async fn end(&self) -> Result<Position, Unavailable> {
        fence(self.view.journal.as_ref()).await.map_err(|_| Unavailable::Ended)
    }

    /// Waits until everything before `end` can be read.
    ///
    /// # Errors
    /// [`Unavailable::Ended`] when the projection ends first.
    pub async fn passed(&self, end: Position) -> Result<(), Unavailable> {
        let mut written = self.written.clone();
        if *written.borrow() < end {
            self.shared.want(end);
            written.wait_for(|written| *written >= end).await.map_err(|_| Unavailable::Ended)?;
        }
        Ok(())
    }

    /// Everything from which the state of `entity` is made; `None` if there is no such entity.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn history(&self, entity: &EntityKey) -> Result<Option<History>, Unavailable> {
        let entity = entity.clone();
        self.read(move |view| view.history(&entity)).await
    }

    /// What the state of `entity` is made of, without waiting: for one whose records are known to be written. Empty if
    /// there is no such entity.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn past_as_written(&self, entity: &EntityKey) -> Result<Past, Unavailable> {
        let entity = entity.clone();
        self.read_now(move |view| view.past(&entity)).await
    }

    /// At most `limit` records of `entity`, from number `sequence` on; all that stand before `end` can be among them.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn stretch(
        &self,
        entity: &EntityKey,
        sequence: u64,
        limit: usize,
        end: Position,
    ) -> Result<Stretch, Unavailable> {
        self.passed(end).await?;
        let written = *self.written.borrow();
        let entity = entity.clone();
        self.read_now(move |view| view.stretch(&entity, sequence, limit, written)).await
    }

    /// The first and newest record of `entity`; `None` if there is no such entity.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn ends(&self, entity: &EntityKey) -> Result<Option<(Stored, Stored)>, Unavailable> {
        let entity = entity.clone();
        self.read(move |view| view.ends(&entity)).await
    }

    /// The entities of `kind`, the one begun last first.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn entities(&self, kind: Kind, page: PageRequest) -> Result<Page<EntityKey>, Unavailable> {
        self.read(move |view| view.entities(kind, page)).await
    }

    /// The records of `entity`, newest first; `None` if there is no such entity.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn timeline(&self, entity: &EntityKey, page: PageRequest) -> Result<Option<Page<Stored>>, Unavailable> {
        let entity = entity.clone();
        self.read(move |view| view.timeline(&entity, page)).await
    }

    /// The events that pass `filter`, newest first.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn events(&self, filter: EventFilter, page: PageRequest) -> Result<Page<EventView>, Unavailable> {
        self.read(move |view| view.events(&filter, page)).await
    }

    /// The event at `position`; `None` if none was received there.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn event(&self, position: Position) -> Result<Option<EventView>, Unavailable> {
        self.read(move |view| view.event(position)).await
    }

    /// Where the first record of the entity stands that holds `code` for ever, as far as that is written.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn position_of_code(&self, code: &str) -> Result<Option<Position>, Unavailable> {
        let key = keys::code(code);
        self.read_now(move |view| view.position_of_code(&key)).await
    }

    /// The entity that holds `code` for ever.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn holder(&self, code: &str) -> Result<Option<EntityKey>, Unavailable> {
        self.answered().await?;
        self.holder_as_written(code).await
    }

    /// The entity that holds `code` for ever, without waiting: for a code that is known to be written if it is held.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn holder_as_written(&self, code: &str) -> Result<Option<EntityKey>, Unavailable> {
        let key = keys::code(code);
        self.read_now(move |view| {
            let Some(position) = view.position_of_code(&key)? else { return Ok(None) };
            view.indexed(position).map(|stored| Some(stored.record.entity))
        })
        .await
    }

    /// The events from `from` on that are still to be completed or failed, oldest first, at most `limit`, as far as that
    /// is written.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn owed(&self, from: Position, limit: usize) -> Result<Vec<Stored>, Unavailable> {
        self.read_now(move |view| view.owed(from, limit)).await
    }

    /// The position before which everything is written, and every change of it.
    #[must_use]
    pub fn written(&self) -> watch::Receiver<Position> {
        self.written.clone()
    }

    /// The events that are owed again although they were completed or failed before, each once that is written: they stand
    /// behind whoever goes through what is owed.
    #[must_use]
    pub fn reopened(&self) -> broadcast::Receiver<Position> {
        self.shared.reopened.subscribe()
    }

    /// The record at `position`, which was submitted: as soon as it is durable, whether or not the projection has passed it.
    ///
    /// # Errors
    /// [`Unavailable`] when the store fails.
    pub async fn record(&self, position: Position) -> Result<Option<Stored>, Unavailable> {
        let mut durable_end = self.view.journal.durable_end();
        durable_end.wait_for(|end| *end > position).await.map_err(|_| Unavailable::Ended)?;
        self.read_now(move |view| view.stored(position)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&View) -> Result<T, Unavailable> + Send + 'static,
    ) -> Result<T, Unavailable> {
        self.caught_up().await?;
        let _place = self.places.acquire().await.map_err(|_| Unavailable::Cancelled)?;
        self.read_now(ask).await
    }

    async fn read_now<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&View) -> Result<T, Unavailable> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let view = self.view.clone();
        tokio::task::spawn_blocking(move || ask(&view)).await.map_err(|_| Unavailable::Cancelled)?
    }
}

/// The reading itself, which blocks.
#[derive(Clone)]
struct View {
    tree: sled::Tree,
    journal: Arc<dyn Journal>,
}

impl View {
    fn stored(&self, position: Position) -> Result<Option<Stored>, Unavailable> {
        let frame = self.journal.read(position)?;
        frame.map(|frame| stored_in(&frame, position)).transpose()
    }

    /// A record that an index row names, so that it must be there.
    fn indexed(&self, position: Position) -> Result<Stored, Unavailable> {
        self.stored(position)?.ok_or(Unavailable::Journal(ReadError::Corrupt(position)))
    }

    fn position_of_code(&self, key: &[u8]) -> Result<Option<Position>, Unavailable> {
        let Some(row) = self.tree.get(key)? else { return Ok(None) };
        let position = row.as_ref().try_into().map_err(|_| malformed("a row of a code"))?;
        Ok(Some(Position::new(u64::from_be_bytes(position))))
    }

    fn owed(&self, from: Position, limit: usize) -> Result<Vec<Stored>, Unavailable> {
        let rows = self.tree.range(keys::owed(from)..=keys::owed(Position::new(u64::MAX))).keys().take(limit);
        rows.map(|key| self.indexed(keys::owed_position(&key?).ok_or_else(|| malformed("a key of what is owed"))?))
            .collect()
    }

    fn history(&self, entity: &EntityKey) -> Result<Option<History>, Unavailable> {
        let past = self.past(entity)?;
        let Some((first, newest)) = self.ends(entity)? else { return Ok(None) };
        // The projection may have gone on between the two: the state's own last record is the one to show with it.
        let last = match (past.later.last(), &past.snapshot) {
            (Some(last), _) => last.clone(),
            (None, Some((sequence, _))) => match self.position(entity, *sequence)? {
                Some(position) => self.indexed(position)?,
                None => newest,
            },
            (None, None) => newest,
        };
        Ok(Some(History { first, last, past }))
    }

    fn past(&self, entity: &EntityKey) -> Result<Past, Unavailable> {
        let snapshot = snapshot::load(&self.tree, entity)?;
        let included = snapshot.as_ref().map_or(0, |(sequence, _)| *sequence);
        let later = self.all(self.positions(entity, included + 1, usize::MAX)?)?;
        Ok(Past { snapshot, later })
    }

    fn stretch(
        &self,
        entity: &EntityKey,
        sequence: u64,
        limit: usize,
        written: Position,
    ) -> Result<Stretch, Unavailable> {
        let positions = self.positions(entity, sequence, limit)?;
        let end = (positions.len() < limit).then_some(written);
        Ok(Stretch { records: self.all(positions)?, end })
    }

    /// The records at `positions`, all of which are there.
    fn all(&self, positions: Vec<Position>) -> Result<Vec<Stored>, Unavailable> {
        let mut records = Vec::with_capacity(positions.len());
        let mut frame: Option<Arc<Frame>> = None;
        for position in positions {
            // Consecutive records of a busy entity mostly share a frame.
            if frame.as_ref().is_none_or(|frame| frame.entry(position).is_none()) {
                frame = self.journal.read(position)?;
            }
            let held = frame.as_ref().ok_or(Unavailable::Journal(ReadError::Corrupt(position)))?;
            records.push(stored_in(held, position)?);
        }
        Ok(records)
    }

    /// Where the entity's record `sequence` stands.
    fn position(&self, entity: &EntityKey, sequence: u64) -> Result<Option<Position>, Unavailable> {
        let (chunk, slot) = index::chunk_place(sequence);
        let row = self.tree.get(keys::timeline(entity, chunk))?.unwrap_or_default();
        Ok(index::decode_positions(&row).get(slot).copied().map(Position::new))
    }

    /// Where the entity's records from `sequence` on stand, at most `limit` of them.
    fn positions(&self, entity: &EntityKey, sequence: u64, limit: usize) -> Result<Vec<Position>, Unavailable> {
        let (chunk, mut slot) = index::chunk_place(sequence);
        let mut positions = Vec::new();
        for row in self.tree.range(keys::timeline(entity, chunk)..=keys::timeline(entity, u32::MAX)).values() {
            let row = index::decode_positions(&row?);
            positions.extend(row.into_iter().skip(slot).take(limit - positions.len()).map(Position::new));
            if positions.len() == limit {
                break;
            }
            slot = 0;
        }
        Ok(positions)
    }

    fn ends(&self, entity: &EntityKey) -> Result<Option<(Stored, Stored)>, Unavailable> {
        let Some(first) = self.tree.get(keys::timeline(entity, 0))? else { return Ok(None) };
        let Some(first) = index::decode_positions(&first).first().copied() else { return Ok(None) };
        let rows = self.tree.range(keys::timeline_prefix(entity)..=keys::timeline(entity, u32::MAX));
        let newest = rows.values().next_back().transpose()?;
        let last = newest.and_then(|row| index::decode_positions(&row).last().copied()).unwrap_or(first);
        Ok(Some((self.indexed(Position::new(first))?, self.indexed(Position::new(last))?)))
    }

    fn last_sequence(&self, entity: &EntityKey) -> Result<Option<u64>, Unavailable> {
        let rows = self.tree.range(keys::timeline_prefix(entity)..=keys::timeline(entity, u32::MAX));
        let Some((key, row)) = rows.last_row()? else { return Ok(None) };
        let chunk = u64::from(keys::timeline_chunk(&key).unwrap_or_default());
        Ok(Some(chunk * CHUNK_RECORDS + index::decode_positions(&row).len() as u64))
    }

    fn entities(&self, kind: Kind, page: PageRequest) -> Result<Page<EntityKey>, Unavailable> {
        // Rows are written before the cursor row, so births are counted by their rows.
        let total = self.births(kind)?;
        let mut items = Vec::new();
        for number in page.numbers(total) {
            let Some(id) = self.tree.get(keys::birth(kind, number))? else { continue };
            items.extend(std::str::from_utf8(&id).ok().and_then(|id| EntityKey::try_new(kind, id).ok()));
        }
        Ok(Page { items, total })
    }

    fn births(&self, kind: Kind) -> Result<u64, Unavailable> {
        let rows = self.tree.range(keys::birth(kind, 0)..=keys::birth(kind, u64::MAX));
        let Some((key, _)) = rows.last_row()? else { return Ok(0) };
        Ok(key.last_chunk().map_or(0, |number| u64::from_be_bytes(*number) + 1))
    }

    fn timeline(&self, entity: &EntityKey, page: PageRequest) -> Result<Option<Page<Stored>>, Unavailable> {
        let Some(total) = self.last_sequence(entity)? else { return Ok(None) };
        let mut items = Vec::new();
        let mut row: Option<(u32, Vec<u64>)> = None;
        for number in page.numbers(total) {
            let (chunk, slot) = index::chunk_place(number + 1);
            if row.as_ref().is_none_or(|(held, _)| *held != chunk) {
                let value = self.tree.get(keys::timeline(entity, chunk))?.unwrap_or_default();
                row = Some((chunk, index::decode_positions(&value)));
            }
            let position = row.as_ref().and_then(|(_, positions)| positions.get(slot).copied());
            items.push(self.indexed(Position::new(position.unwrap_or_default()))?);
        }
        Ok(Some(Page { items, total }))
    }

    fn event(&self, position: Position) -> Result<Option<EventView>, Unavailable> {
        let stored = self.stored(position)?.filter(|stored| stored.record.reprocesses.is_none());
        stored.map(|event| self.event_view(event)).transpose()
    }

    fn event_view(&self, event: Stored) -> Result<EventView, Unavailable> {
        // What concludes another event has happened; its failure is that event's.
        let has_failed = event.record.failure.is_some() && event.record.concludes.is_none();
        if !has_failed && !event.record.owes {
            return Ok(EventView { event, status: Status::Completed, resolution: None, later_records: 0 });
        }
        let row = self.tree.get(keys::attempts(event.position))?;
        let attempts = row.map(|row| index::decode_positions(&row)).unwrap_or_default();
        let newest = attempts.last().copied().map(Position::new);
        let resolution = newest.map(|position| self.indexed(position)).transpose()?;
        let Record { failure, owes, .. } = &resolution.as_ref().unwrap_or(&event).record;
        let status = match (failure, owes) {
            (Some(_), _) => Status::Failed,
            (None, true) => Status::Processing,
            (None, false) => Status::Completed,
        };
        let later_records = u32::try_from(attempts.len()).unwrap_or(u32::MAX);
        Ok(EventView { event, status, resolution, later_records })
    }

    fn events(&self, filter: &EventFilter, page: PageRequest) -> Result<Page<EventView>, Unavailable> {
        let places = page.places();
        let (mut total, mut items) = (0, Vec::new());
        let Some(wanted) = Wanted::try_new(filter, &Names::load(&self.tree)?) else {
            return Ok(Page { items, total });
        };
        let unsure = wanted.is_unsure();
        for found in self.matches(wanted) {
            let position = found?;
            if unsure && !filter.admits(&self.indexed(position)?.record) {
                continue;
            }
            if places.contains(&total) {
                items.push(self.event_view(self.indexed(position)?)?);
            }
            total += 1;
        }
        Ok(Page { items, total })
    }

    /// The positions of the events that `wanted` admits, newest first.
    fn matches(&self, wanted: Wanted) -> impl Iterator<Item = Result<Position, Unavailable>> + '_ {
        let rows = self.tree.range(keys::events(0)..=keys::events(u64::MAX)).rev();
        let blocks = rows.map_while(move |row| match row {
            Err(error) => Some(Err(Unavailable::Store(error))),
            Ok((key, value)) => {
                let number = key.last_chunk().map_or(0, |number| u64::from_be_bytes(*number));
                let Some(block) = Block::decode(&value) else { return Some(Err(malformed("a block of events"))) };
                let newest = block.newest_first().next().map(|(_, slot)| slot.received_at);
                // Receive times never go backwards: everything before this block is older still.
                let exhausted = wanted.since.zip(newest).is_some_and(|(since, newest)| newest < since);
                (!exhausted).then(|| Ok(wanted.positions(number, &block)))
            }
        });
        blocks.flat_map(|found| match found {
            Ok(positions) => positions.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        })
    }
}

fn malformed(what: &str) -> Unavailable {
    Unavailable::Store(sled::Error::ReportableBug(format!("{what} is malformed")))
}

fn stored_in(frame: &Frame, position: Position) -> Result<Stored, Unavailable> {
    let corrupt = || Unavailable::Journal(ReadError::Corrupt(position));
    let entry = frame.entry(position).ok_or_else(corrupt)?;
    let record = Record::decode(&entry.bytes).map_err(|_| corrupt())?;
    Ok(Stored { position, received_at: entry.received_at, committed_at: frame.committed_at, record })
}

/// The last row of a range.
trait LastRow {
    fn last_row(self) -> Result<Option<(sled::IVec, sled::IVec)>, sled::Error>;
}

impl LastRow for sled::Iter {
    fn last_row(mut self) -> Result<Option<(sled::IVec, sled::IVec)>, sled::Error> {
        self.next_back().transpose()
    }
}

/// A filter in the numbers of the event blocks.
struct Wanted {
    source: Option<u16>,
    event_type: Option<u16>,
    kind: Option<u16>,
    id: Option<u64>,
    mark: Option<Mark>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Wanted {
    /// `None` when a name is asked for that no event has.
    fn try_new(filter: &EventFilter, names: &Names) -> Option<Self> {
        let number = |name: Option<&str>| name.map(|name| names.number(name).ok_or(())).transpose().ok();
        Some(Self {
            source: number(filter.source.as_deref())?,
            event_type: number(filter.event_type.as_deref())?,
            kind: number(filter.kind.map(Kind::as_str))?,
            id: filter.entity.as_deref().map(|id| fingerprint("", id)),
            mark: filter.status.map(|status| match status {
                Status::Processing => Mark::Processing,
                Status::Completed => Mark::Completed,
                Status::Failed => Mark::Failed,
            }),
            since: filter.since,
            until: filter.until,
        })
    }

    /// Whether names are asked for that have no number of their own, so that the records have to be read.
    fn is_unsure(&self) -> bool {
        [self.source, self.event_type, self.kind].contains(&Some(OTHER))
    }

    fn positions(&self, block: u64, slots: &Block) -> Vec<Position> {
        let matching = slots.newest_first().filter(|(_, slot)| self.admits(slot));
        matching.map(|(place, _)| Position::new(block * BLOCK_EVENTS + place as u64)).collect()
    }

    fn admits(&self, slot: &Slot) -> bool {
        slot.mark != Mark::Attempt
            && self.source.is_none_or(|source| source == slot.source)
            && self.event_type.is_none_or(|event_type| event_type == slot.event_type)
            && self.kind.is_none_or(|kind| kind == slot.kind)
            && self.id.is_none_or(|id| id == slot.id)
            && self.mark.is_none_or(|mark| mark == slot.mark)
            && self.since.is_none_or(|since| slot.received_at >= since)
            && self.until.is_none_or(|until| slot.received_at < until)
    }
}
