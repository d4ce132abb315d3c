//! The gate between the edge and the core: open while a store is open, shut with a reason while it is being (re)opened.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::account::Accounts;
use crate::exchange::Exchange;
use crate::projection::Reads;
use crate::router::Router;
use crate::subscriber::Subscribers;
use crate::subscription::Subscriptions;

/// What one opening of the store offers to the edge.
pub struct Core {
    /// Takes events in.
    pub router: Arc<Router>,
    /// Answers readers.
    pub reads: Reads,
    /// The log of calls and deliveries.
    pub exchange: Arc<Exchange>,
    /// Knows who has which business account.
    pub accounts: Arc<Accounts>,
    /// Knows who wants which events.
    pub subscriptions: Arc<Subscriptions>,
    /// Brings them there.
    pub subscribers: Arc<Subscribers>,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Core")
    }
}

/// Where the edge finds the core of the present opening. Cheap to clone; all clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate(Arc<RwLock<Passage>>);

#[derive(Debug)]
enum Passage {
    Open(Arc<Core>),
    Shut { reason: String },
}

impl Default for Gate {
    fn default() -> Self {
        Self::shut("the node is starting")
    }
}

impl Gate {
    /// A gate that is shut for `reason` until it is opened.
    #[must_use]
    pub fn shut(reason: impl Into<String>) -> Self {
        Self(Arc::new(RwLock::new(Passage::Shut { reason: reason.into() })))
    }

    /// The core of the present opening; `None` while there is none.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Core>> {
        match &*self.0.read() {
            Passage::Open(core) => Some(Arc::clone(core)),
            Passage::Shut { .. } => None,
        }
    }

    /// Why nothing passes, for `/readyz`; `None` when the node is ready.
    #[must_use]
    pub fn not_ready(&self) -> Option<String> {
        match &*self.0.read() {
            Passage::Open(_) => None,
            Passage::Shut { reason } => Some(reason.clone()),
        }
    }

    /// Lets requests through to `core`.
    pub fn open(&self, core: Arc<Core>) {
        self.turn(Passage::Open(core));
    }

    /// Lets no further request through; `reason` is what `/readyz` says. Requests that are inside keep their core.
    pub fn close(&self, reason: impl Into<String>) {
        self.turn(Passage::Shut { reason: reason.into() });
    }

    fn turn(&self, passage: Passage) {
        // The old core is dropped after the lock is free, since dropping it may end a store.
        let old = std::mem::replace(&mut *self.0.write(), passage);
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_clones_are_the_same_gate() {
        let gate = Gate::default();
        let clone = gate.clone();
        assert!(clone.current().is_none());
        gate.close("the disk is full");
        assert_eq!(clone.not_ready().as_deref(), Some("the disk is full"));
    }
}
