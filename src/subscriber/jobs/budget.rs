//! How many bytes of records all jobs have out at once: one budget, whatever the number of jobs and
//! subscribers.
//!
//! Whoever reads takes a page of it first, so that what is being read counts too, and gives that
//! back for what was handed out. When the budget is used up, a part that has nothing out may still
//! have one record: otherwise every job would wait for a few subscribers that don't answer, for as
//! long as those are tried again. So what is out exceeds the budget by one record of each part at
//! most, which is less than each subscriber's own window.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::subscriber::SubscriberId;
use crate::subscriber::stage_requests::{StageRequest, StageRequestQueue};

/// The most bytes that one step reads.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The budget.
pub(super) struct ReplayBudget {
    max: usize,
    page: usize,
    usage: Mutex<BudgetUsage>,
    notices: Arc<StageRequestQueue>,
}

#[derive(Debug, Default)]
struct BudgetUsage {
    bytes: usize,
    /// Who is to be told when there is room. Nobody, when half of the budget is free.
    waiting: BTreeSet<SubscriberId>,
}

impl ReplayBudget {
    /// One of `max` bytes; `notices` are where those are told who were refused.
    pub(super) fn new(max: usize, notices: Arc<StageRequestQueue>) -> Self {
        Self {
            max,
            page: PAGE_BYTES_MAX.min(max / 2),
            usage: Mutex::default(),
            notices,
        }
    }

    /// Room for what is read next for `subscriber`, by a part that `is_idle` or has something out.
    /// `None` if it has to wait until what it has is settled, or until there is a [`Notice::Work`].
    pub(super) fn reserve_page(
        &self,
        subscriber: &SubscriberId,
        is_idle: bool,
    ) -> Option<BudgetReservation<'_>> {
        let mut taken = self.lock();
        let free = self.max.saturating_sub(taken.bytes);
        if free < self.page && !is_idle {
            taken.waiting.insert(subscriber.clone());
            return None;
        }
        let bytes = free.min(self.page);
        taken.bytes += bytes;
        Some(BudgetReservation {
            budget: self,
            bytes,
        })
    }

    /// Notes that a part had `before` bytes out, and has `after` now.
    pub(super) fn adjust_usage(&self, before: usize, after: usize) {
        let mut taken = self.lock();
        taken.bytes = (taken.bytes + after).saturating_sub(before);
        // Not as soon as there is room for one page: all of them come, and most would go away with
        // nothing.
        if taken.bytes <= self.max / 2 {
            std::mem::take(&mut taken.waiting)
                .into_iter()
                .for_each(|refused| self.notices.post(StageRequest::ReplaysAvailable(refused)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BudgetUsage> {
        self.usage.lock()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }
}

/// What is held of a [`Budget`] while something is read; given back when dropped.
pub(super) struct BudgetReservation<'a> {
    budget: &'a ReplayBudget,
    bytes: usize,
}

impl BudgetReservation<'_> {
    /// How many bytes may be read. The first record may be larger.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for BudgetReservation<'_> {
    fn drop(&mut self) {
        self.budget.adjust_usage(self.bytes, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 100;

    #[derive(Clone, Debug)]
    enum BudgetAction {
        /// The n-th part reads records that are all of this size.
        Read(u64, usize),
        /// The oldest record of the n-th part is settled.
        Settle(u64),
        /// All that the n-th part has out is lost.
        Lose(u64),
    }

    fn act() -> impl Strategy<Value = BudgetAction> {
        prop_oneof![
            4 => (0..6_u64, 1..=120_usize).prop_map(|(part, size)| BudgetAction::Read(part, size)),
            4 => (0..6_u64).prop_map(BudgetAction::Settle),
            1 => (0..6_u64).prop_map(BudgetAction::Lose),
        ]
    }

    proptest! {
        #[test]
        fn what_is_out_exceeds_the_budget_by_one_record_of_each_part_at_most_and_nothing_is_kept(
            acts in prop::collection::vec(act(), 0..200),
        ) {
            let notices = Arc::<StageRequestQueue>::default();
            let budget = ReplayBudget::new(MAX, Arc::clone(&notices));
            let mut parts: BTreeMap<u64, VecDeque<usize>> = BTreeMap::new();
            let all_lost = (0..6).map(BudgetAction::Lose);
            for act in acts.into_iter().chain(all_lost) {
                match act {
                    BudgetAction::Read(number, size) => {
                        let part = parts.entry(number).or_default();
                        let page = budget.reserve_page(&SubscriberId::Webhook(number), part.is_empty());
                        prop_assert!(page.is_some() || !part.is_empty(), "a part that has nothing out is never refused");
                        let Some(page) = page else { continue };
                        let before = part.iter().sum::<usize>();
                        part.extend(std::iter::repeat_n(size, (page.bytes() / size).max(1)));
                        budget.adjust_usage(before, part.iter().sum());
                    }
                    BudgetAction::Settle(number) => {
                        let part = parts.entry(number).or_default();
                        let before = part.iter().sum::<usize>();
                        part.pop_front();
                        budget.adjust_usage(before, part.iter().sum());
                    }
                    BudgetAction::Lose(number) => budget.adjust_usage(parts.remove(&number).unwrap_or_default().iter().sum(), 0),
                }
                let out: usize = parts.values().flatten().sum();
                let largest_of_each: usize = parts.values().filter_map(|part| part.iter().max()).sum();
                prop_assert_eq!(budget.bytes(), out);
                prop_assert!(out <= MAX + largest_of_each);
                prop_assert!(budget.lock().waiting.is_empty() || out > MAX / 2, "somebody waits, and there is room");
            }
            prop_assert_eq!(budget.bytes(), 0);
        }
    }

    #[test]
    fn who_was_refused_is_told_once_half_of_the_budget_is_free() {
        let notices = Arc::<StageRequestQueue>::default();
        let budget = ReplayBudget::new(MAX, Arc::clone(&notices));
        let one = SubscriberId::Webhook(1);
        budget.adjust_usage(0, 80);
        assert!(budget.reserve_page(&one, false).is_none());
        assert_eq!(
            budget.reserve_page(&one, true).map(|page| page.bytes()),
            Some(20),
            "what is left, for one that is idle"
        );
        budget.adjust_usage(80, 51);
        assert!(notices.take_all().is_empty());
        budget.adjust_usage(51, 50);
        assert_eq!(
            notices.take_all(),
            BTreeSet::from([StageRequest::ReplaysAvailable(one.clone())])
        );
        assert_eq!(
            budget.reserve_page(&one, false).map(|page| page.bytes()),
            Some(50)
        );
        assert_eq!(budget.bytes(), 50, "a page is given back");
    }
}
