//! Dead letters: deliveries that failed for good, kept until they are delivered again or discarded.
//!
//! ```text
//!  delivery fails for good ──add──> index (memory) + checkpoint buffer ──> table ──> list, get
//!                                     │    │
//!  job delivers it ──remove_delivered─┘    └── counted against delivery.dead_letters_max
//!  operator discards it ──discard─────┘
//! ```
//!
//! The record itself stays in the journal; a dead letter holds its position. A record that fails
//! again renews its dead letter, so a record has at most one dead letter for each subscriber.

mod filter;
mod index;
mod letter;
#[cfg(test)]
pub(super) mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Semaphore;

pub use filter::DeadLetterFilter;
pub use letter::{ANSWER_MAX_BYTES, DeadLetter, DeadLetterSubject, FailedDelivery};

pub use super::new_dead_letter::{DeadLetterCause, NewDeadLetter};

use super::checkpoint::CheckpointBuffer;
use super::delivery::LaneKey;
use super::stage_requests::{StageRequest, StageRequestQueue};
use super::tables::dead_letters::{
    dead_letter_key, encode_dead_letter, encode_next_id, next_id_key,
};
use super::tables::{DeliveryTables, TableTag};
use super::{MissedRecords, RedeliveryDeps, SubscriberId};
use crate::clock::Clock;
use crate::derived::DerivedStoreError;
use crate::event::{EntityKey, Position};
use crate::journal::TableChange;
use crate::projection::items_at;
use crate::table_store::TableWriteError;
use index::{DeadLetterEntry, DeadLetterIndex, SubscriberDeadLetters};

pub(super) use index::DeadLetterPlace;

/// Lists that are read at once. Deliveries need threads of the same pool.
const READERS_MAX: usize = 2;

/// Rows in one page of a full scan.
const ROWS_AT_ONCE: usize = 1024;

/// Error for which dead letters cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterReadError {
    /// Earlier changes cannot be written: the delivery stage has stopped.
    #[error("delivery stage stopped")]
    Ended,
    /// The store failed, or holds a malformed row.
    #[error("cannot read dead letters")]
    Store(#[from] DerivedStoreError),
    /// The node stops before the read has ended.
    #[error("read cancelled, the node is stopping")]
    Cancelled,
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct DeadLetterPage {
    /// Dead letters of the page, newest first.
    pub items: Vec<ListedDeadLetter>,
    /// Number of dead letters on all pages.
    pub total: u64,
    /// Id above those of all dead letters on all pages; later ones get this id or a higher one.
    pub end_id: u64,
}

/// A dead letter with the job that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedDeadLetter {
    /// The dead letter as stored.
    pub letter: DeadLetter,
    /// Job that is delivering the dead letter again.
    pub job: Option<u64>,
}

/// Outcome of a request to discard a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscardOutcome {
    /// The dead letter was discarded.
    Gone,
    /// No dead letter has that id.
    NotFound,
    /// This job is delivering the dead letter again, so it was kept.
    InJob(u64),
}

/// All dead letters of an open store.
pub struct DeadLetterStore {
    index: Mutex<DeadLetterIndex>,
    tables: DeliveryTables,
    checkpoints: Arc<CheckpointBuffer>,
    requests: Arc<StageRequestQueue>,
    clock: Arc<dyn Clock>,
    reader_permits: Semaphore,
    bounds: DeadLetterBounds,
}

/// Bounds at which subscribers pause.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeadLetterBounds {
    /// Most dead letters of one subscriber.
    pub(crate) max: u64,
    /// Most dead letters of all subscribers together.
    pub(crate) total_max: u64,
}

impl std::fmt::Debug for DeadLetterStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeadLetterStore")
    }
}

