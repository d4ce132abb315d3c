//! Turns: the bound of attempts at once over all subscribers.
//!
//! ```text
//!  three quarters: anybody's                          who finds none waits in a queue in which everybody stands once
//!  a quarter:      first turns of those who are well  a queue of its own
//! ```
//!
//! So one with many attempts to make waits no less long than one with few, and those that do not answer, however many attempts
//! at them are under way, do not keep all turns from one that does.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::inbox::Inbox;

/// Which part of the turns is for those who have none.
const FIRST_SHARE: usize = 4;

/// Which turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Those for anybody.
    Common,
    /// Those for who has none and at whom the last attempt did not fail.
    First,
}

/// All turns of the stage.
#[derive(Debug)]
pub(super) struct Turns {
    common: Queue,
    first: Queue,
    taken: Cell<usize>,
}

#[derive(Debug)]
struct Queue {
    free: Cell<usize>,
    waiting: RefCell<VecDeque<Rc<Inbox>>>,
}

/// The right to make one attempt; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Rc<Turns>,
    owner: Rc<Inbox>,
    part: Part,
}

impl Turns {
    pub(super) fn new(max: usize) -> Rc<Self> {
        let queue = |free| Queue { free: Cell::new(free), waiting: RefCell::default() };
        let first = max / FIRST_SHARE;
        Rc::new(Self { common: queue(max - first), first: queue(first), taken: Cell::default() })
    }

    /// A turn for the owner of `inbox`, if it was given one or one is free; else it is given one later, and woken.
    pub(super) fn take(self: &Rc<Self>, inbox: &Rc<Inbox>) -> Option<Turn> {
        if let Some(turn) = inbox.take_turn() {
            return Some(turn);
        }
        let parts: &[Part] = if inbox.is_first() { &[Part::Common, Part::First] } else { &[Part::Common] };
        for part in parts.iter().copied() {
            let queue = self.queue(part);
            if let Some(left) = queue.free.get().checked_sub(1) {
                queue.free.set(left);
                inbox.waits_for_turn(false);
                return Some(self.hand_out(inbox, part));
            }
        }
        inbox.waits_for_turn(true);
        for part in parts.iter().copied() {
            if inbox.queues_up(part, true) {
                self.queue(part).waiting.borrow_mut().push_back(Rc::clone(inbox));
            }
        }
        None
    }

    /// Turns that are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.get()
    }

    const fn queue(&self, part: Part) -> &Queue {
        match part {
            Part::Common => &self.common,
            Part::First => &self.first,
        }
    }

    fn hand_out(self: &Rc<Self>, owner: &Rc<Inbox>, part: Part) -> Turn {
        self.taken.set(self.taken.get() + 1);
        owner.has_turns(1);
        Turn { turns: Rc::clone(self), owner: Rc::clone(owner), part }
    }

    /// The next who waits for a turn of `part`, and still may have it.
    fn next(&self, part: Part) -> Option<Rc<Inbox>> {
        loop {
            // Whoever was given one of the other part meanwhile stands here still.
            let next = self.queue(part).waiting.borrow_mut().pop_front()?;
            next.queues_up(part, false);
            if !next.is_closed() && next.is_waiting_for_turn() && (part == Part::Common || next.is_first()) {
                return Some(next);
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let turns = &self.turns;
        turns.taken.set(turns.taken.get() - 1);
        self.owner.has_turns(-1);
        if let Some(next) = turns.next(self.part) {
            next.waits_for_turn(false);
            next.give_turn(turns.hand_out(&next, self.part));
        } else {
            let free = &turns.queue(self.part).free;
            free.set(free.get() + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::delivery::{BreakerStanding, Standing};
    use super::super::inbox::Course;
    use super::*;

    fn inbox() -> Rc<Inbox> {
        Inbox::new(Course::Live, None, (1, 1))
    }

    fn fails(inbox: &Inbox) {
        let failing_for = Some(std::time::Duration::ZERO);
        let standing = Standing { breaker: BreakerStanding::Closed, running: 0, queued: 0, stopped: 0, failing_for };
        inbox.publish(None, (1, 1), standing);
    }

    #[test]
    fn one_with_many_attempts_to_make_leaves_turns_for_one_with_few() {
        let turns = Turns::new(1);
        let (many, few) = (inbox(), inbox());
        let first = turns.take(&many).expect("free");
        for _ in 0..3 {
            assert!(turns.take(&many).is_none());
        }
        assert!(turns.take(&few).is_none());
        drop(first);
        let second = turns.take(&many).expect("it waited longest");
        assert!(turns.take(&many).is_none());
        drop(second);
        assert!(turns.take(&many).is_none(), "it stands behind the other");
        drop(turns.take(&few).expect("its turn"));
        // What is not used goes on to the next.
        many.close();
        assert_eq!(turns.taken(), 0);
        assert!(turns.take(&few).is_some());
    }

    /// Busy subscribers that stopped answering all at once, or more of them than there are turns, held all turns: everybody
    /// else waited for their timeouts.
    #[test]
    fn however_many_hang_one_that_answers_finds_a_turn() {
        let turns = Turns::new(8);
        let hanging: Vec<_> = (0..20).map(|_| inbox()).collect();
        let busy: Vec<_> = std::iter::from_fn(|| turns.take(&hanging[0])).collect();
        assert_eq!(busy.len(), 6, "all that are anybody's");
        hanging.iter().for_each(|inbox| fails(inbox));
        assert!(hanging.iter().all(|inbox| turns.take(inbox).is_none()));
        let well = inbox();
        for _ in 0..100 {
            let turn = turns.take(&well).expect("it answers at once");
            assert!(turns.take(&well).is_none(), "the second one is anybody's");
            drop(turn);
            drop(well.take_turn());
        }
        drop(busy);
        assert!(hanging[1].take_turn().is_some(), "those that fail have their turns too");
    }

    proptest! {
        /// No turn is lost or made, whoever comes, goes, fails and ends, and none is free while somebody waits for it.
        #[test]
        fn turns_are_neither_lost_nor_made(max in 1_usize..9, steps in prop::collection::vec((0_usize..6, 0..5_u8), 1..200)) {
            let turns = Turns::new(max);
            let mut inboxes: Vec<_> = (0..6).map(|_| inbox()).collect();
            let mut held: Vec<(usize, Turn)> = Vec::new();
            for (who, what) in steps {
                match what {
                    0 | 1 => held.extend(turns.take(&inboxes[who]).map(|turn| (who, turn))),
                    2 => drop(held.iter().position(|(owner, _)| *owner == who).map(|at| held.remove(at))),
                    3 => fails(&inboxes[who]),
                    _ => {
                        held.retain(|(owner, _)| *owner != who);
                        inboxes[who].close();
                        inboxes[who] = inbox();
                    }
                }
                let free = turns.common.free.get() + turns.first.free.get();
                prop_assert_eq!(turns.taken() + free, max);
                let waits = |inbox: &&Rc<Inbox>| inbox.is_waiting_for_turn();
                prop_assert!(turns.common.free.get() == 0 || inboxes.iter().find(waits).is_none());
                }
            drop(held);
            inboxes.iter().for_each(|inbox| inbox.close());
            prop_assert_eq!(turns.common.free.get() + turns.first.free.get(), max);
        }
    }
}
