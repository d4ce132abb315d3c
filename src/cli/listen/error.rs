//! Errors of `hookyard listen`.

use std::io;
use std::net::SocketAddr;

use crate::cli::admin_client::AdminCallError;
use crate::cli::plural::format_count;
use crate::provider::VerificationKeyError;

/// Errors of setting up the listener, and its verdict on the deliveries.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum ListenError {
    #[error("cannot listen on {address}; stop what is using it, or choose another with --bind")]
    Bind {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("invalid key")]
    Key(#[from] VerificationKeyError),
    #[error("cannot subscribe")]
    Subscribe(#[source] AdminCallError),
    #[error("cannot set up the receiver")]
    Setup(#[source] io::Error),
    #[error(
        "{}: {swaps} out of order, {wrong} with a wrong signature or none",
        format_count(*.deliveries, "delivery", "deliveries")
    )]
    Found {
        deliveries: u64,
        swaps: u64,
        wrong: u64,
    },
}
