//! Report of a run: the figures, with one file for each format.

use serde::Serialize;

use super::latency::{LatencyInterval, LatencyQuantile, LatencySummary};
use super::machine::MachineDescription;
use super::order_audit::OrderVerdict;
use super::settings::LoadSettings;
use crate::cli::plural::format_count;

pub(super) mod html;
pub(super) mod json;
mod plot;
pub(super) mod table;

/// Figures of a whole run.
#[derive(Debug, Serialize)]
pub(super) struct BenchReport {
    pub(super) version: &'static str,
    /// Command that repeats the run.
    pub(super) command: String,
    pub(super) target: String,
    pub(super) machine: MachineDescription,
    pub(super) load: LoadSettings,
    /// Remarks without which the figures would mislead.
    pub(super) remarks: Vec<String>,
    /// True if a person ended the run early.
    pub(super) is_interrupted: bool,
    pub(super) accept: AcceptFigures,
    pub(super) delivery: Option<DeliveryFigures>,
    /// Events a second of each entity that got any.
    pub(super) entities: EntityThroughput,
    pub(super) node: Option<ProcessFigures>,
    pub(super) generator: Option<GeneratorFigures>,
    pub(super) kills: Option<KillFigures>,
    pub(super) retries: RetryFigures,
    pub(super) baseline: Option<BaselineFigures>,
    pub(super) verdict: BenchVerdict,
}

/// Figures of the answers to senders.
#[derive(Debug, Serialize)]
pub(super) struct AcceptFigures {
    pub(super) events: u64,
    pub(super) seconds: f64,
    pub(super) per_second: f64,
    pub(super) latency: LatencySummary,
    pub(super) quantiles: Vec<LatencyQuantile>,
    pub(super) intervals: Vec<LatencyInterval>,
}

/// Figures of the deliveries; latencies run from the time at which an event was due to be sent.
#[derive(Debug, Serialize)]
pub(super) struct DeliveryFigures {
    /// New events that subscribers accepted, over all of them.
    pub(super) events: u64,
    /// Time from the first request to the last delivery.
    pub(super) seconds: f64,
    pub(super) per_second: f64,
    /// Latency at subscribers without a fault; `None` if all have one.
    pub(super) latency: Option<LatencySummary>,
    pub(super) quantiles: Vec<LatencyQuantile>,
    pub(super) intervals: Vec<LatencyInterval>,
    /// Latency at subscribers with a fault.
    pub(super) faulty_latency: Option<LatencySummary>,
    /// Attempts that subscribers with a fault did not accept.
    pub(super) failed_attempts: u64,
}

/// Events a second of single entities.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct EntityThroughput {
    pub(super) entities: usize,
    pub(super) min_per_second: f64,
    pub(super) median_per_second: f64,
    pub(super) max_per_second: f64,
}

/// Processor time and memory of the node.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct ProcessFigures {
    /// Processor time over all threads, deliveries included, for each accepted event.
    pub(super) cpu_us_per_event: f64,
    /// Cores that were busy on average.
    pub(super) cores: f64,
    pub(super) resident_mib: f64,
    pub(super) resident_max_mib: f64,
    /// Bytes that all processes wrote to the disk with the store, for each accepted event; `None` if
    /// that is not known.
    pub(super) written_bytes_per_event: Option<f64>,
}

/// Processor time of this process, which sends and receives.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct GeneratorFigures {
    pub(super) cores: f64,
    /// Share of the whole machine's processor time.
    pub(super) machine_share: f64,
}

/// Kills of the node, and the times until it was ready again.
#[derive(Clone, Debug, Serialize)]
pub(super) struct KillFigures {
    pub(super) kills: usize,
    /// Times of each kill and of the next readiness, in seconds since the begin.
    pub(super) spans_s: Vec<(f64, f64)>,
    pub(super) ready_median_s: f64,
    pub(super) ready_max_s: f64,
}

