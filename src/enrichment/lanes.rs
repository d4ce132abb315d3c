//! Lanes of the enrichment stage: the events of one lead run one after another, and different leads
//! run concurrently, within bounds.
//!
//! ```text
//! lead 7   5 ── 9 ── 12          running 5; 9 and 12 wait for it
//! lead 8   6 ── 20               parked until 10:30; other leads do not wait for that
//! lead 9   7 ── …(256) ── more   the rest is read from the store again when these are done
//! ```
//!
//! A pure state machine: positions and times come in, the next event comes out. Of an event only
//! its position is kept in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::event::{EntityKey, Position};

/// Largest number of leads in memory. The events of further leads stay in the store until there is
/// room.
const LANES_MAX: usize = 4_096;
/// Largest number of waiting events of one lead in memory.
const LANE_EVENTS_MAX: usize = 256;

/// Number of consecutive failures of an event's current step.
pub(super) type StepFailureCount = u32;

/// Outcome of a run of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EnrichmentOutcome {
    /// The record at this position resolved the event.
    Resolved(Position),
    /// The run continues after this time.
    Later(Duration, StepFailureCount),
    /// The event is no longer pending.
    Gone,
}

/// Lanes of all leads with pending events.
#[derive(Debug, Default)]
pub(super) struct LeadLanes {
    lanes: HashMap<EntityKey, LeadLane>,
    /// Leads that can start an event, by the position of their first event.
    ready: BTreeSet<(Position, EntityKey)>,
    /// Leads that wait for a time, by that time.
    parked: BTreeSet<(Duration, EntityKey)>,
    /// Resolved events, each with the position of its resolution, until readers see the resolution.
    resolved: BTreeMap<Position, Position>,
}

