//! Tracks the accepted sequences of each entity and marks deliveries out of order: pure, and
//! bounded.
//!
//! | sequence | mark |
//! |---|---|
//! | any, sent by a retry or replay job | [`OrderMark::Again`] |
//! | accepted before | [`OrderMark::Repeat`] |
//! | not accepted yet, but a higher one was | [`OrderMark::Swap`]: out of order |
//! | higher than one that is still being answered | [`OrderMark::Early`]: out of order |
//! | at least 2 higher than the highest accepted one | [`OrderMark::Gap`] |
//! | the next one, or the first one of its entity | [`OrderMark::InOrder`] |
//!
//! The first row that fits counts. A gap need not be an error: a filter and a dead letter cause
//! gaps too.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// Most tracked entities: tens of megabytes at most.
const ENTITIES_MAX: usize = 100_000;

/// Most tracked ranges of accepted sequences, and most refused sequences, of one entity.
const RANGES_MAX: usize = 64;

/// Position of a delivery in the order of its entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrderMark {
    /// The delivery arrived in order.
    InOrder,
    /// The listener accepted the event before, which at-least-once delivery allows.
    Repeat,
    /// A retry or replay job of the node sent the event, outside the order.
    Again,
    /// The event comes too late: the listener has accepted a later one, with this sequence.
    Swap(u64),
    /// The event comes too early: the one with this sequence is still being answered.
    Early(u64),
    /// The events from the first to the second sequence, both included, were not accepted before
    /// this one.
    Gap(u64, u64),
}

/// Result of recording the arrival of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListenArrival {
    pub(super) mark: OrderMark,
    /// Number of this attempt, from 1.
    pub(super) attempt: u32,
}

/// State of all tracked entities. The entity that was seen first is dropped first.
#[derive(Debug)]
pub(super) struct OrderTracker {
    lanes: HashMap<Box<str>, EntityOrder>,
    /// Keys of `lanes`, oldest first.
    age: VecDeque<Box<str>>,
    entities_max: usize,
    entities: u64,
}

#[derive(Debug, Default)]
struct EntityOrder {
    accepted: SequenceRanges,
    /// Refusals of each sequence that was not accepted since.
    refused: BTreeMap<u64, u32>,
    /// Number of unanswered deliveries of each sequence.
    open: BTreeMap<u64, u32>,
}

impl Default for OrderTracker {
    fn default() -> Self {
        Self {
            lanes: HashMap::new(),
            age: VecDeque::new(),
            entities_max: ENTITIES_MAX,
            entities: 0,
        }
    }
}

impl OrderTracker {
    /// Counts the entities seen so far, dropped ones included.
    pub(super) fn entity_count(&self) -> u64 {
        self.entities
    }

    /// Records the arrival of `sequence`; [`Self::record_end`] must follow.
    pub(super) fn record_arrival(
        &mut self,
        entity: &str,
        sequence: u64,
        is_again: bool,
    ) -> ListenArrival {
        if !self.lanes.contains_key(entity) {
            self.make_room();
            self.entities += 1;
            self.age.push_back(entity.into());
            self.lanes.insert(entity.into(), EntityOrder::default());
        }
        let Some(lane) = self.lanes.get_mut(entity) else {
            unreachable!("it was just put there")
        };
        let mark = if is_again {
            OrderMark::Again
        } else {
            lane.classify(sequence)
        };
        let refused = lane.refused.get(&sequence).copied().unwrap_or_default();
        let open = lane.open.entry(sequence).or_default();
        *open += 1;
        ListenArrival {
            mark,
            attempt: refused + *open,
        }
    }

    /// Records the end of a delivery: its answer, or the sender's disconnect. Returns true if the
    /// event is accepted for the first time.
    pub(super) fn record_end(
        &mut self,
        entity: &str,
        sequence: u64,
        is_accepted: bool,
        mark: OrderMark,
    ) -> bool {
        // The entity may have been dropped since the arrival.
        let Some(lane) = self.lanes.get_mut(entity) else {
            return is_accepted;
        };
        if let Some(open) = lane.open.get_mut(&sequence) {
            *open -= 1;
            if *open == 0 {
                lane.open.remove(&sequence);
            }
        }
        if is_accepted {
            lane.refused.remove(&sequence);
            // A replayed event ahead of the order does not prove that the events before it arrived.
            let is_ahead = mark == OrderMark::Again
                && lane.accepted.last().is_none_or(|last| last + 1 < sequence);
            return !is_ahead && lane.accepted.insert(sequence);
        }
        if !lane.accepted.contains(sequence) {
            *lane.refused.entry(sequence).or_default() += 1;
            if lane.refused.len() > RANGES_MAX {
                lane.refused.pop_first();
            }
        }
        false
    }

