//! Computes the figures of the report from the ledger and the measurements.

use std::sync::Arc;
use std::time::Duration;

use super::ledger::{BenchLedger, LedgerBooks};
use super::machine::{MachineDescription, count_cores};
use super::report::{
    AcceptFigures, BaselineFigures, BenchReport, BenchVerdict, DeliveryFigures, EntityThroughput,
    GeneratorFigures, KillFigures, ProcessFigures, RetryFigures, SubscriberVerdict,
};
use super::run::{NodeRestart, RunMeasurements};
use super::settings::LoadSettings;
use crate::cli::plural::format_count;

/// Everything that is known after a run.
pub(super) struct BenchOutcome {
    pub(super) command: String,
    pub(super) target: String,
    pub(super) machine: MachineDescription,
    pub(super) load: LoadSettings,
    pub(super) remarks: Vec<String>,
    pub(super) ledger: Arc<BenchLedger>,
    pub(super) measurements: RunMeasurements,
    pub(super) baseline: Option<BaselineRun>,
}

/// Run of the same load against the bare handler.
pub(super) struct BaselineRun {
    pub(super) ledger: Arc<BenchLedger>,
    pub(super) measurements: RunMeasurements,
}

/// Builds the report of a run.
pub(super) fn build_report(outcome: BenchOutcome) -> BenchReport {
    let BenchOutcome {
        command,
        target,
        machine,
        load,
        mut remarks,
        ledger,
        measurements,
        baseline,
    } = outcome;
    let accept = ledger.with_books(accept_figures);
    let node = process_figures(&measurements, accept.events);
    remarks.extend(note_missing_kills(&load, &measurements));
    remarks.extend(ledger.with_books(|books| note_rate_limit(books)));
    remarks.extend(ledger.with_books(|books| note_other_runs(books)));
    let delivery = ledger.with_books(delivery_figures);
    remarks.extend(note_backlog(&load, &accept, delivery.as_ref()));
    let baseline = baseline.map(|run| baseline_figures(&run, &load, &accept, node.as_ref()));
    ledger.with_books(|books| BenchReport {
        version: env!("CARGO_PKG_VERSION"),
        command,
        target,
        machine,
        remarks,
        is_interrupted: measurements.is_interrupted,
        delivery,
        entities: entity_throughput(books.acknowledged_numbers(), accept.seconds),
        accept,
        node,
        generator: measurements
            .generator_cpu
            .map(|cpu| generator_figures(cpu, &measurements)),
        kills: kill_figures(&measurements.restarts),
        retries: RetryFigures {
            unanswered: books.retries.unanswered,
            by_status: books.retries.by_status.clone(),
            known_already: books.retries.known_already,
        },
        baseline,
        verdict: judge(books, &load, &measurements),
        load,
    })
}

fn accept_figures(books: &mut LedgerBooks) -> AcceptFigures {
    let seconds = books.last_answer.as_secs_f64();
    AcceptFigures {
        events: books.acknowledged,
        seconds,
        per_second: per_second(books.acknowledged, seconds),
        latency: books.accept.summary(),
        quantiles: books.accept.quantiles(),
        intervals: books.accept.intervals(books.last_answer),
    }
}

fn delivery_figures(books: &mut LedgerBooks) -> Option<DeliveryFigures> {
    if books.subscribers.is_empty() {
        return None;
    }
    let events = books
        .subscribers
        .iter()
        .map(|books| books.audit.seen())
        .sum();
    let seconds = books.last_delivery.as_secs_f64();
    let has = |is_faulty: bool| {
        let mut subscribers = books.subscribers.iter();
        subscribers.any(|subscriber| subscriber.is_faulty == is_faulty)
    };
    let (has_healthy, has_faulty) = (has(false), has(true));
    Some(DeliveryFigures {
        events,
        seconds,
        per_second: per_second(events, seconds),
        latency: has_healthy.then(|| books.delivery.summary()),
        quantiles: books.delivery.quantiles(),
        intervals: books.delivery.intervals(books.last_delivery),
        faulty_latency: has_faulty.then(|| books.faulty_delivery.summary()),
        failed_attempts: books
            .subscribers
            .iter()
            .map(|books| books.failed_attempts)
            .sum(),
    })
}

fn entity_throughput(counts: impl Iterator<Item = u32>, seconds: f64) -> EntityThroughput {
    let mut counts: Vec<_> = counts.filter(|count| *count > 0).collect();
    counts.sort_unstable();
    let at = |place: usize| per_second(counts.get(place).copied().unwrap_or(0).into(), seconds);
    EntityThroughput {
        entities: counts.len(),
        min_per_second: at(0),
        median_per_second: at(counts.len() / 2),
        max_per_second: at(counts.len().saturating_sub(1)),
    }
}

