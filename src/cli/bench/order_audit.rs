//! Audit of one list of events, such as the deliveries to one subscriber or the events in the store:
//! pure. Each event is judged as it comes, and all are judged together at the end.
//!
//! | event | counts as |
//! |---|---|
//! | its number follows on the highest one of its entity | in order |
//! | its number is higher than that | in order so far: numbers are missing before it |
//! | its number was missing until now | swap: it comes after a later one |
//! | it came before, with the same id | repetition: at-least-once delivery allows it |
//! | it came before, with another id or without any | double |
//! | no such event was ever sent | foreign |
//!
//! At the end, a missing number below the highest one of its entity is a gap, and an acknowledged
//! number that never came is a loss. Four bytes are kept for each event.

use serde::Serialize;

/// Judgement of one event as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuditMark {
    InOrder,
    Swap,
    Repetition,
    Double,
    Foreign,
}

impl AuditMark {
    /// Tells if the event came for the first time.
    pub(super) fn is_new(self) -> bool {
        matches!(self, Self::InOrder | Self::Swap)
    }
}

/// Faults of one list of events; all but the repetitions must be zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct OrderVerdict {
    /// Different events that came, each counted once.
    pub(super) events: u64,
    /// Events that came after a later one of their entity.
    pub(super) swaps: u64,
    /// Events that never came although a later one of their entity did.
    pub(super) gaps: u64,
    /// Events that came again under another id.
    pub(super) doubles: u64,
    /// Acknowledged events that never came.
    pub(super) losses: u64,
    /// Events that were not sent by this benchmark.
    pub(super) foreign: u64,
    /// Events that came again under the same id, which is no fault.
    pub(super) repetitions: u64,
}

impl OrderVerdict {
    /// Tells if there is no fault.
    pub(super) fn is_clean(&self) -> bool {
        self.swaps + self.gaps + self.doubles + self.losses + self.foreign == 0
    }

    /// Adds the faults of another list.
    pub(super) fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.swaps += other.swaps;
        self.gaps += other.gaps;
        self.doubles += other.doubles;
        self.losses += other.losses;
        self.foreign += other.foreign;
        self.repetitions += other.repetitions;
    }
}

/// Events that came so far.
#[derive(Debug)]
pub(super) struct OrderAudit {
    entities: Vec<SeenEvents>,
    verdict: OrderVerdict,
}

/// Events of one entity: for each number, from 1, a digest of its id; 0 for one that did not come.
#[derive(Clone, Debug, Default)]
struct SeenEvents(Vec<u32>);

impl OrderAudit {
    /// Expects events of `entities` entities.
    pub(super) fn new(entities: u32) -> Self {
        Self {
            entities: vec![SeenEvents::default(); entities as usize],
            verdict: OrderVerdict::default(),
        }
    }

    /// Judges an event as it comes. `sent` is the last number of the entity that was sent, and `id`
    /// tells repetitions from doubles.
    pub(super) fn record(
        &mut self,
        entity: u32,
        number: u64,
        sent: u32,
        id: Option<&[u8]>,
    ) -> AuditMark {
        let mark = self.judge(entity, number, sent, id);
        match mark {
            AuditMark::InOrder => self.verdict.events += 1,
            AuditMark::Swap => {
                self.verdict.events += 1;
                self.verdict.swaps += 1;
            }
            AuditMark::Repetition => self.verdict.repetitions += 1,
            AuditMark::Double => self.verdict.doubles += 1,
            AuditMark::Foreign => self.verdict.foreign += 1,
        }
        mark
    }

    /// Counts an event that names no entity and number.
    pub(super) fn record_foreign(&mut self) {
        self.verdict.foreign += 1;
    }

    fn judge(&mut self, entity: u32, number: u64, sent: u32, id: Option<&[u8]>) -> AuditMark {
        let Some(SeenEvents(digests)) = self.entities.get_mut(entity as usize) else {
            return AuditMark::Foreign;
        };
        // A number beyond what was sent would also make room for all before it.
        if !(1..=u64::from(sent)).contains(&number) {
            return AuditMark::Foreign;
        }
        let at = usize::try_from(number - 1).unwrap_or(usize::MAX);
        // 0 stands for an event that did not come.
        let digest = id.map_or(1, |id| crc32fast::hash(id).max(1));
        if at >= digests.len() {
            digests.resize(at, 0);
            digests.push(digest);
            return AuditMark::InOrder;
        }
        match (digests[at], id) {
            (0, _) => {
                digests[at] = digest;
                AuditMark::Swap
            }
            (known, Some(_)) if known == digest => AuditMark::Repetition,
            (_, _) => AuditMark::Double,
        }
    }

    /// Number of different events that came.
    pub(super) fn seen(&self) -> u64 {
        self.verdict.events
    }

    /// Highest number of `entity` that came.
    pub(super) fn highest(&self, entity: u32) -> usize {
        self.entities[entity as usize].0.len()
    }

