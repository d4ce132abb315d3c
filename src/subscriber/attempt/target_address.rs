//! Checks which addresses a URL given by the API may lead to: public addresses, and the networks of
//! `delivery.allow_targets`.
//!
//! An IPv6 address with an embedded IPv4 address leads to that IPv4 address, so both have to be
//! allowed. The ranges are those of IANA's registries of special-purpose addresses (RFC 6890 and
//! its updates).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use ipnet::IpNet;
use url::{Host, Url};

use crate::config::{URL_MAX_BYTES, WebUrlError, parse_web_url};

/// Error for which a URL cannot be the target of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetUrlError {
    /// The URL is longer than the limit.
    #[error("expected at most {URL_MAX_BYTES} bytes")]
    TooLong,
    /// The URL breaks a rule of all URLs that are called.
    #[error(transparent)]
    Malformed(#[from] WebUrlError),
    /// The URL would send events unencrypted over public networks.
    #[error("expected https; http is only for addresses that delivery.allow_targets names")]
    PlainHttp,
    /// The host is an address that may not be called.
    #[error(transparent)]
    Blocked(#[from] BlockedAddressError),
}

/// An address that may not be called, with the range it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} is {range}, and delivery.allow_targets does not name it")]
pub struct BlockedAddressError {
    address: IpAddr,
    range: &'static str,
}

/// Checks `url` as far as possible without resolving its host, and returns it in its canonical form.
/// Resolved addresses are checked at each connection.
///
/// # Errors
/// The first rule that `url` breaks.
pub fn check_target_url(url: &str, allow_targets: &[IpNet]) -> Result<Url, TargetUrlError> {
    if url.len() > URL_MAX_BYTES {
        return Err(TargetUrlError::TooLong);
    }
    let url = parse_web_url(url)?;
    // Escaping can make it longer.
    if url.as_str().len() > URL_MAX_BYTES {
        return Err(TargetUrlError::TooLong);
    }

    let addresses = literal_addresses(&url);
    check_any_address(&addresses, allow_targets)?;
    let is_listed = addresses
        .iter()
        .any(|address| is_allowed(*address, allow_targets));
    if url.scheme() == "http" && !is_listed {
        Err(TargetUrlError::PlainHttp)
    } else {
        Ok(url)
    }
}

/// Checks the host of `url` if it needs no lookup: a literal address, or a name of loopback.
///
/// # Errors
/// The host leads to an address that may not be called.
pub fn check_target_host(url: &Url, allow_targets: &[IpNet]) -> Result<(), BlockedAddressError> {
    check_any_address(&literal_addresses(url), allow_targets)
}

/// Accepts `addresses` if at least one may be called: the client connects to no other.
fn check_any_address(
    addresses: &[IpAddr],
    allow_targets: &[IpNet],
) -> Result<(), BlockedAddressError> {
    let mut blocked = None;
    for address in addresses {
        match check_address(*address, allow_targets) {
            Ok(()) => return Ok(()),
            Err(error) => blocked = blocked.or(Some(error)),
        }
    }
    blocked.map_or(Ok(()), Err)
}

/// Checks one address.
///
/// # Errors
/// The address is neither public nor within `allow_targets`.
pub(super) fn check_address(
    address: IpAddr,
    allow_targets: &[IpNet],
) -> Result<(), BlockedAddressError> {
    let embedded = match address {
        IpAddr::V4(_) => Vec::new(),
        IpAddr::V6(outer) => embedded_ipv4(outer),
    };
    let leads_to = std::iter::once(address).chain(embedded.into_iter().map(IpAddr::from));
    for checked in leads_to {
        if let Some(range) = find_special_range(checked)
            && !is_allowed(checked, allow_targets)
        {
            return Err(BlockedAddressError { address, range });
        }
    }
    Ok(())
}

/// True if `allow_targets` holds the address. An IPv4 address mapped into IPv6 may be listed in
/// either form.
fn is_allowed(address: IpAddr, allow_targets: &[IpNet]) -> bool {
    let is_listed = |address: IpAddr| {
        allow_targets
            .iter()
            .any(|network| network.contains(&address))
    };
    is_listed(address) || is_listed(address.to_canonical())
}

/// Returns the addresses of the host that are known without a lookup; empty for a name.
fn literal_addresses(url: &Url) -> Vec<IpAddr> {
    match url.host() {
        Some(Host::Ipv4(address)) => vec![address.into()],
        Some(Host::Ipv6(address)) => vec![address.into()],
        Some(Host::Domain(name)) if is_localhost(name) => {
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        }
        Some(Host::Domain(_)) | None => Vec::new(),
    }
}

/// True for names that are reserved for loopback (RFC 6761, section 6.3).
fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

/// Ranges by their network, narrower ranges first, up to [`PUBLIC`] and the rest of IPv6.
const RANGES: &str = "\
0.0.0.0/32 no address
0.0.0.0/8 an address of this network
10.0.0.0/8 a private address
100.100.100.200/32 the metadata service of a cloud
100.64.0.0/10 a carrier's private address
127.0.0.0/8 a loopback address
169.254.169.254/32 the metadata service of a cloud
169.254.0.0/16 a link-local address
168.63.129.16/32 the metadata service of a cloud
172.16.0.0/12 a private address
192.0.0.0/24 a reserved address
192.0.2.0/24 an address for documentation
192.88.99.0/24 a reserved address
192.168.0.0/16 a private address
198.18.0.0/15 an address for benchmarks
198.51.100.0/24 an address for documentation
203.0.113.0/24 an address for documentation
224.0.0.0/4 a multicast address
255.255.255.255/32 the broadcast address
240.0.0.0/4 a reserved address
::/128 no address
::1/128 the loopback address
::ffff:0:0/96 an IPv4 address mapped into IPv6
::ffff:0:0:0/96 an IPv4 address translated into IPv6
::/96 an IPv4 address within IPv6
64:ff9b::/96 an IPv4 address behind NAT64
64:ff9b:1::/48 an IPv4 address behind a local NAT64
100::/32 an address that discards
2001::/32 a Teredo address
2001:2::/48 an address for benchmarks
2001::/23 a reserved address
2001:db8::/32 an address for documentation
2002::/16 a 6to4 address
3fff::/20 an address for documentation
5f00::/16 a segment routing address
fd00:ec2::254/128 the metadata service of a cloud
fc00::/7 a private address
fe80::/10 a link-local address
fec0::/10 a site-local address
ff00::/8 a multicast address
2000::/3 public
::/0 a reserved address";

/// Range of the public unicast addresses of IPv6.
const PUBLIC: &str = "public";

/// Networks of [`RANGES`], each with the name of its range.
static NETWORKS: LazyLock<Vec<(IpNet, &str)>> = LazyLock::new(|| {
    let networks = RANGES.lines().map(|line| {
        let (network, range) = line.split_once(' ').expect("a line has two parts");
        (network.parse().expect("the first is a network"), range)
    });
    networks.collect()
});

/// Returns the range of an address that is not public.
fn find_special_range(address: IpAddr) -> Option<&'static str> {
    let found = NETWORKS
        .iter()
        .find(|(network, _)| network.contains(&address));
    found
        .map(|(_, range)| *range)
        .filter(|range| *range != PUBLIC)
}

/// Returns the IPv4 addresses at which packets to `address` may arrive.
fn embedded_ipv4(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let segments = address.segments();
    let at = |first: usize| {
        let bits = u32::from(segments[first]) << 16 | u32::from(segments[first + 1]);
        Ipv4Addr::from_bits(bits)
    };
    match segments {
        // `::` and `::1` lie in the range of compatible addresses but embed none.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Vec::new(),
        // Compatible, mapped, translated, and behind NAT64.
        [0, 0, 0, 0, 0, 0 | 0xffff, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, ..]
        | [0x64, 0xff9b, 1, ..] => vec![at(6)],
        // 6to4.
        [0x2002, ..] => vec![at(1)],
        // Teredo: the server, and the client with its bits inverted (RFC 4380, section 4).
        [0x2001, 0, ..] => vec![at(2), Ipv4Addr::from_bits(!at(6).to_bits())],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
