//! All rings under one sequence of ids, and the plan that finds a page of a list in them.
//!
//! Blocks of the rings overlap. The summaries alone tell how many rows above an id pass a
//! filter, except in the blocks that contain the id. So a binary search finds two ids between which
//! the page must lie, and only blocks with an id between them are read:
//!
//! ```text
//!  newest                                                                  oldest
//!  ─────────────────┬──────────────────────────────┬────────────────────────────
//!   surely skipped  │ to                           │ from
//!
//!  to    lowest id for which the blocks that reach it hold at most `skipped` rows
//!  from  highest id for which the blocks above it hold the whole page
//! ```

use super::block::{CallClass, CallFilter};
use super::ring::{BlockRef, BlockRing, DirtyBlock};

/// The rings, by the rows that they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RingKind {
    /// Accepted calls, and accepted deliveries.
    Kept,
    /// Calls that anyone can make: refused ones, and those that prove nothing.
    Refused,
    /// Calls of this node that failed, which are few and looked at most.
    Failed,
}

impl RingKind {
    pub(super) const ALL: [Self; 3] = [Self::Kept, Self::Refused, Self::Failed];

    /// Returns the ring's number in keys, which never changes.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Kept => 0,
            Self::Refused => 1,
            Self::Failed => 2,
        }
    }
}

#[derive(Debug)]
pub(super) struct RingSet {
    rings: [BlockRing; RingKind::ALL.len()],
    next: u64,
}

/// Plan for reading one page.
#[derive(Debug)]
pub(super) struct PagePlan {
    /// Number of all rows that pass the filter.
    pub(super) total: u64,
    /// Blocks that together hold the page.
    pub(super) blocks: Vec<BlockRef>,
    /// Number of passing rows of these blocks before the page, counted from the newest.
    pub(super) skipped: u64,
}

impl RingSet {
    /// Joins `rings`, in the order of [`RingKind::ALL`]. All their ids must be below `next`.
    pub(super) fn new(rings: [BlockRing; RingKind::ALL.len()], next: u64) -> Self {
        Self { rings, next }
    }

    /// Returns the id of the next row.
    pub(super) fn next_id(&self) -> u64 {
        self.next
    }

    pub(super) fn push_row(&mut self, kind: RingKind, class: CallClass, row: &[u8]) {
        let id = self.next;
        self.next += 1;
        self.rings[usize::from(kind.number())].push_row(id, class, row);
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.rings.iter().map(BlockRing::waiting_bytes).sum()
    }

    /// Plans the read of `count` rows that pass `filter`, at least one, after the `skipped` newest.
    pub(super) fn plan_page(&self, filter: CallFilter, skipped: u64, count: u64) -> PagePlan {
        let sum = |rows: &dyn Fn(&BlockRing) -> u64| self.rings.iter().map(rows).sum::<u64>();
        let total = sum(&|ring| ring.total_rows(filter));
        let to = find_lowest(self.next, |id| {
            sum(&|ring| ring.rows_touching(id, filter)) <= skipped
        });

        // The highest id with enough rows above is the lowest id with too few rows, minus one.
        let end = skipped.saturating_add(count);
        let from = find_lowest(self.next, |id| {
            sum(&|ring| ring.rows_above(id, filter)) < end
        })
        .saturating_sub(1);

        let blocks = self
            .rings
            .iter()
            .flat_map(|ring| ring.blocks_within(from, to, filter));
        PagePlan {
            total,
            blocks: blocks.collect(),
            skipped: skipped - sum(&|ring| ring.rows_above(to, filter)),
        }
    }

    /// Returns the blocks of each ring with rows that pass `filter`, newest first.
    pub(super) fn blocks_by_ring(&self, filter: CallFilter) -> Vec<Vec<BlockRef>> {
        let blocks = |ring: &BlockRing| {
            let blocks = ring.blocks_within(0, self.next, filter);
            blocks.into_iter().rev().collect()
        };
        self.rings.iter().map(blocks).collect()
    }

    /// Returns the blocks that may hold the row `id`: at most one of each ring.
    pub(super) fn blocks_holding(&self, id: u64) -> Vec<BlockRef> {
        self.rings
            .iter()
            .flat_map(|ring| ring.blocks_within(id, id.saturating_add(1), CallFilter::default()))
            .collect()
    }

    pub(super) fn dirty_blocks(&mut self) -> Vec<DirtyBlock> {
        self.rings
            .iter_mut()
            .flat_map(BlockRing::dirty_blocks)
            .collect()
    }