    /// Judges all events together. `acknowledged` has the highest acknowledged number of each entity.
    pub(super) fn finish(&self, acknowledged: impl IntoIterator<Item = u32>) -> OrderVerdict {
        let mut verdict = self.verdict;
        for (SeenEvents(digests), acknowledged) in self.entities.iter().zip(acknowledged) {
            let acknowledged = acknowledged as usize;
            let missing = |digests: &[u32]| digests.iter().filter(|digest| **digest == 0).count();
            let until_acknowledged = &digests[..digests.len().min(acknowledged)];
            let at_end = acknowledged.saturating_sub(digests.len());
            verdict.gaps += missing(digests) as u64;
            verdict.losses += (missing(until_acknowledged) + at_end) as u64;
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Judges deliveries of one entity, each a number with an id, of which `acknowledged` were
    /// acknowledged.
    fn judge(deliveries: &[(u64, &str)], acknowledged: u32) -> OrderVerdict {
        let mut audit = OrderAudit::new(1);
        for (number, id) in deliveries {
            audit.record(0, *number, 100, Some(id.as_bytes()));
        }
        OrderVerdict {
            events: 0,
            ..audit.finish([acknowledged])
        }
    }

    /// Deliveries, the acknowledged events, and the verdict.
    type AuditCase<'c> = (&'c [(u64, &'c str)], u32, OrderVerdict);

    #[test]
    fn each_fault_is_told_apart() {
        let clean = OrderVerdict::default();
        let cases: [AuditCase<'_>; 8] = [
            (&[(1, "a"), (2, "b"), (3, "c")], 3, clean),
            (
                &[(1, "a"), (3, "c"), (2, "b")],
                3,
                OrderVerdict { swaps: 1, ..clean },
            ),
            (
                &[(1, "a"), (3, "c")],
                3,
                OrderVerdict {
                    gaps: 1,
                    losses: 1,
                    ..clean
                },
            ),
            (&[(1, "a")], 3, OrderVerdict { losses: 2, ..clean }),
            (
                &[(1, "a"), (2, "b"), (1, "a")],
                2,
                OrderVerdict {
                    repetitions: 1,
                    ..clean
                },
            ),
            (
                &[(1, "a"), (2, "b"), (1, "x")],
                2,
                OrderVerdict {
                    doubles: 1,
                    ..clean
                },
            ),
            // An event that was delivered before its answer arrived.
            (&[(1, "a"), (2, "b")], 1, clean),
            (
                &[(1, "a"), (0, "b"), (101, "c")],
                1,
                OrderVerdict {
                    foreign: 2,
                    ..clean
                },
            ),
        ];
        for (deliveries, acknowledged, expected) in cases {
            assert_eq!(judge(deliveries, acknowledged), expected, "{deliveries:?}");
            assert_eq!(
                expected.is_clean(),
                expected == clean || expected.repetitions > 0
            );
        }
    }

    #[test]
    fn without_ids_an_event_that_comes_again_is_a_double() {
        let mut audit = OrderAudit::new(1);
        assert_eq!(audit.record(0, 1, 1, None), AuditMark::InOrder);
        assert_eq!(audit.record(0, 1, 1, None), AuditMark::Double);
        assert_eq!(audit.record(1, 1, 1, None), AuditMark::Foreign);
    }

    proptest! {
        #[test]
        fn events_in_order_are_clean_and_each_disturbance_is_found(
            counts in prop::collection::vec(2..30_u32, 1..6),
            weave in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
            victim in any::<prop::sample::Index>(),
            place in any::<prop::sample::Index>(),
            disturbance in 0..4,
        ) {
            // Entities take turns in any order; each of them is in order.
            let mut next = vec![1; counts.len()];
            let mut deliveries = Vec::new();
            for choice in weave.iter().cycle() {
                let open: Vec<_> = (0..counts.len()).filter(|e| next[*e] <= counts[*e]).collect();
                if open.is_empty() { break }
                let entity = open[choice.index(open.len())];
                deliveries.push((entity as u32, u64::from(next[entity]), String::new()));
                next[entity] += 1;
            }
            let verdict_of = |deliveries: &[(u32, u64, String)]| {
                let mut audit = OrderAudit::new(counts.len() as u32);
                for (entity, number, mark) in deliveries {
                    audit.record(*entity, *number, 100, Some(format!("{entity}-{number}{mark}").as_bytes()));
                }
                OrderVerdict { events: 0, ..audit.finish(counts.iter().copied()) }
            };
            prop_assert_eq!(verdict_of(&deliveries), OrderVerdict::default());

            let victim = victim.index(counts.len());
            let of_victim: Vec<_> = (0..deliveries.len()).filter(|at| deliveries[*at].0 == victim as u32).collect();
            let place = place.index(of_victim.len() - 1);
            let (first, second) = (of_victim[place], of_victim[place + 1]);
            let clean = OrderVerdict::default();
            let expected = match disturbance {
                0 => { deliveries.swap(first, second); OrderVerdict { swaps: 1, ..clean } }
                1 => { deliveries.remove(first); OrderVerdict { gaps: 1, losses: 1, ..clean } }
                2 => {
                    let mut again = deliveries[first].clone();
                    again.2 = "again".to_owned();
                    deliveries.push(again);
                    OrderVerdict { doubles: 1, ..clean }
                }
                _ => { deliveries.push(deliveries[first].clone()); OrderVerdict { repetitions: 1, ..clean } }
            };
            prop_assert_eq!(verdict_of(&deliveries), expected);
        }
    }
}
