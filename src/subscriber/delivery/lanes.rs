//! All lanes of a subscriber, with their rows, their records in memory and the oldest unsettled
//! head.
//!
//! No function here iterates over all lanes, but for a change of the policy, and for a subscriber that
//! wants one order for everything, which has few.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::deferred_records::DeferredRecords;
use super::identifiers::LaneKey;
use super::input::MatchedRecord;
use super::lane::{DeliveryLane, LanePhase, LaneRowState};
use super::lane_row::LaneRow;
use crate::event::{EntityKey, Position};
use crate::subscriber::OutboundRecord;

/// Consequence of a record that the reader added to its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EnqueueOutcome {
    /// The lane becomes ready by the record.
    LaneBegins,
    /// The lane holds the record, will read it from the timeline, or has settled it.
    InLane,
    /// The lane holds as many records as it may. It reads the others from the timeline, and needs a
    /// row, so that it does not hold the cursor.
    LaneFull,
}

/// Records and bytes that one lane may hold in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaneRoom {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct DeliveryLanes {
    map: HashMap<LaneKey, DeliveryLane>,
    /// Heads of lanes without a row; the first of them holds the cursor.
    unstored_heads: BTreeMap<Position, LaneKey>,
    /// Lanes whose rows are stale; may hold others too.
    stale: Vec<LaneKey>,
    /// Lanes that have settled records which the reader has not reached yet, by position. They stay
    /// until the reader is there, so that it does not deliver those records again.
    ahead_of_reader: BTreeSet<(Position, LaneKey)>,
    /// Number of lanes of single records of each entity. The entity's own lane waits for them.
    record_lanes: HashMap<EntityKey, usize>,
    /// Parked lanes whose entities have no lane of a single record any more.
    unblocked: Vec<LaneKey>,
    deferred: DeferredRecords,
    queued: usize,
    bytes: usize,
    rows: usize,
    stopped: usize,
}

impl DeliveryLanes {
    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Number of records in memory, and their bytes.
    pub(super) const fn queued_size(&self) -> (usize, usize) {
        (self.queued, self.bytes)
    }

    /// Number of lanes with a row, except those that only wait for the reader.
    pub(super) fn stored_lane_count(&self) -> usize {
        self.rows.saturating_sub(self.ahead_of_reader.len())
    }

    /// Number of lanes that are stopped or halted.
    pub(super) const fn stopped_lane_count(&self) -> usize {
        self.stopped
    }

    /// Number of records that lanes are known to have left to the timelines.
    pub(super) const fn deferred_count(&self) -> u64 {
        self.deferred.count()
    }

    /// Position before which no lane with a row has an unsettled record.
    pub(super) fn oldest_stored(&self) -> Option<Position> {
        self.deferred.oldest_stored()
    }

    /// Position of the oldest unsettled record without a row.
    pub(super) fn oldest_unsettled(&self) -> Option<Position> {
        self.unstored_heads.keys().next().copied()
    }

    /// Number of lanes, with those that only wait for the reader.
    pub(super) fn count(&self) -> usize {
        self.map.len()
    }

    /// Returns the lane with the oldest unsettled record, and a position that is not behind it.
    /// Iterates over all lanes.
    pub(super) fn oldest_lane(&self) -> Option<(Position, &LaneKey)> {
        let unsettled = self
            .map
            .iter()
            .filter(|(_, lane)| lane.phase != LanePhase::Idle);
        unsettled
            .map(|(key, lane)| match lane.phase {
                // Its dead letter is older than its other records.
                LanePhase::Halted => (Position::FIRST, key),
                _ => (lane.unsettled_from(), key),
            })
            .min()
    }

    pub(super) fn contains(&self, key: &LaneKey) -> bool {
        self.map.contains_key(key)
    }

    pub(super) fn get(&self, key: &LaneKey) -> Option<&DeliveryLane> {
        self.map.get(key)
    }

    /// Returns the lane for changes of its running attempt or history. Phase and queue are changed
    /// by the methods here, which keep the totals.
    pub(super) fn get_mut(&mut self, key: &LaneKey) -> Option<&mut DeliveryLane> {
        self.map.get_mut(key)
    }

    /// Returns the lane of `item`, a record that a job delivers and that is not in the lane's
    /// queue.
    pub(super) fn get_or_insert(
        &mut self,
        key: &LaneKey,
        item: &OutboundRecord,
    ) -> &mut DeliveryLane {
        // A new lane has no record and no first sequence number: the next record that the reader
        // matches sets it.
        let record_lanes = &mut self.record_lanes;
        self.map.entry(key.clone()).or_insert_with(|| {
            let mut lane = DeliveryLane::new(0, item.position);
            lane.entity = Self::count_record_lane(record_lanes, key, item);
            lane
        })
    }

