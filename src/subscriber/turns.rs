//! Turns: the bound of attempts at once over all subscribers. Who finds none waits in a queue in which everybody stands once,
//! so that one with many attempts to make waits no less long than one with few.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::inbox::Inbox;

/// All turns of the stage.
#[derive(Debug)]
pub(super) struct Turns {
    free: Cell<usize>,
    waiting: RefCell<VecDeque<Rc<Inbox>>>,
    taken: Cell<usize>,
}

/// The right to make one attempt; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Turn(Rc<Turns>);

impl Turns {
    pub(super) fn new(max: usize) -> Rc<Self> {
        Rc::new(Self { free: Cell::new(max), waiting: RefCell::default(), taken: Cell::default() })
    }

    /// A turn for the owner of `inbox`, if it was given one or nobody waits for one; else it is given one later, and woken.
    pub(super) fn take(self: &Rc<Self>, inbox: &Rc<Inbox>) -> Option<Turn> {
        if let Some(turn) = inbox.take_turn() {
            return Some(turn);
        }
        if self.free.get() > 0 {
            self.free.set(self.free.get() - 1);
            return Some(self.hand_out());
        }
        let mut waiting = self.waiting.borrow_mut();
        if inbox.begins_to_wait() {
            waiting.push_back(Rc::clone(inbox));
        }
        None
    }

    /// Turns that are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.get()
    }

    fn hand_out(self: &Rc<Self>) -> Turn {
        self.taken.set(self.taken.get() + 1);
        Turn(Rc::clone(self))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let turns = &self.0;
        turns.taken.set(turns.taken.get() - 1);
        loop {
            let next = turns.waiting.borrow_mut().pop_front();
            let Some(next) = next else { break };
            next.ends_to_wait();
            if !next.is_closed() {
                return next.give_turn(turns.hand_out());
            }
        }
        turns.free.set(turns.free.get() + 1);
    }
}
