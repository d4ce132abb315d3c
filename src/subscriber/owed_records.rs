//! Records that the delivery stage still needs, so that retention must not remove them.
//!
//! | needed by | until |
//! |---|---|
//! | cursor of the dispatcher or of a subscriber | it has passed the record |
//! | lane that is stopped, halted or in delivery | the record is delivered |
//! | job that replays events | the job has settled the record, or is older than `delivery.hold_days` |
//! | dead letter | it is delivered or discarded; a copy of its record is kept |
//!
//! All positions are those on the disk, from which a crash would go on.

use std::collections::BTreeSet;
use std::time::Duration;

use super::delivery::LaneKey;
use super::redelivery::RedeliveryStores;
use super::stage_requests::StageRequest;
use super::subscriber_id::SubscriberId;
use super::tables::{DeliveryTables, ReadState};
use crate::derived::DerivedStoreError;
use crate::event::{Position, Timestamp};
use crate::projection::StoredRecord;
use crate::table_store::TableWriteError;

/// Delivery that is owed, as the lane that holds it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwedDelivery {
    /// Attempts that were made at this record.
    pub attempts: u32,
    /// Time until the next attempt at this record; `None` if it is not the first of its lane.
    pub next_attempt_in: Option<Duration>,
    /// Number of the event of the same entity that has to be settled before.
    pub waits_for: Option<u64>,
    /// True if a dead letter halts the lane.
    pub is_halted: bool,
}

/// Reader of the positions that deliveries need. Cheap to clone. All methods block.
#[derive(Clone)]
pub struct OwedRecords {
    tables: DeliveryTables,
    recovery: RedeliveryStores,
}

impl OwedRecords {
    pub(super) const fn new(tables: DeliveryTables, recovery: RedeliveryStores) -> Self {
        Self { tables, recovery }
    }

    /// Returns the first position that a delivery needs at `now`, apart from dead letters. Jobs
    /// that are older than `hold` do not count.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the tables cannot be read.
    pub fn first_owed(
        &self,
        now: Timestamp,
        hold: Duration,
    ) -> Result<Position, DerivedStoreError> {
        // A store without a cursor never delivered anything; its first cursor is the end.
        let cursor = self.tables.cursor()?.unwrap_or(Position::new(u64::MAX));
        let mut first = cursor;
        for (_, state) in self.tables.read_states()? {
            if let ReadState::Behind(from) = state {
                first = first.min(from);
            }
        }
        for owner in self.tables.lane_owners()? {
            let rows = self.tables.lane_rows(&owner, now)?;
            let lowest = rows.iter().map(|row| row.position).min();
            first = lowest.map_or(first, |lowest| first.min(lowest));
        }
        let replayed = self.recovery.jobs.first_unsettled(now.saturating_sub(hold));
        Ok(replayed.map_or(first, |replayed| first.min(replayed)))
    }

    /// Returns what a lane of `subscriber` on the disk says about `stored`; `None` if no lane holds it.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the tables cannot be read.
    pub fn find_owed_delivery(
        &self,
        subscriber: &SubscriberId,
        stored: &StoredRecord,
        now: Timestamp,
    ) -> Result<Option<OwedDelivery>, DerivedStoreError> {
        let of_entity = LaneKey::Entity(stored.record.entity.clone());
        let of_record = LaneKey::Record(stored.position);
        for key in [of_entity, of_record] {
            let Some(row) = self.tables.lane_row(subscriber, &key, now)? else {
                continue;
            };
            let is_single = matches!(row.key, LaneKey::Record(_));
            let sequence = stored.record.sequence.unwrap_or_default();
            if is_single || row.sequence <= sequence {
                let is_head = is_single || row.sequence == sequence;
                return Ok(Some(OwedDelivery {
                    attempts: if is_head { row.attempts } else { 0 },
                    next_attempt_in: is_head.then_some(row.wait),
                    waits_for: (!is_head).then_some(row.sequence),
                    is_halted: row.is_halted,
                }));
            }
        }
        Ok(None)
    }

    /// Returns the positions before `end` of all dead letters.
    #[must_use]
    pub fn dead_letters_before(&self, end: Position) -> BTreeSet<Position> {
        self.recovery.dead_letters.positions_before(end)
    }

    /// Returns the dead letters that can quote records for which `is_expired` holds.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the tables cannot be read.
    pub fn find_quoting(
        &self,
        is_expired: &dyn Fn(Position) -> bool,
    ) -> Result<Vec<u64>, DerivedStoreError> {
        self.recovery.dead_letters.find_quoting(is_expired)
    }

    /// Removes from the dead letters `quoting` what they can quote of their records.
    ///
    /// # Errors
    /// [`TableWriteError`] when the tables cannot be written.
    pub fn expire_quotes(&self, quoting: &[u64]) -> Result<(), TableWriteError> {
        self.recovery.dead_letters.expire_quotes(quoting)
    }

    /// Asks the stage to give up all deliveries before `position`, which are older than
    /// `delivery.hold_days`. One dead letter of each subscriber states how many.
    ///
    /// # Errors
    /// [`DerivedStoreError`] when the tables cannot be read.
    pub fn expire_before(
        &self,
        position: Position,
        now: Timestamp,
    ) -> Result<(), DerivedStoreError> {
        let cursor = self.tables.cursor()?;
        let mut late = BTreeSet::new();
        for (subscriber, state) in self.tables.read_states()? {
            let from = match state {
                ReadState::Live => cursor,
                ReadState::Behind(from) => Some(from),
            };
            if from.is_some_and(|from| from < position) {
                late.insert(subscriber);
            }
        }
        for owner in self.tables.lane_owners()? {
            let rows = self.tables.lane_rows(&owner, now)?;
            if rows.iter().any(|row| row.position < position) {
                late.insert(owner);
            }
        }
        for subscriber in late {
            let request = StageRequest::ExpireBefore(position);
            self.recovery.requests.post(&subscriber, request);
        }
        Ok(())
    }
}