impl DeadLetterStore {
    /// Loads the index from `tables`. Subscribers with more dead letters than `bounds` allow pause.
    /// Blocks.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn open(
        tables: DeliveryTables,
        (checkpoints, requests, clock): RedeliveryDeps,
        bounds: DeadLetterBounds,
    ) -> Result<Arc<Self>, DerivedStoreError> {
        let mut index = DeadLetterIndex::default();
        index.next_id = tables.next_id(TableTag::DeadLetter)?;
        for_each_letter(&tables, |letter| index.add(&letter, None))?;
        Ok(Arc::new(Self {
            index: Mutex::new(index),
            tables,
            checkpoints,
            requests,
            clock,
            reader_permits: Semaphore::new(READERS_MAX),
            bounds,
        }))
    }

    /// Adds a dead letter of `subscriber` and returns its id. If the record has a dead letter
    /// already, that one is renewed and keeps its id, its time and the job that holds it.
    pub fn add(&self, subscriber: &SubscriberId, new_letter: NewDeadLetter) -> u64 {
        let now = self.clock.wall();
        let (position, cause) = (new_letter.item.position, new_letter.cause);
        let mut index = self.lock();
        let earlier = index.remove(subscriber, position.into());
        let (id, at, attempts) = match &earlier {
            Some(entry) => (entry.id, entry.at, entry.attempts()),
            None => (self.allocate_id(&mut index), now, 0),
        };

        // The failure may be of another job: the holder releases its claim when it settles the record.
        let job = earlier.as_ref().and_then(|entry| entry.job);
        let mut delivery = new_letter.into_failed_delivery(attempts, now);
        // A lane stays halted by a dead letter that failed again.
        delivery.is_halting |= earlier.is_some_and(|entry| entry.halted_entity().is_some());
        let letter = DeadLetter {
            id,
            subscriber: subscriber.clone(),
            cause,
            at,
            subject: DeadLetterSubject::Event(Box::new(delivery)),
        };
        self.store_row(&mut index, &letter, job);
        id
    }

    /// Adds the deliveries of `missed` to `subscriber`, which are dropped for `cause`. Returns the
    /// id of their dead letter: missed records with the same cause share one, as long as no job
    /// holds it.
    pub fn add_missed(
        &self,
        subscriber: &SubscriberId,
        cause: DeadLetterCause,
        mut missed: MissedRecords,
    ) -> u64 {
        let mut index = self.lock();
        let is_open = |entry: &&DeadLetterEntry| entry.cause == cause && entry.job.is_none();
        let owned = index.subscriber(subscriber);
        let open = owned.and_then(|owned| owned.missed_entries().find(is_open).cloned());
        let (id, at) = match open {
            Some(entry) => {
                missed.merge(entry.missed().cloned().unwrap_or_default());
                (entry.id, entry.at)
            }
            None => (self.allocate_id(&mut index), self.clock.wall()),
        };
        let letter = DeadLetter {
            id,
            subscriber: subscriber.clone(),
            cause,
            at,
            subject: DeadLetterSubject::Range(missed),
        };
        self.store_row(&mut index, &letter, None);
        id
    }

    /// Returns the records of the dead letter `id`, if it is one of missed records.
    pub(super) fn missed_records(
        &self,
        subscriber: &SubscriberId,
        id: u64,
    ) -> Option<MissedRecords> {
        let index = self.lock();
        let entry = index.get(subscriber, DeadLetterPlace::Missed(id))?;
        entry.missed().cloned()
    }

    /// Returns the id of the dead letter of `subscriber` that stands for the record at `position`,
    /// alone or with others that were missed.
    #[must_use]
    pub fn find_letter_of(&self, subscriber: &SubscriberId, position: Position) -> Option<u64> {
        let index = self.lock();
        let owned = index.subscriber(subscriber)?;
        let own = owned.entries.get(&position.into());
        let is_missed = |entry: &&DeadLetterEntry| {
            let missed = entry.missed();
            missed.is_some_and(|missed| missed.next_missed(position) == Some(position))
        };
        let found = own.or_else(|| owned.missed_entries().find(is_missed));
        found.map(|entry| entry.id)
    }

    /// Number of dead letters of `subscriber`, ranges included.
    #[must_use]
    pub fn count(&self, subscriber: &SubscriberId) -> u64 {
        self.lock()
            .subscriber(subscriber)
            .map_or(0, SubscriberDeadLetters::len)
    }

    /// Number of dead letters of all subscribers, ranges included.
    #[must_use]
    pub fn count_all(&self) -> u64 {
        self.lock().total()
    }

    /// Returns the positions before `end` of the records that have a dead letter.
    pub(super) fn positions_before(&self, end: Position) -> BTreeSet<Position> {
        let index = self.lock();
        let entries = index.by_subscriber.values();
        let before = entries.flat_map(|owned| owned.entries.range(..DeadLetterPlace::Record(end)));
        let position = |(place, _): (&DeadLetterPlace, _)| match place {
            DeadLetterPlace::Record(position) => Some(*position),
            DeadLetterPlace::Missed(_) => None,
        };
        before.filter_map(position).collect()
    }

    /// Finds the dead letters on the disk that can quote records for which `is_expired` holds. Blocks.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the store fails.
    pub(super) fn find_quoting(
        &self,
        is_expired: &dyn Fn(Position) -> bool,
    ) -> Result<Vec<u64>, DerivedStoreError> {
        let mut quoting = Vec::new();
        for_each_letter(&self.tables, |letter| {
            if letter.quoted_position().is_some_and(is_expired) {
                quoting.push(letter.id);
            }
        })?;
        Ok(quoting)
    }

    /// Removes from the dead letters `quoting` what they can quote. Returns once that is on the disk.
    /// Blocks.
    ///
    /// # Errors
    /// [`TableWriteError`] when the store fails.
    pub(super) fn expire_quotes(&self, quoting: &[u64]) -> Result<(), TableWriteError> {
        for ids in quoting.chunks(ROWS_AT_ONCE) {
            // Under the lock, no dead letter is removed between its reading and its writing.
            let index = self.lock();
            let mut changes = Vec::new();
            for id in ids {
                let letter = self.tables.dead_letter(*id)?;
                let held = letter.filter(|letter| index.find_entry(letter).is_some());
                changes.extend(held.map(|letter| TableChange::Put {
                    key: dead_letter_key(*id).into_bytes(),
                    value: encode_dead_letter(&letter.into_expired()),
                }));
            }
            if !changes.is_empty() {
                self.tables.write(changes)?;
            }
        }
        Ok(())
    }

    /// True if `subscriber` has as many dead letters as it may, so that it has to pause. If all
    /// subscribers together have too many, those with more than an equal share pause.
    #[must_use]
    pub fn is_full(&self, subscriber: &SubscriberId) -> bool {
        let index = self.lock();
        let count = index
            .subscriber(subscriber)
            .map_or(0, SubscriberDeadLetters::len);
        let owners = index.by_subscriber.len().max(1) as u64;
        let is_over_share = count > 0 && count >= self.bounds.total_max / owners;
        count >= self.bounds.max || (index.total() >= self.bounds.total_max && is_over_share)
    }

    /// True if a dead letter halts the lane `key` of `subscriber`. A lane that is stored as halted
    /// without a dead letter has to be released: a crash came between the two removals.
    #[must_use]
    pub fn is_lane_halted(&self, subscriber: &SubscriberId, key: &LaneKey) -> bool {
        let LaneKey::Entity(entity) = key else {
            return false;
        };
        self.lock()
            .subscriber(subscriber)
            .is_some_and(|owned| owned.is_lane_halted(entity))
    }

    /// Removes the dead letters of all subscribers for which `is_known` is false.
    pub fn retain(&self, is_known: impl Fn(&SubscriberId) -> bool) {
        let removed = self.lock().retain(is_known);
        for id in removed {
            self.checkpoints.remove(dead_letter_key(id));
        }
    }

    /// Returns the dead letters that pass `filter`, at the indexes in `range`, counted from the
    /// newest.
    ///
    /// # Errors
    /// The store fails, or the stage stops.
    pub async fn list(
        self: &Arc<Self>,
        filter: DeadLetterFilter,
        range: Range<u64>,
    ) -> Result<DeadLetterPage, DeadLetterReadError> {
        // The ids are taken before the flush, so that all of them can be read after it.
        let newest = usize::try_from(range.end).unwrap_or(usize::MAX);
        let (ids, total) = self
            .on_blocking_thread(move |letters| letters.newest_matching(&filter, newest))
            .await?;
        let end_id = ids.first().map_or(0, |newest| newest + 1);

        self.read_blocking(move |letters| {
            let mut items = Vec::new();
            for id in items_at(range, ids.iter()) {
                items.extend(letters.read_letter(*id)?);
            }
            Ok(DeadLetterPage {
                items,
                total,
                end_id,
            })
        })
        .await
    }

    /// Returns the dead letter `id`, if there is one.
    ///
    /// # Errors
    /// The store fails, or the stage stops.
    pub async fn get(
        self: &Arc<Self>,
        id: u64,
    ) -> Result<Option<ListedDeadLetter>, DeadLetterReadError> {
        self.read_blocking(move |letters| letters.read_letter(id))
            .await
    }

    /// Discards the dead letter `id`, unless a job holds it; a lane that it halted goes on. Returns
    /// once the removal is on the disk.
    ///
    /// # Errors
    /// The store fails; the dead letter may be gone nevertheless.
    pub async fn discard(self: &Arc<Self>, id: u64) -> Result<DiscardOutcome, DeadLetterReadError> {
        let Some(ListedDeadLetter { letter, .. }) = self.get(id).await? else {
            return Ok(DiscardOutcome::NotFound);
        };
        let place = DeadLetterPlace::from_letter(&letter);
        let discarded = self.discard_at(&letter.subscriber, letter.id, place);
        if discarded == DiscardOutcome::Gone {
            self.flush().await?;
        }
        Ok(discarded)
    }

    /// Discards all dead letters that pass `filter` and that no job holds. Returns their number
    /// once the removals are on the disk.
    ///
    /// # Errors
    /// The store fails; some of the dead letters may be gone nevertheless.
    pub async fn discard_matching(
        self: &Arc<Self>,
        filter: DeadLetterFilter,
    ) -> Result<u64, DeadLetterReadError> {
        let discarded = self
            .on_blocking_thread(move |letters| letters.discard_each(&filter))
            .await?;
        self.flush().await?;
        Ok(discarded)
    }

    /// Counts the dead letters that pass `filter`, by subscriber. Those of missed records are not
    /// counted: each of them needs a job of its own.
    pub(super) fn count_by_subscriber(
        &self,
        filter: &DeadLetterFilter,
    ) -> BTreeMap<SubscriberId, u64> {
        let mut totals = BTreeMap::new();
        self.lock().for_each_match(filter, |subscriber, _, place| {
            if matches!(place, DeadLetterPlace::Record(_)) {
                *totals.entry(subscriber.clone()).or_default() += 1;
            }
        });
        totals
    }

    /// Returns the positions and causes of at most `limit` dead letters of `subscriber` with ids below
    /// `before` and records from `from` to before `end`, in the order of their records.
    pub(super) fn recovery_candidates(
        &self,
        subscriber: &SubscriberId,
        (from, end): (Position, Position),
        before: u64,
        limit: usize,
    ) -> Vec<(Position, DeadLetterCause)> {
        let index = self.lock();
        let Some(owned) = index.subscriber(subscriber).filter(|_| from < end) else {
            return Vec::new();
        };
        let range = DeadLetterPlace::Record(from)..DeadLetterPlace::Record(end);
        let older = owned
            .entries
            .range(range)
            .filter(|(_, entry)| entry.id < before);
        let candidate = |(place, entry): (&DeadLetterPlace, &DeadLetterEntry)| match place {
            DeadLetterPlace::Record(position) => Some((*position, entry.cause)),
            DeadLetterPlace::Missed(_) => None,
        };
        older.filter_map(candidate).take(limit).collect()
    }

    /// Claims the dead letter at `place` for `job` and returns its id. A claimed dead letter cannot be
    /// discarded or claimed by another job.
    ///
    /// # Errors
    /// The other job that holds the dead letter; `None` if there is no such dead letter.
    pub(super) fn claim_for_job(
        &self,
        subscriber: &SubscriberId,
        place: impl Into<DeadLetterPlace>,
        job: u64,
    ) -> Result<u64, Option<u64>> {
        let mut index = self.lock();
        let entry = index.get_mut(subscriber, place.into()).ok_or(None)?;
        match entry.job {
            Some(other) if other != job => Err(Some(other)),
            Some(_) | None => {
                entry.job = Some(job);
                Ok(entry.id)
            }
        }
    }

    /// Releases the claims of `job` on the dead letters at `places`.
    pub(super) fn release_claims<P: Into<DeadLetterPlace>>(
        &self,
        subscriber: &SubscriberId,
        places: impl IntoIterator<Item = P>,
        job: u64,
    ) {
        let mut index = self.lock();
        for place in places {
            let entry = index.get_mut(subscriber, place.into());
            if let Some(entry) = entry.filter(|entry| entry.job == Some(job)) {
                entry.job = None;
            }
        }
    }

    /// Removes the dead letter at `place`. Its events were delivered after all, or have dead letters of
    /// their own.
    pub(super) fn remove_delivered(
        &self,
        subscriber: &SubscriberId,
        place: impl Into<DeadLetterPlace>,
    ) {
        let mut index = self.lock();
        if let Some(entry) = index.remove(subscriber, place.into()) {
            self.remove_row(&mut index, subscriber, entry);
        }
    }

    /// Id that the next dead letter gets; all dead letters of now have lower ids.
    pub(super) fn next_id(&self) -> u64 {
        self.lock().next_id
    }

    /// Waits until all changes made before this call are on the disk.
    ///
    /// # Errors
    /// [`DeadLetterReadError::Ended`] if the store fails or the stage stops first.
    pub(super) async fn flush(&self) -> Result<(), DeadLetterReadError> {
        self.checkpoints
            .flush()
            .await
            .map_err(|_| DeadLetterReadError::Ended)
    }

    fn read_letter(&self, id: u64) -> Result<Option<ListedDeadLetter>, DeadLetterReadError> {
        let letter = self.tables.dead_letter(id)?;
        Ok(letter.and_then(|letter| {
            self.claiming_job(&letter)
                .map(|job| ListedDeadLetter { letter, job })
        }))
    }

    /// Returns the ids of the `newest` dead letters that pass `filter`, the newest first, and the number
    /// of all that do.
    fn newest_matching(&self, filter: &DeadLetterFilter, newest: usize) -> (Vec<u64>, u64) {
        let mut ids = Vec::new();
        self.lock().for_each_match(filter, |_, id, _| ids.push(id));
        let total = ids.len() as u64;
        if newest < ids.len() {
            ids.select_nth_unstable_by_key(newest, |id| Reverse(*id));
            ids.truncate(newest);
        }
        ids.sort_unstable_by_key(|id| Reverse(*id));
        (ids, total)
    }

    /// Discards the dead letters that pass `filter`, one after another: deliveries take the same lock,
    /// and get it in between.
    fn discard_each(&self, filter: &DeadLetterFilter) -> u64 {
        let mut found = Vec::new();
        self.lock().for_each_match(filter, |subscriber, id, place| {
            found.push((subscriber.clone(), id, place));
        });
        let is_gone = |(subscriber, id, place): &(SubscriberId, u64, DeadLetterPlace)| {
            self.discard_at(subscriber, *id, *place) == DiscardOutcome::Gone
        };
        found.iter().filter(|letter| is_gone(letter)).count() as u64
    }

    /// Discards the dead letter `id` at `place`.
    fn discard_at(
        &self,
        subscriber: &SubscriberId,
        id: u64,
        place: DeadLetterPlace,
    ) -> DiscardOutcome {
        let mut index = self.lock();
        let found = index.get(subscriber, place);
        match found.filter(|entry| entry.id == id).map(|entry| entry.job) {
            None => return DiscardOutcome::NotFound,
            // A job counts a dead letter that is gone as delivered, so nobody else may remove it.
            Some(Some(job)) => return DiscardOutcome::InJob(job),
            Some(None) => {}
        }
        if let Some(entry) = index.remove(subscriber, place) {
            self.remove_row(&mut index, subscriber, entry);
        }
        DiscardOutcome::Gone
    }

    /// Removes the row of `entry`, which is no longer in the index. A lane that no other dead letter
    /// halts is released. A subscriber that paused for lack of room looks again at each checkpoint.
    fn remove_row(
        &self,
        index: &mut DeadLetterIndex,
        subscriber: &SubscriberId,
        entry: DeadLetterEntry,
    ) {
        self.checkpoints.remove(dead_letter_key(entry.id));
        let owned = index.subscriber(subscriber);
        let is_still_halted =
            |entity: &&EntityKey| owned.is_some_and(|owned| owned.is_lane_halted(entity));
        let halted = entry.halted_entity();
        if let Some(entity) = halted.filter(|entity| !is_still_halted(entity)) {
            let released = StageRequest::LaneReleased(LaneKey::Entity(entity.clone()));
            self.requests.post(subscriber, released);
        }
        if owned.is_none_or(|owned| owned.len() == 0) {
            index.by_subscriber.remove(subscriber);
        }
    }

    fn store_row(&self, index: &mut DeadLetterIndex, letter: &DeadLetter, job: Option<u64>) {
        index.add(letter, job);
        self.checkpoints
            .put(dead_letter_key(letter.id), encode_dead_letter(letter));
    }

    fn allocate_id(&self, index: &mut DeadLetterIndex) -> u64 {
        let id = index.allocate_id();
        self.checkpoints.put(
            next_id_key(TableTag::DeadLetter),
            encode_next_id(index.next_id),
        );
        id
    }

    /// Returns the job that holds `letter`, if any; `None` if the dead letter itself is gone.
    #[expect(
        clippy::option_option,
        reason = "a dead letter without a job differs from a dead letter that is gone"
    )]
    fn claiming_job(&self, letter: &DeadLetter) -> Option<Option<u64>> {
        self.lock().find_entry(letter).map(|entry| entry.job)
    }

    async fn read_blocking<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Self) -> Result<T, DeadLetterReadError> + Send + 'static,
    ) -> Result<T, DeadLetterReadError> {
        // The reader has to see all earlier dead letters. No id may be shown that a crash could
        // give to another dead letter.
        self.flush().await?;
        self.on_blocking_thread(read).await?
    }

    /// Runs `work` on a thread that may block: there may be a million dead letters, and a worker of
    /// HTTP has other callers.
    async fn on_blocking_thread<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, DeadLetterReadError> {
        let _permit = self
            .reader_permits
            .acquire()
            .await
            .map_err(|_| DeadLetterReadError::Cancelled)?;
        let letters = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&letters))
            .await
            .map_err(|_| DeadLetterReadError::Cancelled)
    }

    fn lock(&self) -> MutexGuard<'_, DeadLetterIndex> {
        self.index.lock()
    }
}

/// Calls `visit` with each dead letter on the disk, in the order of ids.
pub(super) fn for_each_letter(
    tables: &DeliveryTables,
    mut visit: impl FnMut(DeadLetter),
) -> Result<(), DerivedStoreError> {
    let mut after = 0;
    loop {
        let page = tables.dead_letters(after, ROWS_AT_ONCE)?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.id;
        page.into_iter().for_each(&mut visit);
    }
}
