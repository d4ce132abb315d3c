//! The gate between the edge and the core: open while a store is open, shut with a reason while it
//! is being (re)opened.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::account::AccountRegistry;
use crate::call_log::CallLog;
use crate::projection::ProjectionReader;
use crate::router::Router;
use crate::subscriber::SubscriberRuntime;
use crate::subscription::SubscriptionRegistry;

/// What one opening of the store offers to the edge.
pub struct NodeCore {
    /// Takes events in.
    pub router: Arc<Router>,
    /// Answers readers.
    pub reads: ProjectionReader,
    /// The log of calls and deliveries.
    pub call_log: Arc<CallLog>,
    /// Knows who has which business account.
    pub accounts: Arc<AccountRegistry>,
    /// Knows who wants which events.
    pub subscriptions: Arc<SubscriptionRegistry>,
    /// Brings them there.
    pub subscribers: Arc<SubscriberRuntime>,
}

impl fmt::Debug for NodeCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Core")
    }
}

/// Where the edge finds the core of the present opening. Cheap to clone; all clones are the same
/// gate.
#[derive(Clone, Debug)]
pub struct Gate(Arc<RwLock<GateState>>);

#[derive(Debug)]
enum GateState {
    Open(Arc<NodeCore>),
    Closed { reason: String },
}

impl Default for Gate {
    fn default() -> Self {
        Self::closed("the node is starting")
    }
}

impl Gate {
    /// A gate that is shut for `reason` until it is opened.
    #[must_use]
    pub fn closed(reason: impl Into<String>) -> Self {
        Self(Arc::new(RwLock::new(GateState::Closed {
            reason: reason.into(),
        })))
    }

    /// The core of the present opening; `None` while there is none.
    #[must_use]
    pub fn current(&self) -> Option<Arc<NodeCore>> {
        match &*self.0.read() {
            GateState::Open(core) => Some(Arc::clone(core)),
            GateState::Closed { .. } => None,
        }
    }

    /// Why nothing passes, for `/readyz`; `None` when the node is ready.
    #[must_use]
    pub fn closed_reason(&self) -> Option<String> {
        match &*self.0.read() {
            GateState::Open(_) => None,
            GateState::Closed { reason } => Some(reason.clone()),
        }
    }

    /// Lets requests through to `core`.
    pub fn open(&self, core: Arc<NodeCore>) {
        self.set_state(GateState::Open(core));
    }

    /// Lets no further request through; `reason` is what `/readyz` says. Requests that are inside
    /// keep their core.
    pub fn close(&self, reason: impl Into<String>) {
        self.set_state(GateState::Closed {
            reason: reason.into(),
        });
    }

    fn set_state(&self, passage: GateState) {
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
        assert_eq!(clone.closed_reason().as_deref(), Some("the disk is full"));
    }
}
