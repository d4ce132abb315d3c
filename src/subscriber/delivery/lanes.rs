//! All lanes of a subscriber, and what is known of them together: which have rows, how much is in
//! memory, and what holds the cursor. Nothing here looks at all lanes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::lane::{DeliveryLane, LanePhase, LaneRowState};
use super::{LaneKey, LaneRow, MatchedRecord};
use crate::event::Position;
use crate::subscriber::OutboundRecord;

#[derive(Debug, Default)]
pub(super) struct DeliveryLanes {
    map: HashMap<LaneKey, DeliveryLane>,
    /// The heads of lanes without a row: the first of them holds the cursor.
    unstored_heads: BTreeMap<Position, LaneKey>,
    /// Lanes whose rows are out of date, and perhaps others.
    stale: Vec<LaneKey>,
    /// Lanes that are done with what lies before a position that the reader has not reached yet:
    /// they stay, so that it does not begin with it again.
    ahead_of_reader: BTreeSet<(Position, LaneKey)>,
    queued: usize,
    bytes: usize,
    rows: usize,
    stopped: usize,
}

impl DeliveryLanes {
    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Records in memory and their bytes.
    pub(super) const fn queued_size(&self) -> (usize, usize) {
        (self.queued, self.bytes)
    }

    /// Lanes that have a row, without those that only wait for the reader.
    pub(super) fn stored_lane_count(&self) -> usize {
        self.rows.saturating_sub(self.ahead_of_reader.len())
    }

    /// Lanes that are stopped or halted.
    pub(super) const fn stopped_lane_count(&self) -> usize {
        self.stopped
    }

    /// The oldest unsettled record that no row stands for.
    pub(super) fn oldest_unsettled(&self) -> Option<Position> {
        self.unstored_heads.keys().next().copied()
    }

    pub(super) fn contains(&self, key: &LaneKey) -> bool {
        self.map.contains_key(key)
    }

    pub(super) fn get(&self, key: &LaneKey) -> Option<&DeliveryLane> {
        self.map.get(key)
    }

    /// The lane, to change its slot or what was tried. Its phase and queue have methods here.
    pub(super) fn get_mut(&mut self, key: &LaneKey) -> Option<&mut DeliveryLane> {
        self.map.get_mut(key)
    }

    /// The lane of `item`, which is not in it: it is delivered for a job.
    pub(super) fn get_or_insert(
        &mut self,
        key: &LaneKey,
        item: &OutboundRecord,
    ) -> &mut DeliveryLane {
        // Such a lane has no record in its queue, nor does it know where to begin: the next that
        // the reader meets says so.
        self.map
            .entry(key.clone())
            .or_insert_with(|| DeliveryLane::new(0, item.position))
    }

    /// Puts back what was stored.
    pub(super) fn restore(
        &mut self,
        row: LaneRow,
        read_to: Position,
        now: Duration,
        clock: Duration,
    ) {
        let key = row.key.clone();
        self.map
            .insert(key, DeliveryLane::from_row(row, read_to, now, clock));
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

    /// The reader has met `met`. True if its lane waits for its turn from now on.
    pub(super) fn enqueue(&mut self, key: LaneKey, met: MatchedRecord) -> bool {
        let (position, sequence) = (met.item.position, met.item.sequence);
        let bytes = met.item.memory_bytes();
        if let Some(lane) = self.map.get_mut(&key) {
            if sequence < lane.next_sequence {
                return false;
            }
            if lane.is_catching_up() {
                lane.extend_catch_up(position.plus(1));
                return false;
            }
        }
        let lane = self
            .map
            .entry(key.clone())
            .or_insert_with(|| DeliveryLane::new(sequence, position));
        if lane.queue.is_empty() && lane.row_state == LaneRowState::None {
            lane.position = position;
            self.unstored_heads.insert(position, key);
        }
        lane.queue.push_back(met);
        lane.next_sequence = sequence + 1;
        self.queued += 1;
        self.bytes += bytes;
        let begins = lane.phase == LanePhase::Idle;
        if begins {
            lane.phase = LanePhase::Ready;
        }
        begins
    }

    /// Takes the page that a lane has read. Records from `read_to` on are the reader's, who has not
    /// met them yet; those that no memory is left for are read again. False if the lane did not ask
    /// for any.
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
        let behind = lane.catch_up_to.unwrap_or(read_to);
        let reach = behind.max(read_to);
        let (mut events, mut bytes) = (0, 0);
        let mut rest = None;
        for met in items
            .into_iter()
            .filter(|met| met.item.sequence >= lane.next_sequence)
        {
            let size = met.item.memory_bytes();
            let is_full = events >= room.0 || bytes + size > room.1;
            if met.item.position >= reach || (is_full && events > 0) {
                rest = Some((met.item.position, met.item.sequence));
                break;
            }
            (events, bytes) = (events + 1, bytes + size);
            lane.queue.push_back(met);
        }
        match rest {
            Some((position, sequence)) if position >= reach => {
                lane.next_sequence = sequence;
                lane.catch_up_to = None;
            }
            Some((position, sequence)) => {
                lane.next_sequence = sequence;
                lane.extend_catch_up(position.plus(1));
            }
            None => {
                lane.next_sequence = lane.next_sequence.max(through.saturating_add(1));
                lane.catch_up_to = lane
                    .catch_up_to
                    .filter(|behind| end.is_none_or(|end| end < *behind));
            }
        }
        if let Some(head) = lane.queue.front() {
            lane.position = head.item.position;
        }
        self.queued += events;
        self.bytes += bytes;
        self.mark_stale(key);
        true
    }