fn process_figures(measurements: &RunMeasurements, events: u64) -> Option<ProcessFigures> {
    let cpu = measurements.server_cpu?.as_secs_f64();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Some(ProcessFigures {
        cpu_us_per_event: cpu * 1e6 / events.max(1) as f64,
        cores: cpu / measurements.seconds.max(0.001),
        resident_mib: mib(measurements.resident_bytes),
        resident_max_mib: mib(measurements.resident_max_bytes),
        written_bytes_per_event: measurements
            .written_bytes
            .map(|bytes| bytes as f64 / events.max(1) as f64),
    })
}

fn generator_figures(cpu: Duration, measurements: &RunMeasurements) -> GeneratorFigures {
    let cores = cpu.as_secs_f64() / measurements.seconds.max(0.001);
    GeneratorFigures {
        cores,
        machine_share: cores / count_cores() as f64,
    }
}

fn kill_figures(restarts: &[NodeRestart]) -> Option<KillFigures> {
    let mut times: Vec<_> = restarts.iter().map(NodeRestart::duration).collect();
    times.sort_unstable();
    let span = |restart: &NodeRestart| {
        let (killed, ready) = (restart.killed_at, restart.ready_at);
        (killed.as_secs_f64(), ready.as_secs_f64())
    };
    Some(KillFigures {
        kills: restarts.len(),
        spans_s: restarts.iter().map(span).collect(),
        ready_median_s: times.get(times.len() / 2)?.as_secs_f64(),
        ready_max_s: times.last()?.as_secs_f64(),
    })
}

fn note_missing_kills(load: &LoadSettings, measurements: &RunMeasurements) -> Option<String> {
    let is_missing = load.kill_every_s.is_some() && measurements.restarts.is_empty();
    is_missing.then(|| {
        "the run was over before the first kill: raise --events or lower --kill-every".to_owned()
    })
}

/// A limited target shows its limit, not its speed.
fn note_rate_limit(books: &LedgerBooks) -> Option<String> {
    let limited = books.retries.by_status.get(&429)?;
    Some(format!(
        "the target limited the rate ({limited} answers 429), so this measures its limit; a node has \
         sources.support.rate_per_minute for it"
    ))
}

/// A target that delivers everything may still be busy with an earlier run.
fn note_other_runs(books: &LedgerBooks) -> Option<String> {
    let count = books.other_runs;
    (count > 0).then(|| {
        let deliveries = format_count(count, "delivery was", "deliveries were");
        format!("{deliveries} about entities of another run, and left out of all figures")
    })
}

/// Without a rate, a target that accepts faster than it delivers builds up a backlog.
fn note_backlog(
    load: &LoadSettings,
    accept: &AcceptFigures,
    delivery: Option<&DeliveryFigures>,
) -> Option<String> {
    let is_late = delivery.is_some_and(|delivery| delivery.seconds > accept.seconds * 1.1);
    (load.rate.is_none() && is_late).then(|| {
        "events were accepted faster than delivered, so times to the delivery are mostly times in the \
         backlog; --rate measures them below that"
            .to_owned()
    })
}

fn baseline_figures(
    run: &BaselineRun,
    load: &LoadSettings,
    accept: &AcceptFigures,
    node: Option<&ProcessFigures>,
) -> BaselineFigures {
    let bare = run.ledger.with_books(accept_figures);
    let cpu = process_figures(&run.measurements, bare.events).map(|bare| bare.cpu_us_per_event);
    BaselineFigures {
        events: bare.events,
        per_second: bare.per_second,
        latency: bare.latency,
        quantiles: bare.quantiles,
        cpu_us_per_event: cpu,
        accept_ratio: load
            .rate
            .is_none()
            .then(|| accept.per_second / bare.per_second.max(0.001)),
        cpu_ratio: node
            .zip(cpu)
            .map(|(node, bare)| node.cpu_us_per_event / bare.max(0.001)),
    }
}

fn judge(books: &LedgerBooks, load: &LoadSettings, measurements: &RunMeasurements) -> BenchVerdict {
    let verdicts = books
        .judge_subscribers()
        .into_iter()
        .zip(&books.subscribers);
    let subscribers = verdicts.zip(load.subscriber_faults()).enumerate().map(
        |(number, ((order, books), fault))| {
            let fault = fault.map_or_else(String::new, |fault| format!(" ({})", fault.name()));
            SubscriberVerdict {
                name: format!("subscriber {}{fault}", number + 1),
                order,
                wrongly_signed: books.wrongly_signed,
            }
        },
    );
    BenchVerdict::new(measurements.store, subscribers.collect())
}

fn per_second(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds.max(0.001)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_throughput_of_entities_leaves_out_those_without_events() {
        let found = entity_throughput([4, 0, 1, 2, 100].into_iter(), 2.0);
        assert_eq!(found.entities, 4);
        assert_eq!(
            (
                found.min_per_second,
                found.median_per_second,
                found.max_per_second
            ),
            (0.5, 2.0, 50.0)
        );
        assert_eq!(entity_throughput([0].into_iter(), 2.0).entities, 0);
    }
}
