//! Ledger of a run: what was sent and acknowledged, and what each receiver got, in a few bytes for
//! each event.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;

use super::latency::LatencySeries;
use super::order_audit::{OrderAudit, OrderVerdict};
use super::traffic::PlannedEvent;
use crate::clock::{Clock, SystemClock};

/// Unit in which the ledger keeps times: four bytes reach almost twelve hours.
const TIME_UNIT_US: u128 = 10;

/// Ledger that senders and receivers share.
#[derive(Debug)]
pub(super) struct BenchLedger {
    clock: SystemClock,
    books: Mutex<LedgerBooks>,
}

/// Content of the ledger, for the report.
#[derive(Debug)]
pub(super) struct LedgerBooks {
    /// Time on the clock at which the first event was due.
    began: Duration,
    entities: Vec<EntityProgress>,
    pub(super) acknowledged: u64,
    /// Times of the last answer and of the last delivery, since the begin.
    pub(super) last_answer: Duration,
    pub(super) last_delivery: Duration,
    /// Time from an event's due time to its answer.
    pub(super) accept: LatencySeries,
    /// Time from an event's due time to its delivery, at subscribers without and with a fault.
    pub(super) delivery: LatencySeries,
    pub(super) faulty_delivery: LatencySeries,
    pub(super) retries: RetryCounts,
    /// Deliveries of events that another run, or another sender, sent.
    pub(super) other_runs: u64,
    pub(super) subscribers: Vec<SubscriberBooks>,
}

/// Requests that had to be sent again, by cause.
#[derive(Clone, Debug, Default)]
pub(super) struct RetryCounts {
    /// No answer: the connection was refused or broke, or the time was over.
    pub(super) unanswered: u64,
    pub(super) by_status: BTreeMap<u16, u64>,
    /// Events that an earlier, unanswered request had brought in.
    pub(super) known_already: u64,
}

/// Deliveries that one subscriber got, and their judgement.
#[derive(Debug)]
pub(super) struct SubscriberBooks {
    pub(super) audit: OrderAudit,
    pub(super) is_faulty: bool,
    /// Attempts that the subscriber's fault did not let it accept.
    pub(super) failed_attempts: u64,
    pub(super) wrongly_signed: u64,
}

#[derive(Clone, Debug, Default)]
struct EntityProgress {
    /// Last number that was sent, and the last one that was acknowledged.
    sent: u32,
    acknowledged: u32,
    /// Due times of the events from `first_due` on, until every subscriber has them.
    due: VecDeque<u32>,
    first_due: u32,
}

impl BenchLedger {
    /// Opens the books for `entities` entities. `faulty` tells for each subscriber if it has a fault.
    pub(super) fn new(entities: u32, faulty: &[bool]) -> Self {
        let subscribers = faulty
            .iter()
            .map(|is_faulty| SubscriberBooks {
                audit: OrderAudit::new(entities),
                is_faulty: *is_faulty,
                failed_attempts: 0,
                wrongly_signed: 0,
            })
            .collect();
        let progress = EntityProgress {
            first_due: 1,
            ..EntityProgress::default()
        };
        let clock = SystemClock::default();
        let books = LedgerBooks {
            began: clock.monotonic(),
            entities: vec![progress; entities as usize],
            acknowledged: 0,
            last_answer: Duration::ZERO,
            last_delivery: Duration::ZERO,
            accept: LatencySeries::new(),
            delivery: LatencySeries::new(),
            faulty_delivery: LatencySeries::new(),
            retries: RetryCounts::default(),
            other_runs: 0,
            subscribers,
        };
        Self {
            clock,
            books: Mutex::new(books),
        }
    }

    /// Begins the run: times count from now on.
    pub(super) fn begin(&self) {
        self.books.lock().began = self.clock.monotonic();
    }

    /// Returns the time since the begin.
    pub(super) fn now(&self) -> Duration {
        let now = self.clock.monotonic();
        now.saturating_sub(self.books.lock().began)
    }

    /// Records that `event`, which was due at `due`, is sent for the first time.
    pub(super) fn record_sending(&self, event: PlannedEvent, due: Duration) {
        let mut books = self.books.lock();
        let has_subscribers = !books.subscribers.is_empty();
        let progress = &mut books.entities[event.entity as usize];
        progress.sent = event.number;
        if !has_subscribers {
            return;
        }
        let units = due.as_micros() / TIME_UNIT_US;
        progress
            .due
            .push_back(u32::try_from(units).unwrap_or(u32::MAX));
    }

    /// Records the answer that acknowledges `event`.
    pub(super) fn record_answer(&self, event: PlannedEvent, due: Duration) {
        let now = self.now();
        let mut books = self.books.lock();
        books.entities[event.entity as usize].acknowledged = event.number;
        books.acknowledged += 1;
        books.last_answer = now;
        books.accept.record(now, now.saturating_sub(due));
    }

    /// Records that an event has to be sent again: after the answer `status`, or after none.
    pub(super) fn record_retry(&self, status: Option<u16>) {
        let retries = &mut self.books.lock().retries;
        match status {
            Some(status) => *retries.by_status.entry(status).or_default() += 1,
            None => retries.unanswered += 1,
        }
    }

    /// Records that the repetition of an event was answered as one.
    pub(super) fn record_known_already(&self) {
        self.books.lock().retries.known_already += 1;
    }

