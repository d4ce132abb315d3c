//! Looks names up and drops the addresses that may not be called, so that what was checked is what is connected to.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::{self, NotPublic};

/// What a look-up gives.
pub(super) type Found = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Finds the addresses of a name.
pub(super) trait Lookup: Send + Sync + 'static {
    /// The addresses of `name`, the best first.
    fn find(&self, name: &str) -> Found;
}

/// Why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unresolved {
    #[error("the name cannot be looked up")]
    Failed(#[source] io::Error),
    #[error("the name has no address")]
    Nothing,
    #[error("the name leads nowhere public: {0}")]
    Refused(#[source] NotPublic),
}

/// Gives the HTTP client only such addresses as it may connect to.
pub(super) struct Checked {
    lookup: Arc<dyn Lookup>,
    /// Networks that need not be public; `None` means that all may be called.
    allow_targets: Option<Arc<[IpNet]>>,
}

impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checked")
    }
}

impl Checked {
    pub(super) fn new(lookup: Arc<dyn Lookup>, allow_targets: Option<Arc<[IpNet]>>) -> Self {
        Self { lookup, allow_targets }
    }
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let (found, allowed) = (self.lookup.find(name.as_str()), self.allow_targets.clone());
        Box::pin(async move {
            let found = found.await.map_err(Unresolved::Failed)?;
            let addresses = callable(found, allowed.as_deref())?;
            // The port is that of the URL.
            let sockets = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(sockets) as Addrs)
        })
    }
}

/// Those of `found` that may be called.
fn callable(found: Vec<IpAddr>, allow_targets: Option<&[IpNet]>) -> Result<Vec<IpAddr>, Unresolved> {
    let mut refused = None;
    let mut callable = found;
    callable.retain(|address| {
        let checked = allow_targets.map_or(Ok(()), |allowed| address::check(*address, allowed));
        let is_callable = checked.is_ok();
        refused = refused.take().or(checked.err());
        is_callable
    });
    if callable.is_empty() {
        return Err(refused.map_or(Unresolved::Nothing, Unresolved::Refused));
    }
    Ok(callable)
}
