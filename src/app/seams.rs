//! Seams of a node: tests put another clock and failures in here.

use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::event::{FingerprintFn, fingerprint_key};
use crate::failpoints::{FailureInjector, NoFailures};

/// What a node takes from its surroundings; tests put others in.
#[derive(Clone)]
pub struct NodeDeps {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What fails.
    pub faults: Arc<dyn FailureInjector>,
    /// How idempotency keys become fingerprints.
    pub fingerprint: FingerprintFn,
}

impl Default for NodeDeps {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock::default()),
            faults: Arc::new(NoFailures),
            fingerprint: fingerprint_key,
        }
    }
}
