//! Evaluation of filters and transforms off the stage's thread, in slices of time that all
//! subscriptions share fairly.
//!
//! ```text
//!   records ──> wait for one of a few permits, first come, first served
//!                 └──> one slice on a thread that may block ──> judged records, and the rest for the next slice
//! ```
//!
//! So an expression that takes long delays only the deliveries of its own subscription. One that
//! takes more than half of a minute's time is reported, and its subscription is paused.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use actix_rt::task::spawn_blocking;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::delivery::MatchedRecord;
use super::stage_error::DeliveryStageError;
use super::subscriber_id::SubscriberId;
use crate::clock::Clock;
use crate::panics::PanicContainment;
use crate::subscription::FilterExpression;

/// Threads that evaluate expressions at the same time.
pub(super) const EXPRESSION_THREADS: usize = 2;

/// Time after which a slice ends with the record that it is at.
const SLICE: Duration = Duration::from_millis(5);

/// Time over which the use of a subscription is summed up.
const WINDOW: Duration = Duration::from_secs(60);

/// Largest part of the window that the expressions of one subscription may take.
const USE_MAX: Duration = Duration::from_secs(30);

/// Mean time of one evaluation below which no subscription is paused: a backlog of any size may be
/// worked off.
const MEAN_MIN: Duration = Duration::from_millis(1);

/// Time that the expressions of one subscription have taken in a window.
#[derive(Clone, Copy, Debug)]
struct ExpressionUse {
    window_start: Duration,
    spent: Duration,
    evaluations: u32,
}

impl ExpressionUse {
    const fn starting_at(window_start: Duration) -> Self {
        Self {
            window_start,
            spent: Duration::ZERO,
            evaluations: 0,
        }
    }

    /// Adds `evaluations` that took `spent` until `now`. Returns the time of the window once it is
    /// too long.
    fn add(&mut self, spent: Duration, evaluations: u32, now: Duration) -> Option<Duration> {
        if now >= self.window_start + WINDOW {
            *self = Self::starting_at(now.saturating_sub(spent));
        }
        self.spent += spent;
        self.evaluations = self.evaluations.saturating_add(evaluations);
        let mean = self.spent / self.evaluations.max(1);
        (self.spent > USE_MAX && mean >= MEAN_MIN).then_some(self.spent)
    }
}

#[derive(Debug, Default)]
struct ExpressionUses {
    by_subscriber: HashMap<SubscriberId, ExpressionUse>,
    overused: Vec<(SubscriberId, Duration)>,
}

/// Shared time for the expressions of all subscriptions.
pub(super) struct ExpressionShares {
    permits: Semaphore,
    clock: Arc<dyn Clock>,
    uses: Mutex<ExpressionUses>,
}

impl std::fmt::Debug for ExpressionShares {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ExpressionShares")
    }
}

impl ExpressionShares {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            permits: Semaphore::new(EXPRESSION_THREADS),
            clock,
            uses: Mutex::default(),
        })
    }

    /// Drops the `items` that the `filter` of `id` does not select, and notes the error at those on
    /// which it fails.
    ///
    /// # Errors
    /// [`DeliveryStageError::Panicked`] when the evaluation panicked.
    pub(super) async fn judge(
        self: &Arc<Self>,
        id: &SubscriberId,
        filter: &FilterExpression,
        items: Vec<MatchedRecord>,
    ) -> Result<Vec<MatchedRecord>, DeliveryStageError> {
        let mut slice = JudgedSlice {
            judged: Vec::with_capacity(items.len()),
            rest: items.into(),
        };
        while !slice.rest.is_empty() {
            let (filter, clock) = (filter.clone(), Arc::clone(&self.clock));
            let left = slice.rest.len();
            slice = self
                .run(
                    id,
                    move || {
                        slice.judge_some(&filter, clock.as_ref());
                        slice
                    },
                    |slice| left - slice.rest.len(),
                )
                .await?;
        }
        Ok(slice.judged)
    }

    /// Evaluates one expression of `id`.
    ///
    /// # Errors
    /// [`DeliveryStageError::Panicked`] when the evaluation panicked.
    pub(super) async fn evaluate<T: Send + 'static>(
        self: &Arc<Self>,
        id: &SubscriberId,
        evaluate: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DeliveryStageError> {
        self.run(id, evaluate, |_| 1).await
    }

    /// Takes the subscriptions whose expressions have taken too much time, each with that time.
    pub(super) fn take_overused(&self) -> Vec<(SubscriberId, Duration)> {
        std::mem::take(&mut self.uses.lock().overused)
    }

    /// Forgets the use of a subscription that is paused or deleted.
    pub(super) fn forget(&self, id: &SubscriberId) {
        self.uses.lock().by_subscriber.remove(id);
    }

    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        id: &SubscriberId,
        work: impl FnOnce() -> T + Send + 'static,
        count: impl FnOnce(&T) -> usize,
    ) -> Result<T, DeliveryStageError> {
        let panicked = |_| DeliveryStageError::Panicked;
        let _permit = self
            .permits
            .acquire()
            .await
            .map_err(|_| DeliveryStageError::Panicked)?;
        let clock = Arc::clone(&self.clock);
        let timed = move || {
            let _contained = PanicContainment::begin();
            let start = clock.monotonic();
            let outcome = work();
            (outcome, clock.monotonic().saturating_sub(start))
        };
        let (outcome, spent) = spawn_blocking(timed).await.map_err(panicked)?;
        self.note_use(id, spent, count(&outcome));
        Ok(outcome)
    }

    fn note_use(&self, id: &SubscriberId, spent: Duration, evaluations: usize) {
        let now = self.clock.monotonic();
        let evaluations = u32::try_from(evaluations).unwrap_or(u32::MAX);
        let mut uses = self.uses.lock();
        let used = uses
            .by_subscriber
            .entry(id.clone())
            .or_insert(ExpressionUse::starting_at(now.saturating_sub(spent)));
        if let Some(spent) = used.add(spent, evaluations, now) {
            *used = ExpressionUse::starting_at(now);
            uses.overused.push((id.clone(), spent));
        }
    }
}

