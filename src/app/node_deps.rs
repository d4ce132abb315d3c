//! Clock, disk, failure injector and fingerprint function of a node, so that tests can replace them.

use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::event::{FingerprintFn, fingerprint_key};
use crate::failpoints::{FailureInjector, NoFailures};
use crate::journal::{Disk, LocalDisk};
use crate::metrics::NodeMetrics;
use crate::traces::TraceSink;

/// Dependencies of a node on its surroundings. The default is that of production.
#[derive(Clone)]
pub struct NodeDeps {
    /// Source of every time that the node reads. Default: the system's clock.
    pub clock: Arc<dyn Clock>,
    /// Disk that holds the journal. Default: that of the operating system.
    pub disk: Arc<dyn Disk>,
    /// Decision at each failpoint whether the operation fails. Default: none fails.
    pub failure_injector: Arc<dyn FailureInjector>,
    /// Function that turns an idempotency key into the fingerprint under which it is kept.
    pub fingerprint: FingerprintFn,
    /// Counters and histograms of the node, which `/metrics` shows. Default: all zero.
    pub metrics: Arc<NodeMetrics>,
    /// Sink of spans. A node that exports traces replaces it when it starts.
    pub traces: TraceSink,
}

impl Default for NodeDeps {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock::default()),
            disk: Arc::new(LocalDisk),
            failure_injector: Arc::new(NoFailures),
            fingerprint: fingerprint_key,
            metrics: Arc::default(),
            traces: TraceSink::default(),
        }
    }
}
