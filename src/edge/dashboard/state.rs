//! State of the dashboard: sessions, the limit of logins, and the last hour of the metrics.

use std::net::IpAddr;
use std::sync::{Arc, Weak};

use tokio::time::MissedTickBehavior;

use super::sessions::SessionTable;
use crate::clock::Clock;
use crate::config::DashboardConfig;
use crate::edge::rate_limiter::RateLimiter;
use crate::metrics::{NodeMetrics, RateHistory, SAMPLE_INTERVAL};

/// Logins of one client network in a minute, right or wrong. A person needs few; a program that
/// guesses gets nowhere.
const LOGINS_PER_MINUTE: u32 = 10;

/// State of the dashboard that its pages share.
#[derive(Debug)]
pub(in crate::edge) struct DashboardState {
    pub(in crate::edge) sessions: SessionTable,
    pub(in crate::edge) logins: RateLimiter<IpAddr>,
    pub(in crate::edge) rates: RateHistory,
}

impl DashboardState {
    pub(in crate::edge) fn new(config: &DashboardConfig) -> Self {
        Self {
            sessions: SessionTable::new(config.session),
            logins: RateLimiter::new(LOGINS_PER_MINUTE),
            rates: RateHistory::default(),
        }
    }
}

/// Samples `metrics` into the history of `state` at each [`SAMPLE_INTERVAL`], until `state` is
/// dropped.
pub(in crate::edge) async fn sample_metrics(
    state: Weak<DashboardState>,
    metrics: Arc<NodeMetrics>,
    clock: Arc<dyn Clock>,
) {
    let mut ticks = tokio::time::interval(SAMPLE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(state) = state.upgrade() else {
            return;
        };
        state.rates.add_sample(clock.monotonic(), metrics.totals());
    }
}
