//! Metrics: the table of all counters and histograms that the stages keep, and their text form.
//!
//! | name after `hookyard_` | kind | labels | kept by |
//! |---|---|---|---|
//! | `build_info` | info | `version` | – |
//! | `events_accepted_total` | counter | `source` | router |
//! | `events_with_warnings_total` | counter | `source` | router |
//! | `calls_refused_total` | counter | `source`, `code` | edge |
//! | `accept_seconds` | histogram | – | edge |
//! | `commit_seconds`, `commit_records` | histogram | – | journal |
//! | `deliveries_total` | counter | `outcome` | subscriber |
//! | `delivery_seconds` | histogram | – | subscriber |
//! | `deliveries_given_up_total` | counter | `reason` | subscriber |
//! | `retention_failures_total` | counter | – | retention |
//! | `retention_held_entities`, `retention_overdue_seconds` | gauge | – | retention |
//! | `erasure_failures_total` | counter | – | erasure |
//! | `trace_spans_total` | counter | `outcome` | traces |
//!
//! Values that are only true at the moment of a request, such as a backlog, are gauges: the edge
//! reads them when `/metrics` is called and writes them behind this table ([`GaugeSheet`]).
//!
//! The format is OpenMetrics 1.0, which Prometheus reads. Labels have few values, all of them from
//! the program or the configuration: no sender can make a new one.

mod gauge_sheet;
mod history;
mod process;
mod totals;

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

pub use gauge_sheet::GaugeSheet;
pub use history::{HISTORY_LENGTH, RateHistory, RateInterval, SAMPLE_INTERVAL};
pub use process::resident_bytes;
pub use totals::{HistogramTotals, MetricTotals};

/// Media type of the text form.
pub const OPENMETRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Prefix of the names of all metrics but those of the process.
const PREFIX: &str = "hookyard";

/// Counter of things that a label of one name tells apart.
type LabelledCounter<const LABELS: usize> = Family<[(&'static str, &'static str); LABELS], Counter>;

/// Counters and histograms of one node. They go on over a reopening of its store.
pub struct NodeMetrics {
    registry: Registry,
    events_accepted: LabelledCounter<1>,
    events_with_warnings: LabelledCounter<1>,
    calls_refused: LabelledCounter<2>,
    accept_seconds: Histogram,
    commit_seconds: Histogram,
    commit_records: Histogram,
    deliveries: LabelledCounter<1>,
    delivery_seconds: Histogram,
    deliveries_given_up: LabelledCounter<1>,
    retention_failures: Counter,
    retention_held_entities: Gauge,
    retention_overdue_seconds: Gauge,
    erasure_failures: Counter,
    trace_spans: LabelledCounter<1>,
}

