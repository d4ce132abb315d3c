//! Changes of everything that a subscriber's definition is made of: subscriptions, accounts and the
//! configuration.

use std::sync::Arc;

use tokio::sync::watch;

use crate::account::AccountRegistry;
use crate::config::{Config, LiveConfig};
use crate::subscription::SubscriptionRegistry;

/// Watch for changes. Each clone has its own view of which are seen.
#[derive(Clone, Debug)]
pub(super) struct DefinitionChanges {
    subscriptions: watch::Receiver<u64>,
    accounts: watch::Receiver<u64>,
    config: watch::Receiver<Arc<Config>>,
}

impl DefinitionChanges {
    pub(super) fn new(
        subscriptions: &SubscriptionRegistry,
        accounts: &AccountRegistry,
        config: &LiveConfig,
    ) -> Self {
        Self {
            subscriptions: subscriptions.watch_changes(),
            accounts: accounts.watch_changes(),
            config: config.watch(),
        }
    }

    /// Marks all changes of before as seen.
    pub(super) fn mark_seen(&mut self) {
        self.subscriptions.mark_unchanged();
        self.accounts.mark_unchanged();
        self.config.mark_unchanged();
    }

    /// True if there is a change that was not marked as seen.
    pub(super) fn has_unseen(&self) -> bool {
        // A source that is gone does not change any more.
        self.subscriptions.has_changed().unwrap_or(false)
            || self.accounts.has_changed().unwrap_or(false)
            || self.config.has_changed().unwrap_or(false)
    }

    /// Waits for the next change.
    pub(super) async fn wait_for_change(&mut self) {
        tokio::select! {
            Ok(()) = self.subscriptions.changed() => {}
            Ok(()) = self.accounts.changed() => {}
            Ok(()) = self.config.changed() => {}
            else => std::future::pending().await,
        }
    }
}
