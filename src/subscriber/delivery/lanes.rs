//! All lanes of a subscriber, and what is known of them together: which have rows, how much is in memory, and what holds the
//! cursor. Nothing here looks at all lanes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::lane::{Lane, Phase, Row};
use super::{LaneKey, LaneRow, Met};
use crate::event::Position;
use crate::subscriber::Item;

#[derive(Debug, Default)]
pub(super) struct Lanes {
    map: HashMap<LaneKey, Lane>,
    /// The heads of lanes without a row: the first of them holds the cursor.
    unrowed: BTreeMap<Position, LaneKey>,
    /// Lanes whose rows are out of date, and perhaps others.
    stale: Vec<LaneKey>,
    /// Lanes that are done with what lies before a position that the reader has not reached yet: they stay, so that it does
    /// not begin with it again.
    ahead: BTreeSet<(Position, LaneKey)>,
    queued: usize,
    bytes: usize,
    rows: usize,
    stopped: usize,
}

impl Lanes {
    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Records in memory and their bytes.
    pub(super) const fn queued(&self) -> (usize, usize) {
        (self.queued, self.bytes)
    }

    /// Lanes that have a row, without those that only wait for the reader.
    pub(super) fn rows(&self) -> usize {
        self.rows.saturating_sub(self.ahead.len())
    }

    /// Lanes that are stopped or halted.
    pub(super) const fn stopped(&self) -> usize {
        self.stopped
    }

    /// The oldest unsettled record that no row stands for.
    pub(super) fn holds(&self) -> Option<Position> {
        self.unrowed.keys().next().copied()
    }

    pub(super) fn contains(&self, key: &LaneKey) -> bool {
        self.map.contains_key(key)
    }

    pub(super) fn get(&self, key: &LaneKey) -> Option<&Lane> {
        self.map.get(key)
    }

    /// The lane, to change its slot or what was tried. Its phase and queue have methods here.
    pub(super) fn get_mut(&mut self, key: &LaneKey) -> Option<&mut Lane> {
        self.map.get_mut(key)
    }

    /// The lane of `item`, which is not in it: it is delivered for a job.
    pub(super) fn visit(&mut self, key: &LaneKey, item: &Item) -> &mut Lane {
        // Such a lane has no record in its queue, nor does it know where to begin: the next that the reader meets says so.
        self.map.entry(key.clone()).or_insert_with(|| Lane::new(0, item.position))
    }

    /// Puts back what was stored.
    pub(super) fn restore(&mut self, row: LaneRow, read_to: Position, now: Duration, clock: Duration) {
        let key = row.key.clone();
        self.map.insert(key, Lane::restored(row, read_to, now, clock));
        self.rows += 1;
        self.stopped += 1;
    }

    pub(super) fn set_phase(&mut self, key: &LaneKey, phase: Phase) {
        let Some(lane) = self.map.get_mut(key) else { return };
        let is_stopped = |phase| matches!(phase, Phase::Stopped | Phase::Halted);
        self.stopped -= usize::from(is_stopped(lane.phase));
        self.stopped += usize::from(is_stopped(phase));
        lane.phase = phase;
    }

    /// The reader has met `met`. True if its lane waits for its turn from now on.
    pub(super) fn meet(&mut self, key: LaneKey, met: Met) -> bool {
        let (position, sequence) = (met.item.position, met.item.sequence);
        let bytes = met.item.memory_bytes();
        if let Some(lane) = self.map.get_mut(&key) {
            if sequence < lane.read_on {
                return false;
            }
            if lane.is_noting() {
                lane.reach(position.plus(1));
                return false;
            }
        }
        let lane = self.map.entry(key.clone()).or_insert_with(|| Lane::new(sequence, position));
        if lane.queue.is_empty() && lane.row == Row::None {
            lane.at = position;
            self.unrowed.insert(position, key);
        }
        lane.queue.push_back(met);
        lane.read_on = sequence + 1;
        self.queued += 1;
        self.bytes += bytes;
        let begins = lane.phase == Phase::Idle;
        if begins {
            lane.phase = Phase::Ready;
        }
        begins
    }

