//! The waker of a subscriber's actor: sends at most one wakeup that the actor has not yet handled.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use actix::{Message, Recipient};

/// Message that makes an actor process its inbox.
#[derive(Clone, Copy, Debug)]
pub(super) struct InboxWakeup;

impl Message for InboxWakeup {
    type Result = ();
}

/// Waker of one subscriber's actor, shared by its inbox and its permits.
#[derive(Default)]
pub(super) struct ActorWaker {
    actor: RefCell<Option<Recipient<InboxWakeup>>>,
    /// A wakeup is in the actor's mailbox, so another one would tell it nothing.
    is_pending: Cell<bool>,
    is_closed: Cell<bool>,
}

impl ActorWaker {
    pub(super) fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Sets the actor that is woken from now on, and wakes it.
    pub(super) fn attach(&self, actor: Recipient<InboxWakeup>) {
        self.actor.replace(Some(actor));
        self.is_pending.set(false);
        self.wake();
    }

    pub(super) fn detach(&self) {
        self.actor.replace(None);
    }

    /// Makes the actor process its inbox soon.
    pub(super) fn wake(&self) {
        if self.is_pending.get() {
            return;
        }
        if let Some(actor) = &*self.actor.borrow() {
            // The mailbox keeps one slot for each clone of an address, so this send fails only if
            // the actor has crashed.
            self.is_pending
                .set(actor.clone().try_send(InboxWakeup).is_ok());
        }
    }

    /// Called when the actor begins to process its inbox: later changes need another wakeup.
    pub(super) fn reset(&self) {
        self.is_pending.set(false);
    }

    pub(super) fn close(&self) {
        self.is_closed.set(true);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }
}