    /// Counts a new lane of a single record; returns the entity of its record.
    fn count_record_lane(
        record_lanes: &mut HashMap<EntityKey, usize>,
        key: &LaneKey,
        item: &OutboundRecord,
    ) -> Option<EntityKey> {
        match key {
            LaneKey::Entity(_) => None,
            LaneKey::Record(_) => {
                let entity = item.record.entity.clone();
                *record_lanes.entry(entity.clone()).or_default() += 1;
                Some(entity)
            }
        }
    }

    /// Restores a lane from its stored row, with the reader at `read_to`. `now` is the node's
    /// monotonic time, from which the row's wait runs. `clock` is the reading of the counted clock,
    /// which stands still while no attempt may be made.
    pub(super) fn restore(
        &mut self,
        row: LaneRow,
        read_to: Position,
        now: Duration,
        clock: Duration,
    ) {
        if let Some(entity) = &row.entity {
            *self.record_lanes.entry(entity.clone()).or_default() += 1;
        }
        let key = row.key.clone();
        let mut lane = DeliveryLane::from_row(row, read_to, now, clock);
        lane.recount_share(&mut self.deferred);
        self.map.insert(key, lane);
        self.rows += 1;
        self.stopped += 1;
    }

    pub(super) fn set_phase(&mut self, key: &LaneKey, phase: LanePhase) {
        let Some(lane) = self.map.get_mut(key) else {
            return;
        };
        let is_stopped = |phase| matches!(phase, LanePhase::Stopped | LanePhase::Halted);
        self.stopped -= usize::from(is_stopped(lane.phase));
        self.stopped += usize::from(is_stopped(phase));
        lane.phase = phase;
    }

    /// Adds a record of the reader to its lane, which may hold `room`, and at least one record.
    pub(super) fn enqueue(
        &mut self,
        key: LaneKey,
        matched: MatchedRecord,
        room: LaneRoom,
    ) -> EnqueueOutcome {
        let (position, sequence) = (matched.item.position, matched.item.sequence);
        let bytes = matched.item.memory_bytes();
        if let Some(lane) = self.map.get_mut(&key) {
            // Settled already, read from the timeline ahead of the reader.
            if sequence < lane.next_sequence {
                return EnqueueOutcome::InLane;
            }
            if lane.is_catching_up() {
                lane.extend_catch_up(position.plus(1), 1);
                lane.recount_share(&mut self.deferred);
                return EnqueueOutcome::InLane;
            }
            let is_full = lane.queue.len() >= room.records
                || lane.queued_bytes.saturating_add(bytes) > room.bytes;
            if is_full && !lane.queue.is_empty() {
                lane.extend_catch_up(position.plus(1), 1);
                lane.recount_share(&mut self.deferred);
                // A row would say that the older records in other lanes are settled.
                return match self.is_blocked(&key) {
                    true => EnqueueOutcome::InLane,
                    false => EnqueueOutcome::LaneFull,
                };
            }
        }

        let record_lanes = &mut self.record_lanes;
        let lane = self.map.entry(key.clone()).or_insert_with(|| {
            let mut lane = DeliveryLane::new(sequence, position);
            lane.entity = Self::count_record_lane(record_lanes, &key, &matched.item);
            lane
        });
        if lane.queue.is_empty() && lane.row_state == LaneRowState::None {
            lane.position = position;
            self.unstored_heads.insert(position, key);
        }
        lane.queue.push_back(matched);
        lane.queued_bytes += bytes;
        lane.next_sequence = sequence + 1;
        lane.recount_share(&mut self.deferred);
        self.queued += 1;
        self.bytes += bytes;

        if lane.phase != LanePhase::Idle {
            return EnqueueOutcome::InLane;
        }
        lane.phase = LanePhase::Ready;
        EnqueueOutcome::LaneBegins
    }

