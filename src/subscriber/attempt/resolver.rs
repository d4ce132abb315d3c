//! Looks names up and drops the addresses that may not be called, so that what was checked is what
//! is connected to.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::target_address::{self, BlockedAddressError};

/// What a look-up gives.
pub(super) type LookupFuture = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Finds the addresses of a name.
pub(super) trait NameLookup: Send + Sync + 'static {
    /// The addresses of `name`, the best first.
    fn find_addresses(&self, name: &str) -> LookupFuture;
}

/// Why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    #[error("the name cannot be looked up")]
    LookupFailed(#[source] io::Error),
    #[error("the name has no address")]
    NoAddress,
    #[error("the name leads nowhere public: {0}")]
    Blocked(#[source] BlockedAddressError),
}

/// Gives the HTTP client only such addresses as it may connect to.
pub(super) struct GuardedResolver {
    lookup: Arc<dyn NameLookup>,
    /// Networks that need not be public; `None` means that all may be called.
    allow_targets: Option<Arc<[IpNet]>>,
}

impl fmt::Debug for GuardedResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checked")
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
            // The port is that of the URL.
            let sockets = addresses
                .into_iter()
                .map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(sockets) as Addrs)
        })
    }
}

/// Those of `found` that may be called.
fn retain_allowed(
    found: Vec<IpAddr>,
    allow_targets: Option<&[IpNet]>,
) -> Result<Vec<IpAddr>, ResolveError> {
    let mut refused = None;
    let mut callable = found;
    callable.retain(|address| {
        let checked = allow_targets.map_or(Ok(()), |allowed| {
            target_address::check_address(*address, allowed)
        });
        let is_callable = checked.is_ok();
        refused = refused.take().or(checked.err());
        is_callable
    });
    if callable.is_empty() {
        return Err(refused.map_or(ResolveError::NoAddress, ResolveError::Blocked));
    }
    Ok(callable)
}
