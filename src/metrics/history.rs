//! The last hour of the metrics' totals, in a ring in memory, for plots.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;

use super::totals::MetricTotals;

/// Time between two samples. Short enough for a plot that moves while one looks at it.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);

/// Time that the ring covers.
pub const HISTORY_LENGTH: Duration = Duration::from_secs(3_600);

/// Samples of [`HISTORY_LENGTH`], and the one at its start.
const SAMPLES_MAX: usize = 361;

/// Totals at one moment of the monotonic clock.
#[derive(Clone, Debug)]
struct MetricSample {
    at: Duration,
    totals: MetricTotals,
}

/// Rates per second between two neighbouring samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateInterval {
    /// Time from the end of the interval to now.
    pub age: Duration,
    /// Accepted events in a second.
    pub accepted_events: f64,
    /// Refused calls of senders in a second.
    pub refused_calls: f64,
    /// Accepted deliveries in a second.
    pub accepted_deliveries: f64,
    /// Failed delivery attempts in a second.
    pub failed_deliveries: f64,
}

/// Ring of samples of the last hour, the oldest first.
#[derive(Debug, Default)]
pub struct RateHistory(Mutex<VecDeque<MetricSample>>);

impl RateHistory {
    /// Adds `totals` as the sample of `now`, a time of the monotonic clock.
    pub fn add_sample(&self, now: Duration, totals: MetricTotals) {
        let mut samples = self.0.lock();
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(MetricSample { at: now, totals });
    }

    /// Returns the rates of the last hour, the oldest first; `totals`, those of `now`, end the last
    /// interval.
    #[must_use]
    pub fn rates(&self, now: Duration, totals: &MetricTotals) -> Vec<RateInterval> {
        let samples = self.0.lock();
        let is_recent = |sample: &&MetricSample| sample.at + HISTORY_LENGTH > now;
        let mut points: Vec<_> = samples
            .iter()
            .filter(is_recent)
            .map(|sample| (sample.at, &sample.totals))
            .collect();
        points.push((now, totals));
        points
            .windows(2)
            .filter_map(|pair| rate_between(pair[0], pair[1], now))
            .collect()
    }

    /// Returns the newest totals that are at least `age` old at `now`, or the oldest of all.
    #[must_use]
    pub fn totals_before(&self, now: Duration, age: Duration) -> MetricTotals {
        let samples = self.0.lock();
        let is_old = |sample: &&MetricSample| sample.at + age <= now;
        let found = samples.iter().rev().find(is_old).or(samples.front());
        found
            .map(|sample| sample.totals.clone())
            .unwrap_or_default()
    }
}

/// Returns the rates between two samples; `None` if no time lies between them.
fn rate_between(
    (start, before): (Duration, &MetricTotals),
    (end, after): (Duration, &MetricTotals),
    now: Duration,
) -> Option<RateInterval> {
    let seconds = end.saturating_sub(start).as_secs_f64();
    if seconds <= 0.0 {
        return None;
    }

    let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
    Some(RateInterval {
        age: now.saturating_sub(end),
        accepted_events: rate(before.accepted_events, after.accepted_events),
        refused_calls: rate(before.refused_calls, after.refused_calls),
        accepted_deliveries: rate(before.accepted_deliveries, after.accepted_deliveries),
        failed_deliveries: rate(before.failed_deliveries, after.failed_deliveries),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn accepted(accepted_events: u64) -> MetricTotals {
        MetricTotals {
            accepted_events,
            ..MetricTotals::default()
        }
    }

    #[test]
    fn rates_are_differences_over_time() {
        let history = RateHistory::default();
        history.add_sample(seconds(0), accepted(0));
        history.add_sample(seconds(10), accepted(50));
        let rates = history.rates(seconds(15), &accepted(60));
        let found: Vec<_> = rates
            .iter()
            .map(|rate| (rate.age.as_secs(), rate.accepted_events))
            .collect();
        assert_eq!(found, [(5, 5.0), (0, 2.0)]);
        assert_eq!(history.totals_before(seconds(15), seconds(5)), accepted(50));
        assert_eq!(history.totals_before(seconds(15), seconds(6)), accepted(0));
        assert_eq!(history.totals_before(seconds(15), seconds(99)), accepted(0));
    }

    #[test]
    fn the_ring_is_bounded_and_forgets_after_an_hour() {
        let history = RateHistory::default();
        for sample in 0..1_000 {
            history.add_sample(seconds(sample * 10), accepted(sample));
        }
        assert_eq!(history.0.lock().len(), SAMPLES_MAX);
        let rates = history.rates(seconds(10_000), &accepted(1_000));
        assert_eq!(rates.len(), 359);
        assert!(rates.iter().all(|rate| rate.accepted_events == 0.1));
        assert!(history.rates(seconds(20_000), &accepted(0)).is_empty());
    }
}
