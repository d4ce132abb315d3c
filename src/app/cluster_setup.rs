//! Cluster that a node belongs to, and the renewal of a lease while the node opens its stages.

use std::future::Future;

use crate::cluster::{ClusterError, ClusterMember, Database, LeaderTerm};
use crate::config::ClusterConfig;

/// Cluster that a node belongs to.
#[derive(Clone)]
pub(super) struct ClusterSetup {
    pub(super) config: ClusterConfig,
    pub(super) database: Database,
}

impl ClusterSetup {
    /// Prepares the connection to the database of `config`.
    pub(super) fn from_config(config: &ClusterConfig) -> Result<Self, ClusterError> {
        Ok(Self {
            config: config.clone(),
            database: Database::from_config(config)?,
        })
    }

    /// Opens the stages of a leader with `opening`, and renews its lease meanwhile.
    pub(super) async fn open_leader<T>(
        &self,
        term: LeaderTerm,
        opening: impl Future<Output = T>,
    ) -> T {
        let mut member = ClusterMember::new(self.database.clone(), &self.config);
        keep_lease_during(&mut member, term, opening).await
    }
}

/// Awaits `work`, and renews the lease of `term` meanwhile.
pub(super) async fn keep_lease_during<T>(
    member: &mut ClusterMember,
    term: LeaderTerm,
    work: impl Future<Output = T>,
) -> T {
    tokio::select! {
        never = member.keep_lease(term) => match never {},
        result = work => result,
    }
}
