//! Turns: the bound of attempts at once over all subscribers.
//!
//! ```text
//!  three quarters: anybody's                          who finds none waits in a queue in which everybody stands once
//!  a quarter:      first turns of those who are well  a queue of its own
//! ```
//!
//! So one with many attempts to make waits no less long than one with few, and those that do not
//! answer, however many attempts at them are under way, do not keep all turns from one that does.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::inbox::SubscriberInbox;

/// Which part of the turns is for those who have none.
const RESERVED_DIVISOR: usize = 4;

/// Which turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PermitClass {
    /// Those for anybody.
    Common,
    /// Those for who has none and at whom the last attempt did not fail.
    Reserved,
}

/// All turns of the stage.
#[derive(Debug)]
pub(super) struct AttemptPermits {
    common: PermitQueue,
    reserved: PermitQueue,
    in_use: Cell<usize>,
}

#[derive(Debug)]
struct PermitQueue {
    free: Cell<usize>,
    waiting: RefCell<VecDeque<Rc<SubscriberInbox>>>,
}

/// The right to make one attempt; free again when it is dropped.
#[derive(Debug)]
pub(super) struct AttemptPermit {
    permits: Rc<AttemptPermits>,
    owner: Rc<SubscriberInbox>,
    class: PermitClass,
}

impl AttemptPermits {
    pub(super) fn new(max: usize) -> Rc<Self> {
        let queue = |free| PermitQueue {
            free: Cell::new(free),
            waiting: RefCell::default(),
        };
        let first = max / RESERVED_DIVISOR;
        Rc::new(Self {
            common: queue(max - first),
            reserved: queue(first),
            in_use: Cell::default(),
        })
    }

    /// A turn for the owner of `inbox`, if it was given one or one is free; else it is given one
    /// later, and woken.
    pub(super) fn try_acquire(
        self: &Rc<Self>,
        inbox: &Rc<SubscriberInbox>,
    ) -> Option<AttemptPermit> {
        if let Some(turn) = inbox.take_permit() {
            return Some(turn);
        }
        let parts: &[PermitClass] = if inbox.can_use_reserved_permits() {
            &[PermitClass::Common, PermitClass::Reserved]
        } else {
            &[PermitClass::Common]
        };
        for part in parts.iter().copied() {
            let queue = self.queue(part);
            if let Some(left) = queue.free.get().checked_sub(1) {
                queue.free.set(left);
                inbox.set_waiting_for_permit(false);
                return Some(self.hand_out(inbox, part));
            }
        }
        inbox.set_waiting_for_permit(true);
        for part in parts.iter().copied() {
            if inbox.set_queued_for(part, true) {
                self.queue(part)
                    .waiting
                    .borrow_mut()
                    .push_back(Rc::clone(inbox));
            }
        }
        None
    }

    /// Turns that are taken.
    pub(super) fn in_use(&self) -> usize {
        self.in_use.get()
    }

    const fn queue(&self, part: PermitClass) -> &PermitQueue {
        match part {
            PermitClass::Common => &self.common,
            PermitClass::Reserved => &self.reserved,
        }
    }

    fn hand_out(self: &Rc<Self>, owner: &Rc<SubscriberInbox>, part: PermitClass) -> AttemptPermit {
        self.in_use.set(self.in_use.get() + 1);
        owner.adjust_permits_held(1);
        AttemptPermit {
            permits: Rc::clone(self),
            owner: Rc::clone(owner),
            class: part,
        }
    }

    /// The next who waits for a turn of `part`, and still may have it.
    fn next_waiting(&self, part: PermitClass) -> Option<Rc<SubscriberInbox>> {
        loop {
            // Whoever was given one of the other part meanwhile stands here still.
            let next = self.queue(part).waiting.borrow_mut().pop_front()?;
            next.set_queued_for(part, false);
            if !next.is_closed()
                && next.is_waiting_for_permit()
                && (part == PermitClass::Common || next.can_use_reserved_permits())
            {
                return Some(next);
            }
        }
    }
}