    /// Records an accepted delivery to the subscriber at `subscriber`; `event` is its entity and
    /// number, if it names them.
    pub(super) fn record_delivery(
        &self,
        subscriber: usize,
        event: Option<(u32, u64)>,
        id: Option<&[u8]>,
    ) {
        let now = self.now();
        let mut books = self.books.lock();
        let books = &mut *books;
        let Some((entity, number)) = event else {
            books.subscribers[subscriber].audit.record_foreign();
            return;
        };
        let sent = books.sent_number(entity);
        let mark = books.subscribers[subscriber]
            .audit
            .record(entity, number, sent, id);
        if !mark.is_new() {
            return;
        }

        books.last_delivery = now;
        let progress = &mut books.entities[entity as usize];
        if let Some(due) = progress.find_due(number) {
            let latency = now.saturating_sub(due);
            match books.subscribers[subscriber].is_faulty {
                true => books.faulty_delivery.record(now, latency),
                false => books.delivery.record(now, latency),
            }
        }
        let audits = books.subscribers.iter().map(|books| &books.audit);
        let everywhere = audits.map(|audit| audit.highest(entity)).min();
        progress.forget_until(everywhere.unwrap_or(0));
    }

    /// Records the delivery of an event that this run did not send.
    pub(super) fn record_other_run(&self) {
        self.books.lock().other_runs += 1;
    }

    /// Records an attempt that the subscriber's fault did not let it accept.
    pub(super) fn record_failed_attempt(&self, subscriber: usize) {
        self.books.lock().subscribers[subscriber].failed_attempts += 1;
    }

    /// Records a delivery without a right signature.
    pub(super) fn record_wrong_signature(&self, subscriber: usize) {
        self.books.lock().subscribers[subscriber].wrongly_signed += 1;
    }

    /// Tells if every subscriber has as many events as are acknowledged.
    pub(super) fn is_all_delivered(&self) -> bool {
        let books = self.books.lock();
        let mut subscribers = books.subscribers.iter();
        subscribers.all(|subscriber| subscriber.audit.seen() >= books.acknowledged)
    }

    /// Returns the number of acknowledged events, and of new deliveries to all subscribers.
    pub(super) fn progress(&self) -> (u64, u64) {
        let books = self.books.lock();
        let seen = books.subscribers.iter().map(|books| books.audit.seen());
        (books.acknowledged, seen.sum())
    }

    /// Calls `read` with the books.
    pub(super) fn with_books<T>(&self, read: impl FnOnce(&mut LedgerBooks) -> T) -> T {
        read(&mut self.books.lock())
    }
}

impl LedgerBooks {
    /// Highest acknowledged number of each entity; all before it are acknowledged too.
    pub(super) fn acknowledged_numbers(&self) -> impl Iterator<Item = u32> {
        self.entities.iter().map(|entity| entity.acknowledged)
    }

    /// Last number of `entity` that was sent; 0 for an entity that does not exist.
    pub(super) fn sent_number(&self, entity: u32) -> u32 {
        let entity = self.entities.get(entity as usize);
        entity.map_or(0, |entity| entity.sent)
    }

    /// Judges the deliveries to each subscriber.
    pub(super) fn judge_subscribers(&self) -> Vec<OrderVerdict> {
        let judge =
            |subscriber: &SubscriberBooks| subscriber.audit.finish(self.acknowledged_numbers());
        self.subscribers.iter().map(judge).collect()
    }
}

impl EntityProgress {
    fn find_due(&self, number: u64) -> Option<Duration> {
        let place = number.checked_sub(self.first_due.into())?;
        let units = self.due.get(usize::try_from(place).ok()?)?;
        let us = u64::from(*units) * TIME_UNIT_US as u64;
        Some(Duration::from_micros(us))
    }

    /// Forgets the due times of the events until `number`.
    fn forget_until(&mut self, number: usize) {
        while self.first_due as usize <= number && self.due.pop_front().is_some() {
            self.first_due += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    fn event(entity: u32, number: u32) -> PlannedEvent {
        PlannedEvent {
            index: 0,
            entity,
            number,
        }
    }

    #[test]
    fn times_are_kept_until_every_subscriber_has_the_event() {
        let ledger = BenchLedger::new(2, &[false, true]);
        for number in 1..=3 {
            ledger.record_sending(event(1, number), SOON);
        }
        let kept = || ledger.with_books(|books| books.entities[1].due.len());
        ledger.record_delivery(0, Some((1, 1)), Some(b"a"));
        ledger.record_delivery(0, Some((1, 2)), Some(b"b"));
        assert_eq!(kept(), 3, "the second subscriber has none");
        ledger.record_delivery(1, Some((1, 1)), Some(b"a"));
        assert_eq!(kept(), 2);
        ledger.record_delivery(1, Some((1, 1)), Some(b"a"));
        ledger.with_books(|books| {
            assert_eq!(
                (books.delivery.count(), books.faulty_delivery.count()),
                (2, 1),
                "a repetition is not new"
            );
        });
        assert_eq!(ledger.progress(), (0, 3));
    }

    #[test]
    fn all_is_delivered_once_each_subscriber_has_what_is_acknowledged() {
        let ledger = BenchLedger::new(1, &[false]);
        ledger.record_sending(event(0, 1), SOON);
        assert!(ledger.is_all_delivered());
        ledger.record_answer(event(0, 1), SOON);
        assert!(!ledger.is_all_delivered());
        let losses =
            |ledger: &BenchLedger| ledger.with_books(|books| books.judge_subscribers()[0].losses);
        assert_eq!(losses(&ledger), 1);
        ledger.record_delivery(0, Some((0, 1)), None);
        assert!(ledger.is_all_delivered());
        assert_eq!(losses(&ledger), 0);
        ledger.record_delivery(0, None, None);
        assert_eq!(
            ledger.with_books(|books| books.judge_subscribers()[0].foreign),
            1
        );
    }
}
