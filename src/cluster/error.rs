//! Errors of a node that works with the cluster's database.

use std::time::Duration;

use crate::trusted_roots::RootsError;

/// Error of an operation on the cluster's database.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The database could not be reached.
    #[error("cannot connect to the cluster's database")]
    Connect(#[source] tokio_postgres::Error),
    /// A statement failed, or the connection broke.
    #[error("the cluster's database failed")]
    Statement(#[from] tokio_postgres::Error),
    /// The database did not answer in time.
    #[error("the cluster's database did not answer within {0:?}")]
    Timeout(Duration),
    /// TLS to the database cannot be set up.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// TLS itself cannot be set up.
    #[error("TLS to the cluster's database cannot be set up")]
    Tls(#[from] tokio_rustls::rustls::Error),
    /// The database holds a schema of a later version.
    #[error(
        "the cluster's database has schema {found}, and this version uses {supported}; \
         start the newer hookyard that made it"
    )]
    Newer {
        /// Version that the database has.
        found: i32,
        /// Version that this program uses.
        supported: i32,
    },
    /// The server's settings would let an acknowledged commit be lost.
    #[error(
        "the cluster's database may lose acknowledged events: {0}; \
         change its settings, or accept that with cluster.allow_asynchronous = true"
    )]
    Unsafe(String),
    /// The database was the primary once, and another one has taken its place.
    #[error("this server of the cluster's database is not the newest primary")]
    Outdated,
    /// The cluster does not have the commits any more that this node would have to copy.
    #[error(
        "this node has the log up to position {at}, and the cluster's database keeps it from {first} on; \
         copy the data folder of another node, stopped, here"
    )]
    Behind {
        /// Position after the last record of this node.
        at: u64,
        /// First position in the database.
        first: u64,
    },
    /// This node and the cluster have different histories.
    #[error(
        "the journal of this node and the cluster's log differ before position {0}; \
         look first if the database is a former primary; if it is the right one, move the data \
         folder of this node away, and it copies the cluster's log"
    )]
    Diverged(u64),
    /// A store with events of its own meets a cluster without events.
    #[error(
        "the store of this node holds events, and the cluster's database is empty; \
         bring them into the cluster first: hookyard cluster import"
    )]
    NotImported,
    /// The cluster has a leader or other events, so no log can be brought into it.
    #[error("the cluster is in use: it has a leader, or events that this store does not have")]
    Occupied,
    /// The beginning of this node's log was removed by retention.
    #[error("the log of this node begins at position {0}; a cluster needs the whole log")]
    Shortened(u64),
    /// A value in the database is not what a node writes.
    #[error("the cluster's database holds an invalid {0}")]
    Malformed(&'static str),
}

impl ClusterError {
    /// True if the operation can succeed later without a change by a person.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Statement(_) | Self::Timeout(_) | Self::Outdated => true,
            Self::Roots(_)
            | Self::Tls(_)
            | Self::Newer { .. }
            | Self::Unsafe(_)
            | Self::Behind { .. }
            | Self::Diverged(_)
            | Self::NotImported
            | Self::Occupied
            | Self::Shortened(_)
            | Self::Malformed(_) => false,
        }
    }
}