/// Requests that senders had to send again.
#[derive(Clone, Debug, Serialize)]
pub(super) struct RetryFigures {
    pub(super) unanswered: u64,
    /// Requests by the status that asked for another try.
    pub(super) by_status: std::collections::BTreeMap<u16, u64>,
    /// Events whose repetition was answered as one.
    pub(super) known_already: u64,
}

/// Figures of the bare handler under the same load, and the node's figures as ratios to them.
#[derive(Clone, Debug, Serialize)]
pub(super) struct BaselineFigures {
    pub(super) events: u64,
    pub(super) per_second: f64,
    pub(super) latency: LatencySummary,
    pub(super) quantiles: Vec<LatencyQuantile>,
    pub(super) cpu_us_per_event: Option<f64>,
    /// The node's rate by that of the handler; `None` if a rate was given, which both have.
    pub(super) accept_ratio: Option<f64>,
    pub(super) cpu_ratio: Option<f64>,
}

/// Verdict on the order of what store and subscribers got.
#[derive(Clone, Debug, Serialize)]
pub(super) struct BenchVerdict {
    pub(super) is_clean: bool,
    /// Events in the target's store; `None` if the store cannot be read.
    pub(super) store: Option<OrderVerdict>,
    pub(super) subscribers: Vec<SubscriberVerdict>,
}

/// Verdict on the deliveries to one subscriber.
#[derive(Clone, Debug, Serialize)]
pub(super) struct SubscriberVerdict {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) order: OrderVerdict,
    pub(super) wrongly_signed: u64,
}

impl BenchVerdict {
    /// Judges the verdicts of store and subscribers together.
    pub(super) fn new(store: Option<OrderVerdict>, subscribers: Vec<SubscriberVerdict>) -> Self {
        let is_right = |subscriber: &SubscriberVerdict| {
            subscriber.order.is_clean() && subscriber.wrongly_signed == 0
        };
        Self {
            is_clean: store.as_ref().is_none_or(OrderVerdict::is_clean)
                && subscribers.iter().all(is_right),
            store,
            subscribers,
        }
    }

    /// Names the faults of store and subscribers together.
    pub(super) fn describe_faults(&self) -> String {
        let mut sum = self.store.unwrap_or_default();
        for subscriber in &self.subscribers {
            sum.add(&subscriber.order);
        }
        let unsigned: u64 = self.subscribers.iter().map(|s| s.wrongly_signed).sum();
        let named = [
            (sum.swaps, "swap", "swaps"),
            (sum.gaps, "gap", "gaps"),
            (sum.doubles, "double", "doubles"),
            (sum.losses, "loss", "losses"),
            (sum.foreign, "foreign event", "foreign events"),
            (unsigned, "wrong signature", "wrong signatures"),
        ];
        let found = named.into_iter().filter(|(count, ..)| *count > 0);
        let found: Vec<_> = found
            .map(|(count, one, many)| format_count(count, one, many))
            .collect();
        found.join(", ")
    }
}

/// Describes the verdict in one sentence.
fn describe_verdict(report: &BenchReport) -> String {
    let verdict = &report.verdict;
    let ended = match (report.is_interrupted, verdict.is_clean) {
        (true, true) => " (ended early)",
        (true, false) => " (ended early: what had not come by then counts as lost)",
        (false, _) => "",
    };
    match verdict.is_clean {
        true if verdict.store.is_none() && verdict.subscribers.is_empty() => {
            format!("nothing was checked: there is no subscriber{ended}")
        }
        true => format!("clean: every acknowledged event is there once, and in order{ended}"),
        false => format!("NOT CLEAN: {}{ended}", verdict.describe_faults()),
    }
}

