//! Client networks from which a call has proved who its sender is. Strangers share a part of the memory
//! and of the connections, so that they do not lock out these.

use std::collections::HashMap;
use std::net::IpAddr;

use parking_lot::Mutex;

/// Networks that are remembered: more than the largest senders call from. Beyond it the network whose
/// last proof is oldest is forgotten.
const NETWORKS_MAX: usize = 1_024;

/// Networks that have proved themselves, each with the number of its last proof.
#[derive(Debug, Default)]
pub(super) struct ProvenNetworks(Mutex<ProofNumbers>);

#[derive(Debug, Default)]
struct ProofNumbers {
    last: HashMap<IpAddr, u64>,
    count: u64,
}

impl ProvenNetworks {
    /// Remembers that a call from `network` has proved who its sender is.
    pub(super) fn note(&self, network: IpAddr) {
        let mut numbers = self.0.lock();
        numbers.count += 1;
        let number = numbers.count;
        let is_new = numbers.last.insert(network, number).is_none();
        if is_new && numbers.last.len() > NETWORKS_MAX {
            let oldest = numbers.last.iter().min_by_key(|(_, number)| **number);
            if let Some(oldest) = oldest.map(|(network, _)| *network) {
                numbers.last.remove(&oldest);
            }
        }
    }

    /// Returns true if `network` has proved itself, and is not forgotten.
    pub(super) fn contains(&self, network: IpAddr) -> bool {
        self.0.lock().last.contains_key(&network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_whose_proof_is_oldest_is_forgotten() {
        let proven = ProvenNetworks::default();
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        (0..1_024).for_each(|number| proven.note(address(number)));
        proven.note(address(0));
        proven.note(address(5_000));
        let is_known = |number| proven.contains(address(number));
        assert!(is_known(0) && !is_known(1) && is_known(2) && is_known(5_000));
    }
}