    /// Takes the head out: it is settled.
    pub(super) fn settle_head(&mut self, key: &LaneKey) -> Option<MatchedRecord> {
        let lane = self.map.get_mut(key)?;
        let head = lane.queue.pop_front()?;
        lane.position = head.item.position.plus(1);
        self.queued -= 1;
        self.bytes -= head.item.memory_bytes();
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

    /// Stops the lane before its head until `due`. It forgets its records and finds them in the
    /// timeline again.
    pub(super) fn stop(&mut self, key: &LaneKey, due: Duration) {
        self.clear_queue(key);
        self.set_phase(key, LanePhase::Stopped);
        if let Some(lane) = self.map.get_mut(key) {
            lane.due_at = due;
        }
    }

    /// Lets the lane stand still.
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
        let bytes: usize = lane.queue.iter().map(|met| met.item.memory_bytes()).sum();
        self.queued -= lane.queue.len();
        self.bytes -= bytes;
        lane.queue = VecDeque::new();
        lane.position = position;
        lane.next_sequence = sequence;
        lane.extend_catch_up(last.plus(1));
        // What was met without a row holds the cursor until there is one: `keep` comes right after.
    }

    /// The row that stands for the lane from now on.
    pub(super) fn refresh_row(
        &mut self,
        key: &LaneKey,
        now: Duration,
        clock: Duration,
    ) -> Option<LaneRow> {
        let lane = self.map.get_mut(key)?;
        if lane.row_state == LaneRowState::None {
            self.rows += 1;
            // A lane that halts with nothing else in memory is not among them.
            if self.unstored_heads.get(&lane.position) == Some(key) {
                self.unstored_heads.remove(&lane.position);
            }
        }
        lane.row_state = LaneRowState::Fresh;
        Some(lane.to_row(key, now, clock))
    }

    /// The lane is drained. Says whether its row is to be removed.
    pub(super) fn end_lane(&mut self, key: &LaneKey, read_to: Position) -> bool {
        self.set_phase(key, LanePhase::Idle);
        let Some(lane) = self.map.get_mut(key) else {
            return false;
        };
        let has_row = lane.row_state != LaneRowState::None;
        if has_row && lane.position > read_to {
            self.ahead_of_reader.insert((lane.position, key.clone()));
            return false;
        }
        lane.row_state = LaneRowState::None;
        self.rows -= usize::from(has_row);
        self.remove_if_unused(key);
        has_row
    }

    /// Lets go of the lane if there is nothing in it.
    pub(super) fn remove_if_unused(&mut self, key: &LaneKey) {
        let is_empty = |lane: &DeliveryLane| {
            lane.phase == LanePhase::Idle
                && lane.row_state == LaneRowState::None
                && lane.running_attempt.is_none()
                && lane.parked_replays.is_empty()
        };
        if self.map.get(key).is_some_and(is_empty) {
            self.map.remove(key);
        }
    }

    /// A lane that had to wait for the reader, which has now reached `read_to`, and which has
    /// nothing to do.
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

    /// The lanes that ask for a row: those whose head was met before `mark`, as many as may have
    /// one, and those whose rows are out of date.
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
                .take(free)
                .map(|(_, key)| key.clone()),
        );
        keys
    }

    /// Forgets all. The first position that was unsettled, and the keys of the rows.
    pub(super) fn abandon(&mut self) -> (Option<Position>, Vec<LaneKey>) {
        let lanes = std::mem::take(self).map;
        let from = lanes
            .values()
            .filter(|lane| !lane.is_drained())
            .map(|lane| lane.position)
            .min();
        let mut rows: Vec<_> = lanes
            .into_iter()
            .filter(|(_, lane)| lane.row_state != LaneRowState::None)
            .map(|(key, _)| key)
            .collect();
        rows.sort();
        (from, rows)
    }

    fn mark_stale(&mut self, key: &LaneKey) {
        if let Some(lane) = self.map.get_mut(key)
            && lane.row_state == LaneRowState::Fresh
        {
            lane.row_state = LaneRowState::Stale;
            self.stale.push(key.clone());
        }
    }
}
