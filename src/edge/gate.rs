//! The gate between the edge and the stages behind it: open while a store is open, closed with a
//! reason while the store is being opened.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::account::AccountRegistry;
use crate::alerts::RaisedAlerts;
use crate::audit::AuditLog;
use crate::call_log::CallLog;
use crate::erasure::ErasureStage;
use crate::journal::SegmentJournal;
use crate::projection::ProjectionReader;
use crate::router::Router;
use crate::subscriber::SubscriberRuntime;
use crate::subscription::SubscriptionRegistry;
use crate::token::{TokenRegistry, TokenSnapshot};

/// Stages behind the edge, valid for one opening of the store.
pub struct NodeCore {
    /// Entry of all commands, with admission and duplicate detection.
    pub router: Arc<Router>,
    /// Reads of entities, timelines and events.
    pub reads: ProjectionReader,
    /// Log of sources' calls, delivery attempts and enrichment calls.
    pub call_log: Arc<CallLog>,
    /// Definitions of Instagram business accounts.
    pub accounts: Arc<AccountRegistry>,
    /// Definitions of all subscriptions, with their secrets.
    pub subscriptions: Arc<SubscriptionRegistry>,
    /// Named tokens of the API.
    pub tokens: Arc<TokenRegistry>,
    /// Log of who did what.
    pub audit: Arc<AuditLog>,
    /// Log of everything accepted, for backups.
    pub journal: Arc<SegmentJournal>,
    /// Deliveries, dead letters and jobs.
    pub subscribers: Arc<SubscriberRuntime>,
    /// Erasures of entities, under way and done.
    pub erasures: Arc<ErasureStage>,
    /// Conditions that were announced and are not over.
    pub raised_alerts: RaisedAlerts,
}

impl fmt::Debug for NodeCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeCore")
    }
}

/// Holder of the current [`NodeCore`]. Cheap to clone; all clones are the same gate.
#[derive(Clone, Debug)]
pub struct CoreGate(Arc<RwLock<GateStates>>);

#[derive(Debug)]
struct GateStates {
    state: GateState,
    /// Reason for which an open gate lets nothing through; `None` most of the time.
    suspended: Option<String>,
    /// Tokens of the last opening, for the time in which the store is opened again.
    tokens: Option<Arc<TokenSnapshot>>,
}

#[derive(Debug)]
enum GateState {
    Open(Arc<NodeCore>),
    Closed {
        /// Reason for everybody, strangers included.
        reason: String,
        /// Error behind it, with paths and addresses, for operators.
        cause: Option<String>,
    },
    /// Another node of the cluster leads, or none.
    Following {
        /// URL of the node that leads, to which requests are passed on.
        leader: Option<Arc<str>>,
        /// Reason for everybody why no request is passed on.
        reason: String,
    },
}

impl Default for CoreGate {
    fn default() -> Self {
        Self::closed("the node is starting")
    }
}

impl CoreGate {
    /// Makes a gate that is closed for `reason` until it is opened.
    #[must_use]
    pub fn closed(reason: impl Into<String>) -> Self {
        Self(Arc::new(RwLock::new(GateStates {
            state: GateState::Closed {
                reason: reason.into(),
                cause: None,
            },
            suspended: None,
            tokens: None,
        })))
    }

    /// Returns the current core; `None` while the gate is closed.
    #[must_use]
    pub fn current(&self) -> Option<Arc<NodeCore>> {
        let states = self.0.read();
        match &states.state {
            GateState::Open(core) if states.suspended.is_none() => Some(Arc::clone(core)),
            GateState::Open(_) | GateState::Closed { .. } | GateState::Following { .. } => None,
        }
    }

    /// Returns the core of the open store, even while nothing else is let through.
    #[must_use]
    pub(super) fn opened(&self) -> Option<Arc<NodeCore>> {
        match &self.0.read().state {
            GateState::Open(core) => Some(Arc::clone(core)),
            GateState::Closed { .. } | GateState::Following { .. } => None,
        }
    }

