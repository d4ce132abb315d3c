//! Resolves host names and drops addresses that may not be called. The client connects only to
//! addresses that passed this check, so a name cannot change its address in between.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::target_address::{self, BlockedAddressError};

/// Future with the addresses of one name, the best first.
pub(super) type LookupFuture = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Source of addresses; a test scripts it.
pub(super) trait NameLookup: Send + Sync + 'static {
    /// Starts looking up the addresses of `name`.
    fn find_addresses(&self, name: &str) -> LookupFuture;
}

/// Error for which a host name has no address to connect to.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    #[error("host name lookup failed")]
    LookupFailed(#[source] io::Error),
    #[error("host name has no address")]
    NoAddress,
    #[error("host resolves only to non-public addresses: {0}")]
    Blocked(#[source] BlockedAddressError),
}

/// Resolver of the HTTP client that returns only addresses which may be called.
pub(super) struct GuardedResolver {
    lookup: Arc<dyn NameLookup>,
    /// Networks that may be called although they are not public; `None` disables the check.
    allow_targets: Option<Arc<[IpNet]>>,
}

impl fmt::Debug for GuardedResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuardedResolver")
    }
}

impl GuardedResolver {
    pub(super) fn new(lookup: Arc<dyn NameLookup>, allow_targets: Option<Arc<[IpNet]>>) -> Self {
        Self {
            lookup,
            allow_targets,
        }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (found, allowed) = (
            self.lookup.find_addresses(name.as_str()),
            self.allow_targets.clone(),
        );
        Box::pin(async move {
            let found = found.await.map_err(ResolveError::LookupFailed)?;
            let addresses = retain_allowed(found, allowed.as_deref())?;
            // With port 0 the client takes the port of the URL.
            let sockets = addresses
                .into_iter()
                .map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(sockets) as Addrs)
        })
    }
}

/// Keeps the addresses of `found` that may be called.
///
/// # Errors
/// None may be called; the error names the first that was dropped.
fn retain_allowed(
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
