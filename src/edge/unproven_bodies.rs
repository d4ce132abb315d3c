//! Memory for the bodies that have not arrived whole. A signature covers the body, so the node has to
//! read it first; all such bodies together have one budget.
//!
//! | bytes that have arrived from | at most |
//! |---|---|
//! | one client network | a fourth of the budget |
//! | all networks that have proved nothing yet | half of the budget |
//! | everybody | the budget |
//!
//! A body counts from the moment that its reader waits for more of it: most arrive together with their
//! head, and need nothing here.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::proven_networks::ProvenNetworks;

/// Part of the budget that one network may take: a fourth, so that no caller uses it up alone.
const NETWORK_SHARE: usize = 4;

/// Part of the budget that strangers may take, all together: half of it, so that they do not lock out
/// those who have proved who they are.
const STRANGERS_SHARE: usize = 2;

/// Budget of the bytes of all bodies that are still arriving.
#[derive(Debug)]
pub(super) struct UnprovenBodies {
    bytes_max: usize,
    proven: Arc<ProvenNetworks>,
    taken: Arc<Mutex<TakenBytes>>,
}

#[derive(Debug, Default)]
struct TakenBytes {
    total: usize,
    of_strangers: usize,
    by_network: HashMap<IpAddr, usize>,
}

/// Part of the budget that one body takes, until it is whole or gone.
#[derive(Debug)]
pub(super) struct BodyShare {
    bodies: Arc<UnprovenBodies>,
    network: IpAddr,
    /// Largest size of the body in bytes.
    body_max: usize,
    bytes: usize,
    /// Those of `bytes` that were taken while the network had proved nothing.
    stranger_bytes: usize,
}

impl UnprovenBodies {
    /// Budget of `bytes_max` bytes, half of it for networks that are `proven`. One body always fits.
    pub(super) fn new(bytes_max: usize, proven: Arc<ProvenNetworks>) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            proven,
            taken: Arc::default(),
        })
    }

    /// Budget with another limit, from which the bytes are gone that were taken from this one.
    pub(super) fn with_limit(&self, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            proven: Arc::clone(&self.proven),
            taken: Arc::clone(&self.taken),
        })
    }

    /// Makes the share of a body of `network` of at most `body_max` bytes, of which none has arrived.
    pub(super) fn share(self: &Arc<Self>, network: IpAddr, body_max: usize) -> BodyShare {
        BodyShare {
            bodies: Arc::clone(self),
            network,
            body_max,
            bytes: 0,
            stranger_bytes: 0,
        }
    }
}

impl BodyShare {
    /// Takes room for the `received` bytes of the body so far; returns false if there is none.
    pub(super) fn grow_to(&mut self, received: usize) -> bool {
        let more = received.saturating_sub(self.bytes);
        let bytes_max = self.bodies.bytes_max.max(self.body_max);
        let network_max = (bytes_max / NETWORK_SHARE).max(self.body_max);
        let strangers_max = (bytes_max / STRANGERS_SHARE).max(self.body_max);
        if more == 0 {
            return true;
        }

        let is_stranger = !self.bodies.proven.contains(self.network);
        let mut taken = self.bodies.taken.lock();
        let of_network = taken.by_network.get(&self.network).copied();
        let of_network = of_network.unwrap_or_default() + more;
        let of_strangers = taken.of_strangers + if is_stranger { more } else { 0 };
        let has_room = taken.total + more <= bytes_max
            && of_network <= network_max
            && (!is_stranger || of_strangers <= strangers_max);
        if has_room {
            self.stranger_bytes += of_strangers - taken.of_strangers;
            self.bytes += more;
            taken.total += more;
            taken.of_strangers = of_strangers;
            taken.by_network.insert(self.network, of_network);
        }
        has_room
    }
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut taken = self.bodies.taken.lock();
        taken.total -= self.bytes;
        taken.of_strangers -= self.stranger_bytes;
        let rest = taken.by_network.get(&self.network).copied();
        match rest.unwrap_or_default().saturating_sub(self.bytes) {
            0 => drop(taken.by_network.remove(&self.network)),
            rest => drop(taken.by_network.insert(self.network, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([203, 0, 113, last])
    }

    /// Shares of `count` bodies of at most 100 bytes, each of which has received `bytes`; those for which
    /// there was no room are missing.
    fn grown_shares(
        bodies: &Arc<UnprovenBodies>,
        networks: impl IntoIterator<Item = u8>,
        bytes: usize,
    ) -> Vec<BodyShare> {
        let shares = networks.into_iter().map(|last| bodies.share(ip(last), 100));
        shares
            .filter_map(|mut share| share.grow_to(bytes).then_some(share))
            .collect()
    }

    /// A declared length took its share, though nothing of the body came: 136 idle connections locked
    /// out every source with a signature.
    #[test]
    fn a_body_takes_room_for_what_has_arrived_only() {
        let bodies = UnprovenBodies::new(800, Arc::default());
        let idle: Vec<_> = (0..1_000).map(|_| bodies.share(ip(1), 100)).collect();
        let mut share = bodies.share(ip(1), 100);
        assert!(share.grow_to(40) && share.grow_to(100) && share.grow_to(100));
        assert_eq!(bodies.taken.lock().total, 100);
        drop((idle, share));
        let taken = bodies.taken.lock();
        assert!(taken.total == 0 && taken.by_network.is_empty());
    }

    #[test]
    fn each_network_has_a_fourth_and_strangers_have_half_of_the_budget() {
        let bodies = UnprovenBodies::new(800, Arc::default());
        let of_one = grown_shares(&bodies, [1; 3], 90);
        assert_eq!(of_one.len(), 2, "200 bytes are its share");
        let of_others = grown_shares(&bodies, 2..9, 100);
        assert_eq!(of_others.len(), 2, "400 bytes are for strangers");

        bodies.proven.note(ip(9));
        let of_proven = grown_shares(&bodies, [9; 3], 100);
        assert_eq!(of_proven.len(), 2, "half is left for those with a proof");
        drop(of_one);
        assert_eq!(grown_shares(&bodies, [1], 100).len(), 1, "it is given back");
        drop((of_others, of_proven));
        let taken = bodies.taken.lock();
        assert_eq!((taken.total, taken.of_strangers), (0, 0));
        assert!(taken.by_network.is_empty());
    }

    #[test]
    fn one_body_always_fits() {
        let bodies = UnprovenBodies::new(10, Arc::default());
        let first = grown_shares(&bodies, [1], 100);
        assert!(first.len() == 1 && grown_shares(&bodies, [2], 1).is_empty());
    }
}