    pub(super) fn ring_mut(&mut self, number: u8) -> &mut BlockRing {
        &mut self.rings[usize::from(number)]
    }

    /// Tells if evicted blocks have to be removed from the disk.
    pub(super) fn has_removed(&self) -> bool {
        self.rings.iter().any(BlockRing::has_removed)
    }

    /// Takes the ring and first id of each evicted block that has to be removed from the disk.
    pub(super) fn take_removed(&mut self) -> Vec<(u8, u64)> {
        let numbered = (0_u8..).zip(&mut self.rings);
        numbered
            .flat_map(|(number, ring)| {
                ring.take_removed()
                    .into_iter()
                    .map(move |first| (number, first))
            })
            .collect()
    }
}

/// Finds the lowest number below `end` for which `holds` is true, or else `end`. `holds` must stay
/// true for all higher numbers.
fn find_lowest(end: u64, holds: impl Fn(u64) -> bool) -> u64 {
    let (mut from, mut to) = (0, end);
    while from < to {
        let middle = from + (to - from) / 2;
        if holds(middle) {
            to = middle;
        } else {
            from = middle + 1;
        }
    }
    to
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::super::block;
    use super::super::row::CallDirection;
    use super::*;

    const FILTERS: [CallFilter; 5] = [
        CallFilter {
            direction: None,
            is_successful: None,
        },
        CallFilter {
            direction: Some(CallDirection::Incoming),
            is_successful: None,
        },
        CallFilter {
            direction: Some(CallDirection::Outgoing),
            is_successful: Some(false),
        },
        CallFilter {
            direction: None,
            is_successful: Some(true),
        },
        CallFilter {
            direction: Some(CallDirection::Incoming),
            is_successful: Some(false),
        },
    ];

    #[derive(Clone, Debug)]
    enum RingStep {
        /// Class, number and size of pushed rows.
        Push(u8, u16, usize),
        /// Pending blocks are written, while this number of rows is pushed.
        Write(u8),
    }

    fn step() -> impl Strategy<Value = RingStep> {
        prop_oneof![
            4 => (0_u8..4, 1_u16..80, 0_usize..2_000).prop_map(|(class, rows, size)| RingStep::Push(class, rows, size)),
            1 => (0_u8..120).prop_map(RingStep::Write),
        ]
    }

    /// Rings with a disk, and every row that was pushed so far, oldest first.
    struct RingModel {
        rings: RingSet,
        disk: HashMap<(u8, u64), Vec<u8>>,
        pushed: Vec<(u64, RingKind, CallClass)>,
    }

    /// A block of the second ring holds one row.
    const ROWS_MAX: [u64; 3] = [300, 20, 100];

    impl RingModel {
        fn new() -> Self {
            let rings = [
                BlockRing::new(0, ROWS_MAX[0], []),
                BlockRing::new(1, ROWS_MAX[1], []),
                BlockRing::new(2, ROWS_MAX[2], []),
            ];
            Self {
                rings: RingSet::new(rings, 1),
                disk: HashMap::new(),
                pushed: Vec::new(),
            }
        }

        fn push(&mut self, class: u8, size: usize) {
            let class = block::tests::class(class);
            let kind = if class == block::tests::class(0) {
                RingKind::Refused
            } else {
                RingKind::Kept
            };
            self.pushed.push((self.rings.next_id(), kind, class));
            // Rows that do not compress are stored as several blocks.
            let row = block::tests::noise(size, self.rings.next_id());
            self.rings.push_row(kind, class, &row);
        }

        /// Writes the pending blocks, while `meanwhile` more rows are pushed.
        fn write(&mut self, meanwhile: u8) {
            let (unwritten, removed) = (self.rings.dirty_blocks(), self.rings.take_removed());
            for number in 0..meanwhile {
                self.push(number % 4, 900);
            }
            for block in unwritten {
                let mut parts = Vec::new();
                for (summary, value) in block::encode_blocks(block.summary, &block.body) {
                    self.disk.insert((block.ring, summary.first), value);
                    parts.push(summary);
                }
                self.rings.ring_mut(block.ring).mark_written(&block, &parts);
            }
            removed.iter().for_each(|key| drop(self.disk.remove(key)));
        }

        /// Returns the ids of the page, and the total.
        fn page(&self, filter: CallFilter, skipped: u64, count: u64) -> (Vec<u64>, u64) {
            let plan = self.rings.plan_page(filter, skipped, count);
            let mut ids = Vec::new();
            for wanted in plan.blocks {
                let body = match wanted.body {
                    Some(body) => body.to_vec(),
                    None => block::decode_body(&self.disk[&(wanted.ring, wanted.first)])
                        .expect("a value"),
                };
                let slots = block::split_rows(wanted.first, &body).expect("a body");
                ids.extend(
                    slots
                        .iter()
                        .filter(|slot| filter.passes(slot.class))
                        .map(|slot| slot.id),
                );
            }
            ids.sort_unstable_by(|a, b| b.cmp(a));
            let page = ids
                .into_iter()
                .skip(plan.skipped as usize)
                .take(count as usize)
                .collect();
            (page, plan.total)
        }

        /// Returns the ids of the rows that pass `filter` and were not evicted, newest first.
        fn expected(&self, filter: CallFilter) -> Vec<u64> {
            let mut expected = Vec::new();
            for kind in RingKind::ALL {
                let there = self.rings.rings[usize::from(kind.number())]
                    .total_rows(CallFilter::default()) as usize;
                let rows: Vec<_> = self
                    .pushed
                    .iter()
                    .filter(|(_, of, _)| *of == kind)
                    .collect();
                let bound = ROWS_MAX[usize::from(kind.number())] as usize;
                assert!(
                    there <= bound && there >= rows.len().min(bound - bound / 16),
                    "{there} of {}",
                    rows.len()
                );
                let rows = rows[rows.len() - there..].iter();
                expected.extend(
                    rows.filter(|(_, _, class)| filter.passes(*class))
                        .map(|(id, _, _)| *id),
                );
            }
            expected.sort_unstable_by(|a, b| b.cmp(a));
            expected
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_page_is_what_a_naive_list_would_have_there(
            steps in prop::collection::vec(step(), 1..40), places in prop::collection::vec((0_u64..400, 1_u64..120), 8),
        ) {
            let mut model = RingModel::new();
            for step in steps {
                match step {
                    RingStep::Push(class, rows, size) => (0..rows).for_each(|_| model.push(class, size)),
                    RingStep::Write(meanwhile) => model.write(meanwhile),
                }
            }
            for filter in FILTERS {
                let expected = model.expected(filter);
                for (skipped, count) in &places {
                    let page: Vec<_> = expected.iter().copied().skip(*skipped as usize).take(*count as usize).collect();
                    prop_assert_eq!(model.page(filter, *skipped, *count), (page, expected.len() as u64));
                }
            }
        }

        #[test]
        fn the_disk_holds_what_the_rings_hold(steps in prop::collection::vec(step(), 1..40)) {
            let mut model = RingModel::new();
            for step in steps {
                match step {
                    RingStep::Push(class, rows, size) => (0..rows).for_each(|_| model.push(class, size)),
                    RingStep::Write(meanwhile) => model.write(meanwhile),
                }
            }
            model.write(0);
            // Blocks that were evicted while they were being written go with the next pass.
            model.write(0);
            prop_assert_eq!(model.rings.waiting_bytes(), 0);
            let mut stored = Vec::new();
            for ((_, first), value) in &model.disk {
                let body = block::decode_body(value).expect("a value");
                stored.extend(block::split_rows(*first, &body).expect("a body").iter().map(|slot| slot.id));
            }
            stored.sort_unstable_by(|a, b| b.cmp(a));
            prop_assert_eq!(stored, model.expected(CallFilter::default()));
        }
    }

    #[test]
    fn a_page_deep_in_a_million_rows_reads_few_blocks() {
        let mut rings = RingSet::new(
            [
                BlockRing::new(0, 1_000_000, []),
                BlockRing::new(1, 10_000, []),
                BlockRing::new(2, 10_000, []),
            ],
            1,
        );
        for number in 0..200_000 {
            rings.push_row(RingKind::Kept, block::tests::class(1), &[0; 300]);
            if number % 7 == 0 {
                rings.push_row(RingKind::Refused, block::tests::class(0), &[0; 300]);
            }
        }
        for skipped in [0, 5_000, 123_456, 205_000] {
            let blocks = rings
                .plan_page(CallFilter::default(), skipped, 100)
                .blocks
                .len();
            assert!((1..=6).contains(&blocks), "{blocks} at {skipped}");
        }
    }
}
