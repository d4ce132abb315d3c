//! Seams of a node: tests put another clock and failures in here.

use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::event::{Fingerprint, fingerprint};
use crate::faults::{Faults, NoFaults};

/// What a node takes from its surroundings; tests put others in.
#[derive(Clone)]
pub struct Seams {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What fails.
    pub faults: Arc<dyn Faults>,
    /// How idempotency keys become fingerprints.
    pub fingerprint: Fingerprint,
}

impl Default for Seams {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock::default()), faults: Arc::new(NoFaults), fingerprint }
    }
}
