//! Errors of a node that did not start, or did not stop as it should.

use std::time::Duration;

use crate::journal::StoreOpenError;
use crate::table_store::DefinitionOpenError;
use crate::{call_log, projection};

/// Failure to start a node, or to stop it in order.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The node cannot listen on its address.
    #[error(
        "cannot listen on {address}; stop the process that uses it, or set server.bind to another \
         address, such as with HOOKYARD_SERVER__BIND=127.0.0.1:8081"
    )]
    Bind {
        /// Value of `server.bind` in the configuration.
        address: String,
        /// Error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// The exporter of traces cannot be set up.
    #[error(transparent)]
    Traces(#[from] crate::traces::ExporterSetupError),
    /// The store cannot be opened.
    #[error("cannot open the store")]
    Open(#[from] StoreOpenError),
    /// The store has format 1 and cannot be migrated.
    #[error("cannot migrate the store to format 2; the former store is whole")]
    Migration(#[from] super::migration::MigrationError),
    /// The derived store cannot be opened.
    #[error("cannot open the derived store")]
    Derived(#[from] crate::derived::DerivedStoreError),
    /// The derived data is lost and cannot be loaded from the journal's base file.
    #[error("cannot load the derived data from the base file of the journal")]
    Base(#[from] crate::retention::BaseLoadError),
    /// The base file of the journal cannot be written.
    #[error("cannot write the base file of the journal")]
    BaseWrite(#[from] crate::retention::RetentionError),
    /// A segment of the journal cannot be written anew.
    #[error("cannot write a segment of the journal anew")]
    Rewrite(#[from] crate::journal::SegmentRewriteError),
    /// The tables cannot be read or derived.
    #[error("cannot open the tables of the store")]
    Tables(#[from] crate::table_store::TableStoreError),
    /// The store was opened, but a test write to it failed.
    #[error("cannot write to the store; free disk space, or check the disk for errors")]
    Unwritable(#[source] crate::journal::JournalClosed),
    /// The projection does not fit the journal, or cannot follow it.
    #[error("cannot start the projection of the journal")]
    Projection(#[from] projection::ProjectionError),
    /// The call log cannot be opened.
    #[error("cannot open the call log")]
    CallLog(#[from] call_log::CallLogOpenError),
    /// The accounts in the store cannot be read.
    #[error("cannot load the accounts from the store")]
    Accounts(#[source] DefinitionOpenError),
    /// The subscriptions in the store cannot be read.
    #[error("cannot load the subscriptions from the store")]
    Subscriptions(#[source] DefinitionOpenError),
    /// The named tokens in the store cannot be read.
    #[error("cannot load the tokens from the store")]
    Tokens(#[source] DefinitionOpenError),
    /// The audit log cannot be read.
    #[error("cannot load the audit log from the store")]
    Audit(#[from] crate::audit::AuditOpenError),
    /// The delivery stage cannot be started.
    #[error("cannot start the delivery stage")]
    Subscribers(#[from] crate::subscriber::DeliveryStageError),
    /// An erasure cannot go on.
    #[error("cannot go on with the erasures in the store")]
    Erasure(#[from] crate::erasure::ErasureError),
    /// The cluster cannot be joined or followed.
    #[error("cannot work with the cluster")]
    Cluster(#[from] crate::cluster::ClusterError),
    /// The command would write to one copy of the cluster's log only.
    #[error("{0} would change the copy of one node: it cannot be used with cluster.postgres_url")]
    InCluster(&'static str),
    /// The cluster's log cannot be copied.
    #[error("cannot copy the cluster's log")]
    Copy(#[source] Box<crate::journal::CopyError>),
    /// The enrichment stage cannot be started.
    #[error("cannot start the enrichment stage")]
    Enrichment(#[from] crate::enrichment::EnrichmentError),
    /// A thread or the signal handler could not be set up.
    #[error("cannot set up the node")]
    Setup(#[from] std::io::Error),
    /// The stop took longer than `server.shutdown_grace_s`.
    #[error("the node did not stop within {0:?}; every acknowledged event is on the disk")]
    Grace(Duration),
    /// A thread that was opening or closing the store panicked.
    #[error("a thread of the node panicked")]
    Panicked,
}
