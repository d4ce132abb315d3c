//! Opens connections to subscribers: looks up the name, drops forbidden addresses, connects, and
//! begins TLS. The connection leads to an address that was checked here, so a name cannot change its
//! address in between.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use parking_lot::RwLock;
use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_util::either::Either;
use url::Host;

use super::classify::{
    AttemptError, BAD_URL, CONNECT, DNS, NO_RESOURCES, PROXY, REFUSED_ADDRESS, TIMEOUT, TLS,
};
use super::delivery_origin::DeliveryOrigin;
use super::outbound_credentials::OutboundCredentials;
use super::proxy::{self, DeliveryProxy};
use super::system_resolver::SystemResolver;
use super::target_address::check_address;
use super::tls::TlsSetupError;
use crate::clock::Clock;
use crate::config;

/// Limit for connecting to the addresses of a host. The default timeout of an attempt (10 s) leaves
/// time for TLS and the response.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time after which the addresses of the other IP version are tried, too (RFC 8305, section 5, says
/// 250 ms; most clients wait for 300 ms).
const FAMILY_DELAY: Duration = Duration::from_millis(300);

/// Opens connections to the addresses that may be called.
pub(super) struct SubscriberConnector {
    resolver: SystemResolver,
    /// Networks that may be called although they are not public.
    allow_targets: RwLock<Arc<[IpNet]>>,
    pub(super) credentials: OutboundCredentials,
    /// Proxy by which https targets are called.
    proxy: Option<DeliveryProxy>,
}

impl fmt::Debug for SubscriberConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubscriberConnector")
    }
}

impl SubscriberConnector {
    /// # Errors
    /// The certificates of `delivery.ca_files` cannot be read.
    pub(super) fn try_new(
        config: &config::DeliveryConfig,
        resolver: SystemResolver,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsSetupError> {
        let proxy_url = config.proxy_url.as_ref();
        Ok(Self {
            resolver,
            allow_targets: RwLock::new(config.allow_targets.as_slice().into()),
            credentials: OutboundCredentials::try_new(config, clock)?,
            proxy: proxy_url.and_then(|url| DeliveryProxy::from_url(url.expose())),
        })
    }

    /// Lets `networks` be called from now on; returns `true` if they differ from those before.
    pub(super) fn set_allow_targets(&self, networks: &[IpNet]) -> bool {
        let mut allow_targets = self.allow_targets.write();
        let differ = **allow_targets != *networks;
        *allow_targets = networks.into();
        differ
    }

    /// Opens a connection to `origin`.
    ///
    /// # Errors
    /// No allowed address of the host could be connected to, or TLS failed.
    pub(super) async fn connect(
        &self,
        origin: &DeliveryOrigin,
    ) -> Result<SubscriberStream, AttemptError> {
        let stream = match &self.proxy {
            Some(proxy) if origin.is_tls => self.connect_by_proxy(proxy, origin).await?,
            Some(_) | None => {
                let addresses = self.find_addresses(origin).await?;
                connect_any(&addresses).await.map_err(to_connect_error)?
            }
        };
        // A request is written at once, and the last part of it must not wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        if !origin.is_tls {
            return Ok(Either::Left(stream));
        }

        let name = to_server_name(&origin.host)?;
        let tls = self.credentials.tls_connector(origin);
        let stream = tls.connect(name, stream).await;
        let stream = stream.map_err(|error| AttemptError::new(TLS, error.to_string()))?;
        Ok(Either::Right(Box::new(stream)))
    }

    /// Opens a tunnel to `origin`. The proxy looks its name up, so this node can only check a literal
    /// address.
    async fn connect_by_proxy(
        &self,
        proxy: &DeliveryProxy,
        origin: &DeliveryOrigin,
    ) -> Result<TcpStream, AttemptError> {
        if !matches!(origin.host, Host::Domain(_)) {
            self.find_addresses(origin).await?;
        }
        let addresses = self.find_addresses(&proxy.origin).await;
        let addresses = addresses
            .map_err(|error| AttemptError::new(PROXY, format!("proxy: {}", error.detail)))?;
        let mut stream = match connect_any(&addresses).await {
            Ok(stream) => stream,
            Err(error) if is_local_shortage(&error) => return Err(shortage_error(&error)),
            Err(error) => return Err(proxy::proxy_error(&error)),
        };
        proxy.open_tunnel(&mut stream, origin).await?;
        Ok(stream)
    }

