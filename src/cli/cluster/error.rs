//! Failures of the commands about a cluster.

use crate::cluster::ClusterError;

/// Failure of a command about a cluster.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum ClusterCommandError {
    #[error("the configuration has no cluster; set cluster.postgres_url")]
    NoCluster,
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}
