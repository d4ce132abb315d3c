//! Which event is worked on next: those of one lead one after another, leads side by side, each
//! within its bound.
//!
//! ```text
//! lead 7   5 ── 9 ── 12        running 5; 9 and 12 wait for it
//! lead 8   6 ── 20             parked until 10:30; nothing of another lead waits for that
//! lead 9   7 ── …(256) ── more the rest is found again when these are done
//! ```
//!
//! Pure: positions and times come in, what to do comes out. Nothing of an event is held but its
//! position.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::event::{EntityKey, Position};

/// The most leads that wait at once. Beyond it the others are left in the store until there is
/// room.
const LANES_MAX: usize = 4_096;
/// The most events of one lead that wait in memory.
const LANE_MAX: usize = 256;

/// How often the step that an event is at has failed in a row.
pub(super) type StepFailureCount = u32;

/// What was worked on, and how that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EnrichmentOutcome {
    /// It was concluded by the record at this position.
    Concluded(Position),
    /// It goes on after this time.
    Later(Duration, StepFailureCount),
    /// There is nothing to do for it.
    Gone,
}

/// All leads of which something is to be done.
#[derive(Debug, Default)]
pub(super) struct LeadLanes {
    lanes: HashMap<EntityKey, LeadLane>,
    ready: BTreeSet<(Position, EntityKey)>,
    parked: BTreeSet<(Duration, EntityKey)>,
    /// Concluded events whose conclusion may not be written to what is read, with where it stands.
    done: BTreeMap<Position, Position>,
}

#[derive(Debug, Default)]
struct LeadLane {
    waiting: BTreeSet<Position>,
    stage: LeadLaneState,
    /// Of the event that was parked last.
    tries: Option<(Position, StepFailureCount)>,
    /// From here on the lead's events were left in the store.
    left_from: Option<Position>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LeadLaneState {
    #[default]
    Ready,
    /// Worked on; found again meanwhile by a reader that saw everything before the second position.
    Running(Position, Option<Position>),
    Parked(Duration),
}

impl LeadLanes {
    /// Takes in that the event at `position` is owed, as a reader says who saw everything before
    /// `seen`.
    ///
    /// Says whether there was room; if not, it has to be found again later.
    pub(super) fn add_event(
        &mut self,
        lead: &EntityKey,
        position: Position,
        seen: Position,
    ) -> bool {
        if self
            .done
            .get(&position)
            .is_some_and(|conclusion| seen <= *conclusion)
        {
            return true;
        }
        if !self.lanes.contains_key(lead) && self.lanes.len() >= LANES_MAX {
            return false;
        }
        let lane = self.lanes.entry(lead.clone()).or_default();
        if let LeadLaneState::Running(running, again) = &mut lane.stage
            && *running == position
        {
            *again = (*again).max(Some(seen));
            return true;
        }
        let is_left = lane.left_from.is_some_and(|from| position >= from);
        if is_left || lane.waiting.len() >= LANE_MAX && !lane.waiting.contains(&position) {
            lane.left_from = Some(lane.left_from.map_or(position, |from| from.min(position)));
            return true;
        }
        let first = lane.waiting.first().copied();
        if lane.waiting.insert(position) && lane.stage == LeadLaneState::Ready {
            if let Some(first) = first {
                self.ready.remove(&(first, lead.clone()));
            }
            self.ready.insert((
                first.map_or(position, |first| first.min(position)),
                lead.clone(),
            ));
        }
        true
    }

    /// The next event to work on at `now`, the oldest of all that can.
    pub(super) fn start_next(
        &mut self,
        now: Duration,
    ) -> Option<(EntityKey, Position, StepFailureCount)> {
        self.wake_parked(now);
        let (position, lead) = self.ready.pop_first()?;
        let lane = self.lanes.get_mut(&lead)?;
        lane.waiting.remove(&position);
        lane.stage = LeadLaneState::Running(position, None);
        // An older one may have been opened again meanwhile, and go first.
        let tries = lane
            .tries
            .filter(|(parked, _)| *parked == position)
            .map_or(0, |(_, tries)| tries);
        Some((lead, position, tries))
    }