    fn make_room(&mut self) {
        while self.lanes.len() >= self.entities_max {
            let Some(oldest) = self.age.pop_front() else {
                return;
            };
            self.lanes.remove(&oldest);
        }
    }
}

impl EntityOrder {
    fn classify(&self, sequence: u64) -> OrderMark {
        if self.accepted.contains(sequence) {
            return OrderMark::Repeat;
        }
        let last = self.accepted.last();
        if let Some(later) = last.filter(|last| *last > sequence) {
            return OrderMark::Swap(later);
        }
        let earlier = self
            .open
            .keys()
            .copied()
            .find(|open| *open < sequence && !self.accepted.contains(*open));
        if let Some(earlier) = earlier {
            return OrderMark::Early(earlier);
        }
        match last {
            Some(last) if last + 1 < sequence => OrderMark::Gap(last + 1, sequence - 1),
            // The first sequence of an entity may have any number: the listener may be younger than
            // the entity.
            Some(_) | None => OrderMark::InOrder,
        }
    }
}

/// Set of sequences, stored as ranges. Above the limit, the two lowest ranges merge, including the
/// gap between them.
#[derive(Debug, Default)]
struct SequenceRanges(Vec<(u64, u64)>);

impl SequenceRanges {
    fn contains(&self, sequence: u64) -> bool {
        let at = self.0.partition_point(|(_, end)| *end < sequence);
        self.0.get(at).is_some_and(|(start, _)| *start <= sequence)
    }

    fn last(&self) -> Option<u64> {
        self.0.last().map(|(_, end)| *end)
    }