    /// Returns the named tokens, while no store is open those of the last opening; `None` before the
    /// first. So a stopped store does not turn away those who come to repair it.
    #[must_use]
    pub(super) fn tokens(&self) -> Option<Arc<TokenSnapshot>> {
        let states = self.0.read();
        match &states.state {
            GateState::Open(core) => Some(core.tokens.snapshot()),
            GateState::Closed { .. } | GateState::Following { .. } => states.tokens.clone(),
        }
    }

    /// Returns the reason, which strangers may know, why the gate is closed; `None` while it is open.
    #[must_use]
    pub fn closed_reason(&self) -> Option<String> {
        let states = self.0.read();
        match &states.state {
            GateState::Open(_) => states.suspended.clone(),
            GateState::Closed { reason, .. } | GateState::Following { reason, .. } => {
                Some(reason.clone())
            }
        }
    }

    /// Returns the error for which the gate is closed, or else the reason; `None` while it is open. For
    /// operators: an error names paths.
    #[must_use]
    pub(super) fn closed_cause(&self) -> Option<String> {
        let states = self.0.read();
        match &states.state {
            GateState::Open(_) => states.suspended.clone(),
            GateState::Following { reason, .. } => Some(reason.clone()),
            GateState::Closed { reason, cause } => Some(cause.as_ref().unwrap_or(reason).clone()),
        }
    }

    /// Opens the gate: requests from now on use `core`.
    pub fn open(&self, core: Arc<NodeCore>) {
        self.set_state(GateState::Open(core));
    }

    /// Closes the gate for `reason`, which `/readyz` shows. Requests already being handled keep
    /// their core.
    pub fn close(&self, reason: impl Into<String>) {
        self.set_state(GateState::Closed {
            reason: reason.into(),
            cause: None,
        });
    }

    /// Closes the gate because of the error `cause` of the store, which only operators see.
    pub fn close_after_failure(&self, cause: impl Into<String>) {
        self.set_state(GateState::Closed {
            reason: "the store has failed and is being opened again".to_owned(),
            cause: Some(cause.into()),
        });
    }

    /// Closes the gate of a node that does not lead its cluster. Requests are passed on to the node at the
    /// URL `leader`; without one they are refused for `reason`.
    pub fn follow(&self, leader: Option<String>, reason: &str) {
        let leader: Option<Arc<str>> = leader.map(Into::into);
        let is_same = match &self.0.read().state {
            GateState::Following {
                leader: known,
                reason: said,
            } => *known == leader && said == reason,
            GateState::Open(_) | GateState::Closed { .. } => false,
        };
        if !is_same {
            let reason = reason.to_owned();
            self.set_state(GateState::Following { leader, reason });
        }
    }

    /// Returns the URL of the node that leads the cluster, if that is another one.
    #[must_use]
    pub fn leader(&self) -> Option<Arc<str>> {
        match &self.0.read().state {
            GateState::Following { leader, .. } => leader.clone(),
            GateState::Open(_) | GateState::Closed { .. } => None,
        }
    }

    /// Lets nothing through the open gate for `reason`, until [`Self::resume`].
    pub fn suspend(&self, reason: impl Into<String>) {
        self.0.write().suspended = Some(reason.into());
    }

    /// Ends a suspension: the gate lets requests through again if it is open.
    pub fn resume(&self) {
        self.0.write().suspended = None;
    }

    fn set_state(&self, state: GateState) {
        // Dropping the old core may close a store, so it is dropped after the lock is released.
        let old = {
            let mut states = self.0.write();
            if let GateState::Open(core) = &states.state {
                states.tokens = Some(core.tokens.snapshot());
            }
            std::mem::replace(&mut states.state, state)
        };
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_clones_are_the_same_gate() {
        let gate = CoreGate::default();
        let clone = gate.clone();
        assert!(clone.current().is_none());
        gate.close("the disk is full");
        assert_eq!(clone.closed_reason().as_deref(), Some("the disk is full"));
        gate.suspend("the clock has jumped");
        assert_eq!(clone.closed_reason().as_deref(), Some("the disk is full"));
        gate.close_after_failure("cannot write /data/journal/7");
        let cause = clone.closed_cause();
        assert_eq!(cause.as_deref(), Some("cannot write /data/journal/7"));
        let reason = clone.closed_reason().expect("it is closed");
        assert!(!reason.contains('/'), "{reason}");
    }
}