    /// Takes in how the work on the lead's event ended. Gives the position from which on events
    /// were left in the store, when it is time to look for them.
    pub(super) fn finish(
        &mut self,
        lead: &EntityKey,
        end: EnrichmentOutcome,
        now: Duration,
    ) -> Option<Position> {
        let lane = self.lanes.get_mut(lead)?;
        let LeadLaneState::Running(position, again) = lane.stage else {
            return None;
        };
        lane.stage = LeadLaneState::Ready;
        match end {
            EnrichmentOutcome::Later(wait, tries) => {
                lane.waiting.insert(position);
                lane.tries = Some((position, tries));
                lane.stage = LeadLaneState::Parked(now + wait);
                self.parked.insert((now + wait, lead.clone()));
                return None;
            }
            EnrichmentOutcome::Concluded(conclusion) => {
                self.done.insert(position, conclusion);
                // Seen as owed after its conclusion: somebody opened it again.
                if again.is_some_and(|seen| seen > conclusion) {
                    lane.waiting.insert(position);
                }
            }
            EnrichmentOutcome::Gone => {}
        }
        if let Some(first) = lane.waiting.first() {
            self.ready.insert((*first, lead.clone()));
            return None;
        }
        self.lanes.remove(lead)?.left_from
    }

    /// Forgets conclusions before `written`: readers see them.
    pub(super) fn forget_before(&mut self, written: Position) {
        self.done.retain(|_, conclusion| *conclusion >= written);
    }

    /// When the next parked event goes on.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.parked.first().map(|(due, _)| *due)
    }

