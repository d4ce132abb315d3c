//! Errors of a node that did not start, or did not stop as it should.

use std::time::Duration;

use crate::journal::StoreOpenError;
use crate::{account, call_log, projection};

/// Why a node did not start, or did not stop as it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}; stop what is using it, or set server.bind to another address, such as with \
             HOOKYARD_SERVER__BIND=127.0.0.1:8081"
    )]
    Bind {
        /// What `server.bind` says.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The store cannot be opened.
    #[error("cannot open the store")]
    Open(#[from] StoreOpenError),
    /// The store can be opened but not written.
    #[error("cannot write to the store; free some space, or see what is wrong with the disk")]
    Unwritable(#[source] crate::journal::StoreWriteError),
    /// What is derived from the journal does not fit it, or cannot be derived.
    #[error("cannot follow the journal")]
    Projection(#[from] projection::ProjectionError),
    /// The log of calls and deliveries cannot be opened.
    #[error("cannot open the exchange log")]
    Exchange(#[from] call_log::CallLogOpenError),
    /// The accounts in the store cannot be read.
    #[error("cannot use the accounts of the store")]
    Accounts(#[from] account::AccountOpenError),
    /// The subscriptions in the store cannot be read.
    #[error("cannot use the subscriptions of the store")]
    Subscriptions(#[from] crate::subscription::SubscriptionOpenError),
    /// Nothing can be delivered.
    #[error("cannot deliver events")]
    Subscribers(#[from] crate::subscriber::DeliveryStageError),
    /// Events cannot be enriched.
    #[error("cannot enrich events")]
    Enrichment(#[from] crate::enrichment::EnrichmentError),
    /// A thread or the signal handler could not be set up.
    #[error("cannot set up the node")]
    Setup(#[from] std::io::Error),
    /// The stop took longer than it may.
    #[error("the node did not stop within {0:?}; everything acknowledged is on the disk")]
    Grace(Duration),
    /// A thread that was opening or closing the store panicked.
    #[error("a thread of the node panicked")]
    Panicked,
}
