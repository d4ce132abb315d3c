//! Number of open connections of each client network, so that one caller cannot take them all, nor a
//! few strangers together.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use parking_lot::Mutex;

use super::client_address::{client_network, is_trusted};
use super::proven_networks::ProvenNetworks;

/// Open connections of one listener, by client network: an address of IPv4, a /64 of IPv6.
#[derive(Debug)]
pub(super) struct ConnectionCounts {
    proven: Arc<ProvenNetworks>,
    open: Mutex<OpenConnections>,
}

#[derive(Debug, Default)]
struct OpenConnections {
    by_network: HashMap<IpAddr, usize>,
    of_strangers: usize,
}

/// Most connections of a listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionLimits {
    /// Share of an IPv4 address or a /64 of IPv6, proven or not.
    of_network: usize,
    /// Connections of all networks that have proved nothing yet.
    of_strangers: usize,
}

impl ConnectionLimits {
    /// Makes the limits of a listener with `connections_max` connections, of which one network may have
    /// `per_network_max`. Two networks never have all of them, and strangers leave a fourth to those who
    /// have proved who they are.
    pub(super) fn new(connections_max: usize, per_network_max: usize) -> Self {
        Self {
            of_network: per_network_max.min(connections_max / 3).max(1),
            of_strangers: (connections_max - connections_max / 4).max(1),
        }
    }
}

/// Place of one open connection in the counts.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    counts: Arc<ConnectionCounts>,
    /// Network that the connection is counted for; `None` for a proxy.
    network: Option<IpAddr>,
    is_stranger: bool,
}

impl ConnectionCounts {
    /// Counts connections of which none is open. Networks that are `proven` are no strangers.
    pub(super) fn new(proven: Arc<ProvenNetworks>) -> Arc<Self> {
        Arc::new(Self {
            proven,
            open: Mutex::default(),
        })
    }

    /// Takes a place for a connection of `peer`; `None` beyond `limits`. Connections of
    /// `trusted_proxies` carry the requests of many callers and are not counted.
    pub(super) fn try_open(
        self: &Arc<Self>,
        peer: IpAddr,
        limits: ConnectionLimits,
        trusted_proxies: &[IpNet],
    ) -> Option<ConnectionSlot> {
        let peer = peer.to_canonical();
        let network = (!is_trusted(peer, trusted_proxies)).then(|| client_network(peer));
        let is_stranger = network.is_some_and(|network| !self.proven.contains(network));
        if let Some(network) = network {
            let mut open = self.open.lock();
            let of_network = open.by_network.get(&network).copied().unwrap_or_default();
            let is_full = of_network >= limits.of_network
                || is_stranger && open.of_strangers >= limits.of_strangers;
            if is_full {
                return None;
            }
            open.by_network.insert(network, of_network + 1);
            open.of_strangers += usize::from(is_stranger);
        }
        Some(ConnectionSlot {
            counts: Arc::clone(self),
            network,
            is_stranger,
        })
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let Some(network) = self.network else { return };
        let mut open = self.counts.open.lock();
        open.of_strangers -= usize::from(self.is_stranger);
        if let Some(count) = open.by_network.get_mut(&network) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.by_network.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_so_many_connections_and_a_proxy_any_number() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let counts = ConnectionCounts::new(Arc::default());
        let proxies = ["10.0.0.0/8".parse().expect("a network")];
        let limits = ConnectionLimits::new(100, 2);
        let open = |text: &str| counts.try_open(ip(text), limits, &proxies);
        let first = open("2001:db8::1").expect("room");
        let _second = open("2001:db8::2").expect("room");
        assert!(open("2001:db8::3").is_none(), "the same /64");
        let _other = open("2001:db8:0:1::1").expect("another /64");
        let of_proxy: Vec<_> = (0..9).map(|_| open("10.0.0.7")).collect();
        assert!(of_proxy.iter().all(Option::is_some));
        drop(first);
        let third = open("2001:db8::3");
        assert!(third.is_some(), "a closed one makes room");
        drop((third, _second, _other));
        let open = counts.open.lock();
        assert!(
            open.by_network.is_empty() && open.of_strangers == 0,
            "nothing is kept of the closed"
        );
    }

    /// Four addresses took all connections.
    #[test]
    fn strangers_leave_a_fourth_to_those_who_have_proved_who_they_are() {
        let proven = Arc::<ProvenNetworks>::default();
        let counts = ConnectionCounts::new(Arc::clone(&proven));
        let limits = ConnectionLimits::new(12, 2_500);
        let address = |last: u8| IpAddr::from([203, 0, 113, last]);
        let open = |last: u8| counts.try_open(address(last), limits, &[]);
        let of_one: Vec<_> = (0..9).filter_map(|_| open(1)).collect();
        assert_eq!(of_one.len(), 4, "a third of the listener's connections");
        let of_others: Vec<_> = (2..20).filter_map(open).collect();
        assert_eq!(of_one.len() + of_others.len(), 9);
        proven.note(address(40));
        let of_known: Vec<_> = (0..3).filter_map(|_| open(40)).collect();
        assert_eq!(of_known.len(), 3);
        drop(of_others);
        assert!(open(41).is_some());
    }
}
