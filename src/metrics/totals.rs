//! Totals of the counters and histograms at one moment, for plots and quantiles.
//!
//! The metrics' library hands out its values as text only, so they are read from the text form.

use std::collections::BTreeMap;

/// Values of the counters and histograms, summed over their labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricTotals {
    /// Events that are durable, of all sources.
    pub accepted_events: u64,
    /// Events that are durable, by source.
    pub accepted_by_source: BTreeMap<String, u64>,
    /// Calls of senders that were refused. Repeated events are not: their senders have what they want.
    pub refused_calls: u64,
    /// The same calls, by source and code of the answer.
    pub refused_by_source: BTreeMap<String, BTreeMap<String, u64>>,
    /// Deliveries that their subscribers accepted.
    pub accepted_deliveries: u64,
    /// Delivery attempts that failed, were refused or met a subscriber that is gone.
    pub failed_deliveries: u64,
    /// Times of the journal's commits.
    pub commit_times: HistogramTotals,
    /// Times of the delivery attempts.
    pub delivery_times: HistogramTotals,
}

/// Counts of a histogram: for each upper bound in seconds, the observations up to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramTotals(Vec<(f64, u64)>);

impl MetricTotals {
    /// Reads the totals from `text`, the text form of the metrics.
    pub(super) fn from_text(text: &str) -> Self {
        let mut totals = Self::default();
        let (mut commits, mut deliveries) = (BTreeMap::new(), BTreeMap::new());
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let count: u64 = value.parse().unwrap_or_default();
            match name {
                "hookyard_events_accepted_total" => {
                    totals.accepted_events += count;
                    let source = label_value(labels, "source").unwrap_or_default();
                    *totals
                        .accepted_by_source
                        .entry(source.to_owned())
                        .or_default() += count;
                }
                "hookyard_calls_refused_total" => {
                    let code = label_value(labels, "code").unwrap_or_default();
                    if code != "duplicate_event" {
                        totals.refused_calls += count;
                        let source = label_value(labels, "source").unwrap_or_default();
                        let codes = totals.refused_by_source.entry(source.to_owned());
                        *codes.or_default().entry(code.to_owned()).or_default() += count;
                    }
                }
                "hookyard_deliveries_total" => match label_value(labels, "outcome") {
                    Some("accepted") => totals.accepted_deliveries += count,
                    Some("failed" | "refused" | "gone") => totals.failed_deliveries += count,
                    _ => {}
                },
                "hookyard_commit_seconds_bucket" => add_bucket(&mut commits, labels, count),
                "hookyard_delivery_seconds_bucket" => add_bucket(&mut deliveries, labels, count),
                _ => {}
            }
        }
        totals.commit_times = HistogramTotals::from_buckets(commits);
        totals.delivery_times = HistogramTotals::from_buckets(deliveries);
        totals
    }
}

impl HistogramTotals {
    fn from_buckets(buckets: BTreeMap<u64, u64>) -> Self {
        Self(
            buckets
                .into_iter()
                .map(|(bound, count)| (f64::from_bits(bound), count))
                .collect(),
        )
    }

    /// Returns the bound in seconds below which the share `quantile` of the observations since
    /// `earlier` stays; `None` without an observation. The true value is at most a factor of two
    /// lower, as the bounds double.
    #[must_use]
    pub fn quantile_since(&self, earlier: &Self, quantile: f64) -> Option<f64> {
        let since = |index: usize, count: u64| {
            let before = earlier.0.get(index).map_or(0, |(_, before)| *before);
            count.saturating_sub(before)
        };
        let observed = since(self.0.len().checked_sub(1)?, self.0.last()?.1);
        if observed == 0 {
            return None;
        }

        let wanted = (observed as f64 * quantile).ceil();
        let mut bounds = self.0.iter().enumerate();
        let found = bounds.find(|(index, (_, count))| since(*index, *count) as f64 >= wanted);
        found.map(|(_, (bound, _))| *bound)
    }
}

/// Adds `count` to the bucket whose bound is the label `le`. Bits of positive numbers sort as the
/// numbers do, infinity last.
fn add_bucket(buckets: &mut BTreeMap<u64, u64>, labels: &str, count: u64) {
    let bound = label_value(labels, "le").and_then(|bound| match bound {
        "+Inf" => Some(f64::INFINITY),
        bound => bound.parse::<f64>().ok(),
    });
    if let Some(bound) = bound {
        *buckets.entry(bound.to_bits()).or_default() += count;
    }
}

/// Returns the value of the label `name` in `labels`. No value holds a quotation mark, since all of
/// them come from the program or the configuration.
fn label_value<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = labels.split_once(name)?;
    rest.strip_prefix("=\"")?.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::super::NodeMetrics;
    use super::*;

    #[test]
    fn totals_are_summed_over_labels() {
        let metrics = NodeMetrics::default();
        metrics.events_accepted("support").inc();
        metrics.events_accepted("leads").inc_by(2);
        metrics.count_refused_call("support", "rate_limited");
        // Retries of senders were drawn as a line that should be zero.
        metrics.count_refused_call("support", "duplicate_event");
        for outcome in ["accepted", "failed", "refused", "gone", "dropped"] {
            metrics.count_delivery(outcome);
        }

        let totals = metrics.totals();

        assert_eq!((totals.accepted_events, totals.refused_calls), (3, 1));
        assert_eq!(totals.accepted_by_source["leads"], 2);
        assert_eq!(
            totals.refused_by_source["support"],
            BTreeMap::from([("rate_limited".to_owned(), 1)])
        );
        assert_eq!(
            (totals.accepted_deliveries, totals.failed_deliveries),
            (1, 3)
        );
    }

    #[test]
    fn a_quantile_is_of_the_observations_since_the_earlier_totals() {
        let metrics = NodeMetrics::default();
        let quantile = |earlier: &MetricTotals, quantile| {
            let now = metrics.totals();
            now.commit_times
                .quantile_since(&earlier.commit_times, quantile)
        };
        let start = metrics.totals();
        assert_eq!(quantile(&start, 0.5), None);

        for _ in 0..98 {
            metrics.commit_seconds().observe(0.000_15);
        }
        metrics.commit_seconds().observe(1.0);
        metrics.commit_seconds().observe(1_000.0);

        assert_eq!(quantile(&start, 0.5), Some(0.000_2));
        assert_eq!(quantile(&start, 0.99), Some(1.638_4));
        assert_eq!(quantile(&start, 1.0), Some(f64::INFINITY));
        assert_eq!(quantile(&metrics.totals(), 0.5), None);
        assert_eq!(quantile(&MetricTotals::default(), 0.5), Some(0.000_2));
    }
}
