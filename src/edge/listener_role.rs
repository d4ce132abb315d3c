//! Listeners of a node, and which operations each of them serves.
//!
//! | operation of | whole | public | admin |
//! |---|---|---|---|
//! | senders | yes | yes | 404 |
//! | operators: admin API, dashboard, metrics, documentation | yes | 404 | yes |
//! | everyone: health | yes | yes | yes |

/// Callers that an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OperationAudience {
    /// Systems that send events to the node.
    Senders,
    /// People and programs that run the node.
    Operators,
    /// Any caller who looks at the node's health.
    Everyone,
}

/// Part of a node's operations that a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerRole {
    /// The only listener: all of them.
    Whole,
    /// The listener of `server.bind`, beside that of `admin.bind`.
    Public,
    /// The listener of `admin.bind`, for operators.
    Admin,
}

impl ListenerRole {
    /// Tells if the listener serves operations for `audience`.
    pub(super) const fn serves(self, audience: OperationAudience) -> bool {
        match (self, audience) {
            (Self::Whole, _) | (_, OperationAudience::Everyone) => true,
            (Self::Public, OperationAudience::Senders)
            | (Self::Admin, OperationAudience::Operators) => true,
            (Self::Public, OperationAudience::Operators)
            | (Self::Admin, OperationAudience::Senders) => false,
        }
    }
}
