//! Both rings under one numbering, and where in them a page of a list lies.
//!
//! Blocks of the two rings overlap, but how many rows pass a filter above an id is known from
//! summaries alone, up to the blocks that the id lies within. So halving finds two ids between
//! which the page lies for certain, and only blocks with an id between them are read:
//!
//! ```text
//!  newest                                                                             oldest
//!  ─────────────┬───────────────────────────────┬───────────────────────────────────────────
//!   skipped for │ to: the lowest id with at most │ from: the highest id with the page's end
//!   certain     │ `skipped` rows in what touches it │ in the blocks above it
//! ```

use super::block::{CallClass, CallFilter};
use super::ring::{BlockRef, BlockRing, DirtyBlock};

/// Which ring a row goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RingKind {
    /// Calls that were taken, and all deliveries.
    Kept,
    /// Calls that were refused, which anyone can make.
    Refused,
}

impl RingKind {
    pub(super) const ALL: [Self; 2] = [Self::Kept, Self::Refused];

    /// Its number in keys.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Kept => 0,
            Self::Refused => 1,
        }
    }
}

#[derive(Debug)]
pub(super) struct RingPair {
    rings: [BlockRing; 2],
    next: u64,
}

/// How a page is read.
#[derive(Debug)]
pub(super) struct PagePlan {
    /// Rows that pass the filter.
    pub(super) total: u64,
    /// The blocks that hold the page.
    pub(super) blocks: Vec<BlockRef>,
    /// Of their rows that pass, newest first, how many come before the page.
    pub(super) skipped: u64,
}

impl RingPair {
    /// `rings` in the order of [`Kind::ALL`], all of whose ids are below `next`.
    pub(super) fn new(rings: [BlockRing; 2], next: u64) -> Self {
        Self { rings, next }
    }

    /// The id of the next row.
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

    /// How to read `count` rows, at least one, that pass `filter`, after the `skipped` newest ones.
    pub(super) fn plan_page(&self, filter: CallFilter, skipped: u64, count: u64) -> PagePlan {
        let sum = |of: &dyn Fn(&BlockRing) -> u64| self.rings.iter().map(of).sum::<u64>();
        let total = sum(&|ring| ring.total_rows(filter));
        let to = find_lowest(self.next, |id| {
            sum(&|ring| ring.rows_touching(id, filter)) <= skipped
        });
        let end = skipped.saturating_add(count);
        // The lowest id with too few rows above, less one.
        let from = find_lowest(self.next, |id| {
            sum(&|ring| ring.rows_above(id, filter)) < end
        })
        .saturating_sub(1);
        PagePlan {
            total,
            blocks: self
                .rings
                .iter()
                .flat_map(|ring| ring.blocks_within(from, to, filter))
                .collect(),
            skipped: skipped - sum(&|ring| ring.rows_above(to, filter)),
        }
    }

    /// All blocks with rows that pass `filter`, newest first within each ring.
    pub(super) fn all_blocks(&self, filter: CallFilter) -> Vec<BlockRef> {
        self.rings
            .iter()
            .flat_map(|ring| ring.blocks_within(0, self.next, filter).into_iter().rev())
            .collect()
    }

    /// The block that holds row `id`, if there is such a row: the blocks that may.
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

    /// Whether blocks have to be removed from the disk.
    pub(super) fn has_removed(&self) -> bool {
        self.rings.iter().any(BlockRing::has_removed)
    }

    /// Ring and first id of blocks that have to be removed from the disk; each is given once.
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

/// The lowest number that is `low`, which all numbers above it and `end` are too.
fn find_lowest(end: u64, low: impl Fn(u64) -> bool) -> u64 {
    let (mut from, mut to) = (0, end);
    while from < to {
        let middle = from + (to - from) / 2;
        if low(middle) {
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
        /// So many rows of this class and size.
        Push(u8, u16, usize),
        /// All that waits is written, before or after so many more rows.
        Write(u8),
    }

    fn step() -> impl Strategy<Value = RingStep> {
        prop_oneof![
            4 => (0_u8..4, 1_u16..80, 0_usize..2_000).prop_map(|(class, rows, size)| RingStep::Push(class, rows, size)),
            1 => (0_u8..120).prop_map(RingStep::Write),
        ]
    }

    /// Rings with a disk, and every row that was ever pushed, oldest first.
    struct RingModel {
        rings: RingPair,
        disk: HashMap<(u8, u64), Vec<u8>>,
        pushed: Vec<(u64, RingKind, CallClass)>,
    }

    /// A block of the second ring holds one row.
    const ROWS_MAX: [u64; 2] = [300, 20];

    impl RingModel {
        fn new() -> Self {
            let rings = [
                BlockRing::new(0, ROWS_MAX[0], []),
                BlockRing::new(1, ROWS_MAX[1], []),
            ];
            Self {
                rings: RingPair::new(rings, 1),
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

        /// Writes what waits, while `meanwhile` more rows come.
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

        /// Ids of the page, and the total.
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

        /// Ids of the rows that pass `filter` and should be there, newest first.
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
            // What was evicted while it was being written goes with the next pass.
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
        let mut rings = RingPair::new(
            [
                BlockRing::new(0, 1_000_000, []),
                BlockRing::new(1, 10_000, []),
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
