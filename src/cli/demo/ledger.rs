//! Ledger of one subscriber: the events of the demo that it has, and those that it waits for. Events
//! that somebody else sends to the node are in no figure of the demo.

use std::cell::RefCell;
use std::collections::HashSet;

/// Ids of the events under way, with the number of those that arrived.
#[derive(Debug, Default)]
pub(super) struct DeliveryLedger(RefCell<LedgerState>);

#[derive(Debug, Default)]
struct LedgerState {
    delivered: u64,
    /// Ids that the demo sent, and the subscriber has not accepted yet.
    owed: HashSet<String>,
    /// Ids that the subscriber accepted, and the demo does not know: it has no answer yet, or another
    /// person sent the event.
    unknown: HashSet<String>,
}

impl DeliveryLedger {
    /// Records an event that the node accepted from the demo.
    pub(super) fn note_sent(&self, event_id: &str) {
        let mut state = self.0.borrow_mut();
        if state.unknown.remove(event_id) {
            state.delivered += 1;
        } else {
            state.owed.insert(event_id.to_owned());
        }
    }

    /// Records an event that the subscriber accepted for the first time.
    pub(super) fn note_accepted(&self, event_id: &str) {
        let mut state = self.0.borrow_mut();
        if state.owed.remove(event_id) {
            state.delivered += 1;
        } else {
            state.unknown.insert(event_id.to_owned());
        }
    }

    /// Forgets what is owed: somebody may have ended some of it.
    pub(super) fn forgive(&self) {
        self.0.borrow_mut().owed.clear();
    }

    /// Counts the events of the demo that the subscriber accepted.
    pub(super) fn delivered(&self) -> u64 {
        self.0.borrow().delivered
    }

    /// Counts the events of the demo that the subscriber waits for.
    pub(super) fn owed(&self) -> u64 {
        self.0.borrow().owed.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_counts_once_whether_it_or_the_answer_to_the_sender_comes_first() {
        let ledger = DeliveryLedger::default();
        ledger.note_accepted("evt_1");
        ledger.note_sent("evt_1");
        ledger.note_sent("evt_2");
        assert_eq!((ledger.delivered(), ledger.owed()), (1, 1));
        ledger.note_accepted("evt_2");
        assert_eq!((ledger.delivered(), ledger.owed()), (2, 0));
    }

    #[test]
    fn events_of_others_and_what_was_forgiven_are_not_counted() {
        let ledger = DeliveryLedger::default();
        ledger.note_accepted("evt_of_another");
        ledger.note_sent("evt_1");
        ledger.forgive();
        ledger.note_accepted("evt_1");
        assert_eq!((ledger.delivered(), ledger.owed()), (0, 0));
    }
}
