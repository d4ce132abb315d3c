//! Attempt permits: the bound of concurrent attempts over all subscribers.
//!
//! ```text
//!  common, three quarters   for any attempt; subscribers wait in a queue, each at most once
//!  reserved, a quarter      for the first attempt of a subscriber whose last attempt did not fail; a queue of its own
//! ```
//!
//! So a subscriber with many attempts waits no less than one with few, and subscribers that do not
//! answer cannot take the permits of those that do, however many of their attempts hang.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::actor_waker::ActorWaker;

/// One permit in this many is reserved for subscribers that hold none.
const RESERVED_DIVISOR: usize = 4;

/// Pool that a permit belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PermitClass {
    Common,
    /// Permits for subscribers that hold no permit and whose last attempt did not fail.
    Reserved,
}

/// All attempt permits of the stage.
pub(super) struct AttemptPermits {
    common: PermitQueue,
    reserved: PermitQueue,
    in_use: Cell<usize>,
}

struct PermitQueue {
    free: Cell<usize>,
    waiting: RefCell<VecDeque<Rc<PermitHolder>>>,
}

/// Permission to make one attempt. Dropping it frees the permit or hands it to the next in the queue.
pub(super) struct AttemptPermit {
    permits: Rc<AttemptPermits>,
    holder: Rc<PermitHolder>,
    class: PermitClass,
}

/// One subscriber's view of the permits: those that it holds, and its places in the queues.
pub(super) struct PermitHolder {
    waker: Rc<ActorWaker>,
    /// Permits that were handed over from the queue and not yet used.
    granted: RefCell<Vec<AttemptPermit>>,
    /// Permits of this subscriber, granted ones and those of running attempts.
    held: Cell<usize>,
    is_waiting: Cell<bool>,
    is_failing: Cell<bool>,
    /// Places in the common and the reserved queue.
    is_queued: [Cell<bool>; 2],
}

impl AttemptPermits {
    pub(super) fn new(max: usize) -> Rc<Self> {
        let queue = |free| PermitQueue {
            free: Cell::new(free),
            waiting: RefCell::default(),
        };
        let reserved = max / RESERVED_DIVISOR;
        Rc::new(Self {
            common: queue(max - reserved),
            reserved: queue(reserved),
            in_use: Cell::default(),
        })
    }

    /// Returns a permit that was granted before or is free. Otherwise queues `holder`, which is
    /// granted a permit later and woken.
    pub(super) fn try_acquire(self: &Rc<Self>, holder: &Rc<PermitHolder>) -> Option<AttemptPermit> {
        if let Some(permit) = holder.take_granted() {
            return Some(permit);
        }

        let classes: &[PermitClass] = if holder.can_use_reserved() {
            &[PermitClass::Common, PermitClass::Reserved]
        } else {
            &[PermitClass::Common]
        };
        for class in classes.iter().copied() {
            let queue = self.queue(class);
            if let Some(left) = queue.free.get().checked_sub(1) {
                queue.free.set(left);
                holder.is_waiting.set(false);
                return Some(self.issue(holder, class));
            }
        }

        holder.is_waiting.set(true);
        for class in classes.iter().copied() {
            if holder.set_queued(class, true) {
                let mut waiting = self.queue(class).waiting.borrow_mut();
                waiting.push_back(Rc::clone(holder));
            }
        }
        None
    }

    /// Number of permits that are granted or used by running attempts.
    pub(super) fn in_use(&self) -> usize {
        self.in_use.get()
    }

    const fn queue(&self, class: PermitClass) -> &PermitQueue {
        match class {
            PermitClass::Common => &self.common,
            PermitClass::Reserved => &self.reserved,
        }
    }

    fn issue(self: &Rc<Self>, holder: &Rc<PermitHolder>, class: PermitClass) -> AttemptPermit {
        self.in_use.set(self.in_use.get() + 1);
        holder.held.set(holder.held.get() + 1);
        AttemptPermit {
            permits: Rc::clone(self),
            holder: Rc::clone(holder),
            class,
        }
    }

    /// Removes holders from the queue of `class` until one still waits and may have a permit of it.
    fn next_waiting(&self, class: PermitClass) -> Option<Rc<PermitHolder>> {
        loop {
            let next = self.queue(class).waiting.borrow_mut().pop_front()?;
            next.set_queued(class, false);

            // A holder stays in one queue when the other one has granted it a permit, and a
            // subscriber may have failed or gone since it was queued.
            if !next.waker.is_closed()
                && next.is_waiting.get()
                && (class == PermitClass::Common || next.can_use_reserved())
            {
                return Some(next);
            }
        }
    }
}

impl Drop for AttemptPermit {
    fn drop(&mut self) {
        let permits = &self.permits;
        permits.in_use.set(permits.in_use.get() - 1);
        self.holder.held.set(self.holder.held.get() - 1);

        if let Some(next) = permits.next_waiting(self.class) {
            next.is_waiting.set(false);
            next.grant(permits.issue(&next, self.class));
        } else {
            let free = &permits.queue(self.class).free;
            free.set(free.get() + 1);
        }
    }
}