/// Records of which a filter has judged the first ones.
struct JudgedSlice {
    judged: Vec<MatchedRecord>,
    rest: VecDeque<MatchedRecord>,
}

impl JudgedSlice {
    /// Judges records until the slice of time is over.
    fn judge_some(&mut self, filter: &FilterExpression, clock: &dyn Clock) {
        let start = clock.monotonic();
        while let Some(mut matched) = self.rest.pop_front() {
            match filter.admits(&matched.item.record) {
                Ok(true) => self.judged.push(matched),
                Ok(false) => {}
                Err(error) => {
                    matched.filter_error = Some(error.to_string());
                    self.judged.push(matched);
                }
            }
            if clock.monotonic().saturating_sub(start) >= SLICE {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::event::{EntityKey, Kind, Position, Record, Timestamp};
    use crate::subscriber::OutboundRecord;

    /// Clock that shows four milliseconds more at each look.
    #[derive(Default)]
    struct SlowClock(AtomicU64);

    impl Clock for SlowClock {
        fn wall(&self) -> Timestamp {
            Timestamp::from_micros(0)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0.fetch_add(4, Ordering::Relaxed))
        }
    }

    fn matched(position: u64) -> MatchedRecord {
        let entity = EntityKey::from_number(Kind::Ticket, position);
        let at = Timestamp::from_micros(0);
        let record = Record {
            sequence: Some(1),
            payload: format!(r#"{{"data":{{"n":{position}}}}}"#).into(),
            ..Record::new("support", entity, "status.changed", at)
        };
        let item = OutboundRecord {
            position: Position::new(position),
            sequence: 1,
            received_at: at,
            record: Arc::new(record),
        };
        MatchedRecord {
            item,
            filter_error: None,
        }
    }

    #[test]
    fn a_slow_filter_judges_a_few_records_and_leaves_the_rest_for_later() {
        let filter = FilterExpression::compile("data.n != 2").expect("an expression");
        let mut slice = JudgedSlice {
            judged: Vec::new(),
            rest: (1..=9).map(matched).collect(),
        };
        slice.judge_some(&filter, &SlowClock::default());
        let judged: Vec<_> = slice
            .judged
            .iter()
            .map(|one| one.item.position.get())
            .collect();
        assert_eq!(
            (judged, slice.rest.len()),
            (vec![1], 7),
            "the second is dropped"
        );
    }

    #[tokio::test]
    async fn all_records_are_judged_in_their_order() {
        let shares = ExpressionShares::new(Arc::new(SlowClock::default()));
        let filter = FilterExpression::compile("data.n % 2 == 1 || data.m").expect("an expression");
        let items = (1..=5).map(matched).collect();
        let judged = shares
            .judge(&SubscriberId::Webhook(1), &filter, items)
            .await
            .expect("judges");
        let found: Vec<_> = judged
            .iter()
            .map(|one| (one.item.position.get(), one.filter_error.is_some()))
            .collect();
        assert_eq!(
            found,
            [(1, false), (2, true), (3, false), (4, true), (5, false)]
        );
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn half_a_minute_of_a_minute_is_too_much_for_evaluations_that_take_long() {
        let mut used = ExpressionUse::starting_at(seconds(0));
        assert_eq!(used.add(seconds(20), 10_000, seconds(20)), None);
        assert_eq!(
            used.add(seconds(11), 5_000, seconds(40)),
            Some(seconds(31)),
            "2 ms each"
        );
        let mut quick = ExpressionUse::starting_at(seconds(0));
        assert_eq!(quick.add(seconds(50), 500_000, seconds(55)), None);
    }

    #[test]
    fn each_minute_counts_by_itself() {
        let mut used = ExpressionUse::starting_at(seconds(0));
        for minute in 0..9 {
            let now = seconds(minute * 60 + 40);
            assert_eq!(used.add(seconds(20), 10, now), None, "{minute}");
        }
    }
}