#[derive(Debug, Default)]
struct LeadLane {
    waiting: BTreeSet<Position>,
    state: LeadLaneState,
    /// Position and failure count of the event that was parked last.
    parked_failures: Option<(Position, StepFailureCount)>,
    /// Position from which on the lead's events were left in the store, for lack of room.
    left_from: Option<Position>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LeadLaneState {
    #[default]
    Ready,
    /// The event at the first position is running. The second position is set if a reader found the
    /// event pending again meanwhile: that reader had seen all records before it.
    Running(Position, Option<Position>),
    Parked(Duration),
}

impl LeadLanes {
    /// Adds the pending event at `position`. The reader that found the event had seen all records
    /// before `seen`.
    ///
    /// Returns `false` if there is no room for another lead; the caller must add the event again
    /// later.
    pub(super) fn add_event(
        &mut self,
        lead: &EntityKey,
        position: Position,
        seen: Position,
    ) -> bool {
        // A reader that has not seen the resolution still reports the event as pending.
        let is_resolved = self
            .resolved
            .get(&position)
            .is_some_and(|resolution| seen <= *resolution);
        if is_resolved {
            return true;
        }

        if !self.lanes.contains_key(lead) && self.lanes.len() >= LANES_MAX {
            return false;
        }
        let lane = self.lanes.entry(lead.clone()).or_default();

        // Only the end of the current run shows if the event must run again.
        if let LeadLaneState::Running(running, again) = &mut lane.state
            && *running == position
        {
            *again = (*again).max(Some(seen));
            return true;
        }

        // Once an event was left in the store, all later ones of the lead must be left too, or they
        // would overtake it.
        let is_behind_left = lane.left_from.is_some_and(|from| position >= from);
        let is_full = lane.waiting.len() >= LANE_EVENTS_MAX && !lane.waiting.contains(&position);
        if is_behind_left || is_full {
            lane.left_from = Some(lane.left_from.map_or(position, |from| from.min(position)));
            return true;
        }

        let first = lane.waiting.first().copied();
        if lane.waiting.insert(position) && lane.state == LeadLaneState::Ready {
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

    /// Starts the oldest event that can run at `now`, and returns its lead, position and failure
    /// count.
    pub(super) fn start_next(
        &mut self,
        now: Duration,
    ) -> Option<(EntityKey, Position, StepFailureCount)> {
        self.wake_parked(now);
        let (position, lead) = self.ready.pop_first()?;
        let lane = self.lanes.get_mut(&lead)?;
        lane.waiting.remove(&position);
        lane.state = LeadLaneState::Running(position, None);

        // The failure count belongs to the parked event. An older event, reopened meanwhile, may
        // run first.
        let failures = lane
            .parked_failures
            .filter(|(parked, _)| *parked == position)
            .map_or(0, |(_, failures)| failures);
        Some((lead, position, failures))
    }

    /// Records the outcome of the lead's running event. Returns the position from which on the
    /// lead's events were left in the store, when the lane is empty and they must be read.
    pub(super) fn finish(
        &mut self,
        lead: &EntityKey,
        outcome: EnrichmentOutcome,
        now: Duration,
    ) -> Option<Position> {
        let lane = self.lanes.get_mut(lead)?;
        let LeadLaneState::Running(position, again) = lane.state else {
            return None;
        };

        lane.state = LeadLaneState::Ready;
        match outcome {
            EnrichmentOutcome::Later(wait, failures) => {
                lane.waiting.insert(position);
                lane.parked_failures = Some((position, failures));
                lane.state = LeadLaneState::Parked(now + wait);
                self.parked.insert((now + wait, lead.clone()));
                return None;
            }
            EnrichmentOutcome::Resolved(resolution) => {
                self.resolved.insert(position, resolution);
                // A reader that had seen the resolution found the event pending: it was reopened.
                if again.is_some_and(|seen| seen > resolution) {
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

    /// Forgets resolutions before `written`, because readers see them.
    pub(super) fn forget_before(&mut self, written: Position) {
        self.resolved.retain(|_, resolution| *resolution >= written);
    }

    /// Returns the time at which the next parked event can continue.
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
            lane.state = LeadLaneState::Ready;
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
            lanes.finish(&lead(7), EnrichmentOutcome::Resolved(at(12)), NOW),
            None
        );
        assert_eq!(started(&mut lanes, NOW), Some(9));
    }

    #[test]
    fn a_parked_event_holds_up_its_own_lead_only_and_remembers_its_failures() {
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
        lanes.finish(&lead(7), EnrichmentOutcome::Resolved(at(11)), NOW);
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
            "reopened, with failures of its own"
        );
        lanes.finish(&lead(7), EnrichmentOutcome::Gone, NOW);
        assert_eq!(lanes.start_next(NOW), Some((lead(7), at(6), 1)));
    }

    #[test]
    fn an_event_that_a_reader_still_sees_is_not_run_twice_but_a_reopened_event_is() {
        let mut lanes = LeadLanes::default();
        lanes.add_event(&lead(7), at(5), at(6));
        assert_eq!(started(&mut lanes, NOW), Some(5));
        lanes.add_event(&lead(7), at(5), at(8));
        lanes.finish(&lead(7), EnrichmentOutcome::Resolved(at(9)), NOW);
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
            "seen after its conclusion: reopened"
        );
        lanes.add_event(&lead(7), at(5), at(14));
        lanes.finish(&lead(7), EnrichmentOutcome::Resolved(at(12)), NOW);
        assert_eq!(
            started(&mut lanes, NOW),
            Some(5),
            "reopened before the outcome was recorded"
        );
        lanes.finish(&lead(7), EnrichmentOutcome::Resolved(at(20)), NOW);
        lanes.forget_before(at(20));
        assert_eq!(lanes.resolved.len(), 1);
        lanes.forget_before(at(21));
        assert!(lanes.resolved.is_empty() && lanes.lanes.is_empty());
    }

    #[test]
    fn events_without_room_are_read_again_later() {
        let mut lanes = LeadLanes::default();
        (1..=300).for_each(|position| assert!(lanes.add_event(&lead(7), at(position), at(999))));
        assert_eq!(lanes.lanes[&lead(7)].waiting.len(), LANE_EVENTS_MAX);
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
        /// Under any sequence of additions, pauses and ends, each lead's events start in order, one
        /// at a time, and none is lost.
        #[test]
        fn each_lead_s_events_are_done_once_and_in_order(
            owner in prop::collection::vec(0_u64..4, 1..60),
            ends in prop::collection::vec(0..5_u8, 1..60),
            width in 1..5_usize,
        ) {
            let mut lanes = LeadLanes::default();
            for (lead_of, position) in owner.iter().zip(1..) {
                lanes.add_event(&lead(*lead_of), at(position), at(1_000));
            }
            let mut running: Vec<(EntityKey, u64)> = Vec::new();
            let mut finished: Vec<(EntityKey, u64)> = Vec::new();
            let mut now = NOW;
            for step in 0.. {
                while running.len() < width
                    && let Some((lead, position, _)) = lanes.start_next(now)
                {
                    prop_assert!(running.iter().all(|(other, _)| *other != lead));
                    running.push((lead, position.get()));
                }
                let ended = (!running.is_empty())
                    .then(|| running.swap_remove(step % running.len()));
                let Some((lead, position)) = ended else {
                    let Some(due) = lanes.next_due() else { break };
                    now = due;
                    continue;
                };
                // At most ten `Later` outcomes in all, so that the loop ends.
                if ends[step % ends.len()] == 0 && step < 10 {
                    lanes.finish(&lead, EnrichmentOutcome::Later(Duration::from_secs(5), 1), now);
                } else {
                    lanes.finish(&lead, EnrichmentOutcome::Resolved(at(1_000 + position)), now);
                    finished.push((lead, position));
                }
            }
            prop_assert_eq!(finished.len(), owner.len());
            for number in 0..4 {
                let of_lead = finished.iter().filter(|(key, _)| *key == lead(number));
                let of_lead: Vec<_> = of_lead.map(|(_, position)| *position).collect();
                prop_assert!(of_lead.is_sorted_by(|a, b| a < b));
            }
            prop_assert!(lanes.lanes.is_empty());
        }
    }
}