impl PermitHolder {
    /// Creates a holder without permits; `waker` wakes the actor that is granted a permit.
    pub(super) fn new(waker: Rc<ActorWaker>) -> Rc<Self> {
        Rc::new(Self {
            waker,
            granted: RefCell::default(),
            held: Cell::default(),
            is_waiting: Cell::default(),
            is_failing: Cell::default(),
            is_queued: Default::default(),
        })
    }

    /// Drops the granted permits, which hands them to others.
    pub(super) fn return_unused(&self) {
        drop(self.granted.take());
    }

    /// Records if the subscriber's last attempt failed.
    pub(super) fn set_failing(&self, is_failing: bool) {
        self.is_failing.set(is_failing);
    }

    fn take_granted(&self) -> Option<AttemptPermit> {
        self.granted.borrow_mut().pop()
    }

    fn grant(&self, permit: AttemptPermit) {
        self.granted.borrow_mut().push(permit);
        self.waker.wake();
    }

    fn can_use_reserved(&self) -> bool {
        self.held.get() == 0 && !self.is_failing.get()
    }

    /// Records the place in the queue of `class`; returns `true` if that is a change.
    fn set_queued(&self, class: PermitClass, is_queued: bool) -> bool {
        let place = match class {
            PermitClass::Common => &self.is_queued[0],
            PermitClass::Reserved => &self.is_queued[1],
        };
        place.replace(is_queued) != is_queued
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holder() -> Rc<PermitHolder> {
        PermitHolder::new(ActorWaker::new())
    }

    fn close(holder: &PermitHolder) {
        holder.waker.close();
        holder.return_unused();
    }

    #[test]
    fn a_subscriber_with_many_attempts_leaves_permits_for_one_with_few() {
        let permits = AttemptPermits::new(1);
        let (many, few) = (holder(), holder());
        let first = permits.try_acquire(&many).expect("free");
        for _ in 0..3 {
            assert!(permits.try_acquire(&many).is_none());
        }
        assert!(permits.try_acquire(&few).is_none());
        drop(first);
        let second = permits.try_acquire(&many).expect("it waited longest");
        assert!(permits.try_acquire(&many).is_none());
        drop(second);
        assert!(
            permits.try_acquire(&many).is_none(),
            "it is queued behind the other"
        );
        drop(permits.try_acquire(&few).expect("first in the queue"));
        // An unused permit goes to the next in the queue.
        close(&many);
        assert_eq!(permits.in_use(), 0);
        assert!(permits.try_acquire(&few).is_some());
    }

    /// Subscribers that stopped answering held all permits, so all others waited for their timeouts.
    #[test]
    fn a_subscriber_that_answers_finds_a_permit_however_many_hang() {
        let permits = AttemptPermits::new(8);
        let hanging: Vec<_> = (0..20).map(|_| holder()).collect();
        let busy: Vec<_> = std::iter::from_fn(|| permits.try_acquire(&hanging[0])).collect();
        assert_eq!(busy.len(), 6, "all common permits");
        hanging.iter().for_each(|holder| holder.set_failing(true));
        assert!(
            hanging
                .iter()
                .all(|holder| permits.try_acquire(holder).is_none())
        );
        let well = holder();
        for _ in 0..100 {
            let permit = permits.try_acquire(&well).expect("it answers at once");
            assert!(
                permits.try_acquire(&well).is_none(),
                "the second permit is a common one"
            );
            drop(permit);
            drop(well.take_granted());
        }
        drop(busy);
        assert!(
            hanging[1].take_granted().is_some(),
            "failing subscribers get permits too"
        );
    }

    proptest! {
        /// No permit is lost or created when holders come, go, fail and end, and none is free while
        /// a holder waits for it.
        #[test]
        fn permits_are_neither_lost_nor_created(max in 1_usize..9, steps in prop::collection::vec((0_usize..6, 0..5_u8), 1..200)) {
            let permits = AttemptPermits::new(max);
            let mut holders: Vec<_> = (0..6).map(|_| holder()).collect();
            let mut held: Vec<(usize, AttemptPermit)> = Vec::new();
            for (index, step) in steps {
                match step {
                    0 | 1 => held.extend(permits.try_acquire(&holders[index]).map(|permit| (index, permit))),
                    2 => drop(held.iter().position(|(owner, _)| *owner == index).map(|at| held.remove(at))),
                    3 => holders[index].set_failing(true),
                    _ => {
                        held.retain(|(owner, _)| *owner != index);
                        close(&holders[index]);
                        holders[index] = holder();
                    }
                }
                let free = permits.common.free.get() + permits.reserved.free.get();
                prop_assert_eq!(permits.in_use() + free, max);
                let waits = |holder: &&Rc<PermitHolder>| holder.is_waiting.get();
                prop_assert!(permits.common.free.get() == 0 || holders.iter().find(waits).is_none());
                }
            drop(held);
            holders.iter().for_each(|holder| close(holder));
            prop_assert_eq!(permits.common.free.get() + permits.reserved.free.get(), max);
        }
    }
}