    fn wake_parked(&mut self, now: Duration) {
        while self.parked.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, lead)) = self.parked.pop_first() else {
                return;
            };
            let Some(lane) = self.lanes.get_mut(&lead) else {
                continue;
            };
            lane.stage = LeadLaneState::Ready;
            if let Some(first) = lane.waiting.first() {
                self.ready.insert((*first, lead));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Kind;

    fn lead(number: u64) -> EntityKey {
        EntityKey::from_number(Kind::C2sLead, number)
    }

    fn at(number: u64) -> Position {
        Position::new(number)
    }

    const NOW: Duration = Duration::from_secs(100);

    fn started(lanes: &mut LeadLanes, now: Duration) -> Option<u64> {
        lanes.start_next(now).map(|(_, position, _)| position.get())
    }

    #[test]
    fn events_of_one_lead_wait_for_each_other_and_those_of_another_do_not() {
        let mut lanes = LeadLanes::default();
        for (number, position) in [(7, 5), (8, 6), (7, 9)] {
            assert!(lanes.add_event(&lead(number), at(position), at(10)));
        }
        assert_eq!(
            [
                started(&mut lanes, NOW),
                started(&mut lanes, NOW),
                started(&mut lanes, NOW)
            ],
            [Some(5), Some(6), None]
        );
        assert_eq!(
            lanes.finish(&lead(7), EnrichmentOutcome::Concluded(at(12)), NOW),
            None
        );
        assert_eq!(started(&mut lanes, NOW), Some(9));
    }

    #[test]
    fn a_parked_event_holds_up_its_own_lead_only_and_remembers_its_tries() {
        let mut lanes = LeadLanes::default();
        for (number, position) in [(7, 5), (7, 6), (8, 7)] {
            lanes.add_event(&lead(number), at(position), at(10));
        }
        assert_eq!(started(&mut lanes, NOW), Some(5));
        lanes.finish(
            &lead(7),
            EnrichmentOutcome::Later(Duration::from_secs(30), 2),
            NOW,
        );
        assert_eq!(started(&mut lanes, NOW), Some(7));
        assert_eq!(
            (lanes.next_due(), started(&mut lanes, NOW)),
            (Some(Duration::from_secs(130)), None)
        );
        assert_eq!(
            lanes.start_next(Duration::from_secs(130)),
            Some((lead(7), at(5), 2))
        );
        lanes.finish(&lead(7), EnrichmentOutcome::Concluded(at(11)), NOW);
        assert_eq!(lanes.start_next(NOW), Some((lead(7), at(6), 0)));
        lanes.finish(
            &lead(7),
            EnrichmentOutcome::Later(Duration::from_secs(30), 1),
            NOW,
        );
        lanes.add_event(&lead(7), at(5), at(20));
        assert_eq!(
            lanes.start_next(Duration::from_secs(130)),
            Some((lead(7), at(5), 0)),
            "opened again, with tries of its own"
        );
        lanes.finish(&lead(7), EnrichmentOutcome::Gone, NOW);
        assert_eq!(lanes.start_next(NOW), Some((lead(7), at(6), 1)));
    }

    #[test]
    fn an_event_that_a_reader_still_sees_is_not_done_twice_but_one_opened_again_is() {
        let mut lanes = LeadLanes::default();
        lanes.add_event(&lead(7), at(5), at(6));
        assert_eq!(started(&mut lanes, NOW), Some(5));
        lanes.add_event(&lead(7), at(5), at(8));
        lanes.finish(&lead(7), EnrichmentOutcome::Concluded(at(9)), NOW);
        assert_eq!(
            started(&mut lanes, NOW),
            None,
            "seen before its conclusion could be"
        );
        lanes.add_event(&lead(7), at(5), at(9));
        assert_eq!(started(&mut lanes, NOW), None);
        lanes.add_event(&lead(7), at(5), at(11));
        assert_eq!(
            started(&mut lanes, NOW),
            Some(5),
            "seen after its conclusion: opened again"
        );
        lanes.add_event(&lead(7), at(5), at(14));
        lanes.finish(&lead(7), EnrichmentOutcome::Concluded(at(12)), NOW);
        assert_eq!(
            started(&mut lanes, NOW),
            Some(5),
            "opened again before its end was told"
        );
        lanes.finish(&lead(7), EnrichmentOutcome::Concluded(at(20)), NOW);
        lanes.forget_before(at(20));
        assert_eq!(lanes.done.len(), 1);
        lanes.forget_before(at(21));
        assert!(lanes.done.is_empty() && lanes.lanes.is_empty());
    }

    #[test]
    fn what_finds_no_room_is_looked_for_later() {
        let mut lanes = LeadLanes::default();
        (1..=300).for_each(|position| assert!(lanes.add_event(&lead(7), at(position), at(999))));
        assert_eq!(lanes.lanes[&lead(7)].waiting.len(), LANE_MAX);
        for position in 1..=255 {
            assert_eq!(started(&mut lanes, NOW), Some(position));
            assert_eq!(lanes.finish(&lead(7), EnrichmentOutcome::Gone, NOW), None);
        }
        lanes.add_event(&lead(7), at(301), at(999));
        assert_eq!(started(&mut lanes, NOW), Some(256));
        assert_eq!(
            lanes.finish(&lead(7), EnrichmentOutcome::Gone, NOW),
            Some(at(257)),
            "before 301, or the order would be lost"
        );
        let many = LANES_MAX as u64;
        (0..many)
            .for_each(|number| assert!(lanes.add_event(&lead(number), at(number + 1), at(9_999))));
        assert!(!lanes.add_event(&lead(many), at(many + 1), at(9_999)));
    }

    proptest! {
        /// Whatever is added, parked and ended: each lead's events begin in order, one at a time,
        /// and none is forgotten.
        #[test]
        fn each_lead_s_events_are_done_once_and_in_order(
            owner in prop::collection::vec(0_u64..4, 1..60), ends in prop::collection::vec(0..5_u8, 1..60), width in 1..5_usize,
        ) {
            let mut lanes = LeadLanes::default();
            for (lead_of, position) in owner.iter().zip(1..) {
                lanes.add_event(&lead(*lead_of), at(position), at(1_000));
            }
            let mut running: Vec<(EntityKey, u64)> = Vec::new();
            let mut finished: Vec<(EntityKey, u64)> = Vec::new();
            let mut now = NOW;
            for round in 0.. {
                while running.len() < width && let Some((lead, position, _)) = lanes.start_next(now) {
                    prop_assert!(running.iter().all(|(other, _)| *other != lead));
                    running.push((lead, position.get()));
                }
                let Some((lead, position)) = (!running.is_empty()).then(|| running.swap_remove(round % running.len())) else {
                    let Some(due) = lanes.next_due() else { break };
                    now = due;
                    continue;
                };
                // Later at most ten times in all, so that it ends.
                if ends[round % ends.len()] == 0 && round < 10 {
                    lanes.finish(&lead, EnrichmentOutcome::Later(Duration::from_secs(5), 1), now);
                } else {
                    lanes.finish(&lead, EnrichmentOutcome::Concluded(at(1_000 + position)), now);
                    finished.push((lead, position));
                }
            }
            prop_assert_eq!(finished.len(), owner.len());
            for number in 0..4 {
                let of_lead: Vec<_> = finished.iter().filter(|(key, _)| *key == lead(number)).map(|(_, p)| *p).collect();
                prop_assert!(of_lead.is_sorted_by(|a, b| a < b));
            }
            prop_assert!(lanes.lanes.is_empty());
        }
    }
}
