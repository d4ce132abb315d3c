//! Hands the planned events to the connections: pure. Two events of one entity are never under way
//! at the same time, so the order in which a sender sends them is the order in which they belong.

use std::collections::{HashMap, HashSet, VecDeque};

use super::traffic::{PlannedEvent, PlannedTraffic};

/// Most events that are drawn ahead while their entity is busy. A hot entity reaches it; then the
/// connections wait for that entity, as the plan says.
const AHEAD_MAX: usize = 10_000;

/// Answer to a connection that asks for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextEvent {
    Send(PlannedEvent),
    /// Every drawn event waits for an earlier one of its entity.
    Wait,
    /// No further event is left to begin.
    Finish,
}

/// Plan with the events under way.
#[derive(Debug)]
pub(super) struct EventDispatcher {
    traffic: PlannedTraffic,
    busy: HashSet<u32>,
    /// Drawn events of each busy entity, and of each that is in `free`.
    ahead: HashMap<u32, VecDeque<PlannedEvent>>,
    ahead_count: usize,
    /// Entities with drawn events and none under way.
    free: VecDeque<u32>,
    is_stopped: bool,
}

impl EventDispatcher {
    pub(super) fn new(traffic: PlannedTraffic) -> Self {
        Self {
            traffic,
            busy: HashSet::new(),
            ahead: HashMap::new(),
            ahead_count: 0,
            free: VecDeque::new(),
            is_stopped: false,
        }
    }

    /// Returns the next event whose entity has none under way.
    pub(super) fn next_event(&mut self) -> NextEvent {
        if self.is_stopped {
            return NextEvent::Finish;
        }
        if let Some(entity) = self.free.pop_front() {
            return NextEvent::Send(self.take_ahead(entity));
        }
        while self.ahead_count < AHEAD_MAX {
            let Some(event) = self.traffic.next() else {
                break;
            };
            if self.busy.insert(event.entity) {
                return NextEvent::Send(event);
            }
            self.ahead.entry(event.entity).or_default().push_back(event);
            self.ahead_count += 1;
        }
        match self.ahead_count {
            0 => NextEvent::Finish,
            _ => NextEvent::Wait,
        }
    }

    /// Records that the event under way of `entity` is answered.
    pub(super) fn finish_event(&mut self, entity: u32) {
        self.busy.remove(&entity);
        if self.ahead.contains_key(&entity) {
            self.free.push_back(entity);
        }
    }

    /// Ends the plan early: no further event begins.
    pub(super) fn stop(&mut self) {
        self.is_stopped = true;
    }

    fn take_ahead(&mut self, entity: u32) -> PlannedEvent {
        let queue = self.ahead.get_mut(&entity);
        let queue = queue.expect("an entity in `free` has drawn events");
        let event = queue.pop_front().expect("an empty queue is removed");
        if queue.is_empty() {
            self.ahead.remove(&entity);
        }
        self.ahead_count -= 1;
        self.busy.insert(entity);
        event
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cli::bench::traffic::TrafficShape;

    fn dispatcher(entities: u32, events: u64, skew: f64) -> EventDispatcher {
        EventDispatcher::new(PlannedTraffic::new(TrafficShape {
            seed: 1,
            entities,
            events,
            skew,
            payload_bytes: 0,
        }))
    }

    proptest! {
        #[test]
        fn every_event_is_sent_once_and_one_of_an_entity_at_a_time(
            entities in 1..20_u32,
            events in 0..300_u64,
            connections in 1..10_usize,
            skew in 0.0..2.0_f64,
            choices in prop::collection::vec(any::<prop::sample::Index>(), 1..50),
        ) {
            let mut dispatcher = dispatcher(entities, events, skew);
            let (mut running, mut last) = (Vec::<PlannedEvent>::new(), vec![0; entities as usize]);
            let (mut sent, mut choices) = (0, choices.iter().cycle());
            loop {
                while running.len() < connections {
                    let NextEvent::Send(event) = dispatcher.next_event() else { break };
                    prop_assert!(running.iter().all(|other| other.entity != event.entity));
                    prop_assert_eq!(event.number, last[event.entity as usize] + 1);
                    last[event.entity as usize] = event.number;
                    sent += 1;
                    running.push(event);
                }
                if running.is_empty() { break }
                let choice = choices.next().expect("endless").index(running.len());
                dispatcher.finish_event(running.swap_remove(choice).entity);
            }
            prop_assert_eq!(sent, events);
            prop_assert_eq!(dispatcher.next_event(), NextEvent::Finish);
        }
    }

    #[test]
    fn a_hot_entity_bounds_what_is_drawn_ahead() {
        let mut dispatcher = dispatcher(1, 1_000_000, 0.0);
        assert!(matches!(dispatcher.next_event(), NextEvent::Send(_)));
        assert_eq!(dispatcher.next_event(), NextEvent::Wait);
        assert_eq!(dispatcher.traffic.drawn(), AHEAD_MAX as u64 + 1);
        dispatcher.finish_event(0);
        assert!(matches!(dispatcher.next_event(), NextEvent::Send(event) if event.number == 2));
    }

    #[test]
    fn a_stopped_plan_begins_nothing_more() {
        let mut dispatcher = dispatcher(5, 100, 0.0);
        assert!(matches!(dispatcher.next_event(), NextEvent::Send(_)));
        dispatcher.stop();
        assert_eq!(dispatcher.next_event(), NextEvent::Finish);
    }
}