/// Rates and latencies as rows of a table, under their heading.
fn latency_rows(report: &BenchReport) -> Vec<[String; 8]> {
    let heading = [
        "",
        "events",
        "per second",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
    ];
    let row = |name: &str, events: Option<(u64, f64)>, latency: &LatencySummary| {
        let count = events.map(|(events, _)| events.to_string());
        let per_second = events.map(|(_, per_second)| format!("{per_second:.0}"));
        [
            name.to_owned(),
            count.unwrap_or_default(),
            per_second.unwrap_or_default(),
            format_ms(latency.p50_ms),
            format_ms(latency.p90_ms),
            format_ms(latency.p99_ms),
            format_ms(latency.p999_ms),
            format_ms(latency.max_ms),
        ]
    };
    let accept = &report.accept;
    let mut rows = vec![heading.map(str::to_owned)];
    rows.push(row(
        "accepted",
        Some((accept.events, accept.per_second)),
        &accept.latency,
    ));
    if let Some(delivery) = &report.delivery {
        let all = Some((delivery.events, delivery.per_second));
        let healthy = delivery.latency.as_ref();
        rows.extend(healthy.map(|latency| row("delivered, end to end", all, latency)));
        let faulty = delivery.faulty_latency.as_ref();
        let all = all.filter(|_| healthy.is_none());
        rows.extend(faulty.map(|latency| row("… to faulty subscribers", all, latency)));
    }
    if let Some(baseline) = &report.baseline {
        let all = Some((baseline.events, baseline.per_second));
        rows.push(row("bare handler", all, &baseline.latency));
    }
    rows
}

/// Verdicts as rows of a table, under their heading; none if nothing was checked.
fn verdict_rows(report: &BenchReport) -> Vec<[String; 8]> {
    let heading = [
        "verdict",
        "events",
        "swaps",
        "gaps",
        "doubles",
        "losses",
        "foreign",
        "redeliveries",
    ];
    let row = |name: &str, events: u64, order: &OrderVerdict| {
        let counts = [
            events,
            order.swaps,
            order.gaps,
            order.doubles,
            order.losses,
            order.foreign,
            order.repetitions,
        ];
        let counts = counts.map(|count| count.to_string());
        let [events, swaps, gaps, doubles, losses, foreign, repetitions] = counts;
        let name = name.to_owned();
        [
            name,
            events,
            swaps,
            gaps,
            doubles,
            losses,
            foreign,
            repetitions,
        ]
    };
    let verdict = &report.verdict;
    let store = verdict.store.as_ref();
    let store = store.map(|store| row("store", store.events, store));
    let subscribers = verdict.subscribers.iter();
    let subscribers = subscribers.map(|subscriber| {
        let order = &subscriber.order;
        row(&subscriber.name, order.events, order)
    });
    let rows: Vec<_> = store.into_iter().chain(subscribers).collect();
    match rows.is_empty() {
        true => rows,
        false => [heading.map(str::to_owned)]
            .into_iter()
            .chain(rows)
            .collect(),
    }
}

/// Further figures, each as a name and a sentence.
fn figure_lines(report: &BenchReport) -> Vec<(&'static str, String)> {
    let entities = &report.entities;
    let mut lines = vec![(
        "entities",
        format!(
            "{} with events; events a second of one: {:.2} at least, {:.2} median, {:.2} at most",
            entities.entities,
            entities.min_per_second,
            entities.median_per_second,
            entities.max_per_second
        ),
    )];
    let mut add = |name, text: Option<String>| lines.extend(text.map(|text| (name, text)));
    add(
        "node",
        report
            .node
            .map(|node| node.describe(report.delivery.is_some())),
    );
    add(
        "generator",
        report.generator.as_ref().map(GeneratorFigures::describe),
    );
    add(
        "baseline",
        report.baseline.as_ref().map(BaselineFigures::describe),
    );
    add("kills", report.kills.as_ref().map(KillFigures::describe));
    add("retries", report.retries.describe());
    let failed = report
        .delivery
        .as_ref()
        .map_or(0, |delivery| delivery.failed_attempts);
    add(
        "faults",
        (failed > 0).then(|| {
            let attempts = format_count(failed, "attempt was", "attempts were");
            format!("{attempts} failed or left unanswered by subscribers, on purpose")
        }),
    );
    let unsigned: u64 = report
        .verdict
        .subscribers
        .iter()
        .map(|s| s.wrongly_signed)
        .sum();
    add(
        "signatures",
        (unsigned > 0).then(|| {
            let deliveries = format_count(unsigned, "delivery was", "deliveries were");
            format!("{deliveries} WRONGLY SIGNED")
        }),
    );
    lines
}

