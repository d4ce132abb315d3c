//! Latencies in bounded memory: a histogram of all, and a few figures for each interval of the run.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest recorded latency, in microseconds; longer ones count as this.
const LATENCY_MAX_US: u64 = 3_600_000_000;

/// First length of an interval.
const INTERVAL: Duration = Duration::from_millis(250);

/// Most intervals. Beyond it two become one, so that a run may take hours.
const INTERVALS_MAX: usize = 600;

/// Percentiles of many latencies, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct LatencySummary {
    pub(super) p50_ms: f64,
    pub(super) p90_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p999_ms: f64,
    pub(super) max_ms: f64,
}

/// Figures of the latencies that ended in one interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct LatencyInterval {
    /// Begin of the interval, in seconds since the begin of the run.
    pub(super) at_s: f64,
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// Point of the distribution: this share of the latencies is at most this long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct LatencyQuantile {
    pub(super) share: f64,
    pub(super) ms: f64,
}

/// Latencies of one kind, with the time at which each of them ended.
#[derive(Debug)]
pub(super) struct LatencySeries {
    all: Histogram<u64>,
    current: Histogram<u64>,
    /// Finished intervals, each with its number of latencies.
    finished: Vec<(u64, LatencyInterval)>,
    interval: Duration,
}

impl LatencySeries {
    pub(super) fn new() -> Self {
        Self {
            all: new_histogram(),
            current: new_histogram(),
            finished: Vec::new(),
            interval: INTERVAL,
        }
    }

    /// Records a latency that ended at `at`, the time since the begin of the run.
    pub(super) fn record(&mut self, at: Duration, latency: Duration) {
        self.finish_intervals(at);
        let us = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_MAX_US);
        self.all.saturating_record(us);
        self.current.saturating_record(us);
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        self.all.len()
    }

    pub(super) fn summary(&self) -> LatencySummary {
        LatencySummary {
            p50_ms: quantile_ms(&self.all, 0.5),
            p90_ms: quantile_ms(&self.all, 0.9),
            p99_ms: quantile_ms(&self.all, 0.99),
            p999_ms: quantile_ms(&self.all, 0.999),
            max_ms: self.all.max() as f64 / 1000.0,
        }
    }

    /// Returns the distribution, with more points where fewer latencies are: at 50 %, 75 %, 87.5 % …
    pub(super) fn quantiles(&self) -> Vec<LatencyQuantile> {
        if self.all.is_empty() {
            return Vec::new();
        }
        let shares = [0.0, 0.25].into_iter();
        // Until fewer than one latency is beyond the point.
        let halvings = 64 - self.all.len().leading_zeros();
        let tail = (1..=halvings).map(|halving| 1.0 - 0.5_f64.powi(halving as i32));
        let point = |share| LatencyQuantile {
            share,
            ms: quantile_ms(&self.all, share),
        };
        shares.chain(tail).map(point).collect()
    }

    /// Returns the intervals until `end`.
    pub(super) fn intervals(&mut self, end: Duration) -> Vec<LatencyInterval> {
        self.finish_intervals(end);
        self.finished
            .iter()
            .map(|(_, interval)| *interval)
            .collect()
    }

    /// Ends all intervals that end before `at`.
    fn finish_intervals(&mut self, at: Duration) {
        while self.interval * (self.finished.len() as u32 + 1) <= at {
            if self.finished.len() == INTERVALS_MAX {
                self.halve_intervals();
                continue;
            }
            let count = self.current.len();
            let interval = LatencyInterval {
                at_s: (self.interval * self.finished.len() as u32).as_secs_f64(),
                per_second: count as f64 / self.interval.as_secs_f64(),
                p50_ms: quantile_ms(&self.current, 0.5),
                p99_ms: quantile_ms(&self.current, 0.99),
            };
            self.finished.push((count, interval));
            self.current.reset();
        }
    }

    /// Makes one interval of two, with the worse percentiles.
    fn halve_intervals(&mut self) {
        let merge = |pair: &[(u64, LatencyInterval)]| {
            let (first, last) = (pair[0], pair[pair.len() - 1]);
            let interval = LatencyInterval {
                at_s: first.1.at_s,
                per_second: f64::midpoint(first.1.per_second, last.1.per_second),
                p50_ms: first.1.p50_ms.max(last.1.p50_ms),
                p99_ms: first.1.p99_ms.max(last.1.p99_ms),
            };
            (first.0 + last.0, interval)
        };
        self.finished = self.finished.chunks(2).map(merge).collect();
        self.interval *= 2;
    }
}

fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("the bounds fit the precision")
}

fn quantile_ms(histogram: &Histogram<u64>, share: f64) -> f64 {
    histogram.value_at_quantile(share) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn percentiles_are_those_of_all_latencies() {
        let mut series = LatencySeries::new();
        for number in 1..=1000 {
            series.record(millis(number), millis(number));
        }
        let summary = series.summary();
        for (found, expected) in [
            (summary.p50_ms, 500.0),
            (summary.p90_ms, 900.0),
            (summary.p99_ms, 990.0),
            (summary.p999_ms, 999.0),
            (summary.max_ms, 1000.0),
        ] {
            assert!(
                (found - expected).abs() <= expected / 1000.0 + 0.1,
                "{found}, not {expected}"
            );
        }
        let quantiles = series.quantiles();
        assert!(
            quantiles
                .windows(2)
                .all(|pair| pair[0].share < pair[1].share && pair[0].ms <= pair[1].ms),
            "{quantiles:?}"
        );
        assert!(quantiles.last().is_some_and(|last| last.ms > 998.0));
        assert!(LatencySeries::new().quantiles().is_empty());
    }

    #[test]
    fn a_long_run_has_bounded_intervals_that_keep_the_count() {
        let mut series = LatencySeries::new();
        for second in 0..3600 {
            series.record(Duration::from_secs(second), millis(second));
        }
        let intervals = series.intervals(Duration::from_secs(3600));
        assert!((300..=INTERVALS_MAX).contains(&intervals.len()));
        let length = intervals[1].at_s - intervals[0].at_s;
        let count: f64 = intervals.iter().map(|i| i.per_second * length).sum();
        // The current interval is not over.
        assert!((3590.0..=3600.0).contains(&count), "{count}");
        assert!(intervals.windows(2).all(|pair| pair[0].at_s < pair[1].at_s));
    }
}