impl Default for NodeMetrics {
    fn default() -> Self {
        // A commit takes from 0.1 ms (fast disk) to seconds (a disk in trouble); answers follow it.
        let commit_seconds = Histogram::new(exponential_buckets(0.000_1, 2.0, 18));
        let accept_seconds = Histogram::new(exponential_buckets(0.000_1, 2.0, 18));
        let commit_records = Histogram::new(exponential_buckets(1.0, 2.0, 11));
        // From a neighbour's 1 ms to the longest timeout that the configuration takes.
        let delivery_seconds = Histogram::new(exponential_buckets(0.001, 2.0, 17));
        let (events_accepted, events_with_warnings, calls_refused, deliveries, trace_spans) =
            <_>::default();
        let deliveries_given_up = LabelledCounter::<1>::default();
        let retention_failures = Counter::default();
        let (retention_held_entities, retention_overdue_seconds) = <(Gauge, Gauge)>::default();
        let erasure_failures = Counter::default();

        let mut registry = Registry::with_prefix(PREFIX);
        let build = [("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "Version of this node", Info::new(build));
        registry.register(
            "events_accepted",
            "Events that are durable, by source; repeated ones are not counted",
            Family::clone(&events_accepted),
        );
        registry.register(
            "events_with_warnings",
            "Durable events in which a field was missing or odd, by source",
            Family::clone(&events_with_warnings),
        );
        registry.register(
            "calls_refused",
            "Calls of senders that were refused, by source and error code",
            Family::clone(&calls_refused),
        );
        registry.register_with_unit(
            "accept",
            "Time from the head of a sender's call to its answer, accepted calls only",
            Unit::Seconds,
            accept_seconds.clone(),
        );
        registry.register_with_unit(
            "commit",
            "Time to write and sync one commit of the journal",
            Unit::Seconds,
            commit_seconds.clone(),
        );
        registry.register(
            "commit_records",
            "Records of one commit of the journal",
            commit_records.clone(),
        );
        registry.register(
            "deliveries",
            "Delivery attempts, by outcome",
            Family::clone(&deliveries),
        );
        registry.register_with_unit(
            "delivery",
            "Time of one delivery attempt",
            Unit::Seconds,
            delivery_seconds.clone(),
        );
        registry.register(
            "deliveries_given_up",
            "Deliveries that became dead letters, by reason",
            Family::clone(&deliveries_given_up),
        );
        registry.register(
            "retention_failures",
            "Attempts to remove segments or content by retention that failed",
            retention_failures.clone(),
        );
        registry.register(
            "retention_held_entities",
            "Entities that cannot be restored, whose records retention keeps, at the last removal",
            retention_held_entities.clone(),
        );
        registry.register_with_unit(
            "retention_overdue",
            "Time for which retention has been failing; 0 while it works",
            Unit::Seconds,
            retention_overdue_seconds.clone(),
        );
        registry.register(
            "erasure_failures",
            "Attempts to remove erased content from the files that failed",
            erasure_failures.clone(),
        );
        registry.register(
            "trace_spans",
            "Spans of traces, by what became of them; none unless traces are exported",
            Family::clone(&trace_spans),
        );

        Self {
            registry,
            events_accepted,
            events_with_warnings,
            calls_refused,
            accept_seconds,
            commit_seconds,
            commit_records,
            deliveries,
            delivery_seconds,
            deliveries_given_up,
            retention_failures,
            retention_held_entities,
            retention_overdue_seconds,
            erasure_failures,
            trace_spans,
        }
    }
}

impl NodeMetrics {
    /// Returns the counter of accepted events of `source`, a name of the program or the
    /// configuration.
    #[must_use]
    pub fn events_accepted(&self, source: &'static str) -> Counter {
        self.events_accepted
            .get_or_create_owned(&[("source", source)])
    }

    /// Returns the counter of the events of `source` that are durable and have a warning.
    #[must_use]
    pub fn events_with_warnings(&self, source: &'static str) -> Counter {
        self.events_with_warnings
            .get_or_create_owned(&[("source", source)])
    }

    /// Counts a call of `source` that was refused with the error `code`.
    pub fn count_refused_call(&self, source: &'static str, code: &'static str) {
        self.calls_refused
            .get_or_create(&[("source", source), ("code", code)])
            .inc();
    }

    /// Histogram of the time from the head of an accepted call to its answer, in seconds.
    #[must_use]
    pub const fn accept_seconds(&self) -> &Histogram {
        &self.accept_seconds
    }

    /// Histogram of the time to write and sync one commit, in seconds.
    #[must_use]
    pub const fn commit_seconds(&self) -> &Histogram {
        &self.commit_seconds
    }

    /// Histogram of the number of records in one commit.
    #[must_use]
    pub const fn commit_records(&self) -> &Histogram {
        &self.commit_records
    }

    /// Counts a delivery attempt with its `outcome`: `accepted`, `failed`, `refused`,
    /// `gone` or `dropped`.
    pub fn count_delivery(&self, outcome: &'static str) {
        self.deliveries.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Histogram of the time of one delivery attempt, in seconds.
    #[must_use]
    pub const fn delivery_seconds(&self) -> &Histogram {
        &self.delivery_seconds
    }

    /// Counts `deliveries` that became dead letters for `reason`. 0 makes the counter appear: a rate
    /// does not see the first value of a counter that was not there before.
    pub fn count_given_up(&self, reason: &'static str, deliveries: u64) {
        let counter = self
            .deliveries_given_up
            .get_or_create(&[("reason", reason)]);
        counter.inc_by(deliveries);
    }

    /// Counts an attempt to remove segments or content by retention that failed.
    pub fn count_retention_failure(&self) {
        self.retention_failures.inc();
    }

    /// Sets the number of the entities that cannot be restored, whose records retention keeps.
    pub fn set_retention_held_entities(&self, entities: usize) {
        self.retention_held_entities
            .set(i64::try_from(entities).unwrap_or(i64::MAX));
    }

    /// Sets the time for which retention has been failing.
    pub fn set_retention_overdue(&self, overdue: Duration) {
        self.retention_overdue_seconds
            .set(i64::try_from(overdue.as_secs()).unwrap_or(i64::MAX));
    }

    /// Counts an attempt to remove erased content from the files that failed.
    pub fn count_erasure_failure(&self) {
        self.erasure_failures.inc();
    }

    /// Counts `spans` of traces with their `outcome`: `exported`, `failed` (the export failed) or
    /// `dropped` (the queue was full).
    pub fn count_trace_spans(&self, outcome: &'static str, spans: usize) {
        let counter = self.trace_spans.get_or_create(&[("outcome", outcome)]);
        counter.inc_by(spans as u64);
    }

    /// Reads the present totals of the counters and histograms.
    #[must_use]
    pub fn totals(&self) -> MetricTotals {
        let mut text = String::with_capacity(16 * 1024);
        encode_registry(&mut text, &self.registry).expect("writing to a string does not fail");
        MetricTotals::from_text(&text)
    }

    /// Writes this table, the values of `gauges` and those of the process as text.
    #[must_use]
    pub fn to_text(&self, gauges: &GaugeSheet) -> String {
        let mut text = String::with_capacity(16 * 1024);
        encode_registry(&mut text, &self.registry)
            .and_then(|()| gauges.encode(&mut text))
            .expect("writing to a string does not fail");
        text
    }
}

impl fmt::Debug for NodeMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeMetrics")
    }
}