    /// Takes the page that a lane has read. Records from `read_to` on are the reader's, who has not met them yet; those that
    /// no memory is left for are read again. False if the lane did not ask for any.
    pub(super) fn caught_up(
        &mut self,
        key: &LaneKey,
        items: Vec<Met>,
        through: u64,
        end: Option<Position>,
        read_to: Position,
        room: (usize, usize),
    ) -> bool {
        let Some(lane) = self.map.get_mut(key).filter(|lane| lane.phase == Phase::Reading) else { return false };
        let behind = lane.behind.unwrap_or(read_to);
        let reach = behind.max(read_to);
        let (mut events, mut bytes) = (0, 0);
        let mut rest = None;
        for met in items.into_iter().filter(|met| met.item.sequence >= lane.read_on) {
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
                lane.read_on = sequence;
                lane.behind = None;
            }
            Some((position, sequence)) => {
                lane.read_on = sequence;
                lane.reach(position.plus(1));
            }
            None => {
                lane.read_on = lane.read_on.max(through.saturating_add(1));
                lane.behind = lane.behind.filter(|behind| end.is_none_or(|end| end < *behind));
            }
        }
        if let Some(head) = lane.queue.front() {
            lane.at = head.item.position;
        }
        self.queued += events;
        self.bytes += bytes;
        self.changed(key);
        true
    }

    /// Takes the head out: it is settled.
    pub(super) fn settle(&mut self, key: &LaneKey) -> Option<Met> {
        let lane = self.map.get_mut(key)?;
        let head = lane.queue.pop_front()?;
        lane.at = head.item.position.plus(1);
        self.queued -= 1;
        self.bytes -= head.item.memory_bytes();
        if lane.row == Row::None {
            self.unrowed.remove(&head.item.position);
            if let Some(next) = lane.queue.front() {
                lane.at = next.item.position;
                self.unrowed.insert(next.item.position, key.clone());
            }
        }
        self.changed(key);
        Some(head)
    }

    /// Stops the lane before its head until `due`. It forgets its records and finds them in the timeline again.
    pub(super) fn stop(&mut self, key: &LaneKey, due: Duration) {
        self.forget_queue(key);
        self.set_phase(key, Phase::Stopped);
        if let Some(lane) = self.map.get_mut(key) {
            lane.due = due;
        }
    }

    /// Lets the lane stand still.
    pub(super) fn halt(&mut self, key: &LaneKey) {
        self.forget_queue(key);
        self.set_phase(key, Phase::Halted);
    }

    fn forget_queue(&mut self, key: &LaneKey) {
        let Some(lane) = self.map.get_mut(key) else { return };
        let (Some(head), Some(last)) = (lane.queue.front(), lane.queue.back()) else { return };
        let (position, sequence, last) = (head.item.position, head.item.sequence, last.item.position);
        let bytes: usize = lane.queue.iter().map(|met| met.item.memory_bytes()).sum();
        self.queued -= lane.queue.len();
        self.bytes -= bytes;
        lane.queue = VecDeque::new();
        lane.at = position;
        lane.read_on = sequence;
        lane.reach(last.plus(1));
        // What was met without a row holds the cursor until there is one: `keep` comes right after.
    }

    /// The row that stands for the lane from now on.
    pub(super) fn keep(&mut self, key: &LaneKey, now: Duration, clock: Duration) -> Option<LaneRow> {
        let lane = self.map.get_mut(key)?;
        if lane.row == Row::None {
            self.rows += 1;
            // A lane that halts with nothing else in memory is not among them.
            if self.unrowed.get(&lane.at) == Some(key) {
                self.unrowed.remove(&lane.at);
            }
        }
        lane.row = Row::Fresh;
        Some(lane.row(key, now, clock))
    }

    /// The lane is drained. Says whether its row is to be removed.
    pub(super) fn end(&mut self, key: &LaneKey, read_to: Position) -> bool {
        self.set_phase(key, Phase::Idle);
        let Some(lane) = self.map.get_mut(key) else { return false };
        let has_row = lane.row != Row::None;
        if has_row && lane.at > read_to {
            self.ahead.insert((lane.at, key.clone()));
            return false;
        }
        lane.row = Row::None;
        self.rows -= usize::from(has_row);
        self.leave(key);
        has_row
    }

    /// Lets go of the lane if there is nothing in it.
    pub(super) fn leave(&mut self, key: &LaneKey) {
        let is_empty = |lane: &Lane| {
            lane.phase == Phase::Idle && lane.row == Row::None && lane.slot.is_none() && lane.parked.is_empty()
        };
        if self.map.get(key).is_some_and(is_empty) {
            self.map.remove(key);
        }
    }

    /// A lane that had to wait for the reader, which has now reached `read_to`, and which has nothing to do.
    pub(super) fn reached(&mut self, read_to: Position) -> Option<LaneKey> {
        loop {
            if self.ahead.first().is_none_or(|(at, _)| *at > read_to) {
                return None;
            }
            let (_, key) = self.ahead.pop_first()?;
            if self.map.get(&key).is_some_and(|lane| lane.phase == Phase::Idle && lane.row != Row::None) {
                return Some(key);
            }
        }
    }

    /// The lanes that ask for a row: those whose head was met before `mark`, as many as may have one, and those whose rows
    /// are out of date.
    pub(super) fn round(&mut self, mark: Position, rows_max: usize) -> Vec<LaneKey> {
        let mut keys = std::mem::take(&mut self.stale);
        keys.retain(|key| self.map.get(key).is_some_and(|lane| lane.row == Row::Stale));
        let free = rows_max.saturating_sub(self.rows);
        keys.extend(self.unrowed.range(..mark).take(free).map(|(_, key)| key.clone()));
        keys
    }

    /// Forgets all. The first position that was unsettled, and the keys of the rows.
    pub(super) fn abandon(&mut self) -> (Option<Position>, Vec<LaneKey>) {
        let lanes = std::mem::take(self).map;
        let from = lanes.values().filter(|lane| !lane.is_drained()).map(|lane| lane.at).min();
        let mut rows: Vec<_> =
            lanes.into_iter().filter(|(_, lane)| lane.row != Row::None).map(|(key, _)| key).collect();
        rows.sort();
        (from, rows)
    }

    fn changed(&mut self, key: &LaneKey) {
        if let Some(lane) = self.map.get_mut(key)
            && lane.row == Row::Fresh
        {
            lane.row = Row::Stale;
            self.stale.push(key.clone());
        }
    }
}