    /// Appends the page that a lane has requested. Records from `read_to` on are left to the
    /// reader, and records without room in memory are read again later. Returns false if the lane
    /// has not requested a page.
    pub(super) fn append_page(
        &mut self,
        key: &LaneKey,
        items: Vec<MatchedRecord>,
        through: u64,
        end: Option<Position>,
        read_to: Position,
        room: (usize, usize),
    ) -> bool {
        let Some(lane) = self
            .map
            .get_mut(key)
            .filter(|lane| lane.phase == LanePhase::Reading)
        else {
            return false;
        };
        let catch_up_to = lane.catch_up_to.unwrap_or(read_to);
        let read_end = catch_up_to.max(read_to);

        // Takes records up to the reader's position, or as many as fit; at least one.
        let (mut events, mut bytes) = (0, 0);
        let mut rest = None;
        for matched in items
            .into_iter()
            .filter(|matched| matched.item.sequence >= lane.next_sequence)
        {
            let size = matched.item.memory_bytes();
            let is_full = events >= room.0 || bytes + size > room.1;
            if matched.item.position >= read_end || (is_full && events > 0) {
                rest = Some((matched.item.position, matched.item.sequence));
                break;
            }
            (events, bytes) = (events + 1, bytes + size);
            lane.queue.push_back(matched);
        }

        // The first record left out decides where the lane goes on.
        match rest {
            Some((position, sequence)) if position >= read_end => {
                lane.next_sequence = sequence;
                lane.advance_catch_up(events, None);
            }
            Some((position, sequence)) => {
                lane.next_sequence = sequence;
                lane.advance_catch_up(events, lane.catch_up_to.max(Some(position.plus(1))));
            }
            None => {
                lane.next_sequence = lane.next_sequence.max(through.saturating_add(1));
                let rest = lane
                    .catch_up_to
                    .filter(|catch_up_to| end.is_none_or(|end| end < *catch_up_to));
                lane.advance_catch_up(events, rest);
            }
        }
        if let Some(head) = lane.queue.front() {
            lane.position = head.item.position;
        }
        lane.queued_bytes += bytes;
        self.queued += events;
        self.bytes += bytes;
        self.mark_stale(key);
        true
    }

    /// Removes the head, which is settled, from the lane.
    pub(super) fn settle_head(&mut self, key: &LaneKey) -> Option<MatchedRecord> {
        let lane = self.map.get_mut(key)?;
        let head = lane.queue.pop_front()?;
        let bytes = head.item.memory_bytes();
        lane.position = head.item.position.plus(1);
        lane.queued_bytes -= bytes;
        self.queued -= 1;
        self.bytes -= bytes;
        if lane.row_state == LaneRowState::None {
            self.unstored_heads.remove(&head.item.position);
            if let Some(next) = lane.queue.front() {
                lane.position = next.item.position;
                self.unstored_heads.insert(next.item.position, key.clone());
            }
        }
        self.mark_stale(key);
        Some(head)
    }

    /// Stops the lane before its head until `due`. Its records leave the memory; the lane reads
    /// them from the timeline again.
    pub(super) fn stop(&mut self, key: &LaneKey, due: Duration) {
        self.clear_queue(key);
        self.set_phase(key, LanePhase::Stopped);
        self.set_due(key, due);
    }

    /// Sets the time of the retry of a stopped lane.
    pub(super) fn set_due(&mut self, key: &LaneKey, due: Duration) {
        if let Some(lane) = self.map.get_mut(key) {
            lane.due_at = due;
        }
        self.mark_stale(key);
    }

