//! Running node that a command has selected.

use crate::config::Secret;

/// URL and admin token of a running node.
pub(super) struct SelectedNode {
    pub(super) base: String,
    pub(super) token: Secret,
    /// True if the node is that of the configuration, on this machine.
    pub(super) is_own: bool,
}