    /// Adds a sequence; returns false if the set contains it already.
    fn insert(&mut self, sequence: u64) -> bool {
        if self.contains(sequence) {
            return false;
        }
        let at = self.0.partition_point(|(_, end)| *end < sequence);
        let joins_next = self
            .0
            .get(at)
            .is_some_and(|(start, _)| Some(*start) == sequence.checked_add(1));
        let joins_previous = at > 0 && self.0[at - 1].1 + 1 == sequence;
        match (joins_previous, joins_next) {
            (true, true) => self.0[at - 1].1 = self.0.remove(at).1,
            (true, false) => self.0[at - 1].1 = sequence,
            (false, true) => self.0[at].0 = sequence,
            (false, false) => self.0.insert(at, (sequence, sequence)),
        }
        if self.0.len() > RANGES_MAX {
            let (start, _) = self.0.remove(0);
            self.0[0].0 = start;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Records `sequence` of the only entity as accepted at once, and returns its mark.
    fn accepted(order: &mut OrderTracker, sequence: u64) -> OrderMark {
        let arrived = order.record_arrival("e", sequence, false);
        order.record_end("e", sequence, true, arrived.mark);
        arrived.mark
    }

    #[test]
    fn consecutive_sequences_are_in_order_from_any_first_one() {
        let mut order = OrderTracker::default();
        assert!(
            [7, 8, 9]
                .into_iter()
                .all(|sequence| accepted(&mut order, sequence) == OrderMark::InOrder)
        );
        assert_eq!(order.entity_count(), 1);
    }

    #[test]
    fn accepted_sequences_are_repeats_and_overtaken_ones_are_swaps() {
        let mut order = OrderTracker::default();
        for (sequence, mark) in [
            (1, OrderMark::InOrder),
            (1, OrderMark::Repeat),
            (4, OrderMark::Gap(2, 3)),
            (3, OrderMark::Swap(4)),
            (3, OrderMark::Repeat),
            (5, OrderMark::InOrder),
            (2, OrderMark::Swap(5)),
        ] {
            assert_eq!(accepted(&mut order, sequence), mark, "{sequence}");
        }
    }

    #[test]
    fn a_refused_delivery_counts_as_the_next_attempt() {
        let mut order = OrderTracker::default();
        for attempt in 1..=3 {
            assert_eq!(
                order.record_arrival("e", 1, false),
                ListenArrival {
                    mark: OrderMark::InOrder,
                    attempt
                }
            );
            assert!(!order.record_end("e", 1, false, OrderMark::InOrder));
        }
        assert_eq!(order.record_arrival("e", 1, false).attempt, 4);
        assert!(order.record_end("e", 1, true, OrderMark::InOrder));
        assert_eq!(
            order.record_arrival("e", 1, false),
            ListenArrival {
                mark: OrderMark::Repeat,
                attempt: 1
            }
        );
        assert!(
            !order.record_end("e", 1, true, OrderMark::InOrder),
            "once is enough"
        );
    }

    #[test]
    fn replayed_deliveries_are_never_out_of_order_and_do_not_affect_the_order() {
        let mut order = OrderTracker::default();
        let again = |order: &mut OrderTracker, sequence| {
            let arrived = order.record_arrival("e", sequence, true);
            (
                arrived.mark,
                order.record_end("e", sequence, true, arrived.mark),
            )
        };
        assert_eq!(
            again(&mut order, 9),
            (OrderMark::Again, false),
            "ahead of all"
        );
        assert!(
            [3, 4]
                .into_iter()
                .all(|sequence| accepted(&mut order, sequence) == OrderMark::InOrder)
        );
        assert_eq!(
            (again(&mut order, 2), again(&mut order, 2)),
            ((OrderMark::Again, true), (OrderMark::Again, false))
        );
        assert_eq!(
            (again(&mut order, 5), accepted(&mut order, 6)),
            ((OrderMark::Again, true), OrderMark::InOrder)
        );
    }

    #[test]
    fn a_delivery_is_early_while_an_earlier_one_is_being_answered() {
        let mut order = OrderTracker::default();
        order.record_arrival("e", 1, false);
        assert_eq!(
            order.record_arrival("e", 2, false).mark,
            OrderMark::Early(1)
        );
        assert_eq!(
            order.record_arrival("f", 2, false).mark,
            OrderMark::InOrder,
            "another entity's"
        );
        order.record_end("e", 1, false, OrderMark::InOrder);
        order.record_end("e", 2, false, OrderMark::InOrder);
        assert_eq!(
            order.record_arrival("e", 2, false).mark,
            OrderMark::InOrder,
            "1 may have been given up"
        );
    }

    #[test]
    fn the_number_of_tracked_entities_is_bounded() {
        let mut order = OrderTracker {
            entities_max: 2,
            ..OrderTracker::default()
        };
        for entity in ["a", "b", "c"] {
            order.record_arrival(entity, 5, false);
            order.record_end(entity, 5, true, OrderMark::InOrder);
        }
        assert_eq!(
            (order.lanes.len(), order.age.len(), order.entity_count()),
            (2, 2, 3)
        );
        assert_eq!(order.record_arrival("c", 4, false).mark, OrderMark::Swap(5));
        assert_eq!(
            order.record_arrival("a", 4, false).mark,
            OrderMark::InOrder,
            "forgotten"
        );
        assert!(
            order.record_end("b", 5, true, OrderMark::InOrder),
            "forgotten while it was answered"
        );
    }

    proptest! {
        #[test]
        fn ranges_hold_what_was_put_into_them(sequences in vec(0..60_u64, 0..80)) {
            let (mut ranges, mut set) = (SequenceRanges::default(), BTreeSet::new());
            for sequence in sequences {
                prop_assert_eq!(ranges.insert(sequence), set.insert(sequence));
                prop_assert_eq!(ranges.last(), set.last().copied());
            }
            for sequence in 0..60 {
                prop_assert_eq!(ranges.contains(sequence), set.contains(&sequence));
            }
            prop_assert!(ranges.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", ranges);
        }

        #[test]
        fn ranges_are_few_and_never_lose_what_was_put_into_them(sequences in vec(any::<u64>(), 0..200)) {
            let mut ranges = SequenceRanges::default();
            for sequence in &sequences {
                ranges.insert(*sequence);
            }
            prop_assert!(ranges.0.len() <= RANGES_MAX);
            prop_assert!(sequences.iter().all(|sequence| ranges.contains(*sequence)));
        }
    }
}
