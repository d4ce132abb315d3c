//! Memory for the bodies of callers who have proved nothing yet. A signature covers the body, so the
//! node has to read it first; all such bodies together have one budget, and each client network a
//! share of it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// Part of the budget that one network may take: a fourth, so that no caller uses it up alone.
const NETWORK_SHARE: usize = 4;

/// Budget of the bytes that wait for their signature to be verified.
#[derive(Debug)]
pub(super) struct UnprovenBodies {
    bytes_max: usize,
    taken: Arc<Mutex<TakenBytes>>,
}

#[derive(Debug, Default)]
struct TakenBytes {
    total: usize,
    by_network: HashMap<IpAddr, usize>,
}

/// Bytes of one body, until its caller has proved who it is or the body is gone.
#[derive(Debug)]
pub(super) struct BodyShare {
    bodies: Arc<UnprovenBodies>,
    network: IpAddr,
    bytes: usize,
}

impl UnprovenBodies {
    /// Budget of `bytes_max` bytes. One body always fits.
    pub(super) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            taken: Arc::default(),
        })
    }

    /// Budget with another limit, from which the bytes are gone that were taken from this one.
    pub(super) fn with_limit(&self, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            taken: Arc::clone(&self.taken),
        })
    }

    /// Takes the bytes of a body of `network` with this declared length, of at most `body_max`; `None`
    /// without room.
    pub(super) fn try_take(
        self: &Arc<Self>,
        network: IpAddr,
        declared: Option<u64>,
        body_max: usize,
    ) -> Option<BodyShare> {
        let declared = declared.and_then(|bytes| usize::try_from(bytes).ok());
        let bytes = declared.unwrap_or(body_max).min(body_max);
        let bytes_max = self.bytes_max.max(body_max);
        let share_max = (bytes_max / NETWORK_SHARE).max(body_max);

        let mut taken = self.taken.lock();
        let of_network = taken.by_network.get(&network).copied().unwrap_or_default();
        if taken.total + bytes > bytes_max || of_network + bytes > share_max {
            return None;
        }
        taken.total += bytes;
        taken.by_network.insert(network, of_network + bytes);
        Some(BodyShare {
            bodies: Arc::clone(self),
            network,
            bytes,
        })
    }
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        let mut taken = self.bodies.taken.lock();
        taken.total -= self.bytes;
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

    #[test]
    fn all_bodies_have_one_budget_and_each_network_a_fourth_of_it() {
        let bodies = UnprovenBodies::new(800);
        let of_one: Vec<_> = (0..3)
            .map(|_| bodies.try_take(ip(1), Some(90), 100))
            .collect();
        assert_eq!(
            of_one.iter().flatten().count(),
            2,
            "200 bytes are its share"
        );
        let of_others: Vec<_> = (2..9)
            .map(|last| bodies.try_take(ip(last), None, 100))
            .collect();
        assert_eq!(
            of_others.iter().flatten().count(),
            6,
            "a body without a length may be 100"
        );
        assert!(
            bodies.try_take(ip(9), Some(20), 100).is_some(),
            "20 bytes are left"
        );
        drop(of_one);
        assert!(
            bodies.try_take(ip(1), Some(100), 100).is_some(),
            "they are given back"
        );
        drop(of_others);
        let taken = bodies.taken.lock();
        assert!(taken.total == 0 && taken.by_network.is_empty());
    }

    #[test]
    fn one_body_always_fits() {
        let bodies = UnprovenBodies::new(10);
        let first = bodies.try_take(ip(1), Some(u64::MAX), 100);
        assert!(first.is_some() && bodies.try_take(ip(2), Some(1), 100).is_none());
    }
}
