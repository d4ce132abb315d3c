//! Holder of the current state of the edge, which follows the configuration.

use std::sync::Arc;

use tokio::sync::watch;

use super::gate::CoreGate;
use super::state::Edge;
use crate::clock::CheckedClock;
use crate::config::LiveConfig;
use crate::metrics::NodeMetrics;
use crate::traces::TraceSink;

/// Holder of the current [`Edge`]. Cheap to clone; all clones hold the same.
#[derive(Clone, Debug)]
pub struct LiveEdge(Arc<watch::Sender<Arc<Edge>>>);

impl LiveEdge {
    /// Builds the state for the configuration in force, and anew for each later one. Calls are counted
    /// in `metrics` and reported to `traces`.
    #[must_use]
    pub fn new(
        live_config: Arc<LiveConfig>,
        clock: Arc<CheckedClock>,
        (metrics, traces): (Arc<NodeMetrics>, TraceSink),
        gate: CoreGate,
    ) -> Self {
        let edge = Edge::new(Arc::clone(&live_config), clock, (metrics, traces), gate);
        let current = Arc::new(watch::Sender::new(Arc::new(edge)));
        let held = Arc::downgrade(&current);
        live_config.follow(move |config| {
            let Some(current) = held.upgrade() else {
                return false;
            };
            let former = Arc::clone(&current.borrow());
            if !Arc::ptr_eq(&former.config, config) {
                current.send_replace(Arc::new(former.succeed(Arc::clone(config))));
            }
            true
        });
        Self(current)
    }

    /// Holds `edge` for good, whatever is reloaded.
    #[cfg(test)]
    pub(super) fn fixed(edge: Arc<Edge>) -> Self {
        Self(Arc::new(watch::Sender::new(edge)))
    }

    /// Returns the state of the configuration in force.
    #[must_use]
    pub fn current(&self) -> Arc<Edge> {
        Arc::clone(&self.0.borrow())
    }

    /// Watches for the state of the next configuration.
    pub(super) fn watch(&self) -> watch::Receiver<Arc<Edge>> {
        self.0.subscribe()
    }
}
