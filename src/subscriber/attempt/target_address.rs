//! Checks which addresses a URL given by the API may lead to: public addresses, and the networks of
//! `delivery.allow_targets`.
//!
//! An IPv6 address with an embedded IPv4 address leads to that IPv4 address, so both have to be
//! allowed. The ranges are those of IANA's registries of special-purpose addresses (RFC 6890 and
//! its updates).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
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
    let refuse = |range| Err(BlockedAddressError { address, range });
    let range = match address {
        IpAddr::V4(address) => special_range_v4(address),
        IpAddr::V6(address) => special_range_v6(address),
    };
    match range {
        Some(range) if !is_allowed(address, allow_targets) => return refuse(range),
        Some(_) | None => {}
    }

    let IpAddr::V6(outer) = address else {
        return Ok(());
    };
    for inner in embedded_ipv4(outer) {
        match special_range_v4(inner) {
            Some(range) if !is_allowed(inner.into(), allow_targets) => return refuse(range),
            Some(_) | None => {}
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

const fn network_v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn network_v6(start: [u16; 8], prefix: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = start;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

/// Ranges of IPv4 that are not public, narrower ranges first.
const SPECIAL_V4: [(Ipv4Net, &str); 17] = [
    (network_v4(0, 0, 0, 0, 32), "no address"),
    (network_v4(0, 0, 0, 0, 8), "an address of this network"),
    (network_v4(10, 0, 0, 0, 8), "a private address"),
    (
        network_v4(100, 100, 100, 200, 32),
        "the metadata service of a cloud",
    ),
    (network_v4(100, 64, 0, 0, 10), "a carrier's private address"),
    (network_v4(127, 0, 0, 0, 8), "a loopback address"),
    (
        network_v4(169, 254, 169, 254, 32),
        "the metadata service of a cloud",
    ),
    (network_v4(169, 254, 0, 0, 16), "a link-local address"),
    (
        network_v4(168, 63, 129, 16, 32),
        "the metadata service of a cloud",
    ),
    (network_v4(172, 16, 0, 0, 12), "a private address"),
    (network_v4(192, 0, 0, 0, 24), "a reserved address"),
    (network_v4(192, 88, 99, 0, 24), "a reserved address"),
    (network_v4(192, 168, 0, 0, 16), "a private address"),
    (network_v4(198, 18, 0, 0, 15), "an address for benchmarks"),
    (network_v4(224, 0, 0, 0, 4), "a multicast address"),
    (network_v4(255, 255, 255, 255, 32), "the broadcast address"),
    (network_v4(240, 0, 0, 0, 4), "a reserved address"),
];

/// Networks that are reserved for documentation (RFC 5737).
const EXAMPLES_V4: [Ipv4Net; 3] = [
    network_v4(192, 0, 2, 0, 24),
    network_v4(198, 51, 100, 0, 24),
    network_v4(203, 0, 113, 0, 24),
];

/// Network that holds all public unicast addresses of IPv6.
const PUBLIC_V6: Ipv6Net = network_v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// Ranges of IPv6 that are not public, narrower ranges first.
const SPECIAL_V6: [(Ipv6Net, &str); 20] = [
    (network_v6([0, 0, 0, 0, 0, 0, 0, 0], 128), "no address"),
    (
        network_v6([0, 0, 0, 0, 0, 0, 0, 1], 128),
        "the loopback address",
    ),
    (MAPPED, "an IPv4 address mapped into IPv6"),
    (TRANSLATED, "an IPv4 address translated into IPv6"),
    (COMPATIBLE, "an IPv4 address within IPv6"),
    (NAT64, "an IPv4 address behind NAT64"),
    (NAT64_LOCAL, "an IPv4 address behind a local NAT64"),
    (
        network_v6([0x100, 0, 0, 0, 0, 0, 0, 0], 32),
        "an address that discards",
    ),
    (TEREDO, "a Teredo address"),
    (
        network_v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48),
        "an address for benchmarks",
    ),
    (
        network_v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
        "a reserved address",
    ),
    (
        network_v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
        "an address for documentation",
    ),
    (SIX_TO_FOUR, "a 6to4 address"),
    (
        network_v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
        "an address for documentation",
    ),
    (
        network_v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16),
        "a segment routing address",
    ),
    (
        network_v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128),
        "the metadata service of a cloud",
    ),
    (
        network_v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),
        "a private address",
    ),
    (
        network_v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
        "a link-local address",
    ),
    (
        network_v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10),
        "a site-local address",
    ),
    (
        network_v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
        "a multicast address",
    ),
];

const COMPATIBLE: Ipv6Net = network_v6([0, 0, 0, 0, 0, 0, 0, 0], 96);
const MAPPED: Ipv6Net = network_v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96);
const TRANSLATED: Ipv6Net = network_v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96);
const NAT64: Ipv6Net = network_v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
const NAT64_LOCAL: Ipv6Net = network_v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48);
const TEREDO: Ipv6Net = network_v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32);
const SIX_TO_FOUR: Ipv6Net = network_v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);

fn special_range_v4(address: Ipv4Addr) -> Option<&'static str> {
    let example = EXAMPLES_V4.iter().any(|network| network.contains(&address));
    let special = SPECIAL_V4
        .iter()
        .find(|(network, _)| network.contains(&address));
    special
        .map(|(_, range)| *range)
        .or(example.then_some("an address for documentation"))
}

fn special_range_v6(address: Ipv6Addr) -> Option<&'static str> {
    let special = SPECIAL_V6
        .iter()
        .find(|(network, _)| network.contains(&address));
    let unassigned = !PUBLIC_V6.contains(&address);
    special
        .map(|(_, range)| *range)
        .or(unassigned.then_some("a reserved address"))
}

/// Returns the IPv4 addresses at which packets to `address` may arrive.
fn embedded_ipv4(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let octets = address.octets();
    let at = |start: usize| {
        Ipv4Addr::new(
            octets[start],
            octets[start + 1],
            octets[start + 2],
            octets[start + 3],
        )
    };
    let is_in = |network: &Ipv6Net| network.contains(&address);
    // `::` and `::1` lie in the range of compatible addresses but embed none.
    if address.is_unspecified() || address.is_loopback() {
        Vec::new()
    } else if [COMPATIBLE, MAPPED, TRANSLATED, NAT64, NAT64_LOCAL]
        .iter()
        .any(is_in)
    {
        vec![at(12)]
    } else if is_in(&SIX_TO_FOUR) {
        vec![at(2)]
    } else if is_in(&TEREDO) {
        // The server, and the client with its bits inverted (RFC 4380, section 4).
        vec![at(4), Ipv4Addr::from_bits(!at(12).to_bits())]
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
