//! Admission control: each event holds a permit from its request to its answer, so that no later
//! stage refuses it for lack of room.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Number and bytes of the events that may be in flight.
#[derive(Debug)]
pub(super) struct AdmissionControl {
    events: PermitBudget,
    bytes: PermitBudget,
}

#[derive(Debug)]
struct PermitBudget {
    taken: AtomicUsize,
    limit: usize,
}

impl PermitBudget {
    fn try_take(&self, amount: usize) -> bool {
        let fits = |taken: usize| taken.checked_add(amount).filter(|sum| *sum <= self.limit);
        self.taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fits)
            .is_ok()
    }

    fn give_back(&self, amount: usize) {
        self.taken.fetch_sub(amount, Ordering::AcqRel);
    }
}

/// Permit of one event; dropping it frees its room.
#[derive(Debug)]
pub(super) struct EventPermit {
    admission: Arc<AdmissionControl>,
    bytes: usize,
}

impl AdmissionControl {
    pub(super) fn new(events: usize, bytes: usize) -> Arc<Self> {
        let room = |limit| PermitBudget {
            taken: AtomicUsize::new(0),
            limit,
        };
        Arc::new(Self {
            events: room(events),
            bytes: room(bytes),
        })
    }

    /// Acquires permits for events of these sizes in bytes: all of them, or none.
    pub(super) fn try_admit_all(
        self: &Arc<Self>,
        sizes: impl Iterator<Item = usize>,
    ) -> Option<Vec<EventPermit>> {
        sizes.map(|bytes| self.try_admit(bytes)).collect()
    }

    /// Acquires a permit for one event of `bytes` bytes; `None` when there is no room.
    pub(super) fn try_admit(self: &Arc<Self>, bytes: usize) -> Option<EventPermit> {
        if !self.events.try_take(1) {
            return None;
        }
        if !self.bytes.try_take(bytes) {
            self.events.give_back(1);
            return None;
        }

        Some(EventPermit {
            admission: Arc::clone(self),
            bytes,
        })
    }
}

impl Drop for EventPermit {
    fn drop(&mut self) {
        self.admission.events.give_back(1);
        self.admission.bytes.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_bounded_by_events_and_by_bytes_and_comes_back() {
        let admission = AdmissionControl::new(2, 100);
        let first = admission.try_admit(60).expect("room");
        assert!(admission.try_admit(60).is_none(), "bytes are bounded");
        let second = admission.try_admit(40).expect("a refusal takes no room");
        assert!(admission.try_admit(0).is_none(), "events are bounded");
        drop((first, second));
        assert!(
            admission.try_admit_all([50, 60].into_iter()).is_none(),
            "all or none"
        );
        assert!(admission.try_admit(100).is_some());
    }
}