    /// Lanes that wait for their dead letters. Iterates over all lanes.
    pub(super) fn halted_lanes(&self) -> Vec<LaneKey> {
        let halted = self
            .map
            .iter()
            .filter(|(_, lane)| lane.phase == LanePhase::Halted);
        halted.map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn has_row(&self, key: &LaneKey) -> bool {
        let lane = self.map.get(key);
        lane.is_some_and(|lane| lane.row_state != LaneRowState::None)
    }

    /// True if the lane `key` of an entity has to wait for lanes of single records.
    pub(super) fn is_blocked(&self, key: &LaneKey) -> bool {
        match key {
            LaneKey::Entity(entity) => self.record_lanes.contains_key(entity),
            LaneKey::Record(_) => false,
        }
    }

    /// Takes the parked lanes that wait for no lane of a single record any more.
    pub(super) fn take_unblocked(&mut self) -> Vec<LaneKey> {
        std::mem::take(&mut self.unblocked)
    }

    /// Halts the lane until its dead letter is delivered or discarded.
    pub(super) fn halt(&mut self, key: &LaneKey) {
        self.clear_queue(key);
        self.set_phase(key, LanePhase::Halted);
    }

    fn clear_queue(&mut self, key: &LaneKey) {
        let Some(lane) = self.map.get_mut(key) else {
            return;
        };
        let (Some(head), Some(last)) = (lane.queue.front(), lane.queue.back()) else {
            return;
        };
        let (position, sequence, last) =
            (head.item.position, head.item.sequence, last.item.position);
        self.queued -= lane.queue.len();
        self.bytes -= std::mem::take(&mut lane.queued_bytes);
        let records = std::mem::take(&mut lane.queue).len();
        lane.position = position;
        lane.next_sequence = sequence;
        lane.extend_catch_up(last.plus(1), records);
        lane.recount_share(&mut self.deferred);
        // A lane without a row goes on holding the cursor; the caller stores its row next.
    }

    /// Returns the present row of the lane at `now`, with the counted clock at `clock`. The caller
    /// stores the row, and the lane does not hold the cursor any more.
    pub(super) fn refresh_row(
        &mut self,
        key: &LaneKey,
        now: Duration,
        clock: Duration,
    ) -> Option<LaneRow> {
        let lane = self.map.get_mut(key)?;
        if lane.row_state == LaneRowState::None {
            self.rows += 1;
            // A lane that halts without another record in memory is not among the heads.
            if self.unstored_heads.get(&lane.position) == Some(key) {
                self.unstored_heads.remove(&lane.position);
            }
        }
        lane.row_state = LaneRowState::Fresh;
        lane.recount_share(&mut self.deferred);
        Some(lane.to_row(key, now, clock))
    }

    /// Ends a drained lane. Returns true if its row has to be removed.
    pub(super) fn end_lane(&mut self, key: &LaneKey, read_to: Position) -> bool {
        self.set_phase(key, LanePhase::Idle);
        let Some(lane) = self.map.get_mut(key) else {
            return false;
        };

        // The row of a lane ahead of the reader stays: it tells the reader what is settled.
        let has_row = lane.row_state != LaneRowState::None;
        if has_row && lane.position > read_to {
            self.ahead_of_reader.insert((lane.position, key.clone()));
            return false;
        }
        lane.row_state = LaneRowState::None;
        self.rows -= usize::from(has_row);
        lane.recount_share(&mut self.deferred);
        self.remove_if_unused(key);
        has_row
    }

    /// Removes the lane if it has no record, row or running attempt.
    pub(super) fn remove_if_unused(&mut self, key: &LaneKey) {
        let is_empty = |lane: &DeliveryLane| {
            lane.phase == LanePhase::Idle
                && lane.row_state == LaneRowState::None
                && lane.running_attempt.is_none()
                && lane.parked_replays.is_empty()
        };
        if !self.map.get(key).is_some_and(is_empty) {
            return;
        }
        let Some(mut lane) = self.map.remove(key) else {
            return;
        };
        lane.leave_sums(&mut self.deferred);
        let entity = lane.entity;
        if let Some(entity) = entity
            && let Some(count) = self.record_lanes.get_mut(&entity)
        {
            *count -= 1;
            if *count == 0 {
                self.record_lanes.remove(&entity);
                self.unblocked.push(LaneKey::Entity(entity));
            }
        }
    }

    /// Returns the next idle lane that waited for the reader to reach `read_to`.
    pub(super) fn pop_reached(&mut self, read_to: Position) -> Option<LaneKey> {
        loop {
            if self
                .ahead_of_reader
                .first()
                .is_none_or(|(at, _)| *at > read_to)
            {
                return None;
            }
            let (_, key) = self.ahead_of_reader.pop_first()?;
            if self.map.get(&key).is_some_and(|lane| {
                lane.phase == LanePhase::Idle && lane.row_state != LaneRowState::None
            }) {
                return Some(key);
            }
        }
    }

    /// Returns the lanes whose rows are to be stored at a checkpoint: all with a stale row, and
    /// those with an unsettled head before `mark`, until `rows_max` lanes have a row. A lane that waits
    /// for lanes of single records gets none: its row would say that those older records are settled.
    pub(super) fn lanes_to_store(&mut self, mark: Position, rows_max: usize) -> Vec<LaneKey> {
        let mut keys = std::mem::take(&mut self.stale);
        keys.retain(|key| {
            self.map
                .get(key)
                .is_some_and(|lane| lane.row_state == LaneRowState::Stale)
        });
        let free = rows_max.saturating_sub(self.rows);
        keys.extend(
            self.unstored_heads
                .range(..mark)
                .filter(|(_, key)| !self.is_blocked(key))
                .take(free)
                .map(|(_, key)| key.clone()),
        );
        keys
    }

    fn mark_stale(&mut self, key: &LaneKey) {
        let Some(lane) = self.map.get_mut(key) else {
            return;
        };
        lane.recount_share(&mut self.deferred);
        if lane.row_state == LaneRowState::Fresh {
            lane.row_state = LaneRowState::Stale;
            self.stale.push(key.clone());
        }
    }
}