    /// Returns the addresses of `origin` that may be called, the best first.
    async fn find_addresses(
        &self,
        origin: &DeliveryOrigin,
    ) -> Result<Vec<SocketAddr>, AttemptError> {
        let (mut addresses, is_literal) = match &origin.host {
            Host::Ipv4(address) => (vec![IpAddr::from(*address)], true),
            Host::Ipv6(address) => (vec![IpAddr::from(*address)], true),
            Host::Domain(name) => {
                let found = self.resolver.find_addresses(name).await;
                (found.map_err(to_lookup_error)?, false)
            }
        };

        let (allow_targets, mut blocked) = (Arc::clone(&self.allow_targets.read()), None);
        if origin.is_checked {
            addresses.retain(|address| {
                let checked = check_address(*address, &allow_targets);
                let is_allowed = checked.is_ok();
                blocked = blocked.take().or(checked.err());
                is_allowed
            });
        }
        if addresses.is_empty() {
            return Err(match blocked {
                None => AttemptError::new(DNS, "host name has no address"),
                Some(blocked) if is_literal => {
                    AttemptError::new(REFUSED_ADDRESS, blocked.to_string())
                }
                Some(blocked) => AttemptError::new(
                    REFUSED_ADDRESS,
                    format!("host resolves only to non-public addresses: {blocked}"),
                ),
            });
        }
        let sockets = addresses.into_iter();
        Ok(sockets
            .map(|address| SocketAddr::new(address, origin.port))
            .collect())
    }
}

fn to_server_name(host: &Host<String>) -> Result<ServerName<'static>, AttemptError> {
    match host {
        Host::Ipv4(address) => Ok(ServerName::from(IpAddr::from(*address))),
        Host::Ipv6(address) => Ok(ServerName::from(IpAddr::from(*address))),
        Host::Domain(name) => ServerName::try_from(name.clone())
            .map_err(|_| AttemptError::new(BAD_URL, "invalid URL: the host is no name for TLS")),
    }
}

/// Connects to one of `addresses`: in their order, and after [`FAMILY_DELAY`] also to those of the
/// other IP version, so that a version that leads nowhere costs no more than that delay.
async fn connect_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let is_preferred = |address: &SocketAddr| address.is_ipv4() == addresses[0].is_ipv4();
    let (preferred, others): (Vec<_>, Vec<_>) = addresses.iter().copied().partition(is_preferred);
    let mut preferred = pin!(connect_in_turn(preferred));
    if others.is_empty() {
        return preferred.await;
    }

    let others = connect_in_turn(others);
    match timeout(FAMILY_DELAY, preferred.as_mut()).await {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(_)) => return others.await,
        Err(_) => {}
    }
    let mut others = pin!(others);
    tokio::select! {
        connected = preferred.as_mut() => match connected {
            Ok(stream) => Ok(stream),
            Err(_) => others.await,
        },
        connected = others.as_mut() => match connected {
            Ok(stream) => Ok(stream),
            Err(_) => preferred.await,
        },
    }
}

/// Connects to the first of `addresses` that can be connected to. They share [`CONNECT_TIMEOUT`].
async fn connect_in_turn(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let limit = CONNECT_TIMEOUT / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        failure = match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            // Such a node has no IPv6 at all, which says nothing of its ports.
            Ok(Err(error)) if address.is_ipv6() && is_errno(&error, Errno::ADDRNOTAVAIL) => {
                io::Error::new(
                    error.kind(),
                    "this node has no IPv6 address to connect from",
                )
            }
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        if is_local_shortage(&failure) {
            break;
        }
    }
    Err(failure)
}

fn is_errno(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// True if this node lacks descriptors, buffers or ports, which says nothing of the subscriber.
fn is_local_shortage(error: &io::Error) -> bool {
    let shortages = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
    ];
    shortages.into_iter().any(|errno| is_errno(error, errno))
}

/// True if no file can be opened. The system's resolver reports that as a failed lookup.
fn is_out_of_descriptors() -> bool {
    std::fs::File::open("/").is_err_and(|error| is_local_shortage(&error))
}

fn shortage_error(error: &io::Error) -> AttemptError {
    AttemptError::new(NO_RESOURCES, format!("this node cannot connect: {error}"))
}

fn to_lookup_error(error: io::Error) -> AttemptError {
    if is_local_shortage(&error) || is_out_of_descriptors() {
        return shortage_error(&error);
    }
    AttemptError::new(DNS, format!("host name lookup failed: {error}"))
}

fn to_connect_error(error: io::Error) -> AttemptError {
    match error.kind() {
        _ if is_local_shortage(&error) => shortage_error(&error),
        io::ErrorKind::TimedOut => AttemptError::new(
            TIMEOUT,
            format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()),
        ),
        _ => AttemptError::new(CONNECT, error.to_string()),
    }
}

/// Open connection before HTTP is spoken on it: plain, or encrypted.
pub(super) type SubscriberStream = Either<TcpStream, Box<TlsStream<TcpStream>>>;
