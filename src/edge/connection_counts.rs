//! Number of open connections of each client network, so that one caller cannot take them all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use parking_lot::Mutex;

use super::client_address::{client_network, is_trusted};

/// Open connections by client network: an address of IPv4, a /64 of IPv6.
#[derive(Debug, Default)]
pub(super) struct ConnectionCounts {
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// Place of one open connection in the counts.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    counts: Arc<ConnectionCounts>,
    /// Network that the connection is counted for; `None` for a proxy.
    network: Option<IpAddr>,
}

impl ConnectionCounts {
    /// Takes a place for a connection of `peer`; `None` if its network has `max` already. Connections of
    /// `trusted_proxies` carry the requests of many callers and are not counted.
    pub(super) fn try_open(
        self: &Arc<Self>,
        peer: IpAddr,
        max: usize,
        trusted_proxies: &[IpNet],
    ) -> Option<ConnectionSlot> {
        let peer = peer.to_canonical();
        let network = (!is_trusted(peer, trusted_proxies)).then(|| client_network(peer));
        if let Some(network) = network {
            let mut open = self.open.lock();
            let count = open.entry(network).or_default();
            if *count >= max {
                return None;
            }
            *count += 1;
        }
        Some(ConnectionSlot {
            counts: Arc::clone(self),
            network,
        })
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let Some(network) = self.network else { return };
        let mut open = self.counts.open.lock();
        if let Some(count) = open.get_mut(&network) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&network);
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
        let counts = Arc::new(ConnectionCounts::default());
        let proxies = ["10.0.0.0/8".parse().expect("a network")];
        let open = |text: &str| counts.try_open(ip(text), 2, &proxies);
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
        assert!(
            counts.open.lock().is_empty(),
            "nothing is kept of the closed"
        );
    }
}
