//! Client address of a request: the peer, or behind trusted proxies the address that the nearest
//! trusted proxy vouches for.
//!
//! ```text
//! X-Forwarded-For: 203.0.113.9, 198.51.100.7, 10.0.0.2      peer 10.0.0.1, trusted 10.0.0.0/8
//!                  anyone's claim    ^ client  ^ trusted    ^ trusted      (walked from the right)
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use actix_web::HttpRequest;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Returns the client address of `request`, with `X-Forwarded-For` read only behind the proxies in
/// `trusted`.
#[must_use]
pub fn resolve_client_address(request: &HttpRequest, trusted: &[IpNet]) -> IpAddr {
    // Only a listener that is not TCP has no peer address.
    let peer = request
        .peer_addr()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| {
            peer.ip().to_canonical()
        });
    if !is_trusted(peer, trusted) {
        return peer;
    }

    let lines: Vec<&str> = request
        .headers()
        .get_all(FORWARDED_FOR)
        .map(|line| line.to_str().unwrap_or_default())
        .collect();
    walk_forwarded_addresses(peer, &lines, trusted)
}

/// Returns the network by which limits count an address: the address itself for IPv4, its /64 for
/// IPv6, since one caller commonly has a whole /64.
#[must_use]
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// Walks the entries of all `lines` from the right while they are trusted proxies. The walk ends at
/// an entry that is no address: then the last known proxy counts as the client.
fn walk_forwarded_addresses(peer: IpAddr, lines: &[&str], trusted: &[IpNet]) -> IpAddr {
    let mut nearest = peer;
    let entries = lines.iter().rev().flat_map(|line| line.rsplit(','));
    // An element of a list may be empty (RFC 9110, section 5.6.1) and means nothing.
    for entry in entries.filter(|entry| !entry.trim().is_empty()) {
        let Some(address) = parse_forwarded_address(entry.trim()) else {
            return nearest;
        };
        nearest = address;
        if !is_trusted(address, trusted) {
            return nearest;
        }
    }
    nearest
}

/// Parses an address, alone or with the port that some proxies add.
fn parse_forwarded_address(entry: &str) -> Option<IpAddr> {
    let bare = || entry.parse::<IpAddr>().ok();
    let with_port = || entry.parse::<SocketAddr>().ok().map(|address| address.ip());
    let bracketed = || {
        entry
            .strip_prefix('[')?
            .strip_suffix(']')?
            .parse::<Ipv6Addr>()
            .ok()
            .map(IpAddr::V6)
    };
    bare()
        .or_else(with_port)
        .or_else(bracketed)
        .map(|address| address.to_canonical())
}

/// Returns true if `address` is one of the `trusted` proxies.
pub(super) fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_no_trusted_proxy() {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"]
            .map(|net| net.parse().expect("a network"))
            .into();
        let cases: [(&[&str], &str); 15] = [
            (&[], "10.0.0.1"),
            (&["203.0.113.9"], "203.0.113.9"),
            (&["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
            (&["203.0.113.9, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
            (&["203.0.113.9", "198.51.100.7, 10.0.0.2"], "198.51.100.7"),
            (&["198.51.100.7", "10.0.0.3", "10.0.0.2"], "198.51.100.7"),
            (&["10.0.0.4, 10.0.0.3"], "10.0.0.4"),
            (&["198.51.100.7, unknown, 10.0.0.2"], "10.0.0.2"),
            (&["198.51.100.7, unknown"], "10.0.0.1"),
            (&["198.51.100.7,"], "198.51.100.7"),
            (
                &["203.0.113.9, 198.51.100.7, , 10.0.0.2", ""],
                "198.51.100.7",
            ),
            (&[",", " "], "10.0.0.1"),
            (&["198.51.100.7:4711"], "198.51.100.7"),
            (&["2001:db8::7, fd00::2"], "2001:db8::7"),
            (&["[2001:db8::7]:443, ::ffff:10.0.0.2"], "2001:db8::7"),
        ];
        for (lines, expected) in cases {
            assert_eq!(
                walk_forwarded_addresses(ip("10.0.0.1"), lines, &trusted),
                ip(expected),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn what_an_untrusted_peer_says_is_not_believed() {
        let request = actix_web::test::TestRequest::default()
            .peer_addr("198.51.100.1:5000".parse().expect("an address"))
            .insert_header((FORWARDED_FOR, "203.0.113.9"))
            .to_http_request();
        assert_eq!(
            resolve_client_address(&request, &["10.0.0.0/8".parse().expect("a network")]),
            ip("198.51.100.1")
        );
        assert_eq!(
            resolve_client_address(&request, &["198.51.100.0/24".parse().expect("a network")]),
            ip("203.0.113.9")
        );
    }

    #[test]
    fn ipv6_is_counted_by_its_64() {
        assert_eq!(
            client_network(ip("2001:db8:1:2:3:4:5:6")),
            ip("2001:db8:1:2::")
        );
        assert_eq!(
            client_network(ip("2001:db8:1:2::9")),
            client_network(ip("2001:db8:1:2:ffff::1"))
        );
        assert_eq!(client_network(ip("::ffff:203.0.113.9")), ip("203.0.113.9"));
        assert_eq!(client_network(ip("203.0.113.9")), ip("203.0.113.9"));
    }
}
