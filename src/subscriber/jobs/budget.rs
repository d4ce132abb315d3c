//! Byte budget for the records that all jobs have in flight, shared by all jobs and subscribers.
//!
//! A reader reserves a page before it reads, so that records being read count too, and returns the
//! page once the records handed out are counted. With the budget used up, a part with no record in
//! flight may still read one. Otherwise all jobs would wait for a few subscribers that do not
//! respond, for as long as their retries take. So the bytes in flight exceed the budget by at most
//! one record of each part, which is less than the window of each subscriber.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::subscriber::SubscriberId;
use crate::subscriber::stage_requests::{StageRequest, StageRequestQueue};

/// Bytes that one step reads at most.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Budget of bytes in flight, with the subscribers that wait for room.
pub(super) struct ReplayBudget {
    max: usize,
    page: usize,
    usage: Mutex<BudgetUsage>,
    requests: Arc<StageRequestQueue>,
}

#[derive(Debug, Default)]
struct BudgetUsage {
    bytes: usize,
    /// Subscribers to be notified when there is room; empty while half of the budget is free.
    waiting: BTreeSet<SubscriberId>,
}

impl ReplayBudget {
    /// Creates a budget of `max` bytes that notifies waiting subscribers through `requests`.
    pub(super) fn new(max: usize, requests: Arc<StageRequestQueue>) -> Self {
        Self {
            max,
            page: PAGE_BYTES_MAX.min(max / 2),
            usage: Mutex::default(),
            requests,
        }
    }

    /// Reserves bytes for the next read of a part of `subscriber`; `is_idle` if the part has no
    /// record in flight. `None` if it has to wait until its records are settled, or for a
    /// [`StageRequest::ReplaysAvailable`].
    pub(super) fn reserve_page(
        &self,
        subscriber: &SubscriberId,
        is_idle: bool,
    ) -> Option<BudgetReservation<'_>> {
        let mut usage = self.lock();
        let free = self.max.saturating_sub(usage.bytes);
        if free < self.page && !is_idle {
            usage.waiting.insert(subscriber.clone());
            return None;
        }
        let bytes = free.min(self.page);
        usage.bytes += bytes;
        Some(BudgetReservation {
            budget: self,
            bytes,
        })
    }

    /// Counts that a part had `before` bytes in flight and has `after` now.
    pub(super) fn adjust_usage(&self, before: usize, after: usize) {
        let mut usage = self.lock();
        usage.bytes = (usage.bytes + after).saturating_sub(before);
        // Not as soon as there is room for one page: all waiting subscribers are notified at once,
        // and most of them would get no page.
        if usage.bytes <= self.max / 2 {
            std::mem::take(&mut usage.waiting)
                .into_iter()
                .for_each(|refused| self.requests.post(&refused, StageRequest::ReplaysAvailable));
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

/// Bytes of a [`ReplayBudget`] that are reserved during a read; returned on drop.
pub(super) struct BudgetReservation<'a> {
    budget: &'a ReplayBudget,
    bytes: usize,
}

impl BudgetReservation<'_> {
    /// Bytes that may be read. The first record may be larger.
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
        /// The n-th part reads records that all have this size.
        Read(u64, usize),
        /// The oldest record of the n-th part is settled.
        Settle(u64),
        /// All records in flight of the n-th part are lost.
        Lose(u64),
    }

    fn any_action() -> impl Strategy<Value = BudgetAction> {
        prop_oneof![
            4 => (0..6_u64, 1..=120_usize).prop_map(|(part, size)| BudgetAction::Read(part, size)),
            4 => (0..6_u64).prop_map(BudgetAction::Settle),
            1 => (0..6_u64).prop_map(BudgetAction::Lose),
        ]
    }

    proptest! {
        #[test]
        fn what_is_out_exceeds_the_budget_by_one_record_of_each_part_at_most_and_nothing_is_kept(
            acts in prop::collection::vec(any_action(), 0..200),
        ) {
            let requests = Arc::<StageRequestQueue>::default();
            let budget = ReplayBudget::new(MAX, Arc::clone(&requests));
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
                prop_assert!(budget.lock().waiting.is_empty() || out > MAX / 2, "a subscriber waits although there is room");
            }
            prop_assert_eq!(budget.bytes(), 0);
        }
    }

    #[test]
    fn who_was_refused_is_told_once_half_of_the_budget_is_free() {
        let requests = Arc::<StageRequestQueue>::default();
        let budget = ReplayBudget::new(MAX, Arc::clone(&requests));
        let one = SubscriberId::Webhook(1);
        budget.adjust_usage(0, 80);
        assert!(budget.reserve_page(&one, false).is_none());
        assert_eq!(
            budget.reserve_page(&one, true).map(|page| page.bytes()),
            Some(20),
            "what is left, for one that is idle"
        );
        budget.adjust_usage(80, 51);
        assert!(requests.take_all().is_empty());
        budget.adjust_usage(51, 50);
        assert_eq!(
            requests.take_all(),
            BTreeSet::from([(one.clone(), StageRequest::ReplaysAvailable)])
        );
        assert_eq!(
            budget.reserve_page(&one, false).map(|page| page.bytes()),
            Some(50)
        );
        assert_eq!(budget.bytes(), 50, "a page is given back");
    }
}