impl ProcessFigures {
    fn describe(&self, has_deliveries: bool) -> String {
        let event = match has_deliveries {
            true => "accepted and delivered event",
            false => "accepted event",
        };
        let written = self.written_bytes_per_event;
        let written = written.map_or_else(String::new, |bytes| {
            format!(", {bytes:.0} bytes written to the disk for each event")
        });
        format!(
            "{:.1} µs of processor time for each {event}, {:.2} cores busy, {:.0} MiB of memory (at \
             most {:.0}){written}",
            self.cpu_us_per_event, self.cores, self.resident_mib, self.resident_max_mib
        )
    }
}

impl GeneratorFigures {
    fn describe(&self) -> String {
        format!(
            "{:.2} cores busy with sending and receiving, {:.0} % of the machine",
            self.cores,
            self.machine_share * 100.0
        )
    }
}

impl BaselineFigures {
    fn describe(&self) -> String {
        let accept = self
            .accept_ratio
            .map(|ratio| format!("the node accepts at {ratio:.3} of the rate of the bare handler"));
        let cpu = self.cpu_us_per_event.zip(self.cpu_ratio);
        let cpu = cpu.map(|(us, ratio)| {
            format!("the node takes {ratio:.2} times its processor time, {us:.1} µs for each event")
        });
        let parts: Vec<_> = accept.into_iter().chain(cpu).collect();
        parts.join("; ")
    }
}

impl KillFigures {
    fn describe(&self) -> String {
        format!(
            "{}; ready again after {:.2} s (median), {:.2} s at most",
            format_count(self.kills as u64, "kill", "kills"),
            self.ready_median_s,
            self.ready_max_s
        )
    }
}

impl RetryFigures {
    /// Describes the repeated requests; `None` if there were none.
    fn describe(&self) -> Option<String> {
        let by_status = self.by_status.iter();
        let mut causes: Vec<_> = by_status
            .map(|(status, count)| format!("{count} after {status}"))
            .collect();
        if self.unanswered > 0 {
            causes.push(format!("{} after no answer", self.unanswered));
        }
        let known = format_count(self.known_already, "event was", "events were");
        (!causes.is_empty()).then(|| {
            format!(
                "requests sent again: {}; {known} in already",
                causes.join(", ")
            )
        })
    }
}

/// Formats milliseconds with as many digits as a person compares.
fn format_ms(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.2} s", ms / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber(order: OrderVerdict, wrongly_signed: u64) -> SubscriberVerdict {
        SubscriberVerdict {
            name: "subscriber 1".to_owned(),
            order,
            wrongly_signed,
        }
    }

    #[test]
    fn one_fault_anywhere_spoils_the_verdict() {
        let clean = OrderVerdict {
            repetitions: 3,
            ..OrderVerdict::default()
        };
        let lost = OrderVerdict {
            losses: 1,
            ..OrderVerdict::default()
        };
        assert!(BenchVerdict::new(Some(clean), vec![subscriber(clean, 0)]).is_clean);
        assert!(BenchVerdict::new(None, Vec::new()).is_clean);
        for (store, order, wrongly_signed, faults) in [
            (lost, clean, 0, "1 loss"),
            (lost, lost, 0, "2 losses"),
            (clean, clean, 2, "2 wrong signatures"),
        ] {
            let verdict = BenchVerdict::new(Some(store), vec![subscriber(order, wrongly_signed)]);
            assert!(!verdict.is_clean);
            assert_eq!(verdict.describe_faults(), faults);
        }
    }
}
