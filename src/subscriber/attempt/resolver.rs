//! Addresses of host names, and the check that drops those which may not be called.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;

use ipnet::IpNet;

use super::target_address::{self, BlockedAddressError};

/// Future with the addresses of one name, the best first.
pub(super) type LookupFuture = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Source of addresses; a test scripts it.
pub(super) trait NameLookup: Send + Sync + 'static {
    /// Starts looking up the addresses of `name`.
    fn find_addresses(&self, name: &str) -> LookupFuture;
}

/// Error for which a host has no address to connect to.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    #[error("host name has no address")]
    NoAddress,
    #[error("host resolves only to non-public addresses: {0}")]
    Blocked(#[source] BlockedAddressError),
}

/// Keeps the addresses of `found` that may be called: public ones and those in `allow_targets`, or
/// all if that is `None`.
///
/// # Errors
/// None may be called; the error names the first that was dropped.
pub(super) fn retain_allowed(
    found: Vec<IpAddr>,
    allow_targets: Option<&[IpNet]>,
) -> Result<Vec<IpAddr>, ResolveError> {
    let mut blocked = None;
    let mut callable = found;
    callable.retain(|address| {
        let checked = allow_targets.map_or(Ok(()), |allowed| {
            target_address::check_address(*address, allowed)
        });
        let is_callable = checked.is_ok();
        blocked = blocked.take().or(checked.err());
        is_callable
    });
    if callable.is_empty() {
        return Err(blocked.map_or(ResolveError::NoAddress, ResolveError::Blocked));
    }
    Ok(callable)
}