impl Drop for AttemptPermit {
    fn drop(&mut self) {
        let turns = &self.permits;
        turns.in_use.set(turns.in_use.get() - 1);
        self.owner.adjust_permits_held(-1);
        if let Some(next) = turns.next_waiting(self.class) {
            next.set_waiting_for_permit(false);
            next.give_permit(turns.hand_out(&next, self.class));
        } else {
            let free = &turns.queue(self.class).free;
            free.set(free.get() + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::delivery::{DeliveryBreakerState, DeliveryStatus};
    use super::super::inbox::ReadState;
    use super::*;

    fn inbox() -> Rc<SubscriberInbox> {
        SubscriberInbox::new(ReadState::Live, None, (1, 1))
    }

    fn fails(inbox: &SubscriberInbox) {
        let failing_for = Some(std::time::Duration::ZERO);
        let standing = DeliveryStatus {
            breaker: DeliveryBreakerState::Closed,
            running: 0,
            queued: 0,
            stopped: 0,
            failing_for,
        };
        inbox.publish_status(None, (1, 1), standing);
    }

    #[test]
    fn one_with_many_attempts_to_make_leaves_turns_for_one_with_few() {
        let turns = AttemptPermits::new(1);
        let (many, few) = (inbox(), inbox());
        let first = turns.try_acquire(&many).expect("free");
        for _ in 0..3 {
            assert!(turns.try_acquire(&many).is_none());
        }
        assert!(turns.try_acquire(&few).is_none());
        drop(first);
        let second = turns.try_acquire(&many).expect("it waited longest");
        assert!(turns.try_acquire(&many).is_none());
        drop(second);
        assert!(
            turns.try_acquire(&many).is_none(),
            "it stands behind the other"
        );
        drop(turns.try_acquire(&few).expect("its turn"));
        // What is not used goes on to the next.
        many.close();
        assert_eq!(turns.in_use(), 0);
        assert!(turns.try_acquire(&few).is_some());
    }

    /// Busy subscribers that stopped answering all at once, or more of them than there are turns,
    /// held all turns: everybody else waited for their timeouts.
    #[test]
    fn however_many_hang_one_that_answers_finds_a_turn() {
        let turns = AttemptPermits::new(8);
        let hanging: Vec<_> = (0..20).map(|_| inbox()).collect();
        let busy: Vec<_> = std::iter::from_fn(|| turns.try_acquire(&hanging[0])).collect();
        assert_eq!(busy.len(), 6, "all that are anybody's");
        hanging.iter().for_each(|inbox| fails(inbox));
        assert!(
            hanging
                .iter()
                .all(|inbox| turns.try_acquire(inbox).is_none())
        );
        let well = inbox();
        for _ in 0..100 {
            let turn = turns.try_acquire(&well).expect("it answers at once");
            assert!(
                turns.try_acquire(&well).is_none(),
                "the second one is anybody's"
            );
            drop(turn);
            drop(well.take_permit());
        }
        drop(busy);
        assert!(
            hanging[1].take_permit().is_some(),
            "those that fail have their turns too"
        );
    }

    proptest! {
        /// No turn is lost or made, whoever comes, goes, fails and ends, and none is free while
        /// somebody waits for it.
        #[test]
        fn turns_are_neither_lost_nor_made(max in 1_usize..9, steps in prop::collection::vec((0_usize..6, 0..5_u8), 1..200)) {
            let turns = AttemptPermits::new(max);
            let mut inboxes: Vec<_> = (0..6).map(|_| inbox()).collect();
            let mut held: Vec<(usize, AttemptPermit)> = Vec::new();
            for (who, what) in steps {
                match what {
                    0 | 1 => held.extend(turns.try_acquire(&inboxes[who]).map(|turn| (who, turn))),
                    2 => drop(held.iter().position(|(owner, _)| *owner == who).map(|at| held.remove(at))),
                    3 => fails(&inboxes[who]),
                    _ => {
                        held.retain(|(owner, _)| *owner != who);
                        inboxes[who].close();
                        inboxes[who] = inbox();
                    }
                }
                let free = turns.common.free.get() + turns.reserved.free.get();
                prop_assert_eq!(turns.in_use() + free, max);
                let waits = |inbox: &&Rc<SubscriberInbox>| inbox.is_waiting_for_permit();
                prop_assert!(turns.common.free.get() == 0 || inboxes.iter().find(waits).is_none());
                }
            drop(held);
            inboxes.iter().for_each(|inbox| inbox.close());
            prop_assert_eq!(turns.common.free.get() + turns.reserved.free.get(), max);
        }
    }
}
